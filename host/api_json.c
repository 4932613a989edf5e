/* core.json: strict JSON over lua-cjson 2.1.0, and our own writer. Nothing here waits.
 *
 * Reading takes three linear steps: json_scan checks the text and marks what cjson would lose, a private
 * cjson instance builds the tables, and a walk over them puts integers, nulls and lists right. cjson ends the
 * process when malloc fails and leaks when Lua raises inside it, so what it needs is set aside before it
 * starts. */
#include <stdlib.h>
#include <string.h>
#include <lauxlib.h>
#include "api.h"
#include "alloc.h"
#include "bind.h"
#include "err_lua.h"
#include "fault.h"
#include "host.h"
#include "json_scan.h"
#include "json_write.h"
#include "value_lua.h"

#define SCAN_CLASS   "moontide.json_scan"
#define TEXT_CLASS   "moontide.json_text"
#define DECODE_MAX   (8 << 20)
#define ENCODE_MAX   (16 << 20)
#define SPARE        1024 /* for the stack, which grows with the nesting */
#define DECODE_USAGE "json.decode(text [, {null_as_nil, max}])"
#define ENCODE_USAGE "json.encode(value [, {pretty, clean, max}])"

int luaopen_cjson(lua_State *L);

struct shape {
    bool null_as_nil;
    size_t members;
};

/* Replaces the value on top of the stack by what it stands for. Lists and objects are changed in place. The
 * nesting is bounded by the scan. */
static void restore(lua_State *L, struct shape *shape);

static void restore_list(lua_State *L, int list, struct shape *shape)
{
    value_mark_array(L, list);
    for (lua_Integer i = 1; lua_rawgeti(L, list, i) != LUA_TNIL; i++) {
        size_t len;
        const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;

        if (text && len == 1 && *text == JSON_MARK) { /* the mark of an empty list */
            lua_pop(L, 1);
            lua_pushnil(L);
        } else {
            restore(L, shape);
        }
        lua_rawseti(L, list, i);
    }
    lua_pop(L, 1);
}

static void restore_object(lua_State *L, int object, struct shape *shape)
{
    lua_pushnil(L);
    while (lua_next(L, object)) {
        shape->members++;
        lua_pushvalue(L, -2); /* key, value, key */
        lua_insert(L, -2);    /* key, key, value */
        restore(L, shape);
        lua_rawset(L, object);
    }
}

static void restore(lua_State *L, struct shape *shape)
{
    size_t len;
    const char *text;
    int top, whole;
    lua_Integer integer;

    luaL_checkstack(L, 8, "json");
    switch (lua_type(L, -1)) {
    case LUA_TNUMBER:
        integer = lua_tointegerx(L, -1, &whole);
        if (!whole)
            return;
        lua_pushinteger(L, integer);
        break;
    case LUA_TSTRING:
        text = lua_tolstring(L, -1, &len);
        if (*text != JSON_MARK)
            return;
        if (text[1] == JSON_MARK_FLOAT)
            lua_pushnumber(L, strtod(text + 2, NULL));
        else
            lua_pushinteger(L, strtoll(text + 1, NULL, 10));
        break;
    case LUA_TLIGHTUSERDATA: /* cjson's null */
        if (shape->null_as_nil)
            lua_pushnil(L);
        else
            value_push_null(L);
        break;
    case LUA_TTABLE:
        top = lua_gettop(L);
        if (lua_rawgeti(L, top, 1) != LUA_TNIL) {
            lua_pop(L, 1);
            restore_list(L, top, shape);
        } else {
            lua_pop(L, 1);
            restore_object(L, top, shape);
        }
        return;
    default:
        return;
    }
    lua_replace(L, -2);
}

/* nil and the error with its place, counted from 1: byte, line and column (in bytes, as libyaml and
 * compilers). */
static int fail_at(lua_State *L, const struct err *e, const char *text, size_t offset)
{
    lua_Integer line = 1;
    size_t start = 0;

    for (size_t i = 0; i + 1 < offset; i++)
        if (text[i] == '\n') {
            line++;
            start = i + 1;
        }
    err_return(L, e, "json.decode", NULL);
    lua_pushinteger(L, (lua_Integer)offset);
    lua_setfield(L, -2, "offset");
    lua_pushinteger(L, line);
    lua_setfield(L, -2, "line");
    lua_pushinteger(L, (lua_Integer)(offset - start));
    lua_setfield(L, -2, "column");
    return 2;
}

