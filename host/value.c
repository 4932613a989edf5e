/* Plain values: paths for messages, UTF-8. */
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

/* Length of the sequence at `s`, 0 when it is not valid; `left` is at least 1. */
static size_t utf8_sequence(const unsigned char *s, size_t left)
{
    unsigned char lead = s[0], low = 0x80, high = 0xBF;
    size_t len;

    if (lead < 0x80)
        return 1;
    if (lead < 0xC2 || lead > 0xF4)
        return 0;
    len = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (len > left)
        return 0;
    if (lead == 0xE0)
        low = 0xA0;
    else if (lead == 0xED)
        high = 0x9F;
    else if (lead == 0xF0)
        low = 0x90;
    else if (lead == 0xF4)
        high = 0x8F;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if (s[i] < 0x80 || s[i] > 0xBF)
            return 0;
    return len;
}

size_t value_utf8(const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t i = 0;

    while (i < len) {
        size_t step = utf8_sequence(s + i, len - i);

        if (!step)
            break;
        i += step;
    }
    return i;
}
