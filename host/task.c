/* Tasks: the life of a coroutine, and the only caller of lua_resume.
 *
 * A task's thread is anchored in a registry table by its id; its struct lives from spawn to end. Code here runs
 * on the loop, outside of any protected call, so everything that may raise happens in a coroutine or inside
 * end_protected. */
#include "task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <lauxlib.h>
#include "bind.h"
#include "host.h"
#include "watchdog.h"

#define OP_CLASS       "moontide.op"
#define DEADLINE_CLASS "moontide.deadline"

struct task {
    uint64_t id;
    struct host *host;
    lua_State *co;
    struct task *parent;
    struct task *first_child;
    struct task *prev_sibling, *next_sibling;
    struct task *payer;        /* whose budget it uses up: itself, or the limited ancestor */
    struct task *prev, *next;  /* all tasks */
    struct task *next_ready;
    struct op *op;             /* what it waits for */
    struct task_join *joins;   /* who waits for its end */
    uv_timer_t *timer;         /* for the deadline; own memory, freed by its close callback */
    uint64_t deadline;         /* loop time in ms; 0: none */
    struct task_limits limits;
    uint64_t cpu_ns;           /* of everybody who pays here */
    size_t grown;              /* bytes they added to the Lua state, at least */
    enum err_code cut;         /* why it must end; ERR_NONE while it need not */
    int nargs;
    unsigned paid_for;         /* tasks alive whose payer this is, itself included */
    bool queued, started, ended;
    char name[40];
};

/* How long a limited script may hold the loop where it cannot be set aside: in a sort comparison, a gsub callback. */
#define STUCK_MS 100

/* How many tasks a limited script may have alive at once. */
#define PAID_TASKS_MAX 1000u

struct task_set {
    struct task *all;
    struct task *ready, **ready_tail;
    struct task *running;
    struct task *main;
    bool main_ended;
    uint64_t last_id;
    size_t count;
    uint64_t slice_start;
    size_t slice_used;
};

static const char anchors_key, handles_key; /* registry: id -> thread, id -> handle (weak) */

/* ---- the ready queue ---- */

static void make_ready(struct task *t)
{
    struct task_set *set = t->host->tasks;

    if (t->queued || t->ended)
        return;
    t->queued = true;
    t->next_ready = NULL;
    *set->ready_tail = t;
    set->ready_tail = &t->next_ready;
    if (t->host->turning)
        uv_stop(&t->host->loop); /* a timer that fires at the start of a turn: the turn must not sleep then */
}

static struct task *take_ready(struct task_set *set)
{
    struct task *t = set->ready;

    if (t) {
        set->ready = t->next_ready;
        if (!set->ready)
            set->ready_tail = &set->ready;
        t->queued = false;
    }
    return t;
}

/* ---- ops ---- */

static void op_cut(struct op *op)
{
    if (!op->done && op->cancel) {
        void (*cancel)(struct op *) = op->cancel;

        op->cancel = NULL;
        cancel(op);
    }
    op->done = true;
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
    if (op->task && op->task->op == op)
        op->task->op = NULL;
    op->task = NULL;
    return 0;
}

static const char *cut_text(enum err_code why)
{
    switch (why) {
    case ERR_DEADLINE:
        return "the time allowed for this is over";
    case ERR_BUDGET:
        return "the script used up its processor time";
    case ERR_MEMORY:
        return "the script used up its memory";
    default:
        return "the task was cancelled";
    }
}

static int raise_cut(lua_State *L, enum err_code why)
{
    return err_throw(L, why, "task", NULL, "%s", cut_text(why));
}

