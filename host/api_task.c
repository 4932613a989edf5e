/* core.task: tasks for scripts. Waiting: handle:join, and wait of a task.signal.
 *
 * A handle holds the task while it runs and its results afterwards (user value 1). */
#include <string.h>
#include "api.h"
#include "crash_note.h"
#include "bind.h"
#include "host.h"
#include "op.h"
#include "task.h"

#define SIGNAL_CLASS "moontide.signal"

/* ---- join ---- */

/* The results stand in the handle's user value. Stack on entry: 1 = handle. */
static int push_results(lua_State *L)
{
    struct task_handle *h = bind_self(L, 1, TASK_CLASS);
    int top;

    if (h->lost)
        return err_fail(L, ERR_MEMORY, "task.join", NULL, "not enough memory to keep how the task ended");
    if (!h->told)
        return err_fail(L, ERR_CANCELLED, "task.join", NULL, "the task was cancelled before it began");
    lua_getiuservalue(L, 1, 1);
    if (h->failed) {
        lua_pushnil(L);
        lua_rawgeti(L, -2, 1);
        return 2;
    }
    luaL_checkstack(L, h->results + 1, "too many results");
    top = lua_gettop(L);
    for (int i = 1; i <= h->results; i++)
        lua_rawgeti(L, top, i);
    return h->results;
}

static int join_finish(lua_State *L, struct op *op)
{
    if (op->timed_out)
        return err_fail(L, ERR_TIMEOUT, "task.join", NULL, "the task is still running");
    return push_results(L);
}

static int l_join(lua_State *L)
{
    struct task_handle *h = bind_self(L, 1, TASK_CLASS);
    bool timed = !lua_isnoneornil(L, 2);
    lua_Number timeout = luaL_optnumber(L, 2, 0);
    struct op *op;

    h->joined = true;
    if (!h->task)
        return push_results(L);
    if (h->task == task_current(L))
        return luaL_error(L, "a task cannot wait for itself");
    op = op_new(L, sizeof *op, NULL);
    task_join(h->task, op);
    if (timed)
        op_timeout(L, op, bind_millis(timeout));
    return op_wait(L, op, join_finish);
}

static int l_cancel(lua_State *L)
{
    struct task_handle *h = bind_self(L, 1, TASK_CLASS);

    if (h->task)
        task_cancel(h->task);
    return 0;
}

static int l_done(lua_State *L)
{
    lua_pushboolean(L, !((struct task_handle *)bind_self(L, 1, TASK_CLASS))->task);
    return 1;
}

static int l_id(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)((struct task_handle *)bind_self(L, 1, TASK_CLASS))->id);
    return 1;
}

static int l_close(lua_State *L)
{
    struct task_handle *h = luaL_testudata(L, 1, TASK_CLASS);

    if (h && h->task)
        task_cancel(h->task);
    return 0;
}

static int l_tostring(lua_State *L)
{
    struct task_handle *h = bind_self(L, 1, TASK_CLASS);

    lua_pushfstring(L, "task %I (%s)", (LUAI_UACINT)h->id, h->task ? task_name(h->task) : "ended");
    return 1;
}

/* ---- spawn ---- */

#define SPAWN_USAGE "task.spawn(fn, ...)"

struct spawn {
    const char *name;
    struct task_limits limits;
    uint64_t timeout;
    bool detached, handler;
};

static lua_Number spawn_number(lua_State *L, const char *name)
{
    lua_Number value = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : -1;

    return value >= 0 ? value : bind_opt_number(L, 1, name, 0);
}

/* One option; its value is on top of the stack, and bind.h says what is wrong with it. False: there is none
 * of that name. */
static bool spawn_option(lua_State *L, const char *name, struct spawn *s)
{
    if (strcmp(name, "name") == 0)
        s->name = bind_opt_text(L, 1, name, NULL);
    else if (strcmp(name, "cpu") == 0)
        s->limits.cpu_ms = bind_millis(spawn_number(L, name));
    else if (strcmp(name, "memory") == 0)
        s->limits.memory = (size_t)bind_opt_integer(L, 1, name, 0);
    else if (strcmp(name, "timeout") == 0)
        s->timeout = bind_millis(spawn_number(L, name));
    else if (strcmp(name, "detached") == 0)
        s->detached = bind_opt_bool(L, 1, name, false);
    else if (strcmp(name, "handler") != 0)
        return false;
    else if (lua_isfunction(L, -1))
        s->handler = true;
    else
        bind_error(L, "option 'handler' must be a function, not a %s", luaL_typename(L, -1));
    return true;
}

/* Leaves who handles what is raised on top of the stack, or nil. */
static void spawn_options(lua_State *L, struct spawn *s)
{
    static const char *const known[] = {"name", "detached", "cpu", "memory", "timeout", "handler", NULL};

    if (!lua_isnoneornil(L, 1) && !lua_istable(L, 1))
        bind_usage(L, SPAWN_USAGE);
    luaL_checkstack(L, 4, SPAWN_USAGE);
    if (lua_istable(L, 1)) {
        bind_plain(L, 1);
        lua_pushnil(L);
        while (lua_next(L, 1)) {
            if (lua_type(L, -2) == LUA_TSTRING && !spawn_option(L, lua_tostring(L, -2), s))
                bind_options(L, 1, SPAWN_USAGE, known); /* says which one it meant */
            lua_pop(L, 1);
        }
    }
    if (s->handler)
        bind_field(L, 1, "handler");
    else
        lua_pushnil(L);
}

