/* Tasks: the life of a coroutine, and the only caller of lua_resume.
 *
 * A task's thread is anchored in a registry table; its struct lives from spawn to end. Code here
 * runs on the loop, outside of any protected call, so everything that may raise happens in a coroutine or
 * inside a protected function. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <lauxlib.h>
#include "bind.h"
#include "handle.h"
#include "host.h"
#include "task_inside.h"
#include "watchdog.h"

/* In the registry: thread -> true, id -> handle (weak). */
static const char threads_key, handles_key;

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

/* ---- spawn ---- */

static void push_registry_table(lua_State *L, const void *key)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, key);
}

struct task *task_spawn_limited(lua_State *L, int nargs, const char *name, struct task *parent,
                                const struct task_limits *limits, int handle)
{
    struct host *host = bind_host(L);
    struct task_set *set = host->tasks;
    struct task *t, *payer = slice_payer(L, parent);
    uint64_t id = ++set->last_id;
    lua_State *co;

    /* All that may raise comes before there is a task: one without its anchor or its handle would be worse
     * than none. A handle that is left in the table goes with the collector. */
    luaL_checkstack(L, 4, "spawn");
    co = lua_newthread(L); /* handler fn args thread */
    if (!lua_checkstack(co, nargs + LUA_MINSTACK))
        luaL_error(L, "too many arguments");
    if (handle) {
        push_registry_table(L, &handles_key);
        lua_pushvalue(L, handle);
        lua_rawseti(L, -2, (lua_Integer)id);
        lua_pop(L, 1);
    }
    push_registry_table(L, &threads_key);
    lua_pushvalue(L, -2);
    lua_pushboolean(L, true);
    lua_rawset(L, -3); /* handler fn args thread threads */
    t = calloc(1, sizeof *t);
    if (!t) {
        lua_pushvalue(L, -2);
        lua_pushnil(L);
        lua_rawset(L, -3);
        luaL_error(L, "not enough memory");
    }
    lua_pop(L, 2);
    t->id = id;
    t->host = host;
    t->co = co;
    adopt(parent, t);
    if (parent && parent->felled) {
        t->felled = true;
        t->cut = ERR_CANCELLED;
    }
    if (limits)
        t->limits = *limits;
    else if (parent)
        t->limits = parent->limits;
    slice_pay(t, payer ? payer : t);
    t->nargs = nargs + 2; /* handler and fn are main's */
    snprintf(t->name, sizeof t->name, "%s", name ? name : "task");
    t->next = set->all;
    if (set->all)
        set->all->prev = t;
    set->all = t;
    set->count++;
    lua_pushcfunction(co, task_main);
    lua_xmove(L, co, nargs + 2);
    lua_sethook(co, NULL, 0, 0);
    task_make_ready(t);
    return t;
}

struct task *task_spawn(lua_State *L, int nargs, const char *name, struct task *parent)
{
    lua_pushnil(L);
    lua_insert(L, -(nargs + 2));
    return task_spawn_limited(L, nargs, name, parent, NULL, 0);
}

/* ---- the end of a task ---- */

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
        task_failure_push(L, t, status); /* ... err */
        if (!handle && !t->joins && t->cut == ERR_NONE)
            unhandled(L, t, lua_gettop(L));
        n = 1;
    } else if (handle && n > 0) {
        lua_createtable(L, n, 0);
        luaL_checkstack(L, n + 2, "results");
        lua_xmove(t->co, L, n); /* handles handle table r1..rn */
        for (int i = n; i > 0; i--)
            lua_rawseti(L, -(i + 1), i);
    }
    if (handle) {
        if (failed) {
            lua_createtable(L, 1, 0);
            lua_insert(L, -2);
            lua_rawseti(L, -2, 1);
        }
        if (n > 0)
            lua_setiuservalue(L, 5, 1); /* 1 task 2 status 3 n 4 handles 5 handle 6 table */
        handle->results = n;
        handle->failed = failed;
        handle->told = true;
    }
    return 0;
}

/* Allocates nothing, so that a handle never points at a task that is gone. */
static int l_release(lua_State *L)
{
    struct task *t = lua_touserdata(L, 1);
    bool lost = lua_tointeger(L, 2) != 0;

    push_registry_table(L, &handles_key);
    if (lua_rawgeti(L, -1, (lua_Integer)t->id) == LUA_TUSERDATA) {
        struct task_handle *handle = lua_touserdata(L, -1);

        handle->task = NULL;
        handle->lost = lost;
    } else if (lost) {
        fprintf(stderr, "moontide: task %s ended, and there is not enough memory to say how\n", t->name);
    }
    push_registry_table(L, &threads_key);
    lua_settop(t->co, 0); /* with an error left on it, it would look like one that can be resumed */
    lua_pushthread(t->co);
    lua_xmove(t->co, L, 1);
    lua_pushnil(L);
    lua_rawset(L, -3);
    return 0;
}

/* False: there was not enough memory for it. */
static bool call_protected(lua_State *L, lua_CFunction f, struct task *t, int first, int second)
{
    int status;

    lua_pushcfunction(L, f);
    lua_pushlightuserdata(L, t);
    lua_pushinteger(L, first);
    lua_pushinteger(L, second);
    status = lua_pcall(L, 3, 0, 0);
    if (status != LUA_OK && status != LUA_ERRMEM) {
        const char *text = lua_tostring(L, -1);

        fprintf(stderr, "moontide: ending task %s: %s\n", t->name, text ? text : "error");
    }
    if (status != LUA_OK)
        lua_pop(L, 1);
    return status != LUA_ERRMEM;
}

