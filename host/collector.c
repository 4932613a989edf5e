/* The collector's pace.
 *
 * Lua's own collector takes steps in the middle of a script, in proportion to what was allocated since the
 * last one. A single large allocation (an answer, a table that grows) makes it run through a whole cycle at
 * once, which keeps the loop for 100 ms and more when the heap is large. So it is stopped, and driven from
 * here after each slice: in proportion too, but for a bounded time in each turn of the loop. What is owed
 * then is paid later. */
#include "collector.h"

#include <malloc.h>
#include <uv.h>
#include "embed.h"

/* The work of one step, as Lua takes it: so much percent of so many bytes (a logarithm). About 1,000 fields
 * of tables, or 20 microseconds. */
#define STEP_PERCENT   16
#define STEP_BYTES_LOG 10

/* How much is allocated for each step. A cycle ends after a sixth of the heap was allocated anew. */
#define PACE ((size_t)1024)

/* Below this no cycle begins: what a start loads stays. */
#define FIRST_DUE ((size_t)3 << 20)

/* What is owed in each turn while the program settles: as much as a turn's time allows. */
#define SETTLING ((size_t)256 << 20)

/* What the collector may take in one turn of the loop; more when garbage has piled up all the same. */
#define TURN_NS  (3 * UINT64_C(1000000))
#define PILED_UP ((size_t)64 << 20)

void collector_init(struct collector *c, lua_State *L, struct alloc *alloc)
{
    lua_gc(L, LUA_GCINC, 0, STEP_PERCENT, STEP_BYTES_LOG);
    lua_gc(L, LUA_GCSTOP);
    c->alloc = alloc;
    c->due = FIRST_DUE;
    c->left = TURN_NS;
}

void collector_turn(struct collector *c)
{
    c->left = TURN_NS * (1 + c->alloc->used / (c->due + PILED_UP));
}

void collector_settle(struct collector *c)
{
    c->settling = true;
}

bool collector_hold(struct collector *c)
{
    c->hurried = c->cycle;
    if (!c->cycle)
        c->held = c->alloc->used + PILED_UP;
    return !c->cycle;
}

void collector_release(struct collector *c)
{
    c->held = 0;
}

void collector_pay(struct collector *c, lua_State *L)
{
    uint64_t began, used = 0;

    if (!c->cycle) {
        if (c->alloc->used < c->held || (c->alloc->used < c->due && !c->settling))
            return;
        c->cycle = true;
        c->seen = c->alloc->grown;
        c->owed = PACE;
    }
    c->owed += c->settling || c->hurried ? SETTLING : c->alloc->grown - c->seen;
    c->seen = c->alloc->grown;
    if (c->owed < PACE || c->left == 0)
        return;
    began = uv_hrtime();
    do {
        c->owed -= PACE;
        if (lua_gc(L, LUA_GCSTEP, 0)) { /* the cycle has ended */
            c->cycle = c->hurried = false;
            c->due = c->alloc->used * 4 / 3;
            c->owed = 0;
            if (c->settling) {
                c->settling = false;
                if (c->alloc->used < PILED_UP) /* a larger heap is too much for one turn */
                    malloc_trim(0);
                embed_release();
            }
            break;
        }
        used = uv_hrtime() - began;
    } while (c->owed >= PACE && used < c->left);
    c->left -= used < c->left ? used : c->left;
}
