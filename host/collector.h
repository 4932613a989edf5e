/* The collector's pace: Lua's own pays for all that was allocated, at once and wherever that was. */
#ifndef MOONTIDE_COLLECTOR_H
#define MOONTIDE_COLLECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <lua.h>
#include "alloc.h"

struct collector {
    struct alloc *alloc;
    size_t due;    /* bytes in use at which the next cycle begins */
    size_t seen;   /* of alloc->grown */
    size_t owed;   /* allocated during this cycle, and not paid for yet */
    uint64_t left; /* nanoseconds that it may still take in this turn of the loop */
    bool cycle;    /* one is under way */
    bool settling; /* its end gives memory back to the system */
};

/* Takes the collector over from Lua. */
void collector_init(struct collector *c, lua_State *L, struct alloc *alloc);

/* The start is over, or something like it: runs a cycle at once, in turns, and gives what is free then, and
 * the pages of modules that were loaded, back to the system. */
void collector_settle(struct collector *c);

/* A turn of the loop begins, or a slice goes on that cannot be interrupted. */
void collector_turn(struct collector *c);

/* Pays for what was allocated, as far as this turn allows. */
void collector_pay(struct collector *c, lua_State *L);

#endif
