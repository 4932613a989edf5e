/* Regular expressions that cannot be made slow: a subset of Go's syntax, run by all threads in step.
 *
 * The version policy `regexp:` is written for Go's engine, so POSIX syntax would not do, and a backtracking
 * engine would let a pushed tag name stall the host. Time is bounded by program size times subject length,
 * memory by the struct below. Bytes, not characters. Understood: literals . [..] [[:alpha:]] \d \w \s \b \A
 * \z escapes, groups (also (?:..), (?P<name>..), (?i) and (?s)), |, * + ? {n,m} and their lazy forms, ^ and
 * $. Knows no Lua, owns no memory: the caller holds the struct. */
#ifndef MOONTIDE_REGEXP_H
#define MOONTIDE_REGEXP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "err.h"

#define REGEXP_PATTERN_MAX 256  /* bytes of a pattern */
#define REGEXP_SUBJECT_MAX 256  /* bytes of a subject */
#define REGEXP_PROGRAM_MAX 1000 /* instructions, after repetitions are written out */
#define REGEXP_SETS_MAX    128
#define REGEXP_REPEAT_MAX  255
#define REGEXP_NEST_MAX    32

struct regexp_set {
    uint32_t bits[8];
};

struct regexp_inst {
    uint8_t op;
    uint8_t set;   /* of a byte test */
    uint16_t x, y; /* where to go on; a split prefers x */
};

struct regexp {
    struct regexp_inst program[REGEXP_PROGRAM_MAX];
    struct regexp_set sets[REGEXP_SETS_MAX];
    uint16_t size, start;
    uint8_t set_count;
    bool has_key; /* there is a group named `compare` */
};

/* Where the group named `compare` matched. */
struct regexp_key {
    const char *data; /* NULL: it took no part */
    size_t len;
};

/* False with *e set (invalid, unsupported, too_large) when the pattern cannot be used. */
bool regexp_compile(struct regexp *re, const char *pattern, size_t len, struct err *e);

/* Whether the pattern matches anywhere in the subject; the leftmost match, and of those the one that Perl and
 * Go prefer, decides *key (may be NULL). A subject over REGEXP_SUBJECT_MAX never matches. */
bool regexp_match(const struct regexp *re, const char *subject, size_t len, struct regexp_key *key);

/* Whether the whole subject matches, where `*` stands for any bytes and all else for itself. Linear in the
 * product of the lengths; there is no other wildcard, as in keel. */
bool glob_match(const char *pattern, size_t pattern_len, const char *subject, size_t len);

#endif
