/* libcurl's multi interface on the host's loop: sockets, the timer, the pool of transfers, own
 * authorities, the orderly end.
 *
 * Every socket that curl opens for a transfer goes through on_open_socket and on_close_socket, so its watcher
 * can live exactly as long as the descriptor: between two requests on a kept connection nothing is registered
 * anew. The exception are sockets that never became a connection, which curl 7.88 closes without telling;
 * what is left of them is noticed by what they were. Watchers are freed in their close callbacks, everything
 * else in curl_loop_close. Assumptions about libcurl are for 7.88.
 *
 * The loop owns the easy handles; an owner borrows one from take to drop. Dropping resets it at once,
 * so that no secret stays in an idle one. */
#include "curl_loop.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>
#include "fs.h"

#define IDLE_HANDLES      64    /* kept when nothing is under way */
#define CONNECTION_AGE    3600L /* seconds, also of parsed authorities; then a revocation takes effect */
#define KEPT_CONNECTIONS  256L  /* idle connections kept open */
#define TOTAL_CONNECTIONS 512L  /* more transfers wait for one of these; streams and watches count */

/* Milliseconds after which a peer that acknowledges nothing is gone: a machine that lost its power says no
 * farewell, and requests would be put on its connection for a quarter of an hour. */
#define PEER_SILENCE 90000u

#define MAX_CA_FILE   (1024 * 1024)
#define SMALL_CA_FILE (16 * 1024)

struct curl_socket {
    uv_poll_t poll;
    struct curl_side *side;
    curl_socket_t fd;
    int want;  /* what curl waits for (UV_READABLE, UV_WRITABLE); 0 while the connection is idle or paused */
    int armed; /* what libuv watches */
    bool ours; /* opened by on_open_socket: watched until on_close_socket */
    bool connected; /* was released by a transfer and open then */
    dev_t dev;      /* which socket it is: its number may be another file's by now */
    ino_t ino;
};

/* Transfers that may share connections with each other. curl 7.88 puts a request on a busy HTTP/1.1
 * connection once it knows that its server speaks HTTP/2 as well, and the two then read each other's answers:
 * those that have to speak HTTP/1.1 to such a server are kept on a side of their own. */
struct curl_side {
    struct curl_loop *loop;
    CURLM *multi;
    uv_timer_t timer;
    uv_idle_t at_once; /* for a timeout of 0: once each turn, so that nothing else starves */
};

#define CURL_SIDES 2 /* everybody; transfers that are `alone` */

struct curl_loop {
    uv_loop_t *uv;
    struct curl_side sides[CURL_SIDES];
    CURLSH *share;
    struct curl_socket **by_fd; /* indexed by descriptor; NULL: not watched */
    size_t by_fd_len;
    struct curl_transfer *taken; /* under way, or finished and not dropped yet */
    struct curl_transfer *idle;
    struct curl_ca *cas; /* own authorities, read from files */
    uint64_t ca_versions;
    size_t idle_len, active_len, sockets_len;
    size_t uv_handles; /* those whose close callback has not run */
    bool closed;
};

static void loop_free(struct curl_loop *loop)
{
    if (!loop->closed || loop->uv_handles)
        return;
    free(loop->by_fd);
    free(loop);
}

/* ---- finished transfers ---- */

/* Takes it from the multi handle. */
static void transfer_stop(struct curl_transfer *t)
{
    curl_multi_remove_handle(t->side->multi, t->easy);
    t->active = false;
    t->side->loop->active_len--;
}

/* Hands out every result. A message dies with its easy handle's removal, so it is copied first. */
static void drain(struct curl_side *side)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(side->multi, &left))) {
        CURLcode result = message->data.result;
        char *private = NULL;
        struct curl_transfer *t;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        t = (struct curl_transfer *)(void *)private;
        transfer_stop(t);
        t->on_done(t, result);
    }
}

