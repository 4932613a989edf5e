/* gzip: whole texts of moderate size, as charts have them. Knows no Lua; the caller owns the buffers. */
#ifndef MOONTIDE_GZIP_H
#define MOONTIDE_GZIP_H

#include <stdbool.h>
#include <stddef.h>
#include "buf.h"
#include "err.h"

/* Appends what a gzip text (all of its members) holds, at most `max` bytes. False: *e, and `out` has
 * leftovers. */
bool gzip_decode(struct buf *out, const void *data, size_t len, size_t max, struct err *e);

/* Appends the text compressed, with an empty header: no time, no name, so that the same text gives the same
 * bytes. False: *e. */
bool gzip_encode(struct buf *out, const void *data, size_t len, struct err *e);

#endif
