/* core.yaml: YAML text to Lua values, by walking the nodes of yaml_tree.c, and values to text, by libyaml's
 * emitter. Nothing here waits.
 *
 * An alias walks its target again, so that every use of it is a value of its own and pays for itself out of
 * the same budgets of nodes, text and depth. Only plain true, false, null, ~, nothing and decimal integers
 * are typed: a version 1.10 stays the text "1.10". Kubernetes objects are typed as kubectl does.
 *
 * Text is written in a deterministic block style that reads back as the same value. Strings are plain only
 * where every YAML reader takes them for text; else they are quoted, since ours types few words, others type
 * many (yes, 1.10, 0x1F, 2024-01-01, 12:30). libyaml 0.2.5 decides what the syntax allows and quotes more
 * where it must.
 *
 * What libyaml and the tree hold is C memory in closable userdata, freed on every path. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <lauxlib.h>
#include <yaml.h>
#include "api.h"
#include "bind.h"
#include "buf.h"
#include "codec.h"
#include "err_lua.h"
#include "value_lua.h"
#include "yaml_resolve.h"
#include "yaml_tree.h"

#define READER_CLASS "moontide.yaml_reader"
#define WRITER_CLASS "moontide.yaml_writer"
#define TEXT_MAX     (8 << 20)
#define NODES_MAX    500000
#define ENCODE_MAX   (16 << 20)
#define EXACT_MAX    9007199254740992.0 /* up to here a double is every whole number */

/* ---- nodes to values ---- */

struct reader {
    struct yaml_tree tree;
    struct buf path; /* of the value under construction, when marks are wanted */
    struct err err;
    uint64_t nodes, max_nodes; /* built so far, each use of an alias counted */
    uint64_t bytes, max_bytes; /* of scalars and of mark paths */
    unsigned depth;
    int marks; /* stack index of the table of marks; 0: not wanted */
    bool null_as_nil;
    bool kubernetes; /* scalars mean what kubectl takes them for */
};

/* Pushes the value of the node. False: b->err, and the stack holds leftovers. */
static bool build_value(lua_State *L, struct reader *b, uint32_t at);

static bool fault(struct reader *b, uint32_t at, enum err_code code, const char *what)
{
    return yaml_tree_fault(&b->tree, &b->tree.nodes[at], code, &b->err, what);
}

/* The node that an alias stands for, or the node itself. */
static uint32_t resolve(const struct reader *b, uint32_t at)
{
    return b->tree.nodes[at].kind == YAML_ALIAS ? b->tree.nodes[at].target : at;
}

/* Finds what every alias stands for. A name is looked up in Lua's table, whose hashing is seeded. */
static bool link_aliases(lua_State *L, struct reader *b)
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
static bool pay(struct reader *b, uint32_t at, size_t bytes)
{
    b->bytes += bytes;
    if (++b->nodes > b->max_nodes || b->bytes > b->max_bytes)
        return fault(b, at, ERR_TOO_LARGE, "too many nodes or too much text, aliases counted");
    return true;
}

/* Remembers the line of the value whose path is in b->path; the first one stays. */
static bool mark(lua_State *L, struct reader *b, uint32_t at)
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
static bool path_enter(struct reader *b, const char *key, size_t len, lua_Integer index, size_t *before)
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

static void path_back(struct reader *b, size_t before)
{
    if (b->path.data) {
        b->path.len = before;
        b->path.data[before] = '\0';
    }
}

/* Whether its tag is one that values outside of Kubernetes objects cannot have. */
static bool is_foreign(struct reader *b, uint32_t at)
{
    return !b->kubernetes && b->tree.nodes[at].type >= YAML_TYPE_MERGE;
}

