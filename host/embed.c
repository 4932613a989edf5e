/* Look-up in the table of embedded files (the table itself is generated). */
#include "embed.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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

void embed_release(void)
{
    uintptr_t low = UINTPTR_MAX, high = 0, page = (uintptr_t)sysconf(_SC_PAGESIZE);

    for (size_t i = 0; i < embed_count(); i++) {
        struct embed e = embed_at(i);

        if (e.code && (uintptr_t)e.code < low)
            low = (uintptr_t)e.code;
        if (e.code && (uintptr_t)e.code + e.code_len > high)
            high = (uintptr_t)e.code + e.code_len;
    }
    low = (low + page - 1) / page * page;
    high = high / page * page;
    if (low < high)
        madvise((void *)low, high - low, MADV_DONTNEED); /* the file has them */
}
