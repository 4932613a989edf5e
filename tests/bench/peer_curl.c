/* B1 and B1t's honest peer: the bare loop, libcurl's multi interface on libuv, nothing else.
 *
 *     peer_curl URL COUNT INFLIGHT [CAFILE default|null]
 *
 * Keeps INFLIGHT conditional GETs going until COUNT answered 304. One pooled easy handle per transfer in
 * flight. `null` turns CURLOPT_CAPATH off, which lets libcurl cache the parsed CA file; `default` leaves it
 * as the distribution built it. Prints the seconds that the loop took. */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct sock {
    uv_poll_t poll;
    curl_socket_t fd;
};

static CURLM *multi;
static uv_timer_t timer;
static long left, unanswered, bad;

static void drain(void)
{
    CURLMsg *msg;
    int pending;

    while ((msg = curl_multi_info_read(multi, &pending)) != NULL) {
        CURL *easy = msg->easy_handle;
        long status = 0;

        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        if (msg->data.result != CURLE_OK || status != 304)
            bad++;
        curl_multi_remove_handle(multi, easy);
        unanswered--;
        if (left > 0) {
            left--;
            curl_multi_add_handle(multi, easy);
        }
    }
    if (unanswered == 0)
        uv_stop(uv_default_loop());
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct sock *s = (struct sock *)poll;
    int flags = status < 0 ? CURL_CSELECT_ERR : 0, running;

    if (events & UV_READABLE)
        flags |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE)
        flags |= CURL_CSELECT_OUT;
    curl_multi_socket_action(multi, s->fd, flags, &running);
    drain();
}

static void on_closed(uv_handle_t *handle)
{
    free(handle);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *own)
{
    struct sock *s = own;
    int events = 0;

    (void)easy;
    (void)data;
    if (what == CURL_POLL_REMOVE) {
        if (s) {
            uv_poll_stop(&s->poll);
            uv_close((uv_handle_t *)&s->poll, on_closed);
            curl_multi_assign(multi, fd, NULL);
        }
        return 0;
    }
    if (!s) {
        s = calloc(1, sizeof *s);
        if (!s || uv_poll_init_socket(uv_default_loop(), &s->poll, fd) < 0)
            abort();
        s->fd = fd;
        curl_multi_assign(multi, fd, s);
    }
    if (what & CURL_POLL_IN)
        events |= UV_READABLE;
    if (what & CURL_POLL_OUT)
        events |= UV_WRITABLE;
    uv_poll_start(&s->poll, events, on_poll);
    return 0;
}

static void on_timer(uv_timer_t *handle)
{
    int running;

    (void)handle;
    curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
    drain();
}

static int on_timeout(CURLM *m, long ms, void *data)
{
    (void)m;
    (void)data;
    if (ms < 0)
        return uv_timer_stop(&timer);
    return uv_timer_start(&timer, on_timer, ms == 0 ? 1 : (uint64_t)ms, 0);
}

static size_t swallow(char *data, size_t size, size_t count, void *own)
{
    (void)data;
    (void)own;
    return size * count;
}

int main(int argc, char **argv)
{
    struct curl_slist *headers = curl_slist_append(NULL, "If-None-Match: \"bench\"");
    int inflight = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 0;
    uint64_t began;

    if (argc < 4 || inflight < 1)
        return fprintf(stderr, "usage: peer_curl URL COUNT INFLIGHT [CAFILE default|null]\n"), 2;
    unanswered = left = strtol(argv[2], NULL, 10);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    multi = curl_multi_init();
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timeout);
    uv_timer_init(uv_default_loop(), &timer);
    began = uv_hrtime();
    for (int i = 0; i < inflight && left > 0; i++, left--) {
        CURL *easy = curl_easy_init();

        curl_easy_setopt(easy, CURLOPT_URL, argv[1]);
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, swallow);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        if (argc > 4)
            curl_easy_setopt(easy, CURLOPT_CAINFO, argv[4]);
        if (argc > 5 && strcmp(argv[5], "null") == 0)
            curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
        curl_multi_add_handle(multi, easy);
    }
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    printf("%.6f\n", (double)(uv_hrtime() - began) / 1e9);
    if (bad > 0)
        fprintf(stderr, "peer_curl: %ld of the answers were not 304\n", bad);
    return bad > 0;
}
