/* Versions and ranges against the tables of SemVer 2.0.0, node-semver and Masterminds v3. */
#include "unit.h"
#include "semver.h"
#include <time.h>

static bool valid(const char *text)
{
    struct semver v;
    return semver_parse(&v, text, strlen(text));
}

static bool loosely(const char *text)
{
    struct semver v;
    return semver_parse_loose(&v, text, strlen(text));
}

static int order(const char *a, const char *b)
{
    struct semver x, y;

    if (!semver_parse_loose(&x, a, strlen(a)) || !semver_parse_loose(&y, b, strlen(b)))
        return 99;
    return semver_compare(&x, &y);
}

enum { NO_RANGE = 4, NO_VERSION = 8 }; /* bits of their own, so that & and | of answers tell the truth */

/* 1 yes, 0 no, or what could not be understood. */
static int in(const char *version, const char *range)
{
    struct semver v;
    struct err e;
    bool yes;

    if (!semver_parse(&v, version, strlen(version)))
        return NO_VERSION;
    yes = semver_satisfies(&v, range, strlen(range), &e);
    return e.code == ERR_NONE ? yes : NO_RANGE;
}

#define EQUALS(part, text) CHECK((part).len == strlen(text) && memcmp((part).data, text, (part).len) == 0)

UNIT(accepts_exactly_semver)
{
    static const char *const good[] = {
        "0.0.4",
        "1.2.3",
        "10.20.30",
        "1.1.2-prerelease+meta",
        "1.1.2+meta",
        "1.1.2+meta-valid",
        "1.0.0-alpha",
        "1.0.0-alpha.beta.1",
        "1.0.0-alpha0.valid",
        "1.0.0-alpha.0valid",
        "1.0.0-rc.1+build.1",
        "1.0.0-alpha-a.b-c-somethinglong+build.1-aef.1-its-okay",
        "1.2.3----RC-SNAPSHOT.12.9.1--.12+788",
        "1.2.3----R-S.12.9.1--.12+meta",
        "1.0.0+0.build.1-rc.10000aaa-kk-0.1",
        "1.0.0-0A.is.legal",
        "1.2.3-0",
        "99999999999999999999999.999999999999999999.99999999999999999",
        "2.0.1-alpha.1227",
        "1.2.3+001",
    };
    static const char *const bad[] = {
        "",
        "1",
        "1.2",
        "1.2.3-0123",
        "1.2.3-0123.0123",
        "1.1.2+.123",
        "+invalid",
        "-invalid",
        "alpha",
        "alpha.1",
        "1.0.0-alpha_beta",
        "1.0.0-alpha..",
        "1.0.0-alpha..1",
        "01.1.1",
        "1.01.1",
        "1.1.01",
        "1.2.3.DEV",
        "1.2-SNAPSHOT",
        "1.2.31.2.3----RC-SNAPSHOT.12.09.1--..12+788",
        "-1.0.3-gamma+b7718",
        "+justmeta",
        "9.8.7+meta+meta",
        "v1.2.3",
        "V1.2.3",
        "release-1.2.3",
        "=v1.2.3",
        "vv1.2.3",
        " v1.2.3 ",
        "1.2.3 ",
        "1.2.3-01",
        "1.2.3-a..b",
        "1.2.3-",
        "1.2.3+",
        "1.2.3beta",
        "1..3",
        ".1.2",
        "1.2.",
        "1.2.3-a_b",
        "1.2.3-\xc3\xa9",
        "1.2.3+a..b",
        "1.2.3\n",
        "latest",
        "3050",
        "1.2.3.4",
    };

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (!valid(good[i]))
            CHECK_STR(good[i], "accepted");
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (valid(bad[i]))
            CHECK_STR(bad[i], "refused");
    }
}

