/* Waiting: ops, the queues of waiters, what ends a wait; timeouts and deadlines, by one timer a task. */
#include "op.h"

#include <stdlib.h>
#include <string.h>
#include "bind.h"
#include "host.h"
#include "task_private.h"

#define OP_CLASS       "moontide.op"
#define DEADLINE_CLASS "moontide.deadline"

/* ---- a task's timer: for its deadline and for the end of its wait ---- */

static void time_over(struct task *t)
{
    uint64_t now = clock_ms(&t->host->clock);

    if (t->op && !t->op->done && t->op->until && t->op->until <= now) {
        t->op->timed_out = true;
        op_done(t->op);
    }
    if (t->deadline && t->deadline <= now)
        task_cut(t, ERR_DEADLINE);
}

static void on_time(uv_timer_t *timer)
{
    if (timer->data)
        time_over(timer->data);
}

static void on_moment(struct clock_timer *timer)
{
    time_over((struct task *)((char *)timer - offsetof(struct task, moment)));
}

/* False: no memory for it. */
static bool timer_open(struct task *t)
{
    if (t->host->clock.is_virtual)
        return clock_reserve(&t->host->clock, t->host->tasks->count);
    if (t->timer)
        return true;
    t->timer = malloc(sizeof *t->timer);
    if (!t->timer)
        return false;
    uv_timer_init(&t->host->loop, t->timer);
    t->timer->data = t;
    return true;
}

/* Sets it to what comes first. */
static void timer_arm(struct task *t)
{
    struct clock *clock = &t->host->clock;
    uint64_t at = t->deadline, now = clock_ms(clock);

    if (t->op && t->op->until && (!at || t->op->until < at))
        at = t->op->until;
    if (clock->is_virtual) {
        clock_unset(clock, &t->moment);
        t->moment.fire = on_moment;
        if (at)
            clock_set(clock, &t->moment, at);
    } else if (at)
        uv_timer_start(t->timer, on_time, at > now ? at - now : 0, 0);
    else if (t->timer)
        uv_timer_stop(t->timer);
}

/* The clock's time so many milliseconds from now. */
static uint64_t timer_after(struct task *t, uint64_t millis)
{
    return clock_ms_now(&t->host->clock) + millis;
}

bool tasks_virtual_time(struct host *host, double start)
{
    if (!clock_reserve(&host->clock, host->tasks->count))
        return false;
    for (struct task *t = host->tasks->all; t; t = t->next)
        if (t->timer)
            uv_timer_stop(t->timer);
    clock_begin(&host->clock, start);
    for (struct task *t = host->tasks->all; t; t = t->next)
        timer_arm(t);
    return true;
}

/* ---- ops ---- */

void op_cut(struct op *op)
{
    void (*cancel)(struct op *) = op->done ? NULL : op->cancel;

    op->done = true;
    if (cancel)
        cancel(op);
}

static void leave_waiters(struct op *op)
{
    if (!op->waiter_link)
        return;
    *op->waiter_link = op->next_waiter;
    if (op->next_waiter)
        op->next_waiter->waiter_link = op->waiter_link;
    op->waiter_link = NULL;
}

static void leave_task(struct op *op)
{
    struct task *t = op->task;

    if (!t)
        return;
    if (t->op == op)
        t->op = NULL;
    op->task = NULL;
    *op->link = op->next;
    if (op->next)
        op->next->link = op->link;
    if (op->until)
        timer_arm(t);
}

/* Calling a closer takes memory. Where there was none, an op outlives its frame and waits
 * for the collector. */
void ops_orphan(struct task *t)
{
    while (t->ops) {
        struct op *op = t->ops;

        op_cut(op);
        leave_waiters(op);
        leave_task(op);
    }
}

/* __close and __gc of an op: the frame is left. */
static int l_op_leave(lua_State *L)
{
    struct op *op = lua_touserdata(L, 1);

    op_cut(op);
    if (op->leave) {
        void (*leave)(struct op *) = op->leave;

        op->leave = NULL;
        leave(op);
    }
    leave_waiters(op);
    leave_task(op);
    return 0;
}

