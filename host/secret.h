/* Every secret the host knows, and the filter that keeps them out of what it writes.
 *
 * Values are registered when they are read; the filter replaces them by "[redacted]" wherever they appear
 * literally, in base64 (all three alignments), percent-encoded or JSON-escaped. Values shorter than 4 bytes
 * are refused, since they would blank ordinary text. Of a value with several lines the long lines count alone
 * too: a key printed line by line stays hidden. */
#ifndef MOONTIDE_SECRET_H
#define MOONTIDE_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include "buf.h"

#define SECRET_MARK "[redacted]"

struct secrets;

struct secrets *secrets_open(void);
void secrets_close(struct secrets *s); /* wipes the values */

/* False when it is too short or memory is used up. Registering a value twice is harmless. */
bool secrets_add(struct secrets *s, const char *value, size_t len);

/* Takes one registration of a value back; what other secrets have in common with it stays hidden. Does
 * nothing for a value that is not registered. */
void secrets_drop(struct secrets *s, const char *value, size_t len);

/* Appends `text` to `out` with every secret replaced. False: memory; `out` then holds nothing of the text. */
bool secrets_filter(struct secrets *s, const char *text, size_t len, struct buf *out);

/* Appends `text` to `out` without what is a credential by its shape: a URL's password, the value of an
 * authorization header, tokens with a known issuer's prefix. False: memory. */
bool secrets_shapes(const char *text, size_t len, struct buf *out);

/* Longest registered form: a stream that filters piecewise keeps back that many bytes. */
size_t secrets_longest(const struct secrets *s);

/* What a piecewise filter keeps back: text that may be the beginning of a secret. Zeroed at first. */
struct secrets_tail {
    struct buf held;
    size_t covered; /* leading bytes of `held` whose mark is in the output already */
};

/* Like secrets_filter for one piece of a longer text; a secret cut in two by the pieces is found. `last` says
 * that no further piece follows and empties the tail. False: memory; `out` and the tail are as before. */
bool secrets_feed(struct secrets *s, struct secrets_tail *tail, const char *text, size_t len, bool last,
                  struct buf *out);

/* Forgets and wipes what is kept back. */
void secrets_tail_free(struct secrets_tail *tail);

#endif