UNIT(tells_the_parts)
{
    struct semver v;
    const char *text = "1.20.300-rc.1.x-y+b.007";

    CHECK(semver_parse(&v, text, strlen(text)));
    EQUALS(v.major, "1");
    EQUALS(v.minor, "20");
    EQUALS(v.patch, "300");
    EQUALS(v.pre, "rc.1.x-y");
    EQUALS(v.build, "b.007");
    CHECK(semver_parse(&v, "1.2.3", 5) && !v.pre.data && !v.build.data);
    CHECK(!semver_parse(&v, "1.2.3\0", 6));
    /* nothing behind the given length counts */
    CHECK(semver_parse(&v, "1.2.34", 5) && v.patch.len == 1);
    CHECK(semver_parse(&v, "1.2.3-rc", 5) && !v.pre.data && semver_parse(&v, "1.2.3+b", 5) && !v.build.data);
    CHECK(semver_parse(&v, "1.2.3-rcx", 8) && v.pre.len == 2 && !semver_parse_loose(&v, "v1", 0));
    CHECK(semver_parse(&v, "1.2.3-azAZ09", 12));
    CHECK(semver_parse_loose(&v, "v007.08", 7));
    EQUALS(v.major, "7");
    EQUALS(v.minor, "8");
    EQUALS(v.patch, "0");
    CHECK(semver_parse_loose(&v, "000", 3));
    EQUALS(v.major, "0");
}

UNIT(reads_loose_versions_as_keel)
{
    CHECK(loosely("v1.2.3") && loosely("1.2") && loosely("1") && loosely("01.2.3") && loosely("2024.01.05"));
    CHECK(loosely("1-rc.1") && loosely("v1.2+a"));
    CHECK(!loosely("V1.2.3") && !loosely("release-1.2.3") && !loosely("=v1.2.3") && !loosely("vv1.2.3"));
    CHECK(!loosely(" v1.2.3 ") && loosely("1.2.3-01") && !loosely("1.2.3-a..b") && !loosely("1.2.3-"));
    CHECK(!loosely("1.2.3beta") && !loosely("1.2.3.4") && !loosely("") && !loosely("v") &&
          !loosely("latest"));
    CHECK(!loosely("1.") && !loosely("1.2."));
}

UNIT(orders_by_precedence)
{
    static const char *const rising[] = {
        "0.0.0-0",
        "0.0.0",
        "0.9.0",
        "0.10.0",
        "1.0.0-0",
        "1.0.0-9",
        "1.0.0-10",
        "1.0.0--1",
        "1.0.0-BETA",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.1.0",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0-staging.9",
        "1.0.0-staging.10",
        "1.0.0",
        "1.0.1",
        "1.0.10",
        "1.1.0",
        "2.0.0",
        "18446744073709551615.0.0",
        "18446744073709551616.0.0",
        "100000000000000000000000.0.0",
    };
    size_t n = sizeof rising / sizeof *rising;

    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n; k++)
            CHECK_INT(order(rising[i], rising[k]), (i > k) - (i < k));
    }
    CHECK_INT(order("1.2.3+a", "1.2.3+b"), 0);
    CHECK_INT(order("v1.2", "1.02.0"), 0);
    CHECK_INT(order("1", "1.0.0"), 0);
}

UNIT(refuses_endless_input_quickly)
{
    static char text[1 << 20];
    struct semver v;
    struct timespec a, b;
    long long spent;

    memset(text, '9', sizeof text);
    for (int i = 0; i < 6; i++)
        text[i] = "1.2.3-"[i];
    CHECK(semver_parse(&v, text, SEMVER_MAX));
    CHECK(!semver_parse(&v, text, SEMVER_MAX + 1));
    clock_gettime(CLOCK_MONOTONIC, &a);
    CHECK(!semver_parse(&v, text, sizeof text));
    clock_gettime(CLOCK_MONOTONIC, &b);
    spent = (b.tv_sec - a.tv_sec) * 1000000000LL + b.tv_nsec - a.tv_nsec;
    CHECK(spent < 5000000);
}

