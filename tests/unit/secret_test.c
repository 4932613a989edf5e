/* The secret filter: every spelling is found, nothing else is touched, pieces hide nothing. */
#include "unit.h"
#include "secret.h"

#include <time.h>

static const char canary[] = "MOONCANARY-7f3a/+ \"\xc3\xa9\n&%z";

static struct secrets *with(const char *value)
{
    struct secrets *s = secrets_open();

    CHECK(secrets_add(s, value, strlen(value)));
    return s;
}

/* Filters and compares; the buffer's text is compared up to its length. */
static void expect(struct secrets *s, const char *text, const char *want)
{
    struct buf out = {0};

    CHECK(secrets_filter(s, text, strlen(text), &out));
    CHECK_STR(out.data ? out.data : "", want);
    buf_free(&out);
}

static void base64(const char *in, size_t len, bool web, char *out)
{
    const char *digits = web ? "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
                             : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned acc = 0, bits = 0;

    for (size_t i = 0; i < len; i++) {
        acc = acc << 8 | (unsigned char)in[i];
        for (bits += 8; bits >= 6; bits -= 6)
            *out++ = digits[acc >> (bits - 6) & 63];
    }
    if (bits)
        *out++ = digits[acc << (6 - bits) & 63];
    *out = '\0';
}

UNIT(literal)
{
    struct secrets *s = with("hunter22");

    expect(s, "nothing here", "nothing here");
    expect(s, "", "");
    expect(s, "hunter22", "[redacted]");
    expect(s, "a hunter22b hunter2 hunter22", "a [redacted]b hunter2 [redacted]");
    expect(s, "hunthunter22", "hunt[redacted]");
    secrets_close(s);
    expect(NULL, "no registry", "no registry");
}

UNIT(dropped)
{
    struct secrets *s = secrets_open();
    char token[64], text[200], lines[] = "first line of a long key\nsecond line of a long key\n";

    secrets_drop(s, "hunter22", 8);
    CHECK(secrets_add(s, "hunter22", 8) && secrets_add(s, "hunter22", 8) && secrets_add(s, "hunted999", 9));
    secrets_drop(s, "hunter22", 8);
    expect(s, "hunter22 hunted999", "[redacted] [redacted]"); /* registered twice */
    secrets_drop(s, "hunter22", 8);
    expect(s, "hunter22 hunted999", "hunter22 [redacted]");
    base64("hunter22", 8, false, text);
    expect(s, text, text);
    base64("hunted999", 9, false, text);
    expect(s, text, "[redacted]");
    secrets_drop(s, "hunter22", 8);
    secrets_drop(s, "ab", 2);
    CHECK(secrets_add(s, lines, strlen(lines)));
    expect(s, "a second line of a long key", "a [redacted]");
    secrets_drop(s, lines, strlen(lines));
    expect(s, "a second line of a long key", "a second line of a long key");
    for (int i = 0; i < 1000; i++) { /* tokens that follow each other */
        snprintf(token, sizeof token, "eyJhbGciOi-%d-%d", i, i * 7919);
        CHECK(secrets_add(s, token, strlen(token)));
        snprintf(text, sizeof text, "<%s>", token);
        expect(s, text, "<[redacted]>");
        if (i < 10)
            continue;
        snprintf(token, sizeof token, "eyJhbGciOi-%d-%d", i - 10, (i - 10) * 7919);
        secrets_drop(s, token, strlen(token));
        expect(s, token, token);
    }
    expect(s, "eyJhbGciOi-995-7879405", "[redacted]");
    expect(s, "hunted999", "[redacted]");
    secrets_close(s);
}

/* A stream keeps back what may begin a secret; it must not be lost when the last secret goes meanwhile. */
UNIT(dropped_while_a_stream_holds_its_beginning)
{
    struct secrets *s = with("hunter22");
    struct secrets_tail tail = {0};
    struct buf out = {0};

    CHECK(secrets_feed(s, &tail, "a hunt", 6, false, &out));
    CHECK_INT(out.len, 2);
    secrets_drop(s, "hunter22", 8);
    CHECK(secrets_feed(s, &tail, "er22 b", 6, false, &out));
    CHECK(secrets_feed(s, &tail, "", 0, true, &out));
    CHECK_STR(out.data, "a hunter22 b");
    CHECK_INT(tail.held.len, 0);
    secrets_tail_free(&tail);
    buf_free(&out);
    secrets_close(s);
}

