/* A blocking job on libuv's thread pool while its task is parked: files, hashes of files.
 *
 *     struct stat_work { struct work work; char *path; struct stat st; };
 *
 *     struct stat_work *w = work_new(L, sizeof *w, stat_run, stat_free);   // zeroed, owned by the op
 *     w->path = strdup(...);                                              // fill in plain C copies
 *     return work_wait(L, &w->work, stat_finish);
 *
 * `run` is called on a pool thread and must touch nothing but the job. `finish` is called in the resumed
 * coroutine. `destroy` frees the job's fields (not the job) on the loop's thread, when the job has run and
 * the op is gone, whichever comes last. A cancelled job runs to its end unseen. */
#ifndef MOONTIDE_WORK_H
#define MOONTIDE_WORK_H

#include <uv.h>
#include "err.h"
#include <lua.h>
#include "op.h"

struct work {
    uv_work_t req;
    struct op *op;  /* NULL: no task waits any more */
    struct err err; /* set by run */
    void (*run)(struct work *work);
    void (*destroy)(struct work *work);
    int (*finish)(lua_State *L, struct work *work);
    bool running;
};

void *work_new(lua_State *L, size_t size, void (*run)(struct work *), void (*destroy)(struct work *));
int work_wait(lua_State *L, struct work *work, int (*finish)(lua_State *L, struct work *work));

#endif
