/* The regular expressions and globs of the update policies. */
#include "unit.h"
#include <ctype.h>
#include <regex.h>
#include <time.h>
#include "regexp.h"

static struct regexp re;

static bool found(const char *subject, size_t len, struct regexp_key *key)
{
    struct err e;
    bool yes = regexp_match(&re, subject, len, key, &e);

    CHECK_INT(e.code, ERR_NONE);
    return yes;
}

/* Bits of their own, so that & and | of answers tell the truth. */
enum { REFUSED = 4, UNDECIDED = 8 };

/* 1 yes, 0 no, REFUSED or UNDECIDED. */
static int matches(const char *pattern, const char *subject)
{
    struct err e;
    bool yes;

    if (!regexp_compile(&re, pattern, strlen(pattern), &e))
        return REFUSED;
    yes = regexp_match(&re, subject, strlen(subject), NULL, &e);
    return e.code == ERR_NONE ? yes : e.code == ERR_BUDGET ? UNDECIDED : -1;
}

static enum err_code refusal(const char *pattern, size_t len)
{
    struct err e;

    return regexp_compile(&re, pattern, len, &e) ? ERR_NONE : e.code;
}

static const char *key_of(const char *pattern, const char *subject)
{
    static char text[64];
    struct err e;
    struct regexp_key key;

    if (!regexp_compile(&re, pattern, strlen(pattern), &e))
        return "refused";
    if (!found(subject, strlen(subject), &key))
        return "no match";
    snprintf(text, sizeof text, "%.*s", (int)key.len, key.data ? key.data : "");
    return text;
}

UNIT(matches_go_syntax)
{
    CHECK_INT(matches("^v\\d+\\.\\d+$", "v1.22"), 1);
    CHECK_INT(matches("^v\\d+\\.\\d+$", "v1.22-rc"), 0);
    CHECK_INT(matches("b", "abc") & matches("", "") & matches("", "x") & matches("a|b|", "zz"), 1);
    CHECK_INT(matches("^(?:dev|staging)-[0-9a-f]{7,40}$", "staging-0a1b2c3"), 1);
    CHECK_INT(matches("^(?:dev|staging)-[0-9a-f]{7,40}$", "staging-0a1b2c"), 0);
    CHECK_INT(matches("^a{2,3}$", "a") | matches("^a{2,3}$", "aaaa") | matches("^a{2}$", "aaa"), 0);
    CHECK_INT(matches("^a{2,3}$", "aa") & matches("^a{2,3}$", "aaa") & matches("^a{2,}$", "aaaaa") &
                  matches("^a{0}$", ""),
              1);
    CHECK_INT(matches("^a{,2}$", "a{,2}") & matches("^{a}{$", "{a}{") & matches("^a{1$", "a{1"), 1);
    CHECK_INT(matches("^a+?b*?c??$", "aab") & matches("^(a*)*$", "aaa") & matches("^(a*)+b$", "aab") &
                  matches("^(|a)+$", "a"),
              1);
    CHECK_INT(matches("^.$", "\n"), 0);
    CHECK_INT(matches("(?s)^.$", "\n") & matches("(?i)ABC", "xabcx") & matches("(?i:a)B", "AB") &
                  matches("a(?i)b|c", "C"),
              1);
    CHECK_INT(matches("(?i:a)B", "Ab") | matches("((?i)a)b", "AB") | matches("(?i-i)a", "A"), 0);
    CHECK_INT(matches("\\bfoo\\b", "a foo b") & matches("\\Boo", "foo") & matches("\\Afoo\\z", "foo"), 1);
    CHECK_INT(matches("\\bfoo\\b", "afoo") | matches("\\Boo", "oo") | matches("a\\Ab", "ab"), 0);
    CHECK_INT(matches("^\\x41\\x{42}\\t\\.$", "AB\t.") & matches("^\\w\\W\\s\\S\\d\\D$", "a- -1x"), 1);
}

