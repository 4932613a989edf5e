/* Binding helpers: arguments, option tables, handles. */
#include "bind.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct host *bind_host(lua_State *L)
{
    return *(struct host **)lua_getextraspace(L);
}

bool bind_script_line(lua_State *L, lua_Debug *ar)
{
    lua_Debug at;
    bool found = false;

    for (int level = 0; level < 64 && lua_getstack(L, level, &at); level++) {
        bool ours;

        if (!lua_getinfo(L, "Sl", &at) || at.currentline <= 0)
            continue;
        ours = strncmp(at.short_src, "stdlib/", 7) == 0;
        if (!found || !ours)
            *ar = at;
        found = true;
        if (!ours)
            break;
    }
    return found;
}

int bind_error(lua_State *L, const char *fmt, ...)
{
    lua_Debug ar;
    va_list args;

    if (bind_script_line(L, &ar))
        lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
    else
        lua_pushliteral(L, "");
    va_start(args, fmt);
    lua_pushvfstring(L, fmt, args);
    va_end(args);
    lua_concat(L, 2);
    lua_error(L);
}

int bind_usage(lua_State *L, const char *usage)
{
    bind_error(L, "usage: %s", usage);
}

const char *bind_text(lua_State *L, int arg, const char *usage)
{
    size_t len;
    const char *text;

    if (lua_type(L, arg) != LUA_TSTRING)
        bind_usage(L, usage);
    text = lua_tolstring(L, arg, &len);
    if (memchr(text, '\0', len))
        bind_error(L, "argument %d holds a NUL byte (usage: %s)", arg, usage);
    return text;
}

/* Edit distance of short words, for suggestions; words over 31 bytes are never close. */
static unsigned distance(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b);
    unsigned row[32];

    if (la > 31 || lb > 31)
        return 99;
    for (size_t j = 0; j <= lb; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= la; i++) {
        unsigned diagonal = row[0];

        row[0] = (unsigned)i;
        for (size_t j = 1; j <= lb; j++) {
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[lb];
}

static int unknown_option(lua_State *L, const char *key, const char *usage, const char *const known[])
{
    const char *closest = NULL;
    unsigned best = 3;

    for (int i = 0; known[i]; i++) {
        unsigned d = distance(key, known[i]);

        if (d < best) {
            best = d;
            closest = known[i];
        }
    }
    if (closest)
        return bind_error(L, "unknown option '%s', did you mean '%s'? (usage: %s)", key, closest, usage);
    return bind_error(L, "unknown option '%s' (usage: %s)", key, usage);
}

void bind_plain(lua_State *L, int index)
{
    if (!lua_istable(L, index) || !lua_getmetatable(L, index))
        return;
    lua_pop(L, 1);
    luaL_checkstack(L, 5, "options");
    index = lua_absindex(L, index);
    lua_newtable(L);
    lua_pushnil(L);
    while (lua_next(L, index)) { /* copy key value */
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -4);
    }
    lua_replace(L, index);
}

int bind_field(lua_State *L, int index, const char *name)
{
    index = lua_absindex(L, index);
    lua_pushstring(L, name);
    return lua_rawget(L, index);
}

bool bind_options(lua_State *L, int arg, const char *usage, const char *const known[])
{
    if (lua_isnoneornil(L, arg))
        return false;
    if (!lua_istable(L, arg))
        bind_usage(L, usage);
    luaL_checkstack(L, 4, usage);
    bind_plain(L, arg);
    lua_pushnil(L);
    while (lua_next(L, arg)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            const char *key = lua_tostring(L, -1);
            int i = 0;

            while (known[i] && strcmp(known[i], key) != 0)
                i++;
            if (!known[i])
                unknown_option(L, key, usage, known);
        }
    }
    return true;
}

/* Pushes the option's value; its type, LUA_TNIL when there is none. */
static int push_option(lua_State *L, int arg, const char *name)
{
    if (!lua_istable(L, arg)) {
        lua_pushnil(L);
        return LUA_TNIL;
    }
    return bind_field(L, arg, name);
}

static int wrong_type(lua_State *L, const char *name, const char *want)
{
    return bind_error(L, "option '%s' must be a %s, not a %s", name, want, luaL_typename(L, -1));
}

const char *bind_opt_bytes(lua_State *L, int arg, const char *name, size_t *len)
{
    const char *text = NULL;
    int type = push_option(L, arg, name);

    if (type == LUA_TSTRING)
        text = lua_tolstring(L, -1, len);
    else if (type != LUA_TNIL)
        wrong_type(L, name, "string");
    lua_pop(L, 1);
    return text;
}

const char *bind_opt_text(lua_State *L, int arg, const char *name, const char *fallback)
{
    size_t len;
    const char *text = bind_opt_bytes(L, arg, name, &len);

    if (!text)
        return fallback;
    if (memchr(text, '\0', len))
        bind_error(L, "option '%s' holds a NUL byte", name);
    return text;
}

lua_Number bind_opt_number(lua_State *L, int arg, const char *name, lua_Number fallback)
{
    lua_Number value = fallback;
    int type = push_option(L, arg, name);

    if (type == LUA_TNUMBER)
        value = lua_tonumber(L, -1);
    else if (type != LUA_TNIL)
        wrong_type(L, name, "number");
    if (value != value)
        bind_error(L, "option '%s' is not a number", name);
    lua_pop(L, 1);
    return value;
}

lua_Integer bind_opt_integer(lua_State *L, int arg, const char *name, lua_Integer fallback)
{
    lua_Integer value = fallback;
    int type = push_option(L, arg, name);

    if (type != LUA_TNIL) {
        int whole = 0;

        if (type == LUA_TNUMBER)
            value = lua_tointegerx(L, -1, &whole);
        if (!whole)
            wrong_type(L, name, "whole number");
    }
    lua_pop(L, 1);
    return value;
}

bool bind_opt_bool(lua_State *L, int arg, const char *name, bool fallback)
{
    bool value = fallback;
    int type = push_option(L, arg, name);

    if (type == LUA_TBOOLEAN)
        value = lua_toboolean(L, -1);
    else if (type != LUA_TNIL)
        wrong_type(L, name, "boolean");
    lua_pop(L, 1);
    return value;
}

uint64_t bind_millis(lua_Number seconds)
{
    uint64_t millis;

    if (!(seconds > 0))
        return 0;
    if (seconds > 1e12)
        return UINT64_C(1000000000000000);
    millis = (uint64_t)(seconds * 1000 + 0.999999);
    return millis ? millis : 1;
}

void bind_class(lua_State *L, const char *name, const luaL_Reg *methods, const luaL_Reg *metamethods)
{
    luaL_newmetatable(L, name);
    if (metamethods)
        luaL_setfuncs(L, metamethods, 0);
    lua_newtable(L);
    if (methods)
        luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

void bind_closable(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction close)
{
    const luaL_Reg metamethods[] = {{"__gc", close}, {"__close", close}, {NULL, NULL}};

    bind_class(L, name, methods, metamethods);
}

void *bind_new(lua_State *L, size_t size, const char *name)
{
    void *self = lua_newuserdatauv(L, size, 1);

    memset(self, 0, size);
    luaL_setmetatable(L, name);
    return self;
}

void *bind_self(lua_State *L, int arg, const char *name)
{
    return luaL_checkudata(L, arg, name);
}
