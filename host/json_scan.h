/* A strict reader's eye over JSON text, in one linear pass and without recursion.
 *
 * Refuses what RFC 8259 does not allow, and what is too deep; rewrites what lua-cjson 2.1.0 would lose. Knows
 * no Lua. The caller owns the struct and frees `out`. */
#ifndef MOONTIDE_JSON_SCAN_H
#define MOONTIDE_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include "buf.h"
#include "err.h"

/* cjson reads every number as a double and knows no empty list. An integer that a double may not hold becomes
 * the string MARK digits, or MARK ~ digits when 64 bits do not hold it either; an empty list becomes [MARK].
 * The mark is no UTF-8, so no text can forge it. */
#define JSON_MARK       '\xFF'
#define JSON_MARK_FLOAT '~'
#define JSON_NUMBER_MAX 64 /* bytes of one number */

struct json_scan {
    struct buf out; /* the rewritten text; without data the original serves */
    size_t members; /* object members in the whole text: fewer in the result means a duplicate key */
    size_t need;    /* bytes that Lua 5.4 takes for the value: its tables and strings */
    size_t growth;  /* and beside them for a moment, while the largest object doubles */
    size_t offset;  /* where the fault is, counted from 1 */
};

/* Scans `text`; `scan` starts zeroed. False: *e says why, scan->offset says where. */
bool json_scan(struct json_scan *scan, const char *text, size_t len, struct err *e);

#endif
