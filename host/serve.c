/* Servers: the daemon on the loop, a request's way through it, answers, connections.
 *
 * The daemon's epoll descriptor is in a uv_poll, its timeouts in a uv_timer; it runs only from libuv's
 * callbacks: never inside a call of ours into it. It calls on_target when it knows a request line, on_access
 * once for the head, for each piece of the body, and when all is read. After the head, and after the body
 * that the taker asked for, the connection is suspended; resuming it leads to one more call, in which the
 * answer is handed over. on_completed ends a request in every case. A server's memory is freed when its libuv
 * handles have closed. */
#include "serve.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define SWEEP_MS 250
#define CROWD_MS 20 /* between two sweeps while there are too many connections */
/* Sweeps in which a client may send what it came for; time would be wrong when the loop is late. */
#define GRACE      2
#define RESERVE    64 /* connections over the limit that may wait for others to make room */
#define METHOD_MAX 16
#define BLOCK      16384 /* of a streamed answer */

struct serve_conn {
    struct serve *serve;
    struct serve_conn *next, **link; /* in the server's list */
    struct MHD_Connection *mhd;
    struct serve_request *request; /* the one under way */
    int fd;
    uint8_t seen;      /* by how many sweeps, up to GRACE */
    bool closing;      /* it is being closed for a newer one */
    uint64_t deadline; /* loop time in milliseconds; 0: none */
    struct serve_peer peer;
};

struct serve {
    struct serve *next, **link; /* in the list of all */
    struct serve_options options;
    struct serve_socket socket;
    struct MHD_Daemon *daemon;
    uv_poll_t *poll;
    uv_timer_t tick, sweep;
    unsigned uv_handles;                /* not closed yet */
    struct serve_conn *conns, **last;   /* the oldest first */
    struct serve_request *head, **tail; /* requests that were not taken yet */
    size_t running;
    uint64_t drain_until; /* loop time; 0: not asked for */
    bool draining, closed;
    bool kicked; /* the daemon must run although nothing arrives */
};

static uint64_t loop_now(const struct serve *s)
{
    return uv_now(s->tick.loop);
}

/* Notes a deadline from now; 0: none. */
static void set_deadline(struct serve_conn *c, uint64_t ms)
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

/* The library's timeout: when it must run even if nothing arrives. */
static void arm(struct serve *s)
{
    MHD_UNSIGNED_LONG_LONG ms = 0;

    if (s->kicked || MHD_get_timeout(s->daemon, &ms) == MHD_YES)
        uv_timer_start(&s->tick, on_tick, ms, 0);
    else
        uv_timer_stop(&s->tick);
}

/* Have the daemon run soon. */
static void kick(struct serve *s)
{
    s->kicked = true;
    if (!s->closed)
        uv_timer_start(&s->tick, on_tick, 0, 0);
}

/* ---- requests ---- */

static void request_unref(struct serve_request *r)
{
    if (--r->shares)
        return;
    if (r->response)
        MHD_destroy_response(r->response);
    for (size_t i = 0; i < r->header_count; i++)
        free(r->headers[i].name);
    free(r->headers);
    free(r->method);
    free(r->target);
    free(r->version);
    buf_free(&r->body);
    buf_free(&r->out);
    free(r);
}

static void suspend(struct serve_request *r)
{
    r->suspended = true;
    set_deadline(r->conn, 0);
    MHD_suspend_connection(r->conn->mhd);
}

static void resume(struct serve_request *r)
{
    if (!r->suspended || !r->conn)
        return;
    r->suspended = false;
    MHD_resume_connection(r->conn->mhd);
    kick(r->conn->serve);
}

/* The taker learns that the client is gone; the connection ends when the daemon runs. */
static void cut(struct serve_request *r)
{
    if (r->cut)
        return;
    r->cut = true;
    if (r->on_gone)
        r->on_gone(r);
    resume(r);
}

/* ---- the head, copied and checked: nothing ambiguous gets past here ----
 *
 * The library is lenient where two readers of one request might disagree (a length given twice, a length
 * beside chunks, a space before the colon). Such a request is refused and its connection closed, so that no
 * byte of it is ever taken for a second request. */

