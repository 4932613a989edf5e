/* The watchdog's timer and signal. lua_sethook is the one Lua call that may be made from a signal handler
 * (lua.c relies on the same); beside it the handler only sets the timer again. */
#include "watchdog.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "crash_note.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

struct watchdog {
    timer_t timer;
    lua_Hook hook;
    volatile int mask;
    lua_State *volatile running;
    volatile sig_atomic_t armed;
    volatile long lasts; /* ms for which the slice goes on, as far as the timer saw */
    uint64_t began;      /* the thread's processor time when the slice was first found long; 0: it was not */
    bool late;           /* the slice went on although it was found long */
};

/* What the timer waits for: the end of a slice, or whether the hook it set was lost. Lua gives a hook up in
 * two steps (luaG_traceexec reads the mask, then clears the trap); one that is set between them is never
 * called. */
enum { ARMED_NOT, ARMED_SLICE, ARMED_LOST };

static void arm(struct watchdog *w, int what)
{
    long ms = what == ARMED_SLICE ? WATCHDOG_SLICE_MS : WATCHDOG_LOST_MS;
    struct itimerspec when = {.it_value = {.tv_nsec = ms * 1000000L}};

    w->armed = what;
    timer_settime(w->timer, 0, &when, NULL);
}

/* Signal handlers have no argument of ours that survives a timer on another host; there is one host a
 * process. */
static struct watchdog *volatile the_watchdog;

static int watchdog_signal(void)
{
    return SIGRTMIN + 3;
}

/* What the slice has used since it was first found long. */
static long used_ms(struct watchdog *w)
{
    struct timespec t;
    uint64_t now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    now = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000 + 1;
    if (!w->began)
        w->began = now;
    return (long)(now - w->began);
}

static void on_signal(int signum)
{
    struct watchdog *w = the_watchdog;
    int saved = errno;

    (void)signum;
    if (w) {
        lua_State *co = w->running;

        w->lasts += w->armed == ARMED_LOST ? WATCHDOG_LOST_MS : WATCHDOG_SLICE_MS;
        w->armed = ARMED_NOT;
        if (co) {
            crash_note_lasts(w->lasts, used_ms(w));
            lua_sethook(co, w->hook, w->mask, 1);
            arm(w, ARMED_LOST);
        }
    }
    errno = saved;
}

struct watchdog *watchdog_open(lua_Hook hook)
{
    struct sigevent event = {0};
    struct sigaction action = {0};
    struct watchdog *w = calloc(1, sizeof *w);

    if (!w)
        return NULL;
    w->hook = hook;
    w->mask = LUA_MASKCOUNT;
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    event.sigev_notify = SIGEV_THREAD_ID; /* this thread, not one of libuv's pool */
    event.sigev_signo = watchdog_signal();
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    if (sigaction(watchdog_signal(), &action, NULL) != 0 ||
        timer_create(CLOCK_MONOTONIC, &event, &w->timer) != 0) {
        free(w);
        return NULL;
    }
    the_watchdog = w;
    return w;
}

void watchdog_close(struct watchdog *w)
{
    if (!w)
        return;
    the_watchdog = NULL;
    timer_delete(w->timer);
    signal(watchdog_signal(), SIG_IGN); /* one may be pending */
    free(w);
}

void watchdog_lines(struct watchdog *w)
{
    w->mask |= LUA_MASKLINE;
}

void watchdog_begin(struct watchdog *w, lua_State *co)
{
    w->lasts = 0;
    w->began = 0;
    watchdog_run(w, co);
}

void watchdog_run(struct watchdog *w, lua_State *co)
{
    w->running = co;
    if (!co)
        w->late = false;
    if (co && w->armed != ARMED_SLICE)
        arm(w, ARMED_SLICE);
}

lua_State *watchdog_running(const struct watchdog *w)
{
    return w ? w->running : NULL;
}

void watchdog_again(struct watchdog *w)
{
    if (!w)
        return;
    w->late = true;
    arm(w, ARMED_SLICE);
}

void watchdog_back(struct watchdog *w, lua_State *co)
{
    watchdog_run(w, co);
    if (w->late)
        lua_sethook(co, w->hook, w->mask, 1);
}