/* Calls cjson's decode on the string on top of the stack, with the script's memory limit lifted. */
static int build(lua_State *L)
{
    struct alloc *alloc = &bind_host(L)->alloc;
    size_t limit = alloc->limit;
    int status;

    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, -2);
    alloc->limit = 0;
    fault_pause(true);
    status = lua_pcall(L, 1, 1, 0);
    fault_pause(false);
    alloc->limit = limit;
    return status;
}

/* Pushes the key whose token (with its quotes) is given. */
static void push_key(lua_State *L, const char *token, size_t len)
{
    if (!memchr(token, '\\', len)) {
        lua_pushlstring(L, token + 1, len - 2);
        return;
    }
    lua_pushliteral(L, "[");
    lua_pushlstring(L, token, len);
    lua_pushliteral(L, "]");
    lua_concat(L, 3);
    if (build(L) != LUA_OK)
        lua_error(L);
    lua_rawgeti(L, -1, 1);
    lua_replace(L, -2);
}

static size_t string_token(const char *s)
{
    const char *start = s++;

    while (*s != '"')
        s += *s == '\\' ? 2 : 1;
    return (size_t)(s + 1 - start);
}

/* Tells where a key of the valid `text` comes a second time in its object. Only reached after the count of
 * members said that there is one. The sets of keys seen lie on the Lua stack, one a level. */
static int fail_duplicate(lua_State *L, const char *text, size_t len)
{
    struct err e = {.code = ERR_INVALID, .message = "duplicate key"};
    bool object[VALUE_DEPTH + 1] = {false}, want_key = false;
    int base = lua_gettop(L), depth = 0;

    luaL_checkstack(L, VALUE_DEPTH + 8, "json");
    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (c == '{' || c == '[') {
            want_key = object[++depth] = c == '{';
            lua_newtable(L);
        } else if (c == '}' || c == ']') {
            lua_settop(L, base + --depth);
            want_key = false;
        } else if (c == ',') {
            want_key = object[depth];
        } else if (c == '"') {
            size_t token = string_token(text + i);

            if (want_key) {
                push_key(L, text + i, token);
                lua_pushvalue(L, -1);
                if (lua_rawget(L, base + depth) != LUA_TNIL) {
                    err_set(&e, ERR_INVALID, "duplicate key at byte %zu", i + 1);
                    return fail_at(L, &e, text, i + 1);
                }
                lua_pop(L, 1);
                lua_pushboolean(L, 1);
                lua_rawset(L, base + depth);
            }
            want_key = false;
            i += token - 1;
        }
    }
    return fail_at(L, &e, text, 1);
}

/* True when cjson will find the memory it needs: its own buffer of the text's length, and what Lua takes for
 * the value under the limit of the script. The third try follows the second at once, which tells our
 * allocator that a limited script is at its end. */
static bool reserve(lua_State *L, const struct json_scan *scan, size_t len)
{
    size_t need = scan->need + scan->growth + SPARE;
    void *ud, *buffer = malloc(len + 1), *value = NULL;
    lua_Alloc alloc = lua_getallocf(L, &ud);

    for (int try = 1; buffer && try <= 3 && !value; try++) {
        if (try == 2)
            lua_gc(L, LUA_GCCOLLECT);
        value = alloc(ud, NULL, 0, need);
    }
    if (value)
        alloc(ud, value, need, 0);
    free(buffer);
    return value != NULL;
}

static int l_decode(lua_State *L)
{
    static const char *const known[] = {"null_as_nil", "max", NULL};
    struct shape shape = {false, 0};
    struct json_scan *scan;
    struct err e;
    const char *text;
    size_t len, members;
    lua_Integer max;

    if (lua_type(L, 1) != LUA_TSTRING)
        return bind_usage(L, DECODE_USAGE);
    bind_options(L, 2, DECODE_USAGE, known);
    max = bind_opt_integer(L, 2, "max", DECODE_MAX);
    if (max < 0)
        return bind_usage(L, DECODE_USAGE);
    shape.null_as_nil = bind_opt_bool(L, 2, "null_as_nil", false);
    text = lua_tolstring(L, 1, &len);
    if (len > (lua_Unsigned)max)
        return err_fail(L, ERR_TOO_LARGE, "json.decode", NULL, "the text has %zu bytes, more than %lld", len,
                        (long long)max);

    lua_settop(L, 2);
    scan = bind_new(L, sizeof *scan, SCAN_CLASS); /* text, options, scan */
    lua_toclose(L, 3);
    if (!json_scan(scan, text, len, &e))
        return fail_at(L, &e, text, scan->offset);
    if (scan->out.data)
        lua_pushlstring(L, scan->out.data, scan->out.len);
    else
        lua_pushvalue(L, 1);
    if (!reserve(L, scan, scan->out.data ? scan->out.len : len))
        return err_throw(L, ERR_MEMORY, "json.decode", NULL, "no memory for a text of %zu bytes", len);
    buf_free(&scan->out);
    switch (build(L)) { /* text, options, scan, value */
    case LUA_OK:
        break;
    case LUA_ERRMEM:
        return lua_error(L);
    default:
        return err_fail(L, ERR_INTERNAL, "json.decode", NULL, "%s", luaL_tolstring(L, -1, NULL));
    }
    members = scan->members;
    restore(L, &shape);
    if (shape.members != members)
        return fail_duplicate(L, text, len);
    return 1;
}