static void act(struct curl_side *side, curl_socket_t fd, int flags)
{
    int running;

    curl_multi_socket_action(side->multi, fd, flags, &running);
    drain(side);
}

/* ---- sockets ---- */

static void on_poll(uv_poll_t *poll, int status, int events);

static struct curl_socket *socket_find(const struct curl_loop *loop, curl_socket_t fd)
{
    return fd >= 0 && (size_t)fd < loop->by_fd_len ? loop->by_fd[fd] : NULL;
}

static bool socket_slot(struct curl_loop *loop, curl_socket_t fd)
{
    size_t len = loop->by_fd_len ? loop->by_fd_len : 64;
    struct curl_socket **by_fd;

    if ((size_t)fd < loop->by_fd_len)
        return true;
    while (len <= (size_t)fd)
        len *= 2;
    by_fd = realloc(loop->by_fd, len * sizeof *by_fd);
    if (!by_fd)
        return false;
    memset(by_fd + loop->by_fd_len, 0, (len - loop->by_fd_len) * sizeof *by_fd);
    loop->by_fd = by_fd;
    loop->by_fd_len = len;
    return true;
}

static void socket_forget(struct curl_socket *s);
static void socket_arm(struct curl_socket *s, int events);

/* A socket that curl closed in silence is still in the slot when its number is given out again. */
static struct curl_socket *socket_add(struct curl_side *side, curl_socket_t fd, bool ours)
{
    struct curl_loop *loop = side->loop;
    struct curl_socket *s, *stale = socket_find(loop, fd);
    struct stat st;
    int want = stale && stale->side == side ? stale->want : 0;

    if (stale)
        socket_forget(stale);
    if (!socket_slot(loop, fd) || fstat(fd, &st) != 0)
        return NULL;
    s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    if (uv_poll_init(loop->uv, &s->poll, fd) != 0) {
        free(s);
        return NULL;
    }
    s->poll.data = s;
    s->side = side;
    s->fd = fd;
    s->ours = ours;
    s->dev = st.st_dev;
    s->ino = st.st_ino;
    loop->by_fd[fd] = s;
    loop->uv_handles++;
    loop->sockets_len++;
    s->want = want; /* curl, which knows sockets by their numbers, will not ask again for what it has asked */
    socket_arm(s, want);
    return s;
}

static void on_socket_closed(uv_handle_t *handle)
{
    struct curl_socket *s = handle->data;
    struct curl_loop *loop = s->side->loop;

    free(s);
    loop->uv_handles--;
    loop_free(loop);
}

/* Must come before the descriptor is closed: libuv aborts when a watched one vanishes. */
static void socket_forget(struct curl_socket *s)
{
    s->side->loop->by_fd[s->fd] = NULL;
    s->side->loop->sockets_len--;
    s->want = 0;
    uv_close((uv_handle_t *)&s->poll, on_socket_closed);
}

static void socket_arm(struct curl_socket *s, int events)
{
    if (events == s->armed)
        return;
    s->armed = events;
    if (events)
        uv_poll_start(&s->poll, events, on_poll);
    else
        uv_poll_stop(&s->poll);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct curl_socket *s = poll->data;
    struct curl_side *side = s->side;
    curl_socket_t fd = s->fd;
    int flags = 0;

    if (status < 0)
        s->armed = 0; /* libuv has stopped watching (the error condition comes without events) */
    if (!s->want) { /* a kept connection was closed by its peer, or a paused one has more: curl reads it later
                     */
        socket_arm(s, 0);
        return;
    }
    if (status <
        0) /* with all flags curl reads what came before the error, and tries again on a new connection */
        flags = CURL_CSELECT_ERR | CURL_CSELECT_IN | CURL_CSELECT_OUT;
    if (events & UV_READABLE)
        flags |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE)
        flags |= CURL_CSELECT_OUT;
    act(side, fd, flags);
    if (status < 0 && socket_find(side->loop, fd) == s)
        socket_arm(s, s->want);
}