UNIT(dropped_is_only_what_was_registered)
{
    static const char lines[] = "first line of a long key\nsecond line of a long key\n";
    struct secrets *s = with(lines);

    secrets_drop(s, "first line of a long key", 24);
    expect(s, "first line of a long key", "[redacted]");
    CHECK(secrets_add(s, "first line of a long key", 24));
    for (int i = 0; i < 3; i++)
        secrets_drop(s, "first line of a long key", 24);
    expect(s, "first line of a long key", "[redacted]");
    secrets_drop(s, lines, strlen(lines));
    expect(s, "first line of a long key", "first line of a long key");
    secrets_close(s);
}

UNIT(refused)
{
    struct secrets *s = secrets_open();

    CHECK(!secrets_add(s, "abc", 3));
    CHECK(!secrets_add(s, "", 0));
    CHECK_INT(secrets_longest(s), 0);
    expect(s, "abc", "abc");
    CHECK(secrets_add(s, "abcd", 4));
    CHECK(secrets_add(s, "abcd", 4));
    expect(s, "xabcdx", "x[redacted]x");
    secrets_close(s);
    secrets_close(NULL);
}

UNIT(nul_bytes)
{
    struct secrets *s = secrets_open();
    struct buf out = {0};

    CHECK(secrets_add(s, "ab\0cd", 5));
    CHECK(secrets_filter(s, "x\0ab\0cd\0y", 9, &out));
    CHECK_INT(out.len, 2 + 10 + 2);
    CHECK(out.data && memcmp(out.data, "x\0[redacted]\0y", 14) == 0);
    buf_free(&out);
    secrets_close(s);
}

/* Whatever stands before and after the secret inside the encoded text, the secret's own characters go. */
UNIT(base64_alignments)
{
    static const char *const before[] = {"", "u", "us", "use", "user:", "longer user:"};

    for (size_t len = 4; len < sizeof canary; len++) {
        struct secrets *s = secrets_open();

        CHECK(secrets_add(s, canary, len));
        for (size_t b = 0; b < sizeof before / sizeof *before; b++)
            for (size_t tail = 0; tail < 4; tail++)
                for (int web = 0; web < 2; web++) {
                    char plain[128], text[256];
                    struct buf out = {0};
                    int n = snprintf(plain, sizeof plain, "%s%.*s%.*s", before[b], (int)len, canary,
                                     (int)tail, "!!!");

                    base64(plain, (size_t)n, web, text);
                    CHECK(secrets_filter(s, text, strlen(text), &out));
                    CHECK(strstr(out.data, SECRET_MARK) != NULL);
                    /* at most a character on each side of the core and what belongs to
                     * the neighbours stays */
                    CHECK(out.len <= strlen(SECRET_MARK) + (strlen(before[b]) + tail) * 4 / 3 + 4);
                    buf_free(&out);
                }
        secrets_close(s);
    }
}

UNIT(percent)
{
    struct secrets *s = with("p/w+d 1%&");

    expect(s, "http://u:p%2Fw%2Bd%201%25%26@h/", "http://u:[redacted]@h/");
    expect(s, "p%2fw%2bd%201%25%26", "[redacted]");
    expect(s, "k=p%2Fw%2Bd+1%25%26&x", "k=[redacted]&x");
    expect(s, "p/w%2Bd%201%25&", "[redacted]"); /* a path encoder leaves the slash */
    expect(s, "%70%2F%77%2B%64%20%31%25%26!", "[redacted]!");
    expect(s, "p%2Fw%2Bd%202", "p%2Fw%2Bd%202");
    expect(s, "100% p%2", "100% p%2");
    secrets_close(s);
}

UNIT(json)
{
    struct secrets *s = with("a\"b/c\\d\n\xc3\xa9\xf0\x9f\x8c\x99<");

    expect(s, "{\"k\":\"a\\\"b/c\\\\d\\n\xc3\xa9\xf0\x9f\x8c\x99<\"}", "{\"k\":\"[redacted]\"}");
    expect(s, "a\\\"b\\/c\\\\d\\n\\u00e9\\ud83c\\udf19\\u003c", "[redacted]");
    expect(s, "\\u0061\\u0022\\u002F\\u002f", "\\u0061\\u0022\\u002F\\u002f");
    expect(s, "a\\\"b\\/c\\\\d\\n\\u00e9\\ud83c", "a\\\"b\\/c\\\\d\\n\\u00e9\\ud83c");
    secrets_close(s);
}

