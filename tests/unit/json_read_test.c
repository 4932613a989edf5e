/* The JSON reader: what it accepts, what it refuses and where, and what it makes of it. */
#include "unit.h"
#include <time.h>
#include <lauxlib.h>
#include "json_read.h"
#include "value_lua.h"

static lua_State *L;

/* The code's name, or "none", with the value on top of the stack; *offset may be NULL. */
static const char *verdict_of(const char *text, size_t len, bool null_as_nil, size_t *offset)
{
    struct err e;
    size_t at = 0;
    bool ok;

    if (!L)
        L = luaL_newstate();
    lua_settop(L, 0);
    lua_pushlstring(L, text, len);
    ok = json_read(L, 1, null_as_nil, &e, &at);
    if (offset)
        *offset = at;
    return ok ? "none" : err_name(e.code);
}

static const char *verdict(const char *text, size_t len, size_t *offset)
{
    return verdict_of(text, len, false, offset);
}

static void refused(const char *text, size_t want_offset)
{
    size_t offset;

    CHECK_STR(verdict(text, strlen(text), &offset), "invalid");
    if (offset != want_offset) {
        printf("  %s\n", text);
        CHECK_INT(offset, want_offset);
    }
}

UNIT(accepts_the_grammar)
{
    static const char *const good[] = {
        "0",
        "-0",
        "1",
        "-12",
        "1.5",
        "1e5",
        "1E+5",
        "-1.25e-3",
        "\"\"",
        "\"a\"",
        "true",
        "false",
        "null",
        "[]",
        "{}",
        " [ ] ",
        "[1,2]",
        "[[],[[]]]",
        "{\"a\":1}",
        "{ \"a\" : [ { } ] , \"b\" : null }\r\n\t",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\\u0000\"",
        "\"\\ud83d\\ude00\"",
        "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"",
        "\"\x7F\"",
    };

    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK_STR(verdict(good[i], strlen(good[i]), NULL), "none");
}

