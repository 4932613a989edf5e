/* Jobs on libuv's thread pool. The op (in Lua's memory) and the work (ours) point at each other; whichever
 * leaves first cuts the link. */
#include "work.h"

#include <stdlib.h>
#include "bind.h"
#include "host.h"

struct work_op {
    struct op op;
    struct work *work;
};

static void work_drop(struct work *w)
{
    if (w->destroy)
        w->destroy(w);
    free(w);
}

/* Called when the op's frame is left, whether or not the job was started or has finished. */
static void work_leave(struct op *op)
{
    struct work_op *wo = (struct work_op *)op;
    struct work *w = wo->work;

    wo->work = NULL;
    if (!w)
        return;
    w->op = NULL;
    if (!w->running)
        work_drop(w);
    else
        uv_cancel((uv_req_t *)&w->req); /* only works while it is queued; then after_work still follows */
}

static void on_pool(uv_work_t *req)
{
    struct work *w = req->data;

    w->run(w);
}

static void after_work(uv_work_t *req, int status)
{
    struct work *w = req->data;

    w->running = false;
    if (!w->op) {
        work_drop(w);
        return;
    }
    if (status < 0)
        err_uv(&w->err, status, "thread pool");
    op_done(w->op);
}

void *work_new(lua_State *L, size_t size, void (*run)(struct work *), void (*destroy)(struct work *))
{
    struct work_op *wo = op_new(L, sizeof *wo, NULL);
    struct work *w = calloc(1, size);

    if (!w)
        luaL_error(L, "not enough memory");
    wo->op.leave = work_leave;
    wo->work = w;
    w->op = &wo->op;
    w->run = run;
    w->destroy = destroy;
    w->req.data = w;
    return w;
}

static int work_finish(lua_State *L, struct op *op)
{
    struct work *w = ((struct work_op *)op)->work;

    return w->finish(L, w);
}

int work_wait(lua_State *L, struct work *w, int (*finish)(lua_State *L, struct work *work))
{
    struct host *host = bind_host(L);

    w->finish = finish;
    if (uv_queue_work(&host->loop, &w->req, on_pool, after_work) != 0)
        return luaL_error(L, "cannot queue work");
    w->running = true;
    return op_wait(L, w->op, work_finish);
}
