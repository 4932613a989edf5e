/* core.proc: children with streams, over child.c. Waiting: handle:read, handle:write, handle:wait.
 *
 * stdlib/proc.lua is the only caller and checks what scripts give; here only what would break us is checked.
 * A handle owns its child; closing or collecting it ends the child's group, and so does the cancellation of a
 * task that waits on it. */
#include <math.h>
#include <signal.h>
#include <string.h>
#include "api.h"
#include "bind.h"
#include "child.h"
#include "host.h"
#include "op.h"
#include "proc.h"

#define CLASS "moontide.child"

struct proc_op {
    struct op op;
    struct handle *handle;
    struct child_stream *stream; /* read: the wanted one; NULL: any */
};

struct handle {
    struct child *child; /* NULL: closed */
    struct op *reader, *waiter, *writer;
};

/* --- arguments --- */

/* A NULL-terminated array of the strings of the list in field `name`, itself left on the stack. */
static char **list_field(lua_State *L, int arg, const char *name)
{
    lua_Integer n;
    const char **list;

    if (bind_field(L, arg, name) != LUA_TTABLE)
        luaL_error(L, "%s must be a list", name);
    n = (lua_Integer)lua_rawlen(L, -1);
    luaL_argcheck(L, n < 1000000, arg, "list too long");
    list = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *list, 0);
    for (lua_Integer i = 1; i <= n; i++) {
        size_t len;

        if (lua_rawgeti(L, -2, i) != LUA_TSTRING)
            luaL_error(L, "%s[%d] must be a string", name, (int)i);
        list[i - 1] = lua_tolstring(L, -1, &len); /* the list's own table keeps it alive */
        if (memchr(list[i - 1], '\0', len))
            luaL_error(L, "%s[%d] holds a NUL byte", name, (int)i);
        lua_pop(L, 1);
    }
    list[n] = NULL;
    return (char **)(void *)list;
}

/* A word, or a table with file= or data=. What the result points to belongs to the options table. */
static struct child_stdio stdio_field(lua_State *L, int arg, const char *name)
{
    static const char *const words[] = {"null", "pipe", "inherit", "file", "data", "merged", NULL};
    struct child_stdio io = {.kind = STDIO_NULL};
    int type = bind_field(L, arg, name), at = lua_gettop(L);

    if (type == LUA_TTABLE) {
        io.path = bind_opt_text(L, at, "file", NULL);
        io.append = bind_opt_bool(L, at, "append", false);
        io.data = bind_opt_bytes(L, at, "data", &io.len);
        io.kind = io.path ? STDIO_FILE : STDIO_DATA;
        luaL_argcheck(L, io.path || io.data, arg, "a stream needs file or data");
    } else {
        io.kind = (enum stdio_kind)luaL_checkoption(L, at, "null", words);
        luaL_argcheck(L, io.kind != STDIO_FILE && io.kind != STDIO_DATA, arg, "a stream needs a table");
    }
    return io;
}

static int signal_number(lua_State *L, int arg)
{
    const char *name;

    if (lua_type(L, arg) == LUA_TNUMBER) {
        lua_Integer n = luaL_checkinteger(L, arg);

        luaL_argcheck(L, n > 0 && n < NSIG, arg, "no such signal");
        return (int)n;
    }
    name = luaL_optstring(L, arg, "TERM");
    if (strncmp(name, "SIG", 3) == 0)
        name += 3;
    for (int s = 1; s < NSIG; s++) {
        const char *known = sigabbrev_np(s);

        if (known && strcmp(known, name) == 0)
            return s;
    }
    return luaL_argerror(L, arg, "no such signal");
}

static void push_signal(lua_State *L, int signum)
{
    const char *name = sigabbrev_np(signum);

    if (name)
        lua_pushfstring(L, "SIG%s", name);
    else
        lua_pushfstring(L, "SIG%d", signum);
}

static struct handle *open_handle(lua_State *L, int arg)
{
    struct handle *h = bind_self(L, arg, CLASS);

    if (!h->child)
        luaL_error(L, "this child's handle is closed");
    return h;
}

/* --- waiting --- */

static bool stream_ready(const struct child_stream *s)
{
    return s->buf.len > 0 || !s->open;
}

static bool read_ready(const struct child *child, const struct child_stream *wanted)
{
    if (wanted)
        return stream_ready(wanted);
    return child->out.buf.len > 0 || child->err.buf.len > 0 || (!child->out.open && !child->err.open);
}

static void on_changed(struct child *child, void *data)
{
    struct handle *h = data;

    if (h->reader && read_ready(child, ((struct proc_op *)h->reader)->stream))
        op_done(h->reader);
    if (child_done(child))
        op_done(h->waiter);
    if (!child->writing)
        op_done(h->writer);
}

