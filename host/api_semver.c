/* Semantic versions for Lua: core.semver, wrapped by stdlib/semver.lua. Nothing here waits.
 *
 *     parse(text [, loose]) -> table        compare(a, b [, loose]) -> -1, 0, 1
 *     satisfies(version, range) -> bool     glob(pattern, text) -> bool
 *     regexp(pattern) -> handle             handle:match(text) -> bool, key
 *
 * What cannot be understood is answered with nil and an error table, except by glob; match does so (budget)
 * for a text that takes too many steps. */
#include <stdio.h>
#include <string.h>
#include "api.h"
#include "bind.h"
#include "err_lua.h"
#include "regexp.h"
#include "semver.h"

#define REGEXP_CLASS "semver.regexp"

/* Answers nil and why `text` is no version. The text may be hostile and endless: only its
 * beginning is told. */
static int refuse(lua_State *L, const char *op, const char *text, size_t len, bool loose)
{
    char start[80];

    snprintf(start, sizeof start, "%.*s%s", len > 64 ? 64 : (int)len, text, len > 64 ? "..." : "");
    if (len > SEMVER_MAX)
        return err_fail(L, ERR_TOO_LARGE, op, start, "a version may have %d bytes, this one has %zu",
                        SEMVER_MAX, len);
    return err_fail(L, ERR_INVALID, op, start, "%s",
                    loose ? "not a version: needs numbers such as 1.2 or v1.2.3"
                          : "not a semantic version: needs MAJOR.MINOR.PATCH[-PRE][+BUILD]");
}

static bool parse(struct semver *v, const char *text, size_t len, bool loose)
{
    return loose ? semver_parse_loose(v, text, len) : semver_parse(v, text, len);
}

/* Pushes digits as an integer, or as a string when none is large enough. */
static void push_number(lua_State *L, struct semver_part n)
{
    static const struct semver_part most = {"9223372036854775807", 19};
    lua_Integer value = 0;

    if (semver_compare_number(n, most) > 0) {
        lua_pushlstring(L, n.data, n.len);
        return;
    }
    for (size_t i = 0; i < n.len; i++)
        value = value * 10 + (n.data[i] - '0');
    lua_pushinteger(L, value);
}

/* Sets field `name` of the table on top to the list of identifiers; numbers become
 * integers when `numbers`. */
static void set_ids(lua_State *L, const char *name, struct semver_part rest, bool numbers)
{
    struct semver_part id;
    lua_Integer i = 0;

    lua_newtable(L);
    while (semver_next_id(&rest, &id)) {
        if (numbers && semver_is_number(id))
            push_number(L, id);
        else
            lua_pushlstring(L, id.data, id.len);
        lua_rawseti(L, -2, ++i);
    }
    lua_setfield(L, -2, name);
}

static int l_parse(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    bool loose = lua_toboolean(L, 2);
    struct semver v;

    if (!parse(&v, text, len, loose))
        return refuse(L, "semver.parse", text, len, loose);
    lua_createtable(L, 0, 7);
    push_number(L, v.major);
    lua_setfield(L, -2, "major");
    push_number(L, v.minor);
    lua_setfield(L, -2, "minor");
    push_number(L, v.patch);
    lua_setfield(L, -2, "patch");
    set_ids(L, "pre", v.pre, !loose); /* as written: update policies compare texts, and 01 is not 1 there */
    set_ids(L, "build", v.build, false);
    lua_pushvalue(L, 1);
    lua_setfield(L, -2, "text");
    return 1;
}

static int l_compare(lua_State *L)
{
    size_t a_len, b_len;
    const char *a_text = luaL_checklstring(L, 1, &a_len), *b_text = luaL_checklstring(L, 2, &b_len);
    bool loose = lua_toboolean(L, 3);
    struct semver a, b;

    if (!parse(&a, a_text, a_len, loose))
        return refuse(L, "semver.compare", a_text, a_len, loose);
    if (!parse(&b, b_text, b_len, loose))
        return refuse(L, "semver.compare", b_text, b_len, loose);
    lua_pushinteger(L, semver_compare(&a, &b));
    return 1;
}

static int l_satisfies(lua_State *L)
{
    size_t len, range_len;
    const char *text = luaL_checklstring(L, 1, &len), *range = luaL_checklstring(L, 2, &range_len);
    struct semver v;
    struct err e;
    bool in;

    if (!semver_parse(&v, text, len))
        return refuse(L, "semver.satisfies", text, len, false);
    in = semver_satisfies(&v, range, range_len, &e);
    if (e.code != ERR_NONE)
        return err_return(L, &e, "semver.satisfies", NULL);
    lua_pushboolean(L, in);
    return 1;
}

static int l_glob(lua_State *L)
{
    size_t pattern_len, len;
    const char *pattern = luaL_checklstring(L, 1, &pattern_len), *text = luaL_checklstring(L, 2, &len);

    lua_pushboolean(L, pattern_len <= REGEXP_PATTERN_MAX && len <= REGEXP_SUBJECT_MAX &&
                           glob_match(pattern, pattern_len, text, len));
    return 1;
}

static int l_regexp(lua_State *L)
{
    size_t len;
    const char *pattern = luaL_checklstring(L, 1, &len);
    struct regexp *re = bind_new(L, sizeof *re, REGEXP_CLASS);
    struct err e;

    return regexp_compile(re, pattern, len, &e) ? 1 : err_return(L, &e, "semver.regexp", NULL);
}

/* The second result is what the group named `compare` holds: "" when it took no part, nil when
 * there is none. */
static int l_match(lua_State *L)
{
    const struct regexp *re = bind_self(L, 1, REGEXP_CLASS);
    struct regexp_key key;
    struct err e;
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    bool matches = regexp_match(re, text, len, &key, &e);

    if (e.code == ERR_MEMORY)
        return err_raise(L, &e, "semver.regexp", NULL);
    if (e.code != ERR_NONE)
        return err_return(L, &e, "semver.regexp", NULL);
    lua_pushboolean(L, matches);
    if (!re->has_key)
        return 1;
    lua_pushlstring(L, key.data ? key.data : "", key.len);
    return 2;
}

static const luaL_Reg methods[] = {{"match", l_match}, {NULL, NULL}};

static const luaL_Reg functions[] = {
    {"parse", l_parse}, {"compare", l_compare}, {"satisfies", l_satisfies},
    {"glob", l_glob},   {"regexp", l_regexp},   {NULL, NULL},
};

int luaopen_core_semver(lua_State *L)
{
    bind_class(L, REGEXP_CLASS, methods, NULL);
    luaL_newlib(L, functions);
    return 1;
}
