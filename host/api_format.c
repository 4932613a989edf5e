/* string.format without addresses, where they must not show: the face of Lua's own in every state.
 *
 * An address differs in every process, so a text that holds one is not the same when a run is gone through
 * again. What a value without a text of its own shows as is asked of the function that sys.steady was given;
 * it answers nil where addresses do no harm, and Lua's own function shows them. None of this waits. */
#include <stdbool.h>
#include <string.h>
#include <lauxlib.h>
#include "api.h"
#include "text.h"

/* Whether the format asks for an address: %p, with whatever stands between. */
static bool asks_address(const char *format)
{
    while ((format = strchr(format, '%')) != NULL) {
        format++;
        format += strspn(format, "-+ #0123456789.");
        if (*format == 'p')
            return true;
        if (*format)
            format++;
    }
    return false;
}

static bool shows_address(int type)
{
    return type == LUA_TTABLE || type == LUA_TFUNCTION || type == LUA_TUSERDATA || type == LUA_TTHREAD ||
           type == LUA_TLIGHTUSERDATA;
}

/* Calls the function with the value at `index` (0: none) and pushes its answer; false: nil. */
static bool steady(lua_State *L, int index)
{
    luaL_checkstack(L, 3, NULL);
    if (lua_getfield(L, LUA_REGISTRYINDEX, FORMAT_STEADY) != LUA_TFUNCTION) {
        lua_pop(L, 1);
        return false;
    }
    if (index)
        lua_pushvalue(L, index);
    lua_call(L, index ? 1 : 0, 1);
    if (!lua_isnil(L, -1))
        return true;
    lua_pop(L, 1);
    return false;
}

static int l_format(lua_State *L)
{
    lua_CFunction original = lua_tocfunction(L, lua_upvalueindex(1));
    const char *format = luaL_checkstring(L, 1);
    int top = lua_gettop(L);

    for (int i = 2; i <= top; i++)
        if (shows_address(lua_type(L, i)) && steady(L, i))
            lua_replace(L, i);
    if (asks_address(format) && steady(L, 0))
        return luaL_error(L, "%%p shows an address, which is another one after a restart");
    return original(L);
}

void format_open(lua_State *L)
{
    lua_getglobal(L, "string");
    lua_getfield(L, -1, "format");
    lua_pushcclosure(L, l_format, 1);
    lua_setfield(L, -2, "format");
    lua_pop(L, 1);
}
