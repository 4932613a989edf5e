/* One HTTP request and its answer: curl's options and callbacks, limits, backpressure, files, the end.
 *
 * Everything here runs on the loop's thread. Functions named on_* are called by curl and must not call the
 * multi interface; the others must not be called by curl. What curl keeps pointers to (header lines, files)
 * belongs to the job and lives as long as it. Files are read and written in place, in curl's pieces, through
 * the page cache. */
#include "http_job.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "codec.h"
#include "fs.h"
#include "version.h"

#define HIGH_WATER (256 * 1024)  /* of a streamed body: curl pauses above, */
#define LOW_WATER  (64 * 1024)   /* and goes on below */
#define ERROR_BODY (1024 * 1024) /* of a non-2xx answer when the body should go to a file */

struct http_job *http_job_new(struct curl_loop *curl, size_t headers, size_t bytes, struct err *e)
{
    size_t nodes = headers + 2, room = bytes + 4 * headers + 64; /* with what link_headers adds */
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
    job->source_fd = -1;
    return job;
}

void http_job_free(struct http_job *job)
{
    if (!job)
        return;
    curl_transfer_drop(job->transfer);
    curl_slist_free_all(job->connect_to);
    if (job->source_fd >= 0)
        close(job->source_fd);
    if (job->sink)
        fs_draft_drop(job->sink);
    free(job->sink);
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
        curl_transfer_resume(job->transfer); /* may call on_body at once */
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
        buf_room(&job->head, 500); /* saves a few steps; a failure shows at the next line */
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

/* What the head holds besides its headers. */
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
    if (job->sink && job->status / 100 != 2)
        job->max_body = ERROR_BODY;
    curl_easy_getinfo(job->transfer->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    if (length <= 0)
        return true;
    if (job->max_body && (uint64_t)length > job->max_body)
        return false;
    if (!job->stream && !job->sink && length < 16 * 1024 * 1024)
        buf_room(&job->body, (size_t)length); /* a failure shows when data is added */
    return true;
}

static size_t body_too_large(struct http_job *job)
{
    char text[80];

    snprintf(text, sizeof text, "the body is over the limit of %llu bytes",
             (unsigned long long)job->max_body);
    return refuse(job, ERR_TOO_LARGE, text);
}

static size_t on_body(char *bytes, size_t size, size_t count, void *data)
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
    if (job->sink && job->status / 100 == 2)
        return fs_draft_write(job->sink, bytes, len, &job->err) ? len : 0;
    if (!buf_add(&job->body, bytes, len))
        return refuse(job, ERR_MEMORY, "not enough memory for the body");
    if (job->stream)
        tell(job);
    return len;
}

static void on_done(struct curl_transfer *t, CURLcode result)
{
    struct http_job *job = t->data;

    if (t->easy)
        take_time(job);
    if (!job->err.code)
        curl_transfer_error(t, result, &job->err);
    if (!job->err.code && job->sink && job->status / 100 == 2) {
        fs_draft_commit(job->sink, &job->err);
        free(job->sink);
        job->sink = NULL;
    }
    job->done = true;
    tell(job);
}

/* ---- the request ---- */

/* Begins one more header line, with room for so many bytes (zeros) behind its start; where they are, or NULL
 * when the job was made too small. */
static char *line_add(struct http_job *job, const char *start, size_t len, size_t room)
{
    char *at = job->lines + job->lines_used;

    if (len + room > job->lines_room - job->lines_used || job->slist_len == job->slist_room)
        return NULL;
    job->slist[job->slist_len++].data = at;
    job->lines_used += len + room;
    return (char *)memcpy(at, start, len) + len;
}

bool http_job_header(struct http_job *job, const char *name, size_t name_len, const char *value,
                     size_t value_len)
{
    char *at = line_add(job, name, name_len, value_len + 3);

    if (!at)
        return false;
    if (value_len) {
        memcpy(at, ": ", 2);
        memcpy(at + 2, value, value_len);
    } else {
        *at = ';'; /* curl's syntax for an empty header */
    }
    return true;
}

#define LINE_ADD(job, start, room) line_add(job, start, sizeof start - 1, room)

bool http_job_bearer(struct http_job *job, const char *token, size_t len)
{
    char *at = LINE_ADD(job, "Authorization: Bearer ", len + 1);

    return at && memcpy(at, token, len);
}

