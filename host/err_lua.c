/* Failures as Lua sees them: the one place where the error table is built. */
#include "err_lua.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#define ERROR_CLASS "moontide.error"

void err_push(lua_State *L, const struct err *e, const char *op, const char *target)
{
    luaL_checkstack(L, 3, "error");
    lua_createtable(L, 0, 4);
    lua_pushstring(L, err_name(e->code));
    lua_setfield(L, -2, "code");
    lua_pushstring(L, op);
    lua_setfield(L, -2, "op");
    if (target) {
        lua_pushstring(L, target);
        lua_setfield(L, -2, "target");
    }
    lua_pushstring(L, e->message);
    lua_setfield(L, -2, "message");
    luaL_setmetatable(L, ERROR_CLASS);
}

int err_return(lua_State *L, const struct err *e, const char *op, const char *target)
{
    lua_pushnil(L);
    err_push(L, e, op, target);
    return 2;
}

int err_raise(lua_State *L, const struct err *e, const char *op, const char *target)
{
    err_push(L, e, op, target);
    lua_error(L);
}

int err_fail(lua_State *L, enum err_code code, const char *op, const char *target, const char *fmt, ...)
{
    struct err e = {.code = code};
    va_list args;

    va_start(args, fmt);
    vsnprintf(e.message, sizeof e.message, fmt, args);
    va_end(args);
    return err_return(L, &e, op, target);
}

int err_throw(lua_State *L, enum err_code code, const char *op, const char *target, const char *fmt, ...)
{
    struct err e = {.code = code};
    va_list args;

    va_start(args, fmt);
    vsnprintf(e.message, sizeof e.message, fmt, args);
    va_end(args);
    err_raise(L, &e, op, target);
}

/* "http.get https://x/: timeout: no answer within 30 s", then one line per cause. Uses raw access only, so it
 * cannot be made to run a script. */
static int l_tostring(lua_State *L)
{
    luaL_Buffer b;
    const char *parts[] = {"op", "target", "code", "message"};
    bool started = false;

    lua_settop(L, 1);
    luaL_checktype(L, 1, LUA_TTABLE);
    for (int i = 0; i < 4; i++) {
        lua_pushstring(L, parts[i]);
        if (lua_rawget(L, 1) != LUA_TSTRING) {
            lua_pop(L, 1);
            lua_pushliteral(L, "");
        }
    }
    /* stack: error op target code message */
    luaL_buffinit(L, &b);
    for (int i = 0; i < 4; i++) {
        size_t len;
        const char *text = lua_tolstring(L, 2 + i, &len);

        if (!len)
            continue;
        if (started)
            luaL_addstring(&b, i == 1 ? " " : ": ");
        luaL_addlstring(&b, text, len);
        started = true;
    }
    luaL_pushresult(&b);
    return 1;
}

static int l_concat(lua_State *L)
{
    luaL_tolstring(L, 1, NULL);
    luaL_tolstring(L, 2, NULL);
    lua_concat(L, 2);
    return 1;
}

void err_register(lua_State *L)
{
    static const luaL_Reg metamethods[] = {
        {"__tostring", l_tostring},
        {"__concat", l_concat},
        {NULL, NULL},
    };

    luaL_newmetatable(L, ERROR_CLASS);
    luaL_setfuncs(L, metamethods, 0);
    lua_pushliteral(L, "error");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
