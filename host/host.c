/* The host: opens everything in order, closes everything in the reverse order.
 *
 * The only list of libraries. Lua's own are opened by an allow-list: no package, io, os or debug. */
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include <lauxlib.h>
#include <lualib.h>
#include "api.h"
#include "bind.h"
#include "coverage.h"
#include "curl_loop.h"
#include "embed.h"
#include "err_lua.h"
#include "loop.h"
#include "proc.h"
#include "secret.h"
#include "serve.h"
#include "task.h"

static const luaL_Reg lua_libraries[] = {
    {LUA_GNAME, luaopen_base},        {LUA_COLIBNAME, luaopen_coroutine}, {LUA_TABLIBNAME, luaopen_table},
    {LUA_STRLIBNAME, luaopen_string}, {LUA_MATHLIBNAME, luaopen_math},    {LUA_UTF8LIBNAME, luaopen_utf8},
};

static int l_register(lua_State *L)
{
    const luaL_Reg core[] = {
        {"fs", luaopen_core_fs},     {"gzip", luaopen_core_gzip},     {"hash", luaopen_core_hash},
        {"http", luaopen_core_http}, {"json", luaopen_core_json},     {"log", luaopen_core_log},
        {"proc", luaopen_core_proc}, {"semver", luaopen_core_semver}, {"serve", luaopen_core_serve},
        {"sys", luaopen_core_sys},   {"signal", luaopen_core_signal}, {"store", luaopen_core_store},
        {"task", luaopen_core_task}, {"time", luaopen_core_time},     {"yaml", luaopen_core_yaml},
    };

    for (size_t i = 0; i < sizeof lua_libraries / sizeof *lua_libraries; i++) {
        luaL_requiref(L, lua_libraries[i].name, lua_libraries[i].func, 1);
        lua_pop(L, 1);
    }
    err_register(L);
    text_register(L);
    tables_register(L);
    base_register(L);
    lua_newtable(L);
    for (size_t i = 0; i < sizeof core / sizeof *core; i++) {
        lua_pushcfunction(L, core[i].func);
        lua_setfield(L, -2, core[i].name);
    }
    return 1;
}

/* Runs the prelude with the openers of the core tables; what it returns is the main function. */
static int l_prelude(lua_State *L)
{
    struct embed prelude;

    l_register(L);
    if (!embed_find("stdlib/base/prelude.lua", &prelude))
        return luaL_error(L, "stdlib/base/prelude.lua is not in this binary");
    if (luaL_loadbufferx(L, prelude.code, prelude.code_len, prelude.path, "b") != LUA_OK)
        return lua_error(L);
    lua_insert(L, -2);
    lua_call(L, 1, 1);
    return 1;
}

static int on_panic(lua_State *L)
{
    const char *text = lua_tostring(L, -1);

    fprintf(stderr, "moontide: internal error outside of any script: %s\n", text ? text : "unknown");
    return 0; /* Lua aborts */
}

bool host_write(struct host *host, int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);

        if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {.fd = fd, .events = POLLOUT};

            poll(&p, 1, 1000);
        } else if (n < 0 && errno != EINTR) {
            if (fd == STDOUT_FILENO && !host->output_lost)
                host->output_lost = errno;
            return false;
        }
        if (n > 0) {
            text += n;
            len -= (size_t)n;
        }
    }
    return true;
}

/* A descriptor that we were started without would become that of the first file we open, and printing would
 * go there. Writing to these fails, reading finds the end. */
static void fill_standard_descriptors(void)
{
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/dev/null", O_RDONLY); /* the lowest free number is this one */
}

bool host_open(struct host *host, int argc, char **argv, const char **message)
{
    struct rlimit core = {0, 0};

    memset(host, 0, sizeof *host);
    host->argc = argc > 0 ? argc - 1 : 0;
    host->argv = argv + (argc > 0);
    fill_standard_descriptors();
    setlocale(LC_ALL, "C.UTF-8");
    signal(SIGPIPE, SIG_IGN);
    setrlimit(RLIMIT_CORE, &core); /* secrets stay out of core files */
#if !defined(__SANITIZE_ADDRESS__)
    prctl(PR_SET_DUMPABLE, 0);
#endif
    if (uv_loop_init(&host->loop) != 0) {
        *message = "the event loop cannot be opened";
        return false;
    }
    clock_init(&host->clock, &host->loop);
    host->L = lua_newstate(alloc_lua, &host->alloc);
    if (!host->L) {
        *message = "not enough memory for Lua";
        return false;
    }
    *(struct host **)lua_getextraspace(host->L) = host;
    lua_atpanic(host->L, on_panic);
    collector_init(&host->collector, host->L, &host->alloc);
    host->secrets = secrets_open();
    if (!host->secrets) {
        *message = "not enough memory for secrets";
        return false;
    }
    if (!tasks_open(host)) {
        *message = "not enough memory for tasks";
        return false;
    }
    lua_pushcfunction(host->L, l_prelude);
    if (lua_pcall(host->L, 0, 1, 0) != LUA_OK) {
        *message = lua_type(host->L, -1) == LUA_TSTRING ? lua_tostring(host->L, -1) : "the prelude failed";
        return false;
    }
    return true;
}

static int l_start(lua_State *L)
{
    lua_settop(L, 1);
    task_set_main(bind_host(L), task_spawn(L, 0, "main", NULL));
    return 0;
}

int host_run(struct host *host)
{
    lua_pushcfunction(host->L, l_start);
    lua_insert(host->L, -2);
    if (lua_pcall(host->L, 1, 0, 0) != LUA_OK) {
        fprintf(stderr, "moontide: %s\n", lua_tostring(host->L, -1));
        return 70;
    }
    if (!loop_run(host)) {
        fprintf(stderr,
                "moontide: deadlock: every task waits, and nothing that could wake one is under way\n");
        return 70;
    }
    /* Whose reader went away wanted no more (`moontide history | head`); anything else was lost. */
    if (host->output_lost && host->output_lost != EPIPE) {
        fprintf(stderr, "moontide: what was printed is lost: %s\n", strerror(host->output_lost));
        if (host->exit_code == 0)
            return 1;
    }
    return host->exit_code;
}

static void close_leftover(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

void host_close(struct host *host)
{
    host->stopping = true;
    task_cancel_all(host);
    loop_drain(host);
    signal_close_all(host);
    serve_close_all(&host->serves);
    proc_set_close(host->procs);
    host->procs = NULL;
    curl_loop_close(host->curl);
    host->curl = NULL;
    tasks_close(host);
#if !defined(__SANITIZE_ADDRESS__) /* which would call it leaked */
    host->alloc.ending = true;
#endif
    lua_close(host->L);
    loop_drain(host);
    if (uv_loop_close(&host->loop) == UV_EBUSY) {
        uv_walk(&host->loop, close_leftover, NULL);
        uv_run(&host->loop, UV_RUN_NOWAIT);
        uv_loop_close(&host->loop);
    }
    secrets_close(host->secrets);
    clock_fini(&host->clock);
    coverage_close(host->coverage);
}