bool http_job_basic(struct http_job *job, const char *user, size_t user_len, const char *password,
                    size_t password_len)
{
    size_t len = user_len + 1 + password_len;
    char *at = LINE_ADD(job, "Authorization: Basic ", base64_encoded(len) + 1),
         *plain = at ? malloc(len) : NULL;

    if (!plain)
        return false;
    memcpy(plain, user, user_len);
    plain[user_len] = ':';
    memcpy(plain + user_len + 1, password, password_len);
    base64_encode(at, plain, len, BASE64);
    explicit_bzero(plain, len);
    free(plain);
    return true;
}

static bool has_header(const struct http_job *job, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < job->slist_len; i++)
        if (strncasecmp(job->slist[i].data, name, len) == 0 && strchr(":;", job->slist[i].data[len]))
            return true;
    return false;
}

/* curl adds two headers to a request with a body; a line that ends in a colon takes one back. */
static bool link_headers(struct http_job *job, bool has_body)
{
    if (has_body && ((!has_header(job, "Content-Type") && !LINE_ADD(job, "Content-Type:", 1)) ||
                     !LINE_ADD(job, "Expect:", 1)))
        return false;
    if (!job->slist_len)
        return true;
    for (size_t i = 0; i + 1 < job->slist_len; i++)
        job->slist[i].next = &job->slist[i + 1];
    return curl_easy_setopt(job->transfer->easy, CURLOPT_HTTPHEADER, job->slist) == CURLE_OK;
}

static bool source_open(struct http_job *job, const char *path, struct err *e)
{
    struct stat st;

    job->source_fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (job->source_fd < 0 || fstat(job->source_fd, &st) != 0) {
        err_errno(e, errno, "the body's file");
        return false;
    }
    if (!S_ISREG(st.st_mode)) {
        err_set(e, ERR_INVALID, "the body's file is not a regular file");
        return false;
    }
    job->source_len = st.st_size;
    return true;
}

static size_t on_source_read(char *to, size_t size, size_t count, void *data)
{
    struct http_job *job = data;
    size_t room = size * count;
    ssize_t n;

    if (job->source_len - job->source_at < (off_t)room)
        room = (size_t)(job->source_len - job->source_at);
    do
        n = pread(job->source_fd, to, room, job->source_at);
    while (n < 0 && errno == EINTR);
    if (n < 0 || (n == 0 && room)) {
        if (n < 0)
            err_errno(&job->err, errno, "the body's file");
        else
            err_set(&job->err, ERR_IO, "the body's file became shorter while it was sent");
        return CURL_READFUNC_ABORT;
    }
    job->source_at += n;
    return (size_t)n;
}

