/* The queue of tasks that are ready to run. What a turn of the loop passes over waits beside it, and comes
 * first in the next. */
#include "host.h"
#include "task_inside.h"

void task_ready_open(struct task_set *set)
{
    set->ready_tail = &set->ready;
    set->kept_tail = &set->kept;
}

void task_make_ready(struct task *t)
{
    struct task_set *set = t->host->tasks;

    if (t->queued || t->ended)
        return;
    t->queued = true;
    t->next_ready = NULL;
    *set->ready_tail = t;
    set->ready_tail = &t->next_ready;
    if (t->host->turning)
        uv_stop(&t->host->loop); /* a timer that fires at the start of a turn: the turn must not sleep then */
}

struct task *task_ready_take(struct task_set *set)
{
    struct task *t = set->ready;

    if (t) {
        set->ready = t->next_ready;
        if (!set->ready)
            set->ready_tail = &set->ready;
        t->queued = false;
    }
    return t;
}

void task_ready_keep(struct task_set *set, struct task *t)
{
    t->queued = true;
    t->next_ready = NULL;
    *set->kept_tail = t;
    set->kept_tail = &t->next_ready;
}

void task_ready_return(struct task_set *set)
{
    if (!set->kept)
        return;
    *set->kept_tail = set->ready;
    if (!set->ready)
        set->ready_tail = set->kept_tail;
    set->ready = set->kept;
    set->kept = NULL;
    set->kept_tail = &set->kept;
}
