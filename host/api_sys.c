/* core.sys: the process and its terminal, for stdlib only. Waiting: read.
 *
 * Also the seams that tests use: killpoint (debug builds) and fail_allocations (fault build). */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "api.h"
#include "bind.h"
#include "coverage.h"
#include "deadman.h"
#include "fault.h"
#include "host.h"
#include "op.h"
#include "task.h"
#include "text.h"
#include "uv_handle.h"
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

/* exe(): this program's file, to start it again. When an installed update has taken its place:
 * the link in /proc, which still leads to the program that runs. */
static int l_exe(lua_State *L)
{
    char path[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", path, sizeof path - 1);

    path[len > 0 ? len : 0] = '\0';
    if (access(path, X_OK))
        lua_pushfstring(L, "/proc/%d/exe", (int)getpid());
    else
        lua_pushstring(L, path);
    return 1;
}

static int l_settle(lua_State *L)
{
    collector_settle(&bind_host(L)->collector);
    return 0;
}

/* hold_collector(hold): whether no cycle begins from now on, or may again; see collector.h. */
static int l_hold_collector(lua_State *L)
{
    struct collector *c = &bind_host(L)->collector;

    if (lua_toboolean(L, 1)) {
        lua_pushboolean(L, collector_hold(c));
        return 1;
    }
    collector_release(c);
    return 0;
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

/* write(fd, text): all of it; false when the other end is gone. */
static int l_write(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);

    lua_pushboolean(L, host_write(bind_host(L), (int)luaL_checkinteger(L, 1), text, len));
    return 1;
}

/* A descriptor with a text to be read from it; -1 when there can be none. */
static int text_descriptor(const char *text, size_t len)
{
    int fd = memfd_create("text", MFD_CLOEXEC);
    size_t done = 0;

    while (fd >= 0 && done < len) {
        ssize_t n = write(fd, text + done, len - done);

        if (n < 0 && errno != EINTR)
            return -1;
        done += n > 0 ? (size_t)n : 0;
    }
    return fd >= 0 && lseek(fd, 0, SEEK_SET) == 0 ? fd : -1;
}

/* become(path, argv, text): the process becomes another program, which finds the text at its standard input
 * and has the terminal to itself: its keys, its signals, its size. Returns only when that cannot be: why. */
static int l_become(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1), *text;
    lua_Integer count;
    size_t len;
    const char **argv;
    sigset_t none;
    int fd;

    luaL_checktype(L, 2, LUA_TTABLE);
    count = (lua_Integer)lua_rawlen(L, 2);
    luaL_argcheck(L, count > 0 && count < 1000, 2, "wrong length");
    text = luaL_checklstring(L, 3, &len);
    argv = lua_newuserdatauv(L, ((size_t)count + 1) * sizeof *argv, 0);
    for (lua_Integer i = 0; i < count; i++) {
        lua_rawgeti(L, 2, i + 1);
        argv[i] = luaL_checkstring(L, -1); /* the list keeps it alive */
        lua_pop(L, 1);
    }
    argv[count] = NULL;
    fd = text_descriptor(text, len);
    if (fd >= 0 && dup2(fd, STDIN_FILENO) == STDIN_FILENO) {
        sigemptyset(&none);
        signal(SIGPIPE, SIG_DFL);
        pthread_sigmask(SIG_SETMASK, &none, NULL);
        close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
        execve(path, (char **)(void *)argv, environ);
        signal(SIGPIPE, SIG_IGN);
    }
    lua_pushstring(L, strerror(errno));
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

    uv_handle_drop(r->poll);
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

/* A plain file never makes us wait, and cannot be polled. */
static bool is_file(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode));
}

