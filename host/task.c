/* Tasks: the life of a coroutine, and the only caller of lua_resume.
 *
 * A task's thread is anchored in a registry table; its struct lives from spawn to end. Code here
 * runs on the loop, outside of any protected call, so everything that may raise happens in a coroutine or
 * inside a protected function. */
#include "task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <lauxlib.h>
#include "crash_note.h"
#include "bind.h"
#include "host.h"
#include "task_private.h"
#include "uv_handle.h"
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

/* What was raised, as its waiters get it: our error table as it is, anything else as an internal error. */
static int l_raised(lua_State *L)
{
    lua_settop(L, 1);
    if (lua_istable(L, 1))
        return 1;
    luaL_tolstring(L, 1, NULL); /* no table, so that nothing of a script runs here */
    err_push(L, &(struct err){.code = ERR_INTERNAL}, "task", bind_host(L)->tasks->running->name);
    lua_insert(L, -2);
    lua_setfield(L, -2, "message");
    luaL_traceback(L, L, NULL, 1);
    lua_setfield(L, -2, "traceback");
    return 1;
}

static int main_done(lua_State *L, int status, lua_KContext context)
{
    (void)context;
    if (status != LUA_OK && status != LUA_YIELD) {
        bind_host(L)->tasks->running->failure = status;
        return 1;
    }
    return lua_gettop(L) - 1;
}

/* task_main(handler, fn, ...) stands below all that a task runs. Lua turns hooks off while one runs, and only
 * a protected call turns them on again after an error that a hook raised: inside of one the pending closers,
 * too, are scripts that the watchdog reaches. */
static int task_main(lua_State *L)
{
    int nargs = lua_gettop(L) - 2;

    if (lua_isnil(L, 1)) {
        lua_pushcfunction(L, l_raised);
        lua_replace(L, 1);
    }
    return main_done(L, lua_pcallk(L, nargs, LUA_MULTRET, 1, 0, main_done), 0);
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
        lua_rawgetp(L, LUA_REGISTRYINDEX, &handles_key);
        lua_pushvalue(L, handle);
        lua_rawseti(L, -2, (lua_Integer)id);
        lua_pop(L, 1);
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &threads_key);
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
    if (parent && parent->subtree_cancelled) {
        t->subtree_cancelled = true;
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
    slice_rest(co);
    loop_ready(t);
    return t;
}

struct task *task_spawn(lua_State *L, int nargs, const char *name, struct task *parent)
{
    lua_pushnil(L);
    lua_insert(L, -(nargs + 2));
    return task_spawn_limited(L, nargs, name, parent, NULL, 0);
}

/* ---- cut and cancelled ---- */

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

int task_raise_cut(lua_State *L, enum err_code why)
{
    struct err e = {.code = why};
    struct task *t = task_current(L);
    lua_Debug ar;

    if (t)
        slice_grace(t);
    snprintf(e.message, sizeof e.message, "%s", cut_text(why));
    err_push(L, &e, "task", NULL);
    if (bind_script_line(L, &ar)) {
        lua_pushfstring(L, "%s:%d", ar.short_src, ar.currentline);
        lua_setfield(L, -2, "where");
    }
    lua_error(L);
}

/* A cancel takes the place of a deadline, which may end only a part of what the task does. */
void task_cut(struct task *t, enum err_code why)
{
    if (t->ended || (t->cut && (t->cut != ERR_DEADLINE || why == ERR_DEADLINE)))
        return;
    t->cut = why;
    if (t->op)
        op_cut(t->op);
    if (t != t->host->tasks->running)
        loop_ready(t);
}

/* Where subtree_cancelled is set, all below was cancelled before: a chain that ends link by link is walked
 * once. */
void task_cancel(struct task *t)
{
    struct task *c = t;

    do {
        bool below = !c->subtree_cancelled && c->first_child;

        c->subtree_cancelled = true;
        task_cut(c, ERR_CANCELLED);
        if (below) {
            c = c->first_child;
            continue;
        }
        while (c != t && !c->next_sibling)
            c = c->parent;
        if (c != t)
            c = c->next_sibling;
    } while (c != t);
}

/* ---- the end of a task ---- */

/* What the waiters of a task that failed get: why it was cut by force, or what was raised. */
static void push_failure(lua_State *L, struct task *t, int status)
{
    lua_State *co = t->co;
    enum err_code why = status == LUA_ERRMEM ? ERR_MEMORY : t->cut;

    if (why == ERR_MEMORY || why == ERR_BUDGET || t->stopped) {
        struct err e = {.code = why};

        snprintf(e.message, sizeof e.message, "%s", cut_text(why));
        err_push(L, &e, "task", t->name);
        if (t->cut_at) {
            lua_pushstring(L, t->cut_at);
            lua_setfield(L, -2, "where");
        }
        return;
    }
    luaL_checkstack(co, 2, "failure");
    if (lua_istable(co, -1)) {
        lua_xmove(co, L, 1);
        return;
    }
    lua_xmove(co, L, 1); /* a text of Lua's own, for which it calls no handler */
    err_push(L, &(struct err){.code = ERR_INTERNAL}, "task", t->name); /* text err */
    lua_insert(L, -2);
    lua_setfield(L, -2, "message");
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
        return 0; /* cancelled before it began: the handle has no results */
    lua_rawgetp(L, LUA_REGISTRYINDEX, &handles_key);
    if (lua_rawgeti(L, -1, (lua_Integer)t->id) == LUA_TUSERDATA)
        handle = lua_touserdata(L, -1); /* handles handle */
    if (failed) {
        push_failure(L, t, status); /* ... err */
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

    lua_rawgetp(L, LUA_REGISTRYINDEX, &handles_key);
    if (lua_rawgeti(L, -1, (lua_Integer)t->id) == LUA_TUSERDATA) {
        struct task_handle *handle = lua_touserdata(L, -1);

        handle->task = NULL;
        handle->lost = lost;
    } else if (lost) {
        fprintf(stderr, "moontide: task %s ended, and there is not enough memory to say how\n", t->name);
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &threads_key);
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
    uv_handle_drop(t->timer);
    clock_unset(&t->host->clock, &t->moment);
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

void task_resume(struct task *t)
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
        loop_ready(t);
    else if (t->cut) {
        op_cut(t->op);
        loop_ready(t);
    }
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
    lua_rawgetp(L, LUA_REGISTRYINDEX, &threads_key);
    lua_insert(L, -2);
    owns = lua_rawget(L, -2) != LUA_TNIL;
    lua_pop(L, 2);
    return owns;
}

void task_asked(lua_State *L)
{
    struct task *t = task_current(L);
    size_t len = 0, piece;
    int n = lua_gettop(L);
    char *copy, *end;

    for (int i = 1; i == 1 || i <= n; i++) {
        if (lua_type(L, i) != LUA_TSTRING)
            bind_usage(L, "task.asked(words, ...)");
        len += lua_rawlen(L, i);
    }
    copy = end = malloc(len + 1);
    for (int i = 1; copy && i <= n; i++) {
        const char *words = lua_tolstring(L, i, &piece);

        memcpy(end, words, piece);
        end += piece;
    }
    if (copy)
        *end = '\0'; /* a NUL byte in a name ends it earlier */

    if (!t || !copy) {
        free(copy);
        luaL_error(L, t ? "not enough memory" : "only a task works on something");
    }
    if (t->payer == t)
        crash_note_begin(copy);
    free(t->asked);
    t->asked = copy;
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
    ops_register(L);
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