UNIT(follows_the_range_table)
{
    CHECK_INT(in("1.3.0", ">=1.2, <2"), 1);
    CHECK_INT(in("2.0.0", ">=1.2, <2"), 0);
    CHECK_INT(in("1.3.0", ">=1.2 <2"), 1);
    CHECK_INT(in("1.2.1", "!=1.2.0"), 1);
    CHECK_INT(in("1.2.0", "!=1.2.0"), 0);
    CHECK_INT(in("1.2.0", "=>1.2"), 1);
    CHECK_INT(in("1.2.9", "=<1.2"), 1);
    CHECK_INT(in("1.3.0", "=<1.2"), 0);
    CHECK_INT(in("1.3.0-beta", ">=1.2.3-0"), 1);
    CHECK_INT(in("1.3.0-beta", ">=1.2.3"), 0);
    CHECK_INT(in("2.0.0-alpha", ">=1.0.0-0 <2.0.0"), 1);
    CHECK_INT(in("2.0.0-alpha", ">=1.0.0-0 <2.0.0-0"), 0);
    CHECK_INT(in("1.2.4-rc.2", "^1.2.3-rc.1"), 1);
    CHECK_INT(in("0.5.0", "~0.0.0"), 0); /* the oddity that is not copied */
    CHECK_INT(in("0.0.7", "~0.0.0"), 1);
    CHECK_INT(in("1.2.3-rc.1", "*"), 0);
    CHECK_INT(in("1.2.3-rc.1", ""), 0);
    CHECK_INT(in("1.2.3", "*"), 1);
    CHECK_INT(in("1.2.3", ""), 1);
    CHECK_INT(in("1.2.3", " "), 1);
    CHECK_INT(in("0.0.0-staging.x", "0.0.0-staging.x"), 1);
    CHECK_INT(in("0.0.0-staging.7", "0.0.0-staging.x"), 0);
    CHECK_INT(in("1.4.9", "1.2 - 1.4"), 1);
    CHECK_INT(in("1.5.0", "1.2 - 1.4"), 0);
    CHECK_INT(in("1.4.1", ">1.4"), 0);
    CHECK_INT(in("1.5.0", ">1.4"), 1);
    CHECK_INT(in("0.3.0", "^0.2.3"), 0);
    CHECK_INT(in("0.2.9", "^0.2.3"), 1);
    CHECK_INT(in("0.0.4", "^0.0.3"), 0);
    CHECK_INT(in("0.0.3", "^0.0.3"), 1);
    CHECK_INT(in("1.2.9", "~>1.2"), 1);
    CHECK_INT(in("1.3.0", "~>1.2"), 0);
    CHECK_INT(in("1.2.3", "latest"), NO_RANGE);
}

UNIT(knows_every_operator)
{
    CHECK_INT(in("1.2.3", "1.2.3") & in("1.2.3", "=1.2.3") & in("1.2.3", "= v1.2.3"), 1);
    CHECK_INT(in("1.2.4", "1.2.3"), 0);
    /* the first version of a block lies in it */
    CHECK_INT(in("1.2.0", "1.2") & in("1.0.0", "1") & in("1.2.0", "~1.2") & in("1.0.0", "~1") &
                  in("1.2.0", "^1.2"),
              1);
    CHECK_INT(in("1.2.0", ">=1.2") & in("1.2.0", "<=1.2") & in("1.2.3", "~1.2.3") & in("1.2.3", "^1.2.3"), 1);
    CHECK_INT(in("1.2.0", ">1.2") | in("1.2.0", "<1.2"), 0);
    CHECK_INT(in("1.5.9", "1.x.3") & in("1.0.0", "1.x.3") & in("1.2.3", "\t1.2\n,\r1\f"),
              1); /* x hides what follows */
    CHECK_INT(in("1.2.0-rc.1", "~1.2-0") & in("1.2.0-rc.1", "1.2-alpha"), 1);
    CHECK_INT(in("1.2.9", "1.2") & in("1.9.9", "1") & in("1.2.9", "1.2.x") & in("1.9.9", "1.X") &
                  in("1.9.9", "1.*.*"),
              1);
    CHECK_INT(in("1.3.0", "1.2") | in("2.0.0", "1") | in("2.0.0", "1.x"), 0);
    CHECK_INT(in("1.2.9", "!=1.2") | in("1.9.9", "!=1.x"), 0);
    CHECK_INT(in("1.3.0", "!=1.2") & in("2.0.0", "!=1.x"), 1);
    CHECK_INT(in("1.9.0", ">1"), 0);
    CHECK_INT(in("2.0.0", ">1"), 1);
    CHECK_INT(in("1.9.9", "<=1"), 1);
    CHECK_INT(in("1.0.0", "<1.x"), 0);
    CHECK_INT(in("0.9.0", "<1.x"), 1);
    CHECK_INT(in("1.2.9", "~1.2.3") & in("1.9.9", "~1") & in("1.2.9", "~1.2") & in("1.9.0", "~1.x"), 1);
    CHECK_INT(in("1.3.0", "~1.2.3") | in("1.2.2", "~1.2.3") | in("2.0.0", "~1"), 0);
    CHECK_INT(in("1.9.9", "^1.2.3") & in("1.9.9", "^1.2") & in("1.9.9", "^1") & in("0.9.9", "^0"), 1);
    CHECK_INT(in("2.0.0", "^1.2.3") | in("1.2.2", "^1.2.3") | in("1.0.0", "^0"), 0);
    CHECK_INT(in("0.0.9", "^0.0") & in("0.2.9", "^0.2"), 1);
    CHECK_INT(in("0.1.0", "^0.0") | in("0.3.0", "^0.2"), 0);
    CHECK_INT(in("9.9.9", "^*") & in("9.9.9", "~*") & in("9.9.9", ">=*") & in("9.9.9", "<=*") &
                  in("9.9.9", "=x"),
              1);
    CHECK_INT(in("9.9.9", ">*") | in("9.9.9", "<*") | in("9.9.9", "!=*"), 0);
    CHECK_INT(in("3.1.0", "^1.2 || 3.x") & in("1.9.0", "^1.2||3.x") & in("1.9.0", "9 || ^1.2"), 1);
    CHECK_INT(in("2.0.0", "^1.2 || 3.x"), 0);
    CHECK_INT(in("1.5.0", "1.2 - 1.6 != 1.4 || 7") & in("7.1.0", "1.2 - 1.6, != 1.4 || 7"), 1);
    CHECK_INT(in("1.4.0", "1.2 - 1.6 !=1.4.0"), 0);
    CHECK_INT(in("1.2.3+build.9", "=1.2.3") & in("1.2.3", ">=1.2.3+x"), 1);
    CHECK_INT(in("99999999999999999999999.0.0", ">=99999999999999999999998"), 1);
    CHECK_INT(in("1.2.3", ">=01.02"), 1);
}

