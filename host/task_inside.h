/* What task.c, op.c and slice.c share, and nobody else may know: the insides of a task. */
#ifndef MOONTIDE_TASK_INSIDE_H
#define MOONTIDE_TASK_INSIDE_H

#include "err.h"
#include <lua.h>
#include "op.h"
#include "task.h"

#define OP_CLASS       "moontide.op"
#define DEADLINE_CLASS "moontide.deadline"

struct task {
    uint64_t id;
    struct host *host;
    lua_State *co;
    struct task *parent;
    struct task *first_child;
    struct task *prev_sibling, *next_sibling;
    struct task *payer;  /* whose budget it uses up: itself, or the limited ancestor */
    struct task *payees; /* who pays here, itself included */
    struct task *next_payee, **payee_link;
    struct task *prev, *next; /* all tasks */
    struct task *next_ready;
    struct op *op;           /* what it waits for */
    struct op *ops;          /* all that point at it, newest first */
    struct op *joins;        /* who waits for its end */
    struct task_link *links; /* who else points at it */
    uv_timer_t *timer;       /* for the deadline and what it waits for; own memory, NULL until it is needed */
    uint64_t deadline;       /* loop time in ms; 0: none */
    struct task_limits limits;
    uint64_t cpu_ns;   /* of everybody who pays here */
    uint64_t turn;     /* the last of the loop's in which one of them ran */
    uint64_t turn_ns;  /* what they used in it */
    size_t grown;      /* bytes they added to the Lua state, at least */
    enum err_code cut; /* why it must end; ERR_NONE while it need not */
    uint64_t own_ns;   /* ... by itself */
    uint64_t grace_ns; /* of that, when its closers must end, too; 0: it was not told yet */
    char *asked;       /* what it works on, for whoever it keeps waiting (asked.h); NULL: nothing */
    char *cut_at;      /* the line that was cut: "scripts/staging.lua:7" */
    int failure;       /* the status of what was raised; LUA_OK: nothing was */
    int nargs;
    unsigned paid_for; /* tasks alive whose payer this is, itself included */
    bool queued, started, ended;
    bool stopped; /* it was set aside for good: the time for its closers is over */
    bool pressed; /* it gave its turn away while its deadline unwinds it: the next slice goes on with that */
    bool felled;  /* it was cancelled with all below it; what it starts from then on is, too */
    char name[40];
};

struct task_set {
    struct task *all;
    struct task *ready, **ready_tail;
    struct task *kept, **kept_tail; /* ready, but not in this turn */
    struct task *running;
    struct task *main;
    bool main_ended;
    uint64_t last_id;
    size_t count;
    uint64_t turn;        /* of the loop, counted */
    uint64_t slice_start; /* by the wall */
    uint64_t known_ns;    /* the loop's processor time when it was last asked for */
    uint64_t since_ns;    /* what slices were charged since then */
    size_t slice_used;
    bool raised; /* the slice's task was cut in it */
};

/* task_ready.c: the queue; what a turn passes over, and puts back in front at its end. */
void task_ready_open(struct task_set *set);
void task_make_ready(struct task *t);
struct task *task_ready_take(struct task_set *set);
void task_ready_keep(struct task_set *set, struct task *t);
void task_ready_return(struct task_set *set);

/* task_main.c: task_main(handler, fn, ...) stands below all that a task runs; pushes what a failed task's
 * waiters get: why it was cut by force, or what was raised. */
int task_main(lua_State *L);
void task_failure_push(lua_State *L, struct task *t, int status);

/* op.c: ends a wait from outside; what a cut task raises, and its words; the metatables. */
void op_cut(struct op *op);
void ops_orphan(struct task *t); /* the task ends: none of its ops may point at it any more */
int task_raise_cut(lua_State *L, enum err_code why);
const char *task_cut_text(enum err_code why);
void ops_open(lua_State *L);
void task_cut(struct task *t, enum err_code why);

/* slice.c: around all slices of a turn; around each resume; the hook of one that lasts too long; its closers'
 * time begins when it is told that it was cut; who pays for
 * a new task (NULL: itself), which raises when the payer has too many; budgets of what is left when a payer
 * ends. */
void slice_turn(struct task_set *set);
/* Whether those that pay together have had a slice's time in this turn. */
bool slice_had_turn(const struct task_set *set, const struct task *t);
void slice_begin(struct task *t);
void slice_end(struct task *t);
void slice_over(lua_State *L, lua_Debug *ar);
void slice_told(struct task *t);
void slice_exhausted(void *host);
struct task *slice_payer(lua_State *L, struct task *parent);
void slice_pay(struct task *t, struct task *payer);
void slice_orphan(struct task *t);

#endif
