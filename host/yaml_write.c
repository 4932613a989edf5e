/* YAML writer: sorted keys, block style, one document or several.
 *
 * A string is written without quotes only when no YAML reader, old or new, takes it for something else: ours
 * types few words, others type many (yes, 1.10, 0x1F, 2024-01-01, 12:30). libyaml 0.2.5 decides what the
 * syntax allows and quotes more where it must. */
#include "yaml_write.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <lauxlib.h>
#include <yaml.h>
#include "bind.h"
#include "buf.h"
#include "value.h"

#define WRITER_CLASS "moontide.yaml_writer"

struct yaml_writer {
    yaml_emitter_t emitter;
    bool open; /* the emitter is */
    struct buf text;
    struct err err;
    struct value_path path;
};

static bool write_value(lua_State *L, struct yaml_writer *w, int index);

static bool fault(struct yaml_writer *w, enum err_code code, const char *what)
{
    char path[160];

    value_path_print(&w->path, path, sizeof path);
    err_set(&w->err, code, "%s %s", path, what);
    return false;
}

/* libyaml hands over its text. */
static int take_text(void *ud, unsigned char *text, size_t len)
{
    struct yaml_writer *w = ud;

    if (buf_add(&w->text, text, len))
        return 1;
    if (w->text.len + len > w->text.max)
        err_set(&w->err, ERR_TOO_LARGE, "the text is longer than %zu bytes", w->text.max);
    else
        err_set(&w->err, ERR_MEMORY, "no memory");
    return 0;
}

/* Sends an event; `ready` is what its initialisation said. The emitter owns the event then. */
static bool emit(struct yaml_writer *w, yaml_event_t *event, int ready)
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

static bool write_scalar(struct yaml_writer *w, const char *text, size_t len, yaml_scalar_style_t style)
{
    yaml_event_t event;

    return emit(
        w, &event,
        yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)text, (int)len, 1, 1, style));
}

static bool write_string(struct yaml_writer *w, const char *text, size_t len, bool key)
{
    if (len > w->text.max) {
        err_set(&w->err, ERR_TOO_LARGE, "the text is longer than %zu bytes", w->text.max);
        return false;
    }
    if (value_utf8(text, len) != len)
        return fault(w, ERR_INVALID, "is not valid UTF-8");
    return write_scalar(w, text, len, string_style(text, len, key));
}

static bool write_list(lua_State *L, struct yaml_writer *w, int index, size_t count)
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

static bool write_map(lua_State *L, struct yaml_writer *w, int index, size_t count)
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

static bool write_table(lua_State *L, struct yaml_writer *w, int index)
{
    size_t count;
    enum value_shape shape;

    if (w->path.depth == VALUE_DEPTH)
        return fault(w, ERR_TOO_LARGE, "is nested deeper than 64 levels (a cycle?)");
    shape = value_shape(L, index, &count);
    if (shape == VALUE_ARRAY)
        return write_list(L, w, index, count);
    if (shape == VALUE_OBJECT)
        return write_map(L, w, index, count);
    return fault(w, ERR_INVALID, value_shape_fault(shape));
}

/* On failure the Lua stack is left as it is; yaml_write cuts it. */
static bool write_value(lua_State *L, struct yaml_writer *w, int index)
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
            return fault(w, ERR_INVALID, "is NaN or infinite");
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
    return fault(w, ERR_INVALID, what);
}

static bool write_document(lua_State *L, struct yaml_writer *w, int index, bool implicit)
{
    yaml_event_t event;

    return emit(w, &event, yaml_document_start_event_initialize(&event, NULL, NULL, NULL, implicit)) &&
           write_value(L, w, index) && emit(w, &event, yaml_document_end_event_initialize(&event, 1));
}

static bool write_documents(lua_State *L, struct yaml_writer *w, int index)
{
    size_t count;

    if (value_shape(L, index, &count) != VALUE_ARRAY && count)
        return fault(w, ERR_INVALID, "is not a list of documents");
    for (size_t i = 1; i <= count; i++) {
        lua_rawgeti(L, index, (lua_Integer)i);
        if (!write_document(L, w, lua_gettop(L), false))
            return false;
        lua_pop(L, 1);
    }
    return true;
}

bool yaml_write(lua_State *L, struct yaml_writer *w, int index, bool all)
{
    int top = lua_gettop(L);
    yaml_event_t event;
    bool ok;

    index = lua_absindex(L, index);
    if (!w->open) {
        err_set(&w->err, ERR_MEMORY, "no memory");
        return false;
    }
    ok = emit(w, &event, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING)) &&
         (all ? write_documents(L, w, index) : write_document(L, w, index, true)) &&
         emit(w, &event, yaml_stream_end_event_initialize(&event));
    lua_settop(L, top);
    return ok;
}

const struct err *yaml_writer_error(const struct yaml_writer *w)
{
    return &w->err;
}

void yaml_writer_text(lua_State *L, const struct yaml_writer *w)
{
    lua_pushlstring(L, w->text.data ? w->text.data : "", w->text.len);
}

struct yaml_writer *yaml_writer_push(lua_State *L, size_t max)
{
    struct yaml_writer *w = bind_new(L, sizeof *w, WRITER_CLASS);

    w->text.max = max;
    w->open = yaml_emitter_initialize(&w->emitter);
    if (w->open) {
        yaml_emitter_set_output(&w->emitter, take_text, w);
        yaml_emitter_set_encoding(&w->emitter, YAML_UTF8_ENCODING);
        yaml_emitter_set_unicode(&w->emitter, 1);
        yaml_emitter_set_indent(&w->emitter, 2);
        yaml_emitter_set_width(&w->emitter, -1);
    }
    return w;
}

static int l_writer_close(lua_State *L)
{
    struct yaml_writer *w = bind_self(L, 1, WRITER_CLASS);

    if (w->open)
        yaml_emitter_delete(&w->emitter);
    w->open = false;
    buf_free(&w->text);
    return 0;
}

void yaml_writer_open(lua_State *L)
{
    static const luaL_Reg no_methods[] = {{NULL, NULL}};
    static const luaL_Reg metamethods[] = {
        {"__gc", l_writer_close},
        {"__close", l_writer_close},
        {NULL, NULL},
    };

    bind_class(L, WRITER_CLASS, no_methods, metamethods);
}
