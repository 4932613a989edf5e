/* YAML nodes to Lua values, by walking the tree.
 *
 * An alias walks its target again, so that every use of it is a value of its own and pays for itself out of
 * the same budgets of nodes, text and depth. Only plain true, false, null, ~, nothing and decimal integers
 * are typed: a version 1.10 stays the text that somebody wrote. Kubernetes objects are typed as kubectl does.
 */
#include "yaml_build.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <lauxlib.h>
#include "codec.h"
#include "value.h"
#include "yaml_resolve.h"

#define EXACT_MAX 9007199254740992.0 /* up to here a double is every whole number */

static bool fault(struct yaml_build *b, uint32_t at, enum err_code code, const char *what)
{
    return yaml_tree_fault(&b->tree, &b->tree.nodes[at], code, &b->err, what);
}

/* The node that an alias stands for, or the node itself. */
static uint32_t resolve(const struct yaml_build *b, uint32_t at)
{
    return b->tree.nodes[at].kind == YAML_ALIAS ? b->tree.nodes[at].target : at;
}

/* Finds what every alias stands for. A name is looked up in Lua's table, whose hashing is seeded. */
bool yaml_build_link(lua_State *L, struct yaml_build *b)
{
    struct yaml_tree *tree = &b->tree;
    bool ok = true;

    lua_newtable(L);
    for (uint32_t i = 0; ok && i < tree->count; i++) {
        struct yaml_node *node = &tree->nodes[i];

        if (node->kind == YAML_DOCUMENT) {
            lua_newtable(L);
            lua_replace(L, -2);
        }
        if (!node->anchor_len)
            continue;
        lua_pushlstring(L, tree->text.data + node->anchor, node->anchor_len);
        if (node->kind != YAML_ALIAS) {
            lua_pushinteger(L, i);
            lua_rawset(L, -3);
            continue;
        }
        if (lua_rawget(L, -2) == LUA_TNIL)
            ok = fault(b, i, ERR_INVALID, "no such anchor");
        node->target = (uint32_t)lua_tointeger(L, -1);
        lua_pop(L, 1);
        if (ok && i < tree->nodes[node->target].next)
            ok = fault(b, i, ERR_INVALID, "the alias lies inside of its own anchor");
    }
    lua_pop(L, 1);
    return ok;
}

/* Pays for one more node with `bytes` of text. */
static bool pay(struct yaml_build *b, uint32_t at, size_t bytes)
{
    b->bytes += bytes;
    if (++b->nodes > b->max_nodes || b->bytes > b->max_bytes)
        return fault(b, at, ERR_TOO_LARGE, "too many nodes or too much text, aliases counted");
    return true;
}

/* Remembers the line of the value whose path is in b->path; the first one stays. */
static bool mark(lua_State *L, struct yaml_build *b, uint32_t at)
{
    if (!b->marks)
        return true;
    b->bytes += b->path.len;
    if (b->bytes > b->max_bytes)
        return fault(b, at, ERR_TOO_LARGE, "the paths are too long");
    lua_pushlstring(L, b->path.data ? b->path.data : "", b->path.len);
    lua_pushvalue(L, -1);
    if (lua_rawget(L, b->marks) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_pushinteger(L, b->tree.nodes[at].line);
        lua_rawset(L, b->marks);
    } else {
        lua_pop(L, 2);
    }
    return true;
}

/* Lengthens the path by a key (index 0) or an index; *before is what path_back wants. */
static bool path_enter(struct yaml_build *b, const char *key, size_t len, lua_Integer index, size_t *before)
{
    *before = b->path.len;
    if (!b->marks)
        return true;
    if (index ? buf_printf(&b->path, "[%lld]", (long long)index)
              : (!b->path.len || buf_text(&b->path, ".")) && buf_add(&b->path, key, len))
        return true;
    err_set(&b->err, ERR_MEMORY, "no memory");
    return false;
}

static void path_back(struct yaml_build *b, size_t before)
{
    if (b->path.data) {
        b->path.len = before;
        b->path.data[before] = '\0';
    }
}