UNIT(encodings_combine)
{
    struct secrets *s = with("\xff\xff\xff\xff\xff\xff"); /* base64: all slashes */

    expect(s, "\"\\/\\/\\/\\/\\/\\/\\/\\/\"", "\"[redacted]\"");
    expect(s, "t=%2F%2F%2F%2F%2F%2F%2F%2F;", "t=[redacted];");
    expect(s, "________", "[redacted]");
    secrets_close(s);
}

UNIT(overlap)
{
    struct secrets *s = secrets_open();

    CHECK(secrets_add(s, "abcdef", 6));
    CHECK(secrets_add(s, "defghi", 6));
    CHECK(secrets_add(s, "abcd", 4));
    expect(s, "_abcdefghi_", "_[redacted]_");
    expect(s, "_abcdefgh_", "_[redacted]gh_");
    expect(s, "_abcde_", "_[redacted]e_");
    expect(s, "abcdabcd", "[redacted][redacted]");
    secrets_close(s);
}

UNIT(lines)
{
    struct secrets *s =
        with("-----BEGIN KEY-----\r\nMIIEvgIBADANBgkqhkiG9w0\r\nshort\r\n-----END KEY-----\r\n");
    struct secrets *file = with("pass\n");

    expect(s, "step 3: MIIEvgIBADANBgkqhkiG9w0 and short", "step 3: [redacted] and short");
    expect(s, "-----BEGIN KEY-----", "-----BEGIN KEY-----");
    expect(file, "my pass!", "my [redacted]!");
    secrets_close(s);
    secrets_close(file);
}

/* Cuts a text at every pair of places: the output is that of the whole, whatever the spelling. */
static void pieces(struct secrets *s, const char *text)
{
    struct buf want = {0};
    size_t len = strlen(text);

    CHECK(secrets_filter(s, text, len, &want));
    for (size_t a = 0; a <= len; a++)
        for (size_t b = a; b <= len; b++) {
            struct secrets_tail tail = {0};
            struct buf out = {0};

            CHECK(secrets_feed(s, &tail, text, a, false, &out));
            CHECK(secrets_feed(s, &tail, text + a, b - a, false, &out));
            CHECK(secrets_feed(s, &tail, text + b, len - b, true, &out));
            CHECK(out.len == want.len && (!out.len || memcmp(out.data, want.data, want.len) == 0));
            CHECK(tail.held.data == NULL);
            buf_free(&out);
        }
    buf_free(&want);
}

UNIT(split_writes)
{
    struct secrets *s = with("to/ken \"1\"");

    CHECK(secrets_add(s, "1\"and", 5));
    CHECK(secrets_add(s, "aaaa", 4));
    pieces(s, "GET to/ken \"1\" x");
    pieces(s, "x to%2Fken%20%221%22 to/ken+%221%22&");
    pieces(s, "{\"a\":\"to\\/ken \\u00221\\\"\"}");
    pieces(s, "to/ken \"1\"and aaaaaaab to/ke");
    pieces(s, "dG8va2VuICIxIg== AHRvL2tlbiAiMSI=");
    pieces(s, "100%");
    pieces(s, "\\u00");
    secrets_close(s);
}

/* Ordinary text is not kept back, and an endless run of marks does not pile up. */
UNIT(little_is_held)
{
    struct secrets *s = with("aaaaaaaa");
    struct secrets_tail tail = {0};
    struct buf out = {0};

    CHECK(secrets_feed(s, &tail, "ordinary line\n", 14, false, &out));
    CHECK_INT(tail.held.len, 0);
    CHECK_STR(out.data, "ordinary line\n");
    for (int i = 0; i < 1000; i++) {
        CHECK(secrets_feed(s, &tail, "aaaaa", 5, false, &out));
        CHECK(tail.held.len <= secrets_longest(s));
    }
    CHECK_STR(out.data, "ordinary line\n[redacted]");
    CHECK(secrets_feed(s, &tail, "b", 1, true, &out));
    CHECK_STR(out.data, "ordinary line\n[redacted]b");
    buf_free(&out);
    secrets_close(s);
}