static int l_encode(lua_State *L)
{
    static const char *const known[] = {"pretty", "clean", "max", NULL};
    struct json_style style;
    struct buf *out;
    struct err e;
    lua_Integer max;

    if (lua_isnone(L, 1))
        return bind_usage(L, ENCODE_USAGE);
    bind_options(L, 2, ENCODE_USAGE, known);
    style.pretty = bind_opt_bool(L, 2, "pretty", false);
    style.clean = bind_opt_bool(L, 2, "clean", false);
    max = bind_opt_integer(L, 2, "max", ENCODE_MAX);
    lua_settop(L, 2);
    out = bind_new(L, sizeof *out, TEXT_CLASS);
    lua_toclose(L, 3);
    out->max = max > 0 ? (size_t)max : 1;
    if (!json_write(L, 1, &style, out, &e))
        return err_return(L, &e, "json.encode", NULL);
    lua_pushlstring(L, out->data, out->len);
    return 1;
}

static int l_array(lua_State *L)
{
    if (lua_isnone(L, 1))
        lua_newtable(L);
    if (!lua_istable(L, 1))
        return bind_usage(L, "json.array([list])");
    lua_settop(L, 1);
    if (lua_getmetatable(L, 1) && !value_is_array(L, 1))
        return luaL_error(L, "json.array: the table has a metatable of its own");
    value_mark_array(L, 1);
    lua_settop(L, 1);
    return 1;
}

static int l_is_array(lua_State *L)
{
    lua_pushboolean(L, value_is_array(L, 1));
    return 1;
}

static int l_scan_close(lua_State *L)
{
    struct json_scan *scan = bind_self(L, 1, SCAN_CLASS);

    buf_free(&scan->out);
    return 0;
}

static int l_text_close(lua_State *L)
{
    buf_free(bind_self(L, 1, TEXT_CLASS));
    return 0;
}

static const luaL_Reg no_methods[] = {{NULL, NULL}};
static const luaL_Reg scan_metamethods[] = {
    {"__gc", l_scan_close},
    {"__close", l_scan_close},
    {NULL, NULL},
};
static const luaL_Reg text_metamethods[] = {
    {"__gc", l_text_close},
    {"__close", l_text_close},
    {NULL, NULL},
};
static const luaL_Reg functions[] = {
    {"encode", l_encode},
    {"array", l_array},
    {"is_array", l_is_array},
    {NULL, NULL},
};

/* Pushes the decode function of a cjson instance that nobody else can configure. */
static void push_cjson_decode(lua_State *L)
{
    lua_pushcfunction(L, luaopen_cjson);
    lua_call(L, 0, 1);
    lua_getfield(L, -1, "new");
    lua_call(L, 0, 1); /* cjson, own */
    lua_getfield(L, -1, "decode_max_depth");
    lua_pushinteger(L, VALUE_DEPTH);
    lua_call(L, 1, 0);
    lua_getfield(L, -1, "decode_invalid_numbers");
    lua_pushboolean(L, 0);
    lua_call(L, 1, 0);
    lua_getfield(L, -1, "decode");
    lua_replace(L, -3);
    lua_pop(L, 1);
}

int luaopen_core_json(lua_State *L)
{
    bind_class(L, SCAN_CLASS, no_methods, scan_metamethods);
    bind_class(L, TEXT_CLASS, no_methods, text_metamethods);
    luaL_newlib(L, functions);
    push_cjson_decode(L);
    lua_pushcclosure(L, l_decode, 1);
    lua_setfield(L, -2, "decode");
    value_push_null(L);
    lua_setfield(L, -2, "null");
    return 1;
}
