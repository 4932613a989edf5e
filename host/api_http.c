/* core.http: one request, one hop; URL parsing. stdlib/http.lua makes the public face.
 *
 * Waiting: request. Its op owns the job until the frame is left, unless the answer is streamed: then the job
 * goes over to a handle (http_stream.c). */
#include <stdlib.h>
#include <string.h>
#include <openssl/evp.h>
#include "api.h"
#include "bind.h"
#include "err.h"
#include "host.h"
#include "http_job.h"
#include "http_stream.h"
#include "http_url.h"
#include "task.h"

#define URL_CLASS "moontide.http_url"

#define USAGE "http.request{method=, url= [, options]}"

static const char *const known_options[] = {
    "auth",    "body",         "body_file", "ca",       "cert",   "connect_timeout", "etag",
    "headers", "idle_timeout", "key",       "max_body", "method", "redirects",       "sink",
    "stream",  "timeout",      "unix",      "url",      NULL,
};

struct request_op {
    struct op op;
    struct http_job *job;
};

/* ---- request headers ---- */

static bool is_token(const char *text, size_t len)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              (c && strchr(marks, c))))
            return false;
    }
    return len > 0;
}

/* Values may hold anything but what would start another header. They are never repeated in a message. */
static const char *check_value(lua_State *L, int at, const char *name, size_t *len)
{
    const char *value;

    if (lua_type(L, at) != LUA_TSTRING && lua_type(L, at) != LUA_TNUMBER)
        bind_error(L, "header '%s' must be a string, a number or a list of strings", name);
    value = lua_tolstring(L, at, len);
    for (size_t i = 0; i < *len; i++)
        if (value[i] == '\r' || value[i] == '\n' || value[i] == '\0')
            bind_error(L, "header '%s' holds a line break or a NUL byte", name);
    return value;
}

static const char *check_name(lua_State *L, int at, size_t *len)
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
    return name;
}

/* Calls for one header value: adds up its size, or (with a job) adds the header. */
static void one_header(lua_State *L, struct http_job *job, int value, const char *name, size_t name_len,
                       size_t *size)
{
    size_t len;
    const char *text = check_value(L, value, name, &len);

    if (!job)
        *size += name_len + len + 4;
    else if (!http_job_header(job, name, name_len, text, len))
        luaL_error(L, "not enough memory");
}

/* Walks the table at `arg`: once to check and measure, once to copy. The stack stays as it was. */
static size_t walk_headers(lua_State *L, int arg, struct http_job *job)
{
    size_t size = 0;

    if (lua_isnoneornil(L, arg))
        return 0;
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, arg)) { /* name value */
        size_t name_len;
        const char *name = check_name(L, -2, &name_len);

        if (lua_type(L, -1) == LUA_TTABLE) {
            int list = lua_gettop(L);
            lua_Integer n = luaL_len(L, list);

            for (lua_Integer i = 1; i <= n; i++) {
                lua_rawgeti(L, list, i);
                one_header(L, job, -1, name, name_len, &size);
                lua_pop(L, 1);
            }
        } else {
            one_header(L, job, -1, name, name_len, &size);
        }
        lua_pop(L, 1);
    }
    return size;
}

/* ---- the answer ---- */

