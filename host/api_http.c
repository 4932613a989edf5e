/* core.http: one request, one hop; URL parsing. stdlib/http.lua makes the public face.
 *
 * Waiting: request. Its op owns the job until the frame is left, unless the answer is streamed: then the job
 * goes over to a handle (http_stream.c). */
#include <stdlib.h>
#include <string.h>
#include "api.h"
#include "bind.h"
#include "err_lua.h"
#include "host.h"
#include "http_answer.h"
#include "http_job.h"
#include "http_options.h"
#include "http_stream.h"
#include "http_url.h"
#include "op.h"

#define URL_CLASS "moontide.http_url"

/* Where request has its body and its op. */
enum { BODY_AT = 9, OP_AT };

struct request_op {
    struct op op;
    struct http_job *job;
};

/* ---- request ---- */

static void on_request_ready(struct http_job *job)
{
    struct request_op *r = job->owner;

    if (r)
        op_done(&r->op);
}

static void request_leave(struct op *op)
{
    struct request_op *r = (struct request_op *)op;

    http_job_free(r->job);
    r->job = NULL;
}

/* stack: the arguments of request, the body, the op. Results: answer [, stream], or nil and the error. */
static int request_finish(lua_State *L, struct op *op)
{
    struct request_op *r = (struct request_op *)op;
    struct http_job *job = r->job;

    if (job->err.code && !(job->stream && job->head_done))
        return err_return(L, &job->err, lua_tostring(L, 1), lua_tostring(L, 3));
    http_answer_push(L, job, 3);
    if (!job->stream)
        return 1;
    http_stream_push(L, &r->job);
    lua_pushvalue(L, OP_AT);
    lua_setiuservalue(L, -2, 1); /* curl may still be sending the body */
    return 2;
}

/* request(op, method, url, handle, headers, options, timeout, public_only) */
static int l_request(lua_State *L)
{
    struct http_options o;
    struct http_url *url;
    struct request_op *r;
    struct host *host = bind_host(L);
    struct err e = {0};
    lua_Number timeout;

    lua_settop(L, 8);
    url = bind_self(L, 4, URL_CLASS);
    http_options_read(L, 6, 5, &o); /* leaves the body at BODY_AT */
    bind_text(L, 1, HTTP_USAGE);
    o.request.method = bind_text(L, 2, HTTP_USAGE);
    o.request.url = bind_text(L, 3, HTTP_USAGE);
    o.request.parsed = url->handle;
    timeout = luaL_checknumber(L, 7);
    o.request.timeout_ms = timeout > 0 ? bind_millis(timeout > 1e6 ? 1e6 : timeout) : 1;
    o.request.public_only = lua_toboolean(L, 8);
    r = op_new(L, sizeof *r, NULL);
    r->op.leave = request_leave;
    lua_pushvalue(L, 4);
    lua_setiuservalue(L, OP_AT, 1);
    lua_pushvalue(L, BODY_AT);
    lua_setiuservalue(L, OP_AT, 2);
    if (!host->curl)
        host->curl = curl_loop_open(&host->loop, &e);
    if (host->curl)
        r->job = http_job_new(host->curl, o.headers, o.bytes, &e);
    if (!r->job)
        return err_return(L, &e, lua_tostring(L, 1), lua_tostring(L, 3));
    http_options_headers(L, 5, &o, r->job);
    r->job->owner = r;
    r->job->on_ready = on_request_ready;
    if (!http_job_start(r->job, &o.request, &e))
        return err_return(L, &e, lua_tostring(L, 1), lua_tostring(L, 3));
    return op_wait(L, &r->op, request_finish);
}

/* headers(raw): {map, repeated or nil, names} of an answer's raw headers. */
static int l_headers(lua_State *L)
{
    size_t len;
    const char *raw = luaL_checklstring(L, 1, &len);

    http_answer_headers(L, raw, len);
    return 1;
}

/* ---- URLs ---- */

static int l_url_gc(lua_State *L)
{
    http_url_free(lua_touserdata(L, 1));
    return 0;
}

static void set_text(lua_State *L, const char *name, const char *text)
{
    if (!text)
        return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

/* url(text [, base]): its parts and a handle, or nil and a table {code, message}. */
static int l_url(lua_State *L)
{
    const char *text = bind_text(L, 1, "core.http.url(text [, base])");
    const char *base = lua_isnoneornil(L, 2) ? NULL : bind_text(L, 2, "core.http.url(text [, base])");
    struct http_url *u;
    struct err e = {0};

    lua_settop(L, 2);
    u = bind_new(L, sizeof *u, URL_CLASS);
    if (!http_url_parse(u, text, base, &e))
        return err_return(L, &e, "http.url", NULL); /* the text may hold a password */
    lua_createtable(L, 0, 10);
    set_text(L, "url", u->url);
    set_text(L, "scheme", u->scheme);
    set_text(L, "host", u->host);
    set_text(L, "port", u->port);
    set_text(L, "path", u->path);
    set_text(L, "query", u->query);
    set_text(L, "user", u->user);
    set_text(L, "password", u->password);
    lua_pushfstring(L, "%s://%s:%s", u->scheme, u->host, u->port);
    lua_setfield(L, -2, "origin");
    lua_pushvalue(L, 3);
    lua_setfield(L, -2, "handle");
    http_url_trim(u);
    return 1;
}

/* mistake(text): raises it with the position of the script that called the stdlib. */
static int l_mistake(lua_State *L)
{
    return bind_error(L, "%s", luaL_checkstring(L, 1));
}

/* stats(): what the client holds, for tests and metrics. */
static int l_stats(lua_State *L)
{
    struct curl_loop_stats stats = curl_loop_stats(bind_host(L)->curl);

    lua_createtable(L, 0, 3);
    lua_pushinteger(L, (lua_Integer)stats.active);
    lua_setfield(L, -2, "active");
    lua_pushinteger(L, (lua_Integer)stats.idle);
    lua_setfield(L, -2, "idle");
    lua_pushinteger(L, (lua_Integer)stats.sockets);
    lua_setfield(L, -2, "sockets");
    return 1;
}

int luaopen_core_http(lua_State *L)
{
    static const luaL_Reg url_meta[] = {{"__gc", l_url_gc}, {"__close", l_url_gc}, {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"request", l_request}, {"url", l_url},     {"headers", l_headers},
        {"mistake", l_mistake}, {"stats", l_stats}, {NULL, NULL},
    };

    http_stream_register(L);
    bind_class(L, URL_CLASS, none, url_meta);
    luaL_newlib(L, functions);
    return 1;
}
