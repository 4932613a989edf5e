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
    bool hurried;  /* it is to end soon */
    size_t held;   /* bytes in use up to which no cycle begins; 0: not held */
};

/* Takes the collector over from Lua. */
void collector_init(struct collector *c, lua_State *L, struct alloc *alloc);

/* The start is over, or something like it: runs a cycle at once, in turns, and gives what is free then, and
 * the pages of modules that were loaded, back to the system. */
void collector_settle(struct collector *c);

/* Keeps cycles from beginning, for something large that is being made: a cycle that is under way meanwhile
 * would mark it at its end, in one turn. False while one is under way: it ends soon, and is to be asked about
 * again in another turn. Holds for a bounded growth of the heap. */
bool collector_hold(struct collector *c);
void collector_release(struct collector *c);

/* A turn of the loop begins, or a slice goes on that cannot be interrupted. */
void collector_turn(struct collector *c);

/* Pays for what was allocated, as far as this turn allows. */
void collector_pay(struct collector *c, lua_State *L);

#endif
