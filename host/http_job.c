/* One HTTP request and its answer: curl's callbacks, limits, backpressure, the end.
 *
 * Everything here runs on the loop's thread. Functions named http_on_* are called by curl and must not call
 * the multi interface; the others must not be called by curl. */
#include "http_job.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "handle.h"

#define HIGH_WATER (256 * 1024)  /* of a streamed body: curl pauses above, */
#define LOW_WATER  (64 * 1024)   /* and goes on below */
#define ERROR_BODY (1024 * 1024) /* of a non-2xx answer when the body should go to a file */

struct http_job *http_job_new(struct curl_loop *curl, size_t headers, size_t bytes, struct err *e)
{
    size_t nodes = headers + 2, room = bytes + 4 * headers + 64; /* what http_request.c adds is in it */
    struct http_job *job = calloc(1, sizeof *job + nodes * sizeof *job->slist + room);

    if (!job) {
        err_set(e, ERR_MEMORY, "not enough memory for a request");
        return NULL;
    }
    job->slist = (struct curl_slist *)(job + 1);
    job->slist_room = nodes;
    job->lines = (char *)(job->slist + nodes);
    job->lines_room = room;
    job->curl = curl;
    job->source_fd = job->sink_fd = -1;
    return job;
}

static void head_timer_stop(struct http_job *job)
{
    handle_drop(job->head_timer);
    job->head_timer = NULL;
}

void http_job_free(struct http_job *job)
{
    if (!job)
        return;
    head_timer_stop(job);
    curl_transfer_drop(job->transfer);
    curl_slist_free_all(job->connect_to);
    http_files_close(job);
    buf_free(&job->head);
    buf_free(&job->body);
    explicit_bzero(job->lines, job->lines_used); /* credentials */
    free(job);
}

/* ---- what the owner waits for ---- */

const char *http_job_data(const struct http_job *job, size_t *len)
{
    *len = job->body.len - job->body_at;
    return job->body.data ? job->body.data + job->body_at : "";
}

static bool has_line(struct http_job *job)
{
    const char *newline = NULL;

    if (job->line_at < job->body_at)
        job->line_at = job->body_at;
    if (job->body.len > job->line_at)
        newline = memchr(job->body.data + job->line_at, '\n', job->body.len - job->line_at);
    job->line_at = newline ? (size_t)(newline - job->body.data) : job->body.len;
    return newline != NULL;
}

bool http_job_ready(struct http_job *job)
{
    size_t len = job->body.len - job->body_at;

    if (job->done)
        return true;
    switch (job->want) {
    case HTTP_WANT_HEAD:
        return job->head_done;
    case HTTP_WANT_DATA:
        return len > 0;
    case HTTP_WANT_LINE:
        return has_line(job) || len > HTTP_MAX_LINE;
    default:
        return false;
    }
}

static void tell(struct http_job *job)
{
    if (job->on_ready && http_job_ready(job))
        job->on_ready(job);
}

static void go_on(struct http_job *job)
{
    size_t len = job->body.len - job->body_at;

    if (job->paused && (len < LOW_WATER || (job->want == HTTP_WANT_LINE && len <= HTTP_MAX_LINE))) {
        job->paused = false;
        curl_transfer_resume(job->transfer); /* may call http_on_body at once */
    }
}

void http_job_want(struct http_job *job, enum http_want want)
{
    job->want = want;
    if (!http_job_ready(job))
        go_on(job);
}

void http_job_consume(struct http_job *job, size_t len)
{
    job->body_at += len;
    if (job->body_at == job->body.len)
        job->body_at = job->line_at = job->body.len = 0;
    else if (job->body_at > HIGH_WATER) {
        buf_skip(&job->body, job->body_at);
        job->line_at -= job->line_at < job->body_at ? job->line_at : job->body_at;
        job->body_at = 0;
    }
    if (!job->done)
        go_on(job);
}

void http_job_fail(struct http_job *job, enum err_code code, const char *message)
{
    if (!job->err.code)
        err_set(&job->err, code, "%s", message);
    head_timer_stop(job);
    curl_transfer_drop(job->transfer);
    job->transfer = NULL;
    job->done = true;
    tell(job);
}

/* ---- the answer ---- */

/* From inside curl: remembers why, and lets curl end the transfer. */
static size_t refuse(struct http_job *job, enum err_code code, const char *message)
{
    if (!job->err.code)
        err_set(&job->err, code, "%s", message);
    return 0;
}

static const char *trim(const char *text, size_t *len)
{
    while (*len && (*text == ' ' || *text == '\t')) {
        text++;
        --*len;
    }
    while (*len && (text[*len - 1] == ' ' || text[*len - 1] == '\t' || text[*len - 1] == '\r' ||
                    text[*len - 1] == '\n'))
        --*len;
    return text;
}

/* A line that starts with white space belongs to the one before it (RFC 9112, 5.2). */
static bool head_fold(struct http_job *job, const char *line, size_t len)
{
    if (!job->head_len)
        return true;
    line = trim(line, &len);
    job->head.len--; /* the last value's NUL */
    return buf_add(&job->head, " ", 1) && buf_add(&job->head, line, len) && buf_add(&job->head, "", 1);
}

