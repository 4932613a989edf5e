/* Lua's string library within limits, in every Lua state: find, match, gmatch and gsub over pattern.c; rep;
 * format, pack, unpack and packsize over Lua's own.
 *
 * They answer as those of Lua 5.4 do, with the same messages; what goes over a limit raises an error table
 * with code "budget" or "too_large". format shows no addresses where they must not show: an address differs
 * in every process, so a text that holds one is not the same when a run is gone through again. What a value
 * without a text of its own shows as is asked of the function that sys.steady was given; it answers nil where
 * addresses do no harm, and Lua's own function shows them. None of this waits. */
#include <stdio.h>
#include <string.h>
#include <lauxlib.h>
#include "api.h"
#include "err_lua.h"
#include "pattern.h"
#include "text.h"

enum { ROOM = 1024 }; /* bytes for a usual pattern; a longer one gets a userdata */

/* A pattern at work on one text. `room` is last: gmatch allocates more of it. */
struct matcher {
    struct pattern p;
    struct pattern_match m;
    max_align_t room[ROOM / sizeof(max_align_t)];
};

static const char pulse_key;

void text_pulse(lua_State *L)
{
    text_pulse_k(L, 0, NULL);
}

void text_pulse_k(lua_State *L, lua_KContext context, lua_KFunction k)
{
    if (!lua_gethookmask(L))
        return;
    luaL_checkstack(L, 4, NULL);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &pulse_key);
    lua_callk(L, 0, 0, context, k);
}

/* Prepares the matcher for the text at stack index `text` and the pattern at `text` + 1, which must stay
 * there. */
static void matcher_open(lua_State *L, struct matcher *x, int text, bool anchors)
{
    size_t len, need;
    const char *pattern;
    void *room = x->room; /* cppcheck-suppress ctuuninitvar ; it is filled below */

    x->m.text = luaL_checklstring(L, text, &x->m.len);
    pattern = luaL_checklstring(L, text + 1, &len);
    need = pattern_room(pattern, len);
    if (need > sizeof x->room)
        room = lua_newuserdatauv(L, need, 0);
    pattern_compile(&x->p, room, pattern, len, anchors);
}

static void matcher_budget(struct matcher *x)
{
    x->m.budget = TEXT_STEPS + (uint64_t)x->m.len * TEXT_STEPS_BYTE;
}

static int fault_raise(lua_State *L, enum pattern_fault fault, int arg, const char *op)
{
    if (fault == PATTERN_BUDGET)
        return err_throw(L, ERR_BUDGET, op, NULL, "%s", pattern_fault_text(fault));
    if (fault == PATTERN_BAD_INDEX)
        return luaL_error(L, "invalid capture index %%%d", arg);
    return luaL_error(L, "%s", pattern_fault_text(fault));
}

static bool matcher_search(lua_State *L, struct matcher *x, size_t at, size_t not_end, const char *op)
{
    bool found;

    text_pulse(L);
    found = pattern_search(&x->p, &x->m, at, not_end);
    if (x->m.fault)
        fault_raise(L, x->m.fault, x->m.fault_arg, op);
    return found;
}

/* The bytes of capture i, or of the whole match when the pattern has none and i is 0. True when it is a
 * position instead, then *len is the position. */
static bool capture_get(lua_State *L, const struct matcher *x, int i, const char **data, size_t *len)
{
    const struct pattern_match *m = &x->m;
    size_t from = m->start, to = m->end;

    if (i >= x->p.captures) {
        if (i != 0)
            fault_raise(L, PATTERN_BAD_INDEX, i + 1, NULL);
    } else if (x->p.marks >> i & 1) {
        *len = m->from[i] + 1;
        return true;
    } else if (x->p.open >> i & 1) {
        fault_raise(L, PATTERN_OPEN_CAPTURE, 0, NULL);
    } else {
        from = m->from[i];
        to = m->to[i];
    }
    *data = m->text + from;
    *len = to - from;
    return false;
}

