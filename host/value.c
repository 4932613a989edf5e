/* Plain values: the null sentinel, the list marker, the shape and key order of tables, UTF-8.
 *
 * Used by the JSON, YAML and SQLite rooms, which never include each other. */
#include "value.h"

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

static void push_array_meta(lua_State *L)
{
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
    luaL_checkstack(L, 3, "array");
    push_array_meta(L);
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

void value_path_print(const struct value_path *path, char *to, size_t size)
{
    size_t n = 0;

    snprintf(to, size, "%s", path->depth ? "" : "the value");
    for (unsigned i = 0; i < path->depth && n + 1 < size; i++) {
        const struct value_step *s = &path->steps[i];
        int len;

        if (s->key)
            len =
                snprintf(to + n, size - n, "%s%.*s", n ? "." : "", (int)(s->len < 40 ? s->len : 40), s->key);
        else
            len = snprintf(to + n, size - n, "[%lld]", (long long)s->index);
        if (len < 0)
            break;
        n += (size_t)len;
    }
    for (char *c = to; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
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

/* Length of the sequence at `s`, 0 when it is not valid; `left` is at least 1. */
static size_t utf8_sequence(const unsigned char *s, size_t left)
{
    unsigned char lead = s[0], low = 0x80, high = 0xBF;
    size_t len;

    if (lead < 0x80)
        return 1;
    if (lead < 0xC2 || lead > 0xF4)
        return 0;
    len = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (len > left)
        return 0;
    if (lead == 0xE0)
        low = 0xA0;
    else if (lead == 0xED)
        high = 0x9F;
    else if (lead == 0xF0)
        low = 0x90;
    else if (lead == 0xF4)
        high = 0x8F;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if (s[i] < 0x80 || s[i] > 0xBF)
            return 0;
    return len;
}

size_t value_utf8(const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t i = 0;

    while (i < len) {
        size_t step = utf8_sequence(s + i, len - i);

        if (!step)
            break;
        i += step;
    }
    return i;
}