void *op_new(lua_State *L, size_t size, void (*cancel)(struct op *op))
{
    struct task *t = task_current(L);
    struct op *op;

    if (!t)
        luaL_error(L, "waiting works only in a task's own coroutine: use task.spawn instead of coroutine.wrap");
    if (!lua_isyieldable(L))
        luaL_error(L, "cannot wait here: inside a transaction, a sort comparison, a gsub callback or a finalizer");
    if (t->cut)
        raise_cut(L, t->cut);
    luaL_checkstack(L, 8, "op");
    op = lua_newuserdatauv(L, size, 0);
    memset(op, 0, size);
    luaL_setmetatable(L, OP_CLASS);
    lua_toclose(L, -1);
    op->task = t; /* last: nothing below may raise and leave a pointer to a task behind */
    op->cancel = cancel;
    return op;
}

static int op_resumed(lua_State *L, int status, lua_KContext ctx)
{
    struct op *op = (struct op *)ctx;

    (void)status;
    if (op->task->cut)
        return raise_cut(L, op->task->cut);
    return op->finish(L, op);
}

int op_wait(lua_State *L, struct op *op, op_finish finish)
{
    op->finish = finish;
    if (op->done)
        return finish(L, op);
    op->task->op = op;
    return lua_yieldk(L, 0, (lua_KContext)op, op_resumed);
}

void op_done(struct op *op)
{
    if (op->done)
        return;
    op->done = true;
    if (op->task && op->task->op == op)
        make_ready(op->task);
}

/* ---- cancellation and deadlines ---- */

static void cut(struct task *t, enum err_code why)
{
    if (t->ended || t->cut)
        return;
    t->cut = why;
    if (t->op)
        op_cut(t->op);
    if (t != t->host->tasks->running)
        make_ready(t);
}

void task_cancel(struct task *t, enum err_code why)
{
    cut(t, why);
    for (struct task *c = t->first_child; c; c = c->next_sibling)
        task_cancel(c, why);
}

static void timer_closed(uv_handle_t *handle)
{
    free(handle);
}

static void on_deadline(uv_timer_t *timer)
{
    struct task *t = timer->data;

    if (t && t->deadline)
        cut(t, ERR_DEADLINE);
}

/* Arms or stops the timer for t->deadline. False: no memory for it. */
static bool deadline_arm(struct task *t)
{
    uint64_t now;

    if (!t->deadline) {
        if (t->timer)
            uv_timer_stop(t->timer);
        return true;
    }
    if (!t->timer) {
        t->timer = malloc(sizeof *t->timer);
        if (!t->timer)
            return false;
        uv_timer_init(&t->host->loop, t->timer);
        t->timer->data = t;
    }
    now = uv_now(&t->host->loop);
    uv_timer_start(t->timer, on_deadline, t->deadline > now ? t->deadline - now : 0, 0);
    return true;
}

struct deadline_guard {
    struct task *task;
    uint64_t outer; /* the deadline to put back */
    bool active;
};

static int l_deadline_leave(lua_State *L)
{
    struct deadline_guard *g = lua_touserdata(L, 1);

    if (!g->active)
        return 0;
    g->active = false;
    uv_update_time(&g->task->host->loop);
    if (g->task->cut == ERR_DEADLINE && (!g->outer || g->outer > uv_now(&g->task->host->loop)))
        g->task->cut = ERR_NONE; /* it was this scope's deadline: the outer code goes on */
    g->task->deadline = g->outer;
    deadline_arm(g->task);
    return 0;
}

void task_deadline_enter(lua_State *L, uint64_t millis)
{
    struct task *t = task_current(L);
    struct deadline_guard *g;
    uint64_t when;

    if (!t)
        luaL_error(L, "a deadline works only in a task's own coroutine");
    g = lua_newuserdatauv(L, sizeof *g, 0);
    memset(g, 0, sizeof *g);
    luaL_setmetatable(L, DEADLINE_CLASS);
    g->task = t;
    g->outer = t->deadline;
    lua_toclose(L, -1);
    uv_update_time(&t->host->loop);
    when = uv_now(&t->host->loop) + (millis ? millis : 1);
    g->active = true;
    if (!t->deadline || when < t->deadline) {
        t->deadline = when;
        if (!deadline_arm(t))
            luaL_error(L, "not enough memory");
    }
}

/* ---- the slice ---- */