/* -?(0|[1-9][0-9]*) in 64 bits; anything else (0123, +1, 1_000, 0x10, 1.10) stays the text that it is. */
static bool as_integer(const char *text, size_t len, lua_Integer *value)
{
    char copy[24];
    size_t sign = len && *text == '-';

    if (len == sign || len >= sizeof copy)
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    if (strspn(copy + sign, "0123456789") != len - sign || (copy[sign] == '0' && len > 1))
        return false;
    errno = 0;
    *value = strtoll(copy, NULL, 10);
    return errno == 0;
}

/* What a scalar of a Kubernetes object means. A tag that is not one of YAML's own leaves text as it is. */
static bool mean(struct yaml_build *b, uint32_t at, struct yaml_scalar *s)
{
    const struct yaml_node *node = &b->tree.nodes[at];
    bool fits;

    *s = yaml_resolve(b->tree.text.data + node->text, node->len);
    switch (node->type) {
    case YAML_TYPE_INT:
        fits = s->kind == YAML_IS_INT || s->kind == YAML_IS_UINT;
        break;
    case YAML_TYPE_BOOL:
        fits = s->kind == YAML_IS_BOOL;
        break;
    case YAML_TYPE_NULL:
        fits = s->kind == YAML_IS_NULL;
        break;
    case YAML_TYPE_FLOAT:
        fits = s->kind == YAML_IS_INT || s->kind == YAML_IS_FLOAT;
        if (s->kind == YAML_IS_INT)
            *s = (struct yaml_scalar){.kind = YAML_IS_FLOAT, .number = (double)s->integer};
        break;
    default:
        if (node->type != YAML_TYPE_NONE || !node->plain)
            *s = (struct yaml_scalar){.kind = YAML_IS_TEXT};
        return true;
    }
    return fits || fault(b, at, ERR_INVALID, "the text is not of the type that its tag says");
}

/* Pushes the text of a scalar; that of a !!binary decoded, its lines joined. */
static bool push_text(lua_State *L, struct yaml_build *b, uint32_t at)
{
    const struct yaml_node *node = &b->tree.nodes[at];
    const char *text = b->tree.text.data + node->text;
    luaL_Buffer bytes;
    size_t len = 0;
    char *out;

    if (node->type != YAML_TYPE_BINARY) {
        lua_pushlstring(L, text, node->len);
        return true;
    }
    out = luaL_buffinitsize(L, &bytes, node->len);
    for (size_t i = 0; i < node->len; i++)
        if (text[i] != '\n' && text[i] != '\r')
            out[len++] = text[i];
    if (!base64_decode(out, &len, out, len, BASE64))
        return fault(b, at, ERR_INVALID, "the text is not base64, as its tag says");
    luaL_pushresultsize(&bytes, len);
    return true;
}

static bool build_kubernetes(lua_State *L, struct yaml_build *b, uint32_t at)
{
    struct yaml_scalar s;

    if (!mean(b, at, &s))
        return false;
    if (!isfinite(s.number))
        return fault(b, at, ERR_INVALID, "JSON has no such number");
    if (s.kind == YAML_IS_NULL)
        value_push_null(L);
    else if (s.kind == YAML_IS_BOOL)
        lua_pushboolean(L, s.truth);
    else if (s.kind == YAML_IS_INT)
        lua_pushinteger(L, s.integer);
    else if (s.kind == YAML_IS_FLOAT && fabs(s.number) <= EXACT_MAX && s.number == floor(s.number))
        lua_pushinteger(L, (lua_Integer)s.number); /* 100.0 is 100 in JSON, which an integer field takes */
    else if (s.kind == YAML_IS_FLOAT || s.kind == YAML_IS_UINT)
        lua_pushnumber(L, s.number);
    else
        return push_text(L, b, at);
    return true;
}

static bool build_scalar(lua_State *L, struct yaml_build *b, uint32_t at)
{
    const struct yaml_node *node = &b->tree.nodes[at];
    const char *text = b->tree.text.data + node->text;
    size_t len = node->len;
    bool any = node->plain && node->type == YAML_TYPE_NONE;
    lua_Integer integer;

    if (b->kubernetes)
        return build_kubernetes(L, b, at);
#define IS(word) (len == sizeof word - 1 && memcmp(text, word, len) == 0)
    if ((any || node->type == YAML_TYPE_NULL) && (IS("") || IS("null") || IS("~")))
        value_push_null(L);
    else if ((any || node->type == YAML_TYPE_BOOL) && (IS("true") || IS("false")))
        lua_pushboolean(L, IS("true"));
    else if ((any || node->type == YAML_TYPE_INT) && as_integer(text, len, &integer))
        lua_pushinteger(L, integer);
    else if (any || node->type == YAML_TYPE_NONE || node->type == YAML_TYPE_STR)
        lua_pushlstring(L, text, len);
    else if (node->type >= YAML_TYPE_MERGE)
        return fault(b, at, ERR_UNSUPPORTED, "this tag is not supported");
    else
        return fault(b, at, ERR_INVALID, "the text is not of the type that its tag says");
#undef IS
    return true;
}