UNIT(looks_no_further_than_it_is_told)
{
    struct err e;
    struct regexp_key key = {"left over", 9};

    CHECK(regexp_compile(&re, "a{2}", 3, &e) && found("a{2", 3, NULL)); /* just "a{2" */
    CHECK(regexp_compile(&re, "ab", 1, &e) && found("a", 1, NULL));
    CHECK(regexp_compile(&re, "^(?P<compare>a)b$", 17, &e));
    CHECK(found("abc", 2, &key) && key.len == 1);
    CHECK(!found("abc", 1, &key) && !key.data && key.len == 0);
    CHECK(regexp_compile(&re, "x\\b[^a]", 7, &e) && !found("xa", 2, NULL));
    CHECK(regexp_compile(&re, "^a\\.[b]$", 9, &e) && !found("a\0b", 3, NULL) && !found("\0.b", 3, NULL) &&
          !found("a.\0", 3, NULL));
    CHECK(!regexp_compile(&re, "ab(", 3, &e) && strstr(e.message, "at byte 4"));
    CHECK(!glob_match("a*", 1, "ab", 2) && !glob_match("ab", 1, "ab", 2) && glob_match("ab", 1, "ab", 1));
    for (const char *word = "09azAZ_"; *word; word++)
        CHECK(regexp_compile(&re, "\\b", 2, &e) && found(word, 1, NULL));
    for (const char *other = "/:`{@[-"; *other; other++)
        CHECK(!found(other, 1, NULL));
}

UNIT(matches_brackets)
{
    CHECK_INT(matches("^[abc]$", "b") & matches("^[a-c]$", "b") & matches("^[]a]$", "]") &
                  matches("^[^]a]$", "b"),
              1);
    CHECK_INT(matches("^[^abc]$", "b") | matches("^[^]a]$", "]") | matches("^[^\\d]$", "1"), 0);
    CHECK_INT(matches("^[a-]$", "-") & matches("^[-a]$", "-") & matches("^[\\]\\-]+$", "]-") &
                  matches("^[\\w.]+$", "a.b_"),
              1);
    CHECK_INT(matches("^[[:digit:][:alpha:]]+$", "a1") & matches("^[[:^digit:]]$", "a") &
                  matches("^[[:punct:]]$", "~"),
              1);
    CHECK_INT(
        matches("(?i)^[a-z]$", "Q") & matches("(?i)^[[:upper:]]$", "q") & matches("^[\\x41-\\x43]$", "B"), 1);
    CHECK_INT(matches("(?i)^[^q]$", "Q"), 0);
    CHECK_INT(matches("^[[a]$", "["), 1);
}

static int is_word_byte(int c)
{
    return isalnum(c) || c == '_';
}

static int is_blank_byte(int c)
{
    return c == ' ' || (c >= '\t' && c <= '\r' && c != '\v'); /* Go's \s has no vertical tab */
}

static int is_ascii_byte(int c)
{
    return c < 128;
}

UNIT(classes_hold_what_ctype_says)
{
    static const struct {
        const char *pattern;
        int (*holds)(int);
    } classes[] = {{"\\d", isdigit},
                   {"\\w", is_word_byte},
                   {"\\s", is_blank_byte},
                   {"[[:digit:]]", isdigit},
                   {"[[:alpha:]]", isalpha},
                   {"[[:alnum:]]", isalnum},
                   {"[[:upper:]]", isupper},
                   {"[[:lower:]]", islower},
                   {"[[:space:]]", isspace},
                   {"[[:blank:]]", isblank},
                   {"[[:punct:]]", ispunct},
                   {"[[:cntrl:]]", iscntrl},
                   {"[[:graph:]]", isgraph},
                   {"[[:print:]]", isprint},
                   {"[[:xdigit:]]", isxdigit},
                   {"[[:word:]]", is_word_byte},
                   {"[[:ascii:]]", is_ascii_byte}};

    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        for (int negated = 0; negated < 2; negated++) {
            char pattern[32];
            struct err e;

            snprintf(pattern, sizeof pattern, "[%s%s]", negated ? "^" : "",
                     classes[i].pattern + (classes[i].pattern[0] == '['));
            pattern[strlen(pattern) - (classes[i].pattern[0] == '[')] = 0;
            CHECK(regexp_compile(&re, pattern, strlen(pattern), &e));
            for (int c = 0; c < 256; c++) {
                char byte = (char)c;
                if (found(&byte, 1, NULL) != ((classes[i].holds(c) != 0) ^ negated))
                    CHECK_INT(c, -1);
            }
        }
    }
}