/* What a scalar means. In a Kubernetes object a tag that is not one of YAML's own leaves text as it is. */
static bool mean(struct reader *b, uint32_t at, struct yaml_scalar *s)
{
    const struct yaml_node *node = &b->tree.nodes[at];
    const char *text = b->tree.text.data + node->text;
    bool fits;

    *s = b->kubernetes ? yaml_resolve_kubernetes(text, node->len) : yaml_resolve(text, node->len);
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
static bool push_text(lua_State *L, struct reader *b, uint32_t at)
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

static bool build_scalar(lua_State *L, struct reader *b, uint32_t at)
{
    struct yaml_scalar s;

    if (is_foreign(b, at))
        return fault(b, at, ERR_UNSUPPORTED, "this tag is not supported");
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

static bool build_list(lua_State *L, struct reader *b, uint32_t at)
{
    uint32_t end = b->tree.nodes[at].next;
    lua_Integer index = 0;
    size_t before;

    lua_newtable(L);
    value_mark_array(L, -1);
    for (uint32_t item = at + 1; item < end; item = b->tree.nodes[item].next) {
        if (!path_enter(b, NULL, 0, ++index, &before) || !mark(L, b, item) || !build_value(L, b, item))
            return false;
        path_back(b, before);
        if (b->null_as_nil && value_is_null(L, -1))
            lua_pop(L, 1);
        else
            lua_rawseti(L, -2, index);
    }
    return true;
}

static bool is_merge_key(const struct reader *b, const struct yaml_node *key)
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
static bool merge(lua_State *L, struct reader *b, uint32_t from)
{
    static const char wanted[] = "a merge key wants a mapping or a list of mappings";
    const struct yaml_node *nodes = b->tree.nodes;
    uint32_t source = resolve(b, from);

    if (nodes[source].kind == YAML_MAP) {
        if (!build_value(L, b, from))
            return false;
        fill_in(L);
        return true;
    }
    if (nodes[source].kind != YAML_LIST)
        return fault(b, from, ERR_INVALID, wanted);
    for (uint32_t item = source + 1; item < nodes[source].next; item = nodes[item].next)
        if (nodes[resolve(b, item)].kind != YAML_MAP)
            return fault(b, item, ERR_INVALID, wanted);
        else if (!merge(L, b, item))
            return false;
    return true;
}

/* The same in a Kubernetes object, where a merge key overwrites what stands above it. Below the mapping is a
 * table for what is merged into it; a key of its own that follows hides that, and is no duplicate. */
static bool overwrite(lua_State *L, struct reader *b, uint32_t from)
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
static bool push_key(lua_State *L, struct reader *b, uint32_t at)
{
    const struct yaml_node *key = &b->tree.nodes[at];
    struct yaml_scalar s = {.kind = YAML_IS_TEXT};
    char typed[YAML_KEY_MAX];

    if (key->kind != YAML_SCALAR)
        return fault(b, at, ERR_UNSUPPORTED, "a key must be a scalar");
    if (key->plain && !key->len && key->type != YAML_TYPE_STR)
        return fault(b, at, ERR_INVALID, "the key is missing");
    if (is_foreign(b, at))
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
static bool build_entry(lua_State *L, struct reader *b, uint32_t key_at, uint32_t value_at)
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
    if (!path_enter(b, text, len, 0, &before) || !mark(L, b, key_at) || !build_value(L, b, value_at))
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

static bool build_map(lua_State *L, struct reader *b, uint32_t at)
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

static bool build_value(lua_State *L, struct reader *b, uint32_t at)
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
        return build_value(L, b, node->target); /* never an alias itself */
    case YAML_DOCUMENT:
        return mark(L, b, at + 1) && build_value(L, b, at + 1);
    default:
        if (is_foreign(b, at))
            return fault(b, at, ERR_UNSUPPORTED, "this tag is not supported");
        if (++b->depth > VALUE_DEPTH)
            return fault(b, at, ERR_TOO_LARGE, "nested deeper than 64 levels");
        ok = node->kind == YAML_MAP ? build_map(L, b, at) : build_list(L, b, at);
        b->depth--;
        return ok;
    }
}

/* ---- values to text ---- */

struct writer {
    yaml_emitter_t emitter;
    struct buf text;
    struct err err;
    struct value_path path;
};

static bool write_value(lua_State *L, struct writer *w, int index);

static bool write_fault(struct writer *w, enum err_code code, const char *what)
{
    char path[160];

    value_path_print(&w->path, path, sizeof path);
    err_set(&w->err, code, "%s %s", path, what);
    return false;
}

/* libyaml hands over its text. */
static int take_text(void *ud, unsigned char *text, size_t len)
{
    struct writer *w = ud;

    if (buf_add(&w->text, text, len))
        return 1;
    if (w->text.len + len > w->text.max)
        err_set(&w->err, ERR_TOO_LARGE, "the text is longer than %zu bytes", w->text.max);
    else
        err_set(&w->err, ERR_MEMORY, "no memory");
    return 0;
}

/* Sends an event; `ready` is what its initialisation said. The emitter owns the event then. */
static bool emit(struct writer *w, yaml_event_t *event, int ready)
{
    if (!ready) {
        err_set(&w->err, ERR_MEMORY, "no memory");
        return false;
    }
    if (yaml_emitter_emit(&w->emitter, event))
        return true;
    if (w->err.code == ERR_NONE) {
        if (w->emitter.error == YAML_MEMORY_ERROR)
            err_set(&w->err, ERR_MEMORY, "no memory");
        else
            err_set(&w->err, ERR_INTERNAL, "%s", w->emitter.problem ? w->emitter.problem : "libyaml failed");
    }
    return false;
}

/* Words that some YAML version reads as a boolean, a null or a number. */
static bool is_reserved(const char *text, size_t len)
{
    static const char *const words[] = {"true", "false", "null", "yes", "no",  "on",
                                        "off",  "y",     "n",    "nan", "inf", "infinity"};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i]) == len && strncasecmp(words[i], text, len) == 0)
            return true;
    return false;
}

