/* A request on its way to curl: headers, method, body, options.
 *
 * What curl keeps pointers to (header lines, files) belongs to the job and lives as long as it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <openssl/evp.h>
#include "http_job.h"
#include "version.h"

/* Room for one more header line, zeroed; NULL when the job was made too small. */
static char *line_room(struct http_job *job, size_t size)
{
    char *at = job->lines + job->lines_used;

    if (size > job->lines_room - job->lines_used || job->slist_len == job->slist_room)
        return NULL;
    job->slist[job->slist_len++].data = at;
    job->lines_used += size;
    return at;
}

bool http_job_header(struct http_job *job, const char *name, size_t name_len, const char *value,
                     size_t value_len)
{
    char *at = line_room(job, name_len + value_len + 3);

    if (!at)
        return false;
    memcpy(at, name, name_len);
    if (value_len) {
        at[name_len] = ':';
        at[name_len + 1] = ' ';
        memcpy(at + name_len + 2, value, value_len);
    } else {
        at[name_len] = ';'; /* curl's way to say: send it empty */
    }
    return true;
}

bool http_job_bearer(struct http_job *job, const char *token, size_t len)
{
    static const char start[] = "Authorization: Bearer ";
    char *at = line_room(job, sizeof start + len);

    if (!at)
        return false;
    memcpy(at, start, sizeof start - 1);
    memcpy(at + sizeof start - 1, token, len);
    return true;
}

bool http_job_basic(struct http_job *job, const char *user, size_t user_len, const char *password,
                    size_t password_len)
{
    static const char start[] = "Authorization: Basic ";
    size_t plain_len = user_len + 1 + password_len;
    char *at = line_room(job, HTTP_BASIC_SIZE(user_len, password_len));
    char *plain = at ? malloc(plain_len) : NULL;

    if (!plain)
        return false;
    memcpy(plain, user, user_len);
    plain[user_len] = ':';
    memcpy(plain + user_len + 1, password, password_len);
    memcpy(at, start, sizeof start - 1);
    EVP_EncodeBlock((unsigned char *)at + sizeof start - 1, (const unsigned char *)plain, (int)plain_len);
    explicit_bzero(plain, plain_len);
    free(plain);
    return true;
}

/* curl adds these to a request with a body; a line that ends in a colon takes one back. */
static bool take_back(struct http_job *job, const char *line)
{
    size_t size = strlen(line) + 1;
    char *at = line_room(job, size);

    if (at)
        memcpy(at, line, size);
    return at != NULL;
}

static bool has_header(const struct http_job *job, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < job->slist_len; i++)
        if (strncasecmp(job->slist[i].data, name, len) == 0 && strchr(":;", job->slist[i].data[len]))
            return true;
    return false;
}

static bool link_headers(struct http_job *job, bool has_body)
{
    if (has_body && ((!has_header(job, "Content-Type") && !take_back(job, "Content-Type:")) ||
                     !take_back(job, "Expect:")))
        return false;
    if (!job->slist_len)
        return true;
    for (size_t i = 0; i + 1 < job->slist_len; i++)
        job->slist[i].next = &job->slist[i + 1];
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

/* What each request has. It stays on a handle that is kept. */
static bool dress(struct curl_transfer *t)
{
    CURL *easy = t->easy;
    char agent[80];
    bool ok = true;

    snprintf(agent, sizeof agent, "moontide/%s", moontide_version);
    SET(USERAGENT, agent);
    SET(HEADERFUNCTION, http_on_header);
    SET(HEADERDATA, t);
    SET(WRITEFUNCTION, http_on_body);
    SET(WRITEDATA, t);
    t->dressed = ok;
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
    if (r->insecure) { /* who asked for it by that name; the handle is reset afterwards */
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
    bool ok = job->transfer->dressed || dress(job->transfer), plain = false;

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
    job->transfer->on_done = http_on_done;
    job->transfer->public_only = r->public_only;
    job->max_body = r->max_body;
    job->stream = r->stream;
    job->want = r->stream ? HTTP_WANT_HEAD : HTTP_WANT_END;
    if (r->body_file && !http_source_open(job, r->body_file, e))
        return false;
    if (r->sink && !http_sink_open(job, r->sink, e))
        return false;
    if (!curl_transfer_trust(job->transfer, r->ca, e))
        return false;
    if (!set_options(job, r)) {
        err_set(e, ERR_MEMORY, "not enough memory for a request");
        return false;
    }
    if (r->stream && r->timeout_ms && !http_job_head_timer(job, r->timeout_ms)) {
        err_set(e, ERR_MEMORY, "not enough memory for a request");
        return false;
    }
    return curl_transfer_start(job->transfer, e);
}
