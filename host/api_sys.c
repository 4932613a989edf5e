/* core.sys: the process and its terminal, for stdlib only. Waiting: read.
 *
 * Also the seams that tests use: killpoint (debug builds) and fail_allocations (fault build). */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "api.h"
#include "bind.h"
#include "deadman.h"
#include "embed.h"
#include "fault.h"
#include "handle.h"
#include "host.h"
#include "task.h"
#include "text.h"
#include "version.h"

/* ---- the process ---- */

static int l_args(lua_State *L)
{
    struct host *host = bind_host(L);

    lua_createtable(L, host->argc, 0);
    for (int i = 0; i < host->argc; i++) {
        lua_pushstring(L, host->argv[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int l_env(lua_State *L)
{
    lua_pushstring(L, getenv(bind_text(L, 1, "sys.env(name)"))); /* nil when unset */
    return 1;
}

static int l_hostname(lua_State *L)
{
    char name[HOST_NAME_MAX + 1] = "";

    gethostname(name, sizeof name - 1);
    lua_pushstring(L, name);
    return 1;
}

static int l_pid(lua_State *L)
{
    lua_pushinteger(L, getpid());
    return 1;
}

static int l_uid(lua_State *L)
{
    lua_pushinteger(L, getuid());
    return 1;
}

static int l_cwd(lua_State *L)
{
    char path[PATH_MAX];

    lua_pushstring(L, getcwd(path, sizeof path));
    return 1;
}

static int l_exe(lua_State *L)
{
    char path[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", path, sizeof path);

    lua_pushlstring(L, path, len > 0 ? (size_t)len : 0);
    return 1;
}

/* memory(): bytes resident in the process, bytes held by Lua, Lua's peak. */
static int l_memory(lua_State *L)
{
    struct host *host = bind_host(L);
    long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");

    if (f) {
        if (fscanf(f, "%ld %ld", &pages, &resident) != 2)
            resident = 0;
        fclose(f);
    }
    lua_pushinteger(L, (lua_Integer)resident * sysconf(_SC_PAGESIZE));
    lua_pushinteger(L, (lua_Integer)host->alloc.used);
    lua_pushinteger(L, (lua_Integer)host->alloc.peak);
    return 3;
}

/* ---- the terminal ---- */

static int l_isatty(lua_State *L)
{
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
    return 1;
}

static int l_width(lua_State *L)
{
    struct winsize size = {0};

    for (int fd = 0; fd < 3 && size.ws_col == 0; fd++)
        if (ioctl(fd, TIOCGWINSZ, &size) != 0)
            size.ws_col = 0;
    lua_pushinteger(L, size.ws_col ? size.ws_col : 80);
    return 1;
}

/* write(fd, text): all of it; false when the other end is gone. A terminal or file does not make us wait
 * long; a full pipe does, as with every program that prints. */
static int l_write(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);

    if (fd == STDOUT_FILENO)
        fflush(stdout);
    while (len > 0) {
        ssize_t n = write(fd, text, len);

        if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {.fd = fd, .events = POLLOUT};

            poll(&p, 1, 1000);
        } else if (n < 0 && errno != EINTR) {
            lua_pushboolean(L, 0);
            return 1;
        }
        if (n > 0) {
            text += n;
            len -= (size_t)n;
        }
    }
    lua_pushboolean(L, 1);
    return 1;
}

struct read_op {
    struct op op;
    uv_poll_t *poll;
    int fd;
};

static void read_leave(struct op *op)
{
    struct read_op *r = (struct read_op *)op;

    handle_drop(r->poll);
    r->poll = NULL;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct read_op *r = poll->data;

    (void)status;
    (void)events;
    if (r)
        op_done(&r->op);
}

static int read_finish(lua_State *L, struct op *op)
{
    struct read_op *r = (struct read_op *)op;
    char chunk[16384];
    ssize_t n;

    do
        n = read(r->fd, chunk, sizeof chunk);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return 0; /* the end, or a broken terminal: both mean no more */
    lua_pushlstring(L, chunk, (size_t)n);
    return 1;
}

/* read(fd): the next bytes, nil at the end. */
static int l_read(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1), flags;
    struct host *host = bind_host(L);
    struct read_op *r = op_new(L, sizeof *r, NULL);

    r->op.leave = read_leave;
    r->fd = fd;
    r->poll = malloc(sizeof *r->poll);
    if (!r->poll)
        return luaL_error(L, "not enough memory");
    flags = fcntl(fd, F_GETFL);
    if (uv_poll_init(&host->loop, r->poll, fd) != 0) { /* a plain file cannot be polled, and never blocks */
        free(r->poll);
        r->poll = NULL;
        op_done(&r->op);
    } else {
        /* libuv made it non-blocking, but a terminal's mode is shared with the shell that started us. We read
         * only what is there, so we never block. */
        fcntl(fd, F_SETFL, flags);
        r->poll->data = r;
        uv_poll_start(r->poll, UV_READABLE, on_readable);
    }
    return op_wait(L, &r->op, read_finish);
}

/* ---- embedded files and chunks ---- */

static int l_embedded(lua_State *L)
{
    struct embed e;

    if (!embed_find(luaL_checkstring(L, 1), &e))
        return 0;
    lua_pushlstring(L, e.data, e.len);
    return 1;
}

static int l_embedded_list(lua_State *L)
{
    size_t n = embed_count();

    lua_createtable(L, (int)n, 0);
    for (size_t i = 0; i < n; i++) {
        lua_pushstring(L, embed_at(i).path);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/* compile(text, chunkname, env): a function of a text chunk, or nil and the message. Never binary. */
static int l_compile(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len), *name = luaL_checkstring(L, 2);

    luaL_checktype(L, 3, LUA_TTABLE);
    if (luaL_loadbufferx(L, text, len, name, "t") != LUA_OK) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    lua_pushvalue(L, 3);
    lua_setupvalue(L, -2, 1);
    return 1;
}

/* module(loading, name, fn): calls fn(name) with loading[name] set, without giving the turn away: a module
 * that another task finds half loaded would be loaded twice, and its locks with it. The mark goes even when
 * the task is cut in between; no Lua could see to that. */
static int l_module(lua_State *L)
{
    struct host *host = bind_host(L);
    int status;

    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkstring(L, 2);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    lua_settop(L, 3);
    luaL_checkstack(L, 8, "module");
    lua_pushvalue(L, 2);
    lua_pushboolean(L, 1);
    lua_rawset(L, 1);
    lua_pushvalue(L, 3);
    lua_pushvalue(L, 2);
    host->loading++;
    status = lua_pcall(L, 1, 0, 0); /* without a continuation nothing inside can yield */
    host->loading--;
    lua_pushvalue(L, 2);
    lua_pushnil(L);
    lua_rawset(L, 1);
    return status == LUA_OK ? 0 : lua_error(L);
}

/* slurp(path): a small file at once, for module look-up only; nil when it is not there or over 1 MiB. */
static int l_slurp(lua_State *L)
{
    const char *path = bind_text(L, 1, "sys.slurp(path)");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    luaL_Buffer b;
    char *room;
    ssize_t n;

    if (fd < 0)
        return 0;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > 1 << 20) {
        close(fd);
        return 0;
    }
    close(fd); /* nothing is held while Lua may raise */
    room = luaL_buffinitsize(L, &b, (size_t)st.st_size + 1);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? -1 : read(fd, room, (size_t)st.st_size);
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return 0;
    luaL_pushresultsize(&b, (size_t)n);
    return 1;
}

/* traceback(message): for error handlers. */
static int l_traceback(lua_State *L)
{
    luaL_tolstring(L, 1, NULL);
    luaL_traceback(L, L, lua_tostring(L, -1), 1);
    return 1;
}

/* where(level): "file:line" of a caller, "" when unknown. */
static int l_where(lua_State *L)
{
    lua_Debug ar;

    if (lua_getstack(L, (int)luaL_optinteger(L, 1, 1), &ar) && lua_getinfo(L, "Sl", &ar) &&
        ar.currentline > 0) {
        lua_pushfstring(L, "%s:%d", ar.short_src, ar.currentline);
        return 1;
    }
    lua_pushliteral(L, "");
    return 1;
}

/* defined(fn): "file:line" where a function begins, "" when it is none of Lua's. */
static int l_defined(lua_State *L)
{
    lua_Debug ar;

    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_pushvalue(L, 1);
    if (lua_getinfo(L, ">S", &ar) && ar.linedefined > 0)
        lua_pushfstring(L, "%s:%d", ar.short_src, ar.linedefined);
    else
        lua_pushliteral(L, "");
    return 1;
}

/* plain(value): a table of a script as a table that runs nothing when it is read: itself, or a copy without
 * its metatable. Anything else is given back. */
static int l_plain(lua_State *L)
{
    lua_settop(L, 1);
    bind_plain(L, 1);
    return 1;
}

/* steady(fn): what string.format asks about values that would show as an address; see api_format.c. */
static int l_steady(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, FORMAT_STEADY);
    return 0;
}

/* error_class(): the metatable of error values, for errors.lua alone. */
static int l_error_class(lua_State *L)
{
    luaL_getmetatable(L, "moontide.error");
    return 1;
}

/* deadman(seconds): ends the process with status 75 unless it is called again in time; nil: not any more. */
static int l_deadman(lua_State *L)
{
    double seconds = luaL_optnumber(L, 1, 0);

    luaL_argcheck(L, seconds >= 0 && seconds <= 86400 * 365.0, 1, "seconds, or nil");
    lua_pushboolean(L, deadman_set(seconds));
    return 1;
}

/* ---- seams for tests ---- */

#ifdef MOONTIDE_KILLPOINTS
/* killpoint(name): MOONTIDE_KILLPOINT=NAME:N ends the process with SIGKILL at the N-th pass of NAME ("*"
 * counts all). MOONTIDE_KILLPOINT_LOG=FILE gets a line for each pass. */
static int l_killpoint(lua_State *L)
{
    static unsigned passes;
    const char *name = luaL_checkstring(L, 1), *plan = getenv("MOONTIDE_KILLPOINT"),
               *log = getenv("MOONTIDE_KILLPOINT_LOG"), *colon = plan ? strrchr(plan, ':') : NULL;

    if (log) {
        FILE *f = fopen(log, "ae");

        if (f) {
            fprintf(f, "%s\n", name);
            fclose(f);
        }
    }
    if (!colon)
        return 0;
    if ((plan[0] == '*' && colon == plan + 1) ||
        (strlen(name) == (size_t)(colon - plan) && strncmp(plan, name, strlen(name)) == 0))
        if (++passes == (unsigned)strtoul(colon + 1, NULL, 10))
            kill(getpid(), SIGKILL);
    return 0;
}
#else
static int l_killpoint(lua_State *L)
{
    (void)L;
    return 0;
}
#endif

#ifdef MOONTIDE_FAULTS
static int l_fail_allocations(lua_State *L)
{
    lua_pushinteger(L,
                    (lua_Integer)fault_allocations((uint64_t)luaL_checkinteger(L, 1), lua_toboolean(L, 2)));
    return 1;
}
#endif

int luaopen_core_sys(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"args", l_args},
        {"env", l_env},
        {"hostname", l_hostname},
        {"pid", l_pid},
        {"uid", l_uid},
        {"cwd", l_cwd},
        {"exe", l_exe},
        {"memory", l_memory},
        {"isatty", l_isatty},
        {"width", l_width},
        {"write", l_write},
        {"read", l_read},
        {"embedded", l_embedded},
        {"embedded_list", l_embedded_list},
        {"compile", l_compile},
        {"module", l_module},
        {"slurp", l_slurp},
        {"traceback", l_traceback},
        {"where", l_where},
        {"defined", l_defined},
        {"plain", l_plain},
        {"error_class", l_error_class},
        {"steady", l_steady},
        {"deadman", l_deadman},
        {"killpoint", l_killpoint},
#ifdef MOONTIDE_FAULTS
        {"fail_allocations", l_fail_allocations},
#endif
        {NULL, NULL},
    };

    luaL_newlib(L, functions);
    lua_pushstring(L, moontide_version);
    lua_setfield(L, -2, "version");
    return 1;
}
