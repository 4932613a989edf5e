/* fs.watch: waits for changes in a directory or of one file in it. Waiting: watch:wait.
 *
 * inotify through libuv. A file is watched through its directory, since most writers replace files; so it may
 * also be missing as yet. Events are only hints: names are merged, and above NAMES_MAX forgotten. */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "api.h"
#include "bind.h"
#include "buf.h"
#include "host.h"
#include "op.h"

#define CLASS     "moontide.watch"
#define NAMES_MAX 256

/* Outlives the handle until libuv has closed it. */
struct watch_job {
    uv_fs_event_t event;
    struct watch *watch;
    char only[NAME_MAX + 1]; /* the one name that counts; empty: all */
};

struct watch {
    struct watch_job *job; /* NULL: closed */
    struct op *waiter;
    struct buf names; /* each with its NUL */
    size_t count;
    bool overflow;
    int status;
};

static bool known_name(const struct watch *w, const char *name)
{
    for (size_t at = 0; at < w->names.len; at += strlen(w->names.data + at) + 1)
        if (strcmp(w->names.data + at, name) == 0)
            return true;
    return false;
}

static bool something(const struct watch *w)
{
    return w->count > 0 || w->overflow || w->status < 0 || !w->job;
}

static void on_event(uv_fs_event_t *event, const char *name, int events, int status)
{
    struct watch_job *job = event->data;
    struct watch *w = job->watch;

    (void)events;
    if (!w)
        return;
    if (status < 0) {
        w->status = status;
    } else if (!name) {
        w->overflow = true;
    } else {
        if (job->only[0] && strcmp(job->only, name) != 0)
            return;
        if (known_name(w, name))
            return;
        if (w->count >= NAMES_MAX || !buf_add(&w->names, name, strlen(name) + 1))
            w->overflow = true;
        else
            w->count++;
    }
    op_done(w->waiter);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static int watch_finish(lua_State *L, struct op *op)
{
    struct watch *w = bind_self(L, 1, CLASS);
    lua_Integer n = 0;
    struct err e;

    (void)op;
    if (!w->job)
        return err_fail(L, ERR_CLOSED, "fs.watch", NULL, "the watch was closed");
    if (w->status < 0) {
        err_uv(&e, w->status, "watching");
        return err_return(L, &e, "fs.watch", NULL);
    }
    if (!something(w))
        return err_fail(L, ERR_TIMEOUT, "fs.watch", NULL, "nothing changed");
    lua_createtable(L, (int)w->count, 1);
    for (size_t at = 0; at < w->names.len; at += strlen(w->names.data + at) + 1) {
        lua_pushstring(L, w->names.data + at);
        lua_rawseti(L, -2, ++n);
    }
    if (w->overflow) {
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, "overflow");
    }
    w->count = 0;
    w->overflow = false;
    buf_skip(&w->names, w->names.len);
    return 1;
}

/* wait([seconds]): the names that changed since the last wait; nil and "timeout" when none did. */
static int l_wait(lua_State *L)
{
    struct watch *w = bind_self(L, 1, CLASS);
    lua_Number limit = luaL_optnumber(L, 2, HUGE_VAL);
    struct op *op;

    if (!w->job)
        return luaL_error(L, "this watch is closed");
    lua_settop(L, 2);
    op = op_claim(L, sizeof *op, NULL, &w->waiter, "another task already waits for this watch");
    if (something(w))
        op_done(op);
    else if (limit < HUGE_VAL)
        op_timeout(L, op, bind_millis(limit));
    return op_wait(L, op, watch_finish);
}

static int l_close(lua_State *L)
{
    struct watch *w = bind_self(L, 1, CLASS);
    struct watch_job *job = w->job;

    if (!job)
        return 0;
    w->job = NULL;
    job->watch = NULL;
    uv_close((uv_handle_t *)&job->event, on_closed);
    buf_free(&w->names);
    op_done(w->waiter);
    return 0;
}

/* Splits a file's path into its directory (in `dir`) and its name (in `only`); a directory stays whole. */
static bool split(const char *path, char *dir, size_t size, char *only, size_t only_size)
{
    size_t len = strlen(path);
    struct stat st;
    const char *slash;

    if (len >= size)
        return false;
    memcpy(dir, path, len + 1);
    only[0] = '\0';
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return true;
    slash = strrchr(path, '/');
    if (!slash)
        snprintf(dir, size, ".");
    else
        dir[slash == path ? 1 : slash - path] = '\0';
    return (size_t)snprintf(only, only_size, "%s", slash ? slash + 1 : path) < only_size;
}

/* watch(path): a handle, or nil and the reason. */
static int l_watch(lua_State *L)
{
    const char *path = bind_text(L, 1, "fs.watch(path)");
    struct watch *w = bind_new(L, sizeof *w, CLASS);
    char dir[PATH_MAX];
    struct err e;
    int status;

    w->job = calloc(1, sizeof *w->job);
    if (!w->job)
        return luaL_error(L, "not enough memory");
    w->job->event.data = w->job;
    w->job->watch = w;
    uv_fs_event_init(&bind_host(L)->loop, &w->job->event);
    if (!split(path, dir, sizeof dir, w->job->only, sizeof w->job->only))
        status = UV_ENAMETOOLONG;
    else
        status = uv_fs_event_start(&w->job->event, on_event, dir, 0);
    if (status < 0) {
        err_uv(&e, status, "cannot watch it");
        return err_return(L, &e, "fs.watch", path);
    }
    return 1;
}

static const luaL_Reg methods[] = {{"wait", l_wait}, {"close", l_close}, {NULL, NULL}};
static const luaL_Reg metamethods[] = {{"__gc", l_close}, {"__close", l_close}, {NULL, NULL}};

void watch_register(lua_State *L)
{
    bind_class(L, CLASS, methods, metamethods);
    lua_pushcfunction(L, l_watch);
    lua_setfield(L, -2, "watch");
}
