/* table.concat, insert, move, remove, sort and unpack, within limits.
 *
 * The C library's loops follow whatever __len answers and whatever range they are given, so a table without
 * elements can hold the host for ever. These answer the same, refuse spans over TABLE_SPAN_MAX with code
 * "too_large", and sort stably without asking the clock, so that a replayed run finds the same order. */
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <lauxlib.h>
#include "api.h"
#include "err.h"
#include "text.h"

enum { READS = 1, WRITES = 2, COUNTS = 4 };

/* Accepts a table, or a value whose metatable makes it behave like one in the ways asked for. */
static void check_list(lua_State *L, int arg, int ways)
{
    static const char *const events[] = {"__index", "__newindex", "__len"};
    bool like = lua_type(L, arg) == LUA_TTABLE;

    if (!like && lua_getmetatable(L, arg)) {
        int fields = 0;

        like = true;
        for (int i = 0; i < 3; i++) {
            if (!(ways >> i & 1))
                continue;
            lua_pushstring(L, events[i]);
            like = lua_rawget(L, -2 - fields++) != LUA_TNIL && like;
        }
        lua_pop(L, 1 + fields);
    }
    if (!like)
        luaL_checktype(L, arg, LUA_TTABLE);
}

static lua_Integer list_len(lua_State *L, int arg, int ways)
{
    check_list(L, arg, ways | COUNTS);
    return luaL_len(L, arg);
}

/* Refuses to visit the elements `from` to `to` when they are too many. */
static void check_span(lua_State *L, lua_Integer from, lua_Integer to, lua_Integer most, const char *op)
{
    if (from <= to && (lua_Unsigned)to - (lua_Unsigned)from >= (lua_Unsigned)most)
        err_throw(L, ERR_TOO_LARGE, op, NULL, "more than %d elements", (int)most);
}

static void element_copy(lua_State *L, int from, lua_Integer i, int to, lua_Integer k)
{
    text_pulse(L);
    lua_geti(L, from, i);
    lua_seti(L, to, k);
}

static int l_insert(lua_State *L)
{
    lua_Integer end = (lua_Integer)((lua_Unsigned)list_len(L, 1, READS | WRITES) + 1), at = end;

    if (lua_gettop(L) == 3) {
        at = luaL_checkinteger(L, 2);
        luaL_argcheck(L, (lua_Unsigned)at - 1 < (lua_Unsigned)end, 2, "position out of bounds");
        check_span(L, at, end, TABLE_SPAN_MAX, "table.insert");
        for (lua_Integer i = end; i > at; i--)
            element_copy(L, 1, i - 1, 1, i);
    } else if (lua_gettop(L) != 2) {
        return luaL_error(L, "wrong number of arguments to 'insert'");
    }
    lua_seti(L, 1, at);
    return 0;
}

static int l_remove(lua_State *L)
{
    lua_Integer len = list_len(L, 1, READS | WRITES), at = luaL_optinteger(L, 2, len);

    if (at != len)
        luaL_argcheck(L, (lua_Unsigned)at - 1 <= (lua_Unsigned)len, 2, "position out of bounds");
    check_span(L, at, len, TABLE_SPAN_MAX, "table.remove");
    lua_geti(L, 1, at);
    for (; at < len; at++)
        element_copy(L, 1, at + 1, 1, at);
    lua_pushnil(L);
    lua_seti(L, 1, at);
    return 1;
}

static int l_move(lua_State *L)
{
    lua_Integer from = luaL_checkinteger(L, 2), last = luaL_checkinteger(L, 3), to = luaL_checkinteger(L, 4);
    int target = lua_isnoneornil(L, 5) ? 1 : 5;

    check_list(L, 1, READS);
    check_list(L, target, WRITES);
    if (from <= last) {
        lua_Integer steps;

        luaL_argcheck(L, from > 0 || last < LUA_MAXINTEGER + from, 3, "too many elements to move");
        check_span(L, from, last, TABLE_SPAN_MAX, "table.move");
        steps = last - from;
        luaL_argcheck(L, to <= LUA_MAXINTEGER - steps, 4, "destination wrap around");
        if (to > last || to <= from || (target != 1 && !lua_compare(L, 1, target, LUA_OPEQ))) {
            for (lua_Integer i = 0; i <= steps; i++)
                element_copy(L, 1, from + i, target, to + i);
        } else {
            for (lua_Integer i = steps; i >= 0; i--)
                element_copy(L, 1, from + i, target, to + i);
        }
    }
    lua_pushvalue(L, target);
    return 1;
}

/* Adds the value on top of the stack to the buffer below it. */
static void piece_add(lua_State *L, luaL_Buffer *out, size_t len)
{
    if (len > TEXT_MAX - luaL_bufflen(out))
        err_throw(L, ERR_TOO_LARGE, "table.concat", NULL, "the result is over %zu bytes", TEXT_MAX);
    luaL_addvalue(out);
}

