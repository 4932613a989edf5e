/* One child with its three streams: buffers, backpressure, the deadline, and when it is really over.
 *
 * Knows no Lua. Owned by the caller of child_start, until child_close; the memory is freed when the loop has
 * closed its uv handles. `changed` is called on the loop whenever a field here may have a new value.
 */
#ifndef MOONTIDE_CHILD_H
#define MOONTIDE_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>
#include "buf.h"
#include "err.h"
#include "proc.h"

enum stdio_kind { STDIO_NULL, STDIO_PIPE, STDIO_INHERIT, STDIO_FILE, STDIO_DATA, STDIO_MERGED };

struct child_stdio {
    enum stdio_kind kind;
    const char *path; /* STDIO_FILE */
    bool append;      /* STDIO_FILE: keep what is there */
    const char *data; /* STDIO_DATA: what the child finds on its standard input */
    size_t len;
};

struct child_options {
    char **argv, **envp;
    const char *cwd;
    struct child_stdio in, out, err;
    uint64_t timeout, grace; /* ms until TERM (0: never), then until KILL */
    size_t keep;             /* bytes kept of each unclaimed stream */
};

struct child_stream {
    uv_pipe_t pipe;
    struct child *child;
    struct buf buf;
    bool open;      /* may still bring data */
    bool reading;   /* libuv reads it; false while the reader is slower than the child */
    bool claimed;   /* it is read piece by piece: nothing is dropped, the child waits */
    bool truncated; /* something was dropped */
};

struct child {
    struct proc *proc; /* NULL once given up */
    pid_t pid;
    struct child_stream out, err;
    uv_pipe_t in;
    uv_timer_t timer;
    bool in_open, writing, exited, timed_out, closed, collecting;
    int write_status;        /* of the last write; 0 or a libuv error */
    int status, signal;      /* valid once exited */
    uint64_t started, ended; /* ns on the monotonic clock */
    uint64_t grace;
    size_t keep;
    unsigned uv_handles; /* still open */
    char spill[512];     /* where bytes go that there is no memory for */
    void (*changed)(struct child *child, void *data);
    void *data;
};

struct child *child_start(struct proc_set *set, const struct child_options *options, struct err *e);

/* From now on unclaimed streams are read to their end, and what is over `keep` is dropped. */
void child_collect(struct child *child);

/* Claims or gives back a stream for reading in pieces. */
void child_claim(struct child_stream *stream, bool claimed);

/* Bytes were taken out of the stream's buffer: reading may go on. */
void child_took(struct child_stream *stream);

/* The leader ended and the unclaimed streams too. */
bool child_done(const struct child *child);

/* Copies and writes; `changed` follows when child->writing is false again. False: *e says why not. */
bool child_write(struct child *child, const void *data, size_t len, struct err *e);
void child_close_stdin(struct child *child);

bool child_signal(struct child *child, int signum);

/* Ends the group if it runs, and forgets the child. `changed` is not called any more. Accepts NULL. */
void child_close(struct child *child);

#endif
