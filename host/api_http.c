/* core.http: one request, one hop; URL parsing. stdlib/http.lua makes the public face.
 *
 * Waiting: request; read and line of a streamed answer. The op of a request owns the job until the frame is
 * left, unless the answer is streamed: then the job goes over to a handle. Texts of a request belong to the
 * script's tables, which stay on the stack until the job has started: they are made plain (bind.h), and
 * nothing between reading and starting runs a script. */
#include <stdlib.h>
#include <string.h>
#include "api.h"
#include "bind.h"
#include "err_lua.h"
#include "host.h"
#include "http_job.h"
#include "http_url.h"
#include "op.h"

#define URL_CLASS    "moontide.http_url"
#define STREAM_CLASS "moontide.http_stream"
#define HTTP_USAGE   "http.request{method=, url= [, options]}"

/* ---- options: what a script asks for ---- */

struct options {
    struct http_request request;
    const char *user, *password, *bearer, *etag; /* NULL: not given */
    size_t user_len, password_len, bearer_len, etag_len;
    size_t headers, bytes; /* of all request headers */
};

static uint64_t millis_option(lua_State *L, int options, const char *name, lua_Number fallback)
{
    lua_Number value = bind_opt_number(L, options, name, fallback);

    if (value < 0)
        bind_error(L, "option '%s' must not be negative", name);
    return bind_millis(value > 1e6 ? 1e6 : value);
}

static const char *field_of(lua_State *L, const char *name, size_t *len)
{
    const char *text = NULL;

    if (bind_field(L, -1, name) == LUA_TSTRING)
        text = lua_tolstring(L, -1, len);
    else if (!lua_isnil(L, -1))
        bind_error(L, "option 'auth': '%s' must be a string", name);
    if (text && (strlen(text) != *len || strpbrk(text, "\r\n")))
        bind_error(L, "option 'auth': '%s' holds a line break or a NUL byte", name);
    lua_pop(L, 1);
    return text;
}

static void read_auth(lua_State *L, int options, struct options *out)
{
    static const char *const known[] = {"bearer", "password", "user", NULL};

    if (bind_field(L, options, "auth") == LUA_TNIL) {
        lua_pop(L, 1);
        return;
    }
    if (!lua_istable(L, -1))
        bind_error(L, "option 'auth' must be {user=, password=} or {bearer=}");
    bind_options(L, lua_gettop(L), "auth = {user=, password=} or {bearer=}", known);
    out->user = field_of(L, "user", &out->user_len);
    out->password = field_of(L, "password", &out->password_len);
    out->bearer = field_of(L, "bearer", &out->bearer_len);
    if (out->bearer && (out->user || out->password))
        bind_error(L, "option 'auth': 'bearer' and 'user' exclude each other");
    if (!out->bearer && !out->user && !out->password)
        bind_error(L, "option 'auth' must be {user=, password=} or {bearer=}");
    if (out->user && strchr(out->user, ':'))
        bind_error(L, "option 'auth': a user's name cannot hold a colon");
    if (out->user_len + out->password_len > 65536)
        bind_error(L, "option 'auth' is too long");
    lua_pop(L, 1);
}

/* host:port, the host in brackets when it is an IPv6 address. */
static void read_connect_to(lua_State *L, int options, struct options *out)
{
    const char *text = bind_opt_text(L, options, "connect_to", NULL),
               *colon = text ? strrchr(text, ':') : NULL;
    size_t host = colon ? (size_t)(colon - text) : 0, digits = colon ? strspn(colon + 1, "0123456789") : 0;
    long port = digits ? strtol(colon + 1, NULL, 10) : 0; /* of digits alone; too many are LONG_MAX */
    bool bracketed = host > 2 && text[0] == '[' && text[host - 1] == ']';

    if (text &&
        (!host || host > 255 || digits > 5 || port < 1 || port > 65535 || colon[digits + 1] ||
         (!bracketed && strcspn(text, ":[]") < host) || strcspn(text, " \t\r\n/?#@,\\") != strlen(text)))
        bind_error(L, "option 'connect_to' must be host:port");
    out->request.connect_to = text;
}

static void check_together(lua_State *L, struct options *out)
{
    struct http_request *r = &out->request;

    if (r->body && r->body_file)
        bind_error(L, "options 'body' and 'body_file' exclude each other");
    if (r->sink && r->stream)
        bind_error(L, "options 'sink' and 'stream' exclude each other");
    if (r->insecure && r->ca)
        bind_error(L, "options 'insecure' and 'ca' exclude each other");
    if (r->unix_path && r->connect_to)
        bind_error(L, "options 'unix' and 'connect_to' exclude each other");
    if (r->unix_path && strlen(r->unix_path) > 107)
        bind_error(L, "option 'unix' is longer than a socket's path may be (107 bytes)");
    if (!r->max_body && !r->stream)
        r->max_body = r->sink ? UINT64_C(1) << 30 : UINT64_C(8) << 20;
}