static int l_concat(lua_State *L)
{
    luaL_Buffer out;
    size_t len;
    lua_Integer last = list_len(L, 1, READS), from;

    luaL_optstring(L, 2, "");
    from = luaL_optinteger(L, 3, 1);
    last = luaL_optinteger(L, 4, last);
    check_span(L, from, last, TABLE_SPAN_MAX, "table.concat");
    lua_settop(L, 2);
    luaL_buffinit(L, &out);
    for (lua_Unsigned i = 0; from <= last && i <= (lua_Unsigned)last - (lua_Unsigned)from; i++) {
        lua_Integer at = (lua_Integer)((lua_Unsigned)from + i);

        if (i > 0 && !lua_isnil(L, 2)) {
            lua_pushvalue(L, 2);
            piece_add(L, &out, (size_t)lua_rawlen(L, -1));
        }
        if (i % 1024 == 1023)
            text_pulse(L);
        lua_geti(L, 1, at);
        if (!lua_isstring(L, -1))
            return luaL_error(L, "invalid value (%s) at index %I in table for 'concat'", luaL_typename(L, -1),
                              (LUAI_UACINT)at);
        lua_tolstring(L, -1, &len);
        piece_add(L, &out, len);
    }
    luaL_pushresult(&out);
    return 1;
}

static int l_unpack(lua_State *L)
{
    lua_Integer from = luaL_optinteger(L, 2, 1);
    lua_Integer last = lua_isnoneornil(L, 3) ? luaL_len(L, 1) : luaL_checkinteger(L, 3);
    lua_Unsigned steps = (lua_Unsigned)last - (lua_Unsigned)from;

    if (from > last)
        return 0;
    if (steps >= (lua_Unsigned)INT_MAX || !lua_checkstack(L, (int)steps + 1))
        return luaL_error(L, "too many results to unpack");
    for (lua_Unsigned i = 0; i <= steps; i++)
        lua_geti(L, 1, (lua_Integer)((lua_Unsigned)from + i));
    return (int)steps + 1;
}

enum { SORT_LIST = 1, SORT_LESS, SORT_COPY };

/* Whether element a of the copy comes before element b. */
static bool sort_less(lua_State *L, uint32_t a, uint32_t b)
{
    bool less;

    text_pulse(L);
    if (lua_isnil(L, SORT_LESS)) {
        lua_rawgeti(L, SORT_COPY, a);
        lua_rawgeti(L, SORT_COPY, b);
        less = lua_compare(L, -2, -1, LUA_OPLT);
        lua_pop(L, 2);
        return less;
    }
    lua_pushvalue(L, SORT_LESS);
    lua_rawgeti(L, SORT_COPY, a);
    lua_rawgeti(L, SORT_COPY, b);
    lua_call(L, 2, 1);
    less = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return less;
}

/* Merges the ordered runs [from, middle) and [middle, end) of `order` by way of `spare`. */
static void sort_merge(lua_State *L, uint32_t *order, uint32_t *spare, size_t from, size_t middle, size_t end)
{
    size_t left = 0, right = middle, count = middle - from;

    if (!sort_less(L, order[middle], order[middle - 1]))
        return;
    memcpy(spare, order + from, count * sizeof *spare);
    while (left < count && right < end) {
        if (sort_less(L, order[right], spare[left]))
            order[from++] = order[right++];
        else
            order[from++] = spare[left++];
    }
    memcpy(order + from, spare + left, (count - left) * sizeof *order);
}

static int l_sort(lua_State *L)
{
    lua_Integer len = list_len(L, 1, READS | WRITES);
    uint32_t *order, *spare;
    size_t n;

    if (len < 2)
        return 0;
    if (!lua_isnoneornil(L, 2))
        luaL_checktype(L, 2, LUA_TFUNCTION);
    check_span(L, 1, len, TABLE_SORT_MAX, "table.sort");
    n = (size_t)len;
    lua_settop(L, SORT_LESS);
    lua_createtable(L, (int)n, 0);
    order = lua_newuserdatauv(L, 2 * n * sizeof *order, 0);
    spare = order + n;
    for (size_t i = 0; i < n; i++) {
        order[i] = (uint32_t)i + 1;
        lua_geti(L, SORT_LIST, (lua_Integer)i + 1);
        lua_rawseti(L, SORT_COPY, (lua_Integer)i + 1);
    }
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t from = 0; from + width < n; from += 2 * width)
            sort_merge(L, order, spare, from, from + width, from + 2 * width < n ? from + 2 * width : n);
    }
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, SORT_COPY, order[i]);
        lua_seti(L, SORT_LIST, (lua_Integer)i + 1);
    }
    return 0;
}

static const luaL_Reg functions[] = {
    {"concat", l_concat}, {"insert", l_insert}, {"move", l_move}, {"remove", l_remove},
    {"sort", l_sort},     {"unpack", l_unpack}, {NULL, NULL},
};

void tables_open(lua_State *L)
{
    lua_getglobal(L, "table");
    luaL_setfuncs(L, functions, 0);
    lua_pop(L, 1);
}
