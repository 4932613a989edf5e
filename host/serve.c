/* The daemon on the loop: its epoll descriptor in a uv_poll, its timeouts in a uv_timer, and the sweep.
 *
 * A server's memory belongs to this file; it is freed when its libuv handles have closed. Nothing here is
 * called by the library except connection notices, and the daemon runs only from libuv's callbacks: never
 * inside a call of ours into it. */
#include "serve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "serve_impl.h"

#define SWEEP_MS 250
#define CROWD_MS 20 /* between two sweeps while there are too many connections */
#define GRACE                                                                                                \
    2 /* sweeps in which a client may send what it came for; time would be wrong when the loop is late */
#define RESERVE 64 /* connections over the limit that may wait for others to make room */

static uint64_t loop_now(const struct serve *s)
{
    return uv_now(s->tick.loop);
}

void serve_deadline(struct serve_conn *c, uint64_t ms)
{
    c->deadline = ms ? loop_now(c->serve) + ms : 0;
}

static void arm(struct serve *s);

static void run_daemon(struct serve *s)
{
    if (s->closed)
        return;
    s->kicked = false;
    MHD_run(s->daemon);
    arm(s);
}

static void on_tick(uv_timer_t *timer)
{
    run_daemon(timer->data);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    run_daemon(poll->data);
}

/* The library says when it wants to run even if nothing arrives. */
static void arm(struct serve *s)
{
    MHD_UNSIGNED_LONG_LONG ms = 0;

    if (s->kicked || MHD_get_timeout(s->daemon, &ms) == MHD_YES)
        uv_timer_start(&s->tick, on_tick, ms, 0);
    else
        uv_timer_stop(&s->tick);
}

void serve_kick(struct serve *s)
{
    s->kicked = true;
    if (!s->closed)
        uv_timer_start(&s->tick, on_tick, 0, 0);
}

/* Whether the client of a suspended connection has left. One that only closed its sending side may still wait
 * for an answer, except that nobody follows a stream that way. */
static bool has_left(const struct serve_conn *c)
{
    struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};

    if (poll(&p, 1, 0) <= 0)
        return false;
    return p.revents & (POLLHUP | POLLERR | POLLNVAL) || c->request->streaming;
}

/* Whether a connection may go for a newer one: nobody works on a request of it, and it is its client who is
 * slow, with its head, its body or with reading its answer. What a client has sent already is waited for by
 * us, not by it. */
static bool may_go(const struct serve_conn *c)
{
    const struct serve_request *r = c->request;
    struct pollfd p = {.fd = c->fd, .events = r && r->answered ? POLLOUT : POLLIN};

    if (c->closing || c->seen < GRACE || (r && r->queued && !r->receiving && (!r->answered || r->streaming)))
        return false;
    return poll(&p, 1, 0) == 0;
}

static unsigned count_open(const struct serve *s, const char *address)
{
    unsigned count = 0;

    for (const struct serve_conn *c = s->conns; c; c = c->next)
        count += !c->closing && (!address || strcmp(c->peer.address, address) == 0);
    return count;
}

/* Lets the oldest connections go that may while there are too many, in all or from one address. The library's
 * own limits would refuse the newest instead, and with it whoever asks whether the host is well. False: there
 * are still too many. */
static bool make_room(struct serve *s)
{
    unsigned open = count_open(s, NULL), per_ip = s->socket.path ? 0 : s->options.per_ip;
    bool fits = true;

    for (struct serve_conn *c = s->conns; c; c = c->next) {
        if (c->closing || (open <= s->options.connections &&
                           (!per_ip || open <= per_ip || count_open(s, c->peer.address) <= per_ip)))
            continue;
        fits = false;
        if (!may_go(c))
            continue;
        c->closing = true;
        open--;
        shutdown(c->fd, SHUT_RDWR); /* the library sees the end of it and cleans up */
        serve_kick(s);
    }
    return fits;
}

static void on_sweep(uv_timer_t *timer);

/* Looks after the connections, often while there are too many. */
static void sweep_soon(struct serve *s, bool crowded)
{
    uint64_t period = crowded ? CROWD_MS : SWEEP_MS;

    if (!uv_is_active((uv_handle_t *)&s->sweep) || uv_timer_get_repeat(&s->sweep) != period)
        uv_timer_start(&s->sweep, on_sweep, period, period);
}

static void on_sweep(uv_timer_t *timer)
{
    struct serve *s = timer->data;
    uint64_t now = loop_now(s);

    for (struct serve_conn *c = s->conns; c; c = c->next) {
        c->seen += c->seen < GRACE;
        if (c->request && c->request->suspended && has_left(c))
            serve_cut(c->request);
        if (c->deadline && now > c->deadline) {
            c->deadline = 0;
            shutdown(c->fd, SHUT_RDWR); /* the library sees the end of it and cleans up */
        }
    }
    if (s->draining && now > s->drain_until)
        s->options.on_idle(s->options.data);
    if (s->conns)
        sweep_soon(s, !make_room(s));
    else
        uv_timer_stop(timer);
}

static void describe_peer(struct serve_conn *c, const struct sockaddr *address)
{
    struct ucred cred;
    socklen_t len = sizeof cred;

    if (c->serve->socket.path) {
        c->peer.local = getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0;
        if (c->peer.local) {
            c->peer.uid = cred.uid;
            c->peer.pid = cred.pid;
        }
    } else if (address && address->sa_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)address)->sin_addr, c->peer.address,
                  sizeof c->peer.address);
    } else if (address && address->sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, c->peer.address,
                  sizeof c->peer.address);
    }
}

