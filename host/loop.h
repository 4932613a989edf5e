/* The loop: gives every task that is ready its slice (task_resume in task.c, measured by slice.c), then lets
 * libuv wait for what wakes others. */
#ifndef MOONTIDE_LOOP_H
#define MOONTIDE_LOOP_H

#include <stdbool.h>

struct host;

/* Turns until the main task has ended. False: it never will, since every task waits, and nothing that could
 * wake one is under way. Virtual time moves on to the next timer only when no task is ready and libuv has
 * nothing to wait for. */
bool loop_run(struct host *host);

/* Lets what was cancelled or closed come to its end, for at most two seconds: the tasks, or libuv's handles
 * when tasks_close was called before. */
void loop_drain(struct host *host);

#endif