static yaml_scalar_style_t string_style(const char *text, size_t len, bool key)
{
    char first = len ? text[0] : '\0';
    bool letter = (first >= 'a' && first <= 'z') || (first >= 'A' && first <= 'Z');

    if (memchr(text, '\n', len)) {
        bool block = !key && first != '\n' && first != ' ' && first != '\t' && !memchr(text, '\t', len);

        return block ? YAML_LITERAL_SCALAR_STYLE : YAML_DOUBLE_QUOTED_SCALAR_STYLE;
    }
    if ((letter || first == '/' || first == '_') && !is_reserved(text, len))
        return YAML_PLAIN_SCALAR_STYLE;
    return YAML_SINGLE_QUOTED_SCALAR_STYLE;
}

static bool write_scalar(struct writer *w, const char *text, size_t len, yaml_scalar_style_t style)
{
    yaml_event_t event;

    return emit(
        w, &event,
        yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)text, (int)len, 1, 1, style));
}

static bool write_string(struct writer *w, const char *text, size_t len, bool key)
{
    if (len > w->text.max) {
        err_set(&w->err, ERR_TOO_LARGE, "the text is longer than %zu bytes", w->text.max);
        return false;
    }
    if (utf8_prefix(text, len) != len)
        return write_fault(w, ERR_INVALID, "is not valid UTF-8");
    return write_scalar(w, text, len, string_style(text, len, key));
}

static bool write_list(lua_State *L, struct writer *w, int index, size_t count)
{
    yaml_event_t event;

    if (!emit(w, &event,
              yaml_sequence_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE)))
        return false;
    w->path.depth++;
    for (size_t i = 1; i <= count; i++) {
        w->path.steps[w->path.depth - 1] = (struct value_step){.index = (lua_Integer)i};
        lua_rawgeti(L, index, (lua_Integer)i);
        if (!write_value(L, w, lua_gettop(L)))
            return false;
        lua_pop(L, 1);
    }
    w->path.depth--;
    return emit(w, &event, yaml_sequence_end_event_initialize(&event));
}

static bool write_map(lua_State *L, struct writer *w, int index, size_t count)
{
    const struct value_key *keys = value_keys(L, index, count);
    yaml_event_t event;

    if (!emit(w, &event,
              yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE)))
        return false;
    w->path.depth++;
    for (size_t i = 0; i < count; i++) {
        w->path.steps[w->path.depth - 1] = (struct value_step){.key = keys[i].text, .len = keys[i].len};
        lua_pushlstring(L, keys[i].text, keys[i].len);
        lua_rawget(L, index);
        if (!write_string(w, keys[i].text, keys[i].len, true) || !write_value(L, w, lua_gettop(L)))
            return false;
        lua_pop(L, 1);
    }
    w->path.depth--;
    lua_pop(L, 1); /* the keys */
    return emit(w, &event, yaml_mapping_end_event_initialize(&event));
}

static bool write_table(lua_State *L, struct writer *w, int index)
{
    size_t count;
    enum value_shape shape;

    if (w->path.depth == VALUE_DEPTH)
        return write_fault(w, ERR_TOO_LARGE, "is nested deeper than 64 levels (a cycle?)");
    shape = value_shape(L, index, &count);
    if (shape == VALUE_ARRAY)
        return write_list(L, w, index, count);
    if (shape == VALUE_OBJECT)
        return write_map(L, w, index, count);
    return write_fault(w, ERR_INVALID, value_shape_fault(shape));
}

/* On failure the Lua stack is left as it is; encode cuts it. */
static bool write_value(lua_State *L, struct writer *w, int index)
{
    char number[VALUE_NUMBER_SIZE], what[40];
    const char *text;
    size_t len;

    luaL_checkstack(L, 8, "yaml");
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
        text = lua_toboolean(L, index) ? "true" : "false";
        return write_scalar(w, text, strlen(text), YAML_PLAIN_SCALAR_STYLE);
    case LUA_TNUMBER:
        len = value_number(L, index, number);
        if (!len)
            return write_fault(w, ERR_INVALID, "is NaN or infinite");
        return write_scalar(w, number, len, YAML_PLAIN_SCALAR_STYLE);
    case LUA_TSTRING:
        text = lua_tolstring(L, index, &len);
        return write_string(w, text, len, false);
    case LUA_TTABLE:
        return write_table(L, w, index);
    case LUA_TUSERDATA:
        if (value_is_null(L, index))
            return write_scalar(w, "null", 4, YAML_PLAIN_SCALAR_STYLE);
        break;
    default:
        break;
    }
    snprintf(what, sizeof what, "is a %s", lua_typename(L, lua_type(L, index)));
    return write_fault(w, ERR_INVALID, what);
}

