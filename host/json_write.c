/* JSON writer: keys sorted by their bytes, whole numbers without fraction, shortest text that reads back as
 * the same double. Numbers that Lua calls equal (42 and 42.0) are written equally.
 *
 * Tables are read by raw access, so writing runs no script. The way to the current value is kept for
 * messages. */
#include "json_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <lauxlib.h>
#include "codec.h"
#include "json_text.h"
#include "value_lua.h"

struct writer {
    lua_State *L;
    struct buf *out;
    struct err *err;
    struct json_style style;
    struct value_path path;
};

static bool write_value(struct writer *w, int index);

static bool fault(struct writer *w, enum err_code code, const char *what)
{
    char path[160];

    value_path_print(&w->path, path, sizeof path);
    err_set(w->err, code, "%s %s", path, what);
    return false;
}

/* The text has no room for `len` more bytes, or the machine none. */
static bool full(struct writer *w, size_t len)
{
    if (w->out->max && w->out->len + len > w->out->max)
        err_set(w->err, ERR_TOO_LARGE, "the text is longer than %zu bytes", w->out->max);
    else
        err_set(w->err, ERR_MEMORY, "no memory");
    return false;
}

static bool put(struct writer *w, const char *text, size_t len)
{
    return buf_add(w->out, text, len) || full(w, len);
}

static bool put_line(struct writer *w)
{
    static const char spaces[2 * VALUE_DEPTH + 1] =
        "                                                                "
        "                                                                ";

    return !w->style.pretty || (put(w, "\n", 1) && put(w, spaces, 2 * (size_t)w->path.depth));
}

static bool write_string(struct writer *w, const char *text, size_t len)
{
    if (!w->style.clean && utf8_prefix(text, len) < len)
        return fault(w, ERR_INVALID, "is not valid UTF-8");
    return json_quote(w->out, text, len, NULL) || full(w, 6 * len + 2);
}

static bool write_number(struct writer *w, int index)
{
    char text[VALUE_NUMBER_SIZE];
    size_t len = value_number(w->L, index, text);

    return len ? put(w, text, len) : fault(w, ERR_INVALID, "is NaN or infinite");
}

static bool write_array(struct writer *w, int index, size_t count)
{
    lua_State *L = w->L;

    if (!put(w, "[", 1))
        return false;
    w->path.depth++;
    for (size_t i = 1; i <= count; i++) {
        w->path.steps[w->path.depth - 1] = (struct value_step){.index = (lua_Integer)i};
        if ((i > 1 && !put(w, ",", 1)) || !put_line(w))
            return false;
        lua_rawgeti(L, index, (lua_Integer)i);
        if (!write_value(w, lua_gettop(L)))
            return false;
        lua_pop(L, 1);
    }
    w->path.depth--;
    return (!count || put_line(w)) && put(w, "]", 1);
}

static bool write_object(struct writer *w, int index, size_t count)
{
    lua_State *L = w->L;
    const struct value_key *keys = value_keys(L, index, count);

    if (!put(w, "{", 1))
        return false;
    w->path.depth++;
    for (size_t i = 0; i < count; i++) {
        w->path.steps[w->path.depth - 1] = (struct value_step){.key = keys[i].text, .len = keys[i].len};
        if ((i && !put(w, ",", 1)) || !put_line(w) || !write_string(w, keys[i].text, keys[i].len) ||
            !put(w, ": ", w->style.pretty ? 2 : 1))
            return false;
        lua_pushlstring(L, keys[i].text, keys[i].len);
        lua_rawget(L, index);
        if (!write_value(w, lua_gettop(L)))
            return false;
        lua_pop(L, 1);
    }
    w->path.depth--;
    lua_pop(L, 1); /* the keys */
    return (!count || put_line(w)) && put(w, "}", 1);
}

static bool write_table(struct writer *w, int index)
{
    size_t count;
    enum value_shape shape;

    if (w->path.depth == VALUE_DEPTH)
        return fault(w, ERR_TOO_LARGE, "is nested deeper than 64 levels (a cycle?)");
    shape = value_shape(w->L, index, &count);
    if (shape == VALUE_ARRAY)
        return write_array(w, index, count);
    if (shape == VALUE_OBJECT)
        return write_object(w, index, count);
    return fault(w, ERR_INVALID, value_shape_fault(shape));
}

/* On failure the Lua stack is left as it is; json_write cuts it. */
static bool write_value(struct writer *w, int index)
{
    lua_State *L = w->L;
    char what[40];
    size_t len;
    const char *text;

    luaL_checkstack(L, 8, "json");
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
        return lua_toboolean(L, index) ? put(w, "true", 4) : put(w, "false", 5);
    case LUA_TNUMBER:
        return write_number(w, index);
    case LUA_TSTRING:
        text = lua_tolstring(L, index, &len);
        return write_string(w, text, len);
    case LUA_TTABLE:
        return write_table(w, index);
    case LUA_TUSERDATA:
        if (value_is_null(L, index))
            return put(w, "null", 4);
        break;
    case LUA_TNIL:
        return fault(w, ERR_INVALID, "is nil (write json.null for null)");
    default:
        break;
    }
    snprintf(what, sizeof what, "is a %s", lua_typename(L, lua_type(L, index)));
    return fault(w, ERR_INVALID, what);
}

bool json_write(lua_State *L, int index, const struct json_style *style, struct buf *out, struct err *e)
{
    struct writer w = {.L = L, .out = out, .err = e, .style = *style};
    int top = lua_gettop(L);
    bool ok = write_value(&w, lua_absindex(L, index));

    lua_settop(L, top);
    return ok;
}