static bool build_list(lua_State *L, struct yaml_build *b, uint32_t at)
{
    uint32_t end = b->tree.nodes[at].next;
    lua_Integer index = 0;
    size_t before;

    lua_newtable(L);
    value_mark_array(L, -1);
    for (uint32_t item = at + 1; item < end; item = b->tree.nodes[item].next) {
        if (!path_enter(b, NULL, 0, ++index, &before) || !mark(L, b, item) || !yaml_build_value(L, b, item))
            return false;
        path_back(b, before);
        if (b->null_as_nil && value_is_null(L, -1))
            lua_pop(L, 1);
        else
            lua_rawseti(L, -2, index);
    }
    return true;
}

static bool is_merge_key(const struct yaml_build *b, const struct yaml_node *key)
{
    return key->kind == YAML_SCALAR && key->len == 2 && memcmp(b->tree.text.data + key->text, "<<", 2) == 0 &&
           (key->type == YAML_TYPE_MERGE || (key->plain && key->type == YAML_TYPE_NONE));
}

/* Copies what the table on top does not have yet into the table below it, and drops it. */
static void fill_in(lua_State *L)
{
    lua_pushnil(L);
    while (lua_next(L, -2)) { /* into, from, key, value */
        lua_pushvalue(L, -2);
        if (lua_rawget(L, -5) == LUA_TNIL) {
            lua_pop(L, 1);
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_rawset(L, -5);
        } else {
            lua_pop(L, 2);
        }
    }
    lua_pop(L, 1);
}

/* `<<: *base` and `<<: [*one, *two]`: what the mapping on top does not say itself. The first one wins. */
static bool merge(lua_State *L, struct yaml_build *b, uint32_t from)
{
    uint32_t source = resolve(b, from), end;

    if (b->tree.nodes[source].kind == YAML_MAP) {
        if (!yaml_build_value(L, b, from))
            return false;
        fill_in(L);
        return true;
    }
    if (b->tree.nodes[source].kind != YAML_LIST)
        return fault(b, from, ERR_INVALID, "a merge key wants a mapping or a list of mappings");
    end = b->tree.nodes[source].next;
    for (uint32_t item = source + 1; item < end; item = b->tree.nodes[item].next) {
        if (b->tree.nodes[resolve(b, item)].kind != YAML_MAP)
            return fault(b, item, ERR_INVALID, "a merge key wants a mapping or a list of mappings");
        if (!yaml_build_value(L, b, item))
            return false;
        fill_in(L);
    }
    return true;
}

/* The same in a Kubernetes object, where a merge key overwrites what stands above it. Below the mapping is a
 * table for what is merged into it; a key of its own that follows hides that, and is no duplicate. */
static bool overwrite(lua_State *L, struct yaml_build *b, uint32_t from)
{
    lua_newtable(L);
    if (!merge(L, b, from))
        return false;
    lua_pushnil(L);
    while (lua_next(L, -2)) { /* merged, into, from, key, value */
        bool above;

        lua_pushvalue(L, -2);
        above = lua_rawget(L, -5) != LUA_TNIL;
        lua_pop(L, 1);
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, above ? -5 : -6);
    }
    lua_pop(L, 1);
    return true;
}

/* Pushes a key. Keys are text, whatever they look like; those of Kubernetes objects become the text of what
 * they mean (`on` is "true"). */