UNIT(refuses_ranges_that_are_none)
{
    static const char *const bad[] = {
        ",",       "||",       "1 ||",    "|| 1", "1 || || 2", "1 | 2", ">",   ">=",       "1.2.3.4",
        "1.2beta", "1.2.3-01", "1.2.3-",  ">>1",  "1,",        "1,,2",  "~~1", "1.2 -1.4", "a - b",
        ">1 - 2",  "1 - ",     "1.2.3>2", "vv1",  "1.2.3 ; 2", "1.x2",  "^",
    };
    char many[SEMVER_RANGE_MAX + 2];

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (in("1.2.3", bad[i]) != NO_RANGE)
            CHECK_STR(bad[i], "refused");
    }
    snprintf(many, sizeof many, ">=1.2.3-%0*d1 || 1", 300, 0);
    CHECK_INT(in("1.2.3", many), NO_RANGE);
    snprintf(many, sizeof many, ">=%0*d1 || 1", 300, 0);
    CHECK_INT(in("1.2.3", many), NO_RANGE);
    snprintf(many, sizeof many, "1 || <1.2.3-a%0*d", 200, 1);
    CHECK_INT(in("1.2.3", many), 1);
    /* one that is understood only in part allows nothing, even if that part does */
    CHECK_INT(in("1.2.3", "1.2.3 || what"), NO_RANGE);
    memset(many, ' ', sizeof many);
    many[sizeof many - 1] = 0;
    CHECK_INT(in("1.2.3", many), NO_RANGE);
    for (size_t i = 0; i + 2 < sizeof many; i += 2)
        many[i] = '1';
    many[SEMVER_RANGE_MAX] = 0;
    CHECK_INT(in("1.2.3", many), NO_RANGE);
    many[2 * 65] = 0;
    CHECK_INT(in("1.2.3", many), NO_RANGE); /* too many rules */
    many[2 * 63] = 0;
    CHECK_INT(in("1.2.3", many), 1);
    memset(many + 2 * 63, ' ', sizeof many - 2 * 63);
    many[SEMVER_RANGE_MAX] = 0;
    CHECK_INT(in("1.2.3", many), 1);
}

UNIT_MAIN(C(accepts_exactly_semver), C(tells_the_parts), C(reads_loose_versions_as_keel),
          C(orders_by_precedence), C(refuses_endless_input_quickly), C(follows_the_range_table),
          C(knows_every_operator), C(refuses_ranges_that_are_none))