void *op_new(lua_State *L, size_t size, void (*cancel)(struct op *op))
{
    struct task *t = task_current(L);
    struct op *op;

    if (!t)
        luaL_error(L,
                   "waiting works only in a task's own coroutine: use task.spawn instead of coroutine.wrap");
    if (!lua_isyieldable(L))
        luaL_error(
            L, "cannot wait here: inside a transaction, a metamethod that the program calls, or a finalizer");
    if (t->cut)
        task_raise_cut(L, t->cut);
    luaL_checkstack(L, 8, "op");
    op = lua_newuserdatauv(L, size, 2);
    memset(op, 0, size);
    if (lua_isuserdata(L, 1)) { /* the handle that is waited for: when both are collected, it goes last */
        lua_pushvalue(L, 1);
        lua_setiuservalue(L, -2, 1);
    }
    luaL_setmetatable(L, OP_CLASS);
    lua_toclose(L, -1);
    op->task = t;
    op->link = &t->ops;
    op->next = t->ops;
    if (op->next)
        op->next->link = &op->next;
    t->ops = op;
    op->cancel = cancel;
    return op;
}

void *op_claim(lua_State *L, size_t size, void (*cancel)(struct op *op), struct op **slot, const char *busy)
{
    struct op *op;

    if (*slot)
        bind_error(L, "%s", busy);
    op = op_new(L, size, cancel);
    op_enter(op, slot);
    return op;
}

void op_enter(struct op *op, struct op **waiters)
{
    op->waiter_link = waiters;
    op->next_waiter = *waiters;
    if (op->next_waiter)
        op->next_waiter->waiter_link = &op->next_waiter;
    *waiters = op;
}

void op_timeout(lua_State *L, struct op *op, uint64_t millis)
{
    struct task *t = op->task;

    if (!timer_open(t))
        luaL_error(L, "not enough memory");
    op->until = timer_after(t, millis);
}

static int op_resumed(lua_State *L, int status, lua_KContext ctx)
{
    struct op *op = (struct op *)ctx;

    (void)status;
    if (op->task->cut)
        return task_raise_cut(L, op->task->cut);
    return op->finish(L, op);
}

int op_wait(lua_State *L, struct op *op, op_finish finish)
{
    op->finish = finish;
    if (op->done && !op->task->host->clock.is_virtual)
        return finish(L, op);
    op->task->op = op;
    if (op->done) /* tasks take turns only where they wait: here, too */
        loop_ready(op->task);
    if (op->until)
        timer_arm(op->task);
    return lua_yieldk(L, 0, (lua_KContext)op, op_resumed);
}

void op_done(struct op *op)
{
    if (!op || op->done)
        return;
    op->done = true;
    if (op->task && op->task->op == op)
        loop_ready(op->task);
}

void ops_done(struct op **waiters)
{
    struct op *oldest = NULL;

    while (*waiters) { /* they stand in the opposite order */
        struct op *op = *waiters;

        leave_waiters(op);
        op_enter(op, &oldest);
    }
    while (oldest) {
        struct op *op = oldest;

        leave_waiters(op);
        op_done(op);
    }
}

/* ---- deadlines ---- */

bool task_deadline_set(struct task *t, uint64_t millis)
{
    if (!timer_open(t))
        return false;
    t->deadline = timer_after(t, millis);
    timer_arm(t);
    return true;
}

struct deadline_scope {
    struct task *task;
    uint64_t outer; /* the deadline to put back */
    bool active;
};

static int l_deadline_leave(lua_State *L)
{
    struct deadline_scope *g = lua_touserdata(L, 1);

    if (!g->active)
        return 0;
    g->active = false;
    if (g->task->cut == ERR_DEADLINE && (!g->outer || g->outer > clock_ms_now(&g->task->host->clock))) {
        g->task->cut = ERR_NONE; /* it was this scope's deadline: the outer code goes on */
        g->task->grace_ns = 0;
    }
    g->task->deadline = g->outer;
    timer_arm(g->task);
    return 0;
}

void task_deadline_enter(lua_State *L, uint64_t millis)
{
    struct task *t = task_current(L);
    struct deadline_scope *g;
    uint64_t when;

    if (!t)
        luaL_error(L, "a deadline works only in a task's own coroutine");
    g = lua_newuserdatauv(L, sizeof *g, 0);
    memset(g, 0, sizeof *g);
    luaL_setmetatable(L, DEADLINE_CLASS);
    g->task = t;
    g->outer = t->deadline;
    lua_toclose(L, -1);
    if (!timer_open(t))
        luaL_error(L, "not enough memory");
    when = timer_after(t, millis ? millis : 1);
    g->active = true;
    if (!t->deadline || when < t->deadline) {
        t->deadline = when;
        timer_arm(t);
    }
}

void ops_register(lua_State *L)
{
    static const luaL_Reg scope_meta[] = {{"__close", l_deadline_leave}, {NULL, NULL}};
    bind_closable(L, OP_CLASS, NULL, l_op_leave);
    bind_class(L, DEADLINE_CLASS, NULL, scope_meta);
}