static bool write_document(lua_State *L, struct writer *w, int index, bool implicit)
{
    yaml_event_t event;

    return emit(w, &event, yaml_document_start_event_initialize(&event, NULL, NULL, NULL, implicit)) &&
           write_value(L, w, index) && emit(w, &event, yaml_document_end_event_initialize(&event, 1));
}

static bool write_documents(lua_State *L, struct writer *w, int index)
{
    size_t count;

    if (value_shape(L, index, &count) != VALUE_ARRAY && count)
        return write_fault(w, ERR_INVALID, "is not a list of documents");
    for (size_t i = 1; i <= count; i++) {
        lua_rawgeti(L, index, (lua_Integer)i);
        if (!write_document(L, w, lua_gettop(L), false))
            return false;
        lua_pop(L, 1);
    }
    return true;
}

static bool write_stream(lua_State *L, struct writer *w, int index, bool all)
{
    yaml_event_t event;

    return emit(w, &event, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING)) &&
           (all ? write_documents(L, w, index) : write_document(L, w, index, true)) &&
           emit(w, &event, yaml_stream_end_event_initialize(&event));
}

static int l_writer_close(lua_State *L)
{
    struct writer *w = bind_self(L, 1, WRITER_CLASS);

    yaml_emitter_delete(&w->emitter); /* one that was not opened is all zeros */
    buf_free(&w->text);
    return 0;
}

/* ---- functions ---- */

static int fail(lua_State *L, const struct reader *r, const char *op)
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
static struct reader *read_tree(lua_State *L, const char *op, const char *usage, bool *marks)
{
    static const char *const known[] = {"marks", "null_as_nil", "max", "nodes", "kubernetes", NULL};
    struct reader *r;
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
    if (yaml_tree_read(&r->tree, text, len, (uint32_t)nodes, &r->err) && link_aliases(L, r))
        return r;
    fail(L, r, op);
    return NULL;
}

static int l_decode(lua_State *L)
{
    const char *usage = "yaml.decode(text [, {marks, null_as_nil, max, nodes, kubernetes}])",
               *op = "yaml.decode";
    bool marks;
    struct reader *r = read_tree(L, op, usage, &marks);

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
    else if (!build_value(L, r, 0))
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
    struct reader *r = read_tree(L, op, usage, &marks);
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
        if (!build_value(L, r, at))
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
    struct writer *w;
    lua_Integer max;
    bool ok;

    if (lua_isnone(L, 1) || (all && !lua_istable(L, 1)))
        return bind_usage(L, usage);
    bind_options(L, 2, usage, known);
    max = bind_opt_integer(L, 2, "max", ENCODE_MAX);
    lua_settop(L, 2);
    w = bind_new(L, sizeof *w, WRITER_CLASS);
    lua_toclose(L, 3);
    w->text.max = max > 0 ? (size_t)max : 1;
    if (!yaml_emitter_initialize(&w->emitter))
        return err_fail(L, ERR_MEMORY, op, NULL, "no memory");
    yaml_emitter_set_output(&w->emitter, take_text, w);
    yaml_emitter_set_encoding(&w->emitter, YAML_UTF8_ENCODING);
    yaml_emitter_set_unicode(&w->emitter, 1);
    yaml_emitter_set_indent(&w->emitter, 2);
    yaml_emitter_set_width(&w->emitter, -1);
    ok = write_stream(L, w, 1, all);
    lua_settop(L, 3);
    if (!ok)
        return err_return(L, &w->err, op, NULL);
    lua_pushlstring(L, w->text.data ? w->text.data : "", w->text.len);
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
    struct reader *r = bind_self(L, 1, READER_CLASS);

    yaml_tree_free(&r->tree);
    buf_free(&r->path);
    return 0;
}

static const luaL_Reg functions[] = {
    {"decode", l_decode}, {"decode_all", l_decode_all}, {"encode", l_encode}, {"encode_all", l_encode_all},
    {NULL, NULL},
};

int luaopen_core_yaml(lua_State *L)
{
    bind_closable(L, READER_CLASS, NULL, l_reader_close);
    bind_closable(L, WRITER_CLASS, NULL, l_writer_close);
    luaL_newlib(L, functions);
    return 1;
}
