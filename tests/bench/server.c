/* The other side of the HTTP benchmarks: answers every request with the same 304, as cheaply as it can.
 *
 *     server [--close] [CERT KEY]      serves on a free loopback port, which it prints; ends with its stdin
 *
 * One thread, epoll, keep-alive; --close ends the connection after each answer. With CERT and KEY it speaks
 * TLS without session tickets, so that every connection pays for a whole handshake. A request without
 * If-None-Match gets 200 and the ETag. Any path that git asks for (protocol v2) is a repository with one
 * branch. The same program serves all peers of a run. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct conn {
    int fd;
    SSL *tls;
    bool close_after;
    size_t len;
    char in[8192];
};

static SSL_CTX *tls_ctx;
static bool close_always;

static const char answer_304[] = "HTTP/1.1 304 Not Modified\r\nETag: \"bench\"\r\n%s\r\n";
static const char answer_200[] = "HTTP/1.1 200 OK\r\nETag: \"bench\"\r\nContent-Length: 2\r\n%s\r\n{}";

/* What a repository with one branch says, as pkt-lines. */
static const char git_capabilities[] =
    "000eversion 2\n0013ls-refs=unborn\n0012fetch=shallow\n0017object-format=sha1\n0000";
#define OID "0123456789abcdef0123456789abcdef01234567"
static const char git_refs[] =
    "0050" OID " HEAD symref-target:refs/heads/main\n003d" OID " refs/heads/main\n0000";

static ssize_t conn_read(struct conn *c, void *data, size_t size)
{
    int n;

    if (!c->tls)
        return read(c->fd, data, size);
    n = SSL_read(c->tls, data, (int)size);
    if (n > 0)
        return n;
    if (SSL_get_error(c->tls, n) == SSL_ERROR_WANT_READ)
        errno = EAGAIN;
    else
        errno = ECONNRESET;
    return -1;
}

/* Answers are far smaller than a socket buffer: a short write means that the peer is gone. */
static bool conn_write(struct conn *c, const char *data, size_t size)
{
    if (c->tls)
        return SSL_write(c->tls, data, (int)size) == (int)size;
    return write(c->fd, data, size) == (ssize_t)size;
}

static void conn_end(struct conn *c)
{
    if (c->tls) {
        SSL_shutdown(c->tls);
        SSL_free(c->tls);
    }
    close(c->fd);
    free(c);
}

static int answer_to(const char *head, size_t len, char *out, size_t size)
{
    const char *closing = close_always ? "Connection: close\r\n" : "";
    const char *kind = NULL, *body = NULL;

    if (memmem(head, len, "/info/refs?service=git-upload-pack", 34)) {
        kind = "advertisement";
        body = git_capabilities;
    } else if (memmem(head, len, "/git-upload-pack ", 17)) {
        kind = "result";
        body = git_refs;
    }
    if (body)
        return snprintf(out, size,
                        "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-%s\r\n"
                        "Content-Length: %zu\r\n%s\r\n%s",
                        kind, strlen(body), closing, body);
    return snprintf(out, size, memmem(head, len, "\"bench\"", 7) ? answer_304 : answer_200, closing);
}

static size_t body_length(const char *head, size_t len)
{
    const char *at = memmem(head, len, "\r\nContent-Length: ", 18);

    if (!at)
        at = memmem(head, len, "\r\ncontent-length: ", 18);
    return at ? strtoul(at + 18, NULL, 10) : 0;
}

static bool conn_answer(struct conn *c)
{
    char *end, out[512];

    while ((end = memmem(c->in, c->len, "\r\n\r\n", 4)) != NULL) {
        size_t head = (size_t)(end - c->in) + 4, used = head + body_length(c->in, head);
        int n;

        if (used > c->len)
            return used <= sizeof c->in;
        n = answer_to(c->in, head, out, sizeof out);

        if (!conn_write(c, out, (size_t)n))
            return false;
        memmove(c->in, c->in + used, c->len - used);
        c->len -= used;
        if (close_always)
            return false;
    }
    return c->len < sizeof c->in;
}

static bool conn_ready(struct conn *c)
{
    for (;;) {
        ssize_t n = conn_read(c, c->in + c->len, sizeof c->in - c->len);

        if (n < 0)
            return errno == EAGAIN;
        if (n == 0)
            return false;
        c->len += (size_t)n;
        if (!conn_answer(c))
            return false;
    }
}

static void accept_all(int listener, int ep)
{
    int fd, one = 1;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};

        if (!c)
            abort();
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (tls_ctx) {
            c->tls = SSL_new(tls_ctx);
            SSL_set_fd(c->tls, fd);
            SSL_set_accept_state(c->tls);
        }
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
    }
}

static void load_tls(const char *cert, const char *key)
{
    tls_ctx = SSL_CTX_new(TLS_server_method());
    if (!tls_ctx || SSL_CTX_use_certificate_chain_file(tls_ctx, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls_ctx, key, SSL_FILETYPE_PEM) != 1) {
        fprintf(stderr, "server: cannot use %s and %s\n", cert, key);
        exit(2);
    }
    SSL_CTX_set_num_tickets(tls_ctx, 0);
    SSL_CTX_set_options(tls_ctx, SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(tls_ctx, SSL_SESS_CACHE_OFF);
}

int main(int argc, char **argv)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    struct epoll_event evs[256], ev = {.events = EPOLLIN};
    int listener, ep, n;

    signal(SIGPIPE, SIG_IGN);
    if (argc > 1 && strcmp(argv[1], "--close") == 0) {
        close_always = true;
        argv++, argc--;
    }
    if (argc > 2)
        load_tls(argv[1], argv[2]);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&a, len) < 0 || listen(listener, 1024) < 0 ||
        getsockname(listener, (struct sockaddr *)&a, &len) < 0) {
        perror("server");
        return 2;
    }
    printf("%d\n", ntohs(a.sin_port));
    fflush(stdout);

    ep = epoll_create1(EPOLL_CLOEXEC);
    ev.data.ptr = &listener;
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev);
    ev.data.ptr = &ep;
    epoll_ctl(ep, EPOLL_CTL_ADD, STDIN_FILENO, &ev);
    while ((n = epoll_wait(ep, evs, 256, -1)) >= 0 || errno == EINTR) {
        for (int i = 0; i < n; i++) {
            void *who = evs[i].data.ptr;

            if (who == &ep)
                return 0;
            if (who == &listener)
                accept_all(listener, ep);
            else if (!conn_ready(who))
                conn_end(who);
        }
    }
    return 1;
}