static bool head_add(struct http_job *job, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);
    size_t name_len = colon ? (size_t)(colon - line) : 0;
    size_t value_len = len - name_len - 1;
    char *room;

    if (*line == ' ' || *line == '\t')
        return head_fold(job, line, len);
    if (!name_len)
        return true; /* curl has let it pass: not a header */
    if (!job->head.cap)
        buf_room(&job->head, 500); /* saves a few steps; when there is no room, the next line says so */
    room = buf_room(&job->head, len + 2);
    if (!room)
        return false;
    for (size_t i = 0; i < name_len; i++)
        room[i] = (char)tolower((unsigned char)line[i]);
    room[name_len] = '\0';
    line = trim(colon + 1, &value_len);
    memcpy(room + name_len + 1, line, value_len);
    room[name_len + 1 + value_len] = '\0';
    buf_grew(&job->head, name_len + value_len + 2);
    job->head_len++;
    return true;
}

/* What the head says besides its headers. */
static void take_head(struct http_job *job)
{
    CURL *easy = job->transfer->easy;
    long status = 0, version = 0;
    char *peer = NULL;

    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(easy, CURLINFO_HTTP_VERSION, &version);
    job->status = (int)status;
    job->http_version = version == CURL_HTTP_VERSION_2_0 ? 20 : version == CURL_HTTP_VERSION_1_0 ? 10 : 11;
    if (status / 100 == 3) {
        curl_easy_getinfo(easy, CURLINFO_PRIMARY_IP, &peer);
        job->peer_private = !peer || curl_address_private(peer);
    }
    job->head_done = status >= 200; /* else another head follows */
}

static void take_time(struct http_job *job)
{
    curl_off_t micros = 0;

    curl_easy_getinfo(job->transfer->easy, CURLINFO_TOTAL_TIME_T, &micros);
    job->elapsed = (double)micros / 1e6;
}

size_t http_on_header(char *line, size_t size, size_t count, void *data)
{
    struct http_job *job = ((struct curl_transfer *)data)->data;
    size_t len = size * count;

    if (job->head_done)
        return len; /* trailers */
    if (len > 5 && memcmp(line, "HTTP/", 5) == 0) {
        job->head.len = job->head_len = 0;
        return len;
    }
    if (*line == '\n' || (len == 2 && memcmp(line, "\r\n", 2) == 0)) {
        take_head(job);
        if (job->head_done && job->stream) {
            take_time(job);
            head_timer_stop(job);
            tell(job);
        }
        return len;
    }
    if (memchr(line, '\0', len))
        return refuse(job, ERR_PROTOCOL, "a NUL byte in the response headers");
    if (job->head_len >= HTTP_MAX_HEADERS || job->head.len + len > HTTP_MAX_HEAD)
        return refuse(job, ERR_TOO_LARGE, "the response headers are too large");
    if (!head_add(job, line, len))
        return refuse(job, ERR_MEMORY, "not enough memory for the response headers");
    return len;
}

/* The first bytes of the body: refuses early, and makes room once. */
static bool body_begin(struct http_job *job)
{
    curl_off_t length = -1;

    job->started_body = true;
    if (job->sink_path && job->status / 100 != 2)
        job->max_body = ERROR_BODY;
    curl_easy_getinfo(job->transfer->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    if (length <= 0)
        return true;
    if (job->max_body && (uint64_t)length > job->max_body)
        return false;
    if (!job->stream && !job->sink_path && length < 16 * 1024 * 1024)
        buf_room(&job->body, (size_t)length); /* when there is no room, adding will say so */
    return true;
}

static size_t body_too_large(struct http_job *job)
{
    char text[80];

    snprintf(text, sizeof text, "the body is over the limit of %llu bytes",
             (unsigned long long)job->max_body);
    return refuse(job, ERR_TOO_LARGE, text);
}

size_t http_on_body(char *bytes, size_t size, size_t count, void *data)
{
    struct http_job *job = ((struct curl_transfer *)data)->data;
    size_t len = size * count, unread = job->body.len - job->body_at;

    if (!job->started_body && !body_begin(job))
        return body_too_large(job);
    if (job->stream && unread > (job->want == HTTP_WANT_LINE ? HTTP_MAX_LINE : HIGH_WATER)) {
        job->paused = true;
        tell(job);
        return CURL_WRITEFUNC_PAUSE;
    }
    if (job->max_body && job->received + len > job->max_body)
        return body_too_large(job);
    job->received += len;
    if (job->sink_path && job->status / 100 == 2)
        return http_sink_write(job, bytes, len) ? len : 0;
    if (!buf_add(&job->body, bytes, len))
        return refuse(job, ERR_MEMORY, "not enough memory for the body");
    if (job->stream)
        tell(job);
    return len;
}

void http_on_done(struct curl_transfer *t, CURLcode result)
{
    struct http_job *job = t->data;

    head_timer_stop(job);
    if (t->easy)
        take_time(job);
    if (!job->err.code)
        curl_transfer_error(t, result, &job->err);
    if (!job->err.code && job->sink_path && job->status / 100 == 2)
        http_sink_commit(job);
    job->done = true;
    tell(job);
}

static void on_head_timeout(uv_timer_t *timer)
{
    if (timer->data)
        http_job_fail(timer->data, ERR_TIMEOUT, "no answer within the time allowed");
}

/* A stream may live for days: only its head has a time limit, which curl cannot be told. */
bool http_job_head_timer(struct http_job *job, uint64_t millis)
{
    job->head_timer = malloc(sizeof *job->head_timer);
    if (!job->head_timer)
        return false;
    uv_timer_init(curl_loop_uv(job->curl), job->head_timer);
    job->head_timer->data = job;
    uv_timer_start(job->head_timer, on_head_timeout, millis, 0);
    return true;
}
