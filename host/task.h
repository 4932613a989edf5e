/* Tasks: Lua coroutines that the loop runs, and the one way in which they wait.
 *
 * A binding that waits looks like this:
 *
 *     struct nap { struct op op; uv_timer_t *timer; };
 *
 *     static int l_sleep(lua_State *L)
 *     {
 *         struct nap *nap = op_new(L, sizeof *nap, nap_cancel);    // raises when waiting is impossible here
 *         ... start the work; its completion callback calls op_done(&nap->op) ...
 *         return op_wait(L, &nap->op, nap_finish);                 // parks the task; finish pushes results
 *     }
 *
 * The op is a to-be-closed userdata in the binding's own stack frame: it lives while the task is parked, and
 * leaves on every path. Its first user value is the handle at stack index 1, if that is one; the second is
 * for what else C points to while it waits: where a closer cannot run for want of memory, an op outlives its
 * frame. Completion callbacks store plain C results and call op_done; they never touch Lua. What may finish
 * late (uv handles, easy handles, children) lives in its own malloc'ed job; op and job point at each other,
 * and `cancel` cuts both pointers. `cancel` is called at most once, only before op_done. `leave` (optional,
 * set after op_new) is called exactly once when the frame is left on any path, after `cancel` if that was
 * called: the place to free what finish needed. Neither touches Lua.
 *
 * task.c is the only caller of lua_resume, but for a script's own coroutines (api_base.c). */
#ifndef MOONTIDE_TASK_H
#define MOONTIDE_TASK_H

#include <stdbool.h>
#include <stdint.h>
#include <lua.h>
#include <uv.h>
#include "err.h"

struct host;
struct task;
struct op;

typedef int (*op_finish)(lua_State *L, struct op *op);

struct op {
    struct task *task; /* whose wait this is; NULL once it is over */
    void (*cancel)(struct op *op);
    void (*leave)(struct op *op);
    op_finish finish;
    struct op *next, **link; /* among the ops of its task */
    bool done;
};

/* A zeroed op of `size` bytes, pushed on the stack as a to-be-closed value. Raises outside of a task, inside
 * a script's own coroutine, inside a no-wait zone (a transaction, a metamethod that C calls), and when the
 * task was already cancelled. */
void *op_new(lua_State *L, size_t size, void (*cancel)(struct op *op));

/* Parks the running task until op_done or a cancellation, then calls finish inside the resumed coroutine; use
 * as `return op_wait(...)`. When the op is done already, finish is called at once. raises */
int op_wait(lua_State *L, struct op *op, op_finish finish);

/* The work is complete: the task is put on the ready queue. Never touches Lua. Safe on an op that is done. */
void op_done(struct op *op);

/* Limits of a task, inherited by its children; 0 means none. */
struct task_limits {
    uint64_t cpu_ms; /* processor time of all its slices together */
    size_t memory;   /* how much the Lua state may grow while the task runs */
};

/* Starts a task from the function and its `nargs` arguments on top of L (pops them). It first runs on the
 * next turn of the loop. The task ends with its parent (NULL: lives on its own). raises */
struct task *task_spawn(lua_State *L, int nargs, const char *name, struct task *parent);

/* Ends a task: its wait raises ERR_CANCELLED now and at each later wait. What it started, or starts from then
 * on, ends too. */
void task_cancel(struct task *task);

/* The running task, or NULL when L is not a task's own coroutine. */
struct task *task_current(lua_State *L);

/* A pointer to a task from outside, which becomes NULL when the task ends: a closer that should have cut it
 * may not run for want of memory. Zeroed at first; linking again moves it, and NULL unlinks it. */
struct task_link {
    struct task *task;
    struct task_link *next, **link;
};
void task_link(struct task_link *l, struct task *t);

/* Whether the coroutine at `index` is a task's own, or the loop's: nobody else resumes or closes it. */
bool task_owns(lua_State *L, int index);

/* Says what the running task works on, in words for asked.h: the arguments, one after the other. raises */
void task_asked(lua_State *L);

uint64_t task_id(const struct task *task);

/* Ends the host's wait for it: the loop returns when this task has ended. */
void task_set_main(struct host *host, struct task *task);
bool task_main_ended(const struct host *host);

/* For api_task.c: the scope of a deadline. Enter pushes a to-be-closed guard that restores the outer
 * deadline. */
void task_deadline_enter(lua_State *L, uint64_t millis);

/* Bounds the whole life of a task that has not begun. False: no memory for its timer. */
bool task_deadline_set(struct task *task, uint64_t millis);

/* For api_task.c: waits for the end of `task`; the ended task's handle then holds the results. */
struct task_handle {
    struct task *task; /* NULL once it has ended */
    uint64_t id;
    int results; /* how many there are in user value 1, a table; none: no table */
    bool told;   /* it ended after it had begun: there are results, or why it failed */
    bool failed;
    bool joined;
    bool lost; /* it ended, and memory was too short to keep how */
};
#define TASK_CLASS "moontide.task"

struct task_join {
    struct op op;
    struct task *task;
    struct task_join *next, **link;
    void *timer;
    bool timed_out;
};
void task_join_add(struct task *task, struct task_join *join);
void task_join_remove(struct task_join *join);

/* limits NULL: the parent's. handle: the stack index of the task_handle that hears of the end, 0 for none.
 * Below the function is the handler of what it raises, or nil: then waiters get the error itself. raises */
struct task *task_spawn_limited(lua_State *L, int nargs, const char *name, struct task *parent,
                                const struct task_limits *limits, int handle);
const char *task_name(const struct task *task);

/* Makes the task machinery of a host; frees it when every task has ended. */
bool tasks_open(struct host *host);
void tasks_close(struct host *host);

/* Runs everything that is ready, once. Returns true when more became ready meanwhile. Called by the loop. */
bool task_run_ready(struct host *host);

/* Cancels every task; used before the state closes. */
void task_cancel_all(struct host *host);
size_t task_count(const struct host *host);

#endif
