/* Ops: the one way in which a task waits for something that the loop brings.
 *
 * A binding that waits looks like this:
 *
 *     static int l_wait(lua_State *L)
 *     {
 *         struct watch *w = bind_self(L, 1, CLASS);
 *         struct op *op = op_claim(L, sizeof *op, NULL, &w->waiter, "...");   // raises when waiting is
 * impossible
 *
 *         op_timeout(L, op, millis);           // optional
 *         ... start the work; its completion callback calls op_done(w->waiter) ...
 *         return op_wait(L, op, wait_finish);  // parks the task; finish pushes the results
 *     }
 *
 * The op is a to-be-closed userdata in the binding's own stack frame: it lives while the task is parked, and
 * leaves on every path. A binding that keeps more than that begins its own struct with one. Its first user
 * value is the handle at stack index 1, if that is one; the second is for what else C points to while it
 * waits: where a closer cannot run for want of memory, an op outlives its frame.
 *
 * Completion callbacks store plain C results and call op_done; they never touch Lua. What may finish late (uv
 * handles, easy handles, children) lives in its own malloc'ed job; op and job point at each other, and
 * `cancel` cuts both pointers. `cancel` is called at most once, only before op_done. `leave` (optional, set
 * after op_new) is called exactly once when the frame is left on any path, after `cancel` if that was called:
 * the place to free what finish needed. Neither touches Lua.
 *
 * The thing that is waited for knows its waiters by a `struct op *`, NULL at first: a slot for one (op_claim)
 * or the head of a list (op_enter). It never dangles, since an op takes itself out when its frame is left;
 * the other way round, who owns the pointer calls ops_done before its memory goes, unless it is the handle at
 * stack index 1. */
#ifndef MOONTIDE_OP_H
#define MOONTIDE_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <lua.h>

struct op;
struct task;

typedef int (*op_finish)(lua_State *L, struct op *op);

struct op {
    struct task *task; /* whose wait this is; NULL once it is over */
    void (*cancel)(struct op *op);
    void (*leave)(struct op *op);
    op_finish finish;
    struct op *next, **link;               /* among the ops of its task */
    struct op *next_waiter, **waiter_link; /* among those that wait for the same thing */
    uint64_t until;                        /* when the wait times out, in ms of the clock's time; 0: never */
    bool done, timed_out;
};

/* A zeroed op of `size` bytes, pushed on the stack as a to-be-closed value. Raises outside of a task, inside
 * a script's own coroutine, inside a no-wait zone (a transaction, a metamethod that C calls), and when the
 * task was already cancelled. */
void *op_new(lua_State *L, size_t size, void (*cancel)(struct op *op));

/* The same for a thing that one task at a time may wait for: *slot points at the op until its frame is left.
 * Raises `busy` when it points at another's. */
void *op_claim(lua_State *L, size_t size, void (*cancel)(struct op *op), struct op **slot, const char *busy);

/* Puts the op on the list of those that wait for one thing, until its frame is left or ops_done is called. */
void op_enter(struct op *op, struct op **waiters);

/* Ends the wait so many milliseconds from now, if nothing else does: `timed_out` is set, and finish called.
 * For before op_wait. */
void op_timeout(lua_State *L, struct op *op, uint64_t millis);

/* Parks the running task until op_done, the timeout or a cancellation; but for the last, finish is called
 * then inside the resumed coroutine. Use as `return op_wait(...)`. When the op is done already, finish is
 * called at once. */
int op_wait(lua_State *L, struct op *op, op_finish finish);

/* The work is complete: the task is put on the ready queue. Never touches Lua. Safe on an op that is done,
 * and on NULL. */
void op_done(struct op *op);

/* The same for all on a list or in a slot, in the order in which they came; it is empty afterwards. */
void ops_done(struct op **waiters);

#endif
