/* What a script asks for: one walk over its option table, two over its headers (measure, then copy). */
#include "http_options.h"

#include <stdlib.h>
#include <string.h>
#include <lauxlib.h>
#include "bind.h"

/* In alphabetical order; known_names follows it. */
#define OPTIONS(X)                                                                                           \
    X(AUTH, "auth")                                                                                          \
    X(BODY, "body")                                                                                          \
    X(BODY_FILE, "body_file")                                                                                \
    X(CA, "ca")                                                                                              \
    X(CERT, "cert")                                                                                          \
    X(CONNECT_TIMEOUT, "connect_timeout")                                                                    \
    X(CONNECT_TO, "connect_to")                                                                              \
    X(ETAG, "etag")                                                                                          \
    X(HEADERS, "headers")                                                                                    \
    X(IDLE_TIMEOUT, "idle_timeout")                                                                          \
    X(INSECURE, "insecure")                                                                                  \
    X(KEY, "key")                                                                                            \
    X(MAX_BODY, "max_body")                                                                                  \
    X(METHOD, "method")                                                                                      \
    X(REDIRECTS, "redirects")                                                                                \
    X(SINK, "sink")                                                                                          \
    X(STREAM, "stream")                                                                                      \
    X(TIMEOUT, "timeout")                                                                                    \
    X(UNIX, "unix")                                                                                          \
    X(URL, "url")

enum option {
#define X(id, name) OPTION_##id,
    OPTIONS(X)
#undef X
        OPTION_COUNT
};

static const char *const known_names[] = {
#define X(id, name) name,
    OPTIONS(X)
#undef X
        NULL,
};

static enum option option_find(const char *name)
{
    int low = 0, high = OPTION_COUNT - 1;

    while (low <= high) {
        int middle = (low + high) / 2, order = strcmp(name, known_names[middle]);

        if (order == 0)
            return (enum option)middle;
        if (order < 0)
            high = middle - 1;
        else
            low = middle + 1;
    }
    return OPTION_COUNT;
}

/* ---- values: the option's own is on top of the stack; bind.h says what is wrong with it ---- */

static const char *text_of(lua_State *L, int options, enum option o)
{
    size_t len = 0;
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;

    if (!text || strlen(text) != len)
        bind_opt_text(L, options, known_names[o], NULL);
    return text;
}

static const char *bytes_of(lua_State *L, int options, enum option o, size_t *len)
{
    if (lua_type(L, -1) != LUA_TSTRING)
        bind_opt_bytes(L, options, known_names[o], len);
    return lua_tolstring(L, -1, len);
}

static uint64_t millis_of(lua_State *L, int options, enum option o)
{
    lua_Number value = bind_opt_number(L, options, known_names[o], 0);

    if (value < 0)
        bind_error(L, "option '%s' must not be negative", known_names[o]);
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

static void read_auth(lua_State *L, struct http_options *out)
{
    static const char *const known[] = {"bearer", "password", "user", NULL};

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
}

/* host:port, the host in brackets when it is an IPv6 address. */
static void read_connect_to(lua_State *L, int options, struct http_options *out)
{
    const char *text = text_of(L, options, OPTION_CONNECT_TO), *colon = strrchr(text, ':');
    size_t host = colon ? (size_t)(colon - text) : 0, digits = colon ? strspn(colon + 1, "0123456789") : 0;
    long port = digits ? strtol(colon + 1, NULL, 10) : 0; /* of digits alone; too many are LONG_MAX */
    bool bracketed = host > 2 && text[0] == '[' && text[host - 1] == ']';

    if (!host || host > 255 || digits > 5 || port < 1 || port > 65535 || colon[digits + 1] ||
        (!bracketed && strcspn(text, ":[]") < host) || strcspn(text, " \t\r\n/?#@,\\") != strlen(text))
        bind_error(L, "option 'connect_to' must be host:port");
    out->request.connect_to = text;
}

static void read_option(lua_State *L, int options, enum option o, struct http_options *out)
{
    struct http_request *r = &out->request;
    lua_Integer max_body;

    switch (o) {
    case OPTION_AUTH:
        read_auth(L, out);
        break;
    case OPTION_BODY:
        r->body = bytes_of(L, options, o, &r->body_len);
        break;
    case OPTION_BODY_FILE:
        r->body_file = text_of(L, options, o);
        break;
    case OPTION_CA:
        r->ca = text_of(L, options, o);
        break;
    case OPTION_CERT:
        r->cert = text_of(L, options, o);
        break;
    case OPTION_CONNECT_TIMEOUT:
        r->connect_ms = millis_of(L, options, o);
        break;
    case OPTION_CONNECT_TO:
        read_connect_to(L, options, out);
        break;
    case OPTION_ETAG:
        out->etag = bytes_of(L, options, o, &out->etag_len);
        break;
    case OPTION_IDLE_TIMEOUT:
        r->idle_ms = millis_of(L, options, o);
        break;
    case OPTION_INSECURE:
        r->insecure = bind_opt_bool(L, options, known_names[o], false);
        break;
    case OPTION_KEY:
        r->key = text_of(L, options, o);
        break;
    case OPTION_MAX_BODY:
        max_body = bind_opt_integer(L, options, known_names[o], 0);
        if (max_body < 1)
            bind_error(L, "option 'max_body' must be at least 1");
        r->max_body = (uint64_t)max_body;
        break;
    case OPTION_SINK:
        r->sink = text_of(L, options, o);
        break;
    case OPTION_STREAM:
        r->stream = bind_opt_bool(L, options, known_names[o], false);
        break;
    case OPTION_UNIX:
        r->unix_path = text_of(L, options, o);
        break;
    default: /* http.lua has dealt with them */
        break;
    }
}

static void check_together(lua_State *L, struct http_options *out)
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

/* ---- headers ---- */

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
        bind_error(L, "header '%s' must be a string, a number or a list of them", name);
    value = lua_tolstring(L, at, len);
    for (size_t i = 0; i < *len; i++)
        if (value[i] == '\r' || value[i] == '\n' || value[i] == '\0')
            bind_error(L, "header '%s' holds a line break or a NUL byte", name);
    return value;
}

static const char *check_name(lua_State *L, int at, const struct http_options *o, size_t *len)
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
static void one_header(lua_State *L, struct http_options *count, struct http_job *job, const char *name,
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
static void walk_headers(lua_State *L, int headers, struct http_options *o, struct http_job *job)
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

void http_options_headers(lua_State *L, int headers, const struct http_options *o, struct http_job *job)
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

void http_options_read(lua_State *L, int options, int headers, struct http_options *out)
{
    memset(out, 0, sizeof *out);
    out->request.connect_ms = 10000;
    bind_plain(L, options);
    bind_plain(L, headers);
    if (lua_istable(L, options)) {
        lua_pushnil(L);
        while (lua_next(L, options)) { /* name value */
            enum option o = lua_type(L, -2) == LUA_TSTRING ? option_find(lua_tostring(L, -2)) : OPTION_COUNT;

            if (o == OPTION_COUNT) {
                bind_options(L, options, HTTP_USAGE, known_names);
                bind_error(L, "options have names (usage: %s)", HTTP_USAGE);
            }
            read_option(L, options, o, out);
            lua_pop(L, 1);
        }
    }
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
