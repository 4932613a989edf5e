/* Child processes: posix_spawn, a pidfd each, and the promise that none outlives the host.
 *
 * Knows no Lua. Every child leads a session and process group of its own. A small guard process, forked at the
 * first spawn, holds a pipe to the host and ends every group that is still listed when the pipe closes, so that
 * even a SIGKILLed host leaves nothing behind. */
#ifndef MOONTIDE_PROC_H
#define MOONTIDE_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>
#include "err.h"

struct host;
struct proc_set;
struct proc;

struct proc_options {
    char **argv;          /* argv[0] is looked up in PATH of `env`'s host unless it holds a slash */
    char **envp;          /* complete environment; never inherited */
    const char *cwd;      /* NULL: the host's */
    int stdin_fd, stdout_fd, stderr_fd; /* descriptors that become 0, 1, 2 (the caller closes its copies) */
    void (*on_exit)(struct proc *proc, void *data, int status, int signal);
    void *data;
};

/* Starts a child. NULL with *e filled when it cannot be started. */
struct proc *proc_start(struct host *host, const struct proc_options *options, struct err *e);
pid_t proc_pid(const struct proc *proc);

/* Signals the child's whole group; after exit of the leader the rest of the group is still reached. */
bool proc_signal(struct proc *proc, int signum);

/* The caller has no more interest: on_exit is not called any more; the child is killed when it still runs. */
void proc_release(struct proc *proc);

void proc_close_all(struct host *host);

#endif
