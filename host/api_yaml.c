/* core.yaml: YAML text to tables (yaml_tree, yaml_build), and back (yaml_write). Nothing here waits.
 *
 * What libyaml and the tree hold is C memory in closable userdata, freed on every path. */
#include <lauxlib.h>
#include "api.h"
#include "bind.h"
#include "err.h"
#include "value.h"
#include "yaml_build.h"
#include "yaml_write.h"

#define READER_CLASS "moontide.yaml_reader"
#define TEXT_MAX     (8 << 20)
#define NODES_MAX    500000
#define ENCODE_MAX   (16 << 20)

static int fail(lua_State *L, const struct yaml_build *r, const char *op)
{
    err_return(L, &r->err, op, NULL);
    if (r->tree.line) {
        lua_pushinteger(L, (lua_Integer)r->tree.line);
        lua_setfield(L, -2, "line");
        lua_pushinteger(L, (lua_Integer)r->tree.column);
        lua_setfield(L, -2, "column");
    }
    return 2;
}

/* Arguments to a reader with its tree, at stack index 3; NULL: the error is pushed already. */
static struct yaml_build *read_tree(lua_State *L, const char *op, const char *usage, bool *marks)
{
    static const char *const known[] = {"marks", "null_as_nil", "max", "nodes", "kubernetes", NULL};
    struct yaml_build *r;
    const char *text;
    size_t len;
    lua_Integer max, nodes;

    if (lua_type(L, 1) != LUA_TSTRING)
        bind_usage(L, usage);
    bind_options(L, 2, usage, known);
    max = bind_opt_integer(L, 2, "max", TEXT_MAX);
    nodes = bind_opt_integer(L, 2, "nodes", NODES_MAX);
    if (max < 0 || max > 1 << 30 || nodes < 1 || nodes > 1 << 28)
        bind_usage(L, usage);
    *marks = bind_opt_bool(L, 2, "marks", false);
    text = lua_tolstring(L, 1, &len);
    if (len > (size_t)max) {
        err_fail(L, ERR_TOO_LARGE, op, NULL, "the text has %zu bytes, more than %lld", len, (long long)max);
        return NULL;
    }
    lua_settop(L, 2);
    r = bind_new(L, sizeof *r, READER_CLASS);
    lua_toclose(L, 3);
    r->null_as_nil = bind_opt_bool(L, 2, "null_as_nil", false);
    r->kubernetes = bind_opt_bool(L, 2, "kubernetes", false);
    r->max_nodes = (uint64_t)nodes;
    r->max_bytes = 4 * (uint64_t)max + 65536;
    if (yaml_tree_read(&r->tree, text, len, (uint32_t)nodes, &r->err) && yaml_build_link(L, r))
        return r;
    fail(L, r, op);
    return NULL;
}

static int l_decode(lua_State *L)
{
    const char *usage = "yaml.decode(text [, {marks, null_as_nil, max, nodes, kubernetes}])",
               *op = "yaml.decode";
    bool marks;
    struct yaml_build *r = read_tree(L, op, usage, &marks);

    if (!r)
        return 2;
    if (r->tree.documents > 1) {
        yaml_tree_fault(&r->tree, &r->tree.nodes[r->tree.nodes[0].next], ERR_INVALID, &r->err,
                        "a second document; use yaml.decode_all");
        return fail(L, r, op);
    }
    lua_newtable(L); /* text, options, reader, marks */
    r->marks = marks ? 4 : 0;
    if (!r->tree.documents)
        value_push_null(L);
    else if (!yaml_build_value(L, r, 0))
        return fail(L, r, op);
    if (r->null_as_nil && value_is_null(L, -1)) {
        lua_pop(L, 1);
        lua_pushnil(L);
    }
    if (!marks)
        return 1;
    lua_pushvalue(L, 4);
    return 2;
}

static int l_decode_all(lua_State *L)
{
    const char *usage = "yaml.decode_all(text [, {marks, null_as_nil, max, nodes, kubernetes}])",
               *op = "yaml.decode_all";
    bool marks;
    struct yaml_build *r = read_tree(L, op, usage, &marks);
    lua_Integer n = 0;

    if (!r)
        return 2;
    lua_newtable(L); /* text, options, reader, values, all marks */
    value_mark_array(L, 4);
    lua_newtable(L);
    for (uint32_t at = 0; at < r->tree.count; at = r->tree.nodes[at].next) {
        lua_newtable(L); /* 6: the marks of this document */
        r->marks = marks ? 6 : 0;
        r->path.len = 0;
        if (!yaml_build_value(L, r, at))
            return fail(L, r, op);
        lua_rawseti(L, 4, ++n); /* a null document stays json.null, or the list would have holes */
        lua_rawseti(L, 5, n);
    }
    lua_settop(L, marks ? 5 : 4);
    return marks ? 2 : 1;
}

static int encode(lua_State *L, const char *op, const char *usage, bool all)
{
    static const char *const known[] = {"max", NULL};
    struct yaml_writer *w;
    lua_Integer max;

    if (lua_isnone(L, 1) || (all && !lua_istable(L, 1)))
        return bind_usage(L, usage);
    bind_options(L, 2, usage, known);
    max = bind_opt_integer(L, 2, "max", ENCODE_MAX);
    lua_settop(L, 2);
    w = yaml_writer_push(L, max > 0 ? (size_t)max : 1);
    lua_toclose(L, 3);
    if (!yaml_write(L, w, 1, all))
        return err_return(L, yaml_writer_error(w), op, NULL);
    yaml_writer_text(L, w);
    return 1;
}

static int l_encode(lua_State *L)
{
    return encode(L, "yaml.encode", "yaml.encode(value [, {max}])", false);
}

static int l_encode_all(lua_State *L)
{
    return encode(L, "yaml.encode_all", "yaml.encode_all(values [, {max}])", true);
}

static int l_reader_close(lua_State *L)
{
    yaml_build_free(bind_self(L, 1, READER_CLASS));
    return 0;
}

static const luaL_Reg no_methods[] = {{NULL, NULL}};
static const luaL_Reg reader_metamethods[] = {
    {"__gc", l_reader_close},
    {"__close", l_reader_close},
    {NULL, NULL},
};
static const luaL_Reg functions[] = {
    {"decode", l_decode}, {"decode_all", l_decode_all}, {"encode", l_encode}, {"encode_all", l_encode_all},
    {NULL, NULL},
};

int luaopen_core_yaml(lua_State *L)
{
    bind_class(L, READER_CLASS, no_methods, reader_metamethods);
    yaml_writer_open(L);
    luaL_newlib(L, functions);
    return 1;
}