static void refuse(struct serve_request *r, unsigned status, const char *why)
{
    if (r->refusal)
        return;
    r->refusal = why;
    r->status = status;
}

/* RFC 9110; a NUL behind the text ends it. */
static bool is_token(const char *text, size_t len)
{
    return len && strspn(text, "!#$%&'*+-.^_`|~0123456789"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") == len;
}

static bool is_printable(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)text[i] < 0x20 && text[i] != '\t') || text[i] == 0x7f)
            return false;
    return true;
}

bool serve_field_ok(const char *name, size_t name_len, const char *value, size_t value_len)
{
    static const char *const framing[] = {"content-length", "transfer-encoding", "date"};

    for (size_t i = 0; i < sizeof framing / sizeof *framing; i++)
        if (strcasecmp(name, framing[i]) == 0)
            return false;
    return is_token(name, name_len) && is_printable(value, value_len);
}

/* Copies one header. Where memory is short, fewer are counted than there are. */
static enum MHD_Result add_header(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_len,
                                  const char *value, size_t value_len)
{
    struct serve_request *r = cls;
    struct serve_header *h = &r->headers[r->header_count];

    (void)kind;
    if (!is_token(name, name_len) || !is_printable(value, value_len))
        refuse(r, 400, "a malformed header");
    h->name = malloc(name_len + value_len + 2);
    if (!h->name)
        return MHD_NO;
    h->value = h->name + name_len + 1;
    h->value_len = value_len;
    memcpy(h->name, name, name_len);
    h->name[name_len] = '\0';
    if (value_len)
        memcpy(h->value, value, value_len);
    h->value[value_len] = '\0';
    r->header_count++;
    return MHD_YES;
}

/* How often a header occurs; *value is its first. */
static size_t occurrences(const struct serve_request *r, const char *name, const char **value)
{
    size_t count = 0;

    *value = NULL;
    for (size_t i = 0; i < r->header_count; i++)
        if (strcasecmp(r->headers[i].name, name) == 0 && count++ == 0)
            *value = r->headers[i].value;
    return count;
}

static void check_length(struct serve_request *r, bool http11)
{
    const char *length, *coding;
    size_t lengths = occurrences(r, "content-length", &length);
    size_t codings = occurrences(r, "transfer-encoding", &coding);

    if (lengths > 1 || codings > 1 || (lengths && codings) || (codings && !http11))
        refuse(r, 400, "its length is given more than once");
    else if (codings && strcasecmp(coding, "chunked") != 0)
        refuse(r, 501, "an unknown transfer coding");
    r->chunked = codings > 0;
    if (!lengths)
        return;
    if (!*length || length[strspn(length, "0123456789")])
        refuse(r, 400, "a malformed length");
    else if (strlen(length) > 18 ||
             (r->length = (size_t)strtoull(length, NULL, 10)) > r->serve->options.max_body)
        refuse(r, 413, "a body over the limit");
}

