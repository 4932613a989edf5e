/* Checks JSON texts, strictly (RFC 8259). Knows no Lua. */
#ifndef MOONTIDE_JSON_SCAN_H
#define MOONTIDE_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include "buf.h"
#include "err.h"

#define JSON_NUMBER_MAX 64 /* bytes of one number */

/* How much there is in a text. */
struct json_tally {
    size_t containers, members, numbers, nulls;
};

/* Whether a container is a list, and how many entries it is to be made for: as many as it has, rounded up to
 * a power of two. */
struct json_note {
    unsigned char list : 1, log : 7; /* log 0: none; n: 2^(n-1) */
};

struct json_scan {
    struct json_tally tally;
    struct buf notes; /* a struct json_note for each list or object, in the order in which they begin */
};

/* Fills *scan, whose notes the caller frees, also after false. `text` has a NUL behind its `len` bytes.
 * False: *e says why, *offset where, counted from 1. `duplicate` is the number of a member whose key is known
 * to be there already, counted in the order in which members end; 0: none. */
bool json_scan(struct json_scan *scan, const char *text, size_t len, size_t duplicate, struct err *e,
               size_t *offset);

#endif
