/* The time that tasks live in: the machine's or, once clock_begin was called, a virtual one that stands still
 * until clock_jump moves it to the next timer that is set. Knows no Lua. Timers belong to whoever sets them
 * and are in use only in virtual time; in real time libuv's are. */
#ifndef MOONTIDE_CLOCK_H
#define MOONTIDE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <uv.h>

struct clock_timer {
    uint64_t at, order; /* ms of the clock; those of one moment fire in the order in which they were set */
    size_t place;       /* in the heap, from 1; 0: it is not set */
    void (*fire)(struct clock_timer *timer);
};

struct clock {
    uv_loop_t *loop;
    bool is_virtual;
    struct timespec start; /* the wall clock when `began` was now */
    uint64_t began, now;   /* ms, as libuv's at first */
    uint64_t order;
    struct clock_timer **heap; /* the earliest first */
    size_t count, cap;
};

/* Real time. The loop must live as long. */
void clock_init(struct clock *clock, uv_loop_t *loop);
void clock_fini(struct clock *clock);

/* Virtual time from now on, for good; `start`: seconds since 1970. */
void clock_begin(struct clock *clock, double start);

/* Sets the wall clock of virtual time; waits and deadlines are not moved by it. */
void clock_set_wall(struct clock *clock, double start);

/* Milliseconds that never jump back: libuv's cached ones, or those of an updated loop. */
uint64_t clock_ms(const struct clock *clock);
uint64_t clock_ms_now(const struct clock *clock);

/* The wall clock; NULL is the machine's. A clock that never jumps. */
struct timespec clock_wall(const struct clock *clock);
struct timespec clock_steady(const struct clock *clock);

/* Makes room for so many timers; false: memory. clock_set never fails within it. */
bool clock_reserve(struct clock *clock, size_t count);

/* Sets a timer, or sets it anew; takes it back, also one that is not set. */
void clock_set(struct clock *clock, struct clock_timer *timer, uint64_t at);
void clock_unset(struct clock *clock, struct clock_timer *timer);

/* Fires the timers whose moment has come; moves on to the moment of the next one first. False: there was
 * none. */
bool clock_due(struct clock *clock);
bool clock_jump(struct clock *clock);

#endif