UNIT(escapes_stand_for_one_byte)
{
    struct err e;
    char pattern[16], byte;

    for (int c = 0; c < 256; c++) {
        for (int form = 0; form < 3; form++) {
            if (form == 0)
                snprintf(pattern, sizeof pattern, "^\\x%02x$", (unsigned)c);
            else if (form == 1)
                snprintf(pattern, sizeof pattern, "^\\x{%02X}$", (unsigned)c);
            else
                snprintf(pattern, sizeof pattern, "^[\\x%02x]$", (unsigned)c);
            CHECK(regexp_compile(&re, pattern, strlen(pattern), &e));
            for (int other = 0; other < 256; other++) {
                byte = (char)other;
                if (found(&byte, 1, NULL) != (other == c))
                    CHECK_INT(other, c);
            }
        }
        pattern[0] = '\\';
        pattern[1] = (char)c;
        byte = (char)c;
        if (c < 128 && ispunct(c) && !(regexp_compile(&re, pattern, 2, &e) && found(&byte, 1, NULL)))
            CHECK_INT(c, -1); /* each punctuation stands for itself */
        if (!(c < 128 && ispunct(c)) && c != ' ' && !strchr("xbBAzdDwWsStnrfva", c) &&
            regexp_compile(&re, pattern, 2, &e))
            CHECK_INT(c, -2); /* and what means nothing is refused */
    }
    CHECK_INT(matches("^\\t\\n\\r\\f\\v\\a$", "\t\n\r\f\v\a") & matches("^\\x{a}$", "\n"), 1);
    CHECK_INT(matches("\\x", "") & matches("\\x4", "") & matches("\\xg4", "") & matches("\\x{}", "") &
                  matches("\\x{123}", "") & matches("\\x{4", "") & matches("\\x4g", ""),
              REFUSED);
}

UNIT(ranges_hold_both_ends)
{
    struct err e;

    CHECK(regexp_compile(&re, "^[b-y]$", 7, &e));
    CHECK(found("b", 1, NULL) && found("y", 1, NULL));
    CHECK(!found("a", 1, NULL) && !found("z", 1, NULL) && !found("B", 1, NULL));
    CHECK(regexp_compile(&re, "^[m-m]$", 7, &e) && found("m", 1, NULL));
    CHECK(regexp_compile(&re, "^[\\x00-\\x02]$", 13, &e) && found("\0", 1, NULL));
    CHECK(found("\2", 1, NULL) && !found("\3", 1, NULL));
    CHECK(regexp_compile(&re, "(?i)^[a-cx-z]$", 14, &e));
    for (const char *in = "abcxyzABCXYZ"; *in; in++)
        CHECK(found(in, 1, NULL));
    for (const char *out = "dwDW[`@{"; *out; out++)
        CHECK(!found(out, 1, NULL));
    /* cut off anywhere, it is refused and nothing behind it is read */
    for (size_t len = 1; len < 30; len++)
        CHECK(regexp_compile(&re, "[a-c\\x41[:alpha:]](?P<n0_Z9>x)", len, &e) == (len == 18));
    CHECK_INT(matches("(?P<n0_Z9>x)", "x"), 1);
    CHECK_INT(matches("(?P<n-0>x)", "x") & matches("[[:alph:]]", "x") & matches("[[:alpha]]", "x") &
                  matches("[[:a:]]", "x") & matches("[[:d:]]", "1"),
              REFUSED);
}

UNIT(prefers_like_go)
{
    CHECK_STR(key_of("^build-(?P<compare>\\d+)", "build-0042-x"), "0042");
    CHECK_STR(key_of("(?P<compare>a+?)", "aaa"), "a");
    CHECK_STR(key_of("(?P<compare>a+)", "xaaab"), "aaa");
    CHECK_STR(key_of("(?P<compare>a|ab)(c|bcd)?", "abcd"), "a");
    CHECK_STR(key_of("x|(?P<compare>y)", "x"), "");
    CHECK_STR(key_of("(?:(?P<compare>\\d)-?)+", "1-2-3"), "3");
    CHECK_STR(key_of("(?<compare>.*)-(?P<other>.*)", "a-b-c"), "a-b");
    CHECK_STR(key_of("(?P<compare>\\d+)$", "7x42"), "42");
    CHECK_STR(key_of("(?P<compare>)", "z"), "");
    CHECK_STR(key_of("(?P<compare>(?:ab)+)", "ababx"), "abab");
    CHECK_STR(key_of("(?P<compare>(?:ab)+?)", "ababx"), "ab");
    CHECK_STR(key_of("nothing", "z"), "no match");
}

