/* core.serve: servers whose requests are taken by a task, and the request that a task answers.
 *
 * Waits: server:accept, server:close, request:receive, request:write. Server and request are handles over
 * serve.c's structures; either may end first. Callbacks from there only set pointers and wake ops. Reading
 * and routing a request is in stdlib/serve.lua. */
#include <lua.h>
#include <lauxlib.h>
#include "api.h"
#include "bind.h"
#include "err_lua.h"
#include "host.h"
#include "op.h"
#include "serve.h"
#include "task.h"

#define SERVER_CLASS  "moontide.server"
#define REQUEST_CLASS "moontide.request"
#define FIELDS_MAX    64

struct server {
    struct serve *serve; /* NULL: closed */
    struct op *accept, *close;
};

struct request {
    struct serve_request *r; /* NULL: closed */
    struct task_link handler;
    struct op *wait; /* for room, or for the body */
};

static void server_on_request(void *data)
{
    struct server *sv = data;

    op_done(sv->accept);
}

static void server_on_idle(void *data)
{
    struct server *sv = data;

    op_done(sv->close);
}

static void server_on_closed(void *data)
{
    struct server *sv = data;

    sv->serve = NULL;
    op_done(sv->accept);
    op_done(sv->close);
}

static bool listen_socket(lua_State *L, struct serve_socket *socket, struct err *e)
{
    const char *path = bind_opt_text(L, 1, "unix", NULL);

    if (path)
        return serve_socket_unix(socket, path, bind_opt_text(L, 1, "group", NULL), e);
    return serve_socket_tcp(socket, bind_opt_text(L, 1, "address", "127.0.0.1"),
                            (uint16_t)bind_opt_integer(L, 1, "port", 0), e);
}

static lua_Integer limit_option(lua_State *L, const char *name, lua_Integer fallback, lua_Integer least,
                                lua_Integer most)
{
    lua_Integer value = bind_opt_integer(L, 1, name, fallback);

    if (value < least || value > most)
        luaL_error(L, "serve.listen: %s must be between %I and %I", name, (LUAI_UACINT)least,
                   (LUAI_UACINT)most);
    return value;
}

/* listen{address=, port=, unix=, group=, max_body=, header_memory=, connections=, per_address=, timeout=}
 * -> server | nil, err */
static int l_listen(lua_State *L)
{
    static const char usage[] = "serve.listen{port=|unix=, handler=, ...}";
    static const char *const known[] = {"address",     "port",        "unix",    "max_body", "header_memory",
                                        "connections", "per_address", "timeout", "group",    NULL};
    struct serve_options o = {
        .on_request = server_on_request, .on_idle = server_on_idle, .on_closed = server_on_closed};
    struct serve_socket socket = {.fd = -1};
    struct host *host = bind_host(L);
    struct server *sv;
    struct err e = {.code = ERR_NONE};

    if (!bind_options(L, 1, usage, known))
        return bind_usage(L, usage);
    limit_option(L, "port", 0, 0, 65535);
    o.shared = bind_opt_text(L, 1, "group", NULL) != NULL;
    o.max_body = (size_t)limit_option(L, "max_body", 1 << 20, 0, 1 << 30);
    o.header_memory = (size_t)limit_option(L, "header_memory", 32768, 4096, 1 << 20);
    o.connections = (unsigned)limit_option(L, "connections", 64, 1, 10000);
    o.per_ip = (unsigned)limit_option(L, "per_address", 32, 0, 10000);
    o.timeout = bind_millis(bind_opt_number(L, 1, "timeout", 10));
    if (o.timeout < 100)
        o.timeout = 100;
    sv = bind_new(L, sizeof *sv, SERVER_CLASS);
    o.data = sv;
    if (!listen_socket(L, &socket, &e))
        return err_return(L, &e, "serve.listen",
                          bind_opt_text(L, 1, "unix", bind_opt_text(L, 1, "address", NULL)));
    sv->serve = serve_open(&host->loop, &host->serves, &socket, &o, &e);
    if (!sv->serve)
        return err_return(L, &e, "serve.listen", NULL);
    return 1;
}

static struct op *server_op(lua_State *L, struct op **slot)
{
    return op_claim(L, sizeof(struct op), NULL, slot, "the server is waited for already");
}

/* Takes the next request out of the queue of the server at index 1. */
static int push_request(lua_State *L, struct server *sv)
{
    struct request *q = bind_new(L, sizeof *q, REQUEST_CLASS);

    q->r = sv->serve ? serve_next(sv->serve) : NULL;
    return q->r ? 1 : 0;
}

static int accept_finish(lua_State *L, struct op *op)
{
    (void)op;
    return push_request(L, bind_self(L, 1, SERVER_CLASS));
}

