/* core.log: log lines, and the redaction that they share with everything else the host writes.
 *
 * Nothing here waits. The one service object is an upvalue of all functions; it owns the line buffers, so
 * that a script's error in the middle of a line (a failing __tostring) leaks nothing. Which level is logged
 * and who gets copies is decided in stdlib/log.lua. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <lua.h>
#include <lauxlib.h>
#include "api.h"
#include "bind.h"
#include "err_lua.h"
#include "host.h"
#include "log.h"

#define FIELDS_MAX 64
#define DEPTH_MAX  3
#define ITEMS_MAX  16
#define KEEP_MAX   65536

#define SERVICE_CLASS  "moontide.log"
#define REDACTOR_CLASS "moontide.redactor"

struct service {
    struct log log;
    struct buf known, text;
};

struct redactor {
    struct secrets_tail tail;
    struct buf out;
};

/* The fields of one event; `anchor` is the stack index of the table that keeps their strings alive. */
struct collection {
    struct log_field fields[FIELDS_MAX];
    size_t count, left_out;
    int anchor;
};

static struct service *service(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* The string on top of the stack, which is popped and kept in the anchor table. */
static const char *keep(lua_State *L, struct collection *c, size_t *len)
{
    const char *text = lua_tolstring(L, -1, len);

    lua_rawseti(L, c->anchor, (lua_Integer)lua_rawlen(L, c->anchor) + 1);
    return text;
}

/* Takes name and text, both strings on top of the stack. */
static void add_text(lua_State *L, struct collection *c, bool bare)
{
    struct log_field f = {.bare = bare};

    if (c->count == FIELDS_MAX - 1) {
        c->left_out++;
        lua_pop(L, 2);
        return;
    }
    f.text = keep(L, c, &f.len);
    f.name = keep(L, c, &f.name_len);
    c->fields[c->count++] = f;
}

/* Name and list on top: takes both, adds "a, b, c". */
static void add_list(lua_State *L, struct collection *c)
{
    luaL_Buffer b;
    lua_Integer count = (lua_Integer)lua_rawlen(L, -1);
    int list = lua_absindex(L, -1);

    luaL_buffinit(L, &b);
    for (lua_Integer i = 1; i <= count && i <= ITEMS_MAX; i++) {
        if (i > 1)
            luaL_addstring(&b, ", ");
        lua_rawgeti(L, list, i);
        luaL_tolstring(L, -1, NULL);
        lua_remove(L, -2);
        luaL_addvalue(&b);
    }
    if (count > ITEMS_MAX)
        luaL_addstring(&b, ", ...");
    luaL_pushresult(&b);
    lua_remove(L, list);
    add_text(L, c, false);
}

static void add_value(lua_State *L, struct collection *c, int depth);

/* Name and map on top: takes both, adds name.key for each key. */
static void add_map(lua_State *L, struct collection *c, int depth)
{
    int map = lua_absindex(L, -1), name = map - 1;

    luaL_checkstack(L, 12, "log fields");
    lua_pushnil(L);
    while (lua_next(L, map)) { /* name map key value */
        lua_pushvalue(L, name);
        lua_pushliteral(L, ".");
        luaL_tolstring(L, -4, NULL);
        lua_concat(L, 3);
        lua_insert(L, -2); /* name map key name.key value */
        add_value(L, c, depth + 1);
    }
    lua_pop(L, 2);
}

/* Name and an object with a text form on top: takes both. An error adds its code. */
static void add_object(lua_State *L, struct collection *c)
{
    if (lua_istable(L, -1)) {
        lua_pushliteral(L, "code");
        lua_rawget(L, -2);
        if (lua_type(L, -1) == LUA_TSTRING) {
            lua_pushvalue(L, -3);
            lua_pushliteral(L, ".code");
            lua_concat(L, 2);
            lua_insert(L, -2);
            add_text(L, c, false);
        } else {
            lua_pop(L, 1);
        }
    }
    luaL_tolstring(L, -1, NULL);
    lua_remove(L, -2);
    add_text(L, c, false);
}

/* Takes name (a string) and value, both on top of the stack. */
static void add_value(lua_State *L, struct collection *c, int depth)
{
    bool bare = false;

    switch (lua_type(L, -1)) {
    case LUA_TNUMBER:
        bare = isfinite(lua_tonumber(L, -1));
        break;
    case LUA_TBOOLEAN:
        bare = true;
        break;
    case LUA_TUSERDATA: /* json.null says so itself */
        luaL_tolstring(L, -1, NULL);
        lua_remove(L, -2);
        add_text(L, c, strcmp(lua_tostring(L, -1), "null") == 0);
        return;
    case LUA_TTABLE:
        if (luaL_getmetafield(L, -1, "__tostring") != LUA_TNIL) {
            lua_pop(L, 1);
            add_object(L, c);
        } else if (lua_rawlen(L, -1) > 0) {
            add_list(L, c);
        } else if (depth < DEPTH_MAX) {
            add_map(L, c, depth);
        } else {
            lua_pop(L, 1);
            lua_pushliteral(L, "{...}");
            add_text(L, c, false);
        }
        return;
    }
    luaL_tolstring(L, -1, NULL);
    lua_remove(L, -2);
    add_text(L, c, bare);
}

static int by_name(const void *a, const void *b)
{
    const struct log_field *x = a, *y = b;
    size_t shorter = x->name_len < y->name_len ? x->name_len : y->name_len;
    int order = memcmp(x->name, y->name, shorter);

    return order ? order : (x->name_len > y->name_len) - (x->name_len < y->name_len);
}

/* Adds the fields of a table in the order of their names, without those that table `over` has too. */
static void collect(lua_State *L, struct collection *c, int table, int over)
{
    size_t first = c->count;

    if (!lua_istable(L, table))
        return;
    lua_pushnil(L);
    while (lua_next(L, table)) {
        bool hidden = false;

        if (over && lua_istable(L, over)) {
            lua_pushvalue(L, -2);
            hidden = lua_rawget(L, over) != LUA_TNIL;
            lua_pop(L, 1);
        }
        if (hidden) {
            lua_pop(L, 1);
            continue;
        }
        luaL_tolstring(L, -2, NULL); /* key value name */
        lua_insert(L, -2);
        add_value(L, c, 0);
    }
    qsort(c->fields + first, c->count - first, sizeof *c->fields, by_name);
}

static void count_left_out(lua_State *L, struct collection *c)
{
    if (!c->left_out)
        return;

    struct log_field f = {.name = "fields_left_out", .name_len = 15, .bare = true};

    lua_pushfstring(L, "%d", (int)c->left_out);
    f.text = keep(L, c, &f.len);
    c->fields[c->count++] = f;
}

/* write(level, message, fields, bound, want): writes a line; returns it as JSON when `want` is true. `fields`
 * win over `bound`. */
static int l_write(lua_State *L)
{
    struct service *s = service(L);
    struct collection c = {.count = 0};
    struct log_event event = {.fields = c.fields};

    lua_settop(L, 5);
    event.level = (enum log_level)luaL_checkoption(L, 1, NULL, log_level_names);
    event.message = luaL_tolstring(L, 2, &event.len);
    luaL_checkstack(L, 16, "log fields");
    lua_newtable(L);
    c.anchor = lua_gettop(L);
    collect(L, &c, 4, 3);
    collect(L, &c, 3, 0);
    count_left_out(L, &c);
    event.count = c.count;
    log_write(&s->log, &event);
    if (!lua_toboolean(L, 5))
        return 0;
    s->text.len = 0;
    if (!log_object(&s->log, &event, &s->text))
        return 0;
    lua_pushlstring(L, s->text.data, s->text.len);
    if (s->text.cap > KEEP_MAX)
        buf_free(&s->text);
    return 1;
}

/* configure{format = "auto" | "json" | "text", color = "auto" | "always" | "never", burst = lines} */
static int l_configure(lua_State *L)
{
    static const char usage[] = "log.configure{format=, color=, burst=}";
    static const char *const known[] = {"format", "color", "burst", NULL};
    struct log *log = &service(L)->log, fresh;

    if (!bind_options(L, 1, usage, known))
        return 0;
    log_init(&fresh, log->fd, log->secrets);

    const char *format = bind_opt_text(L, 1, "format", NULL), *color = bind_opt_text(L, 1, "color", NULL);
    lua_Integer burst = bind_opt_integer(L, 1, "burst", (lua_Integer)log->burst);

    if (burst < 0)
        return bind_usage(L, usage);
    if (format && strcmp(format, "auto") == 0)
        log->human = fresh.human;
    else if (format && (strcmp(format, "json") == 0 || strcmp(format, "text") == 0))
        log->human = format[0] == 't';
    else if (format)
        return bind_usage(L, usage);
    if (color && strcmp(color, "auto") == 0)
        log->color = fresh.color;
    else if (color && (strcmp(color, "always") == 0 || strcmp(color, "never") == 0))
        log->color = color[0] == 'a';
    else if (color)
        return bind_usage(L, usage);
    log->burst = (unsigned)burst;
    return 0;
}

/* looks() -> text, color: the format of lines: text or JSON, coloured or not */
static int l_looks(lua_State *L)
{
    lua_pushboolean(L, service(L)->log.human);
    lua_pushboolean(L, service(L)->log.color);
    return 2;
}

/* secret(value) -> true | nil, err */
static int l_secret(lua_State *L)
{
    size_t len;
    const char *value = luaL_checklstring(L, 1, &len);

    if (!secrets_add(bind_host(L)->secrets, value, len))
        return err_fail(L, len < 4 ? ERR_INVALID : ERR_MEMORY, "log.secret", NULL,
                        len < 4 ? "a secret of less than 4 bytes cannot be hidden" : "out of memory");
    lua_pushboolean(L, true);
    return 1;
}

/* forget(value): takes one registration back. */
static int l_forget(lua_State *L)
{
    size_t len;
    const char *value = luaL_checklstring(L, 1, &len);

    secrets_drop(bind_host(L)->secrets, value, len);
    return 0;
}

/* redact(text) -> text */
static int l_redact(lua_State *L)
{
    struct service *s = service(L);
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);

    s->known.len = s->text.len = 0;
    if (!secrets_filter(bind_host(L)->secrets, text, len, &s->known) ||
        !secrets_shapes(s->known.data, s->known.len, &s->text))
        return err_throw(L, ERR_MEMORY, "log.redact", NULL, "out of memory");
    lua_pushlstring(L, s->text.data ? s->text.data : "", s->text.len);
    if (s->known.cap > KEEP_MAX)
        buf_free(&s->known);
    if (s->text.cap > KEEP_MAX)
        buf_free(&s->text);
    return 1;
}