/* read(fd): the next bytes, nil at the end. */
static int l_read(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1), flags, status;
    struct host *host = bind_host(L);
    struct read_op *r = op_new(L, sizeof *r, NULL);

    r->op.leave = read_leave;
    r->fd = fd;
    if (is_file(fd)) {
        op_done(&r->op);
        return op_wait(L, &r->op, read_finish);
    }
    r->poll = malloc(sizeof *r->poll);
    if (!r->poll)
        return luaL_error(L, "not enough memory");
    flags = fcntl(fd, F_GETFL);
    status = uv_poll_init(&host->loop, r->poll, fd);
    if (status != 0) {
        free(r->poll);
        r->poll = NULL;
        if (status == UV_EEXIST)
            return luaL_error(L, "another task already reads descriptor %d", fd);
        if (status != UV_EPERM) /* a device such as /dev/null */
            return luaL_error(L, "descriptor %d cannot be read: %s", fd, uv_strerror(status));
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

/* ---- what error messages and the modules of the stdlib ask ---- */

/* traceback([message]): for error handlers. */
static int l_traceback(lua_State *L)
{
    if (!lua_isnoneornil(L, 1))
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

static int framed_end(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    return lua_gettop(L);
}

static int framed_call(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_callk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, framed_end);
    return framed_end(L, LUA_OK, 0);
}

/* framed(fn): the same function, called through one of C. A tail call replaces the frame of its caller when a
 * function of Lua is called, and not when one of C is: the caller's line can still be found. */
static int l_framed(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_pushcclosure(L, framed_call, 1);
    return 1;
}

/* whole(fn, ...): calls it so that nothing is set aside in between: others see what it changes as one change.
 */
static int l_whole(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* steady(fn): what string.format asks about values that would show as an address; see api_text.c. */
static int l_steady(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_setfield(L, LUA_REGISTRYINDEX, FORMAT_STEADY);
    return 0;
}

/* script_line(): "file:line" of the innermost line that is not of the program's own; nil when there is none.
 */
static int l_script_line(lua_State *L)
{
    lua_Debug ar;

    if (!bind_script_line(L, &ar) || strncmp(ar.short_src, "stdlib/", 7) == 0)
        return 0;
    lua_pushfstring(L, "%s:%d", ar.short_src, ar.currentline);
    return 1;
}

/* cover(): counts the lines of people's scripts from now on. */
static int l_cover(lua_State *L)
{
    slice_cover(L);
    return 0;
}

/* covered(): file -> line -> how often it ran. */
static int l_covered(lua_State *L)
{
    coverage_push(L, bind_host(L)->coverage);
    return 1;
}

/* cpu(): the processor time that the loop's thread has used, in seconds. */
static int l_cpu(lua_State *L)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec / 1e9);
    return 1;
}

/* hash(text): 32 bits that spread texts evenly (FNV-1a, with its high bits mixed into the low ones). */
static int l_hash(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    uint32_t hash = UINT32_C(2166136261);

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)text[i]) * UINT32_C(16777619);
    lua_pushinteger(L, (lua_Integer)(hash ^ hash >> 15));
    return 1;
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

/* virtual_time(start): all clocks and waits of tasks are virtual from now on, for good; again: the wall clock
 * is set. */
static int l_virtual_time(lua_State *L)
{
    struct host *host = bind_host(L);
    lua_Number start = luaL_checknumber(L, 1);

    luaL_argcheck(L, start >= 0 && start < 253402300800.0, 1, "seconds since 1970");
    if (host->clock.is_virtual) {
        clock_set_wall(&host->clock, start);
        return 0;
    }
    if (!tasks_virtual_time(host, start))
        return luaL_error(L, "not enough memory");
    return 0;
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
        {"settle", l_settle},
        {"hold_collector", l_hold_collector},
        {"isatty", l_isatty},
        {"width", l_width},
        {"write", l_write},
        {"become", l_become},
        {"read", l_read},
        {"traceback", l_traceback},
        {"where", l_where},
        {"script_line", l_script_line},
        {"defined", l_defined},
        {"framed", l_framed},
        {"cpu", l_cpu},
        {"cover", l_cover},
        {"covered", l_covered},
        {"hash", l_hash},
        {"plain", l_plain},
        {"error_class", l_error_class},
        {"steady", l_steady},
        {"whole", l_whole},
        {"deadman", l_deadman},
        {"virtual_time", l_virtual_time},
        {"killpoint", l_killpoint},
#ifdef MOONTIDE_FAULTS
        {"fail_allocations", l_fail_allocations},
#endif
        {NULL, NULL},
    };

    luaL_newlib(L, functions);
    load_register(L);
    lua_pushstring(L, moontide_version);
    lua_setfield(L, -2, "version");
    return 1;
}
