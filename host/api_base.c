/* setmetatable, print, coroutine.resume, wrap and close, so that the watchdog reaches all that a script runs.
 *
 * Its hook belongs to one coroutine: resuming another moves it there and back. A finaliser runs with hooks
 * off and at any time, so scripts may have none: what must be closed is closed by <close>. The coroutines of
 * this file are a script's own; tasks are task.c's. Neither resumes the other's: code that gets hold of a
 * task's coroutine would wake it out of a wait whose work still runs. */
#include <unistd.h>
#include <lauxlib.h>
#include "api.h"
#include "bind.h"
#include "host.h"
#include "task.h"
#include "watchdog.h"

static void watch(lua_State *L, lua_State *co)
{
    struct host *host = bind_host(L);

    if (host && host->watchdog)
        watchdog_run(host->watchdog, co);
}

/* The watchdog watches L again. What it found out about co applies to L now. */
static void watch_back(lua_State *L, lua_State *co)
{
    struct host *host = bind_host(L);
    bool found = lua_gethookmask(co) & LUA_MASKCOUNT;

    slice_rest(co);
    if (!host || !host->watchdog)
        return;
    if (found)
        watchdog_again(host->watchdog);
    watchdog_back(host->watchdog, L);
}

static lua_State *check_coroutine(lua_State *L)
{
    lua_State *co = lua_tothread(L, 1);

    luaL_argexpected(L, co, 1, "coroutine");
    return co;
}

/* Moves `nargs` values to co and runs it. Returns how many results it left on L, or -1 with
 * the error there. */
static int resume(lua_State *L, lua_State *co, int nargs)
{
    lua_Debug ar;
    int status, nresults;
    int own = lua_status(co) == LUA_OK && !lua_getstack(co, 0, &ar) && lua_gettop(co) == 2; /* it is new */

    if (!lua_checkstack(co, nargs)) {
        lua_pushliteral(L, "too many arguments to resume");
        return -1;
    }
    lua_xmove(L, co, nargs);
    watch(L, co);
    status = lua_resume(co, L, nargs + own, &nresults);
    watch_back(L, co);
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_xmove(co, L, 1);
        return -1;
    }
    if (!lua_checkstack(L, nresults + 1)) {
        lua_pop(co, nresults);
        lua_pushliteral(L, "too many results to resume");
        return -1;
    }
    lua_xmove(co, L, nresults);
    return nresults;
}

static int l_resume(lua_State *L)
{
    lua_State *co = check_coroutine(L);
    int nresults;

    if (co != L && task_owns(L, 1)) {
        lua_pushboolean(L, 0);
        lua_pushliteral(L, "cannot resume the coroutine of a task");
        return 2;
    }
    nresults = resume(L, co, lua_gettop(L) - 1);
    lua_pushboolean(L, nresults >= 0);
    lua_insert(L, nresults >= 0 ? -(nresults + 1) : -2);
    return nresults >= 0 ? nresults + 1 : 2;
}

/* Closes what a coroutine has open. True when that went well; otherwise the error is on top of L. */
static bool close_coroutine(lua_State *L, lua_State *co)
{
    int status;

    watch(L, co);
    status = lua_resetthread(co); /* its closers are scripts too */
    watch_back(L, co);
    if (status != LUA_OK)
        lua_xmove(co, L, 1);
    return status == LUA_OK;
}

/* The error of a wrapped coroutine is raised with the place that called it. */
static int raise_from(lua_State *L, lua_State *co)
{
    int status = lua_status(co);

    if (status != LUA_OK && status != LUA_YIELD) {
        lua_pop(L, 1);
        close_coroutine(L, co); /* leaves the error itself, or the one of a closer */
    }
    if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int l_wrapped(lua_State *L)
{
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    int nresults = resume(L, co, lua_gettop(L));

    return nresults >= 0 ? nresults : raise_from(L, co);
}

static int main_done(lua_State *L, int status, lua_KContext context)
{
    (void)context;
    if (status != LUA_OK && status != LUA_YIELD)
        return lua_error(L);
    return lua_gettop(L);
}

/* main(fn, ...): a coroutine's function inside of a protected call. Lua turns hooks off while one runs, and
 * only that turns them on again after an error that a hook raised: else pending closers would escape the
 * watchdog. */
static int l_main(lua_State *L)
{
    return main_done(L, lua_pcallk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, 0, main_done), 0);
}

static int l_create(lua_State *L)
{
    lua_State *co;

    luaL_checktype(L, 1, LUA_TFUNCTION);
    co = lua_newthread(L);
    lua_pushcfunction(co, l_main);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    return 1;
}

static int l_wrap(lua_State *L)
{
    l_create(L);
    lua_pushcclosure(L, l_wrapped, 1);
    return 1;
}

/* Whether co waits to be resumed, or is dead: then it may be closed. */
static bool is_idle(lua_State *L, lua_State *co)
{
    lua_Debug ar;

    if (co == L)
        return false;
    return lua_status(co) != LUA_OK || !lua_getstack(co, 0, &ar);
}

static int l_close(lua_State *L)
{
    lua_State *co = check_coroutine(L);

    if (co != L && task_owns(L, 1))
        return luaL_error(L, "cannot close the coroutine of a task: cancel the task");
    if (!is_idle(L, co))
        return luaL_error(L, "cannot close a %s coroutine", co == L ? "running" : "normal");
    if (close_coroutine(L, co)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

static int l_setmetatable(lua_State *L)
{
    int type = lua_type(L, 2);

    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table");
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
        return luaL_error(L, "cannot change a protected metatable");
    if (type == LUA_TTABLE) {
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL)
            return luaL_error(L,
                              "a script's table cannot have __gc: use __close and a variable marked <close>");
    }
    lua_settop(L, 2);
    lua_setmetatable(L, 1);
    return 1;
}

/* print(...): as Lua's, but what cannot be written is remembered. */
static int l_print(lua_State *L)
{
    int n = lua_gettop(L);
    luaL_Buffer line;
    size_t len;
    const char *text;

    for (int i = 1; i <= n; i++) {
        luaL_tolstring(L, i, NULL);
        lua_replace(L, i);
    }
    luaL_buffinit(L, &line);
    for (int i = 1; i <= n; i++) {
        if (i > 1)
            luaL_addchar(&line, '\t');
        lua_pushvalue(L, i);
        luaL_addvalue(&line);
    }
    luaL_addchar(&line, '\n');
    luaL_pushresult(&line);
    text = lua_tolstring(L, -1, &len);
    host_write(bind_host(L), STDOUT_FILENO, text, len);
    return 0;
}

static const luaL_Reg coroutine_functions[] = {
    {"close", l_close}, {"create", l_create}, {"resume", l_resume}, {"wrap", l_wrap}, {NULL, NULL}};

void base_register(lua_State *L)
{
    lua_pushcfunction(L, l_setmetatable);
    lua_setglobal(L, "setmetatable");
    lua_pushcfunction(L, l_print);
    lua_setglobal(L, "print");
    lua_getglobal(L, "coroutine");
    luaL_setfuncs(L, coroutine_functions, 0);
    lua_pop(L, 1);
}
