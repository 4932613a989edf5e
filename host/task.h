/* Tasks: Lua coroutines that the loop runs; how one waits is in op.h.
 *
 * task.c is the only caller of lua_resume, but for a script's own coroutines (api_base.c). */
#ifndef MOONTIDE_TASK_H
#define MOONTIDE_TASK_H

#include <stdbool.h>
#include <stdint.h>
#include <lua.h>
#include <uv.h>

struct host;
struct task;
struct op;

/* Limits of a task, inherited by its children; 0 means none. */
struct task_limits {
    uint64_t cpu_ms; /* processor time of all its slices together */
    size_t memory;   /* how much the Lua state may grow while the task runs */
};

/* Starts a task from the function and its `nargs` arguments on top of L (pops them). It first runs on the
 * next turn of the loop. The task ends with its parent (NULL: lives on its own). */
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

/* Whether the coroutine at `index` is a task's own, or the loop's: nothing else resumes or closes it. */
bool task_owns(lua_State *L, int index);

/* Sets what the running task works on, in words for crash_note.h: the arguments, one after the other. */
void task_asked(lua_State *L);

uint64_t task_id(const struct task *task);

/* Ends the host's wait for it: the loop returns when this task has ended. */
void task_set_main(struct host *host, struct task *task);

/* From now on all tasks wait in virtual time, for good; `start`: seconds since 1970. False: memory. */
bool tasks_virtual_time(struct host *host, double start);

/* For api_task.c: begins the scope of a deadline: a to-be-closed value, pushed here, that restores the outer
 * one. */
void task_deadline_enter(lua_State *L, uint64_t millis);

/* Bounds the whole life of a task that has not begun. False: no memory for its timer. */
bool task_deadline_set(struct task *task, uint64_t millis);

/* For api_task.c: the handle of a task, which holds the results when it has ended. */
struct task_handle {
    struct task *task; /* NULL once it has ended */
    uint64_t id;
    int results; /* how many there are in user value 1, a table; none: no table */
    bool told;   /* it ended after it had begun: there are results, or the error */
    bool failed;
    bool joined;
    bool lost; /* it ended, and memory was too short to keep how */
};
#define TASK_CLASS "moontide.task"

/* The op is done when the task, which has not ended yet, has. */
void task_join(struct task *task, struct op *op);

/* limits NULL: the parent's. handle: the stack index of the task_handle that hears of the end, 0 for none.
 * Below the function is the handler of what it raises, or nil: then waiters get the error itself. */
struct task *task_spawn_limited(lua_State *L, int nargs, const char *name, struct task *parent,
                                const struct task_limits *limits, int handle);

const char *task_name(const struct task *task);

/* slice.c: sets the hook of a coroutine that need not be looked at: none, or that of line coverage. */
void slice_rest(lua_State *L);

/* slice.c: counts the lines that run from now on (coverage.h), in this coroutine and in those made later. Not
 * without memory. */
void slice_cover(lua_State *L);

/* Makes the task machinery of a host; frees it when every task has ended. */
bool tasks_open(struct host *host);
void tasks_close(struct host *host);

/* Cancels every task; used before the state closes. */
void task_cancel_all(struct host *host);
size_t task_count(const struct host *host);

#endif
