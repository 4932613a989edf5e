/* The first call of every task, what it works on, and what its waiters get of what it raised.
 *
 * Lua turns hooks off while one runs, and only a protected call turns them on again after an error that a
 * hook raised. So what a task runs stands inside of one: its pending closers, too, are scripts that the
 * watchdog reaches. */
#include "task_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <lauxlib.h>
#include "asked.h"
#include "bind.h"
#include "host.h"

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

int task_main(lua_State *L)
{
    int nargs = lua_gettop(L) - 2;

    if (lua_isnil(L, 1)) {
        lua_pushcfunction(L, l_raised);
        lua_replace(L, 1);
    }
    return main_done(L, lua_pcallk(L, nargs, LUA_MULTRET, 1, 0, main_done), 0);
}

void task_failure_push(lua_State *L, struct task *t, int status)
{
    lua_State *co = t->co;
    enum err_code why = status == LUA_ERRMEM ? ERR_MEMORY : t->cut;

    if (why == ERR_MEMORY || why == ERR_BUDGET || t->stopped) {
        struct err e = {.code = why};

        snprintf(e.message, sizeof e.message, "%s", task_cut_text(why));
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
        asked_begin(copy);
    free(t->asked);
    t->asked = copy;
}
