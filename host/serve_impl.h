/* What the serve_*.c files share among themselves; nobody else includes this. */
#ifndef MOONTIDE_SERVE_IMPL_H
#define MOONTIDE_SERVE_IMPL_H

#include <microhttpd.h>
#include <uv.h>
#include "serve.h"

struct serve_conn {
    struct serve *serve;
    struct serve_conn *next, **link; /* in the server's list */
    struct MHD_Connection *mhd;
    struct serve_request *request; /* the one under way */
    int fd;
    uint8_t seen;      /* by how many sweeps, up to GRACE */
    bool closing;      /* it was told to make room */
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
    struct serve_request *head, **tail; /* requests that nobody took */
    size_t running;
    uint64_t drain_until; /* loop time; 0: not asked for */
    bool draining, closed;
    bool kicked; /* the daemon must run although nothing arrives */
};

/* serve.c: have the daemon run soon; note a deadline from now (0: none). */
void serve_kick(struct serve *s);
void serve_deadline(struct serve_conn *c, uint64_t ms);

/* serve_request.c: the library's callbacks. */
void *serve_on_target(void *cls, const char *target, struct MHD_Connection *mhd);
enum MHD_Result serve_on_access(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                                const char *version, const char *data, size_t *size, void **con_cls);
void serve_on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                        enum MHD_RequestTerminationCode code);
/* The taker is told that nobody waits for an answer; the connection ends when the daemon runs. */
void serve_cut(struct serve_request *r);
void serve_suspend(struct serve_request *r);
void serve_resume(struct serve_request *r);

/* serve_head.c: copies the head of a request and checks it. False: memory. A bad one gets a refusal. */
bool serve_head(struct serve_request *r, struct MHD_Connection *mhd, const char *method, const char *version);
void serve_refuse(struct serve_request *r, unsigned status, const char *why);
void serve_head_free(struct serve_request *r);

#endif
