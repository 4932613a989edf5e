/* The guard: a tiny process that ends every child's group when the host dies, however it dies.
 *
 * Host and guard share one table of process groups. The guard sleeps on a socket whose other end only the
 * host holds; when that closes, it sends TERM, then KILL, to every group still in the table, and leaves. A
 * spawn therefore costs no message. Owned by proc.c; knows no Lua and no loop. */
#ifndef MOONTIDE_GUARD_H
#define MOONTIDE_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "err.h"

struct guard {
    volatile pid_t *slots; /* shared with the guard process: 0 free, -1 reserved, else a process group */
    size_t next;           /* where the search for a free slot starts */
    int fd;                /* our end of the socket */
    pid_t pid;             /* 0: not running */
};

bool guard_open(struct guard *guard, struct err *e);

/* Forks the guard process when there is none, or none any more. */
bool guard_ensure(struct guard *guard, struct err *e);

/* Reserves a slot for a child about to start; NULL when all are taken. The child itself writes its pid into
 * it before it becomes another program, so that it is never unlisted while it runs. */
volatile pid_t *guard_reserve(struct guard *guard);
void guard_drop(volatile pid_t *slot);

/* Ends and reaps the guard process. Groups still listed are ended by it. */
void guard_close(struct guard *guard);

#endif
