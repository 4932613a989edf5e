/* core.signal: signals as values to wait for. Waiting: next_signal.
 *
 * The set of caught signals belongs to the host and lives until its libuv handles are closed. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "api.h"
#include "bind.h"
#include "host.h"
#include "op.h"

static const struct {
    const char *name;
    int number;
} signal_names[] = {
    {"TERM", SIGTERM}, {"INT", SIGINT}, {"HUP", SIGHUP}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2},
};
#define SIGNALS (sizeof signal_names / sizeof *signal_names)

struct signal_set {
    uv_signal_t uv_handles[SIGNALS];
    bool open[SIGNALS];
    unsigned pending; /* bit i: signal_names[i] arrived and was not taken */
    struct op *waiter;
    int closing;
};

static void on_signal(uv_signal_t *handle, int signum)
{
    struct signal_set *s = handle->data;

    for (unsigned i = 0; i < SIGNALS; i++)
        if (signal_names[i].number == signum)
            s->pending |= 1u << i;
    op_done(s->waiter);
}

/* catch(name...): from now on these signals are kept for next_signal instead of ending the process. */
static int l_catch(lua_State *L)
{
    struct host *host = bind_host(L);
    struct signal_set *s = host->signals;
    int n = lua_gettop(L), status;

    if (!s) {
        s = host->signals = calloc(1, sizeof *s);
        if (!s)
            return luaL_error(L, "not enough memory");
    }
    for (int arg = 1; arg <= n; arg++) {
        const char *name = luaL_checkstring(L, arg);
        unsigned i = 0;

        while (i < SIGNALS && strcmp(signal_names[i].name, name) != 0)
            i++;
        luaL_argcheck(L, i < SIGNALS, arg, "TERM, INT, HUP, USR1 or USR2");
        if (s->open[i])
            continue;
        status = uv_signal_init(&host->loop, &s->uv_handles[i]);
        if (status == 0) {
            s->uv_handles[i].data = s;
            s->open[i] = true;
            status = uv_signal_start(&s->uv_handles[i], on_signal, signal_names[i].number);
        }
        if (status != 0)
            return luaL_error(L, "cannot catch %s: %s", name, uv_strerror(status));
    }
    return 0;
}

static int signal_finish(lua_State *L, struct op *op)
{
    struct signal_set *s = bind_host(L)->signals;
    int i = __builtin_ctz(s->pending); /* in the order of their names */

    (void)op;
    s->pending &= s->pending - 1;
    lua_pushstring(L, signal_names[i].name);
    return 1;
}

/* next_signal(): waits for a caught signal and returns its name. */
static int l_next_signal(lua_State *L)
{
    struct host *host = bind_host(L);
    struct signal_set *s = host->signals;
    struct op *op;

    if (!s)
        return luaL_error(L, "call catch first");
    op = op_claim(L, sizeof *op, NULL, &s->waiter, "somebody waits for signals already");
    if (s->pending)
        op_done(op);
    return op_wait(L, op, signal_finish);
}

void signals_count(struct host *host, bool count)
{
    struct signal_set *s = host->signals;

    for (unsigned i = 0; s && i < SIGNALS; i++) {
        if (!s->open[i])
            continue;
        if (count)
            uv_ref((uv_handle_t *)&s->uv_handles[i]);
        else
            uv_unref((uv_handle_t *)&s->uv_handles[i]);
    }
}

static void signal_closed(uv_handle_t *handle)
{
    struct signal_set *s = handle->data;

    if (--s->closing == 0)
        free(s);
}

void signal_close_all(struct host *host)
{
    struct signal_set *s = host->signals;

    host->signals = NULL;
    if (!s)
        return;
    ops_done(&s->waiter);
    for (unsigned i = 0; i < SIGNALS; i++)
        s->closing += s->open[i];
    if (s->closing == 0) {
        free(s);
        return;
    }
    for (unsigned i = 0; i < SIGNALS; i++)
        if (s->open[i])
            uv_close((uv_handle_t *)&s->uv_handles[i], signal_closed);
}

int luaopen_core_signal(lua_State *L)
{
    static const luaL_Reg functions[] = {{"catch", l_catch}, {"next_signal", l_next_signal}, {NULL, NULL}};

    luaL_newlib(L, functions);
    return 1;
}