/* Pushes {map, repeated or nil, names}: map has each name's first value, repeated the lists of all values. */
static void push_headers(lua_State *L, const struct http_job *job)
{
    const char *at = job->head.data;
    lua_Integer names = 0;
    int map, list;

    lua_createtable(L, 3, 0); /* headers */
    lua_createtable(L, 0, (int)job->head_len);
    lua_createtable(L, (int)job->head_len, 0);
    list = lua_gettop(L); /* headers map names */
    map = list - 1;
    for (size_t i = 0; i < job->head_len; i++) {
        size_t name_len = strlen(at), len = strlen(at + name_len + 1);

        lua_pushlstring(L, at, name_len);
        at += name_len + 1;
        lua_pushvalue(L, -1);
        if (lua_rawget(L, map) == LUA_TNIL) { /* headers map names name nil */
            lua_pop(L, 1);
            lua_pushvalue(L, -1);
            lua_rawseti(L, list, ++names);
            lua_pushlstring(L, at, len);
            lua_rawset(L, map);
        } else { /* headers map names name first */
            if (lua_rawgeti(L, map - 1, 2) == LUA_TNIL) {
                lua_pop(L, 1);
                lua_newtable(L);
                lua_pushvalue(L, -1);
                lua_rawseti(L, map - 1, 2);
            }
            lua_pushvalue(L, -3);
            if (lua_rawget(L, -2) == LUA_TNIL) { /* ... name first repeated nil */
                lua_pop(L, 1);
                lua_createtable(L, 2, 0);
                lua_pushvalue(L, -3);
                lua_rawseti(L, -2, 1);
                lua_pushvalue(L, -4);
                lua_pushvalue(L, -2);
                lua_rawset(L, -4);
            }
            lua_pushlstring(L, at, len); /* ... name first repeated values value */
            lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
            lua_pop(L, 4);
        }
        at += len + 1;
    }
    lua_rawseti(L, map - 1, 3);
    lua_rawseti(L, map - 1, 1);
}

static void push_answer(lua_State *L, const struct http_job *job)
{
    luaL_checkstack(L, 16, "http");
    lua_createtable(L, 0, 8);
    lua_pushinteger(L, job->status);
    lua_setfield(L, -2, "status");
    lua_pushnumber(L, job->elapsed);
    lua_setfield(L, -2, "elapsed");
    lua_pushstring(L, job->http_version == 20 ? "2" : job->http_version == 10 ? "1.0" : "1.1");
    lua_setfield(L, -2, "http_version");
    push_headers(L, job);
    lua_setfield(L, -2, "headers");
    if (job->status / 100 == 3) {
        lua_pushboolean(L, job->peer_private);
        lua_setfield(L, -2, "peer_private");
    }
}

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

/* stack: the arguments of request. Results: answer [, stream], or nil and the error. */
static int request_finish(lua_State *L, struct op *op)
{
    struct request_op *r = (struct request_op *)op;
    struct http_job *job = r->job;

    if (job->err.code && !(job->stream && job->head_done))
        return err_return(L, &job->err, lua_tostring(L, 1), lua_tostring(L, 3));
    push_answer(L, job);
    if (!job->stream) {
        lua_pushlstring(L, job->body.data ? job->body.data : "", job->body.len);
        lua_setfield(L, -2, "body");
        return 1;
    }
    http_stream_push(L, &r->job);
    return 2;
}

static uint64_t seconds_option(lua_State *L, int arg, const char *name, lua_Number fallback)
{
    lua_Number value = bind_opt_number(L, arg, name, fallback);

    if (value < 0)
        bind_error(L, "option '%s' must not be negative", name);
    return bind_millis(value > 1e6 ? 1e6 : value);
}

static void read_options(lua_State *L, int arg, struct http_request *r)
{
    lua_Integer max_body;

    r->body = bind_opt_bytes(L, arg, "body", &r->body_len);
    r->body_file = bind_opt_text(L, arg, "body_file", NULL);
    r->sink = bind_opt_text(L, arg, "sink", NULL);
    r->unix_path = bind_opt_text(L, arg, "unix", NULL);
    r->ca = bind_opt_text(L, arg, "ca", NULL);
    r->cert = bind_opt_text(L, arg, "cert", NULL);
    r->key = bind_opt_text(L, arg, "key", NULL);
    r->stream = bind_opt_bool(L, arg, "stream", false);
    r->connect_ms = seconds_option(L, arg, "connect_timeout", 10);
    r->idle_ms = seconds_option(L, arg, "idle_timeout", 0);
    max_body = bind_opt_integer(L, arg, "max_body", r->stream ? 0 : r->sink ? 1 << 30 : 8 << 20);
    if (max_body < 0 || (max_body == 0 && !r->stream))
        bind_error(L, "option 'max_body' must be at least 1");
    r->max_body = (uint64_t)max_body;
    if (r->body && r->body_file)
        bind_error(L, "options 'body' and 'body_file' exclude each other");
    if (r->sink && r->stream)
        bind_error(L, "options 'sink' and 'stream' exclude each other");
    if (r->unix_path && strlen(r->unix_path) > 107)
        bind_error(L, "option 'unix' is longer than a socket's path may be (107 bytes)");
}

