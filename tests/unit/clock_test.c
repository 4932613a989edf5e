/* Virtual time: the order of timers, and how the clock moves. */
#include "clock.h"
#include "unit.h"

static uv_loop_t loop;
static struct clock clock_;
static char fired[64];
static size_t fires;

struct named {
    struct clock_timer timer;
    char name;
};

static void note(struct clock_timer *timer)
{
    fired[fires++] = ((struct named *)timer)->name;
    fired[fires] = '\0';
}

static void begin(void)
{
    uv_loop_init(&loop);
    clock_init(&clock_, &loop);
    clock_begin(&clock_, 1000000000.25);
    CHECK(clock_reserve(&clock_, 32));
    fires = 0;
    fired[0] = '\0';
}

static void end(void)
{
    clock_fini(&clock_);
    uv_loop_close(&loop);
}

UNIT(timers_fire_by_their_moment_then_by_their_order)
{
    struct named all[26];
    uint64_t start;

    begin();
    start = clock_ms(&clock_);
    for (size_t i = 0; i < 26; i++) {
        all[i] = (struct named){.timer.fire = note, .name = (char)('a' + i)};
        clock_set(&clock_, &all[i].timer, start + 10 + i * 7 % 5);
    }
    for (size_t i = 0; i < 26; i += 3)
        clock_unset(&clock_, &all[i].timer);
    clock_set(&clock_, &all[1].timer, start + 1);
    CHECK(!clock_due(&clock_));
    while (clock_jump(&clock_))
        ;
    CHECK_INT(fires, 26 - 9);
    for (size_t i = 1; i < fires; i++) {
        const struct named *before = &all[fired[i - 1] - 'a'], *after = &all[fired[i] - 'a'];

        CHECK(before->timer.at < after->timer.at ||
              (before->timer.at == after->timer.at && before->timer.order < after->timer.order));
    }
    CHECK_INT(fired[0], 'b');
    CHECK_INT(clock_ms(&clock_), start + 14);
    end();
}

UNIT(the_clock_moves_only_by_a_jump)
{
    struct named day = {.timer.fire = note, .name = 'd'};
    struct timespec wall;

    begin();
    wall = clock_wall(&clock_);
    CHECK_INT(wall.tv_sec, 1000000000);
    CHECK_INT(wall.tv_nsec, 250000000);
    clock_set(&clock_, &day.timer, clock_ms(&clock_) + 86400900);
    CHECK_INT(clock_wall(&clock_).tv_sec, 1000000000);
    CHECK(clock_jump(&clock_));
    wall = clock_wall(&clock_);
    CHECK_INT(wall.tv_sec, 1000086401);
    CHECK_INT(wall.tv_nsec, 150000000);
    CHECK(!clock_jump(&clock_));
    clock_unset(&clock_, &day.timer);
    end();
}

UNIT(what_is_due_fires_without_a_jump)
{
    struct named now = {.timer.fire = note, .name = 'n'}, later = {.timer.fire = note, .name = 'l'};

    begin();
    clock_set(&clock_, &later.timer, clock_ms(&clock_) + 1);
    clock_set(&clock_, &now.timer, clock_ms(&clock_));
    CHECK(clock_due(&clock_));
    CHECK_STR(fired, "n");
    CHECK(!clock_due(&clock_));
    clock_set(&clock_, &now.timer, clock_ms(&clock_) - 5);
    CHECK(clock_jump(&clock_));
    CHECK_STR(fired, "nn");
    CHECK(clock_jump(&clock_));
    CHECK_STR(fired, "nnl");
    end();
}

UNIT(real_time_is_the_machines)
{
    struct timespec own, machines;

    uv_loop_init(&loop);
    clock_init(&clock_, &loop);
    own = clock_steady(&clock_);
    clock_gettime(CLOCK_MONOTONIC, &machines);
    CHECK(machines.tv_sec - own.tv_sec <= 1);
    CHECK(clock_wall(NULL).tv_sec - clock_wall(&clock_).tv_sec <= 1);
    CHECK_INT(clock_ms(&clock_), uv_now(&loop));
    end();
}

UNIT_MAIN(C(timers_fire_by_their_moment_then_by_their_order), C(the_clock_moves_only_by_a_jump),
          C(what_is_due_fires_without_a_jump), C(real_time_is_the_machines))