UNIT(refuses_what_is_no_json)
{
    static const struct {
        const char *text;
        size_t offset;
    } bad[] = {
        {"", 1},           {"  ", 3},        {"[", 2},
        {"]", 1},          {"[1", 3},        {"[1,]", 4},
        {"[,1]", 2},       {"[1 2]", 4},     {"{", 2},
        {"{\"a\"", 5},     {"{\"a\":", 6},   {"{\"a\":1", 7},
        {"{\"a\":1,}", 8}, {"{a:1}", 2},     {"{1:1}", 2},
        {"{\"a\" 1}", 6},  {"[1}", 3},       {"{\"a\":1]", 7},
        {"1 1", 3},        {"[] []", 4},     {"01", 1},
        {"-", 2},          {"-a", 2},        {"1.", 3},
        {".5", 1},         {"+1", 1},        {"1e", 3},
        {"1e+", 4},        {"0x10", 2},      {"1_000", 2},
        {"NaN", 1},        {"nan", 1},       {"Infinity", 1},
        {"-Infinity", 2},  {"inf", 1},       {"True", 1},
        {"tru", 1},        {"nulll", 5},     {"'a'", 1},
        {"// a\n1", 1},    {"\"a", 1},       {"\"\\x41\"", 2},
        {"\"\\", 2},       {"\"\\u12\"", 2}, {"\"\\u12g4\"", 2},
        {"\"a\nb\"", 3},   {"\"\t\"", 2},    {"\xEF\xBB\xBF[]", 1},
        {"\v1", 1},        {"1e999", 1},     {"[-1e400]", 2},
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused(bad[i].text, bad[i].offset);
    CHECK_STR(verdict("\0", 1, NULL), "invalid");
    CHECK_STR(verdict("[1]\0", 4, NULL), "invalid");
    CHECK_STR(verdict("\"\0\"", 3, NULL), "invalid");
}

UNIT(refuses_broken_text)
{
    /* overlong, surrogates as UTF-8, beyond U+10FFFF, cut, stray continuation */
    refused("\"\xC0\x80\"", 2);
    refused("\"\xE0\x80\x80\"", 2);
    refused("\"\xED\xA0\x80\"", 2);
    refused("\"\xF4\x90\x80\x80\"", 2);
    refused("\"a\xC3\"", 3);
    refused("\"\xE2\x82\"", 2);
    refused("\"\x80\"", 2);
    refused("\"\xFF\"", 2);
    refused("\"\xC3\xA9\xC3\"", 4);
    /* lone surrogates as escapes */
    refused("\"\\ud800\"", 2);
    refused("\"\\udc00\"", 2);
    refused("\"\\ud800\\u0041\"", 2);
    refused("\"\\ud800x\"", 2);
    refused("\"\\ud800\\ud800\"", 2);
}

UNIT(bounds_depth_and_numbers)
{
    char text[256], number[80];
    size_t offset;

    memset(text, '[', 64);
    memset(text + 64, ']', 64);
    CHECK_STR(verdict(text, 128, NULL), "none");
    memset(text, '[', 65);
    memset(text + 65, ']', 65);
    CHECK_STR(verdict(text, 130, &offset), "too_large");
    CHECK_INT(offset, 65);
    memset(number, '1', sizeof number);
    CHECK_STR(verdict(number, 64, NULL), "none");
    CHECK_STR(verdict(number, 65, &offset), "too_large");
    CHECK_INT(offset, 1);
    number[1] = '.';
    CHECK_STR(verdict(number, 65, NULL), "too_large");
}

static void number(const char *text, bool whole, lua_Integer integer, double value)
{
    CHECK_STR(verdict(text, strlen(text), NULL), "none");
    if (lua_isinteger(L, -1) != whole ||
        (whole ? lua_tointeger(L, -1) != integer : lua_tonumber(L, -1) != value))
        CHECK_STR(text, "read as it should be");
}

UNIT(reads_numbers)
{
    static const char *const doubles[] = {"0.1",
                                          "-2.5",
                                          "1e-7",
                                          "123456.789",
                                          "1.7976931348623157e308",
                                          "5e-324",
                                          "0.30000000000000004",
                                          "2251799813685249.5",
                                          "1e23",
                                          "8.5e-23",
                                          "1.0e-22",
                                          "999999999999999.9e-5",
                                          "0.000000000000000000000000000000000000000000000000012345",
                                          "1e-400"};

    number("-0", true, 0, 0);
    number("42.0", true, 42, 0);
    number("4.2e1", true, 42, 0);
    number("420e-1", true, 42, 0);
    number("-0.0", true, 0, 0);
    number("999999999999999999", true, 999999999999999999, 0);
    number("9007199254740993", true, 9007199254740993, 0);
    number("9223372036854775807", true, INT64_MAX, 0);
    number("-9223372036854775808", true, INT64_MIN, 0);
    number("9223372036854775808", false, 0, 9223372036854775808.0);
    number("-9223372036854775809", false, 0, -9223372036854775808.0);
    number("1e18", true, 1000000000000000000, 0);
    number("1e19", false, 0, 1e19);
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++) {
        double value = strtod(doubles[i], NULL);

        number(doubles[i], value == 0, 0, value);
    }
}

static unsigned random_next(unsigned *seed)
{
    *seed = *seed * 1664525U + 1013904223U;
    return *seed >> 16;
}

UNIT(rounds_as_strtod_does)
{
    unsigned seed = 20261129;

    for (int i = 0; i < 200000; i++) {
        char text[48], *exponent;
        unsigned a = random_next(&seed), b = random_next(&seed) * random_next(&seed);

        snprintf(text, sizeof text, "%u.%0*ue%d", a % 1000, (int)(random_next(&seed) % 12 + 1), b,
                 (int)(random_next(&seed) % 60) - 30);
        exponent = strchr(text, 'e');
        if (i % 2)
            *exponent = '\0';
        CHECK_STR(verdict(text, strlen(text), NULL), "none");
        if (lua_tonumber(L, -1) != strtod(text, NULL))
            CHECK_STR(text, "read as it should be");
    }
}