static void check_head(struct serve_request *r)
{
    const char *host;
    bool http11 = strcmp(r->version, "HTTP/1.1") == 0;
    size_t hosts = occurrences(r, "host", &host), method = strlen(r->method);

    if (!http11 && strcmp(r->version, "HTTP/1.0") != 0)
        refuse(r, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    if (method > METHOD_MAX || r->method[strspn(r->method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-")])
        refuse(r, 400, "a malformed method");
    if (hosts > 1 || (http11 && !hosts))
        refuse(r, 400, "exactly one Host header is needed");
    if (r->target[0] != '/')
        refuse(r, 400, "the target must begin with a slash");
    for (const char *c = r->target; *c; c++)
        if (*c <= ' ' || *c > '~')
            refuse(r, 400, "a malformed target");
    check_length(r, http11);
}

/* False: no memory. A bad head gets a refusal. */
static bool take_head(struct serve_request *r, struct MHD_Connection *mhd, const char *method,
                      const char *version)
{
    size_t count = (size_t)MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, NULL, NULL);

    r->method = strdup(method);
    r->version = strdup(version);
    r->headers = calloc(count + 1, sizeof *r->headers);
    if (!r->method || !r->version || !r->headers)
        return false;
    MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, add_header, r);
    if (r->header_count < count)
        return false;
    check_head(r);
    return true;
}

/* ---- from the head to the answer, as the library calls ---- */

static struct serve_conn *conn_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info ? info->socket_context : NULL;
}

static void *on_target(void *cls, const char *target, struct MHD_Connection *mhd)
{
    struct serve *s = cls;
    struct serve_conn *c = conn_of(mhd);
    struct serve_request *r = c ? calloc(1, sizeof *r) : NULL;

    if (!r)
        return NULL;
    r->target = strdup(target);
    if (!r->target) {
        free(r);
        return NULL;
    }
    r->shares = 1;
    r->serve = s;
    r->conn = c;
    r->peer = c->peer;
    r->body.max = s->options.max_body;
    c->request = r;
    return r;
}

static enum MHD_Result hand_over(struct serve_request *r, struct MHD_Connection *mhd)
{
    enum MHD_Result result = MHD_queue_response(mhd, r->status, r->response);

    MHD_destroy_response(r->response);
    r->response = NULL;
    if (!r->streaming) /* 16 kB a second and a start: slower is no reader */
        set_deadline(r->conn, 6 * r->serve->options.timeout + r->answer_len / 16);
    return result;
}

static enum MHD_Result hand_over_refusal(struct serve_request *r, struct MHD_Connection *mhd)
{
    char text[128];
    int len = snprintf(text, sizeof text, "refused: %s\n", r->refusal);

    r->response = MHD_create_response_from_buffer((size_t)len, text, MHD_RESPMEM_MUST_COPY);
    if (!r->response)
        return MHD_NO;
    r->answered = true;
    MHD_add_response_header(r->response, "Content-Type", "text/plain; charset=utf-8");
    MHD_add_response_header(r->response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(r->response, "Connection", "close");
    return hand_over(r, mhd);
}

bool serve_receive(struct serve_request *r)
{
    if (r->whole || !r->conn || r->cut)
        return r->whole;
    if (!r->receiving) {
        r->receiving = true;
        resume(r);
        set_deadline(r->conn, 3 * r->serve->options.timeout);
    }
    return false;
}

/* All of the body is read. */
static enum MHD_Result complete(struct serve_request *r, struct MHD_Connection *mhd)
{
    r->whole = true;
    r->receiving = false;
    if (r->refusal) {
        enum MHD_Result result = hand_over_refusal(r, mhd);

        if (r->on_body)
            r->on_body(r);
        return result;
    }
    suspend(r);
    if (r->on_body)
        r->on_body(r);
    return MHD_YES;
}

static void enqueue(struct serve_request *r)
{
    struct serve *s = r->serve;

    r->queued = true;
    r->shares++; /* the queue's, which becomes the taker's */
    *s->tail = r;
    s->tail = &r->next;
    s->running++;
    suspend(r);
    s->options.on_request(s->options.data);
}

struct serve_request *serve_next(struct serve *s)
{
    struct serve_request *r = s->head;

    if (!r)
        return NULL;
    s->head = r->next;
    if (!s->head)
        s->tail = &s->head;
    r->next = NULL;
    return r;
}

/* One piece of the body. Over the limit the rest is read and forgotten for a while, so that a client that
 * only writes still gets to see its answer. */
static enum MHD_Result take_body(struct serve_request *r, const char *data, size_t size)
{
    if (!r->refusal && buf_add(&r->body, data, size))
        return MHD_YES;
    if (!r->refusal) {
        refuse(r, 413, "a body over the limit");
        r->length = r->body.len;
        buf_free(&r->body);
    }
    r->length += size;
    return r->length > 2 * r->serve->options.max_body + 65536 ? MHD_NO : MHD_YES;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                                 const char *version, const char *data, size_t *size, void **con_cls)
{
    struct serve *s = cls;
    struct serve_request *r = *con_cls;

    (void)url;
    if (!r || r->cut)
        return MHD_NO;
    if (!r->begun) {
        r->begun = true;
        if (!take_head(r, mhd, method, version))
            return MHD_NO;
        if (s->draining)
            refuse(r, 503, "the server is going away");
        set_deadline(r->conn, 3 * s->options.timeout);
        if (r->refusal)
            return hand_over_refusal(r, mhd);
        r->whole = !r->chunked && !r->length;
        if (!r->whole)
            enqueue(r);
        return MHD_YES;
    }
    if (r->response)
        return hand_over(r, mhd); /* before a body that was not asked for, or behind all of it */
    if (*size) {
        size_t taken = *size;

        *size = 0;
        return take_body(r, data, taken);
    }
    if (r->receiving && !r->reading) {
        r->reading = true; /* the call for the head again, after its suspension: now the body comes */
        return MHD_YES;
    }
    if (!r->whole)
        return complete(r, mhd);
    if (!r->queued) /* one without a body comes only now: an answer to its head would end the connection */
        enqueue(r);
    return MHD_YES;
}

static void unqueue(struct serve *s, struct serve_request *r)
{
    for (struct serve_request **at = &s->head; *at; at = &(*at)->next) {
        if (*at != r)
            continue;
        *at = r->next;
        if (!*at)
            s->tail = at;
        r->next = NULL;
        r->shares--; /* the connection's is still there */
        return;
    }
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                         enum MHD_RequestTerminationCode code)
{
    struct serve *s = cls;
    struct serve_request *r = *con_cls;

    (void)mhd;
    if (!r)
        return;
    *con_cls = NULL;
    r->conn->request = NULL;
    set_deadline(r->conn, 2 * s->options.timeout);
    if (code != MHD_REQUEST_TERMINATED_COMPLETED_OK && !r->cut && r->on_gone)
        r->on_gone(r);
    r->cut = r->cut || code != MHD_REQUEST_TERMINATED_COMPLETED_OK;
    r->conn = NULL;
    r->serve = NULL;
    if (r->queued) {
        unqueue(s, r);
        if (--s->running == 0)
            s->options.on_idle(s->options.data);
    }
    request_unref(r);
}

void serve_release(struct serve_request *r)
{
    r->on_gone = NULL;
    r->on_room = NULL;
    r->on_body = NULL;
    if (!r->answered)
        cut(r);
    else if (r->streaming)
        serve_finish(r, false);
    request_unref(r);
}

/* ---- answers ----
 *
 * A response is built here and handed over in the next call of on_access. A stream's bytes wait in r->out;
 * while there are none its connection is suspended. */

/* Whether no answer can be given (any more): the library takes none in the middle of a body. */
static bool gone(const struct serve_request *r, struct err *e)
{
    if (r->conn && !r->cut && !r->receiving)
        return false;
    err_set(e, ERR_CLOSED, r->receiving ? "the body is being read" : "the client is gone");
    return true;
}

static bool memory(struct err *e)
{
    err_set(e, ERR_MEMORY, "out of memory");
    return false;
}

static bool add_fields(struct MHD_Response *response, const struct serve_field *fields, size_t count,
                       struct err *e)
{
    for (size_t i = 0; i < count; i++)
        if (MHD_add_response_header(response, fields[i].name, fields[i].value) != MHD_YES) {
            err_set(e, ERR_INVALID, "a header that cannot be sent: %.64s", fields[i].name);
            return false;
        }
    return true;
}

static bool answer(struct serve_request *r, unsigned status, struct MHD_Response *response,
                   const struct serve_field *fields, size_t count, struct err *e)
{
    if (!response)
        return memory(e);
    if (!add_fields(response, fields, count, e)) {
        MHD_destroy_response(response);
        return false;
    }
    r->response = response;
    r->status = status;
    r->answered = true;
    resume(r);
    return true;
}

bool serve_reply(struct serve_request *r, unsigned status, const struct serve_field *fields, size_t count,
                 const char *body, size_t len, struct err *e)
{
    struct MHD_Response *response;
    char *copy;

    if (gone(r, e))
        return false;
    copy = malloc(len ? len : 1);
    if (!copy)
        return memory(e);
    if (len)
        memcpy(copy, body, len);
    response = MHD_create_response_from_buffer(len, copy, MHD_RESPMEM_MUST_FREE);
    if (!response)
        free(copy);
    r->answer_len = len;
    return answer(r, status, response, fields, count, e);
}

/* The library wants up to `max` bytes of a stream. */
static ssize_t read_stream(void *cls, uint64_t pos, char *data, size_t max)
{
    struct serve_request *r = cls;
    size_t n = r->out.len < max ? r->out.len : max;

    (void)pos;
    if (r->cut)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (n) {
        memcpy(data, r->out.data, n);
        buf_skip(&r->out, n);
        if (r->on_room && r->out.len < SERVE_HIGH_WATER)
            r->on_room(r);
        return (ssize_t)n;
    }
    if (r->finished)
        return MHD_CONTENT_READER_END_OF_STREAM;
    suspend(r);
    return 0;
}

bool serve_stream(struct serve_request *r, unsigned status, const struct serve_field *fields, size_t count,
                  struct err *e)
{
    if (gone(r, e))
        return false;
    r->streaming = true;
    return answer(r, status, MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_stream, r, NULL),
                  fields, count, e);
}

bool serve_write(struct serve_request *r, const char *data, size_t len, struct err *e)
{
    if (gone(r, e))
        return false;
    if (len && !buf_add(&r->out, data, len))
        return memory(e);
    if (len)
        resume(r);
    return true;
}

size_t serve_unsent(const struct serve_request *r)
{
    return r->conn && !r->cut ? r->out.len : 0;
}

void serve_finish(struct serve_request *r, bool ok)
{
    if (r->finished)
        return;
    r->finished = true;
    r->on_gone = NULL;
    if (!ok)
        cut(r);
    else
        resume(r);
}

/* ---- connections ---- */

/* Whether the client of a suspended connection has left. One that only closed its sending side may still wait
 * for an answer, except for streams. */
static bool has_left(const struct serve_conn *c)
{
    struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};

    if (poll(&p, 1, 0) <= 0)
        return false;
    return p.revents & (POLLHUP | POLLERR | POLLNVAL) || c->request->streaming;
}

