/* curl on the loop, without Lua: transfers against the scripted server. */
#include "unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "curl_loop.h"

/* ---- a name whose resolution takes two seconds: what a dead DNS server looks like ---- */

static atomic_int slow_lookups;

/* libcurl is a shared library: this definition is found before libc's. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
    (void)service;
    (void)hints;
    *out = NULL;
    if (node && strcmp(node, "slow.test") == 0) {
        atomic_fetch_add(&slow_lookups, 1);
        sleep(2);
    }
    return EAI_NONAME;
}

/* ---- the scripted server ---- */

static pid_t server;
static int server_stdin = -1, port;

static void server_start(void)
{
    char exe[PATH_MAX], path[PATH_MAX + 32], line[64] = "";
    int in[2], out[2];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);

    exe[n > 0 ? n : 0] = '\0';
    snprintf(path, sizeof path, "%s/../fixture/httpd", dirname(exe));
    if (pipe(in) != 0 || pipe(out) != 0)
        abort();
    server = fork();
    if (server == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        close(in[1]);
        execl(path, path, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    server_stdin = in[1];
    if (read(out[0], line, sizeof line - 1) <= 0 || sscanf(line, "port %d", &port) != 1) {
        fprintf(stderr, "no %s\n", path);
        exit(2);
    }
    close(out[0]);
}

/* ---- a loop and curl on it ---- */

static uv_loop_t uv;
static struct curl_loop *curl;

static void open_curl(void)
{
    struct err e;

    uv_loop_init(&uv);
    curl = curl_loop_open(&uv, &e);
    CHECK(curl != NULL);
}

static void close_curl(void)
{
    curl_loop_close(curl);
    for (int i = 0; i < 100 && uv_loop_alive(&uv); i++)
        uv_run(&uv, UV_RUN_NOWAIT);
    CHECK_INT(uv_loop_close(&uv), 0);
}

struct get {
    struct curl_transfer *t;
    char url[512];
    char body[256];
    size_t len, total;
    CURLcode result;
    struct err err;
    long status;
    int done;         /* how often on_done was called */
    bool drop_inside; /* drop in on_done */
    bool pause;
};

static size_t on_bytes(char *data, size_t size, size_t count, void *arg)
{
    struct get *g = arg;
    size_t n = size * count;

    if (g->pause) {
        g->pause = false;
        return CURL_WRITEFUNC_PAUSE;
    }
    for (size_t i = 0; i < n && g->len + 1 < sizeof g->body; i++)
        g->body[g->len++] = data[i];
    g->total += n;
    return n;
}

static void on_done(struct curl_transfer *t, CURLcode result)
{
    struct get *g = t->data;

    g->done++;
    g->result = result;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &g->status);
    curl_transfer_error(t, result, &g->err);
    if (g->drop_inside) {
        curl_transfer_drop(t);
        g->t = NULL;
    }
}

static bool public_only; /* for the next transfers */