/* The length of what `text` stands for, by Lua's own count. */
static lua_Integer length(const char *text, bool null_as_nil)
{
    CHECK_STR(verdict_of(text, strlen(text), null_as_nil, NULL), "none");
    return (lua_Integer)lua_rawlen(L, -1);
}

UNIT(reads_lists_and_objects_of_all_sizes)
{
    char text[2000], key[16];

    for (int n = 0; n < 70; n++) {
        char *at = text;

        at = stpcpy(at, "[");
        for (int i = 1; i <= n; i++)
            at += sprintf(at, "%s%d", i > 1 ? "," : "", i);
        stpcpy(at, "]");
        CHECK_INT(length(text, false), n);
        CHECK(value_is_array(L, -1));
        for (int i = 1; i <= n; i++) {
            CHECK(lua_rawgeti(L, -1, i) == LUA_TNUMBER && lua_tointeger(L, -1) == i);
            lua_pop(L, 1);
        }

        at = stpcpy(text, "{");
        for (int i = 1; i <= n; i++)
            at += sprintf(at, "%s\"k%d\":%s", i > 1 ? "," : "", i, i % 3 ? "1" : "null");
        stpcpy(at, "}");
        for (int as_nil = 0; as_nil < 2; as_nil++) {
            length(text, as_nil);
            for (int i = 1; i <= n; i++) {
                sprintf(key, "k%d", i);
                lua_pushstring(L, key);
                CHECK_INT(lua_rawget(L, -2), i % 3 ? LUA_TNUMBER : as_nil ? LUA_TNIL : LUA_TUSERDATA);
                lua_pop(L, 1);
            }
        }
        for (int i = 1; i <= n; i++) { /* the same once more with a key that is there */
            size_t offset, len = (size_t)(at - text);

            sprintf(at, ",\"k%d\":null}", i);
            CHECK_STR(verdict_of(text, strlen(text), i % 2, &offset), "invalid");
            CHECK_INT(offset, len + 2);
        }
    }
    CHECK_INT(length("[null,2,null]", false), 3);
    CHECK(length("[null,2]", true) == 2 && lua_rawgeti(L, -1, 1) == LUA_TNIL);
}

UNIT(knows_long_keys_again)
{
    char text[300], key[101];

    memset(key, 'k', 100);
    key[100] = '\0';
    snprintf(text, sizeof text, "{\"%s\":1,\"%s2\":2}", key, key);
    CHECK_STR(verdict(text, strlen(text), NULL), "none");
    snprintf(text, sizeof text, "{\"%s\":1,\"%s\":2}", key, key);
    CHECK_STR(verdict(text, strlen(text), NULL), "invalid");
    CHECK_STR(verdict("{\"a\":1,\"\\u0061\":2}", 18, NULL), "invalid");
}

static int finalized;

/* Reads another text, which is wrong every other time. */
static int l_finalize(lua_State *S)
{
    struct err e;
    size_t at;

    lua_pushstring(S, finalized++ % 2 ? "{\"x\":[1,2.5,null,{\"y\":12345678901234567}]}"
                                      : "{\"x\":{\"y\":1,\"y\":2}}");
    if (json_read(S, -1, finalized % 3 == 0, &e, &at) != (finalized % 2 == 0))
        abort();
    return 0;
}

UNIT(reads_while_a_finalizer_reads)
{
    static const char text[] =
        "[{\"a\":9007199254740993,\"b\":[null,[],{}],\"c\":null,\"d\":\"\\u00e9\"},1.5]";
    int before;

    verdict("1", 1, NULL);
    lua_gc(L, LUA_GCINC, 100, 1000, 1);
    before = finalized;
    for (int i = 0; i < 2000; i++) {
        lua_settop(L, 0);
        lua_newtable(L);
        lua_createtable(L, 0, 1);
        lua_pushcfunction(L, l_finalize);
        lua_setfield(L, -2, "__gc");
        lua_setmetatable(L, -2);
        CHECK_STR(verdict_of(text, strlen(text), i % 2, NULL), "none");
        CHECK_INT(lua_rawlen(L, -1), 2);
        lua_rawgeti(L, -1, 1);
        CHECK_INT(lua_getfield(L, -1, "a"), LUA_TNUMBER);
        CHECK(lua_tointeger(L, -1) == 9007199254740993);
        CHECK_INT(lua_getfield(L, -2, "c"), i % 2 ? LUA_TNIL : LUA_TUSERDATA);
        CHECK_INT(lua_getfield(L, -3, "b"), LUA_TTABLE);
        CHECK_INT(lua_rawgeti(L, -1, 2), LUA_TTABLE);
        CHECK(value_is_array(L, -1));
        CHECK_INT(lua_rawgeti(L, -2, 3), LUA_TTABLE);
        CHECK(!value_is_array(L, -1));
    }
    CHECK(finalized > before + 500);
    lua_close(L);
    L = NULL;
}