static uint64_t slice_ns(const struct task_set *set)
{
    return uv_hrtime() - set->slice_start;
}

/* Runs on the coroutine that has kept the loop for a whole slice. */
static void on_slice_over(lua_State *L, lua_Debug *ar)
{
    struct host *host = bind_host(L);
    struct task_set *set = host->tasks;
    struct task *t = set->running;

    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    if (!t)
        return;
    if (!t->cut && t->limits.cpu_ms && t->payer->cpu_ns + slice_ns(set) > t->limits.cpu_ms * 1000000)
        t->cut = ERR_BUDGET;
    if (!t->cut && t->limits.cpu_ms && !lua_isyieldable(L) && slice_ns(set) > STUCK_MS * UINT64_C(1000000))
        t->cut = ERR_BUDGET; /* it cannot be set aside, and everybody waits */
    if (!t->cut && host->alloc.exhausted)
        t->cut = ERR_MEMORY;
    if (!t->cut && t->deadline) {
        uv_update_time(&host->loop);
        if (uv_now(&host->loop) >= t->deadline)
            t->cut = ERR_DEADLINE;
    }
    if (t->cut) {
        lua_sethook(L, on_slice_over, LUA_MASKCOUNT, 1); /* so that pcall in a loop does not survive */
        raise_cut(L, t->cut);
    }
    if (L == t->co && lua_isyieldable(L))
        lua_yield(L, 0); /* back to the ready queue: others get their turn */
    else
        lua_sethook(L, on_slice_over, LUA_MASKCOUNT, 1000);
}

static void slice_begin(struct task *t)
{
    struct host *host = t->host;
    struct task_set *set = host->tasks;

    set->running = t;
    set->slice_used = host->alloc.used;
    host->alloc.exhausted = false;
    host->alloc.refusals = 0;
    if (t->limits.memory)
        host->alloc.limit = host->alloc.used +
                            (t->limits.memory > t->payer->grown ? t->limits.memory - t->payer->grown : 0);
    set->slice_start = uv_hrtime();
    watchdog_run(host->watchdog, t->co);
}

static void slice_end(struct task *t)
{
    struct host *host = t->host;
    struct task_set *set = host->tasks;
    struct task *payer = t->payer;

    watchdog_run(host->watchdog, NULL);
    payer->cpu_ns += slice_ns(set);
    if (host->alloc.used >= set->slice_used)
        payer->grown += host->alloc.used - set->slice_used;
    else if (payer->grown > set->slice_used - host->alloc.used)
        payer->grown -= set->slice_used - host->alloc.used;
    else
        payer->grown = 0;
    if (host->alloc.exhausted && !t->cut)
        t->cut = ERR_MEMORY;
    host->alloc.limit = 0;
    set->running = NULL;
}

/* ---- kinship ---- */

static void adopt(struct task *parent, struct task *t)
{
    t->parent = parent;
    if (!parent)
        return;
    t->next_sibling = parent->first_child;
    if (parent->first_child)
        parent->first_child->prev_sibling = t;
    parent->first_child = t;
}

static void leave_family(struct task *t)
{
    if (t->prev_sibling)
        t->prev_sibling->next_sibling = t->next_sibling;
    else if (t->parent)
        t->parent->first_child = t->next_sibling;
    if (t->next_sibling)
        t->next_sibling->prev_sibling = t->prev_sibling;
    t->parent = t->prev_sibling = t->next_sibling = NULL;
}

static void pay(struct task *t, struct task *payer)
{
    if (t->payer)
        t->payer->paid_for--;
    t->payer = payer;
    payer->paid_for++;
}

/* Whoever paid is gone: what is left below pays for itself in the little time until it ends. */
static void orphan_budget(struct task *t, const struct task *payer)
{
    for (struct task *c = t->first_child; c; c = c->next_sibling) {
        if (c->payer == payer)
            pay(c, c);
        orphan_budget(c, payer);
    }
}

/* ---- spawn ---- */

static void push_registry_table(lua_State *L, const void *key)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, key);
}

