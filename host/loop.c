/* The ready queue, a turn of the loop, and the turns that are left when the host closes. */
#include "task_private.h"

#include <time.h>
#include "api.h"
#include "host.h"
#include "loop.h"

/* ---- the ready queue ---- */

static void queue_add(struct task_queue *q, struct task *t)
{
    t->queued = true;
    t->next_ready = NULL;
    if (q->last)
        q->last->next_ready = t;
    else
        q->first = t;
    q->last = t;
}

static struct task *queue_take(struct task_queue *q)
{
    struct task *t = q->first;

    if (!t)
        return NULL;
    q->first = t->next_ready;
    if (!q->first)
        q->last = NULL;
    t->queued = false;
    return t;
}

void loop_ready(struct task *t)
{
    struct task_set *set = t->host->tasks;

    if (t->queued || t->ended)
        return;
    queue_add(&set->ready, t);
    if (set->polling)
        uv_stop(&t->host->loop); /* a timer that fires at the start of a turn: the turn must not sleep then */
}

/* ---- a turn ---- */

/* Resumes what was ready when it began, once; what they wake has its slice after the next poll. True:
 * more is ready. */
static bool run_ready(struct host *host)
{
    struct task_set *set = host->tasks;
    struct task_queue due = set->ready, kept = {NULL, NULL};
    struct task *t;

    if (!due.first)
        return false;
    set->ready = kept;
    slice_turn(set);
    collector_turn(&host->collector);
    while ((t = queue_take(&due))) {
        if (slice_had_turn(set, t))
            queue_add(&kept, t); /* others of its script had it: it comes first in the next */
        else
            task_resume(t);
    }
    if (kept.first) {
        kept.last->next_ready = set->ready.first;
        kept.last = set->ready.first ? set->ready.last : kept.last;
        set->ready = kept;
    }
    return set->ready.first != NULL;
}

/* Whether work outside is under way. In virtual time, waiting for signals is none. */
static bool busy_outside(struct host *host)
{
    bool busy;

    if (!host->clock.is_virtual)
        return uv_loop_alive(&host->loop);
    signals_count(host, false);
    busy = uv_loop_alive(&host->loop);
    signals_count(host, true);
    return busy;
}

bool loop_run(struct host *host)
{
    struct task_set *set = host->tasks;

    for (;;) {
        bool more = run_ready(host);

        if (set->main_ended)
            return true;
        if (host->clock.is_virtual && clock_due(&host->clock))
            more = true;
        if (!more && !busy_outside(host)) {
            if (!clock_jump(&host->clock))
                return false;
            more = true;
        }
        set->polling = true;
        uv_run(&host->loop, more ? UV_RUN_NOWAIT : UV_RUN_ONCE);
        set->polling = false;
    }
}

void loop_drain(struct host *host)
{
    uint64_t until = uv_hrtime() + UINT64_C(2000000000);

    while (uv_hrtime() < until) {
        bool more = host->tasks && run_ready(host);

        if (host->clock.is_virtual && clock_due(&host->clock))
            more = true;
        if (host->tasks ? host->tasks->count == 0 : !uv_loop_alive(&host->loop))
            break;
        uv_run(&host->loop, UV_RUN_NOWAIT);
        if (!more && uv_loop_alive(&host->loop)) {
            struct timespec pause = {.tv_nsec = 200000};

            nanosleep(&pause, NULL);
        }
    }
}
