/* table.concat, insert, move, remove, sort and unpack, within limits.
 *
 * The C library's loops follow whatever __len answers and whatever range they are given, so a table without
 * elements can hold the host for ever. These answer the same, refuse spans over SPAN_MAX with code
 * "too_large", and sort stably without asking the clock, so that a replayed run finds the same order. */
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <lauxlib.h>
#include "api.h"
#include "err_lua.h"
#include "text.h"

#define SPAN_MAX (1 << 20) /* elements that one function may visit */
#define SORT_MAX (1 << 18) /* ... and sort */

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
        check_span(L, at, end, SPAN_MAX, "table.insert");
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
    check_span(L, at, len, SPAN_MAX, "table.remove");
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
        check_span(L, from, last, SPAN_MAX, "table.move");
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
    check_span(L, from, last, SPAN_MAX, "table.concat");
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

/* ---- sort: a merge sort that can be set aside in the middle ---- */

enum { SORT_LIST = 1, SORT_LESS, SORT_COPY, SORT_STATE };
enum { SORT_READS, SORT_BEGINS, SORT_LOOKS, SORT_MERGES, SORT_WRITES };
enum { SORT_PULSE = 64 }; /* elements between two checks of the watchdog */

/* Where a sort stands: all of it, since C's own stack is gone when Lua goes on after a yield. */
struct sort {
    size_t n, at;                    /* elements, and which one is read or written */
    size_t width, from, middle, end; /* the runs [from, middle) and [middle, end) are being merged */
    size_t left, right, count;       /* the next of each, and how many `spare` holds of the left one */
    uint32_t *spare;                 /* behind `order` */
    unsigned moves;
    int phase;
    bool asked; /* a function was called, and its answer is on top of the stack */
    uint32_t order[];
};

static int sort_go(lua_State *L, int status, lua_KContext context);

/* Whether the element of the copy at index a comes before b; both numbers or both texts are compared here.
 * Otherwise a function is called, and the answer may come in another call of sort_go. */
static bool sort_less(lua_State *L, struct sort *s, uint32_t a, uint32_t b)
{
    bool less = false;
    int kind;

    lua_rawgeti(L, SORT_COPY, a);
    lua_rawgeti(L, SORT_COPY, b);
    kind = lua_type(L, -2);
    if (lua_isnil(L, SORT_LESS) && kind == lua_type(L, -1) && (kind == LUA_TNUMBER || kind == LUA_TSTRING)) {
        less = lua_compare(L, -2, -1, LUA_OPLT);
        lua_pop(L, 2);
        return less;
    }
    if (!lua_isnil(L, SORT_LESS))
        lua_pushvalue(L, SORT_LESS);
    else if (luaL_getmetafield(L, -2, "__lt") == LUA_TNIL && luaL_getmetafield(L, -1, "__lt") == LUA_TNIL)
        lua_compare(L, -2, -1, LUA_OPLT); /* raises, in Lua's own words */
    lua_insert(L, -3);
    s->asked = true;
    lua_callk(L, 2, 1, (lua_KContext)s, sort_go);
    s->asked = false;
    less = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return less;
}

/* The next two runs, if there are any left. */
static void sort_begin(struct sort *s)
{
    if (s->from + s->width >= s->n) {
        s->width *= 2;
        s->from = 0;
    }
    if (s->width >= s->n) {
        s->phase = SORT_WRITES;
        return;
    }
    s->middle = s->from + s->width;
    s->end = s->middle + s->width < s->n ? s->middle + s->width : s->n;
    s->phase = SORT_LOOKS;
}

/* Takes the answer: whether the right one comes before the left one. */
static void sort_step(struct sort *s, bool less)
{
    if (s->phase == SORT_LOOKS) {
        s->phase = less ? SORT_MERGES : SORT_BEGINS; /* else both runs are in order as they stand */
        s->left = 0;
        s->right = s->middle;
        s->at = s->from;
        s->count = s->middle - s->from;
        if (less)
            memcpy(s->spare, s->order + s->from, s->count * sizeof *s->spare);
    } else {
        s->order[s->at++] = less ? s->order[s->right++] : s->spare[s->left++];
        if (s->left < s->count && s->right < s->end)
            return;
        memcpy(s->order + s->at, s->spare + s->left, (s->count - s->left) * sizeof *s->order);
        s->phase = SORT_BEGINS;
    }
    if (s->phase == SORT_BEGINS)
        s->from = s->end;
}

/* Reads or writes the next element. */
static void sort_copy(lua_State *L, struct sort *s)
{
    lua_Integer i = (lua_Integer)s->at + 1;

    if (s->phase == SORT_READS) {
        s->order[s->at] = (uint32_t)i;
        lua_geti(L, SORT_LIST, i);
        lua_rawseti(L, SORT_COPY, i);
    } else {
        lua_rawgeti(L, SORT_COPY, s->order[s->at]);
        lua_seti(L, SORT_LIST, i);
    }
    s->at++;
}

static int sort_go(lua_State *L, int status, lua_KContext context)
{
    struct sort *s = (struct sort *)context;

    (void)status;
    if (s->asked) { /* set aside while the function ran */
        s->asked = false;
        sort_step(s, lua_toboolean(L, -1));
    }
    lua_settop(L, SORT_STATE);
    while (s->phase != SORT_WRITES || s->at < s->n) {
        if (++s->moves % SORT_PULSE == 0)
            text_pulse_k(L, context, sort_go);
        switch (s->phase) {
        case SORT_READS:
        case SORT_WRITES:
            sort_copy(L, s);
            if (s->phase == SORT_READS && s->at == s->n)
                s->phase = SORT_BEGINS;
            break;
        case SORT_BEGINS:
            sort_begin(s);
            s->at = 0;
            break;
        case SORT_LOOKS:
            sort_step(s, sort_less(L, s, s->order[s->middle], s->order[s->middle - 1]));
            break;
        default:
            sort_step(s, sort_less(L, s, s->order[s->right], s->spare[s->left]));
        }
    }
    return 0;
}

static int l_sort(lua_State *L)
{
    lua_Integer len = list_len(L, 1, READS | WRITES);
    struct sort *s;

    if (len < 2)
        return 0;
    if (!lua_isnoneornil(L, 2))
        luaL_checktype(L, 2, LUA_TFUNCTION);
    check_span(L, 1, len, SORT_MAX, "table.sort");
    lua_settop(L, SORT_LESS);
    lua_createtable(L, (int)len, 0);
    s = lua_newuserdatauv(L, sizeof *s + 2 * (size_t)len * sizeof *s->order, 0);
    memset(s, 0, sizeof *s);
    s->n = (size_t)len;
    s->width = 1;
    s->spare = s->order + s->n;
    return sort_go(L, LUA_OK, (lua_KContext)s);
}

static const luaL_Reg functions[] = {
    {"concat", l_concat}, {"insert", l_insert}, {"move", l_move}, {"remove", l_remove},
    {"sort", l_sort},     {"unpack", l_unpack}, {NULL, NULL},
};

void tables_register(lua_State *L)
{
    lua_getglobal(L, "table");
    luaL_setfuncs(L, functions, 0);
    lua_pop(L, 1);
}