struct task *task_spawn_limited(lua_State *L, int nargs, const char *name, struct task *parent,
                                struct task_limits limits)
{
    struct host *host = bind_host(L);
    struct task_set *set = host->tasks;
    struct task *t, *payer = parent && (parent->limits.cpu_ms || parent->limits.memory) ? parent->payer : NULL;
    lua_State *co;

    if (payer && payer->paid_for >= PAID_TASKS_MAX)
        luaL_error(L, "this script has %d tasks alive, and that is the most", (int)PAID_TASKS_MAX);
    luaL_checkstack(L, 4, "spawn");
    push_registry_table(L, &anchors_key); /* fn args anchors */
    co = lua_newthread(L);                /* fn args anchors thread */
    if (!lua_checkstack(co, nargs + LUA_MINSTACK))
        luaL_error(L, "too many arguments");
    t = calloc(1, sizeof *t);
    if (!t)
        luaL_error(L, "not enough memory");
    t->id = ++set->last_id;
    t->host = host;
    t->co = co;
    adopt(parent, t);
    t->limits = limits;
    pay(t, payer ? payer : t);
    t->nargs = nargs;
    snprintf(t->name, sizeof t->name, "%s", name ? name : "task");
    t->next = set->all;
    if (set->all)
        set->all->prev = t;
    set->all = t;
    set->count++;
    lua_pushvalue(L, -1);
    lua_pushinteger(L, (lua_Integer)t->id); /* fn args anchors thread thread id */
    lua_insert(L, -2);
    /* A raise here leaves a task without its anchor; it is ended by the close of the host only. */
    lua_rawset(L, -4);                      /* fn args anchors thread */
    lua_pop(L, 2);
    lua_xmove(L, co, nargs + 1);
    lua_sethook(co, NULL, 0, 0);
    make_ready(t);
    return t;
}

struct task *task_spawn(lua_State *L, int nargs, const char *name, struct task *parent)
{
    struct task_limits none = { 0, 0 };

    return task_spawn_limited(L, nargs, name, parent, parent ? parent->limits : none);
}

/* ---- the end of a task ---- */

/* Pushes what a failed task's waiters get: why it was cut by force, our error table as it is, anything else
 * wrapped as internal. */
static void push_failure(lua_State *L, struct task *t, int status)
{
    lua_State *co = t->co;
    enum err_code why = status == LUA_ERRMEM ? ERR_MEMORY : t->cut;

    if (why == ERR_MEMORY || why == ERR_BUDGET) {
        struct err e = { .code = why };

        snprintf(e.message, sizeof e.message, "%s", cut_text(why));
        err_push(L, &e, "task", t->name);
        return;
    }
    luaL_checkstack(co, 2, "failure");
    if (lua_istable(co, -1)) {
        lua_xmove(co, L, 1);
        return;
    }
    lua_pushvalue(co, -1); /* stays below: the traceback does not need it, but the stack keeps its shape */
    lua_xmove(co, L, 1);                               /* value */
    luaL_tolstring(L, -1, NULL);                       /* value text */
    err_push(L, &(struct err){ .code = ERR_INTERNAL }, "task", t->name); /* value text err */
    lua_insert(L, -2);
    lua_setfield(L, -2, "message");                    /* value err */
    luaL_traceback(L, co, NULL, 0);
    lua_setfield(L, -2, "traceback");
    lua_remove(L, -2);                                 /* err */
}

static void unhandled(lua_State *L, struct task *t, int failure)
{
    if (lua_getfield(L, LUA_REGISTRYINDEX, "moontide.unhandled") == LUA_TFUNCTION) {
        lua_pushvalue(L, failure);
        lua_pushstring(L, t->name);
        lua_call(L, 2, 0);
    } else {
        luaL_tolstring(L, failure, NULL);
        fprintf(stderr, "moontide: task %s failed: %s\n", t->name, lua_tostring(L, -1));
        lua_pop(L, 2);
    }
}

