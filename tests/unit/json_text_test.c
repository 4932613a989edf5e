/* JSON strings: what is escaped, and what an escape stands for, also where the text is cut. */
#include "unit.h"
#include "json_text.h"

static bool is_star(uint32_t code)
{
    return code == '*' || code == 0x1F319;
}

static void quotes(const char *text, size_t len, bool (*hidden)(uint32_t), const char *want)
{
    struct buf out = {0};

    CHECK(json_quote(&out, text, len, hidden));
    CHECK_STR(out.data, want);
    buf_free(&out);
}

UNIT(quotes_what_must_be)
{
    quotes("", 0, NULL, "\"\"");
    quotes("a/b \xc3\xa9 \x7f", 8, NULL, "\"a/b \xc3\xa9 \x7f\"");
    quotes("\"\\\b\f\n\r\t\0\x1f", 9, NULL, "\"\\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f\"");
    quotes("a\xff", 2, NULL, "\"a\xef\xbf\xbd\"");
    quotes("a*\xff\xf0\x9f\x8c\x99", 7, is_star, "\"a\\u002a\\ufffd\\ud83c\\udf19\"");
}

UNIT(keeps_to_a_limit)
{
    struct buf out = {.max = 4};

    CHECK(json_quote(&out, "ab", 2, NULL));
    buf_free(&out);
    CHECK(!json_quote(&out, "abc", 3, NULL));
    CHECK(!json_quote(&out, "\n\n", 2, NULL));
    buf_free(&out);
}

/* What the escape stands for, "none", or "cut". */
static const char *meaning(const char *text, size_t left)
{
    static char out[5];
    size_t used = 99, n = json_unescape(out, text, left, &used);

    out[n] = '\0';
    if (n)
        CHECK(used <= left && used >= 2);
    return n ? out : used ? "none" : "cut";
}

UNIT(undoes_one_escape)
{
    static const char pair[] = "\\ud83c\\udf19";

    CHECK_STR(meaning("\\n...", 5), "\n");
    CHECK_STR(meaning("\\/", 2), "/");
    CHECK_STR(meaning("\\u0041", 6), "A");
    CHECK_STR(meaning("\\u00e9", 6), "\xc3\xa9");
    CHECK_STR(meaning("\\u20AC", 6), "\xe2\x82\xac");
    CHECK_STR(meaning(pair, 12), "\xf0\x9f\x8c\x99");
    for (size_t left = 1; left < 12; left++)
        CHECK_STR(meaning(pair, left), "cut");
    CHECK_STR(meaning("\\x41", 4), "none");
    CHECK_STR(meaning("\\", 1), "cut");
    CHECK_STR(meaning("\\\0", 2), "none");
    CHECK_STR(meaning("\\u00g0", 6), "none");
    CHECK_STR(meaning("\\u00g", 5), "none");
    CHECK_STR(meaning("\\udf19\\ud83c", 12), "none");
    CHECK_STR(meaning("\\ud83c\\u0041", 12), "none");
    CHECK_STR(meaning("\\ud83cabcdef", 12), "none");
    CHECK_STR(meaning("\\ud83c\\n", 8), "none");
}

UNIT_MAIN(C(quotes_what_must_be), C(keeps_to_a_limit), C(undoes_one_escape))
