/* The dead man's switch on POSIX timers of CLOCK_BOOTTIME: time that the machine slept counts. Two of them:
 * the first writes a message (its handler uses what signal-safety(7) allows), the second is SIGKILL
 * itself, which the kernel delivers to a stopped process, too. */
#include "deadman.h"

#include <errno.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define LATER 0.05 /* seconds from the first to the second */

static timer_t timers[2];
static bool made;

static void strike(int signum)
{
    static const char text[] =
        "moontide: this host's time to act is over and it has not stopped: it ends at once\n";

    (void)signum;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(DEADMAN_STATUS);
    _exit(DEADMAN_STATUS);
}

static bool make(void)
{
    struct sigaction action = {.sa_handler = strike};
    int signals[2] = {SIGRTMIN + 4, SIGKILL};

    if (sigaction(signals[0], &action, NULL) != 0)
        return false;
    for (int i = 0; i < 2; i++) {
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = signals[i]};

        if (timer_create(CLOCK_BOOTTIME, &event, &timers[i]) != 0) {
            int why = errno;

            if (i == 1)
                timer_delete(timers[0]);
            errno = why;
            return false;
        }
    }
    return true;
}

bool deadman_set(double seconds)
{
    bool fine = true;

    if (!made && !(made = make()))
        return false;
    for (int i = 0; i < 2; i++) {
        struct itimerspec when = {0};
        double after = seconds + LATER * i;

        if (seconds > 0) {
            when.it_value.tv_sec = (time_t)after;
            when.it_value.tv_nsec = (long)((after - (double)when.it_value.tv_sec) * 1e9);
            when.it_value.tv_nsec += when.it_value.tv_sec == 0 && when.it_value.tv_nsec == 0;
        }
        fine = timer_settime(timers[i], 0, &when, NULL) == 0 && fine;
    }
    return fine;
}
