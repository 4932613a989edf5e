/* core.json: strict JSON, decoded by lua-cjson, and our own writer. Nothing here waits. */
#include <string.h>
#include <lauxlib.h>
#include "api.h"
#include "alloc.h"
#include "bind.h"
#include "err_lua.h"
#include "json_read.h"
#include "json_write.h"
#include "value_lua.h"

#define TEXT_CLASS   "moontide.json_text"
#define DECODE_MAX   (8 << 20)
#define ENCODE_MAX   (16 << 20)
#define DECODE_USAGE "json.decode(text [, {null_as_nil, max}])"
#define ENCODE_USAGE "json.encode(value [, {pretty, clean, max}])"

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

static int l_decode(lua_State *L)
{
    static const char *const known[] = {"null_as_nil", "max", NULL};
    struct err e;
    const char *text;
    size_t len, offset;
    lua_Integer max;
    bool null_as_nil;

    if (lua_type(L, 1) != LUA_TSTRING)
        return bind_usage(L, DECODE_USAGE);
    bind_options(L, 2, DECODE_USAGE, known);
    max = bind_opt_integer(L, 2, "max", DECODE_MAX);
    if (max < 0)
        return bind_usage(L, DECODE_USAGE);
    null_as_nil = bind_opt_bool(L, 2, "null_as_nil", false);
    text = lua_tolstring(L, 1, &len);
    if (len > (lua_Unsigned)max)
        return err_fail(L, ERR_TOO_LARGE, "json.decode", NULL, "the text has %zu bytes, more than %lld", len,
                        (long long)max);

    lua_settop(L, 2);
    return json_read(L, 1, null_as_nil, &e, &offset) ? 1 : fail_at(L, &e, text, offset);
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

static int l_text_close(lua_State *L)
{
    buf_free(bind_self(L, 1, TEXT_CLASS));
    return 0;
}

static const luaL_Reg functions[] = {
    {"decode", l_decode}, {"encode", l_encode}, {"array", l_array}, {"is_array", l_is_array}, {NULL, NULL},
};

int luaopen_core_json(lua_State *L)
{
    bind_closable(L, TEXT_CLASS, NULL, l_text_close);
    luaL_newlib(L, functions);
    value_push_null(L);
    lua_setfield(L, -2, "null");
    return 1;
}
