/* Semantic versions 2.0.0 as plain C: parsing, precedence, ranges.
 *
 * Versions come from tag names, which are untrusted: a text longer than SEMVER_MAX is no version, every
 * function is linear in its input, and numbers are compared as digit strings, so no size overflows. Knows no
 * Lua and owns no memory: a struct semver points into the caller's text. */
#ifndef MOONTIDE_SEMVER_H
#define MOONTIDE_SEMVER_H

#include <stdbool.h>
#include <stddef.h>
#include "err.h"

#define SEMVER_MAX       256  /* bytes of a version */
#define SEMVER_RANGE_MAX 1024 /* bytes of a range */

/* A piece of the caller's text; data is NULL when the piece is absent. */
struct semver_part {
    const char *data;
    size_t len;
};

struct semver {
    struct semver_part major, minor, patch; /* digits, in a loose version without their leading zeros */
    struct semver_part pre, build;          /* without the leading `-` and `+` */
};

/* SemVer 2.0.0 exactly: no `v`, three numbers, no leading zeros. */
bool semver_parse(struct semver *v, const char *text, size_t len);

/* As the update policies of keel read tags: an optional `v`, one to three numbers, leading zeros, also in
 * the pre-release. What follows the numbers obeys SemVer 2.0.0 otherwise. */
bool semver_parse_loose(struct semver *v, const char *text, size_t len);

/* Precedence: -1, 0 or 1. Build metadata has none. */
int semver_compare(const struct semver *a, const struct semver *b);

/* The same for two digit strings without leading zeros, and for two pre-releases (absent is highest). */
int semver_compare_number(struct semver_part a, struct semver_part b);
int semver_compare_pre(struct semver_part a, struct semver_part b);

bool semver_equal_part(struct semver_part a, struct semver_part b);

/* The next dot-separated identifier of a pre-release or build metadata; `rest` moves on. False at the end. */
bool semver_next_id(struct semver_part *rest, struct semver_part *id);
bool semver_is_number(struct semver_part id);

/* Whether the version lies in the range, by the rules of semver_range.c. False with e->code set when the
 * range cannot be understood; then nothing lies in it. */
bool semver_satisfies(const struct semver *v, const char *range, size_t len, struct err *e);

#endif