/* spawn(options, fn, ...): a handle. */
static int l_spawn(lua_State *L)
{
    struct task *parent = task_current(L), *t;
    struct spawn s = {.name = "task"};
    struct task_handle *h;
    bool limited;

    spawn_options(L, &s);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    if (s.detached)
        parent = NULL;
    if (bind_host(L)->stopping)
        return luaL_error(L, "the host is stopping: no new tasks");
    lua_insert(L, 2);
    h = bind_new(L, sizeof *h, TASK_CLASS);
    lua_insert(L, 2); /* options handle handler fn args */
    limited = s.limits.cpu_ms || s.limits.memory;
    t = task_spawn_limited(L, lua_gettop(L) - 4, s.name, parent, limited ? &s.limits : NULL, 2);
    h->task = t; /* options handle */
    h->id = task_id(t);
    if (s.timeout && !task_deadline_set(t, s.timeout)) {
        task_cancel(t);
        return luaL_error(L, "not enough memory");
    }
    return 1;
}

static int l_deadline_done(lua_State *L, int status, lua_KContext base)
{
    (void)status;
    return lua_gettop(L) - (int)base;
}

/* deadline(seconds, fn, ...): the scope goes on top, then copies of fn and its arguments. */
static int l_deadline(lua_State *L)
{
    uint64_t millis = bind_millis(luaL_checknumber(L, 1));
    int top = lua_gettop(L), nargs = top - 2;

    luaL_checktype(L, 2, LUA_TFUNCTION);
    luaL_checkstack(L, top + 4, "too many arguments");
    task_deadline_enter(L, millis); /* seconds fn ... scope */
    for (int i = 2; i <= top; i++)
        lua_pushvalue(L, i);
    lua_callk(L, nargs, LUA_MULTRET, top + 1, l_deadline_done);
    return l_deadline_done(L, LUA_OK, top + 1);
}

static int l_current(lua_State *L)
{
    struct task *t = task_current(L);

    if (!t)
        return 0;
    lua_pushinteger(L, (lua_Integer)task_id(t));
    return 1;
}

static int l_count(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)task_count(bind_host(L)));
    return 1;
}

/* asked(words, ...): what this task works on, reported when it keeps the loop or ends the process.
 * The first line is for people. */
static int l_asked(lua_State *L)
{
    task_asked(L);
    return 0;
}

/* asked_file(path): where that is noted. */
static int l_asked_file(lua_State *L)
{
    const char *path = lua_isnoneornil(L, 1) ? NULL : bind_text(L, 1, "task.asked_file(path)");

    luaL_argcheck(L, crash_note_file(path), 1, "the path is too long");
    return 0;
}

/* on_unhandled(fn): called for a failed task that no other task joins. */
static int l_on_unhandled(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, "moontide.unhandled");
    return 0;
}

/* ---- task.signal: wait for a notification; one without a waiter is kept, once ---- */

struct task_signal {
    struct op *waiters;
    bool pending;
};

static int wait_finish(lua_State *L, struct op *op)
{
    lua_pushboolean(L, !op->timed_out);
    return 1;
}

static int l_wait(lua_State *L)
{
    struct task_signal *s = bind_self(L, 1, SIGNAL_CLASS);
    bool timed = !lua_isnoneornil(L, 2);
    lua_Number timeout = luaL_optnumber(L, 2, 0); /* what is left of a time may be less than nothing */
    struct op *op = op_new(L, sizeof *op, NULL);

    if (s->pending) {
        s->pending = false;
        op_done(op);
    } else {
        op_enter(op, &s->waiters);
        if (timed)
            op_timeout(L, op, bind_millis(timeout));
    }
    return op_wait(L, op, wait_finish);
}

static int l_notify(lua_State *L)
{
    struct task_signal *s = bind_self(L, 1, SIGNAL_CLASS);

    s->pending = !s->waiters;
    ops_done(&s->waiters);
    return 0;
}

static int l_signal(lua_State *L)
{
    bind_new(L, sizeof(struct task_signal), SIGNAL_CLASS);
    return 1;
}

int luaopen_core_task(lua_State *L)
{
    static const luaL_Reg task_methods[] = {
        {"join", l_join}, {"cancel", l_cancel}, {"done", l_done}, {"id", l_id}, {NULL, NULL},
    };
    static const luaL_Reg task_meta[] = {{"__close", l_close}, {"__tostring", l_tostring}, {NULL, NULL}};
    static const luaL_Reg signal_methods[] = {{"wait", l_wait}, {"notify", l_notify}, {NULL, NULL}};
    static const luaL_Reg signal_meta[] = {{NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"asked", l_asked},
        {"asked_file", l_asked_file},
        {"spawn", l_spawn},
        {"deadline", l_deadline},
        {"current", l_current},
        {"count", l_count},
        {"on_unhandled", l_on_unhandled},
        {"signal", l_signal},
        {NULL, NULL},
    };

    bind_class(L, TASK_CLASS, task_methods, task_meta);
    bind_class(L, SIGNAL_CLASS, signal_methods, signal_meta);
    luaL_newlib(L, functions);
    return 1;
}
