/* Transfers: the pool of easy handles, and what every request has whoever asks.
 *
 * The loop owns the handles; an owner borrows one from take to drop. Dropping resets the handle at once, so
 * that no secret stays in an idle one. Assumptions about libcurl are for 7.88. */
#include "curl_inside.h"

#include <stdlib.h>

#define IDLE_HANDLES   64    /* kept when nothing is under way */
#define CONNECTION_AGE 3600L /* seconds, also of parsed authorities; then a revocation takes effect */

void curl_transfer_unlink(struct curl_transfer *t)
{
    if (t->prev)
        t->prev->next = t->next;
    else
        t->loop->taken = t->next;
    if (t->next)
        t->next->prev = t->prev;
    t->prev = t->next = NULL;
}

void curl_transfer_stop(struct curl_transfer *t)
{
    curl_multi_remove_handle(t->side->multi, t->easy);
    t->active = false;
    t->loop->active_len--;
}

/* The peer's address is known and nothing was sent yet; also on a kept connection. */
static int on_connected(void *data, char *peer, char *local, int peer_port, int local_port)
{
    struct curl_transfer *t = data;

    (void)local;
    (void)peer_port;
    (void)local_port;
    t->refused_address = t->public_only && curl_address_private(peer);
    return t->refused_address ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

/* What every transfer has, whoever asks. A reset handle verifies peer and host by itself; it
 * is said anyway. */
static bool set_defaults(struct curl_transfer *t)
{
    CURL *easy = t->easy;
    bool ok = true;

#define SET(option, value) (ok &= curl_easy_setopt(easy, CURLOPT_##option, value) == CURLE_OK)
    SET(PRIVATE, t);
    SET(ERRORBUFFER, t->error);
    SET(NOSIGNAL, 1L);
    SET(PROTOCOLS_STR, "http,https");
    SET(FOLLOWLOCATION, 0L);
    SET(PROXY, ""); /* not from the environment */
    SET(NETRC, (long)CURL_NETRC_IGNORED);
    SET(DISALLOW_USERNAME_IN_URL, 1L);
    SET(SSL_VERIFYPEER, 1L);
    SET(SSL_VERIFYHOST, 2L);
    SET(SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CA_CACHE_TIMEOUT, CONNECTION_AGE);
    SET(CAPATH, NULL);   /* with a CA directory curl parses the whole bundle anew for each connection */
    SET(QUICK_EXIT, 1L); /* ending a transfer must not wait for the resolver's thread */
    SET(TCP_KEEPALIVE, 1L);
    SET(MAXLIFETIME_CONN, CONNECTION_AGE);
    SET(OPENSOCKETFUNCTION, curl_on_open_socket);
    SET(OPENSOCKETDATA, t);
    SET(CLOSESOCKETFUNCTION, curl_on_close_socket);
    SET(CLOSESOCKETDATA, t->loop);
#undef SET
    return ok;
}

static struct curl_transfer *transfer_new(struct curl_loop *loop)
{
    struct curl_transfer *t = calloc(1, sizeof *t);

    if (!t)
        return NULL;
    t->easy = curl_easy_init();
    if (!t->easy || curl_easy_setopt(t->easy, CURLOPT_SHARE, loop->share) != CURLE_OK) {
        curl_easy_cleanup(t->easy);
        free(t);
        return NULL;
    }
    return t;
}

struct curl_transfer *curl_transfer_take(struct curl_loop *loop, struct err *e)
{
    struct curl_transfer *t = loop->idle;

    if (t) {
        loop->idle = t->next;
        loop->idle_len--;
    } else {
        t = transfer_new(loop);
    }
    if (!t) {
        err_set(e, ERR_MEMORY, "not enough memory for a transfer");
        return NULL;
    }
    t->loop = loop;
    t->prev = NULL;
    t->next = t->loop->taken;
    if (t->next)
        t->next->prev = t;
    t->loop->taken = t;
    t->error[0] = '\0';
    if (!t->dressed && !set_defaults(t)) {
        err_set(e, ERR_MEMORY, "not enough memory for a transfer");
        curl_transfer_drop(t);
        return NULL;
    }
    return t;
}

bool curl_transfer_start(struct curl_transfer *t, struct err *e)
{
    CURLMcode code;

    if (t->public_only && (curl_easy_setopt(t->easy, CURLOPT_PREREQFUNCTION, on_connected) != CURLE_OK ||
                           curl_easy_setopt(t->easy, CURLOPT_PREREQDATA, t) != CURLE_OK)) {
        err_set(e, ERR_INTERNAL, "curl cannot check addresses");
        return false;
    }
    t->side = &t->loop->sides[t->alone];
    code = curl_multi_add_handle(t->side->multi, t->easy);
    if (code != CURLM_OK) {
        err_set(e, code == CURLM_OUT_OF_MEMORY ? ERR_MEMORY : ERR_INTERNAL, "%s", curl_multi_strerror(code));
        return false;
    }
    t->active = true;
    t->loop->active_len++;
    return true;
}

void curl_transfer_resume(struct curl_transfer *t)
{
    if (t->active)
        curl_easy_pause(t->easy, CURLPAUSE_CONT);
}

/* Leaves nothing behind on the handle but what every request sets anew. curl counts repeated attempts on dead
 * connections per handle and gives up at five; only a reset sets that back, so a handle that had to connect
 * is reset. */
static void forget(struct curl_transfer *t)
{
    long connects = 1;

    if (t->keep && !t->public_only)
        curl_easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &connects);
    if (connects == 0) {
        curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, NULL);
        curl_easy_setopt(t->easy, CURLOPT_CURLU, NULL);
    } else { /* keeps connections and sessions */
        curl_easy_reset(t->easy);
        t->dressed = false;
        t->trusts = 0;
    }
    t->keep = t->alone = t->public_only = t->refused_address = false;
    t->side = NULL;
    t->on_done = NULL;
    t->data = NULL;
    t->open_errno = 0;
}

void curl_transfer_drop(struct curl_transfer *t)
{
    struct curl_loop *loop;

    if (!t)
        return;
    loop = t->loop;
    if (!loop) {
        free(t);
        return;
    }
    if (t->active)
        curl_transfer_stop(t);
    curl_transfer_unlink(t);
    if (loop->idle_len >= IDLE_HANDLES) {
        curl_easy_cleanup(t->easy);
        free(t);
        return;
    }
    forget(t);
    t->next = loop->idle;
    loop->idle = t;
    loop->idle_len++;
}
