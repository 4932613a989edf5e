/* The descriptor's side of a log: whole lines, and never a long wait.
 *
 * After poll says that a pipe has room, a write of PIPE_BUF bytes does not block, whether or not the
 * pipe is non-blocking; so longer lines go in such pieces. Sockets are written to without waiting.
 * Files and terminals are not worth it: they are written to as they are. */
#include "log_out.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS    50   /* for one line */
#define BACKOFF_MS 5000 /* how long writes do not wait after one that waited in vain */

static bool writable(struct log *log, uint64_t until)
{
    struct pollfd p = {.fd = log->fd, .events = POLLOUT};
    int n;

    do {
        uint64_t now = log_now();

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

static bool put(struct log *log, const char *data, size_t len)
{
    uint64_t now = log_now(), until = now - log->stuck_at < BACKOFF_MS && log->stuck_at ? now : now + WAIT_MS;

    while (len) {
        ssize_t n = put_some(log, data, len, until);

        if (n > 0) {
            data += n;
            len -= (size_t)n;
            log->torn = data[-1] != '\n';
        } else if (n < 0 && errno != EINTR && !(errno == EAGAIN && writable(log, until))) {
            log->stuck_at = log_now();
            return false;
        }
    }
    return true;
}

bool log_out(struct log *log, const char *line, size_t len)
{
    return (!log->torn || put(log, "\n", 1)) && put(log, line, len);
}
