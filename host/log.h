/* Leveled lines on one descriptor: JSON objects for machines, coloured text on a terminal.
 *
 * Knows no Lua. Every text passes the secret filter and the escaping, so an event is exactly one line. Lines
 * repeated within seconds are counted instead of written. A file or a terminal is written to directly, which
 * may block as files and terminals do; a pipe or socket whose reader is stuck costs the loop at most a
 * twentieth of a second, once: then lines are lost, and the next one that gets through says how many. */
#ifndef MOONTIDE_LOG_H
#define MOONTIDE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "buf.h"
#include "clock.h"
#include "secret.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_LEVELS };

extern const char *const log_level_names[LOG_LEVELS + 1]; /* NULL-terminated */

struct log_field {
    const char *name, *text;
    size_t name_len, len;
    bool bare; /* a number or a boolean: valid JSON as it is */
};

struct log_event {
    enum log_level level;
    const char *message;
    size_t len;
    const struct log_field *fields;
    size_t count;
};

#define LOG_REPEATS 64

struct log_repeat {
    uint64_t hash, since; /* milliseconds, monotonic */
    unsigned seen, dropped;
    enum log_level level;
    char head[80]; /* of the redacted message */
    size_t head_len;
};

struct log {
    int fd;
    bool pollable; /* a pipe or a socket */
    bool human, color;
    unsigned burst;            /* identical lines within a window; 0: no limit */
    struct secrets *secrets;   /* not owned; may be NULL */
    const struct clock *clock; /* not owned; NULL: the machine's */
    struct buf line, clean;
    struct log_repeat *repeats; /* LOG_REPEATS of them, allocated with the first line */
    unsigned dropping;          /* how many of them hold back lines */
    uint64_t lost;              /* lines that could not be written */
    uint64_t stuck_at;          /* when the reader was last found not to read; milliseconds */
    bool torn;                  /* the reader has seen a part of a line */
};

/* Format as the descriptor suggests: a terminal gets text (coloured unless NO_COLOR or TERM=dumb). */
void log_init(struct log *log, int fd, struct secrets *secrets);

/* Says what was dropped or lost, and frees the buffers. */
void log_fini(struct log *log);

/* Writes the event. The caller's level was checked by the caller. */
void log_write(struct log *log, const struct log_event *event);

/* Appends the event as one JSON object without newline, redacted: what sinks get. False: memory. */
bool log_object(struct log *log, const struct log_event *event, struct buf *out);

/* Redacts by value and shape. False: memory; `out` may then hold a part. */
bool log_redact(struct log *log, const char *text, size_t len, struct buf *out);

#endif