static void handle_end(struct handle *h)
{
    struct child *child = h->child;

    h->child = NULL;
    child_close(child);
    op_done(h->reader);
    op_done(h->waiter);
    op_done(h->writer);
}

/* The waiting task is cancelled or its time is up: so is the child's. */
static void proc_op_cancel(struct op *op)
{
    handle_end(((struct proc_op *)op)->handle);
}

/* The handle itself is at stack index 1 and so outlives the op. */
static struct proc_op *proc_op_new(lua_State *L, struct handle *h, struct op **slot)
{
    static const char busy[] = "another task already waits for this of the child";
    struct proc_op *po = op_claim(L, sizeof *po, proc_op_cancel, slot, busy);

    po->handle = h;
    return po;
}

static struct child_stream *stream_arg(lua_State *L, int arg, struct child *child)
{
    static const char *const words[] = {"any", "stdout", "stderr", NULL};
    int which = luaL_checkoption(L, arg, "any", words);

    return which == 1 ? &child->out : which == 2 ? &child->err : NULL;
}

static int read_push(lua_State *L, struct child *child, struct child_stream *s)
{
    lua_pushlstring(L, s->buf.data, s->buf.len);
    lua_pushstring(L, s == &child->out ? "stdout" : "stderr");
    buf_skip(&s->buf, s->buf.len);
    child_took(s);
    return 2;
}

static int read_finish(lua_State *L, struct op *op)
{
    struct proc_op *po = (struct proc_op *)op;
    struct child *child = po->handle->child;

    if (!child)
        return luaL_error(L, "this child's handle is closed");
    if (po->stream)
        return po->stream->buf.len > 0 ? read_push(L, child, po->stream) : (lua_pushnil(L), 1);
    if (child->out.buf.len > 0)
        return read_push(L, child, &child->out);
    if (child->err.buf.len > 0)
        return read_push(L, child, &child->err);
    lua_pushnil(L);
    return 1;
}

/* read("stdout" | "stderr" | "any"): the next piece and its stream's name; nil when there is no more. */
static int l_read(lua_State *L)
{
    struct handle *h = open_handle(L, 1);
    struct child_stream *s = stream_arg(L, 2, h->child);
    struct proc_op *po = proc_op_new(L, h, &h->reader);

    po->stream = s;
    if (!s || s == &h->child->out)
        child_claim(&h->child->out, true);
    if (!s || s == &h->child->err)
        child_claim(&h->child->err, true);
    if (read_ready(h->child, s))
        op_done(&po->op);
    return op_wait(L, &po->op, read_finish);
}

/* unclaim(stream): it is no longer read piece by piece; wait() collects the rest. */
static int l_unclaim(lua_State *L)
{
    struct handle *h = bind_self(L, 1, CLASS);
    struct child_stream *s;

    if (!h->child)
        return 0;
    s = stream_arg(L, 2, h->child);
    if (s != &h->child->err)
        child_claim(&h->child->out, false);
    if (s != &h->child->out)
        child_claim(&h->child->err, false);
    return 0;
}

