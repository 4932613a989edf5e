/* A streamed answer as a Lua handle: read, line, close.
 *
 * Waiting: read, line. The handle owns its job until it is closed or collected; one task reads at a time, and
 * closing wakes it. */
#include "http_stream.h"

#include <string.h>
#include "bind.h"
#include "op.h"

#define STREAM_CLASS "moontide.http_stream"

struct stream {
    struct http_job *job; /* NULL: closed */
    struct op *reader;
};

struct read_op {
    struct op op;
    struct stream *stream;
    size_t most;
};

static void on_stream_ready(struct http_job *job)
{
    struct stream *s = job->owner;

    op_done(s->reader);
}

static void stream_close(struct stream *s)
{
    struct http_job *job = s->job;

    s->job = NULL;
    op_done(s->reader);
    http_job_free(job);
}

static int l_stream_close(lua_State *L)
{
    stream_close(bind_self(L, 1, STREAM_CLASS));
    return 0;
}

/* Waits for what `want` says; the finish function then takes it. */
static int stream_wait(lua_State *L, enum http_want want, size_t most, op_finish finish)
{
    struct stream *s = bind_self(L, 1, STREAM_CLASS);
    struct read_op *r;

    if (!s->job)
        return err_fail(L, ERR_CLOSED, "http.read", NULL, "the answer was closed");
    r = op_claim(L, sizeof *r, NULL, &s->reader, "another task reads this answer already");
    r->stream = s;
    r->most = most;
    http_job_want(s->job, want);
    if (http_job_ready(s->job))
        op_done(&r->op);
    return op_wait(L, &r->op, finish);
}

/* The end of the stream: nil, or nil and the error. */
static int push_end(lua_State *L, const struct http_job *job)
{
    if (job->err.code)
        return err_return(L, &job->err, "http.read", NULL);
    lua_pushnil(L);
    return 1;
}

static int read_finish(lua_State *L, struct op *op)
{
    struct read_op *r = (struct read_op *)op;
    const char *data;
    size_t len;

    if (!r->stream->job)
        return err_fail(L, ERR_CLOSED, "http.read", NULL, "the answer was closed");
    data = http_job_data(r->stream->job, &len);
    if (!len)
        return push_end(L, r->stream->job);
    if (len > r->most)
        len = r->most;
    lua_pushlstring(L, data, len);
    http_job_consume(r->stream->job, len);
    return 1;
}

/* stream:read(most): at least one byte, at most `most`; nil at the end. */
static int l_stream_read(lua_State *L)
{
    lua_Integer most = luaL_optinteger(L, 2, 64 * 1024);

    luaL_argcheck(L, most > 0, 2, "must be at least 1");
    lua_settop(L, 1);
    return stream_wait(L, HTTP_WANT_DATA, (size_t)most, read_finish);
}

static int line_finish(lua_State *L, struct op *op)
{
    struct read_op *r = (struct read_op *)op;
    struct http_job *job = r->stream->job;
    const char *data, *newline;
    size_t len, line;

    if (!job)
        return err_fail(L, ERR_CLOSED, "http.read", NULL, "the answer was closed");
    data = http_job_data(job, &len);
    newline = memchr(data, '\n', len);
    line = newline ? (size_t)(newline - data) : len;
    if (line > HTTP_MAX_LINE) {
        http_job_fail(job, ERR_TOO_LARGE, "a line is longer than 1 MiB");
        http_job_consume(job, len);
    } else if (newline || (len && !job->err.code)) {
        lua_pushlstring(L, data, line && newline && data[line - 1] == '\r' ? line - 1 : line);
        http_job_consume(job, newline ? line + 1 : line);
        return 1;
    }
    return push_end(L, job); /* half a line before a failure is no line */
}

/* stream:line(): the next line without its end; nil at the end. */
static int l_stream_line(lua_State *L)
{
    lua_settop(L, 1);
    return stream_wait(L, HTTP_WANT_LINE, 0, line_finish);
}

void http_stream_push(lua_State *L, struct http_job **job)
{
    struct stream *s = bind_new(L, sizeof *s, STREAM_CLASS);

    s->job = *job;
    s->job->owner = s;
    s->job->on_ready = on_stream_ready;
    *job = NULL;
}

void http_stream_register(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"read", l_stream_read},
        {"line", l_stream_line},
        {"close", l_stream_close},
        {NULL, NULL},
    };
    static const luaL_Reg metamethods[] = {
        {"__gc", l_stream_close},
        {"__close", l_stream_close},
        {NULL, NULL},
    };

    bind_class(L, STREAM_CLASS, methods, metamethods);
}