/* ---- headers: measured, then copied into the job, so that a secret is copied once ---- */

/* RFC 9110; a NUL behind the text ends it. */
static bool is_token(const char *text, size_t len)
{
    return len && strspn(text, "!#$%&'*+-.^_`|~0123456789"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") == len;
}

/* Values may hold anything but what would start another header. They are never repeated in a message. */
static const char *check_value(lua_State *L, int at, const char *name, size_t *len)
{
    const char *value;

    if (lua_type(L, at) != LUA_TSTRING && lua_type(L, at) != LUA_TNUMBER)
        bind_error(L, "header '%s' must be a string, a number or a list of them", name);
    value = lua_tolstring(L, at, len);
    for (size_t i = 0; i < *len; i++)
        if (value[i] == '\r' || value[i] == '\n' || value[i] == '\0')
            bind_error(L, "header '%s' holds a line break or a NUL byte", name);
    return value;
}

static const char *check_name(lua_State *L, int at, const struct options *o, size_t *len)
{
    static const char *const ours[] = {"content-length", "transfer-encoding", "connection", "expect", NULL};
    const char *name;

    if (lua_type(L, at) != LUA_TSTRING)
        bind_error(L, "header names must be strings");
    name = lua_tolstring(L, at, len);
    if (!is_token(name, *len))
        bind_error(L, "a header's name holds a character that is not allowed there");
    for (int i = 0; ours[i]; i++)
        if (strcasecmp(name, ours[i]) == 0)
            bind_error(L, "header '%s' is set by the client itself", ours[i]);
    if ((o->user || o->password || o->bearer) && strcasecmp(name, "authorization") == 0)
        bind_error(L, "header 'authorization' and option 'auth' exclude each other");
    if (o->etag && strcasecmp(name, "if-none-match") == 0)
        bind_error(L, "header 'if-none-match' and option 'etag' exclude each other");
    return name;
}

/* Without a job: checks and counts one value; with one: adds it. */
static void one_header(lua_State *L, struct options *count, struct http_job *job, const char *name,
                       size_t name_len)
{
    size_t len;
    const char *text;

    if (job) {
        text = lua_tolstring(L, -1, &len);
        if (!http_job_header(job, name, name_len, text, len))
            luaL_error(L, "not enough room for the request's headers");
        return;
    }
    check_value(L, -1, name, &len);
    count->headers++;
    count->bytes += name_len + len;
}

/* The stack stays as it was. */
static void walk_headers(lua_State *L, int headers, struct options *o, struct http_job *job)
{
    if (lua_isnoneornil(L, headers))
        return;
    if (!lua_istable(L, headers))
        bind_error(L, "option 'headers' must be a table, not a %s", luaL_typename(L, headers));
    lua_pushnil(L);
    while (lua_next(L, headers)) { /* name value */
        size_t name_len;
        const char *name = job ? lua_tolstring(L, -2, &name_len) : check_name(L, -2, o, &name_len);

        if (lua_type(L, -1) == LUA_TTABLE) {
            lua_Integer n = (lua_Integer)lua_rawlen(L, -1);

            for (lua_Integer i = 1; i <= n; i++) {
                lua_rawgeti(L, -1, i);
                one_header(L, o, job, name, name_len);
                lua_pop(L, 1);
            }
        } else {
            one_header(L, o, job, name, name_len);
        }
        lua_pop(L, 1);
    }
}

static void add_headers(lua_State *L, int headers, const struct options *o, struct http_job *job)
{
    bool ok = true;

    walk_headers(L, headers, NULL, job);
    if (o->etag)
        ok = ok && http_job_header(job, "If-None-Match", 13, o->etag, o->etag_len);
    if (o->bearer)
        ok = ok && http_job_bearer(job, o->bearer, o->bearer_len);
    else if (o->user || o->password)
        ok = ok && http_job_basic(job, o->user ? o->user : "", o->user_len, o->password ? o->password : "",
                                  o->password_len);
    if (!ok)
        luaL_error(L, "not enough room for the request's headers");
}

static void read_table(lua_State *L, int options, struct options *out)
{
    struct http_request *r = &out->request;
    lua_Integer max_body = bind_opt_integer(L, options, "max_body", LUA_MININTEGER);

    if (lua_rawlen(L, options))
        bind_error(L, "options have names (usage: %s)", HTTP_USAGE);
    if (max_body < 1 && max_body != LUA_MININTEGER)
        bind_error(L, "option 'max_body' must be at least 1");
    r->max_body = max_body > 0 ? (uint64_t)max_body : 0;
    r->body = bind_opt_bytes(L, options, "body", &r->body_len);
    r->body_file = bind_opt_text(L, options, "body_file", NULL);
    r->sink = bind_opt_text(L, options, "sink", NULL);
    r->unix_path = bind_opt_text(L, options, "unix", NULL);
    r->ca = bind_opt_text(L, options, "ca", NULL);
    r->cert = bind_opt_text(L, options, "cert", NULL);
    r->key = bind_opt_text(L, options, "key", NULL);
    r->connect_ms = millis_option(L, options, "connect_timeout", 10);
    r->idle_ms = millis_option(L, options, "idle_timeout", 0);
    r->stream = bind_opt_bool(L, options, "stream", false);
    r->insecure = bind_opt_bool(L, options, "insecure", false);
    out->etag = bind_opt_bytes(L, options, "etag", &out->etag_len);
    read_connect_to(L, options, out);
    read_auth(L, options, out);
}

/* Reads the option table at `options` (nil is fine) and measures the headers of the table at `headers`.
 * Leaves the body on top of the stack (or nil), so that it outlives the option table. */
static void read_options(lua_State *L, int options, int headers, struct options *out)
{
    static const char *const known[] = {
        "auth",    "body",         "body_file", "ca",  "cert",     "connect_timeout", "connect_to", "etag",
        "headers", "idle_timeout", "insecure",  "key", "max_body", "method",          "redirects",  "sink",
        "stream",  "timeout",      "unix",      "url", NULL, /* some are http.lua's */
    };
    struct http_request *r = &out->request;

    memset(out, 0, sizeof *out);
    r->connect_ms = 10000;
    bind_plain(L, headers);
    if (bind_options(L, options, HTTP_USAGE, known))
        read_table(L, options, out);
    check_together(L, out);
    if (!out->etag_len)
        out->etag = NULL;
    if (out->etag) {
        lua_pushlstring(L, out->etag, out->etag_len);
        check_value(L, -1, "if-none-match", &out->etag_len);
        lua_pop(L, 1);
    }
    walk_headers(L, headers, out, NULL);
    out->headers += 2;
    out->bytes +=
        out->etag_len + 13 + out->bearer_len + 24 + HTTP_BASIC_SIZE(out->user_len, out->password_len);
    if (out->request.body)
        bind_field(L, options, "body");
    else
        lua_pushnil(L);
}

/* ---- answers ----
 *
 * Most polls read only the status, so headers are handed over as one string and taken apart when a
 * script asks for them. */

/* The only value of a header, by its lower-case name; sets *several when there are more. */
static const char *find(const struct http_job *job, const char *name, bool *several)
{
    const char *at = job->head.data, *found = NULL;

    *several = false;
    for (size_t i = 0; at && i < job->head_len; i++) {
        const char *value = at + strlen(at) + 1;

        if (strcmp(at, name) == 0) {
            *several = found != NULL;
            found = found ? found : value;
        }
        at = value + strlen(value) + 1;
    }
    return found;
}

static void push_redirect(lua_State *L, const struct http_job *job)
{
    bool several;
    const char *location = find(job, "location", &several);

    if (!location)
        return;
    if (several)
        lua_pushboolean(L, true);
    else
        lua_pushstring(L, location);
    lua_setfield(L, -2, "location");
    lua_pushboolean(L, job->peer_private);
    lua_setfield(L, -2, "peer_private");
}

/* Pushes {status=, elapsed=, http_version=, url=, body=, [1] = raw headers}; the URL is the string at `url`.
 * A redirecting status has location= (true when there are several) and peer_private= as well. */
static void push_answer(lua_State *L, const struct http_job *job, int url)
{
    luaL_checkstack(L, 4, "http");
    lua_createtable(L, 1, 8);
    lua_pushlstring(L, job->head.data ? job->head.data : "", job->head.len);
    lua_rawseti(L, -2, 1);
    lua_pushinteger(L, job->status);
    lua_setfield(L, -2, "status");
    lua_pushnumber(L, job->elapsed);
    lua_setfield(L, -2, "elapsed");
    lua_pushstring(L, job->http_version == 20 ? "2" : job->http_version == 10 ? "1.0" : "1.1");
    lua_setfield(L, -2, "http_version");
    lua_pushvalue(L, url);
    lua_setfield(L, -2, "url");
    if (!job->stream) {
        lua_pushlstring(L, job->body.data ? job->body.data : "", job->body.len);
        lua_setfield(L, -2, "body");
    }
    if (job->status / 100 == 3)
        push_redirect(L, job);
}

/* stack: ... headers map names name. Adds the value to the list of that name's values. Pops the name. */
static void add_repeated(lua_State *L, int headers, int map, const char *value, size_t len)
{
    if (lua_rawgeti(L, headers, 2) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawseti(L, headers, 2);
    } /* name repeated */
    lua_pushvalue(L, -2);
    if (lua_rawget(L, -2) == LUA_TNIL) { /* name repeated nil */
        lua_pop(L, 1);
        lua_createtable(L, 2, 0); /* name repeated values */
        lua_pushvalue(L, -3);
        lua_rawget(L, map);
        lua_rawseti(L, -2, 1);
        lua_pushvalue(L, -3);
        lua_pushvalue(L, -2);
        lua_rawset(L, -4);
    } /* name repeated values */
    lua_pushlstring(L, value, len);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 3);
}

