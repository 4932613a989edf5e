/* Every secret the host knows, and the filter that keeps them out of what it writes.
 *
 * Values are registered when they are read; the filter replaces them by "[redacted]" wherever they appear
 * literally, in base64 (all three alignments), percent-encoded or JSON-escaped. Values shorter than 4 bytes are
 * refused, since they would blank ordinary text. */
#ifndef MOONTIDE_SECRET_H
#define MOONTIDE_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include "buf.h"

struct secrets;

struct secrets *secrets_open(void);
void secrets_close(struct secrets *s); /* wipes the values */

/* False when it is too short or memory is used up. Registering a value twice is harmless. */
bool secrets_add(struct secrets *s, const char *value, size_t len);

/* Appends `text` to `out` with every secret replaced. False: memory; `out` then holds nothing of the text. */
bool secrets_filter(struct secrets *s, const char *text, size_t len, struct buf *out);

/* Longest registered form: a stream that filters piecewise keeps back that many bytes. */
size_t secrets_longest(const struct secrets *s);

#endif