/* l_end(task, status, nresults): hands the results to the handle, closes the coroutine, drops the anchor. */
static int l_end(lua_State *L)
{
    struct task *t = lua_touserdata(L, 1);
    int status = (int)lua_tointeger(L, 2), n = (int)lua_tointeger(L, 3);
    struct task_handle *handle = NULL;
    bool failed = status != LUA_OK;

    if (!t->started)
        return 0; /* cancelled before it began: a handle without results says so */
    push_registry_table(L, &handles_key);
    if (lua_rawgeti(L, -1, (lua_Integer)t->id) == LUA_TUSERDATA)
        handle = lua_touserdata(L, -1); /* handles handle */
    if (failed) {
        push_failure(L, t, status); /* ... err */
        if (!handle && !t->joins && t->cut == ERR_NONE)
            unhandled(L, t, lua_gettop(L));
        n = 1;
    } else if (handle) {
        lua_createtable(L, n, 1);
        luaL_checkstack(L, n + 2, "results");
        lua_xmove(t->co, L, n); /* handles handle table r1..rn */
        for (int i = n; i > 0; i--)
            lua_rawseti(L, -(i + 1), i);
    }
    if (handle) {
        if (failed) {
            lua_createtable(L, 1, 1);
            lua_insert(L, -2);
            lua_rawseti(L, -2, 1);
        }
        lua_pushinteger(L, n);
        lua_setfield(L, -2, "n");
        handle->failed = failed;
        lua_setiuservalue(L, 5, 1); /* 1 task 2 status 3 n 4 handles 5 handle 6 table */
    }
    return 0;
}

static int l_release(lua_State *L)
{
    struct task *t = lua_touserdata(L, 1);

    push_registry_table(L, &handles_key);
    if (lua_rawgeti(L, -1, (lua_Integer)t->id) == LUA_TUSERDATA)
        ((struct task_handle *)lua_touserdata(L, -1))->task = NULL;
    push_registry_table(L, &anchors_key);
    lua_pushnil(L);
    lua_rawseti(L, -2, (lua_Integer)t->id);
    return 0;
}

static void call_protected(lua_State *L, lua_CFunction f, struct task *t, int status, int n)
{
    lua_pushcfunction(L, f);
    lua_pushlightuserdata(L, t);
    lua_pushinteger(L, status);
    lua_pushinteger(L, n);
    if (lua_pcall(L, 3, 0, 0) != LUA_OK) {
        const char *text = lua_tostring(L, -1);

        fprintf(stderr, "moontide: ending task %s: %s\n", t->name, text ? text : "error");
        lua_pop(L, 1);
    }
}

static void task_end(struct task *t, int status, int n)
{
    struct host *host = t->host;
    struct task_set *set = host->tasks;
    lua_State *L = host->L;

    t->ended = true;
    orphan_budget(t, t);
    while (t->first_child) {
        struct task *c = t->first_child;

        task_cancel(c, ERR_CANCELLED);
        leave_family(c);
    }
    leave_family(t);
    t->payer->paid_for--;
    if (t == set->main) {
        set->main_ended = true;
        if (status == LUA_OK && n > 0)
            host->exit_code = (int)lua_tointeger(t->co, -n);
        else if (status != LUA_OK)
            host->exit_code = 70;
    }
    call_protected(L, l_end, t, status, n);
    lua_resetthread(t->co); /* runs the pending closers of a failed task */
    call_protected(L, l_release, t, 0, 0);
    while (t->joins) {
        struct task_join *j = t->joins;

        t->joins = j->next;
        j->task = NULL;
        op_done(&j->op);
    }
    if (t->timer) {
        t->timer->data = NULL;
        uv_close((uv_handle_t *)t->timer, timer_closed);
    }
    if (t->prev)
        t->prev->next = t->next;
    else
        set->all = t->next;
    if (t->next)
        t->next->prev = t->prev;
    set->count--;
    if (t == set->main)
        set->main = NULL;
    free(t);
}

