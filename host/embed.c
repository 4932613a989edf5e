/* Look-up in the table of embedded files (the table itself is generated). */
#include "embed.h"

#include <string.h>

bool embed_find(const char *path, struct embed *out)
{
    size_t low = 0, high = embed_count();

    while (low < high) { /* the Makefile sorts the names */
        size_t middle = low + (high - low) / 2;
        struct embed e = embed_at(middle);
        int order = strcmp(path, e.path);

        if (order == 0) {
            *out = e;
            return true;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return false;
}
