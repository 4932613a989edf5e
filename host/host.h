/* The host: one loop, one Lua state, and the services that primitives share.
 *
 * Every binding reaches its own service through this struct; nothing else is global. Services are opened on
 * first use, so that a script which needs no HTTP pays for none, and closed by host_close in a fixed
 * order: stop, cancel tasks, end children, curl, drain, Lua, loop. */
#ifndef MOONTIDE_HOST_H
#define MOONTIDE_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <lua.h>
#include <uv.h>
#include "alloc.h"
#include "clock.h"
#include "collector.h"

struct task_set;   /* task.c */
struct curl_loop;  /* curl_loop.c */
struct proc_set;   /* proc.c */
struct serve;      /* serve.c */
struct secrets;    /* secret.c */
struct signal_set; /* api_signal.c */
struct watchdog;   /* watchdog.c */
struct coverage;   /* coverage.c */

struct host {
    uv_loop_t loop;
    struct clock clock;
    struct alloc alloc; /* Lua's allocator, with its limit */
    struct collector collector;
    lua_State *L; /* the main thread; only host.c and task.c run code on it */
    struct task_set *tasks;
    struct watchdog *watchdog;
    struct coverage *coverage; /* NULL: lines are not counted */
    struct secrets *secrets;
    struct curl_loop *curl;     /* NULL until the first request */
    struct proc_set *procs;     /* NULL until the first child */
    struct serve *serves;       /* the list of servers */
    struct signal_set *signals; /* NULL until a task waits for one */
    int argc;
    char **argv; /* program arguments after the program's name */
    int exit_code;
    int output_lost;  /* errno of the first failed write to standard output; 0: none */
    unsigned loading; /* modules that are being loaded: no other task runs */
    bool stopping;    /* host_close has begun: no new work */
};

/* Opens the loop and the Lua state with the allow-listed libraries and every core table. False: *message says
 * why (static or inside the host). */
bool host_open(struct host *host, int argc, char **argv, const char **message);

/* Runs the embedded main script as a task until it ends; returns the exit code. */
int host_run(struct host *host);

void host_close(struct host *host);

/* Writes all of it to a descriptor; false when that fails. A terminal or file does not make us wait long; a
 * full pipe does, as with every program that prints. */
bool host_write(struct host *host, int fd, const char *text, size_t len);

#endif