/* headers(raw): {map, repeated or nil, names} of an answer's raw headers: map has each name's first value,
 * repeated the lists of all values, names the order. */
static int l_headers(lua_State *L)
{
    size_t len;
    const char *raw = luaL_checklstring(L, 1, &len), *end = raw + len;
    lua_Integer names = 0;
    int headers;

    luaL_checkstack(L, 10, "http");
    lua_createtable(L, 3, 0);
    headers = lua_gettop(L);
    lua_newtable(L); /* headers map */
    lua_newtable(L); /* headers map names */
    while (raw < end) {
        size_t name_len = strlen(raw), value_len; /* Lua has put a NUL at the end */
        const char *value = raw + name_len + 1;

        if (value > end)
            break; /* not what push_answer has made */
        value_len = strlen(value);
        lua_pushlstring(L, raw, name_len);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, headers + 1) == LUA_TNIL) { /* headers map names name nil */
            lua_pop(L, 1);
            lua_pushvalue(L, -1);
            lua_rawseti(L, headers + 2, ++names);
            lua_pushlstring(L, value, value_len);
            lua_rawset(L, headers + 1);
        } else {
            lua_pop(L, 1);
            add_repeated(L, headers, headers + 1, value, value_len);
        }
        raw = value + value_len + 1;
    }
    lua_rawseti(L, headers, 3);
    lua_rawseti(L, headers, 1);
    return 1;
}

