/* Virtual time: a binary heap of timers, and a clock that moves only from one of them to the next. */
#include "clock.h"

#include <stdlib.h>

void clock_init(struct clock *clock, uv_loop_t *loop)
{
    *clock = (struct clock){.loop = loop};
}

void clock_fini(struct clock *clock)
{
    free(clock->heap);
    *clock = (struct clock){.loop = clock->loop};
}

void clock_begin(struct clock *clock, double start)
{
    uv_update_time(clock->loop);
    clock->now = uv_now(clock->loop);
    clock_set_wall(clock, start);
    clock->is_virtual = true;
}

void clock_set_wall(struct clock *clock, double start)
{
    clock->began = clock->now;
    clock->start.tv_sec = (time_t)start;
    clock->start.tv_nsec = (long)((start - (double)clock->start.tv_sec) * 1e3) * 1000000;
}

uint64_t clock_ms(const struct clock *clock)
{
    return clock->is_virtual ? clock->now : uv_now(clock->loop);
}

uint64_t clock_ms_now(const struct clock *clock)
{
    if (!clock->is_virtual)
        uv_update_time(clock->loop);
    return clock_ms(clock);
}

static struct timespec after(struct timespec start, uint64_t millis)
{
    uint64_t ns = (uint64_t)start.tv_nsec + millis % 1000 * 1000000;

    return (struct timespec){
        .tv_sec = start.tv_sec + (time_t)(millis / 1000) + (time_t)(ns / 1000000000),
        .tv_nsec = (long)(ns % 1000000000),
    };
}

struct timespec clock_wall(const struct clock *clock)
{
    struct timespec t;

    if (clock && clock->is_virtual)
        return after(clock->start, clock->now - clock->began);
    clock_gettime(CLOCK_REALTIME, &t);
    return t;
}

struct timespec clock_steady(const struct clock *clock)
{
    struct timespec t;

    if (clock && clock->is_virtual)
        return after((struct timespec){0}, clock->now);
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t;
}

/* ---- the heap ---- */

static bool earlier(const struct clock_timer *a, const struct clock_timer *b)
{
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}

static void put(struct clock *clock, size_t place, struct clock_timer *timer)
{
    clock->heap[place - 1] = timer;
    timer->place = place;
}

/* Moves a timer to where it belongs, from a place that is free. */
static void settle(struct clock *clock, size_t place, struct clock_timer *timer)
{
    while (place > 1 && earlier(timer, clock->heap[place / 2 - 1])) {
        put(clock, place, clock->heap[place / 2 - 1]);
        place /= 2;
    }
    for (;;) {
        size_t below = 2 * place;

        if (below > clock->count)
            break;
        if (below < clock->count && earlier(clock->heap[below], clock->heap[below - 1]))
            below++;
        if (!earlier(clock->heap[below - 1], timer))
            break;
        put(clock, place, clock->heap[below - 1]);
        place = below;
    }
    put(clock, place, timer);
}

bool clock_reserve(struct clock *clock, size_t count)
{
    struct clock_timer **heap;

    if (count <= clock->cap)
        return true;
    count = count < 32 ? 64 : 2 * count;
    heap = realloc(clock->heap, count * sizeof *heap);
    if (!heap)
        return false;
    clock->heap = heap;
    clock->cap = count;
    return true;
}

void clock_set(struct clock *clock, struct clock_timer *timer, uint64_t at)
{
    clock_unset(clock, timer);
    timer->at = at;
    timer->order = ++clock->order;
    settle(clock, ++clock->count, timer);
}

void clock_unset(struct clock *clock, struct clock_timer *timer)
{
    size_t place = timer->place;
    struct clock_timer *last;

    if (!place)
        return;
    timer->place = 0;
    last = clock->heap[--clock->count];
    if (last != timer)
        settle(clock, place, last);
}

/* ---- the way of time ---- */

bool clock_due(struct clock *clock)
{
    bool fired = false;

    while (clock->count && clock->heap[0]->at <= clock->now) {
        struct clock_timer *timer = clock->heap[0];

        clock_unset(clock, timer);
        timer->fire(timer);
        fired = true;
    }
    return fired;
}

bool clock_jump(struct clock *clock)
{
    if (!clock->count)
        return false;
    if (clock->heap[0]->at > clock->now)
        clock->now = clock->heap[0]->at;
    return clock_due(clock);
}