static int write_finish(lua_State *L, struct op *op)
{
    struct proc_op *po = (struct proc_op *)op;
    struct child *child = po->handle->child;
    int status = child ? child->write_status : UV_ECANCELED;
    struct err e;

    if (status < 0) {
        err_uv(&e, status, "writing to a child");
        if (status == UV_EPIPE || status == UV_ECANCELED)
            e.code = ERR_CLOSED;
        return err_return(L, &e, "proc.write", NULL);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* write(data): returns when the child's pipe has taken all of it. */
static int l_write(lua_State *L)
{
    struct handle *h = open_handle(L, 1);
    size_t len;
    const char *data = luaL_checklstring(L, 2, &len);
    struct proc_op *po = proc_op_new(L, h, &h->writer);
    struct err e = {0};

    if (!child_write(h->child, data, len, &e)) {
        po->op.cancel = NULL;
        return err_return(L, &e, "proc.write", NULL);
    }
    return op_wait(L, &po->op, write_finish);
}

static int l_close_stdin(lua_State *L)
{
    struct handle *h = bind_self(L, 1, CLASS);

    if (h->child)
        child_close_stdin(h->child);
    return 0;
}

static void push_stream(lua_State *L, struct child_stream *s, const char *name)
{
    lua_pushlstring(L, s->buf.len ? s->buf.data : "", s->buf.len);
    lua_setfield(L, -2, name);
}

static int wait_finish(lua_State *L, struct op *op)
{
    struct proc_op *po = (struct proc_op *)op;
    struct child *child = po->handle->child;

    if (!child)
        return luaL_error(L, "this child's handle is closed");
    if (!child_done(child))
        return err_fail(L, ERR_TIMEOUT, "proc.wait", NULL, "the child still runs");
    lua_createtable(L, 0, 8);
    if (child->signal)
        push_signal(L, child->signal);
    else
        lua_pushinteger(L, child->status);
    lua_setfield(L, -2, child->signal ? "signal" : "code");
    if (!child->out.claimed)
        push_stream(L, &child->out, "stdout");
    if (!child->err.claimed)
        push_stream(L, &child->err, "stderr");
    lua_pushboolean(L, child->out.truncated || child->err.truncated);
    lua_setfield(L, -2, "truncated");
    lua_pushboolean(L, child->timed_out);
    lua_setfield(L, -2, "timed_out");
    lua_pushnumber(L, (lua_Number)(child->ended - child->started) / 1e9);
    lua_setfield(L, -2, "elapsed");
    return 1;
}

/* wait([seconds]): the result table once the child has ended and its streams are read. */
static int l_wait(lua_State *L)
{
    struct handle *h = open_handle(L, 1);
    lua_Number limit = luaL_optnumber(L, 2, HUGE_VAL);
    struct proc_op *po = proc_op_new(L, h, &h->waiter);

    child_collect(h->child);
    if (child_done(h->child))
        op_done(&po->op);
    else if (limit < HUGE_VAL)
        op_timeout(L, &po->op, bind_millis(limit));
    return op_wait(L, &po->op, wait_finish);
}

/* --- the handle --- */

/* kill([signal]): true when a process of the group got it. */
static int l_kill(lua_State *L)
{
    struct handle *h = bind_self(L, 1, CLASS);
    int signum = signal_number(L, 2);

    lua_pushboolean(L, h->child && child_signal(h->child, signum));
    return 1;
}

static int l_close(lua_State *L)
{
    handle_end(bind_self(L, 1, CLASS));
    return 0;
}

static int l_tostring(lua_State *L)
{
    struct handle *h = bind_self(L, 1, CLASS);

    if (h->child)
        lua_pushfstring(L, "child %d", (int)h->child->pid);
    else
        lua_pushliteral(L, "child (closed)");
    return 1;
}

/* spawn{argv=, env=, cwd=, stdin=, stdout=, stderr=, timeout=, grace=, max_output=}: handle, pid. */
static int l_spawn(lua_State *L)
{
    struct child_options o = {.argv = NULL};
    struct host *host = bind_host(L);
    struct handle *h;
    struct err e = {0};
    lua_Integer keep;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    luaL_checkstack(L, 20, "spawn");
    bind_plain(L, 1);
    o.argv = list_field(L, 1, "argv");
    o.envp = list_field(L, 1, "env");
    luaL_argcheck(L, o.argv[0] && o.argv[0][0], 1, "argv is empty");
    o.cwd = bind_opt_text(L, 1, "cwd", NULL);
    o.in = stdio_field(L, 1, "stdin");
    o.out = stdio_field(L, 1, "stdout");
    o.err = stdio_field(L, 1, "stderr");
    o.timeout = bind_millis(bind_opt_number(L, 1, "timeout", 0));
    o.grace = bind_millis(bind_opt_number(L, 1, "grace", 5));
    keep = bind_opt_integer(L, 1, "max_output", 1 << 20);
    o.keep = keep > 0 ? (size_t)keep : 0;
    if (host->stopping)
        return err_fail(L, ERR_CLOSED, "proc.spawn", o.argv[0], "the host is stopping");
    h = bind_new(L, sizeof *h, CLASS);
    if (!host->procs)
        host->procs = proc_set_open(&host->loop, &e);
    if (host->procs)
        h->child = child_start(host->procs, &o, &e);
    if (!h->child)
        return err_return(L, &e, "proc.spawn", o.argv[0]);
    h->child->changed = on_changed;
    h->child->data = h;
    lua_pushinteger(L, h->child->pid);
    return 2;
}

static const luaL_Reg methods[] = {
    {"read", l_read}, {"unclaim", l_unclaim}, {"write", l_write}, {"close_stdin", l_close_stdin},
    {"wait", l_wait}, {"kill", l_kill},       {"close", l_close}, {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__gc", l_close},
    {"__close", l_close},
    {"__tostring", l_tostring},
    {NULL, NULL},
};

/* count(): children that are not gone yet. */
static int l_count(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)proc_set_count(bind_host(L)->procs));
    return 1;
}

static const luaL_Reg functions[] = {
    {"spawn", l_spawn},
    {"count", l_count},
    {NULL, NULL},
};

int luaopen_core_proc(lua_State *L)
{
    bind_class(L, CLASS, methods, metamethods);
    luaL_newlib(L, functions);
    return 1;
}
