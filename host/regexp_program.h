/* What regexp_compile.c writes and regexp.c runs. Nobody else includes this. */
#ifndef MOONTIDE_REGEXP_PROGRAM_H
#define MOONTIDE_REGEXP_PROGRAM_H

#include "regexp.h"

enum regexp_op {
    REGEXP_BYTE, /* the next byte is in the set */
    REGEXP_MATCH,
    REGEXP_SPLIT,
    REGEXP_JUMP,
    REGEXP_KEY_OPEN,
    REGEXP_KEY_CLOSE,
    REGEXP_BEGIN,
    REGEXP_END,
    REGEXP_BOUNDARY,
    REGEXP_NO_BOUNDARY
};

static inline bool regexp_set_has(const struct regexp_set *set, unsigned char c)
{
    return (set->bits[c >> 5] >> (c & 31)) & 1;
}

static inline void regexp_set_add(struct regexp_set *set, unsigned char c)
{
    set->bits[c >> 5] |= 1U << (c & 31);
}

#endif
