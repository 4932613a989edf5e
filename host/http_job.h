/* One HTTP request and its answer: one hop, no redirects. Knows no Lua.
 *
 * A job owns everything that curl needs until it is freed, except the body text, which the caller keeps. Its
 * callbacks run inside curl and only collect; `on_ready` tells the owner that what it waits for (`want`) is
 * there. A job whose curl loop was closed behind its back reports `closed` and can only be freed. */
#ifndef MOONTIDE_HTTP_JOB_H
#define MOONTIDE_HTTP_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "buf.h"
#include "curl_loop.h"
#include "err.h"

struct fs_draft;

#define HTTP_MAX_HEAD    (64 * 1024) /* bytes of all response headers */
#define HTTP_MAX_HEADERS 256
#define HTTP_MAX_LINE    (1024 * 1024) /* of a streamed body */

/* Everything but `body` and `parsed` is copied by http_job_start. */
struct http_request {
    const char *method; /* upper case */
    const char *url;    /* as made by http_url_parse: without user and fragment */
    CURLU *parsed;      /* the same; the caller keeps it. What was judged is what curl connects to */
    const char *body;   /* NULL: none */
    size_t body_len;
    const char *body_file;  /* instead of body */
    const char *sink;       /* a 2xx body goes to this path, all or nothing */
    const char *unix_path;  /* connect here whatever the URL's host is */
    const char *connect_to; /* host:port to connect to whatever the URL's host is, which TLS still asks for */
    const char *ca, *cert, *key;
    uint64_t timeout_ms; /* whole exchange; not of a stream, which may live for days */
    uint64_t connect_ms;
    uint64_t idle_ms;  /* longest silence in the answer; 0: any */
    uint64_t max_body; /* 0: no limit */
    bool stream;       /* hand out the body as it arrives, over HTTP/1.1 */
    bool public_only;  /* see curl_loop.h */
    bool insecure;     /* the peer is not verified */
};

enum http_want { HTTP_WANT_END, HTTP_WANT_HEAD, HTTP_WANT_DATA, HTTP_WANT_LINE };

struct http_job {
    struct curl_loop *curl;
    struct curl_transfer *transfer;
    enum http_want want;
    void (*on_ready)(struct http_job *job); /* may be called more than once */
    void *owner;
    struct err err;

    char *lines; /* request headers, NUL-terminated one after the other; behind the job itself */
    size_t lines_used, lines_room;
    struct curl_slist *slist; /* nodes that point into `lines` */
    size_t slist_len, slist_room;
    struct curl_slist *connect_to;

    struct buf head; /* response headers: name NUL value NUL, names in lower case */
    size_t head_len;
    struct buf body;
    size_t body_at; /* what is before it was consumed */
    size_t line_at; /* no newline before it */
    uint64_t received, max_body;
    int status;
    int http_version; /* 10, 11, 20 */
    double elapsed;
    bool head_done, started_body, done, paused, stream, peer_private;

    int source_fd; /* the request's body, when it is a file */
    off_t source_at, source_len;
    struct fs_draft *sink; /* of a 2xx answer's body; NULL: none */
};

/* A job with room for that many request headers of that many bytes (names and values) in all: a secret is
 * never copied about. */
struct http_job *http_job_new(struct curl_loop *curl, size_t headers, size_t bytes, struct err *e);
void http_job_free(struct http_job *job);

/* Adds one request header; false when it does not fit. */
bool http_job_header(struct http_job *job, const char *name, size_t name_len, const char *value,
                     size_t value_len);

/* Adds the Authorization header for a user (RFC 7617), which takes HTTP_BASIC_SIZE(user, password) bytes. */
#define HTTP_BASIC_SIZE(user_len, password_len) (24 + 4 * (((user_len) + (password_len) + 3) / 3))
bool http_job_basic(struct http_job *job, const char *user, size_t user_len, const char *password,
                    size_t password_len);
bool http_job_bearer(struct http_job *job, const char *token, size_t len);

/* False with *e filled: free the job. */
bool http_job_start(struct http_job *job, const struct http_request *request, struct err *e);

/* What is wanted has come (or the end, or a failure: see done and err). */
bool http_job_ready(struct http_job *job);

/* Sets what the owner waits for next; a paused stream goes on when there is room. */
void http_job_want(struct http_job *job, enum http_want want);

/* The unread part of a streamed body; consume drops from its front. */
const char *http_job_data(const struct http_job *job, size_t *len);
void http_job_consume(struct http_job *job, size_t len);

/* Ends the exchange with a failure of the owner's choice. */
void http_job_fail(struct http_job *job, enum err_code code, const char *message);

/* curl's callback for a line of the response's head; here for its fuzz target. */
size_t http_on_header(char *line, size_t size, size_t count, void *data);

#endif
