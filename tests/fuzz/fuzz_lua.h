/* A Lua state for fuzz targets of bindings: our allocator, a host that is empty but for it, the error class,
 * and one core table. Each input has its own, so that a leak is found with the input that made it. */
#ifndef MOONTIDE_FUZZ_LUA_H
#define MOONTIDE_FUZZ_LUA_H

#include <lauxlib.h>
#include "err_lua.h"
#include "fuzz.h"
#include "host.h"

static struct host fuzz_host;

/* Opens the state; its stack holds the core table at index 1 and nothing else. Close it with fuzz_close. */
static inline lua_State *fuzz_lua(lua_CFunction opener)
{
    lua_State *L = lua_newstate(alloc_lua, &fuzz_host.alloc);

    HOLDS(L);
    *(struct host **)lua_getextraspace(L) = &fuzz_host;
    err_register(L);
    lua_pushcfunction(L, opener);
    lua_call(L, 0, 1);
    return L;
}

/* Returns 0, for `return fuzz_close(L)`. */
static inline int fuzz_close(lua_State *L)
{
    lua_close(L);
    HOLDS(fuzz_host.alloc.used == 0);
    return 0;
}

/* Calls core.NAME with the `args` values on top of the stack; returns how many results there are. A
 * programmer's mistake would raise: none is made here, so only the end of memory may. */
static inline int fuzz_call(lua_State *L, const char *name, int args)
{
    int base = lua_gettop(L) - args;

    lua_getfield(L, 1, name);
    lua_insert(L, base + 1);
    if (lua_pcall(L, args, LUA_MULTRET, 0) != LUA_OK) {
        HOLDS(fuzz_host.alloc.limit != 0);
        lua_settop(L, base);
    }
    return lua_gettop(L) - base;
}

/* The code of the error on top of the stack, which has to be one of the closed list. */
static inline const char *fuzz_code(lua_State *L)
{
    HOLDS(lua_istable(L, -1));
    HOLDS(lua_getfield(L, -1, "code") == LUA_TSTRING);
    lua_pop(L, 1);
    HOLDS(lua_getfield(L, -1, "message") == LUA_TSTRING);
    lua_pop(L, 1);
    lua_getfield(L, -1, "code");
    return lua_tostring(L, -1); /* stays on the stack */
}

/* One input in 16 once more with little memory: errors and leaks only, no result is looked at. Rarely,
 * because Lua collects garbage at every refusal. */
static inline void fuzz_starve(lua_State *L, const char *name, const uint8_t *data, size_t size)
{
    size_t bytes = size ? (size_t)data[size / 2] * 16 : 0;

    if (size % 16)
        return;
    lua_pushlstring(L, (const char *)data, size);
    fuzz_host.alloc.limit = fuzz_host.alloc.used + bytes;
    fuzz_call(L, name, 1);
    fuzz_host.alloc.limit = 0;
    lua_settop(L, 1);
}

#endif