UNIT(refuses_what_it_cannot_do)
{
    static const char *const invalid[] = {"(",       ")",
                                          "a)",      "(a",
                                          "[a",      "[",
                                          "[]",      "[^]",
                                          "*",       "a**",
                                          "a{2}{3}", "a|*",
                                          "+a",      "(?P<x",
                                          "(?P<>a)", "[z-a]",
                                          "[\\d-z]", "a{3,2}",
                                          "\\",      "[[:nope:]]",
                                          "\\x4",    "(?P<compare>a)(?P<compare>b)"};
    static const char *const unsupported[] = {"(?=a)", "(?!a)", "(?m)a",   "(?<!a)",
                                              "\\1",   "\\pL",  "\\Qa\\E", "\\C"};

    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++) {
        if (refusal(invalid[i], strlen(invalid[i])) != ERR_INVALID)
            CHECK_STR(invalid[i], "invalid");
    }
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++) {
        enum err_code code = refusal(unsupported[i], strlen(unsupported[i]));
        if (code != ERR_UNSUPPORTED && code != ERR_INVALID)
            CHECK_STR(unsupported[i], "unsupported");
    }
}

static double spent(const struct timespec *from)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - from->tv_sec) + (double)(now.tv_nsec - from->tv_nsec) / 1e9;
}

UNIT(cannot_be_made_slow_or_large)
{
    char text[1000] = "";
    struct timespec start;

    memset(text, '(', 100);
    CHECK_INT(refusal(text, 100), ERR_TOO_LARGE);
    CHECK_INT(refusal("((((a{255}){255}){255}){255}){255}", 34), ERR_TOO_LARGE);
    CHECK_INT(refusal("a{256}", 6), ERR_TOO_LARGE);
    CHECK_INT(refusal("a{255}b{0,255}", 14), ERR_NONE);
    CHECK_INT(refusal("c{255,}", 7), ERR_NONE);
    CHECK_INT(refusal("a{0,256}", 8), ERR_TOO_LARGE);
    CHECK_INT(refusal("((((((((((((((((((((((((((((((((a))))))))))))))))))))))))))))))))", 65), ERR_NONE);
    CHECK_INT(refusal("(((((((((((((((((((((((((((((((((a)))))))))))))))))))))))))))))))))", 67),
              ERR_TOO_LARGE);
    CHECK_INT(refusal("a{99999999999999999999}", 23), ERR_TOO_LARGE);
    memset(text, 'a', sizeof text);
    CHECK_INT(refusal(text, REGEXP_PATTERN_MAX), ERR_NONE);
    CHECK_INT(refusal(text, REGEXP_PATTERN_MAX + 1), ERR_TOO_LARGE);
    clock_gettime(CLOCK_MONOTONIC, &start);
    CHECK_INT(refusal("(((((((((){255}){255}){255}){255}){255}){255}){255}){255})", 58), ERR_TOO_LARGE);
    text[REGEXP_SUBJECT_MAX] = 0;
    CHECK_INT(matches("^(a|a|aa)*(a*)*(a?){200}b$", text), 0);
    CHECK_INT(matches("(?:a?){245}(?:a?){245}b", text), 0);
    CHECK(spent(&start) < 0.5);
    text[REGEXP_SUBJECT_MAX] = 'a';
    text[REGEXP_SUBJECT_MAX + 1] = 0;
    CHECK_INT(matches("a", text), 0);
}

UNIT(gives_up_when_a_match_costs_too_much)
{
    static const char *const costly[] = {"(a*)*[bc]",  "(\\w*\\W*)*[bc]",       "(?:a?){245}(?:a?){245}[bc]",
                                         "(a|a)*[bc]", "(?:(?:a|b)|\\w)*[bc]$", ".*(?:\\B){255}[bc]"};
    char text[REGEXP_SUBJECT_MAX + 1];

    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (size_t i = 0; i < sizeof costly / sizeof *costly; i++) {
        CHECK_INT(matches(costly[i], text), UNDECIDED);
        CHECK_INT(matches(costly[i], "aab"), 1); /* the next text is judged afresh */
    }
    CHECK_INT(matches("(a*)*b", text), 0); /* PCRE2 sees that there is no b */
    CHECK_INT(matches("^[a-z]+(?:[-.][a-z]+)*-[0-9]+$", text), 0);
}

UNIT(never_shows_a_pattern_to_pcre2_as_it_is)
{
    CHECK_INT(matches("^a#b \t(?:c)$", "a#b \tc") & matches("^[[.a.]]$", ".]") &
                  matches("^\\[:alpha:\\]$", "[:alpha:]"),
              1);
    CHECK_INT(matches("(*UTF)a", "a") & matches("(?x)a", "a") & matches("(?|a)", "a") &
                  matches("(?>a)", "a") & matches("(?#a)", "a") & matches("(?R)", "a") &
                  matches("(?P=n)", "a") & matches("a++", "a") & matches("(?(1)a)", "a") &
                  matches("(?C1)", "a") & matches("\\G", "a") & matches("\\K", "a") & matches("\\R", "a") &
                  matches("\\h", "a") & matches("\\N", "a") & matches("\\Z", "a") & matches("\\g1", "a") &
                  matches("(?^i)a", "a") & matches("(?U)a", "a"),
              REFUSED);
}