/* server:accept() -> request; nothing once it is closed. Waits. */
static int l_accept(lua_State *L)
{
    struct server *sv = bind_self(L, 1, SERVER_CLASS);
    struct op *op;

    lua_settop(L, 1);
    if (!sv->serve || push_request(L, sv))
        return sv->serve ? 1 : 0;
    lua_settop(L, 1);
    op = server_op(L, &sv->accept);
    return op_wait(L, op, accept_finish);
}

static int close_finish(lua_State *L, struct op *op)
{
    (void)op;
    serve_close(((struct server *)bind_self(L, 1, SERVER_CLASS))->serve);
    return 0;
}

/* server:close(limit): stops listening, waits until the running requests are answered or the
 * seconds are over */
static int l_close(lua_State *L)
{
    struct server *sv = bind_self(L, 1, SERVER_CLASS);
    uint64_t limit = bind_millis(luaL_optnumber(L, 2, 5));
    struct op *op;

    if (!sv->serve)
        return 0;
    serve_drain(sv->serve, limit);
    if (serve_running(sv->serve) == 0 || limit == 0 || sv->close) {
        serve_close(sv->serve);
        return 0;
    }
    op = server_op(L, &sv->close);
    return op_wait(L, op, close_finish);
}

/* server:stop(): at once; also __gc and __close */
static int l_stop(lua_State *L)
{
    serve_close(((struct server *)bind_self(L, 1, SERVER_CLASS))->serve);
    return 0;
}

/* server:port() -> integer | nil */
static int l_port(lua_State *L)
{
    struct server *sv = bind_self(L, 1, SERVER_CLASS);

    if (!sv->serve || !serve_port(sv->serve))
        return 0;
    lua_pushinteger(L, serve_port(sv->serve));
    return 1;
}

static void request_on_gone(struct serve_request *r)
{
    struct request *q = r->data;

    if (q->handler.task)
        task_cancel(q->handler.task);
    op_done(q->wait);
}

static void request_on_progress(struct serve_request *r)
{
    struct request *q = r->data;

    op_done(q->wait);
}

static struct request *open_request(lua_State *L)
{
    struct request *q = bind_self(L, 1, REQUEST_CLASS);

    if (!q->r)
        luaL_error(L, "the request is closed");
    return q;
}

/* request:bind(): the running task handles it, and is cancelled when the client goes */
static int l_bind(lua_State *L)
{
    struct request *q = open_request(L);

    task_link(&q->handler, task_current(L));
    q->r->data = q;
    q->r->on_gone = request_on_gone;
    q->r->on_room = request_on_progress;
    q->r->on_body = request_on_progress;
    if ((!q->r->conn || q->r->cut) && q->handler.task)
        task_cancel(q->handler.task);
    return 0;
}

/* request:read() -> method, target, {name, value, ...}, peer */
static int l_read(lua_State *L)
{
    const struct serve_request *r = open_request(L)->r;

    lua_pushstring(L, r->method);
    lua_pushstring(L, r->target);
    lua_createtable(L, (int)r->header_count * 2, 0);
    for (size_t i = 0; i < r->header_count; i++) {
        lua_pushstring(L, r->headers[i].name);
        lua_rawseti(L, -2, (lua_Integer)i * 2 + 1);
        lua_pushlstring(L, r->headers[i].value, r->headers[i].value_len);
        lua_rawseti(L, -2, (lua_Integer)i * 2 + 2);
    }
    lua_createtable(L, 0, 2);
    if (r->peer.local) {
        lua_pushinteger(L, r->peer.uid);
        lua_setfield(L, -2, "uid");
        lua_pushinteger(L, r->peer.pid);
        lua_setfield(L, -2, "pid");
    } else {
        lua_pushstring(L, r->peer.address);
        lua_setfield(L, -2, "address");
    }
    return 4;
}

static int push_body(lua_State *L, const struct request *q)
{
    const struct serve_request *r = q->r;

    if (!r || !r->conn || r->cut || !r->whole || r->refusal)
        return err_fail(L, ERR_CLOSED, "serve.receive", NULL, "%s",
                        r && r->refusal ? r->refusal : "the client is gone");
    lua_pushlstring(L, r->body.data ? r->body.data : "", r->body.len);
    return 1;
}

static int wait_on(lua_State *L, struct request *q, op_finish finish)
{
    return op_wait(L, op_claim(L, sizeof(struct op), NULL, &q->wait, "the request is waited for already"),
                   finish);
}

static int receive_finish(lua_State *L, struct op *op)
{
    (void)op;
    return push_body(L, bind_self(L, 1, REQUEST_CLASS));
}

/* request:receive() -> body | nil, err. Waits until it is here; optional. */
static int l_receive(lua_State *L)
{
    struct request *q = open_request(L);

    if (!q->r->data || q->wait)
        return luaL_error(L, "no body is waited for here");
    if (serve_receive(q->r) || !q->r->receiving)
        return push_body(L, q);
    return wait_on(L, q, receive_finish);
}

