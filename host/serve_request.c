/* A request's way through the library: head, queue, body, answer.
 *
 * The library calls serve_on_target when it knows the request line, serve_on_access once for the head, for
 * each piece of the body, and when all is read. After the head, and after the body that the taker asked for,
 * the connection is suspended; resuming it leads to one more call, in which the answer is handed over.
 * serve_on_completed ends it in every case. */
#include <stdlib.h>
#include <string.h>
#include "serve_impl.h"

static struct serve_conn *conn_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info ? info->socket_context : NULL;
}

static void request_unref(struct serve_request *r)
{
    if (--r->shares)
        return;
    if (r->response)
        MHD_destroy_response(r->response);
    serve_head_free(r);
    buf_free(&r->body);
    buf_free(&r->out);
    free(r);
}

void *serve_on_target(void *cls, const char *target, struct MHD_Connection *mhd)
{
    struct serve *s = cls;
    struct serve_conn *c = conn_of(mhd);
    struct serve_request *r = c ? calloc(1, sizeof *r) : NULL;

    if (!r)
        return NULL;
    r->target = strdup(target);
    if (!r->target) {
        free(r);
        return NULL;
    }
    r->shares = 1;
    r->serve = s;
    r->conn = c;
    r->peer = c->peer;
    r->body.max = s->options.max_body;
    c->request = r;
    return r;
}

void serve_suspend(struct serve_request *r)
{
    r->suspended = true;
    serve_deadline(r->conn, 0);
    MHD_suspend_connection(r->conn->mhd);
}

void serve_resume(struct serve_request *r)
{
    if (!r->suspended || !r->conn)
        return;
    r->suspended = false;
    MHD_resume_connection(r->conn->mhd);
    serve_kick(r->conn->serve);
}

void serve_cut(struct serve_request *r)
{
    if (r->cut)
        return;
    r->cut = true;
    if (r->on_gone)
        r->on_gone(r);
    serve_resume(r);
}

static enum MHD_Result hand_over(struct serve_request *r, struct MHD_Connection *mhd)
{
    enum MHD_Result result = MHD_queue_response(mhd, r->status, r->response);

    MHD_destroy_response(r->response);
    r->response = NULL;
    if (!r->streaming) /* 16 kB a second and a start: slower is no reader */
        serve_deadline(r->conn, 6 * r->serve->options.timeout + r->answer_len / 16);
    return result;
}

static enum MHD_Result hand_over_refusal(struct serve_request *r, struct MHD_Connection *mhd)
{
    char text[128];
    int len = snprintf(text, sizeof text, "refused: %s\n", r->refusal);

    r->response = MHD_create_response_from_buffer((size_t)len, text, MHD_RESPMEM_MUST_COPY);
    if (!r->response)
        return MHD_NO;
    r->answered = true;
    MHD_add_response_header(r->response, "Content-Type", "text/plain; charset=utf-8");
    MHD_add_response_header(r->response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(r->response, "Connection", "close");
    return hand_over(r, mhd);
}

bool serve_receive(struct serve_request *r)
{
    if (r->whole || !r->conn || r->cut)
        return r->whole;
    if (!r->receiving) {
        r->receiving = true;
        serve_resume(r);
        serve_deadline(r->conn, 3 * r->serve->options.timeout);
    }
    return false;
}

/* All of the body is read. */
static enum MHD_Result complete(struct serve_request *r, struct MHD_Connection *mhd)
{
    r->whole = true;
    r->receiving = false;
    if (r->refusal) {
        enum MHD_Result result = hand_over_refusal(r, mhd);

        if (r->on_body)
            r->on_body(r);
        return result;
    }
    serve_suspend(r);
    if (r->on_body)
        r->on_body(r);
    return MHD_YES;
}

static void enqueue(struct serve_request *r)
{
    struct serve *s = r->serve;

    r->queued = true;
    r->shares++; /* the queue's, which becomes the taker's */
    *s->tail = r;
    s->tail = &r->next;
    s->running++;
    serve_suspend(r);
    s->options.on_request(s->options.data);
}

struct serve_request *serve_next(struct serve *s)
{
    struct serve_request *r = s->head;

    if (!r)
        return NULL;
    s->head = r->next;
    if (!s->head)
        s->tail = &s->head;
    r->next = NULL;
    return r;
}

/* One piece of the body. Over the limit the rest is read and forgotten for a while, so that a client that
 * only writes still gets to see its answer. */
static enum MHD_Result take_body(struct serve_request *r, const char *data, size_t size)
{
    if (!r->refusal && buf_add(&r->body, data, size))
        return MHD_YES;
    if (!r->refusal) {
        serve_refuse(r, 413, "a body over the limit");
        r->length = r->body.len;
        buf_free(&r->body);
    }
    r->length += size;
    return r->length > 2 * r->serve->options.max_body + 65536 ? MHD_NO : MHD_YES;
}

enum MHD_Result serve_on_access(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                                const char *version, const char *data, size_t *size, void **con_cls)
{
    struct serve *s = cls;
    struct serve_request *r = *con_cls;

    (void)url;
    if (!r || r->cut)
        return MHD_NO;
    if (!r->begun) {
        r->begun = true;
        if (!serve_head(r, mhd, method, version))
            return MHD_NO;
        if (s->draining)
            serve_refuse(r, 503, "the server is going away");
        serve_deadline(r->conn, 3 * s->options.timeout);
        if (r->refusal)
            return hand_over_refusal(r, mhd);
        r->whole = !r->chunked && !r->length;
        if (!r->whole)
            enqueue(r);
        return MHD_YES;
    }
    if (r->response)
        return hand_over(r, mhd); /* before a body that was not asked for, or behind all of it */
    if (*size) {
        size_t taken = *size;

        *size = 0;
        return take_body(r, data, taken);
    }
    if (r->receiving && !r->reading) {
        r->reading = true; /* the call for the head again, after its suspension: now the body comes */
        return MHD_YES;
    }
    if (!r->whole)
        return complete(r, mhd);
    if (!r->queued) /* one without a body comes only now: an answer to its head would end the connection */
        enqueue(r);
    return MHD_YES;
}

static void unqueue(struct serve *s, struct serve_request *r)
{
    for (struct serve_request **at = &s->head; *at; at = &(*at)->next) {
        if (*at != r)
            continue;
        *at = r->next;
        if (!*at)
            s->tail = at;
        r->next = NULL;
        r->shares--; /* the connection's is still there */
        return;
    }
}

void serve_on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                        enum MHD_RequestTerminationCode code)
{
    struct serve *s = cls;
    struct serve_request *r = *con_cls;

    (void)mhd;
    if (!r)
        return;
    *con_cls = NULL;
    r->conn->request = NULL;
    serve_deadline(r->conn, 2 * s->options.timeout);
    if (code != MHD_REQUEST_TERMINATED_COMPLETED_OK && !r->cut && r->on_gone)
        r->on_gone(r);
    r->cut = r->cut || code != MHD_REQUEST_TERMINATED_COMPLETED_OK;
    r->conn = NULL;
    r->serve = NULL;
    if (r->queued) {
        unqueue(s, r);
        if (--s->running == 0)
            s->options.on_idle(s->options.data);
    }
    request_unref(r);
}

void serve_release(struct serve_request *r)
{
    r->on_gone = NULL;
    r->on_room = NULL;
    r->on_body = NULL;
    if (!r->answered)
        serve_cut(r);
    else if (r->streaming)
        serve_finish(r, false);
    request_unref(r);
}
