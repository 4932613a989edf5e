/* The items that pattern_compile.c writes and pattern.c matches. Private to them. */
#ifndef MOONTIDE_PATTERN_PRIVATE_H
#define MOONTIDE_PATTERN_PRIVATE_H

#include "pattern.h"

enum pattern_op {
    PATTERN_ANY, /* these three stand for one byte and may repeat */
    PATTERN_BYTE,
    PATTERN_SET,
    PATTERN_OPEN,
    PATTERN_CLOSE,
    PATTERN_BACK,
    PATTERN_NEVER, /* a back reference to a position */
    PATTERN_BALANCE,
    PATTERN_FRONTIER,
    PATTERN_END,
    PATTERN_MATCH,
    PATTERN_FAULT
};

static inline bool pattern_set_has(const struct pattern_set *set, unsigned char c)
{
    return (set->bits[c >> 6] >> (c & 63)) & 1;
}

#endif
