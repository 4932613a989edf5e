/* The descriptor's side of a log: whole lines, and never a long wait.
 *
 * After poll says that a pipe has room, a write of PIPE_BUF bytes does not block, whether or not somebody
 * made the pipe non-blocking; so longer lines go in such pieces. Sockets are written to without waiting.
 * Files and terminals are not worth it: they are written to as they are. */
#include "log_out.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 50   /* for one line */
#define SULK_MS     5000 /* how long there is no patience after it was in vain */

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool writable(struct log *log, uint64_t until)
{
    struct pollfd p = {.fd = log->fd, .events = POLLOUT};
    int n;

    do {
        uint64_t now = now_ms();

        n = poll(&p, 1, now < until ? (int)(until - now) : 0);
    } while (n < 0 && errno == EINTR);
    return n > 0 && p.revents & POLLOUT;
}

static ssize_t put_some(struct log *log, const char *data, size_t len, uint64_t until)
{
    if (!log->pollable)
        return write(log->fd, data, len);
    if (!writable(log, until)) {
        errno = ETIMEDOUT;
        return -1;
    }

    ssize_t n = send(log->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && errno == ENOTSOCK)
        n = write(log->fd, data, len < PIPE_BUF ? len : PIPE_BUF);
    return n;
}

/* False: not all of it went out. */
static bool put(struct log *log, const char *data, size_t len)
{
    uint64_t now = now_ms(), until = now - log->stuck_at < SULK_MS && log->stuck_at ? now : now + PATIENCE_MS;

    while (len) {
        ssize_t n = put_some(log, data, len, until);

        if (n > 0) {
            data += n;
            len -= (size_t)n;
            log->torn = data[-1] != '\n';
        } else if (n < 0 && errno != EINTR && !(errno == EAGAIN && writable(log, until))) {
            log->stuck_at = now_ms();
            return false;
        }
    }
    return true;
}

void log_out_lost(struct log *log)
{
    struct buf line = {0};
    unsigned long long lost = log->lost;
    char date[32];
    time_t now = time(NULL);
    struct tm tm;

    if (!lost || (log->torn && !put(log, "\n", 1)))
        return;
    gmtime_r(&now, &tm);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if ((log->human ? buf_printf(&line, "%.8s warn  log lines were lost lost=%llu\n", date + 11, lost)
                    : buf_printf(&line,
                                 "{\"time\":\"%s\",\"level\":\"warn\",\"message\":\"log lines were lost\","
                                 "\"lost\":%llu}\n",
                                 date, lost)) &&
        put(log, line.data, line.len))
        log->lost = 0;
    buf_free(&line);
}

void log_out(struct log *log, const char *line, size_t len)
{
    log_out_lost(log);
    if (log->lost || (log->torn && !put(log, "\n", 1)) || !put(log, line, len))
        log->lost++;
}
