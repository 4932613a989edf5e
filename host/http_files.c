/* Where request bodies come from and answers go to: regular files.
 *
 * Reads and writes are small (curl's buffers) and go through the page cache, so they are made in place. A
 * sink appears under its name only when the whole body is there; until then it is a hidden file beside it. */
#include "http_job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define SINK_PIECE (64 * 1024) /* written at once */

bool http_source_open(struct http_job *job, const char *path, struct err *e)
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

size_t http_source_read(char *to, size_t size, size_t count, void *data)
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
int http_source_seek(void *data, curl_off_t offset, int origin)
{
    struct http_job *job = data;

    if (origin != SEEK_SET || offset < 0 || offset > job->source_len)
        return CURL_SEEKFUNC_FAIL;
    job->source_at = (off_t)offset;
    return CURL_SEEKFUNC_OK;
}

bool http_sink_open(struct http_job *job, const char *path, struct err *e)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    size_t size = strlen(path) + 32;
    unsigned long long tag = 0;

    if (getrandom(&tag, sizeof tag, GRND_NONBLOCK) < 0)
        tag = uv_hrtime();
    job->sink_path = strdup(path);
    job->sink_temp = malloc(size);
    if (!job->sink_path || !job->sink_temp) {
        err_set(e, ERR_MEMORY, "not enough memory for the sink");
        return false;
    }
    snprintf(job->sink_temp, size, "%.*s.%s.%016llx", (int)(name - path), path, name, tag);
    job->sink_fd = open(job->sink_temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (job->sink_fd < 0) {
        err_errno(e, errno, "the sink");
        free(job->sink_temp);
        job->sink_temp = NULL;
        return false;
    }
    return true;
}

static bool sink_flush(struct http_job *job)
{
    while (job->body_at < job->body.len) {
        ssize_t n = write(job->sink_fd, job->body.data + job->body_at, job->body.len - job->body_at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            err_errno(&job->err, errno, "the sink");
            return false;
        }
        job->body_at += (size_t)n;
    }
    job->body_at = job->body.len = 0;
    return true;
}

/* Gathers small pieces in the job's body. */
bool http_sink_write(struct http_job *job, const char *data, size_t len)
{
    if (!buf_add(&job->body, data, len)) {
        err_set(&job->err, ERR_MEMORY, "not enough memory for the sink");
        return false;
    }
    return job->body.len < SINK_PIECE || sink_flush(job);
}

/* The body is complete: gives the sink its name. */
bool http_sink_commit(struct http_job *job)
{
    int fd = job->sink_fd;

    if (!sink_flush(job))
        return false;
    job->sink_fd = -1;
    if (close(fd) != 0 || rename(job->sink_temp, job->sink_path) != 0) {
        err_errno(&job->err, errno, "the sink");
        return false;
    }
    free(job->sink_temp);
    job->sink_temp = NULL;
    return true;
}

void http_files_close(struct http_job *job)
{
    if (job->source_fd >= 0)
        close(job->source_fd);
    if (job->sink_fd >= 0)
        close(job->sink_fd);
    if (job->sink_temp)
        unlink(job->sink_temp);
    free(job->sink_temp);
    free(job->sink_path);
    job->source_fd = job->sink_fd = -1;
    job->sink_temp = job->sink_path = NULL;
}