static void capture_push(lua_State *L, const struct matcher *x, int i)
{
    const char *data;
    size_t len;

    if (capture_get(L, x, i, &data, &len))
        lua_pushinteger(L, (lua_Integer)len);
    else
        lua_pushlstring(L, data, len);
}

/* Pushes all captures; the whole match when there are none and `whole`. Returns how many. */
static int captures_push(lua_State *L, const struct matcher *x, bool whole)
{
    int count = x->p.captures == 0 && whole ? 1 : x->p.captures;

    luaL_checkstack(L, count, "too many captures");
    for (int i = 0; i < count; i++)
        capture_push(L, x, i);
    return count;
}

/* A starting position as scripts give it (1-based, negative from the end) as an offset; may lie behind the
 * end. */
static size_t start_offset(lua_State *L, int arg, size_t len)
{
    lua_Integer at = luaL_optinteger(L, arg, 1);

    if (at > 0)
        return (size_t)at - 1;
    if (at == 0 || at < -(lua_Integer)len)
        return 0;
    return len - (size_t)-at;
}

static bool is_plain(const char *pattern, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (pattern[i] && strchr("^$*+?.([%-", pattern[i]))
            return false;
    }
    return true;
}

static int find_plain(lua_State *L, const char *text, size_t len, size_t at)
{
    size_t wanted_len;
    const char *wanted = lua_tolstring(L, 2, &wanted_len), *found;

    found = memmem(text + at, len - at, wanted, wanted_len); /* linear in glibc */
    if (!found) {
        luaL_pushfail(L);
        return 1;
    }
    lua_pushinteger(L, found - text + 1);
    lua_pushinteger(L, found - text + (lua_Integer)wanted_len);
    return 2;
}

static int find_or_match(lua_State *L, bool find)
{
    struct matcher x;
    size_t len, pattern_len, at;
    const char *text = luaL_checklstring(L, 1, &len), *pattern = luaL_checklstring(L, 2, &pattern_len);

    at = start_offset(L, 3, len);
    if (at > len) {
        luaL_pushfail(L);
        return 1;
    }
    if (find && (lua_toboolean(L, 4) || is_plain(pattern, pattern_len)))
        return find_plain(L, text, len, at);
    matcher_open(L, &x, 1, true);
    matcher_budget(&x);
    if (!matcher_search(L, &x, at, SIZE_MAX, find ? "string.find" : "string.match")) {
        luaL_pushfail(L);
        return 1;
    }
    if (!find)
        return captures_push(L, &x, true);
    lua_pushinteger(L, (lua_Integer)x.m.start + 1);
    lua_pushinteger(L, (lua_Integer)x.m.end);
    return 2 + captures_push(L, &x, false);
}

static int l_find(lua_State *L)
{
    return find_or_match(L, true);
}

static int l_match(lua_State *L)
{
    return find_or_match(L, false);
}

/* What a gmatch iterator keeps in its upvalue; the text and the pattern are upvalues beside it. */
struct walk {
    size_t at, not_end;
    struct matcher x;
};

static int l_gmatch_next(lua_State *L)
{
    struct walk *w = lua_touserdata(L, lua_upvalueindex(1));

    matcher_budget(&w->x); /* between two steps Lua runs, so the budget is each step's own */
    if (w->at > w->x.m.len || !matcher_search(L, &w->x, w->at, w->not_end, "string.gmatch"))
        return 0;
    w->at = w->not_end = w->x.m.end;
    return captures_push(L, &w->x, true);
}

static int l_gmatch(lua_State *L)
{
    size_t text_len, len;
    const char *text = luaL_checklstring(L, 1, &text_len), *pattern = luaL_checklstring(L, 2, &len);
    size_t at = start_offset(L, 3, text_len), need = pattern_room(pattern, len);
    struct walk *w;

    lua_settop(L, 2);
    w = lua_newuserdatauv(L, sizeof *w + (need > sizeof w->x.room ? need - sizeof w->x.room : 0), 0);
    w->at = at > text_len ? text_len + 1 : at;
    w->not_end = SIZE_MAX;
    w->x.m.text = text;
    w->x.m.len = text_len;
    pattern_compile(&w->x.p, w->x.room, pattern, len, false);
    lua_insert(L, 1); /* walk, text, pattern */
    lua_pushcclosure(L, l_gmatch_next, 3);
    return 1;
}