/* Whether a socket that a transfer lets go of is still there. curl closes one on which it did not get as far
 * as a connection (refused, too slow, cancelled) behind our back, and libuv aborts over a watched descriptor
 * that is closed. */
static bool socket_open(struct curl_socket *s)
{
    struct stat st;

    if (!s->connected)
        s->connected = fstat(s->fd, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino;
    return s->connected;
}

/* curl says what it waits for. Never answers -1: that would end every transfer, now and later. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *socket_data)
{
    struct curl_side *side = data;
    struct curl_socket *s = socket_find(side->loop, fd);

    (void)easy;
    (void)socket_data;
    if (s && s->side != side)
        s = NULL; /* closed in silence; the number is ours now */
    if (what == CURL_POLL_REMOVE) {
        if (!s)
            return 0; /* the notice came after the close callback */
        s->want = 0;
        if (!s->ours || !socket_open(s))
            socket_forget(s); /* a resolver's: curl closes it without telling */
        else if (s->armed & UV_WRITABLE)
            socket_arm(s, UV_READABLE); /* an idle connection is always writable */
        return 0;
    }
    if (!s)
        s = socket_add(side, fd, false);
    if (!s)
        return 0; /* the resolver's: curl polls it by timer as well */
    s->want = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    socket_arm(s, s->want);
    return 0;
}

static curl_socket_t on_open_socket(void *data, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct curl_transfer *t = data;
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, address->protocol);
    unsigned silence = PEER_SILENCE;

    (void)purpose;
    if (fd < 0) {
        t->open_errno = errno;
        return CURL_SOCKET_BAD;
    }
    if (address->family == AF_INET || address->family == AF_INET6)
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence, sizeof silence);
    if (!socket_add(t->side, fd, true)) {
        t->open_errno = ENOMEM;
        close(fd);
        return CURL_SOCKET_BAD;
    }
    return fd;
}

static int on_close_socket(void *data, curl_socket_t fd)
{
    struct curl_socket *s = socket_find(data, fd);

    if (s)
        socket_forget(s);
    return close(fd);
}

/* ---- the timer ---- */

