/* What curl_loop.c and curl_transfer.c share; for nobody else. */
#ifndef MOONTIDE_CURL_INSIDE_H
#define MOONTIDE_CURL_INSIDE_H

#include <uv.h>
#include "curl_loop.h"

struct curl_socket;
struct curl_ca;

struct curl_slot {
    struct curl_socket *socket; /* NULL: not watched */
};

/* Transfers that may share connections with each other. curl 7.88 puts a request on a busy HTTP/1.1
 * connection once it knows that its server speaks HTTP/2 as well, and the two then read each other's answers:
 * those that have to speak HTTP/1.1 to such a server are kept on a side of their own. */
struct curl_side {
    struct curl_loop *loop;
    CURLM *multi;
    uv_timer_t timer;
    uv_idle_t at_once; /* for a timeout of 0: once each turn, so that nobody else starves */
};

#define CURL_SIDES 2 /* everybody; transfers that are `alone` */

struct curl_loop {
    uv_loop_t *uv;
    struct curl_side sides[CURL_SIDES];
    CURLSH *share;
    struct curl_slot *by_fd; /* indexed by descriptor */
    size_t by_fd_len;
    struct curl_transfer *taken; /* under way, or finished and not dropped yet */
    struct curl_transfer *idle;
    struct curl_ca *cas; /* own authorities, read from files: curl_ca.c */
    uint64_t ca_versions;
    size_t idle_len, active_len, sockets_len;
    size_t handles; /* uv handles whose close callback has not run */
    bool closed;
};

void curl_cas_free(struct curl_ca **cas);

/* Takes it from the multi handle; from the list of those that were taken. */
void curl_transfer_stop(struct curl_transfer *t);
void curl_transfer_unlink(struct curl_transfer *t);

/* curl's callbacks that make and end the sockets of transfers. */
curl_socket_t curl_on_open_socket(void *data, curlsocktype purpose, struct curl_sockaddr *address);
int curl_on_close_socket(void *data, curl_socket_t fd);

#endif
