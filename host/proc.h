/* Child processes: started as posix_spawn does it, a pidfd each, and the promise that none outlives the host.
 *
 * Knows no Lua. Every child leads a session and process group of its own. A small guard process, forked at
 * the first spawn, holds a socket to the host and ends every group that is still listed when it closes,
 * so that even a SIGKILLed host leaves nothing behind. */
#ifndef MOONTIDE_PROC_H
#define MOONTIDE_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>
#include "err.h"

struct proc_set; /* the guard, and every child that is not gone yet */
struct proc;

struct proc_options {
    char **argv;     /* argv[0] is looked up in the PATH of envp, unless it holds a slash */
    char **envp;     /* complete environment; never inherited */
    const char *cwd; /* NULL: the host's */
    int stdin_fd, stdout_fd, stderr_fd; /* become 0, 1, 2 (the caller closes its copies); all others close */
    /* The leader ended: its exit status, or the signal that ended it (0: none). It stays a zombie, so that
     * the group's number cannot be reused, until proc_release. */
    void (*on_exit)(struct proc *proc, void *data, int status, int signal);
    void *data;
};

/* Starts the guard. NULL with *e filled when that fails. */
struct proc_set *proc_set_open(uv_loop_t *loop, struct err *e);

/* Ends every child and the guard; takes at most four seconds, none when no child runs. A proc that was not
 * released has ended then, and still waits for its release. Accepts NULL. */
void proc_set_close(struct proc_set *set);
uv_loop_t *proc_set_loop(const struct proc_set *set);

/* Children that are not gone yet, those without a waiter included. Accepts NULL. */
size_t proc_set_count(const struct proc_set *set);

/* Starts a child. NULL with *e filled when it cannot be started. */
struct proc *proc_start(struct proc_set *set, const struct proc_options *options, struct err *e);
pid_t proc_pid(const struct proc *proc);

/* Signals the child's whole group; after exit of the leader the rest of the group is still reached. */
bool proc_signal(struct proc *proc, int signum);

/* The caller has no more interest: on_exit is not called any more. When the child still runs its group gets
 * TERM and, two seconds later, KILL; when it ended, what is left of the group is killed. Accepts NULL. */
void proc_release(struct proc *proc);

#endif
