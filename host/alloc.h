/* Lua's allocator: counts, and refuses above a limit while a limited task runs. */
#ifndef MOONTIDE_ALLOC_H
#define MOONTIDE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

struct alloc {
    size_t used;
    size_t peak;
    size_t grown;      /* allocated in all; freeing takes nothing of it. It may wrap around */
    size_t limit;      /* 0: none. Set by slice.c around each slice of a limited task */
    unsigned refusals; /* in a row; the second follows Lua's emergency collection and means it is over */
    bool exhausted;    /* a limited task really ran out; slice.c makes that final for it */
    bool ending;       /* the process ends: what is freed from now on is left to the kernel */
    void (*over)(void *arg); /* hears of that when it happens; must not use Lua's memory */
    void *over_arg;
};

void *alloc_lua(void *ud, void *ptr, size_t osize, size_t nsize);

#endif
