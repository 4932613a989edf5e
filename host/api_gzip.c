/* core.gzip: whole texts in and out of gzip, wrapped by stdlib/gzip.lua. Nothing here waits.
 *
 * The result grows in C memory inside of a closable userdata, freed on every path. */
#include <lauxlib.h>
#include "api.h"
#include "bind.h"
#include "err_lua.h"
#include "gzip.h"

#define RESULT_CLASS "moontide.gzip_result"
#define DECODE_MAX   (32 << 20)

static struct buf *new_result(lua_State *L)
{
    struct buf *b = bind_new(L, sizeof *b, RESULT_CLASS);

    lua_toclose(L, -1);
    return b;
}

static int give(lua_State *L, const struct buf *b, bool ok, const struct err *e, const char *op)
{
    if (!ok)
        return err_return(L, e, op, NULL);
    lua_pushlstring(L, b->data ? b->data : "", b->len);
    return 1;
}

static int l_decode(lua_State *L)
{
    const char *usage = "gzip.decode(text [, {max}])";
    static const char *const known[] = {"max", NULL};
    struct err e = {0};
    size_t len;
    const char *text;
    lua_Integer max;
    struct buf *b;

    if (lua_type(L, 1) != LUA_TSTRING)
        bind_usage(L, usage);
    bind_options(L, 2, usage, known);
    max = bind_opt_integer(L, 2, "max", DECODE_MAX);
    if (max < 0 || max > 1 << 30)
        bind_usage(L, usage);
    text = lua_tolstring(L, 1, &len);
    b = new_result(L);
    return give(L, b, gzip_decode(b, text, len, (size_t)max, &e), &e, "gzip.decode");
}

static int l_encode(lua_State *L)
{
    struct err e = {0};
    size_t len;
    const char *text;
    struct buf *b;

    if (lua_type(L, 1) != LUA_TSTRING)
        bind_usage(L, "gzip.encode(text)");
    text = lua_tolstring(L, 1, &len);
    b = new_result(L);
    return give(L, b, gzip_encode(b, text, len, &e), &e, "gzip.encode");
}

static int l_free(lua_State *L)
{
    buf_free(bind_self(L, 1, RESULT_CLASS));
    return 0;
}

int luaopen_core_gzip(lua_State *L)
{
    const luaL_Reg functions[] = {{"decode", l_decode}, {"encode", l_encode}, {NULL, NULL}};

    bind_closable(L, RESULT_CLASS, NULL, l_free);
    luaL_newlib(L, functions);
    return 1;
}