static void begin_url(struct get *g, const char *url)
{
    struct err e = {0};

    snprintf(g->url, sizeof g->url, "%s", url);
    g->t = curl_transfer_take(curl, &e);
    CHECK(g->t != NULL);
    if (!g->t)
        return;
    g->t->data = g;
    g->t->on_done = on_done;
    g->t->public_only = public_only;
    curl_easy_setopt(g->t->easy, CURLOPT_URL, g->url);
    curl_easy_setopt(g->t->easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(g->t->easy, CURLOPT_WRITEDATA, g);
    CHECK(curl_transfer_start(g->t, &e));
}

static void begin(struct get *g, const char *path)
{
    char url[512];

    memset(g, 0, sizeof *g);
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", port, path);
    begin_url(g, url);
}

/* Turns the loop until it is done, for at most `ms`. */
static bool finish_within(struct get *g, unsigned ms)
{
    uint64_t until = uv_hrtime() + (uint64_t)ms * 1000000;

    while (!g->done && uv_hrtime() < until) {
        uv_run(&uv, UV_RUN_NOWAIT);
        usleep(200);
    }
    return g->done > 0;
}

static void turn(unsigned ms)
{
    struct get nobody = {0};

    finish_within(&nobody, ms);
}

static void get(struct get *g, const char *path)
{
    begin(g, path);
    CHECK(finish_within(g, 5000));
}

static int open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* ---- cases ---- */

UNIT(gets_a_page)
{
    struct get g;

    open_curl();
    get(&g, "/etag");
    CHECK_INT(g.result, CURLE_OK);
    CHECK_INT(g.status, 200);
    CHECK_STR(g.body, "first");
    CHECK_INT(g.done, 1);
    CHECK_INT(curl_loop_stats(curl).active, 0);
    curl_transfer_drop(g.t);
    CHECK_INT(curl_loop_stats(curl).idle, 1);
    close_curl();
}

UNIT(none_is_none)
{
    CHECK_INT(curl_loop_stats(NULL).sockets, 0);
    curl_loop_close(NULL);
}

static unsigned server_connections(void)
{
    struct get g;
    unsigned n = 0;

    get(&g, "/stats");
    sscanf(g.body, "connections=%u", &n);
    curl_transfer_drop(g.t);
    return n;
}

UNIT(keeps_connections_and_handles)
{
    struct get g;
    unsigned before;
    int fds;

    open_curl();
    before = server_connections();
    fds = open_fds();
    for (int i = 0; i < 100; i++) {
        get(&g, "/status?code=304");
        CHECK_INT(g.status, 304);
        curl_transfer_drop(g.t);
    }
    CHECK_INT(server_connections(), before);
    CHECK_INT(open_fds(), fds);
    CHECK_INT(curl_loop_stats(curl).idle, 1);
    CHECK_INT(curl_loop_stats(curl).sockets, 1);
    close_curl();
}

UNIT(memory_follows_concurrency)
{
    enum { MANY = 100 };
    static struct get many[MANY];

    open_curl();
    for (int i = 0; i < MANY; i++)
        begin(&many[i], "/delay?ms=50");
    CHECK_INT(curl_loop_stats(curl).active, MANY);
    for (int i = 0; i < MANY; i++) {
        CHECK(finish_within(&many[i], 5000));
        CHECK_STR(many[i].body, "late");
        curl_transfer_drop(many[i].t);
    }
    CHECK_INT(curl_loop_stats(curl).active, 0);
    CHECK(curl_loop_stats(curl).idle <= 64);
    close_curl();
}

UNIT(a_dropped_transfer_is_gone_at_once)
{
    struct get g;

    open_curl();
    begin(&g, "/delay?ms=300");
    turn(50);
    curl_transfer_drop(g.t);
    CHECK_INT(curl_loop_stats(curl).active, 0);
    CHECK_INT(curl_loop_stats(curl).sockets, 0);
    turn(400);
    CHECK_INT(g.done, 0);
    close_curl();
}

/* A server whose backlog is full: connecting to it never ends. */
static void never_connects(int *fds, size_t len, char *url, size_t size)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t to_len = sizeof to;

    for (size_t i = 0; i < len; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (i == 0) {
            CHECK_INT(bind(fds[0], (struct sockaddr *)&to, sizeof to), 0);
            CHECK_INT(listen(fds[0], 0), 0);
            CHECK_INT(getsockname(fds[0], (struct sockaddr *)&to, &to_len), 0);
        } else {
            (void)connect(fds[i], (struct sockaddr *)&to, sizeof to);
        }
    }
    snprintf(url, size, "http://127.0.0.1:%d/", ntohs(to.sin_port));
}

UNIT(a_connection_that_never_was_leaves_nothing)
{
    struct get g;
    char url[64];
    int fds[5], before;

    open_curl();
    never_connects(fds, sizeof fds / sizeof *fds, url, sizeof url);
    get(&g, "/etag"); /* opens what the loop needs */
    curl_transfer_drop(g.t);
    before = open_fds();
    for (unsigned i = 0; i < 60; i++) {
        memset(&g, 0, sizeof g);
        begin_url(&g, url);
        if (i % 3 == 0) { /* too slow */
            curl_easy_setopt(g.t->easy, CURLOPT_TIMEOUT_MS, 10L);
            CHECK(finish_within(&g, 5000));
            CHECK_INT(g.err.code, ERR_TIMEOUT);
        } else { /* given up, at once or while it waits */
            turn(i % 3 == 1 ? 0 : i % 7);
        }
        curl_transfer_drop(g.t);
        turn(i % 2 ? 0 : 2);
        get(&g, "/etag"); /* the loop lives, and numbers are given out again */
        CHECK_STR(g.body, "first");
        curl_transfer_drop(g.t);
    }
    turn(20);
    CHECK_INT(curl_loop_stats(curl).sockets, 1);
    CHECK_INT(open_fds(), before);
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        close(fds[i]);
    close_curl();
}

UNIT(may_be_dropped_in_on_done)
{
    struct get g;

    open_curl();
    begin(&g, "/etag");
    g.drop_inside = true;
    CHECK(finish_within(&g, 5000));
    CHECK_INT(curl_loop_stats(curl).idle, 1);
    close_curl();
}