static unsigned random_next(unsigned *seed)
{
    *seed = *seed * 1664525U + 1013904223U;
    return *seed >> 16;
}

/* Writes a random pattern that POSIX and Go understand alike. */
static size_t random_pattern(unsigned *seed, char *out, int depth)
{
    static const char *const atoms[] = {"a", "b", "c", ".", "[ab]", "[^a]", "[a-c]", "^", "$"};
    static const char *const repeats[] = {"", "", "", "*", "+", "?", "{1,2}", "{2}"};
    size_t len = 0;

    for (unsigned n = 1 + random_next(seed) % 3; n > 0; n--) {
        /* glibc goes wrong on anchors within repeated groups: none there */
        const char *atom = atoms[random_next(seed) % (depth == 0 ? 9 : 7)];
        bool anchor = *atom == '^' || *atom == '$';

        if (depth < 3 && random_next(seed) % 4 == 0) {
            out[len++] = '(';
            len += random_pattern(seed, out + len, depth + 1);
            out[len++] = ')';
            anchor = false;
        } else {
            len += (size_t)snprintf(out + len, 16, "%s", atom);
        }
        if (!anchor)
            len += (size_t)snprintf(out + len, 16, "%s", repeats[random_next(seed) % 8]);
        if (n > 1 && random_next(seed) % 4 == 0)
            out[len++] = '|';
    }
    out[len] = 0;
    return len;
}

UNIT(agrees_with_posix)
{
    unsigned seed = 20261123;
    int compared = 0, undecided = 0;

    for (int i = 0; i < 20000; i++) {
        char pattern[1024], subject[9] = "";
        regex_t posix;
        int got;

        random_pattern(&seed, pattern, 0);
        if (regcomp(&posix, pattern, REG_EXTENDED | REG_NOSUB) != 0)
            continue;
        for (unsigned n = random_next(&seed) % 8, k = 0; k < n; k++)
            subject[k] = "abcd"[random_next(&seed) % 4];
        got = matches(pattern, subject);
        undecided += got == UNDECIDED;
        if (got != REFUSED && got != UNDECIDED) {
            compared++;
            if (got != (regexec(&posix, subject, 0, NULL, 0) == 0)) {
                printf("  differs: %s on \"%s\"\n", pattern, subject);
                CHECK(false);
            }
        }
        regfree(&posix);
    }
    CHECK(compared > 15000);
    CHECK(undecided <= 2); /* repetitions of repetitions of repetitions */
}

static bool glob(const char *pattern, const char *subject)
{
    return glob_match(pattern, strlen(pattern), subject, strlen(subject));
}

UNIT(globs_know_one_wildcard)
{
    CHECK(glob("build-*", "build-7") && glob("build-*", "build-") && glob("*", "") && glob("", "") &&
          glob("**", "x"));
    CHECK(glob("*-a-*-b", "x-a-y-a-z-b") && glob("a*b*c", "aXbYc") && glob("a", "a") && glob("[a]?", "[a]?"));
    CHECK(!glob("build-*", "build") && !glob("", "x") && !glob("a*b", "abc") && !glob("a?", "ab") &&
          !glob("*b", "ba"));
}

UNIT(globs_are_not_slow)
{
    char pattern[REGEXP_PATTERN_MAX], subject[REGEXP_SUBJECT_MAX];
    struct timespec start;

    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = i % 2 ? 'a' : '*';
    memset(subject, 'a', sizeof subject);
    subject[sizeof subject - 1] = 'b';
    clock_gettime(CLOCK_MONOTONIC, &start);
    CHECK(!glob_match(pattern, sizeof pattern, subject, sizeof subject));
    CHECK(spent(&start) < 0.05);
}

UNIT_MAIN(C(matches_go_syntax), C(looks_no_further_than_it_is_told), C(matches_brackets),
          C(classes_hold_what_ctype_says), C(escapes_stand_for_one_byte), C(ranges_hold_both_ends),
          C(prefers_like_go), C(refuses_what_it_cannot_do), C(cannot_be_made_slow_or_large),
          C(gives_up_when_a_match_costs_too_much), C(never_shows_a_pattern_to_pcre2_as_it_is),
          C(agrees_with_posix), C(globs_know_one_wildcard), C(globs_are_not_slow))