/* redactor() -> a filter for text in pieces */
static int l_redactor(lua_State *L)
{
    bind_new(L, sizeof(struct redactor), REDACTOR_CLASS);
    return 1;
}

/* redactor:feed(text [, last]) -> text that is decided */
static int l_redactor_feed(lua_State *L)
{
    struct redactor *r = bind_self(L, 1, REDACTOR_CLASS);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);

    r->out.len = 0;
    if (!secrets_feed(bind_host(L)->secrets, &r->tail, text, len, lua_toboolean(L, 3), &r->out))
        return err_throw(L, ERR_MEMORY, "log.redactor", NULL, "out of memory");
    lua_pushlstring(L, r->out.data ? r->out.data : "", r->out.len);
    if (r->out.cap > KEEP_MAX)
        buf_free(&r->out);
    return 1;
}

static int l_redactor_gc(lua_State *L)
{
    struct redactor *r = bind_self(L, 1, REDACTOR_CLASS);

    secrets_tail_free(&r->tail);
    buf_free(&r->out);
    return 0;
}

/* pcall(fn, ...) -> true | false, err: calls a sink; a pcall without continuation, so it cannot wait */
static int l_pcall(lua_State *L)
{
    int status = lua_pcall(L, lua_gettop(L) - 1, 0, 0);

    lua_pushboolean(L, status == LUA_OK);
    if (status == LUA_OK)
        return 1;
    lua_insert(L, -2);
    return 2;
}

static int l_service_gc(lua_State *L)
{
    struct service *s = bind_self(L, 1, SERVICE_CLASS);

    log_fini(&s->log);
    buf_free(&s->known);
    buf_free(&s->text);
    return 0;
}

static const luaL_Reg redactor_methods[] = {
    {"feed", l_redactor_feed},
    {NULL, NULL},
};

static const luaL_Reg service_metamethods[] = {
    {"__gc", l_service_gc},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"write", l_write},       {"configure", l_configure}, {"looks", l_looks},
    {"secret", l_secret},     {"forget", l_forget},       {"redact", l_redact},
    {"redactor", l_redactor}, {"pcall", l_pcall},         {NULL, NULL},
};

int luaopen_core_log(lua_State *L)
{
    struct service *s;

    bind_closable(L, REDACTOR_CLASS, redactor_methods, l_redactor_gc);
    bind_class(L, SERVICE_CLASS, NULL, service_metamethods);
    luaL_newlibtable(L, functions);
    s = bind_new(L, sizeof *s, SERVICE_CLASS);
    log_init(&s->log, STDERR_FILENO, bind_host(L)->secrets);
    s->log.clock = &bind_host(L)->clock;
    luaL_setfuncs(L, functions, 1);
    return 1;
}
