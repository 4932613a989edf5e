/* fs.lock and fs.temp_dir: what is held until it is let go. Making one waits; letting it go does not.
 *
 * A handle is handed over to Lua when its job finishes, and undone when nobody waits for it any more. Both
 * are also let go when they are collected, and when the host stops. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "api.h"
#include "bind.h"
#include "fs.h"
#include "host.h"
#include "work.h"

#define LOCK_CLASS "moontide.lock"
#define TEMP_CLASS "moontide.temp"

static char *copy(lua_State *L, const char *text)
{
    char *out = strdup(text);

    if (!out)
        luaL_error(L, "not enough memory");
    return out;
}

/* --- locks --- */

struct lock {
    int fd;
    bool held;
};

struct lock_work {
    struct work work;
    char *root, *path;
    bool shared;
    int fd; /* -1 once handed over */
};

static int l_lock_close(lua_State *L)
{
    struct lock *lock = bind_self(L, 1, LOCK_CLASS);

    if (lock->held)
        close(lock->fd);
    lock->held = false;
    return 0;
}

static int l_lock_tostring(lua_State *L)
{
    struct lock *lock = bind_self(L, 1, LOCK_CLASS);

    lua_pushstring(L, lock->held ? "lock" : "lock (released)");
    return 1;
}

static void lock_destroy(struct work *work)
{
    struct lock_work *w = (struct lock_work *)work;

    if (w->fd >= 0)
        close(w->fd);
    free(w->root);
    free(w->path);
}

static void lock_run(struct work *work)
{
    struct lock_work *w = (struct lock_work *)work;

    w->fd = fs_lock((struct fs_path){w->root, w->path}, w->shared, &work->err);
}

static int lock_finish(lua_State *L, struct work *work)
{
    struct lock_work *w = (struct lock_work *)work;
    struct lock *lock;

    if (work->err.code != ERR_NONE)
        return err_return(L, &work->err, "fs.lock", w->path);
    lock = bind_new(L, sizeof *lock, LOCK_CLASS);
    lock->fd = w->fd;
    lock->held = true;
    w->fd = -1;
    return 1;
}

static int l_lock(lua_State *L)
{
    static const char *const known[] = {"root", "shared", NULL};
    static const char usage[] = "fs.lock(path [, {root, shared}])";
    const char *path = bind_text(L, 1, usage), *root;
    struct lock_work *w;
    bool shared;

    bind_options(L, 2, usage, known);
    lua_settop(L, 2);
    root = bind_opt_text(L, 2, "root", NULL);
    shared = bind_opt_bool(L, 2, "shared", false);
    w = work_new(L, sizeof *w, lock_run, lock_destroy);
    w->fd = -1;
    w->shared = shared;
    w->path = copy(L, path);
    w->root = root ? copy(L, root) : NULL;
    return work_wait(L, &w->work, lock_finish);
}

/* --- temporary directories --- */

struct temp {
    char path[PATH_MAX]; /* empty: removed */
    int fd;              /* marks it as in use */
};

struct temp_work {
    struct work work;
    char *parent, *prefix;
    bool sweep;
    char made[PATH_MAX]; /* empty once handed over */
    int fd;
};

struct temp_removal {
    uv_work_t req;
    char path[PATH_MAX];
    int fd;
};

static void temp_remove(const char *path, int fd)
{
    struct err ignored;

    fs_remove((struct fs_path){NULL, path}, true, &ignored);
    close(fd);
}

static void removal_run(uv_work_t *req)
{
    struct temp_removal *r = req->data;

    temp_remove(r->path, r->fd);
}

static void removal_after(uv_work_t *req, int status)
{
    (void)status;
    free(req->data);
}

/* Closing must not wait, and a tree may be large: the directory leaves its place at once, and the pool
 * removes it. When the host stops there is no pool any more. */