/* Whether a connection may be closed for a newer one: no request of it is being handled, and it is its client
 * who is slow, with its head, its body or with reading its answer. What a client has sent already is our
 * turn. */
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

/* Closes the oldest connections that may be while there are too many, in all or from one address. The
 * library's own limits would refuse the newest instead, and with it a health probe. False: there are still
 * too many. */
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
        kick(s);
    }
    return fits;
}

static void on_sweep(uv_timer_t *timer);

/* Sweeps the connections, often while there are too many. */
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
            cut(c->request);
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

/* The directory keeps others out; this does too, in case it is opened, unless the socket is for a group.
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
    set_deadline(c, s->options.timeout);
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
        kick(cls); /* at the limit, the library polls its listening socket again only when it runs */
    }
}

/* Targets stay as they came: what %2F or %00 means is for the reader to decide. */
static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls;
    (void)mhd;
    return strlen(text);
}

/* ---- open, drain, close ---- */

static struct MHD_Daemon *start_daemon(struct serve *s)
{
    const struct serve_options *o = &s->options;

    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_access, s, MHD_OPTION_LISTEN_SOCKET,
        s->socket.fd, MHD_OPTION_CONNECTION_LIMIT, o->connections + RESERVE, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)((o->timeout + 999) / 1000), MHD_OPTION_CONNECTION_MEMORY_LIMIT, o->header_memory,
        MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_URI_LOG_CALLBACK, on_target, s,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_END);
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
    kick(s);
}

void serve_close(struct serve *s)
{
    if (!s || s->closed)
        return;
    if (s->daemon) {
        serve_drain(s, 0);
        for (struct serve_conn *c = s->conns; c; c = c->next)
            if (c->request)
                cut(c->request); /* the library wants none suspended */
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
