/* What JSON, YAML and SQLite agree on: null, lists, shapes of tables, key order, numbers, paths. */
#include "unit.h"
#include <lauxlib.h>
#include <lualib.h>
#include "value_lua.h"

static lua_State *opened(void)
{
    lua_State *L = luaL_newstate();

    luaL_openlibs(L);
    return L;
}

static enum value_shape shape_of(lua_State *L, const char *code, size_t *count)
{
    enum value_shape shape;

    CHECK(luaL_dostring(L, code) == LUA_OK);
    shape = value_shape(L, -1, count);
    lua_pop(L, 1);
    return shape;
}

UNIT(tells_lists_from_objects)
{
    lua_State *L = opened();
    size_t n;

    CHECK_INT(shape_of(L, "return {}", &n), VALUE_OBJECT);
    CHECK_INT(shape_of(L, "return {1, 2, 3}", &n), VALUE_ARRAY);
    CHECK_INT(n, 3);
    CHECK_INT(shape_of(L, "return {a = 1, b = 2}", &n), VALUE_OBJECT);
    CHECK_INT(n, 2);
    CHECK_INT(shape_of(L, "return {1, a = 1}", &n), VALUE_MIXED);
    CHECK_INT(shape_of(L, "return {[1] = 1, [3] = 1}", &n), VALUE_HOLES);
    CHECK_INT(shape_of(L, "return {[2] = 1}", &n), VALUE_HOLES);
    CHECK_INT(shape_of(L, "return {[0] = 1}", &n), VALUE_HOLES);
    CHECK_INT(shape_of(L, "return {[math.mininteger] = 1}", &n), VALUE_HOLES);
    CHECK_INT(shape_of(L, "return {[math.maxinteger] = 1}", &n), VALUE_HOLES);
    CHECK_INT(shape_of(L, "return {[1.5] = 1}", &n), VALUE_BAD_KEY);
    CHECK_INT(shape_of(L, "return {[print] = 1}", &n), VALUE_BAD_KEY);
    CHECK_INT(shape_of(L, "return {[2^53] = 1}", &n), VALUE_HOLES); /* Lua makes it an integer key */
    lua_newtable(L);
    CHECK(!value_is_array(L, -1));
    value_mark_array(L, -1);
    CHECK(value_is_array(L, -1));
    CHECK_INT(value_shape(L, -1, &n), VALUE_ARRAY);
    lua_pushliteral(L, "x");
    lua_setfield(L, -2, "name");
    CHECK_INT(value_shape(L, -1, &n), VALUE_MIXED);
    CHECK_INT(lua_gettop(L), 1);
    lua_close(L);
}

UNIT(has_one_null)
{
    lua_State *L = opened();

    CHECK(!value_is_null(L, 1));
    value_push_null(L);
    value_push_null(L);
    CHECK(lua_rawequal(L, 1, 2));
    CHECK(value_is_null(L, 1));
    CHECK_STR(luaL_tolstring(L, 1, NULL), "null");
    lua_pushlightuserdata(L, NULL);
    CHECK(!value_is_null(L, -1));
    lua_newuserdatauv(L, 0, 0);
    CHECK(!value_is_null(L, -1));
    lua_pushboolean(L, 0);
    CHECK(!value_is_null(L, -1));
    lua_close(L);
}

UNIT(sorts_keys_by_bytes)
{
    lua_State *L = opened();
    const char *want[] = {"", "A", "a", "a\0b", "ab", "\xC3\xA9"};
    const struct value_key *keys;

    CHECK(luaL_dostring(L, "return {['\xC3\xA9'] = 1, ab = 1, a = 1, A = 1, [''] = 1, ['a\\0b'] = 1}") ==
          LUA_OK);
    keys = value_keys(L, -1, 6);
    for (size_t i = 0; i < 6; i++)
        CHECK(memcmp(keys[i].text, want[i], keys[i].len) == 0);
    CHECK_INT(keys[3].len, 3);
    CHECK_INT(lua_gettop(L), 2);
    lua_close(L);
}

UNIT(prints_numbers_that_read_back)
{
    static const struct {
        double value;
        const char *text;
    } floats[] = {
        {42.0, "42"},
        {-0.0, "0"},
        {0.1, "0.1"},
        {1e15, "1000000000000000"},
        {1e300, "1e+300"},
        {0.30000000000000004, "0.30000000000000004"},
        {9223372036854775808.0, "9.22337203685478e+18"},
    };
    lua_State *L = opened();
    char text[VALUE_NUMBER_SIZE];

    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
        lua_pushnumber(L, floats[i].value);
        CHECK_INT(value_number(L, -1, text), strlen(text));
        CHECK(strtod(text, NULL) == floats[i].value);
        if (i < 6)
            CHECK_STR(text, floats[i].text);
    }
    lua_pushinteger(L, LUA_MININTEGER);
    value_number(L, -1, text);
    CHECK_STR(text, "-9223372036854775808");
    lua_pushnumber(L, 0.0 / 0.0);
    CHECK_INT(value_number(L, -1, text), 0);
    lua_pushnumber(L, 1e308 * 10);
    CHECK_INT(value_number(L, -1, text), 0);
    lua_close(L);
}

UNIT(prints_paths_for_people)
{
    struct value_path path = {0};
    char text[32];

    value_path_print(&path, text, sizeof text);
    CHECK_STR(text, "the value");
    path.steps[0] = (struct value_step){.key = "apps", .len = 4};
    path.steps[1] = (struct value_step){.index = 2};
    path.steps[2] = (struct value_step){.key = "a\x1B\n", .len = 3};
    path.depth = 3;
    value_path_print(&path, text, sizeof text);
    CHECK_STR(text, "apps[2].a??");
    for (path.depth = 0; path.depth < VALUE_DEPTH; path.depth++)
        path.steps[path.depth] = (struct value_step){.key = "abcdefg", .len = 7};
    value_path_print(&path, text, sizeof text);
    CHECK_INT(strlen(text), sizeof text - 1);
}

UNIT_MAIN(C(tells_lists_from_objects), C(has_one_null), C(sorts_keys_by_bytes),
          C(prints_numbers_that_read_back), C(prints_paths_for_people))