static int l_request(lua_State *L)
{
    struct http_request request = {0};
    struct request_op *r;
    struct err e = {0};
    lua_Number timeout;
    size_t size;

    lua_settop(L, 7);
    bind_text(L, 1, USAGE);
    request.method = bind_text(L, 2, USAGE);
    request.url = bind_text(L, 3, USAGE);
    size = walk_headers(L, 4, NULL);
    bind_options(L, 5, USAGE, known_options);
    read_options(L, 5, &request);
    timeout = luaL_checknumber(L, 6);
    request.timeout_ms = timeout > 0 ? bind_millis(timeout > 1e6 ? 1e6 : timeout) : 1;
    request.public_only = lua_toboolean(L, 7);
    r = op_new(L, sizeof *r, NULL);
    r->op.leave = request_leave;
    r->job = http_job_new(bind_host(L), &e);
    if (!r->job)
        return err_return(L, &e, lua_tostring(L, 1), lua_tostring(L, 3));
    if (size && !buf_room(&r->job->lines, size))
        return err_fail(L, ERR_MEMORY, lua_tostring(L, 1), lua_tostring(L, 3), "not enough memory");
    walk_headers(L, 4, r->job);
    r->job->owner = r;
    r->job->on_ready = on_request_ready;
    if (!http_job_start(r->job, &request, &e))
        return err_return(L, &e, lua_tostring(L, 1), lua_tostring(L, 3));
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

/* url(text [, base]): its parts, or nil and a table {code, message}. */
static int l_url(lua_State *L)
{
    const char *text = bind_text(L, 1, "core.http.url(text [, base])");
    const char *base = lua_isnoneornil(L, 2) ? NULL : bind_text(L, 2, "core.http.url(text [, base])");
    struct http_url *u;
    struct err e = {0};

    lua_settop(L, 2);
    u = bind_new(L, sizeof *u, URL_CLASS);
    lua_toclose(L, -1);
    if (!http_url_parse(u, text, base, &e))
        return err_return(L, &e, "http.url", NULL); /* the text may hold a password */
    lua_createtable(L, 0, 9);
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
    return 1;
}

/* basic(user, password): the Authorization value (RFC 7617). */
static int l_basic(lua_State *L)
{
    size_t user_len, password_len;
    const char *user = luaL_checklstring(L, 1, &user_len);
    const char *password = luaL_checklstring(L, 2, &password_len);
    luaL_Buffer b;
    char *out;

    luaL_argcheck(L, user_len < 4096 && password_len < 65536, 1, "too long");
    luaL_argcheck(L, strlen(user) == user_len && strlen(password) == password_len, 1, "holds a NUL byte");
    lua_pushfstring(L, "%s:%s", user, password);
    user = lua_tolstring(L, -1, &user_len);
    out = luaL_buffinitsize(L, &b, 6 + 4 * ((user_len + 2) / 3) + 1);
    memcpy(out, "Basic ", 6);
    luaL_pushresultsize(&b, 6 + (size_t)EVP_EncodeBlock((unsigned char *)out + 6, (const unsigned char *)user,
                                                        (int)user_len));
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
    struct curl_loop_stats stats = curl_loop_stats(bind_host(L));

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
        {"request", l_request}, {"url", l_url}, {"basic", l_basic}, {"mistake", l_mistake}, {"stats", l_stats}, {NULL, NULL},
    };

    http_stream_open(L);
    bind_class(L, URL_CLASS, none, url_meta);
    luaL_newlib(L, functions);
    return 1;
}
