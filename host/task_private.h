/* What task.c, op.c, slice.c and loop.c share: the fields of a task. Private to them. */
#ifndef MOONTIDE_TASK_PRIVATE_H
#define MOONTIDE_TASK_PRIVATE_H

#include <lua.h>
#include "clock.h"
#include "err_lua.h"
#include "op.h"
#include "task.h"

struct task {
    uint64_t id;
    char name[40];
    struct host *host;
    lua_State *co;
    struct task *prev, *next; /* all tasks */
    struct task *parent, *first_child, *prev_sibling, *next_sibling;
    struct task_link *links; /* who points at it from outside */

    /* its life (task.c) */
    int nargs; /* of the first call */
    bool started, ended;
    enum err_code cut;      /* why it must end; ERR_NONE while it need not */
    bool subtree_cancelled; /* it was cancelled with all below it; what it starts from then on is, too */
    int failure;            /* the status of what was raised; LUA_OK: nothing was */
    char *asked;            /* what it works on, for the crash note (crash_note.h); NULL: nothing */
    struct op *joins;       /* who waits for its end */

    /* its place in the queue (loop.c) */
    struct task *next_ready;
    bool queued;

    /* what it waits for (op.c) */
    struct op *op;
    struct op *ops;    /* all that point at it, newest first */
    uv_timer_t *timer; /* for the deadline and the end of a wait; own memory, NULL until it is needed */
    struct clock_timer moment; /* the same in virtual time */
    uint64_t deadline;         /* the clock's time in ms; 0: none */

    /* what it uses (slice.c) */
    struct task_limits limits;
    struct task *payer;  /* whose budget it uses up: itself, or the limited ancestor */
    struct task *payees; /* who pays here, itself included */
    struct task *next_payee, **payee_link;
    unsigned paid_for; /* how many they are */
    uint64_t cpu_ns;   /* processor time of all who pay here */
    uint64_t turn;     /* the last of the loop's in which one of them ran */
    uint64_t turn_ns;  /* what they used in it */
    size_t grown;      /* bytes they added to the Lua state, at least */
    uint64_t own_ns;   /* processor time of this task alone */
    uint64_t grace_ns; /* of that, when its closers must have ended, too; 0: their time has not begun */
    char *cut_at;      /* the line that was cut: "scripts/staging.lua:7" */
    bool stopped;      /* it was set aside for good: the time for its closers is over */
    bool unwinding;    /* it gave its turn away amid a deadline's errors: the next slice goes on with them */
};

struct task_queue {
    struct task *first, *last;
};

struct task_set {
    struct task *all;
    size_t count;
    uint64_t last_id;
    struct task *main;
    bool main_ended;
    struct task *running;

    /* loop.c */
    struct task_queue ready;
    bool polling; /* inside of uv_run: what becomes ready ends it */

    /* slice.c */
    uint64_t turn;        /* of the loop, counted */
    uint64_t slice_start; /* by the wall */
    uint64_t known_ns;    /* the loop's processor time when it was last asked for */
    uint64_t since_ns;    /* what slices were charged since then */
    size_t slice_used;    /* bytes of the Lua state when the slice began */
    bool raised;          /* the slice's task was cut in it */
};

/* loop.c: the task is to have a slice in the next turn. Safe on one that has ended or is on the queue. */
void loop_ready(struct task *t);

/* task.c: gives the task a slice. */
void task_resume(struct task *t);

/* task.c: ends the task's wait, and soon itself, for that reason; what it raises then, and its words. */
void task_cut(struct task *t, enum err_code why);
RAISES int task_raise_cut(lua_State *L, enum err_code why);

/* op.c: the classes; ends a wait from outside; the task ends, and none of its ops may point at it any more.
 */
void ops_register(lua_State *L);
void op_cut(struct op *op);
void ops_orphan(struct task *t);

/* slice.c: around all slices of a turn; whether those that pay together have had a slice's time in it. */
void slice_turn(struct task_set *set);
bool slice_had_turn(const struct task_set *set, const struct task *t);

/* slice.c: around each resume; the hook of one that lasts too long; what the allocator calls that refuses. */
void slice_begin(struct task *t);
void slice_end(struct task *t);
void slice_over(lua_State *L, lua_Debug *ar);
void slice_exhausted(void *host);

/* slice.c: the cut is raised: the time of the task's closers begins. */
void slice_grace(struct task *t);

/* slice.c: who pays for a new task (NULL: itself), which raises when the payer has too many; makes it so;
 * what is left when a payer ends pays for itself. */
struct task *slice_payer(lua_State *L, struct task *parent);
void slice_pay(struct task *t, struct task *payer);
void slice_orphan(struct task *t);

#endif