static void on_time(uv_timer_t *timer)
{
    act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static void on_turn(uv_idle_t *idle)
{
    uv_idle_stop(idle);
    act(idle->data, CURL_SOCKET_TIMEOUT, 0);
}

/* Only arms: curl must not be called from in here. 0 comes when a transfer starts, and when one has read for
 * a while and there is more; a timer of 0 that is set again while timers run would run again before anything
 * else. */
static int on_timer_wanted(CURLM *multi, long millis, void *data)
{
    struct curl_side *side = data;

    (void)multi;
    uv_idle_stop(&side->at_once);
    uv_timer_stop(&side->timer);
    if (millis == 0)
        uv_idle_start(&side->at_once, on_turn);
    else if (millis > 0)
        uv_timer_start(&side->timer, on_time, (uint64_t)millis, 0);
    return 0;
}

/* ---- own authorities ---- */

/* A certificate authority is read once per version of its file. A small file is given to curl as bytes: curl
 * keeps one parsed store for a path, and another path would push out the system's (25 to 40 ms to parse
 * again); and a connection made under the old file is not reused after it changed. A whole bundle costs too
 * much to parse for each connection: it goes by its path, and is read again once an hour, like the system's.
 */
struct curl_ca {
    struct curl_ca *next;
    char *path;
    uint64_t version; /* unique */
    uint64_t checked; /* when the file was last looked at: loop time in ms */
    struct stat seen; /* what the file was before it was read */
    struct buf pem;
};

static void ca_free(struct curl_ca *ca)
{
    free(ca->path);
    buf_free(&ca->pem);
    free(ca);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static struct curl_ca *ca_load(const char *path, struct err *e)
{
    struct curl_ca *ca = calloc(1, sizeof *ca);
    struct err why = {.code = ERR_MEMORY, .message = "not enough memory"};

    if (ca && (ca->path = strdup(path))) {
        /* Should it change from here on, this is not what is found there next time, and it is read again. */
        if (stat(path, &ca->seen) != 0)
            err_errno(&why, errno, "cannot find it");
        else if (fs_read((struct fs_path){.path = path}, 0, UINT64_MAX, MAX_CA_FILE, &ca->pem, &why)) {
            if (ca->pem.len && strstr(ca->pem.data, "-----BEGIN "))
                return ca;
            err_set(&why, ERR_INVALID, "holds no certificate");
        }
    }
    err_set(e, why.code, "the CA file: %.200s", why.message);
    if (ca)
        ca_free(ca);
    return NULL;
}

/* The file's current contents, looked at once a second. */
static struct curl_ca *ca_find(struct curl_loop *loop, const char *path, struct err *e)
{
    struct curl_ca **link = &loop->cas, *ca, *fresh;
    struct stat now;

    while (*link && strcmp((*link)->path, path) != 0)
        link = &(*link)->next;
    ca = *link;
    if (ca && uv_now(loop->uv) - ca->checked < 1000)
        return ca;
    if (ca && stat(path, &now) == 0 && same_file(&ca->seen, &now)) {
        ca->checked = uv_now(loop->uv);
        return ca;
    }
    fresh = ca_load(path, e);
    if (!fresh)
        return NULL;
    fresh->version = ++loop->ca_versions;
    fresh->checked = uv_now(loop->uv);
    if (ca) {
        fresh->next = ca->next;
        ca_free(ca);
    }
    *link = fresh;
    return fresh;
}

bool curl_transfer_trust(struct curl_transfer *t, const char *path, struct err *e)
{
    const char *bundle;
    struct curl_blob blob = {.flags = CURL_BLOB_COPY};
    struct curl_ca *ca = NULL;

    if (!path && !t->trusts)
        return true;
    if (path) {
        ca = ca_find(t->loop, path, e);
        if (!ca)
            return false;
        if (ca->version == t->trusts)
            return true;
        blob.data = ca->pem.data;
        blob.len = ca->pem.len;
    }
    bundle = ca && ca->pem.len > SMALL_CA_FILE ? path : curl_version_info(CURLVERSION_NOW)->cainfo;
    if (curl_easy_setopt(t->easy, CURLOPT_CAINFO, bundle) != CURLE_OK ||
        curl_easy_setopt(t->easy, CURLOPT_CAINFO_BLOB, ca && bundle != path ? &blob : NULL) != CURLE_OK) {
        err_set(e, ERR_MEMORY, "not enough memory for the CA file");
        return false;
    }
    t->trusts = ca ? ca->version : 0;
    return true;
}

/* ---- open and close ---- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct curl_side *side = handle->data;
    struct curl_loop *loop = side->loop;

    loop->uv_handles--;
    loop_free(loop);
}

/* Whatever was opened; also the way out of a failed opening. */
static void loop_close(struct curl_loop *loop)
{
    loop->closed = true;
    for (int i = 0; i < CURL_SIDES; i++)
        if (loop->sides[i].multi)
            curl_multi_cleanup(loop->sides[i].multi); /* calls on_close_socket for each kept connection */
    if (loop->share)
        curl_share_cleanup(loop->share);
    while (loop->cas) {
        struct curl_ca *ca = loop->cas;

        loop->cas = ca->next;
        ca_free(ca);
    }
    for (size_t i = 0; i < loop->by_fd_len; i++)
        if (loop->by_fd[i])
            socket_forget(loop->by_fd[i]);
    for (int i = 0; i < CURL_SIDES; i++) {
        uv_close((uv_handle_t *)&loop->sides[i].timer, on_handle_closed);
        uv_close((uv_handle_t *)&loop->sides[i].at_once, on_handle_closed);
    }
    curl_global_cleanup();
}

static bool side_open(struct curl_loop *loop, struct curl_side *side)
{
    side->loop = loop;
    uv_timer_init(loop->uv, &side->timer);
    uv_idle_init(loop->uv, &side->at_once);
    side->timer.data = side->at_once.data = side;
    loop->uv_handles += 2;
    side->multi = curl_multi_init();
    if (!side->multi)
        return false;
    curl_multi_setopt(side->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(side->multi, CURLMOPT_SOCKETDATA, side);
    curl_multi_setopt(side->multi, CURLMOPT_TIMERFUNCTION, on_timer_wanted);
    curl_multi_setopt(side->multi, CURLMOPT_TIMERDATA, side);
    curl_multi_setopt(side->multi, CURLMOPT_MAXCONNECTS, KEPT_CONNECTIONS);
    curl_multi_setopt(side->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, TOTAL_CONNECTIONS);
    return true;
}

struct curl_loop *curl_loop_open(uv_loop_t *uv, struct err *e)
{
    struct curl_loop *loop = calloc(1, sizeof *loop);
    bool ok = true;

    if (!loop || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(loop);
        err_set(e, ERR_MEMORY, "not enough memory for transfers");
        return NULL;
    }
    loop->uv = uv;
    for (int i = 0; i < CURL_SIDES; i++)
        ok = side_open(loop, &loop->sides[i]) && ok;
    loop->share = curl_share_init();
    if (!ok || !loop->share) {
        loop_close(loop);
        err_set(e, ERR_MEMORY, "not enough memory for transfers");
        return NULL;
    }
    /* Names are shared by all transfers of a multi; TLS sessions are not, unless they are asked to be. */
    curl_share_setopt(loop->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
    return loop;
}

static void transfer_unlink(struct curl_transfer *t)
{
    *t->link = t->next;
    if (t->next)
        t->next->link = t->link;
}

void curl_loop_close(struct curl_loop *loop)
{
    if (!loop)
        return;
    while (loop->taken) {
        struct curl_transfer *t = loop->taken;

        if (t->active) {
            transfer_stop(t);
            t->on_done(t, CURLE_ABORTED_BY_CALLBACK);
            if (loop->taken != t)
                continue; /* on_done has dropped it */
        }
        transfer_unlink(t);
        curl_easy_cleanup(t->easy);
        t->easy = NULL;
        t->loop = NULL; /* its owner will find it closed */
    }
    while (loop->idle) {
        struct curl_transfer *t = loop->idle;

        loop->idle = t->next;
        curl_easy_cleanup(t->easy);
        free(t);
    }
    loop_close(loop);
}

struct curl_loop_stats curl_loop_stats(const struct curl_loop *loop)
{
    struct curl_loop_stats stats = {0};

    if (loop) {
        stats.active = loop->active_len;
        stats.idle = loop->idle_len;
        stats.sockets = loop->sockets_len;
    }
    return stats;
}

/* ---- transfers ---- */

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

/* The options of every transfer. A reset easy handle verifies peer and host by itself; it
 * is set anyway. */
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
    SET(OPENSOCKETFUNCTION, on_open_socket);
    SET(OPENSOCKETDATA, t);
    SET(CLOSESOCKETFUNCTION, on_close_socket);
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
    t->next = loop->taken;
    t->link = &loop->taken;
    if (t->next)
        t->next->link = &t->next;
    loop->taken = t;
    t->error[0] = '\0';
    if (!t->prepared && !set_defaults(t)) {
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

/* Leaves nothing behind on the easy handle but what every request sets anew. curl counts repeated attempts on
 * dead connections per easy handle and gives up at five; only a reset sets that back, so a handle that had to
 * connect is reset. */
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
        t->prepared = false;
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
        transfer_stop(t);
    transfer_unlink(t);
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