static void result_add(lua_State *L, luaL_Buffer *out, const char *data, size_t len)
{
    if (len > TEXT_MAX - luaL_bufflen(out))
        err_throw(L, ERR_TOO_LARGE, "string.gsub", NULL, "the result is over %zu bytes", TEXT_MAX);
    luaL_addlstring(out, data, len);
}

static void result_add_capture(lua_State *L, luaL_Buffer *out, const struct matcher *x, int i)
{
    char digits[24];
    const char *data = digits;
    size_t len;

    if (capture_get(L, x, i, &data, &len)) {
        snprintf(digits, sizeof digits, "%zu", len);
        data = digits;
        len = strlen(digits);
    }
    result_add(L, out, data, len);
}

/* Adds the replacement string at stack index 3 with its %1 filled in. */
static void replace_by_text(lua_State *L, luaL_Buffer *out, struct matcher *x)
{
    size_t len, cost;
    const char *at = lua_tolstring(L, 3, &len), *end = at + len;

    cost = len / 8; /* "%1%1%1..." of an empty capture costs time and makes no bytes */
    if (cost >= x->m.budget)
        fault_raise(L, PATTERN_BUDGET, 0, "string.gsub");
    x->m.budget -= cost;
    while (at < end) {
        const char *escape = memchr(at, '%', (size_t)(end - at));

        result_add(L, out, at, (size_t)((escape ? escape : end) - at));
        if (!escape)
            return;
        at = escape + 1;
        if (at < end && *at == '%')
            result_add(L, out, "%", 1);
        else if (at < end && *at == '0')
            result_add(L, out, x->m.text + x->m.start, x->m.end - x->m.start);
        else if (at < end && *at >= '1' && *at <= '9')
            result_add_capture(L, out, x, *at - '1');
        else
            luaL_error(L, "invalid use of '%%' in replacement string");
        at++;
    }
}

/* Adds the answer of a table or a function, on top of the stack, and takes it away. False: keep what matched.
 */
static bool replace_by_value(lua_State *L, luaL_Buffer *out, const struct matcher *x)
{
    size_t len;
    const char *data;

    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        result_add(L, out, x->m.text + x->m.start, x->m.end - x->m.start);
        return false;
    }
    if (!lua_isstring(L, -1))
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    data = lua_tolstring(L, -1, &len);
    if (len > TEXT_MAX - luaL_bufflen(out))
        result_add(L, out, data, len); /* raises */
    luaL_addvalue(out);
    return true;
}

/* Where a gsub stands. A function may be set aside, and C's own stack is gone when Lua goes on after a yield,
 * so with a function this is a userdata; its buffer then lives on Lua's stack and in here. */
struct gsub {
    size_t copied, not_end;
    lua_Integer count, most;
    bool changed, asked; /* asked: a function was called, and its answer is on top of the stack */
    luaL_Buffer out;
    struct matcher x;
};

static int gsub_go(lua_State *L, int status, lua_KContext context);

/* Replaces what was found. With a function the answer may come in another call of gsub_go. */
static void gsub_replace(lua_State *L, struct gsub *g)
{
    switch (lua_type(L, 3)) {
    case LUA_TTABLE:
        capture_push(L, &g->x, 0);
        lua_gettable(L, 3);
        break;
    case LUA_TFUNCTION:
        lua_pushvalue(L, 3);
        g->asked = true;
        lua_callk(L, captures_push(L, &g->x, true), 1, (lua_KContext)g, gsub_go);
        g->asked = false;
        break;
    default:
        replace_by_text(L, &g->out, &g->x);
        g->changed = true;
        return;
    }
    g->changed = replace_by_value(L, &g->out, &g->x) || g->changed;
}

