/* string.format without addresses, where they must not show, and the formats of string.format and string.pack
 * within a limit: the faces of Lua's own in every state.
 *
 * An address differs in every process, so a text that holds one is not the same when a run is gone through
 * again. What a value without a text of its own shows as is asked of the function that sys.steady was given;
 * it answers nil where addresses do no harm, and Lua's own function shows them. None of this waits. */
#include <stdbool.h>
#include <string.h>
#include <lauxlib.h>
#include "api.h"
#include "err_lua.h"
#include "text.h"

/* Lua's own functions read a format in one go; this much of it takes less than a millisecond. */
#define FORMAT_MAX ((size_t)64 * 1024)

static const char *check_format(lua_State *L, const char *op, size_t *len)
{
    const char *format = luaL_checklstring(L, 1, len);

    if (*len > FORMAT_MAX)
        err_throw(L, ERR_TOO_LARGE, op, NULL, "the format is over %zu bytes", FORMAT_MAX);
    return format;
}

/* Whether the format asks for an address: %p, with whatever stands between. Zeros are characters like others.
 */
static bool asks_address(const char *format, size_t len)
{
    const char *end = format + len;

    while ((format = memchr(format, '%', (size_t)(end - format))) != NULL) {
        format++;
        format += strspn(format, "-+ #0123456789."); /* ends at the zero behind the format */
        if (*format == 'p')
            return true;
        if (format < end)
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
    size_t len;
    const char *format = check_format(L, "string.format", &len);
    int top = lua_gettop(L);

    for (int i = 2; i <= top; i++)
        if (shows_address(lua_type(L, i)) && steady(L, i))
            lua_replace(L, i);
    if (asks_address(format, len) && steady(L, 0))
        return luaL_error(L, "%%p shows an address, which is another one after a restart");
    return original(L);
}

/* pack, unpack and packsize: Lua's own, which are the upvalue, with a format within the limit. */
static int l_packing(lua_State *L)
{
    size_t len;

    check_format(L, lua_tostring(L, lua_upvalueindex(2)), &len);
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

void format_register(lua_State *L)
{
    static const char *const packing[] = {"pack", "unpack", "packsize"};

    lua_getglobal(L, "string");
    lua_getfield(L, -1, "format");
    lua_pushcclosure(L, l_format, 1);
    lua_setfield(L, -2, "format");
    for (size_t i = 0; i < sizeof packing / sizeof *packing; i++) {
        lua_getfield(L, -1, packing[i]);
        lua_pushfstring(L, "string.%s", packing[i]);
        lua_pushcclosure(L, l_packing, 2);
        lua_setfield(L, -2, packing[i]);
    }
    lua_pop(L, 1);
}
