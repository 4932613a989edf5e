/* Regular expressions in Go's syntax (RE2), run by PCRE2 within a limit of steps.
 *
 * The version policy `regexp:` is written for Go's engine. The pattern is read here and written anew for
 * PCRE2, so what Go's syntax lacks (look-around, back references, possessive repetition, verbs) never reaches
 * it. Bytes, not characters. Understood: literals . [..] [[:alpha:]] \d \w \s \b \A \z escapes, groups (also
 * (?:..),
 * (?P<name>..), (?i) and (?s)), |, * + ? {n,m} and their lazy forms, ^ and $. Knows no Lua, owns no memory:
 * the caller holds the struct. */
#ifndef MOONTIDE_REGEXP_H
#define MOONTIDE_REGEXP_H

#include <stdbool.h>
#include <stddef.h>
#include "err.h"

#define REGEXP_PATTERN_MAX 256  /* bytes of a pattern */
#define REGEXP_SUBJECT_MAX 256  /* bytes of a subject */
#define REGEXP_CODE_MAX    8192 /* bytes of what it is compiled to: repeated groups are written out */
#define REGEXP_REPEAT_MAX  255
#define REGEXP_NEST_MAX    32

struct regexp {
    const void *code;                             /* pcre2_code, in `room` */
    bool has_key;                                 /* there is a group named `compare` */
    void *room[REGEXP_CODE_MAX / sizeof(void *)]; /* aligned as PCRE2 needs it */
};

/* Where the group named `compare` matched. */
struct regexp_key {
    const char *data; /* NULL: it took no part */
    size_t len;
};

/* False with *e set (invalid, unsupported, too_large, memory) when the pattern cannot be used. The struct
 * must stay where it is; nothing else is kept, so there is nothing to close. */
bool regexp_compile(struct regexp *re, const char *pattern, size_t len, struct err *e);

/* Whether the pattern matches anywhere in the subject; the leftmost match, and of those the one that Perl and
 * Go prefer, decides *key (may be NULL). A subject over REGEXP_SUBJECT_MAX never matches. e->code is
 * ERR_NONE, or says why there is no answer: budget (a few milliseconds of backtracking) or memory. */
bool regexp_match(const struct regexp *re, const char *subject, size_t len, struct regexp_key *key,
                  struct err *e);

/* Whether the whole subject matches, where `*` stands for any bytes and all else for itself. Linear in the
 * product of the lengths; there is no other wildcard, as in keel. */
bool glob_match(const char *pattern, size_t pattern_len, const char *subject, size_t len);

#endif
