/* A request on its way to curl: headers, method, body, options.
 *
 * What curl keeps pointers to (header lines, files) belongs to the job and lives as long as it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "http_job.h"
#include "version.h"

bool http_job_header(struct http_job *job, const char *name, size_t name_len, const char *value,
                     size_t value_len)
{
    char *room = buf_room(&job->lines, name_len + value_len + 3);

    if (!room)
        return false;
    memcpy(room, name, name_len);
    if (value_len) {
        room[name_len] = ':';
        room[name_len + 1] = ' ';
        memcpy(room + name_len + 2, value, value_len);
        room[name_len + 2 + value_len] = '\0';
        buf_grew(&job->lines, name_len + value_len + 3);
    } else {
        room[name_len] = ';'; /* curl's way to say: send it empty */
        room[name_len + 1] = '\0';
        buf_grew(&job->lines, name_len + 2);
    }
    job->lines_len++;
    return true;
}

/* curl adds these to a request with a body; a line that ends in a colon takes one back. */
static bool take_back(struct http_job *job, const char *line)
{
    job->lines_len++;
    return buf_add(&job->lines, line, strlen(line) + 1);
}

static bool has_header(const struct http_job *job, const char *name)
{
    size_t len = strlen(name);

    for (size_t at = 0; at < job->lines.len; at += strlen(job->lines.data + at) + 1)
        if (strncasecmp(job->lines.data + at, name, len) == 0 && strchr(":;", job->lines.data[at + len]))
            return true;
    return false;
}

static bool link_headers(struct http_job *job, bool has_body)
{
    char *at;

    if (has_body && (!take_back(job, "Expect:") ||
                     (!has_header(job, "Content-Type") && !take_back(job, "Content-Type:"))))
        return false;
    if (!job->lines_len)
        return true;
    job->slist = calloc(job->lines_len, sizeof *job->slist);
    if (!job->slist)
        return false;
    at = job->lines.data;
    for (size_t i = 0; i < job->lines_len; i++) {
        job->slist[i].data = at;
        job->slist[i].next = i + 1 < job->lines_len ? &job->slist[i + 1] : NULL;
        at += strlen(at) + 1;
    }
    return curl_easy_setopt(job->transfer->easy, CURLOPT_HTTPHEADER, job->slist) == CURLE_OK;
}

#define SET(option, value) (ok &= curl_easy_setopt(easy, CURLOPT_##option, value) == CURLE_OK)

/* Method and body. A method without a body that usually has one says so with a length of 0. */
static bool set_method(struct http_job *job, const struct http_request *r, bool has_body)
{
    CURL *easy = job->transfer->easy;
    bool ok = true;

    if (r->body_file) {
        SET(UPLOAD, 1L);
        SET(READFUNCTION, http_source_read);
        SET(READDATA, job);
        SET(SEEKFUNCTION, http_source_seek);
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

static bool set_options(struct http_job *job, const struct http_request *r)
{
    CURL *easy = job->transfer->easy;
    bool ok = true;
    char agent[80];

    snprintf(agent, sizeof agent, "moontide/%s", moontide_version);
    SET(URL, r->url);
    SET(USERAGENT, agent);
    SET(HEADERFUNCTION, http_on_header);
    SET(HEADERDATA, job);
    SET(WRITEFUNCTION, http_on_body);
    SET(WRITEDATA, job);
    SET(CONNECTTIMEOUT_MS, (long)r->connect_ms);
    if (r->stream)
        SET(HTTP_VERSION,
            (long)CURL_HTTP_VERSION_1_1); /* a paused HTTP/2 stream would stall its neighbours */
    else
        SET(TIMEOUT_MS, (long)r->timeout_ms);
    if (r->idle_ms) {
        SET(LOW_SPEED_LIMIT, 1L);
        SET(LOW_SPEED_TIME, (long)((r->idle_ms + 999) / 1000));
    }
    if (r->unix_path)
        SET(UNIX_SOCKET_PATH, r->unix_path);
    if (r->cert)
        SET(SSLCERT, r->cert);
    if (r->key)
        SET(SSLKEY, r->key);
    return ok;
}

bool http_job_start(struct http_job *job, const struct http_request *r, struct err *e)
{
    bool has_body = r->body || r->body_file || strcmp(r->method, "POST") == 0 ||
                    strcmp(r->method, "PUT") == 0 || strcmp(r->method, "PATCH") == 0;

    job->transfer = curl_transfer_take(job->host, e);
    if (!job->transfer)
        return false;
    job->transfer->data = job;
    job->transfer->on_done = http_on_done;
    job->transfer->public_only = r->public_only;
    job->max_body = r->max_body;
    job->stream = r->stream;
    job->want = r->stream ? HTTP_WANT_HEAD : HTTP_WANT_END;
    if (r->body_file && !http_source_open(job, r->body_file, e))
        return false;
    if (r->sink && !http_sink_open(job, r->sink, e))
        return false;
    if (r->ca && !curl_transfer_trust(job->transfer, r->ca, e))
        return false;
    if (!set_options(job, r) || !set_method(job, r, has_body) || !link_headers(job, has_body)) {
        err_set(e, ERR_MEMORY, "not enough memory for a request");
        return false;
    }
    if (r->stream && r->timeout_ms && !http_job_head_timer(job, r->timeout_ms)) {
        err_set(e, ERR_MEMORY, "not enough memory for a request");
        return false;
    }
    return curl_transfer_start(job->transfer, e);
}