static int l_temp_close(lua_State *L)
{
    struct temp *temp = bind_self(L, 1, TEMP_CLASS);
    struct host *host = bind_host(L);
    struct temp_removal *r = host->stopping || !temp->path[0] ? NULL : calloc(1, sizeof *r);
    char *slash = strrchr(temp->path, '/');

    if (!temp->path[0])
        return 0;
    if (r) {
        snprintf(r->path, sizeof r->path, "%.*s/.gone-%s", (int)(slash - temp->path), temp->path, slash + 1);
        if (rename(temp->path, r->path) == 0) {
            r->req.data = r;
            r->fd = temp->fd;
            if (uv_queue_work(&host->loop, &r->req, removal_run, removal_after) == 0) {
                temp->path[0] = '\0';
                return 0;
            }
            snprintf(temp->path, sizeof temp->path, "%s", r->path);
        }
        free(r);
    }
    temp_remove(temp->path, temp->fd);
    temp->path[0] = '\0';
    return 0;
}

static int l_temp_path(lua_State *L)
{
    struct temp *temp = bind_self(L, 1, TEMP_CLASS);

    lua_pushstring(L, temp->path[0] ? temp->path : NULL);
    return 1;
}

static void temp_destroy(struct work *work)
{
    struct temp_work *w = (struct temp_work *)work;

    if (w->made[0])
        temp_remove(w->made, w->fd);
    free(w->parent);
    free(w->prefix);
}

static void temp_run(struct work *work)
{
    struct temp_work *w = (struct temp_work *)work;

    if (w->sweep)
        fs_temp_sweep(w->parent);
    w->fd = fs_temp_dir(w->parent, w->prefix, w->made, sizeof w->made - 8, &work->err);
    if (w->fd < 0)
        w->made[0] = '\0';
}

static int temp_finish(lua_State *L, struct work *work)
{
    struct temp_work *w = (struct temp_work *)work;
    struct temp *temp;

    if (work->err.code != ERR_NONE)
        return err_return(L, &work->err, "fs.temp_dir", w->parent);
    temp = bind_new(L, sizeof *temp, TEMP_CLASS);
    memcpy(temp->path, w->made, sizeof temp->path);
    temp->fd = w->fd;
    w->made[0] = '\0';
    return 1;
}

/* temp_dir(parent, prefix, sweep): a handle whose path() is there until it is closed or collected; with
 * `sweep` what killed processes left beside it goes first. */
static int l_temp_dir(lua_State *L)
{
    static const char usage[] = "fs.temp_dir([{dir, prefix}])";
    const char *parent = bind_text(L, 1, usage), *prefix = bind_text(L, 2, usage);
    struct temp_work *w = work_new(L, sizeof *w, temp_run, temp_destroy);

    w->sweep = lua_toboolean(L, 3);
    w->parent = copy(L, parent);
    w->prefix = copy(L, prefix);
    return work_wait(L, &w->work, temp_finish);
}

/* --- tables --- */

static const luaL_Reg lock_methods[] = {{"close", l_lock_close}, {NULL, NULL}};
static const luaL_Reg lock_metamethods[] = {
    {"__gc", l_lock_close},
    {"__close", l_lock_close},
    {"__tostring", l_lock_tostring},
    {NULL, NULL},
};

static const luaL_Reg temp_methods[] = {{"path", l_temp_path}, {"close", l_temp_close}, {NULL, NULL}};
static const luaL_Reg temp_metamethods[] = {{"__gc", l_temp_close}, {"__close", l_temp_close}, {NULL, NULL}};

/* Adds the functions to the table on top. */
void hold_register(lua_State *L)
{
    bind_class(L, LOCK_CLASS, lock_methods, lock_metamethods);
    bind_class(L, TEMP_CLASS, temp_methods, temp_metamethods);
    lua_pushcfunction(L, l_lock);
    lua_setfield(L, -2, "lock");
    lua_pushcfunction(L, l_temp_dir);
    lua_setfield(L, -2, "temp_dir");
}