/* curl starts over when a kept connection turned out to be closed. */
static int on_source_seek(void *data, curl_off_t offset, int origin)
{
    struct http_job *job = data;

    if (origin != SEEK_SET || offset < 0 || offset > job->source_len)
        return CURL_SEEKFUNC_FAIL;
    job->source_at = (off_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* A file under the place that the answer's body shall have, which takes its name when all is there. */
static bool sink_open(struct http_job *job, const char *path, struct err *e)
{
    struct err why;

    job->sink = malloc(sizeof *job->sink);
    if (!job->sink) {
        err_set(e, ERR_MEMORY, "not enough memory for the sink");
        return false;
    }
    if (fs_draft_open(job->sink, (struct fs_path){.path = path}, 0644, &why))
        return true;
    err_set(e, why.code, "the sink: %.200s", why.message);
    free(job->sink);
    job->sink = NULL;
    return false;
}

#define SET(option, value) (ok &= curl_easy_setopt(easy, CURLOPT_##option, value) == CURLE_OK)

/* Method and body. A method that usually has a body gets a length of 0 without one. */
static bool set_method(struct http_job *job, const struct http_request *r, bool has_body)
{
    CURL *easy = job->transfer->easy;
    bool ok = true;

    if (r->body_file) {
        SET(UPLOAD, 1L);
        SET(READFUNCTION, on_source_read);
        SET(READDATA, job);
        SET(SEEKFUNCTION, on_source_seek);
        SET(SEEKDATA, job);
        SET(INFILESIZE_LARGE, (curl_off_t)job->source_len);
        SET(CUSTOMREQUEST, r->method);
    } else if (has_body) {
        SET(POSTFIELDS, r->body ? r->body : "");
        SET(POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
        if (strcmp(r->method, "POST") != 0)
            SET(CUSTOMREQUEST, r->method);
    } else if (strcmp(r->method, "HEAD") == 0) {
        SET(NOBODY, 1L);
    } else if (strcmp(r->method, "GET") != 0) {
        SET(CUSTOMREQUEST, r->method);
    }
    return ok;
}

/* What each request has. It stays on an easy handle that is kept. */
static bool prepare(struct curl_transfer *t)
{
    CURL *easy = t->easy;
    char agent[80];
    bool ok = true;

    snprintf(agent, sizeof agent, "moontide/%s", moontide_version);
    SET(USERAGENT, agent);
    SET(HEADERFUNCTION, http_on_header);
    SET(HEADERDATA, t);
    SET(WRITEFUNCTION, on_body);
    SET(WRITEDATA, t);
    t->prepared = ok;
    return ok;
}

static bool set_connect_to(struct http_job *job, const char *address)
{
    char entry[280]; /* an empty host and port before it: any */

    snprintf(entry, sizeof entry, "::%s", address);
    job->connect_to = curl_slist_append(NULL, entry);
    return job->connect_to &&
           curl_easy_setopt(job->transfer->easy, CURLOPT_CONNECT_TO, job->connect_to) == CURLE_OK;
}

/* What only some requests have; false in *plain when there was any. */
static bool set_extras(struct http_job *job, const struct http_request *r, bool *plain)
{
    CURL *easy = job->transfer->easy;
    bool ok = true, upload = r->body_file || r->body_len > 0;

    *plain = !r->stream && !upload && !r->idle_ms && !r->unix_path && !r->cert && !r->key && !r->insecure &&
             !r->connect_to;
    /* On one HTTP/2 connection a paused stream stalls its neighbours, and an answer to an upload that the
     * server did not read to its end is taken for a broken stream, also when the upload is small. */
    if (r->stream || upload) {
        SET(HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        job->transfer->alone = strncasecmp(r->url, "https:", 6) == 0;
    }
    if (r->idle_ms) {
        SET(LOW_SPEED_LIMIT, 1L);
        SET(LOW_SPEED_TIME, (long)((r->idle_ms + 999) / 1000));
    }
    if (r->unix_path)
        SET(UNIX_SOCKET_PATH, r->unix_path);
    if (r->connect_to)
        ok &= set_connect_to(job, r->connect_to);
    if (r->insecure) { /* by an explicit option; the easy handle is reset afterwards */
        SET(SSL_VERIFYPEER, (long)!r->insecure);
        SET(SSL_VERIFYHOST, (long)!r->insecure);
    }
    if (r->cert)
        SET(SSLCERT, r->cert);
    if (r->key)
        SET(SSLKEY, r->key);
    return ok;
}

static bool set_options(struct http_job *job, const struct http_request *r)
{
    bool has_body = r->body || r->body_file || strcmp(r->method, "POST") == 0 ||
                    strcmp(r->method, "PUT") == 0 || strcmp(r->method, "PATCH") == 0;
    CURL *easy = job->transfer->easy;
    bool ok = job->transfer->prepared || prepare(job->transfer), plain = false;

    SET(URL, r->url); /* for its messages, and when it tries again */
    SET(CURLU, r->parsed);
    SET(CONNECTTIMEOUT_MS, (long)r->connect_ms);
    SET(TIMEOUT_MS, r->stream ? 0L : (long)r->timeout_ms);
    ok = ok && set_extras(job, r, &plain) && set_method(job, r, has_body) && link_headers(job, has_body);
    job->transfer->keep = ok && plain && !has_body && strcmp(r->method, "GET") == 0;
    return ok;
}

/* OpenSSL reads these itself, on the loop's thread: it would wait for the other end of a pipe. */
static bool is_readable(const char *path, const char *what, struct err *e)
{
    struct stat st;

    if (!path || stat(path, &st) != 0 ||
        S_ISREG(st.st_mode)) /* OpenSSL says what is wrong with a missing one */
        return true;
    err_set(e, ERR_INVALID, "the %s's file is not a regular file", what);
    return false;
}

bool http_job_start(struct http_job *job, const struct http_request *r, struct err *e)
{
    if (!is_readable(r->cert, "certificate", e) || !is_readable(r->key, "key", e))
        return false;
    job->transfer = curl_transfer_take(job->curl, e);
    if (!job->transfer)
        return false;
    job->transfer->data = job;
    job->transfer->on_done = on_done;
    job->transfer->public_only = r->public_only;
    job->max_body = r->max_body;
    job->stream = r->stream;
    job->want = r->stream ? HTTP_WANT_HEAD : HTTP_WANT_END;
    if (r->body_file && !source_open(job, r->body_file, e))
        return false;
    if (r->sink && !sink_open(job, r->sink, e))
        return false;
    if (!curl_transfer_trust(job->transfer, r->ca, e))
        return false;
    if (!set_options(job, r)) {
        err_set(e, ERR_MEMORY, "not enough memory for a request");
        return false;
    }
    return curl_transfer_start(job->transfer, e);
}
