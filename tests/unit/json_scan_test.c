/* The JSON scanner: what it accepts, what it refuses and where, what it rewrites. */
#include "unit.h"
#include <time.h>
#include "json_scan.h"

/* The code's name, or "none"; *offset may be NULL. */
static const char *verdict(const char *text, size_t len, size_t *offset)
{
    struct json_scan scan = {0};
    struct err e = {.code = ERR_NONE};
    bool ok = json_scan(&scan, text, len, &e);

    if (offset)
        *offset = scan.offset;
    buf_free(&scan.out);
    return ok ? "none" : err_name(e.code);
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

static void rewritten(const char *text, const char *want)
{
    struct json_scan scan = {0};
    struct err e;

    CHECK(json_scan(&scan, text, strlen(text), &e));
    if (want)
        CHECK_STR(scan.out.data, want);
    else
        CHECK(!scan.out.data);
    buf_free(&scan.out);
}

UNIT(marks_what_cjson_would_lose)
{
    rewritten("[1,2.5,\"[]\",{}]", NULL);
    rewritten("[123456789012345,1e300]", NULL);
    rewritten("[]", "[\"\xFF\"]");
    rewritten("{\"a\":[ ],\"b\":1}", "{\"a\":[ \"\xFF\"],\"b\":1}");
    rewritten("1234567890123456", "\"\xFF"
                                  "1234567890123456\"");
    rewritten("[-9223372036854775808, 9223372036854775807]", "[\"\xFF-9223372036854775808\", \"\xFF"
                                                             "9223372036854775807\"]");
    rewritten("9223372036854775808", "\"\xFF~9223372036854775808\"");
    rewritten("1234567890123456.0", NULL);
}

UNIT(counts_members)
{
    struct json_scan scan = {0};
    struct err e;
    const char *text = "{\"a\":{\"a\":1,\"b\":[{\"a\":1}]},\"a\":[]}";

    CHECK(json_scan(&scan, text, strlen(text), &e));
    CHECK_INT(scan.members, 5);
    buf_free(&scan.out);
}

/* What a text of n copies of `unit` needs: each copy, and what comes once. */
static size_t need_of(const char *unit, size_t n, size_t *growth)
{
    struct json_scan scan = {0};
    struct err e;
    size_t len = strlen(unit) * n + 1, at = 1;
    char *text = malloc(len + 1);

    text[0] = '[';
    for (size_t i = 0; i < n; i++, at += strlen(unit))
        memcpy(text + at, unit, strlen(unit));
    text[at - 1] = ']'; /* the last comma */
    text[at] = '\0';
    CHECK(json_scan(&scan, text, at, &e));
    buf_free(&scan.out);
    free(text);
    *growth = scan.growth;
    return scan.need;
}

UNIT(knows_what_a_value_takes)
{
    size_t growth, list = 56 + 16 * 65536;

    CHECK_INT(need_of("1,", 65536, &growth), list);
    CHECK_INT(need_of("1,", 32769, &growth), list);
    CHECK_INT(growth, 0);
    CHECK_INT(need_of("true,", 65536, &growth), list);
    CHECK_INT(need_of("[1,2,3],", 65536, &growth), list + 65536 * (56 + 4 * 16));
    CHECK_INT(need_of("{},", 65536, &growth), list + 65536 * 56);
    CHECK_INT(need_of("{\"a\":1,\"b\":2,\"c\":3},", 65536, &growth),
              list + 65536 * (56 + 4 * 24) + 3 * (48 + 3));
    CHECK_INT(growth, 2 * 24);
    CHECK_INT(need_of("\"same\",", 65536, &growth), list + 48 + 6);
    CHECK_INT(need_of("\"more than forty bytes: each of these is kept by itself\",", 65536, &growth),
              list + 65536 * (48 + 56));
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
          C(bounds_depth_and_numbers), C(marks_what_cjson_would_lose), C(counts_members),
          C(knows_what_a_value_takes), C(is_linear))