UNIT(forgets_what_the_last_one_asked)
{
    struct get g;
    struct curl_slist *secret = curl_slist_append(NULL, "X-Secret: MOONCANARY");
    struct err e = {0};

    open_curl();
    memset(&g, 0, sizeof g);
    g.t = curl_transfer_take(curl, &e);
    curl_easy_setopt(g.t->easy, CURLOPT_HTTPHEADER, secret);
    curl_easy_setopt(g.t->easy, CURLOPT_USERPWD, "u:MOONCANARY");
    curl_easy_setopt(g.t->easy, CURLOPT_POSTFIELDS, "MOONCANARY");
    curl_transfer_drop(g.t);
    get(&g, "/echo");
    CHECK(strncmp(g.body, "GET /echo", 9) == 0);
    CHECK(!strstr(g.body, "MOONCANARY") && !strstr(g.body, "Authorization"));
    curl_transfer_drop(g.t);
    curl_slist_free_all(secret);
    close_curl();
}

UNIT(pauses_and_resumes)
{
    struct get g;

    open_curl();
    begin(&g, "/bytes?n=100000");
    g.pause = true;
    turn(100);
    CHECK_INT(g.total, 0);
    CHECK_INT(g.done, 0);
    curl_transfer_resume(g.t);
    CHECK(finish_within(&g, 5000));
    CHECK_INT(g.total, 100000);
    curl_transfer_drop(g.t);
    close_curl();
}

/* Whether the loop has something to do right now. */
static bool loop_busy(void)
{
    struct pollfd p = {.fd = uv_backend_fd(&uv), .events = POLLIN};

    return poll(&p, 1, 0) > 0;
}

UNIT(nothing_spins_over_idle_and_paused_connections)
{
    struct get g;

    open_curl();
    get(&g, "/abrupt"); /* the server closes the connection that we keep */
    curl_transfer_drop(g.t);
    turn(50);
    CHECK(!loop_busy());
    begin(&g, "/endless");
    g.pause = true;
    turn(100); /* the kernel's buffers are full by now, and nobody reads them */
    CHECK(!g.pause);
    CHECK(!loop_busy());
    curl_transfer_drop(g.t);
    close_curl();
}

UNIT(tells_failures_apart)
{
    static const struct {
        const char *path;
        enum err_code code;
    } cases[] = {
        {"/reset?at=0", ERR_RESET},
        {"/reset?at=50", ERR_RESET},
        {"/close", ERR_RESET},
        {"/truncate?n=100&send=50", ERR_RESET},
        {"/truncate?n=100&send=50&chunked=1", ERR_RESET},
        {"/raw?data=hello", ERR_PROTOCOL},
        {"/raw?data=HTTP/1.1 200 OK%0d%0aContent-Length: -5%0d%0a%0d%0a", ERR_PROTOCOL},
        {"/raw?data=HTTP/1.1%20200%20OK%0d%0aTransfer-Encoding:%20chunked%0d%0a%0d%0azz%0d%0a", ERR_PROTOCOL},
    };
    struct get g;

    open_curl();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[256] = "";

        for (const char *c = cases[i].path; *c; c++)
            snprintf(path + strlen(path), 4, *c == ' ' ? "%%20" : "%c", *c);
        get(&g, path);
        CHECK_STR(err_name(g.err.code), err_name(cases[i].code));
        if (g.err.code != cases[i].code)
            printf("  %s: %d %s\n", path, g.result, g.err.message);
        curl_transfer_drop(g.t);
    }
    close_curl();
}

UNIT(refused_and_unreachable)
{
    struct get g = {0};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char url[64];

    /* bound, not listening: refused, and nobody else takes it */
    CHECK_INT(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    CHECK_INT(getsockname(fd, (struct sockaddr *)&in, &len), 0);
    open_curl();
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", ntohs(in.sin_port));
    begin_url(&g, url);
    CHECK(finish_within(&g, 5000));
    CHECK_STR(err_name(g.err.code), "refused");
    CHECK(strstr(g.err.message, "127.0.0.1") != NULL);
    curl_transfer_drop(g.t);
    close(fd);
    close_curl();
}

UNIT(other_protocols_and_userinfo_are_refused)
{
    static const char *const urls[] = {"file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1/",
                                       "telnet://127.0.0.1/", "scp://127.0.0.1/x"};

    open_curl();
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        struct get g = {0};

        begin_url(&g, urls[i]);
        CHECK(finish_within(&g, 5000));
        CHECK_STR(err_name(g.err.code), "unsupported");
        CHECK_INT(g.total, 0);
        curl_transfer_drop(g.t);
    }
    close_curl();
}

UNIT(environment_proxies_are_ignored)
{
    struct get g;

    setenv("http_proxy", "http://127.0.0.1:1/", 1);
    setenv("all_proxy", "http://127.0.0.1:1/", 1);
    open_curl();
    get(&g, "/etag");
    CHECK_INT(g.result, CURLE_OK);
    curl_transfer_drop(g.t);
    close_curl();
    unsetenv("http_proxy");
    unsetenv("all_proxy");
}