/* The header list at `arg`, as C strings that belong to it. */
static size_t read_fields(lua_State *L, int arg, struct serve_field fields[FIELDS_MAX])
{
    size_t count = 0;

    luaL_checktype(L, arg, LUA_TTABLE);
    for (lua_Integer i = 1; lua_rawgeti(L, arg, i) != LUA_TNIL; i += 2) {
        size_t name_len, value_len;

        lua_rawgeti(L, arg, i + 1);
        if (count == FIELDS_MAX || lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
            luaL_error(L, "an answer's headers are up to %d pairs of strings", FIELDS_MAX);
        fields[count].name = lua_tolstring(L, -2, &name_len);
        fields[count].value = lua_tolstring(L, -1, &value_len);
        if (!serve_field_ok(fields[count].name, name_len, fields[count].value, value_len))
            luaL_error(L, "a header that cannot be sent: %s", fields[count].name);
        count++;
        lua_pop(L, 2);
    }
    lua_pop(L, 1);
    return count;
}

static unsigned read_status(lua_State *L, int arg)
{
    lua_Integer status = luaL_checkinteger(L, arg);

    if (status < 200 || status > 599)
        luaL_error(L, "an answer's status is between 200 and 599");
    return (unsigned)status;
}

static struct request *unanswered(lua_State *L)
{
    struct request *q = open_request(L);

    if (q->r->answered)
        luaL_error(L, "the request is answered already");
    return q;
}

/* request:reply(status, {name, value, ...}, body) -> true | nil, err */
static int l_reply(lua_State *L)
{
    struct request *q = unanswered(L);
    unsigned status = read_status(L, 2);
    struct serve_field fields[FIELDS_MAX];
    size_t count = read_fields(L, 3, fields), len;
    const char *body = luaL_checklstring(L, 4, &len);
    struct err e;

    if (!serve_reply(q->r, status, fields, count, body, len, &e))
        return err_return(L, &e, "serve.reply", NULL);
    lua_pushboolean(L, true);
    return 1;
}

/* request:stream(status, {name, value, ...}) -> true | nil, err */
static int l_stream(lua_State *L)
{
    struct request *q = unanswered(L);
    unsigned status = read_status(L, 2);
    struct serve_field fields[FIELDS_MAX];
    size_t count = read_fields(L, 3, fields);
    struct err e;

    if (!serve_stream(q->r, status, fields, count, &e))
        return err_return(L, &e, "serve.reply", NULL);
    lua_pushboolean(L, true);
    return 1;
}

static int write_finish(lua_State *L, struct op *op)
{
    struct request *q = bind_self(L, 1, REQUEST_CLASS);

    (void)op;
    if (!q->r || !q->r->conn || q->r->cut)
        return err_fail(L, ERR_CLOSED, "serve.write", NULL, "the client is gone");
    lua_pushboolean(L, true);
    return 1;
}

/* request:write(text) -> true | nil, err. Waits while too much is unsent. */
static int l_request_write(lua_State *L)
{
    struct request *q = open_request(L);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    struct err e;

    if (!q->r->streaming || q->r->finished || q->wait)
        return luaL_error(L, "no answer is being written here");
    if (!serve_write(q->r, text, len, &e))
        return err_return(L, &e, "serve.write", NULL);
    lua_pushboolean(L, true);
    if (serve_unsent(q->r) < SERVE_HIGH_WATER)
        return 1;
    return wait_on(L, q, write_finish);
}

/* request:finish(ok): ends the streamed answer */
static int l_finish(lua_State *L)
{
    serve_finish(open_request(L)->r, lua_toboolean(L, 2));
    return 0;
}

/* request:close(): gives it up; without an answer the connection is cut. Also __gc and __close. */
static int l_request_close(lua_State *L)
{
    struct request *q = bind_self(L, 1, REQUEST_CLASS);
    struct serve_request *r = q->r;

    task_link(&q->handler, NULL);
    q->r = NULL;
    if (r)
        serve_release(r);
    return 0;
}

static const luaL_Reg server_methods[] = {
    {"accept", l_accept}, {"close", l_close}, {"stop", l_stop}, {"port", l_port}, {NULL, NULL},
};

static const luaL_Reg request_methods[] = {
    {"bind", l_bind},     {"read", l_read},           {"receive", l_receive},
    {"reply", l_reply},   {"stream", l_stream},       {"write", l_request_write},
    {"finish", l_finish}, {"close", l_request_close}, {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"listen", l_listen},
    {NULL, NULL},
};

int luaopen_core_serve(lua_State *L)
{
    bind_closable(L, SERVER_CLASS, server_methods, l_stop);
    bind_closable(L, REQUEST_CLASS, request_methods, l_request_close);
    luaL_newlib(L, functions);
    return 1;
}
