/* The dead man's switch on a POSIX timer. CLOCK_BOOTTIME: time that the machine slept counts. The handler
 * uses what signal-safety(7) allows. */
#include "deadman.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

static timer_t timer;
static bool made;

static int deadman_signal(void)
{
    return SIGRTMIN + 4;
}

static void strike(int signum)
{
    static const char text[] =
        "moontide: this host's time to act is over and it has not stopped: it ends at once\n";

    (void)signum;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(DEADMAN_STATUS);
    _exit(DEADMAN_STATUS);
}

bool deadman_set(double seconds)
{
    struct itimerspec when = {0};

    if (!made) {
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = deadman_signal()};
        struct sigaction action = {.sa_handler = strike};

        if (sigaction(deadman_signal(), &action, NULL) != 0 ||
            timer_create(CLOCK_BOOTTIME, &event, &timer) != 0)
            return false;
        made = true;
    }
    if (seconds > 0) {
        when.it_value.tv_sec = (time_t)seconds;
        when.it_value.tv_nsec = (long)((seconds - (double)when.it_value.tv_sec) * 1e9);
        if (when.it_value.tv_sec == 0 && when.it_value.tv_nsec == 0)
            when.it_value.tv_nsec = 1;
    }
    return timer_settime(timer, 0, &when, NULL) == 0;
}