UNIT(a_dead_resolver_does_not_stop_the_loop)
{
    struct get g = {0};
    uint64_t start;

    open_curl();
    begin_url(&g, "http://slow.test/");
    turn(100);
    CHECK_INT(atomic_load(&slow_lookups), 1);
    start = uv_hrtime();
    curl_transfer_drop(g.t);
    CHECK((uv_hrtime() - start) / 1000000 < 100);
    close_curl();
    CHECK((uv_hrtime() - start) / 1000000 < 300);
    sleep(2); /* let the thread end, for the leak check */
}

UNIT(unknown_names_are_dns)
{
    struct get g = {0};

    open_curl();
    begin_url(&g, "http://unknown.test/");
    CHECK(finish_within(&g, 5000));
    CHECK_STR(err_name(g.err.code), "dns");
    curl_transfer_drop(g.t);
    close_curl();
}

UNIT(public_only_refuses_private_addresses)
{
    struct get g, before;

    open_curl();
    get(&before, "/etag"); /* leaves a kept connection: it must not be a way around */
    curl_transfer_drop(before.t);
    for (int i = 0; i < 2; i++) {
        public_only = true;
        begin(&g, "/catch-public");
        public_only = false;
        CHECK(finish_within(&g, 5000));
        CHECK_STR(err_name(g.err.code), "denied");
        CHECK_INT(g.status, 0);
        curl_transfer_drop(g.t);
    }
    get(&g, "/caught");
    CHECK_INT(g.status, 404); /* nothing of it was sent */
    curl_transfer_drop(g.t);
    close_curl();
}

UNIT(knows_private_addresses)
{
    static const char *const private[] = {
        "127.0.0.1",
        "127.255.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "198.18.0.1",
        "192.0.0.8",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "fd00::1",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "",
        "localhost",
        "127.1",
    };
    static const char *const public[] = {
        "1.1.1.1",        "8.8.8.8",          "172.32.0.1",     "172.15.0.1", "100.128.0.1",
        "100.63.0.1",     "192.167.1.1",      "169.253.1.1",    "198.20.0.1", "2606:4700::1111",
        "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::",
    };

    for (size_t i = 0; i < sizeof private / sizeof *private; i++)
        if (!curl_address_private(private[i])) {
            printf("  %s\n", private[i]);
            CHECK(false);
        }
    for (size_t i = 0; i < sizeof public / sizeof *public; i++)
        if (curl_address_private(public[i])) {
            printf("  %s\n", public[i]);
            CHECK(false);
        }
}

UNIT(sockets_are_close_on_exec)
{
    struct get g;
    int leaking = 0;

    open_curl();
    get(&g, "/etag");
    for (int fd = 3; fd < 64; fd++) {
        struct sockaddr_storage a = {0};
        socklen_t len = sizeof a;

        if (getpeername(fd, (struct sockaddr *)&a, &len) == 0 && a.ss_family == AF_INET)
            leaking += (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0;
    }
    CHECK_INT(leaking, 0);
    curl_transfer_drop(g.t);
    close_curl();
}

UNIT(closing_ends_what_runs_and_frees_what_is_dropped_later)
{
    struct get running, finished;
    int fds = open_fds();

    open_curl();
    get(&finished, "/etag");
    begin(&running, "/endless");
    turn(50);
    CHECK(running.total > 0);
    close_curl();
    CHECK_INT(running.done, 1);
    CHECK_INT(running.result, CURLE_ABORTED_BY_CALLBACK);
    CHECK_STR(err_name(running.err.code), "closed");
    CHECK(running.t->easy == NULL && finished.t->easy == NULL);
    curl_transfer_drop(running.t);
    curl_transfer_drop(finished.t);
    CHECK_INT(open_fds(), fds);
}

int main(void)
{
    static const struct unit_case cases[] = {
        C(gets_a_page),
        C(none_is_none),
        C(keeps_connections_and_handles),
        C(memory_follows_concurrency),
        C(a_dropped_transfer_is_gone_at_once),
        C(a_connection_that_never_was_leaves_nothing),
        C(may_be_dropped_in_on_done),
        C(forgets_what_the_last_one_asked),
        C(pauses_and_resumes),
        C(nothing_spins_over_idle_and_paused_connections),
        C(tells_failures_apart),
        C(refused_and_unreachable),
        C(other_protocols_and_userinfo_are_refused),
        C(environment_proxies_are_ignored),
        C(a_dead_resolver_does_not_stop_the_loop),
        C(unknown_names_are_dns),
        C(public_only_refuses_private_addresses),
        C(knows_private_addresses),
        C(sockets_are_close_on_exec),
        C(closing_ends_what_runs_and_frees_what_is_dropped_later),
    };
    int failed;

    signal(SIGPIPE, SIG_IGN);
    server_start();
    failed = unit_main(cases, sizeof cases / sizeof *cases);
    close(server_stdin);
    waitpid(server, NULL, 0);
    return failed;
}