static void task_end(struct task *t, int status, int n)
{
    struct host *host = t->host;
    struct task_set *set = host->tasks;
    lua_State *L = host->L;
    bool told;

    t->ended = true;
    slice_orphan(t);
    while (t->first_child) {
        struct task *c = t->first_child;

        task_cancel(c);
        leave_family(c);
    }
    leave_family(t);
    if (t == set->main) {
        set->main_ended = true;
        if (status == LUA_OK && n > 0)
            host->exit_code = (int)lua_tointeger(t->co, -n);
        else if (status != LUA_OK)
            host->exit_code = 70;
    }
    told = call_protected(L, l_end, t, status, n);
    slice_begin(t); /* a task that is ended where it waits has closers to run; they are scripts too */
    lua_resetthread(t->co);
    slice_end(t);
    ops_orphan(t);
    call_protected(L, l_release, t, !told, 0);
    ops_done(&t->joins);
    while (t->links)
        task_link(t->links, NULL);
    handle_drop(t->timer);
    if (t->prev)
        t->prev->next = t->next;
    else
        set->all = t->next;
    if (t->next)
        t->next->prev = t->prev;
    set->count--;
    if (t == set->main)
        set->main = NULL;
    free(t->asked);
    free(t->cut_at);
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
    if (status != LUA_YIELD || t->stopped) {
        if (status == LUA_OK && t->failure)
            status = t->failure;
        if (t->stopped || (status == LUA_OK && (t->cut == ERR_BUDGET || t->cut == ERR_MEMORY)))
            status = LUA_ERRRUN; /* it caught what cut it, and came to an end in the little time that it had
                                    left */
        task_end(t, status, status == LUA_OK ? nresults : 1);
        return;
    }
    lua_pop(t->co, nresults);
    /* No op: the hook gave the turn away, or the script yielded by itself. Cut or done meanwhile:
     * go on too. */
    if (!t->op || t->op->done)
        task_make_ready(t);
    else if (t->cut) {
        op_cut(t->op);
        task_make_ready(t);
    }
}

bool task_run_ready(struct host *host)
{
    struct task_set *set = host->tasks;
    struct task *last, *t;

    /* Only those that were ready when we began: what they wake runs after the loop's next turn. */
    if (!set->ready)
        return false;
    slice_turn(set);
    collector_turn(&host->collector);
    last = set->ready;
    while (last->next_ready)
        last = last->next_ready;
    do {
        bool final;

        t = task_ready_take(set);
        final = t == last;
        if (slice_had_turn(set, t))
            task_ready_keep(set, t); /* others of its script had it */
        else
            task_resume(t);
        if (final)
            break;
    } while (set->ready);
    task_ready_return(set);
    return set->ready != NULL;
}

/* ---- the rest of the contract ---- */

struct task *task_current(lua_State *L)
{
    struct task *t = bind_host(L)->tasks->running;

    return t && t->co == L && !t->ended ? t : NULL;
}

uint64_t task_id(const struct task *t)
{
    return t->id;
}

const char *task_name(const struct task *t)
{
    return t->name;
}

bool task_owns(lua_State *L, int index)
{
    bool owns;

    if (lua_tothread(L, index) == bind_host(L)->L)
        return true;
    lua_pushvalue(L, index);
    push_registry_table(L, &threads_key);
    lua_insert(L, -2);
    owns = lua_rawget(L, -2) != LUA_TNIL;
    lua_pop(L, 2);
    return owns;
}

void task_link(struct task_link *l, struct task *t)
{
    if (l->task) {
        *l->link = l->next;
        if (l->next)
            l->next->link = l->link;
    }
    l->task = t;
    if (!t)
        return;
    l->link = &t->links;
    l->next = t->links;
    if (l->next)
        l->next->link = &l->next;
    t->links = l;
}

void task_join(struct task *t, struct op *op)
{
    op_enter(op, &t->joins);
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
        task_cut(t, ERR_CANCELLED);
}

size_t task_count(const struct host *host)
{
    return host->tasks->count;
}

static int l_tasks_open(lua_State *L)
{
    ops_open(L);
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &threads_key);
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
    task_ready_open(set);
    host->tasks = set;
    host->alloc.over = slice_exhausted;
    host->alloc.over_arg = host;
    host->watchdog = watchdog_open(slice_over);
    if (!host->watchdog)
        return false;
    lua_pushcfunction(host->L, l_tasks_open);
    return lua_pcall(host->L, 0, 0, 0) == LUA_OK;
}

void tasks_close(struct host *host)
{
    struct task_set *set = host->tasks;
    struct task *t;

    if (!set)
        return;
    while ((t = set->all)) { /* did not end in time: closed without another slice */
        /* The analyser cannot know that t->host is this host: task_end takes t off this very list. */
        if (t->op) /* NOLINT(clang-analyzer-unix.Malloc) */
            op_cut(t->op);
        t->queued = true;
        task_end(t, LUA_OK, 0);
    }
    watchdog_close(host->watchdog);
    host->watchdog = NULL;
    free(set);
    host->tasks = NULL;
}
