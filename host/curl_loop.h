/* libcurl's multi interface on the host's loop. Knows no Lua and nothing of HTTP.
 *
 * A transfer is a pooled easy handle. Take one, set what is special about it, start it; `on_done` is called
 * once, from the loop, outside of every curl callback; then drop it. Dropping a transfer that still runs ends
 * it at once. What is dropped after curl_loop_close only frees its memory. Never call anything here from
 * inside a curl callback. */
#ifndef MOONTIDE_CURL_LOOP_H
#define MOONTIDE_CURL_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <curl/curl.h>
#include <uv.h>
#include "err.h"

struct curl_loop;
struct curl_side;

struct curl_transfer {
    CURL *easy;                         /* NULL once the loop is closed */
    struct curl_loop *loop;             /* NULL once the loop is closed */
    struct curl_transfer *next, **link; /* in the list of those that were taken */
    void (*on_done)(struct curl_transfer *t, CURLcode result);
    struct curl_side *side; /* whose connections it may use; from start on */
    void *data;             /* the owner's */
    bool active;            /* between start and on_done */
    bool prepared;          /* the owner's constant options are on; cleared with every reset */
    bool keep;        /* the owner changed nothing else but URL, header list and timeouts: no reset needed */
    uint64_t trusts;  /* which version of a CA file; 0: the system's */
    bool alone;       /* speaks HTTP/1.1 to a server that may speak HTTP/2: set before start */
    bool public_only; /* refuse to talk to a private address (a redirect led here) */
    bool refused_address; /* ... and that is what happened */
    int open_errno;       /* why no socket could be made; 0: it could */
    char error[CURL_ERROR_SIZE];
};

/* NULL with *e filled: no memory. */
struct curl_loop *curl_loop_open(uv_loop_t *uv, struct err *e);

/* Ends every transfer (on_done is called with CURLE_ABORTED_BY_CALLBACK) and every connection. The loop must
 * turn once more for the uv handles to be freed. Accepts NULL. */
void curl_loop_close(struct curl_loop *loop);

/* For tests and metrics. Accepts NULL. */
struct curl_loop_stats {
    size_t active;  /* transfers under way */
    size_t idle;    /* pooled easy handles */
    size_t sockets; /* sockets watched, busy or kept alive */
};
struct curl_loop_stats curl_loop_stats(const struct curl_loop *loop);

/* An idle transfer with the safe options that all have, or NULL with *e filled. */
struct curl_transfer *curl_transfer_take(struct curl_loop *loop, struct err *e);

/* Trusts the certificates in this PEM file instead of the system's (NULL: the system's). False with *e
 * filled. */
bool curl_transfer_trust(struct curl_transfer *t, const char *path, struct err *e);

/* False with *e filled: it did not start, on_done will not be called. */
bool curl_transfer_start(struct curl_transfer *t, struct err *e);

/* Goes on after a callback of this transfer has paused it. Its write callback may run before this returns. */
void curl_transfer_resume(struct curl_transfer *t);

/* Ends it if it runs (without on_done), forgets everything about it, and gives the easy handle back.
 * NULL is fine. */
void curl_transfer_drop(struct curl_transfer *t);

/* What a finished transfer's result means. CURLE_OK leaves *e alone. */
void curl_transfer_error(const struct curl_transfer *t, CURLcode result, struct err *e);

/* True for a numeric address that is not on the public Internet: loopback, private, link-local, shared,
 * unspecified, multicast, and what is no address at all. IPv4 inside of IPv6 is judged by its IPv4 part. */
bool curl_address_private(const char *address);

#endif