static int gsub_go(lua_State *L, int status, lua_KContext context)
{
    struct gsub *g = (struct gsub *)context;
    bool more = true;

    (void)status;
    if (g->asked) { /* set aside while the function ran */
        g->asked = false;
        g->changed = replace_by_value(L, &g->out, &g->x) || g->changed;
        g->copied = g->not_end = g->x.m.end;
        more = !g->x.p.anchored;
    }
    while (more && g->count < g->most && matcher_search(L, &g->x, g->copied, g->not_end, "string.gsub")) {
        g->count++;
        result_add(L, &g->out, g->x.m.text + g->copied, g->x.m.start - g->copied);
        gsub_replace(L, g);
        g->copied = g->not_end = g->x.m.end;
        more = !g->x.p.anchored;
    }
    if (g->changed) {
        result_add(L, &g->out, g->x.m.text + g->copied, g->x.m.len - g->copied);
        luaL_pushresult(&g->out);
    } else {
        lua_pushvalue(L, 1);
    }
    lua_pushinteger(L, g->count);
    return 2;
}

static int gsub_begin(lua_State *L, struct gsub *g, lua_Integer most)
{
    g->copied = 0;
    g->not_end = SIZE_MAX;
    g->count = 0;
    g->most = most;
    g->changed = g->asked = false;
    matcher_open(L, &g->x, 1, true);
    matcher_budget(&g->x);
    luaL_buffinit(L, &g->out);
    return gsub_go(L, LUA_OK, (lua_KContext)g);
}

static int l_gsub(lua_State *L)
{
    int type = lua_type(L, 3);
    lua_Integer most;

    luaL_checkstring(L, 1);
    luaL_checkstring(L, 2);
    luaL_argexpected(
        L, type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION || type == LUA_TTABLE, 3,
        "string/function/table");
    most = lua_isnoneornil(L, 4) ? LUA_MAXINTEGER : luaL_checkinteger(L, 4);
    lua_settop(L, 3);
    if (type != LUA_TFUNCTION) {
        struct gsub g;

        return gsub_begin(L, &g, most);
    }
    return gsub_begin(L, lua_newuserdatauv(L, sizeof(struct gsub), 0), most);
}

static int l_rep(lua_State *L)
{
    size_t len, sep_len, total, part;
    const char *text = luaL_checklstring(L, 1, &len);
    lua_Integer n = luaL_checkinteger(L, 2);
    const char *sep = luaL_optlstring(L, 3, "", &sep_len);
    luaL_Buffer out;
    char *to;

    if (n <= 0 || len + sep_len == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    if (len > TEXT_MAX || sep_len > TEXT_MAX || (lua_Unsigned)n > TEXT_MAX / (len + sep_len) + 1 ||
        len * (size_t)n + sep_len * (size_t)(n - 1) > TEXT_MAX)
        return err_throw(L, ERR_TOO_LARGE, "string.rep", NULL, "the result is over %zu bytes", TEXT_MAX);
    total = len * (size_t)n + sep_len * (size_t)(n - 1);
    to = luaL_buffinitsize(L, &out, total);
    memcpy(to, text, len);
    if (n > 1)
        memcpy(to + len, sep, sep_len);
    for (size_t done = n > 1 ? len + sep_len : len; done < total; done += part) { /* double what is there */
        part = done < total - done ? done : total - done;
        memcpy(to + done, to, part);
    }
    luaL_pushresultsize(&out, total);
    return 1;
}

/* ---- formats ---- */

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

static const char PULSE[] = "for _ = 1, 2 do end";

static const luaL_Reg functions[] = {
    {"find", l_find}, {"match", l_match}, {"gmatch", l_gmatch},
    {"gsub", l_gsub}, {"rep", l_rep},     {NULL, NULL},
};

void text_register(lua_State *L)
{
    static const char *const packing[] = {"pack", "unpack", "packsize"};

    lua_getglobal(L, "string");
    luaL_setfuncs(L, functions, 0);
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
    if (luaL_loadbufferx(L, PULSE, sizeof PULSE - 1, "=pulse", "t") != LUA_OK)
        lua_error(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &pulse_key);
    lua_pushliteral(L, "");
    if (lua_getmetatable(L, -1)) { /* shared by every script in the state: none may reach it */
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}
