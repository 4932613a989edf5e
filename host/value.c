/* Plain values: paths for messages. */
#include "value.h"

#include <stdio.h>

void value_path_print(const struct value_path *path, char *to, size_t size)
{
    size_t n = 0;

    snprintf(to, size, "%s", path->depth ? "" : "the value");
    for (unsigned i = 0; i < path->depth && n + 1 < size; i++) {
        const struct value_step *s = &path->steps[i];
        int len;

        if (s->key)
            len =
                snprintf(to + n, size - n, "%s%.*s", n ? "." : "", (int)(s->len < 40 ? s->len : 40), s->key);
        else
            len = snprintf(to + n, size - n, "[%lld]", (long long)s->index);
        if (len < 0)
            break;
        n += (size_t)len;
    }
    for (char *c = to; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
}