static size_t allowed; /* allocations until all fail */

static void *stingy(void *ud, void *ptr, size_t osize, size_t nsize)
{
    (void)ud;
    (void)osize;
    if (!nsize) {
        free(ptr);
        return NULL;
    }
    if (!ptr || nsize > osize) {
        if (!allowed)
            return NULL;
        allowed--;
    }
    return realloc(ptr, nsize);
}

static int l_read(lua_State *S)
{
    struct err e;
    size_t at;

    lua_pushboolean(S, json_read(S, 1, true, &e, &at));
    return 1;
}

UNIT(survives_the_end_of_memory)
{
    static const char text[] =
        "{\"a\":[null,2.5,[]],\"b\":null,\"c\":\"long enough to be a string of its own, surely\"}";
    size_t n = 0;
    int status = LUA_ERRMEM;

    while (status == LUA_ERRMEM) {
        lua_State *S;

        allowed = SIZE_MAX;
        S = lua_newstate(stingy, NULL);
        lua_pushcfunction(S, l_read);
        lua_pushstring(S, text);
        allowed = n++;
        status = lua_pcall(S, 1, 1, 0);
        allowed = SIZE_MAX;
        if (status != LUA_OK) { /* what the failure left does not trouble the next one */
            CHECK_INT(status, LUA_ERRMEM);
            lua_pushcfunction(S, l_read);
            lua_pushstring(S, text);
            CHECK_INT(lua_pcall(S, 1, 1, 0), LUA_OK);
        }
        CHECK(lua_toboolean(S, -1));
        lua_close(S);
    }
    CHECK(n > 10);
}

/* Seconds of processor time for n copies of `unit` between `head` and `tail`. */
static double cost(const char *head, const char *unit, const char *tail, size_t n)
{
    size_t h = strlen(head), u = strlen(unit), t = strlen(tail), len = h + n * u + t;
    char *text = calloc(len + 1, 1), *at = text;
    clock_t start;

    at = stpcpy(at, head);
    for (size_t i = 0; i < n; i++)
        at = stpcpy(at, unit);
    stpcpy(at, tail);
    start = clock();
    verdict(text, len, NULL);
    free(text);
    return (double)(clock() - start) / CLOCKS_PER_SEC;
}

UNIT(is_linear)
{
    /* eight megabytes each; a quadratic scanner would take hours, a slow build of a linear one a second */
    CHECK(cost("", "[", "", 8000000) < 10);
    CHECK(cost("[", "[],", "1]", 2600000) < 10);
    CHECK(cost("[", "1234567890123456789,", "1]", 400000) < 10);
    CHECK(cost("\"", "\xF0\x9F\x98\x80", "\"", 2000000) < 10);
    CHECK(cost("\"", "\\u0041", "\"", 1300000) < 10);
    CHECK(cost("\"", "\\", "", 8000000) < 10);
    CHECK(cost("", "9", "", 8000000) < 10);
    CHECK(cost("", " ", "", 8000000) < 10);
}

UNIT_MAIN(C(accepts_the_grammar), C(refuses_what_is_no_json), C(refuses_broken_text),
          C(bounds_depth_and_numbers), C(reads_numbers), C(rounds_as_strtod_does),
          C(reads_lists_and_objects_of_all_sizes), C(knows_long_keys_again), C(reads_while_a_finalizer_reads),
          C(survives_the_end_of_memory), C(is_linear))