static bool push_key(lua_State *L, struct yaml_build *b, uint32_t at)
{
    const struct yaml_node *key = &b->tree.nodes[at];
    struct yaml_scalar s = {.kind = YAML_IS_TEXT};
    char typed[YAML_KEY_MAX];

    if (key->kind != YAML_SCALAR)
        return fault(b, at, ERR_UNSUPPORTED, "a key must be a scalar");
    if (key->plain && !key->len && key->type != YAML_TYPE_STR)
        return fault(b, at, ERR_INVALID, "the key is missing");
    if (!b->kubernetes && key->type >= YAML_TYPE_MERGE)
        return fault(b, at, ERR_UNSUPPORTED, "this tag is not supported");
    if (b->kubernetes && !mean(b, at, &s))
        return false;
    if (s.kind == YAML_IS_TEXT)
        return push_text(L, b, at);
    if (s.kind == YAML_IS_NULL || s.kind == YAML_IS_UINT)
        return fault(b, at, ERR_INVALID,
                     s.kind == YAML_IS_NULL ? "null is no key" : "the number is too large for a key");
    lua_pushlstring(L, typed, yaml_resolve_key(&s, typed));
    return true;
}

/* Key and value of one entry into the table on top. */
static bool build_entry(lua_State *L, struct yaml_build *b, uint32_t key_at, uint32_t value_at)
{
    size_t before, len;
    const char *text;

    if (!push_key(L, b, resolve(b, key_at)))
        return false;
    text = lua_tolstring(L, -1, &len);
    if (!pay(b, key_at, len))
        return false;
    lua_pushvalue(L, -1);
    if (lua_rawget(L, -3) != LUA_TNIL)
        return fault(b, key_at, ERR_INVALID, "duplicate key");
    lua_pop(L, 1);
    if (!path_enter(b, text, len, 0, &before) || !mark(L, b, key_at) || !yaml_build_value(L, b, value_at))
        return false;
    path_back(b, before);
    lua_rawset(L, -3);
    return true;
}

static void drop_nulls(lua_State *L)
{
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        if (value_is_null(L, -1)) {
            lua_pushvalue(L, -2);
            lua_pushnil(L);
            lua_rawset(L, -5);
        }
        lua_pop(L, 1);
    }
}

static bool build_map(lua_State *L, struct yaml_build *b, uint32_t at)
{
    const struct yaml_node *nodes = b->tree.nodes;
    uint32_t end = nodes[at].next, value, merged = 0;
    bool over = false;

    lua_newtable(L);
    for (uint32_t key = at + 1; key < end; key = nodes[value].next) {
        value = nodes[key].next;
        if (is_merge_key(b, &nodes[key]) && b->kubernetes) {
            if (!over) {
                lua_newtable(L);
                lua_insert(L, -2);
                over = true;
            }
            if (!overwrite(L, b, value))
                return false;
        } else if (is_merge_key(b, &nodes[key])) {
            if (merged)
                return fault(b, key, ERR_INVALID, "duplicate key");
            merged = value;
        } else if (!build_entry(L, b, key, value)) {
            return false;
        }
    }
    if (merged && !merge(L, b, merged))
        return false;
    if (over) {
        lua_insert(L, -2);
        fill_in(L);
    }
    /* Only now: a null of its own hides what would be merged, and is a key like others for duplicates. */
    if (b->null_as_nil)
        drop_nulls(L);
    return true;
}

bool yaml_build_value(lua_State *L, struct yaml_build *b, uint32_t at)
{
    const struct yaml_node *node = &b->tree.nodes[at];
    bool ok;

    luaL_checkstack(L, 16, "yaml");
    if (!pay(b, at, node->len))
        return false;
    switch (node->kind) {
    case YAML_SCALAR:
        return build_scalar(L, b, at);
    case YAML_ALIAS:
        return yaml_build_value(L, b, node->target); /* never an alias itself */
    case YAML_DOCUMENT:
        return mark(L, b, at + 1) && yaml_build_value(L, b, at + 1);
    default:
        if (!b->kubernetes && node->type >= YAML_TYPE_MERGE)
            return fault(b, at, ERR_UNSUPPORTED, "this tag is not supported");
        if (++b->depth > VALUE_DEPTH)
            return fault(b, at, ERR_TOO_LARGE, "nested deeper than 64 levels");
        ok = node->kind == YAML_MAP ? build_map(L, b, at) : build_list(L, b, at);
        b->depth--;
        return ok;
    }
}

void yaml_build_free(struct yaml_build *b)
{
    yaml_tree_free(&b->tree);
    buf_free(&b->path);
}
