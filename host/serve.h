/* HTTP servers on the host's loop, over libmicrohttpd with its epoll descriptor watched by libuv.
 *
 * Knows no Lua. A request waits in its server's queue, as soon as its head is there, until a task takes it
 * with serve_next; from then on the taker owns a share of it, the connection the other, and either may go
 * first. Its body is read when the taker asks for it, so that a refused request costs no more than its head.
 * While a request is handled its connection is suspended; a sweep four times a second notices clients that
 * left, and ends connections that take too long, which the library's own (inactivity) limit does not. When
 * there are more connections than there is room for, the oldest one without a request being handled makes
 * room for the newest. */
#ifndef MOONTIDE_SERVE_H
#define MOONTIDE_SERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>
#include "buf.h"
#include "err.h"
#include "serve_socket.h"

struct serve;
struct serve_conn;
struct MHD_Response;

#define SERVE_HIGH_WATER 65536 /* bytes of a streamed answer that may wait for the client */

struct serve_options {
    size_t max_body;      /* bytes */
    size_t header_memory; /* bytes per connection, for the request's head and buffers */
    bool shared;          /* a unix socket's mode says who may connect, not the user of the other side */
    unsigned connections, per_ip;   /* at once; more make the oldest ones go that are not being handled */
    uint64_t timeout;               /* milliseconds without progress, and for a whole head */
    void (*on_request)(void *data); /* the queue is not empty any more */
    void (*on_idle)(void *data);    /* no request is being handled any more, or draining took too long */
    void (*on_closed)(void *data);  /* the server is closed: forget it */
    void *data;
};

struct serve_header {
    char *name, *value; /* one allocation; value follows the name's NUL */
    size_t value_len;
};

struct serve_peer {
    bool local; /* a unix socket: uid and pid are known */
    uid_t uid;
    pid_t pid;
    char address[64]; /* of a TCP peer */
};

struct serve_request {
    struct serve *serve;     /* NULL once the server is closed */
    struct serve_conn *conn; /* NULL once the client is gone or has its answer */
    struct serve_peer peer;
    char *method, *target, *version;
    struct serve_header *headers;
    size_t header_count;
    struct buf body;
    /* Set by the taker: the client is gone; there is room for more of the answer; the body is there, or
     * refused. Never called after release. */
    void (*on_gone)(struct serve_request *r);
    void (*on_room)(struct serve_request *r);
    void (*on_body)(struct serve_request *r);
    void *data;

    /* serve.c's own */
    struct serve_request *next;    /* in the queue */
    struct MHD_Response *response; /* until it is handed to the library */
    unsigned status;
    struct buf out;      /* a streamed answer on its way */
    const char *refusal; /* why it is answered with `status`, or why the rest of its body is forgotten */
    size_t length;       /* of the body: as announced, then as read beyond the limit */
    size_t answer_len;
    unsigned shares; /* connection, taker */
    bool begun, queued, suspended, answered, streaming, finished, cut, chunked;
    bool whole, receiving, reading; /* its body is here; it was asked for; it may come */
};

/* Takes the socket over, and puts the server into the list `all`. NULL with *e filled: the socket is closed
 * then. */
struct serve *serve_open(uv_loop_t *loop, struct serve **all, struct serve_socket *socket,
                         const struct serve_options *options, struct err *e);
uint16_t serve_port(const struct serve *s);

/* The oldest request that was not taken, or NULL. The caller must release it. */
struct serve_request *serve_next(struct serve *s);

/* Asks for the body; true when it is there already. Else on_body tells when it is, or that r->refusal stands
 * in its place. */
bool serve_receive(struct serve_request *r);

/* Gives up the taker's share; a request without a complete answer loses its connection. */
void serve_release(struct serve_request *r);

struct serve_field {
    const char *name, *value;
};

/* Answers, once; before the body was read, the connection ends with the answer. The answer's body is copied.
 * False with *e filled: a bad header, no memory, or the client is gone. */
bool serve_reply(struct serve_request *r, unsigned status, const struct serve_field *fields, size_t count,
                 const char *body, size_t len, struct err *e);

/* Begins an answer of unknown length; serve_write adds to it, serve_finish ends it (`ok` false: by cutting
 * the connection, so that the client knows it is not whole). */
bool serve_stream(struct serve_request *r, unsigned status, const struct serve_field *fields, size_t count,
                  struct err *e);
bool serve_write(struct serve_request *r, const char *data, size_t len, struct err *e);
size_t serve_unsent(const struct serve_request *r);
void serve_finish(struct serve_request *r, bool ok);

/* Stops listening and lets idle connections go; requests under way continue. on_idle is called when they are
 * done, or after so many milliseconds. */
void serve_drain(struct serve *s, uint64_t limit);

/* How many requests are queued or handled. */
size_t serve_running(const struct serve *s);

/* Whether this can be sent as a header: a token, and no control characters; not one that
 * frames the message. */
bool serve_field_ok(const char *name, size_t name_len, const char *value, size_t value_len);

/* Ends everything at once; the memory goes when the loop has turned. NULL is harmless. */
void serve_close(struct serve *s);

/* Closes every server of the list. */
void serve_close_all(struct serve **all);

#endif
