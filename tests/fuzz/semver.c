/* Versions and ranges: lines of an input are versions, the last line a range. Independent oracles: the
 * regular expression of semver.org for what is valid, a slow comparison by whole strings, and comparisons as
 * ranges. */
#include "fuzz.h"
#include <regex.h>
#include "semver.h"

#define ID "(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"

static const char OFFICIAL[] = "^(0|[1-9][0-9]*)\\.(0|[1-9][0-9]*)\\.(0|[1-9][0-9]*)(-" ID "(\\." ID ")*)?"
                               "(\\+[0-9a-zA-Z-]+(\\.[0-9a-zA-Z-]+)*)?$";

static bool is_official(const char *text, size_t len)
{
    static regex_t official;
    static bool compiled;
    char copy[SEMVER_MAX + 1];

    if (!compiled) {
        HOLDS(regcomp(&official, OFFICIAL, REG_EXTENDED | REG_NOSUB) == 0);
        compiled = true;
    }
    if (len > SEMVER_MAX || (len && memchr(text, 0, len)) || (len && memchr(text, '\n', len)))
        return false;
    memcpy(copy, text, len);
    copy[len] = 0;
    return regexec(&official, copy, 0, NULL, 0) == 0;
}

static int sign(int n)
{
    return (n > 0) - (n < 0);
}

/* Compares identifiers by writing numbers with leading zeros to one width: a different way
 * than the host's. */
static int slow_id(struct semver_part a, struct semver_part b)
{
    char x[SEMVER_MAX + 2], y[SEMVER_MAX + 2];
    bool a_number = semver_is_number(a), b_number = semver_is_number(b);

    snprintf(x, sizeof x, "%s%*s%.*s", a_number ? "" : "~", a_number ? (int)(SEMVER_MAX - a.len) : 0, "",
             (int)a.len, a.data);
    snprintf(y, sizeof y, "%s%*s%.*s", b_number ? "" : "~", b_number ? (int)(SEMVER_MAX - b.len) : 0, "",
             (int)b.len, b.data);
    return sign(strcmp(x, y));
}

static int slow_compare(const struct semver *a, const struct semver *b)
{
    struct semver_part x = a->pre, y = b->pre, one, two;
    int order = slow_id(a->major, b->major);

    order = order ? order : slow_id(a->minor, b->minor);
    order = order ? order : slow_id(a->patch, b->patch);
    if (order || (!x.data && !y.data))
        return order;
    if (!x.data || !y.data)
        return x.data ? -1 : 1;
    for (;;) {
        bool more_a = semver_next_id(&x, &one), more_b = semver_next_id(&y, &two);

        if (!more_a || !more_b)
            return more_a - more_b;
        order = slow_id(one, two);
        if (order)
            return order;
    }
}

/* A version written again from its parts is the text that it came from. */
static void check_round_trip(const struct semver *v, struct fuzz_piece text)
{
    char again[SEMVER_MAX + 8];
    int len = snprintf(again, sizeof again, "%.*s.%.*s.%.*s%s%.*s%s%.*s", (int)v->major.len, v->major.data,
                       (int)v->minor.len, v->minor.data, (int)v->patch.len, v->patch.data,
                       v->pre.data ? "-" : "", (int)v->pre.len, v->pre.data ? v->pre.data : "",
                       v->build.data ? "+" : "", (int)v->build.len, v->build.data ? v->build.data : "");

    HOLDS((size_t)len == text.len && memcmp(again, text.data, text.len) == 0);
}

static bool satisfies(const struct semver *v, const char *op, struct fuzz_piece operand)
{
    char range[SEMVER_MAX + 8];
    struct err e;
    int len = snprintf(range, sizeof range, "%s%.*s", op, (int)operand.len, operand.data);
    bool in = semver_satisfies(v, range, (size_t)len, &e);

    HOLDS(e.code == ERR_NONE);
    return in;
}

static void check_ranges(const struct semver *a, const struct semver *b, struct fuzz_piece b_text, int order)
{
    bool open = !a->pre.data || b->pre.data;

    HOLDS(satisfies(a, ">", b_text) == (open && order > 0));
    HOLDS(satisfies(a, ">= ", b_text) == (open && order >= 0));
    HOLDS(satisfies(a, "<v", b_text) == (open && order < 0));
    HOLDS(satisfies(a, "=<", b_text) == (open && order <= 0));
    HOLDS(satisfies(a, "", b_text) == (open && order == 0));
    HOLDS(satisfies(a, "!=", b_text) == (open && order != 0));
    HOLDS(order >= 0 || (!satisfies(a, "~", b_text) && !satisfies(a, "^", b_text)));
    HOLDS(!satisfies(a, "~", b_text) || semver_equal_part(a->minor, b->minor));
    HOLDS(!satisfies(a, "^", b_text) || semver_equal_part(a->major, b->major));
}

static void check_pair(const struct semver *a, const struct semver *b, struct fuzz_piece b_text)
{
    int order = semver_compare(a, b);

    HOLDS(order == -semver_compare(b, a));
    HOLDS(order == slow_compare(a, b));
    check_ranges(a, b, b_text, order);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {(const char *)data, (const char *)data + size};
    struct fuzz_piece text[3];
    struct semver v[3], loose;
    struct err e;
    int count = 0;

    while (in.at < in.end && count < 3) {
        struct fuzz_piece line = fuzz_line(&in);
        bool strict = semver_parse(&v[count], line.data, line.len);

        HOLDS(strict == is_official(line.data, line.len));
        HOLDS(!strict || semver_parse_loose(&loose, line.data, line.len));
        if (!strict) {
            semver_parse_loose(&loose, line.data, line.len);
            if (count > 0)
                semver_satisfies(&v[0], line.data, line.len, &e);
            continue;
        }
        HOLDS(semver_compare(&v[count], &loose) == 0);
        check_round_trip(&v[count], line);
        text[count++] = line;
    }
    for (int a = 0; a < count; a++) {
        for (int b = 0; b < count; b++) {
            check_pair(&v[a], &v[b], text[b]);
            for (int c = 0; c < count; c++)
                HOLDS(!(semver_compare(&v[a], &v[b]) <= 0 && semver_compare(&v[b], &v[c]) <= 0) ||
                      semver_compare(&v[a], &v[c]) <= 0);
        }
    }
    return 0;
}
