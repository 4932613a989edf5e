/* Lua's allocator.
 *
 * Shrinking never fails (Lua relies on it). Over the limit the first refusal makes Lua collect garbage and
 * ask again; only a second refusal in a row means that the script really holds that much. */
#include "alloc.h"

#include <stdlib.h>

void *alloc_lua(void *ud, void *ptr, size_t osize, size_t nsize)
{
    struct alloc *a = ud;
    void *block;

    if (!ptr)
        osize = 0; /* then it is a type tag */
    if (nsize == 0) {
        if (!a->ending)
            free(ptr);
        a->used -= osize;
        return NULL;
    }
    if (nsize > osize && a->limit && a->used + (nsize - osize) > a->limit) {
        if (++a->refusals > 1 && !a->exhausted) {
            a->exhausted = true;
            if (a->over)
                a->over(a->over_arg);
        }
        return NULL;
    }
    block = realloc(ptr, nsize);
    if (!block)
        return nsize > osize ? NULL : ptr;
    a->refusals = 0;
    a->used += nsize - osize;
    if (nsize > osize)
        a->grown += nsize - osize;
    if (a->used > a->peak)
        a->peak = a->used;
    return block;
}
