/* Bounded growable bytes. A zeroed struct is an empty buffer without a limit. */
#ifndef MOONTIDE_BUF_H
#define MOONTIDE_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *data; /* always NUL-terminated once allocated; may be NULL while empty */
    size_t len, cap;
    size_t max; /* 0: no limit */
};

/* Appends; false when memory or the limit is used up (the contents stay as they were). */
bool buf_add(struct buf *b, const void *data, size_t len);
bool buf_text(struct buf *b, const char *text);
bool buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Makes room for `len` more bytes and returns where they go, or NULL. Add what was written with buf_grew. */
char *buf_room(struct buf *b, size_t len);
void buf_grew(struct buf *b, size_t len);

/* Drops the first `len` bytes. */
void buf_skip(struct buf *b, size_t len);

/* Frees the memory and empties the buffer; the limit stays. */
void buf_free(struct buf *b);

#endif