UNIT(memory_limit)
{
    struct secrets *s = with("hunter22");
    struct buf out = {.max = 16};

    CHECK(buf_text(&out, "kept "));
    CHECK(!secrets_filter(s, "0123456789 hunter22", 19, &out));
    CHECK_STR(out.data, "kept ");
    buf_free(&out);
    secrets_close(s);
}

static void expect_shape(const char *text, const char *want)
{
    struct buf out = {0};

    CHECK(secrets_shapes(text, strlen(text), &out));
    CHECK_STR(out.data ? out.data : "", want);
    buf_free(&out);
}

UNIT(shapes)
{
    expect_shape("", "");
    expect_shape("https://dev:s3cret@git.example.com/x", "https://dev:[redacted]@git.example.com/x");
    expect_shape("https://dev:p@ss@h/ and http://a:b@c",
                 "https://dev:[redacted]@h/ and http://a:[redacted]@c");
    expect_shape("ssh://git@host:22/x http://[::1]:80/ a://b:80/u@v",
                 "ssh://git@host:22/x http://[::1]:80/ a://b:80/u@v");
    expect_shape("Authorization: Bearer abc.def-1", "Authorization: Bearer [redacted]");
    expect_shape("{\"authorization\":\"Basic ZGV2OnNlY3JldA==\"}",
                 "{\"authorization\":\"Basic [redacted]\"}");
    expect_shape("authorization failed", "authorization failed");
    expect_shape("no authorization", "no authorization");
    expect_shape("ghp_0123456789abcdefghij, ghp_short", "ghp_[redacted], ghp_short");
    expect_shape("https://hooks.slack.com/services/T0/B0/xyz", "https://hooks.slack.com/services/[redacted]");
    expect_shape("Authorization: [redacted]", "Authorization: [redacted]");
    expect_shape("http://u:[redacted]@h", "http://u:[redacted]@h");
    expect_shape("://", "://");
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void put(char *to, const char *what, size_t len)
{
    while (len--)
        *to++ = *what++;
}

static unsigned next(void)
{
    static unsigned state = 7;

    state ^= state << 13;
    state ^= state >> 17;
    return state ^= state << 5;
}

/* 2,000 secrets cost a scan little more than one: the figure is printed, the bound is generous. */
UNIT(many_secrets)
{
    enum { SIZE = 1 << 20 };
    struct secrets *s = secrets_open();
    char *text = malloc(SIZE);
    char value[40];
    double one = 0;

    for (size_t i = 0; i < SIZE; i++)
        text[i] = (char)(next() % 16 ? 'a' + next() % 26 : ' ' + next() % 64);
    for (int i = 0; i < 2000; i++) {
        snprintf(value, sizeof value, "secret-%d-%x-%x", i, next(), next());
        CHECK(secrets_add(s, value + (i % 2 ? 7 : 0), strlen(value) - (i % 2 ? 7 : 0)));
        if (i > 0 && i < 1999)
            continue;

        struct buf out = {0};
        double start = seconds();

        CHECK(secrets_filter(s, text, SIZE, &out));
        CHECK_INT(out.len, SIZE);
        buf_free(&out);
        if (i == 0)
            one = seconds() - start;
        else
            printf("  1 MiB: %.1f ms with one secret, %.1f ms with 2,000\n", one * 1e3,
                   (seconds() - start) * 1e3);
    }
    put(text + SIZE - strlen(value) + 7, value + 7, strlen(value) - 7);

    struct buf out = {0};

    CHECK(secrets_filter(s, text, SIZE, &out));
    CHECK(out.len > 10 && memcmp(out.data + out.len - 10, SECRET_MARK, 10) == 0);
    buf_free(&out);
    free(text);
    secrets_close(s);
}

UNIT_MAIN(C(literal), C(dropped), C(dropped_while_a_stream_holds_its_beginning),
          C(dropped_is_only_what_was_registered), C(refused), C(nul_bytes), C(base64_alignments), C(percent),
          C(json), C(encodings_combine), C(overlap), C(lines), C(split_writes), C(little_is_held),
          C(memory_limit), C(shapes), C(many_secrets))