/* ---- streams: read, line, close; one task reads at a time, and closing wakes it ---- */

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

/* ---- request ---- */

/* Where request has its body and its op. */
enum { BODY_AT = 9, OP_AT };

struct request_op {
    struct op op;
    struct http_job *job;
};

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
    struct stream *s;

    if (op->timed_out && !job->head_done)
        http_job_fail(job, ERR_TIMEOUT, "no answer within the time allowed");
    if (job->err.code && !(job->stream && job->head_done))
        return err_return(L, &job->err, lua_tostring(L, 1), lua_tostring(L, 3));
    push_answer(L, job, 3);
    if (!job->stream)
        return 1;
    s = bind_new(L, sizeof *s, STREAM_CLASS);
    s->job = job;
    job->owner = s;
    job->on_ready = on_stream_ready;
    r->job = NULL;
    lua_pushvalue(L, OP_AT);
    lua_setiuservalue(L, -2, 1); /* curl may still be sending the body */
    return 2;
}

/* request(op, method, url, handle, headers, options, timeout, public_only) */
static int l_request(lua_State *L)
{
    struct options o;
    struct http_url *url;
    struct request_op *r;
    struct host *host = bind_host(L);
    struct err e = {0};
    lua_Number timeout;

    lua_settop(L, 8);
    url = bind_self(L, 4, URL_CLASS);
    read_options(L, 6, 5, &o); /* leaves the body at BODY_AT */
    bind_text(L, 1, HTTP_USAGE);
    o.request.method = bind_text(L, 2, HTTP_USAGE);
    o.request.url = bind_text(L, 3, HTTP_USAGE);
    o.request.parsed = url->parsed;
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
    add_headers(L, 5, &o, r->job);
    r->job->owner = r;
    r->job->on_ready = on_request_ready;
    if (!http_job_start(r->job, &o.request, &e))
        return err_return(L, &e, lua_tostring(L, 1), lua_tostring(L, 3));
    if (o.request.stream) /* only its head has a time limit, for which curl has no option */
        op_timeout(L, &r->op, o.request.timeout_ms);
    return op_wait(L, &r->op, request_finish);
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
    static const luaL_Reg stream_methods[] = {
        {"read", l_stream_read},
        {"line", l_stream_line},
        {"close", l_stream_close},
        {NULL, NULL},
    };
    static const luaL_Reg functions[] = {
        {"request", l_request}, {"url", l_url},     {"headers", l_headers},
        {"mistake", l_mistake}, {"stats", l_stats}, {NULL, NULL},
    };

    bind_closable(L, STREAM_CLASS, stream_methods, l_stream_close);
    bind_closable(L, URL_CLASS, NULL, l_url_gc);
    luaL_newlib(L, functions);
    return 1;
}