/* The directory keeps others out; this does too, in case somebody opens it, unless the socket is for a group.
 * Root may do anything anyway. */
static bool welcome(const struct serve_conn *c)
{
    return !c->serve->socket.path || c->serve->options.shared ||
           (c->peer.local && (c->peer.uid == geteuid() || c->peer.uid == 0));
}

static void conn_open(struct serve *s, struct MHD_Connection *mhd, void **context)
{
    const union MHD_ConnectionInfo *fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    const union MHD_ConnectionInfo *address =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    struct serve_conn *c = calloc(1, sizeof *c);

    if (!c)
        return; /* its requests are refused */
    c->serve = s;
    c->mhd = mhd;
    c->fd = fd->connect_fd;
    describe_peer(c, address ? address->client_addr : NULL);
    serve_deadline(c, s->options.timeout);
    c->link = s->last;
    *s->last = c;
    s->last = &c->next;
    *context = c;
    if (!welcome(c))
        shutdown(c->fd, SHUT_RDWR);
    sweep_soon(s, !make_room(s));
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct serve_conn *c = *context;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        conn_open(cls, mhd, context);
    } else if (c) {
        *c->link = c->next;
        *(c->next ? &c->next->link : &c->serve->last) = c->link;
        free(c);
        *context = NULL;
        serve_kick(cls); /* at the limit, the library looks at its listening socket again only when it runs */
    }
}

/* Targets stay as they came: what %2F or %00 means is for the reader to decide. */
static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls;
    (void)mhd;
    return strlen(text);
}

static struct MHD_Daemon *start_daemon(struct serve *s)
{
    const struct serve_options *o = &s->options;

    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, serve_on_access, s, MHD_OPTION_LISTEN_SOCKET,
        s->socket.fd, MHD_OPTION_CONNECTION_LIMIT, o->connections + RESERVE, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)((o->timeout + 999) / 1000), MHD_OPTION_CONNECTION_MEMORY_LIMIT, o->header_memory,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK, serve_on_target, s,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
        MHD_OPTION_NOTIFY_COMPLETED, serve_on_completed, s, MHD_OPTION_END);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct serve *s = handle->data;

    if (handle->type == UV_POLL)
        free(handle);
    if (--s->uv_handles == 0)
        free(s);
}

static bool watch(struct serve *s)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);

    s->poll = info ? malloc(sizeof *s->poll) : NULL;
    if (!s->poll)
        return false;
    if (uv_poll_init(s->tick.loop, s->poll, info->epoll_fd) != 0) {
        free(s->poll);
        s->poll = NULL;
        return false;
    }
    s->poll->data = s;
    s->uv_handles++;
    return uv_poll_start(s->poll, UV_READABLE, on_readable) == 0;
}

struct serve *serve_open(uv_loop_t *loop, struct serve **all, struct serve_socket *socket,
                         const struct serve_options *options, struct err *e)
{
    struct serve *s = calloc(1, sizeof *s);

    if (!s) {
        serve_socket_close(socket);
        err_set(e, ERR_MEMORY, "out of memory");
        return NULL;
    }
    s->next = *all;
    s->link = all;
    if (s->next)
        s->next->link = &s->next;
    *all = s;
    s->options = *options;
    s->socket = *socket;
    s->tail = &s->head;
    s->last = &s->conns;
    uv_timer_init(loop, &s->tick);
    uv_timer_init(loop, &s->sweep);
    s->tick.data = s->sweep.data = s;
    s->uv_handles = 2;
    s->daemon = start_daemon(s);
    if (s->daemon && watch(s))
        return s;
    err_set(e, ERR_FULL, "the server could not be started");
    serve_close(s);
    return NULL;
}

uint16_t serve_port(const struct serve *s)
{
    return s->socket.port;
}

size_t serve_running(const struct serve *s)
{
    return s->running;
}

void serve_drain(struct serve *s, uint64_t limit)
{
    s->drain_until = loop_now(s) + limit + 1;
    if (s->draining)
        return;
    s->draining = true;
    MHD_quiesce_daemon(s->daemon);
    serve_socket_close(&s->socket);
    for (struct serve_conn *c = s->conns; c; c = c->next)
        if (!c->request)
            shutdown(c->fd, SHUT_RDWR);
    serve_kick(s);
}

void serve_close(struct serve *s)
{
    if (!s || s->closed)
        return;
    if (s->daemon) {
        serve_drain(s, 0);
        for (struct serve_conn *c = s->conns; c; c = c->next)
            if (c->request)
                serve_cut(c->request); /* the library wants none suspended */
    }
    s->closed = true;
    *s->link = s->next;
    if (s->next)
        s->next->link = s->link;
    if (s->poll)
        uv_close((uv_handle_t *)s->poll, on_handle_closed); /* before its descriptor closes */
    uv_close((uv_handle_t *)&s->tick, on_handle_closed);
    uv_close((uv_handle_t *)&s->sweep, on_handle_closed);
    if (s->daemon)
        MHD_stop_daemon(s->daemon);
    serve_socket_close(&s->socket);
    s->options.on_closed(s->options.data);
}

void serve_close_all(struct serve **all)
{
    while (*all)
        serve_close(*all);
}
