/* Plain values in Lua: the null sentinel, the list marker, the shape and key order of tables.
 *
 * Used by the bindings of JSON, YAML and SQLite, which never include each other. */
#include "value_lua.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <lauxlib.h>
#include "bind.h"

/* Their addresses are the registry keys. */
static const char null_key, array_key;

static int l_null_tostring(lua_State *L)
{
    lua_pushliteral(L, "null");
    return 1;
}

void value_push_null(lua_State *L)
{
    luaL_checkstack(L, 4, "null");
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &null_key) != LUA_TNIL)
        return;
    lua_pop(L, 1);
    lua_newuserdatauv(L, 0, 0);
    lua_createtable(L, 0, 3); /* null, metatable */
    lua_pushcfunction(L, l_null_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "null");
    lua_setfield(L, -2, "__name");
    lua_pushliteral(L, "null");
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &null_key);
}

bool value_is_null(lua_State *L, int index)
{
    void *self = lua_touserdata(L, index);
    bool same;

    if (!self)
        return false;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &null_key);
    same = lua_touserdata(L, -1) == self;
    lua_pop(L, 1);
    return same;
}

void value_push_mark(lua_State *L)
{
    luaL_checkstack(L, 3, "array");
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &array_key) != LUA_TNIL)
        return;
    lua_pop(L, 1);
    lua_createtable(L, 0, 2);
    lua_pushliteral(L, "array");
    lua_setfield(L, -2, "__name");
    lua_pushliteral(L, "array");
    lua_setfield(L, -2, "__metatable");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &array_key);
}

void value_mark_array(lua_State *L, int index)
{
    index = lua_absindex(L, index);
    value_push_mark(L);
    lua_setmetatable(L, index);
}

bool value_is_array(lua_State *L, int index)
{
    bool same;

    if (!lua_istable(L, index) || !lua_getmetatable(L, index))
        return false;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &array_key);
    same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

enum value_shape value_shape(lua_State *L, int index, size_t *count)
{
    size_t strings = 0, integers = 0;
    lua_Integer highest = 0;

    *count = 0;
    index = lua_absindex(L, index);
    luaL_checkstack(L, 4, "value");
    if (!value_is_array(L, index))
        bind_plain(L, index); /* a weak table would let go of keys while they are written */
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            strings++;
        } else if (lua_isinteger(L, -1)) {
            lua_Integer key = lua_tointeger(L, -1);

            if (key < 1)
                highest = LUA_MAXINTEGER;
            else if (key > highest)
                highest = key;
            integers++;
        } else {
            lua_pop(L, 1);
            return VALUE_BAD_KEY;
        }
    }
    *count = strings + integers;
    if (strings && integers)
        return VALUE_MIXED;
    if (strings)
        return value_is_array(L, index) ? VALUE_MIXED : VALUE_OBJECT;
    if (integers)
        return (lua_Unsigned)highest == integers ? VALUE_ARRAY : VALUE_HOLES;
    return value_is_array(L, index) ? VALUE_ARRAY : VALUE_OBJECT;
}

const char *value_shape_fault(enum value_shape shape)
{
    switch (shape) {
    case VALUE_MIXED:
        return "is a list with named fields";
    case VALUE_HOLES:
        return "is a list with holes";
    case VALUE_BAD_KEY:
        return "has a key that is neither a string nor an index";
    default:
        return NULL;
    }
}

static int key_order(const void *left, const void *right)
{
    const struct value_key *a = left, *b = right;
    int order = memcmp(a->text, b->text, a->len < b->len ? a->len : b->len);

    return order ? order : (a->len > b->len) - (a->len < b->len);
}

const struct value_key *value_keys(lua_State *L, int index, size_t count)
{
    struct value_key *keys;
    size_t n = 0;

    index = lua_absindex(L, index);
    luaL_checkstack(L, 4, "value");
    keys = lua_newuserdatauv(L, count * sizeof *keys, 0);
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        keys[n].text = lua_tolstring(L, -1, &keys[n].len);
        n++;
    }
    if (n > 1)
        qsort(keys, n, sizeof *keys, key_order);
    return keys;
}

size_t value_number(lua_State *L, int index, char text[VALUE_NUMBER_SIZE])
{
    lua_Number value = lua_tonumber(L, index);
    int whole = 0, len = 0;
    lua_Integer integer = lua_tointegerx(L, index, &whole);

    if (whole)
        return (size_t)snprintf(text, VALUE_NUMBER_SIZE, "%lld", (long long)integer);
    if (!isfinite(value))
        return 0;
    for (int precision = 15; precision <= 17; precision++) {
        len = snprintf(text, VALUE_NUMBER_SIZE, "%.*g", precision, value);
        if (strtod(text, NULL) == value)
            break;
    }
    return (size_t)len;
}
