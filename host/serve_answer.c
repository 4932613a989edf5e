/* Answers: whole ones, and streams that the library asks for when the client has room.
 *
 * A response is built here and handed over in the next call of serve_on_access. A stream's bytes wait in
 * r->out; while there are none its connection is suspended. */
#include <stdlib.h>
#include <string.h>
#include "serve_impl.h"

#define BLOCK 16384

/* Whether no answer can be given (any more): the library takes none in the middle of a body. */
static bool gone(const struct serve_request *r, struct err *e)
{
    if (r->conn && !r->cut && !r->receiving)
        return false;
    err_set(e, ERR_CLOSED, r->receiving ? "the body is being read" : "the client is gone");
    return true;
}

static bool memory(struct err *e)
{
    err_set(e, ERR_MEMORY, "out of memory");
    return false;
}

static bool add_fields(struct MHD_Response *response, const struct serve_field *fields, size_t count,
                       struct err *e)
{
    for (size_t i = 0; i < count; i++)
        if (MHD_add_response_header(response, fields[i].name, fields[i].value) != MHD_YES) {
            err_set(e, ERR_INVALID, "a header that cannot be sent: %.64s", fields[i].name);
            return false;
        }
    return true;
}

static bool answer(struct serve_request *r, unsigned status, struct MHD_Response *response,
                   const struct serve_field *fields, size_t count, struct err *e)
{
    if (!response)
        return memory(e);
    if (!add_fields(response, fields, count, e)) {
        MHD_destroy_response(response);
        return false;
    }
    r->response = response;
    r->status = status;
    r->answered = true;
    serve_resume(r);
    return true;
}

bool serve_reply(struct serve_request *r, unsigned status, const struct serve_field *fields, size_t count,
                 const char *body, size_t len, struct err *e)
{
    struct MHD_Response *response;
    char *copy;

    if (gone(r, e))
        return false;
    copy = malloc(len ? len : 1);
    if (!copy)
        return memory(e);
    if (len)
        memcpy(copy, body, len);
    response = MHD_create_response_from_buffer(len, copy, MHD_RESPMEM_MUST_FREE);
    if (!response)
        free(copy);
    r->answer_len = len;
    return answer(r, status, response, fields, count, e);
}

/* The library wants up to `max` bytes of a stream. */
static ssize_t read_stream(void *cls, uint64_t pos, char *data, size_t max)
{
    struct serve_request *r = cls;
    size_t n = r->out.len < max ? r->out.len : max;

    (void)pos;
    if (r->cut)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (n) {
        memcpy(data, r->out.data, n);
        buf_skip(&r->out, n);
        if (r->on_room && r->out.len < SERVE_HIGH_WATER)
            r->on_room(r);
        return (ssize_t)n;
    }
    if (r->finished)
        return MHD_CONTENT_READER_END_OF_STREAM;
    serve_suspend(r);
    return 0;
}

bool serve_stream(struct serve_request *r, unsigned status, const struct serve_field *fields, size_t count,
                  struct err *e)
{
    if (gone(r, e))
        return false;
    r->streaming = true;
    return answer(r, status, MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_stream, r, NULL),
                  fields, count, e);
}

bool serve_write(struct serve_request *r, const char *data, size_t len, struct err *e)
{
    if (gone(r, e))
        return false;
    if (len && !buf_add(&r->out, data, len))
        return memory(e);
    if (len)
        serve_resume(r);
    return true;
}

size_t serve_unsent(const struct serve_request *r)
{
    return r->conn && !r->cut ? r->out.len : 0;
}

void serve_finish(struct serve_request *r, bool ok)
{
    if (r->finished)
        return;
    r->finished = true;
    r->on_gone = NULL;
    if (!ok)
        serve_cut(r);
    else
        serve_resume(r);
}
