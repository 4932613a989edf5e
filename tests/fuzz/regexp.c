/* Regular expressions and globs: a line of pattern, a line of subject. There is no oracle for the syntax, so
 * the same question is asked in several spellings that must agree. */
#include "fuzz.h"
#include "regexp.h"

static struct regexp re;

/* 1 yes, 0 no, -1 refused or undecided. */
static int ask(const char *pattern, size_t len, struct fuzz_piece subject, struct regexp_key *key)
{
    struct err e;
    bool yes;

    if (!regexp_compile(&re, pattern, len, &e)) {
        HOLDS(e.code == ERR_INVALID || e.code == ERR_UNSUPPORTED || e.code == ERR_TOO_LARGE);
        return -1;
    }
    yes = regexp_match(&re, subject.data, subject.len, key, &e);
    HOLDS(e.code == ERR_NONE || (e.code == ERR_BUDGET && !yes));
    return e.code == ERR_NONE ? yes : -1;
}

/* The same with the pattern as a group. */
static int ask_grouped(struct fuzz_piece p, struct fuzz_piece subject, struct regexp_key *key)
{
    char pattern[REGEXP_PATTERN_MAX + 16];
    int len = snprintf(pattern, sizeof pattern, "(?:%.*s)", (int)p.len, p.data);

    return ask(pattern, (size_t)len, subject, key);
}

static void check_globs(struct fuzz_piece p, struct fuzz_piece s)
{
    char wider[REGEXP_PATTERN_MAX + 2];
    bool yes = glob_match(p.data, p.len, s.data, s.len);

    if (!p.len || !memchr(p.data, '*', p.len)) {
        HOLDS(yes == (p.len == s.len && (!p.len || memcmp(p.data, s.data, p.len) == 0)));
        return;
    }
    wider[0] = wider[p.len + 1] = '*';
    memcpy(wider + 1, p.data, p.len);
    HOLDS(!yes || glob_match(wider, p.len + 2, s.data, s.len));
    HOLDS(glob_match(wider, p.len + 2, p.data, p.len)); /* every byte matches itself, also a star */
}

/* A pattern without anchors that matches a subject also matches a longer one. */
static void check_longer(struct fuzz_piece p, struct fuzz_piece s)
{
    char longer[REGEXP_SUBJECT_MAX + 2];
    struct fuzz_piece subject = {longer, s.len + 2};

    if (memchr(p.data, '^', p.len) || memchr(p.data, '$', p.len) || memchr(p.data, '\\', p.len) ||
        subject.len > REGEXP_SUBJECT_MAX)
        return;
    longer[0] = longer[s.len + 1] = 'q';
    memcpy(longer + 1, s.data, s.len);
    HOLDS(ask(p.data, p.len, subject, NULL) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {(const char *)data, (const char *)data + size};
    struct fuzz_piece pattern = fuzz_line(&in), subject = fuzz_line(&in);
    struct regexp_key key, other;
    int yes, grouped;

    if (pattern.len > REGEXP_PATTERN_MAX || subject.len > REGEXP_SUBJECT_MAX)
        return 0;
    check_globs(pattern, subject);
    yes = ask(pattern.data, pattern.len, subject, &key);
    if (yes < 0 || pattern.len > REGEXP_PATTERN_MAX - 8 ||
        memchr(pattern.data ? pattern.data : "", 0, pattern.len))
        return 0;
    if (key.data)
        HOLDS(yes && key.data >= subject.data && key.data + key.len <= subject.data + subject.len);
    grouped = ask_grouped(pattern, subject, &other);
    if (grouped < 0) /* too many groups in each other now, or too many steps */
        return 0;
    HOLDS(grouped == yes);
    HOLDS(key.data == other.data && key.len == other.len);
    if (yes && pattern.len)
        check_longer(pattern, subject);
    return 0;
}