static void task_resume(struct task *t)
{
    int status, nresults = 0, nargs = t->started ? 0 : t->nargs;

    if (!t->started && t->cut) {
        lua_settop(t->co, 0);
        task_end(t, LUA_OK, 0);
        return;
    }
    t->started = true;
    t->op = NULL;
    slice_begin(t);
    status = lua_resume(t->co, NULL, nargs, &nresults);
    slice_end(t);
    if (status != LUA_YIELD) {
        task_end(t, status, status == LUA_OK ? nresults : 1);
        return;
    }
    lua_pop(t->co, nresults);
    /* No op: the hook gave the turn away, or the script yielded by itself. Cut or done meanwhile: go on too. */
    if (!t->op || t->op->done)
        make_ready(t);
    else if (t->cut) {
        op_cut(t->op);
        make_ready(t);
    }
}

bool task_run_ready(struct host *host)
{
    struct task_set *set = host->tasks;
    struct task *last, *t;

    /* Only those that were ready when we began: what they wake runs after the loop's next turn. */
    if (!set->ready)
        return false;
    last = set->ready;
    while (last->next_ready)
        last = last->next_ready;
    do {
        bool final;

        t = take_ready(set);
        final = t == last;
        task_resume(t);
        if (final)
            break;
    } while (set->ready);
    return set->ready != NULL;
}

/* ---- the rest of the contract ---- */

struct task *task_current(lua_State *L)
{
    struct task *t = bind_host(L)->tasks->running;

    return t && t->co == L ? t : NULL;
}

uint64_t task_id(const struct task *t)
{
    return t->id;
}

const char *task_name(const struct task *t)
{
    return t->name;
}

void task_join_add(struct task *t, struct task_join *join)
{
    join->task = t;
    join->next = t->joins;
    t->joins = join;
}

void task_join_remove(struct task_join *join)
{
    struct task_join **p;

    if (!join->task)
        return;
    for (p = &join->task->joins; *p; p = &(*p)->next)
        if (*p == join) {
            *p = join->next;
            break;
        }
    join->task = NULL;
}

void task_set_main(struct host *host, struct task *t)
{
    host->tasks->main = t;
    host->tasks->main_ended = false;
}

bool task_main_ended(const struct host *host)
{
    return host->tasks->main_ended;
}

void task_cancel_all(struct host *host)
{
    for (struct task *t = host->tasks->all; t; t = t->next)
        cut(t, ERR_CANCELLED);
}

size_t task_count(const struct host *host)
{
    return host->tasks->count;
}

static int l_tasks_open(lua_State *L)
{
    static const luaL_Reg op_meta[] = { { "__close", l_op_leave }, { "__gc", l_op_leave }, { NULL, NULL } };
    static const luaL_Reg guard_meta[] = { { "__close", l_deadline_leave }, { NULL, NULL } };
    static const luaL_Reg none[] = { { NULL, NULL } };

    bind_class(L, OP_CLASS, none, op_meta);
    bind_class(L, DEADLINE_CLASS, none, guard_meta);
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &anchors_key);
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &handles_key);
    return 0;
}

bool tasks_open(struct host *host)
{
    struct task_set *set = calloc(1, sizeof *set);

    if (!set)
        return false;
    set->ready_tail = &set->ready;
    host->tasks = set;
    host->watchdog = watchdog_open(on_slice_over);
    if (!host->watchdog)
        return false;
    lua_pushcfunction(host->L, l_tasks_open);
    return lua_pcall(host->L, 0, 0, 0) == LUA_OK;
}

void tasks_close(struct host *host)
{
    struct task_set *set = host->tasks;

    if (!set)
        return;
    while (set->all) { /* did not end in time: closed without another slice */
        struct task *t = set->all;

        if (t->op)
            op_cut(t->op);
        t->queued = true;
        task_end(t, LUA_OK, 0);
    }
    watchdog_close(host->watchdog);
    host->watchdog = NULL;
    free(set);
    host->tasks = NULL;
}

void task_push_handles(lua_State *L)
{
    push_registry_table(L, &handles_key);
}
