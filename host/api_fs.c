/* core.fs: files on the thread pool, over fs.c; locks and temporary directories, which last until they are
 * closed or collected, or the host stops; watches. All but closing waits.
 *
 * A job owns plain copies of its arguments. What it made is handed over to Lua when it finishes, and undone
 * when its task no longer waits. Paths with NUL raise; stdlib/fs.lua documents the rest. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "api.h"
#include "bind.h"
#include "fs.h"
#include "host.h"
#include "work.h"

#define LOCK_CLASS  "moontide.lock"
#define TEMP_CLASS  "moontide.temp"
#define WATCH_CLASS "moontide.watch"

#define READ_MAX ((size_t)16 * 1024 * 1024)
#define LIST_MAX ((size_t)1000000)

#define NAMES_MAX 256 /* that a watch keeps between two reads */

enum call { READ, WRITE, APPEND, LIST, STAT, MKDIR, REMOVE, RENAME, LOCK, TEMP_DIR };

struct fs_work {
    struct work work;
    enum call call;
    int (*push)(lua_State *L, struct fs_work *w); /* what it answers; NULL: true */
    char *root, *path, *to;
    char *data; /* to write; the temporary directory that was made */
    size_t len, max;
    uint64_t offset, length;
    int mode;
    int fd;          /* of a lock or a temporary directory; -1: none, or handed over */
    bool sync, flag; /* flag: parents, recursive, follow, replace, shared or sweep */
    struct buf out;
    struct stat st;
};

static void temp_remove(const char *path, int fd)
{
    struct err ignored;

    fs_remove((struct fs_path){NULL, path}, true, &ignored);
    close(fd);
}

static void fs_work_destroy(struct work *work)
{
    struct fs_work *w = (struct fs_work *)work;

    if (w->fd >= 0 && w->data)
        temp_remove(w->data, w->fd);
    else if (w->fd >= 0)
        close(w->fd);
    free(w->root);
    free(w->path);
    free(w->to);
    free(w->data);
    buf_free(&w->out);
}

static void fs_work_run(struct work *work)
{
    struct fs_work *w = (struct fs_work *)work;
    struct fs_path at = {w->root, w->path};
    struct err *e = &work->err;

    switch (w->call) {
    case READ:
        fs_read(at, w->offset, w->length, w->max, &w->out, e);
        break;
    case WRITE:
        fs_write(at, w->data, w->len, w->mode, w->sync, e);
        break;
    case APPEND:
        fs_append(at, w->data, w->len, w->mode, w->sync, e);
        break;
    case LIST:
        fs_list(at, w->max, &w->out, e);
        break;
    case STAT:
        fs_stat(at, w->flag, &w->st, e);
        break;
    case MKDIR:
        fs_mkdir(at, w->mode, w->flag, e);
        break;
    case REMOVE:
        fs_remove(at, w->flag, e);
        break;
    case RENAME:
        fs_rename(w->root, w->path, w->to, w->flag, w->sync, e);
        break;
    case LOCK:
        w->fd = fs_lock(at, w->flag, e);
        break;
    case TEMP_DIR:
        if (w->flag)
            fs_temp_sweep(w->path);
        w->fd = fs_temp_dir(w->path, w->to, w->data, PATH_MAX - 8, e);
        break;
    }
}

static char *copy(lua_State *L, const char *text, size_t len)
{
    char *out = malloc(len + 1);

    if (out) {
        memcpy(out, text, len);
        out[len] = '\0';
    } else {
        luaL_error(L, "not enough memory");
    }
    return out;
}

/* A job for the path at 1 and the options at `opts`, the last argument. */
static struct fs_work *fs_work_new(lua_State *L, int opts, const char *const known[], enum call call,
                                   const char *usage)
{
    const char *path, *root;
    struct fs_work *w;

    bind_options(L, opts, usage, known);
    lua_settop(L, opts);
    path = bind_text(L, 1, usage);
    root = bind_opt_text(L, opts, "root", NULL);
    w = work_new(L, sizeof *w, fs_work_run, fs_work_destroy);
    w->call = call;
    w->mode = w->fd = -1;
    w->path = copy(L, path, strlen(path));
    if (root)
        w->root = copy(L, root, strlen(root));
    return w;
}

static int fs_work_finish(lua_State *L, struct work *work)
{
    static const char *const names[] = {"fs.read",  "fs.write",  "fs.append", "fs.list", "fs.stat",
                                        "fs.mkdir", "fs.remove", "fs.rename", "fs.lock", "fs.temp_dir"};
    struct fs_work *w = (struct fs_work *)work;

    if (work->err.code != ERR_NONE)
        return err_return(L, &work->err, names[w->call], w->path);
    if (w->push)
        return w->push(L, w);
    lua_pushboolean(L, 1);
    return 1;
}

static int fs_work_wait(lua_State *L, struct fs_work *w, int (*push)(lua_State *L, struct fs_work *w))
{
    w->push = push;
    return work_wait(L, &w->work, fs_work_finish);
}

static int mode_option(lua_State *L, int opts, int fallback)
{
    lua_Integer mode = bind_opt_integer(L, opts, "mode", fallback);

    if (mode < -1 || mode > 07777)
        luaL_error(L, "option 'mode' must be permission bits, such as tonumber('644', 8)");
    return (int)mode;
}

static size_t size_option(lua_State *L, int opts, const char *name, size_t fallback)
{
    lua_Integer value = bind_opt_integer(L, opts, name, (lua_Integer)fallback);

    if (value < 0)
        luaL_error(L, "option '%s' must not be negative", name);
    return (size_t)value;
}

/* --- read, write, append --- */

static int push_read(lua_State *L, struct fs_work *w)
{
    lua_pushlstring(L, w->out.len ? w->out.data : "", w->out.len);
    return 1;
}

static int l_read(lua_State *L)
{
    static const char *const known[] = {"max", "root", "offset", "length", NULL};
    struct fs_work *w = fs_work_new(L, 2, known, READ, "fs.read(path [, {max, root, offset, length}])");

    w->max = size_option(L, 2, "max", READ_MAX);
    w->offset = size_option(L, 2, "offset", 0);
    w->length = bind_opt_integer(L, 2, "length", -1) < 0 ? UINT64_MAX : size_option(L, 2, "length", 0);
    if (w->max > SIZE_MAX / 2)
        w->max = SIZE_MAX / 2;
    return fs_work_wait(L, w, push_read);
}

static int output(lua_State *L, enum call call, const char *usage)
{
    static const char *const known[] = {"mode", "root", "sync", NULL};
    const char *data;
    size_t len;
    struct fs_work *w;

    if (lua_type(L, 2) != LUA_TSTRING)
        bind_usage(L, usage);
    data = lua_tolstring(L, 2, &len);
    w = fs_work_new(L, 3, known, call, usage);
    w->data = copy(L, data, len);
    w->len = len;
    w->mode = mode_option(L, 3, -1);
    w->sync = bind_opt_bool(L, 3, "sync", call == WRITE);
    return fs_work_wait(L, w, NULL);
}

static int l_write(lua_State *L)
{
    return output(L, WRITE, "fs.write(path, data [, {mode, root, sync}])");
}

static int l_append(lua_State *L)
{
    return output(L, APPEND, "fs.append(path, data [, {mode, root, sync}])");
}

/* --- list, stat --- */

static void push_type(lua_State *L, char type)
{
    static const char *const names[] = {"file", "dir", "link", "fifo", "socket", "device", "device"};
    const char *at = strchr("fdlpscb", type);

    lua_pushstring(L, type && at ? names[at - "fdlpscb"] : "unknown");
}

/* Two tables: the names in order; the type of each name. */
static int push_list(lua_State *L, struct fs_work *w)
{
    lua_Integer n = 0;

    lua_newtable(L);
    lua_newtable(L);
    for (size_t at = 0; at < w->out.len;) {
        size_t len = strlen(w->out.data + at + 1);

        lua_pushlstring(L, w->out.data + at + 1, len); /* names types name */
        lua_pushvalue(L, -1);
        lua_rawseti(L, -4, ++n);
        push_type(L, w->out.data[at]); /* names types name type */
        lua_rawset(L, -3);
        at += len + 2;
    }
    return 2;
}

static int l_list(lua_State *L)
{
    static const char *const known[] = {"root", "max", NULL};
    struct fs_work *w = fs_work_new(L, 2, known, LIST, "fs.list(path [, {root, max}])");

    w->max = size_option(L, 2, "max", LIST_MAX);
    return fs_work_wait(L, w, push_list);
}

static void set_integer(lua_State *L, const char *name, lua_Integer value)
{
    lua_pushinteger(L, value);
    lua_setfield(L, -2, name);
}

static int push_stat(lua_State *L, struct fs_work *w)
{
    const struct stat *st = &w->st;

    lua_createtable(L, 0, 9);
    push_type(L, fs_type(st->st_mode));
    lua_setfield(L, -2, "type");
    set_integer(L, "size", st->st_size);
    set_integer(L, "mode", st->st_mode & 07777);
    set_integer(L, "uid", st->st_uid);
    set_integer(L, "gid", st->st_gid);
    set_integer(L, "links", (lua_Integer)st->st_nlink);
    set_integer(L, "device", (lua_Integer)st->st_dev);
    set_integer(L, "inode", (lua_Integer)st->st_ino);
    lua_pushnumber(L, (lua_Number)st->st_mtim.tv_sec + (lua_Number)st->st_mtim.tv_nsec / 1e9);
    lua_setfield(L, -2, "mtime");
    return 1;
}

static int l_stat(lua_State *L)
{
    static const char *const known[] = {"root", "follow", NULL};
    struct fs_work *w = fs_work_new(L, 2, known, STAT, "fs.stat(path [, {root, follow}])");

    w->flag = bind_opt_bool(L, 2, "follow", true);
    return fs_work_wait(L, w, push_stat);
}

/* --- mkdir, remove, rename --- */

static int l_mkdir(lua_State *L)
{
    static const char *const known[] = {"root", "mode", "parents", NULL};
    struct fs_work *w = fs_work_new(L, 2, known, MKDIR, "fs.mkdir(path [, {root, mode, parents}])");

    w->mode = mode_option(L, 2, 0777);
    w->flag = bind_opt_bool(L, 2, "parents", false);
    return fs_work_wait(L, w, NULL);
}

static int l_remove(lua_State *L)
{
    static const char *const known[] = {"root", "recursive", NULL};
    struct fs_work *w = fs_work_new(L, 2, known, REMOVE, "fs.remove(path [, {root, recursive}])");

    w->flag = bind_opt_bool(L, 2, "recursive", false);
    return fs_work_wait(L, w, NULL);
}

static int l_rename(lua_State *L)
{
    static const char *const known[] = {"root", "replace", "sync", NULL};
    static const char usage[] = "fs.rename(from, to [, {root, replace, sync}])";
    const char *to = bind_text(L, 2, usage);
    struct fs_work *w = fs_work_new(L, 3, known, RENAME, usage);

    w->to = copy(L, to, strlen(to));
    w->flag = bind_opt_bool(L, 3, "replace", true);
    w->sync = bind_opt_bool(L, 3, "sync", true);
    return fs_work_wait(L, w, NULL);
}

/* --- locks --- */

struct lock {
    int fd;
    bool held;
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

static int push_lock(lua_State *L, struct fs_work *w)
{
    struct lock *lock = bind_new(L, sizeof *lock, LOCK_CLASS);

    lock->fd = w->fd;
    lock->held = true;
    w->fd = -1;
    return 1;
}

static int l_lock(lua_State *L)
{
    static const char *const known[] = {"root", "shared", NULL};
    struct fs_work *w = fs_work_new(L, 2, known, LOCK, "fs.lock(path [, {root, shared}])");

    w->flag = bind_opt_bool(L, 2, "shared", false);
    return fs_work_wait(L, w, push_lock);
}

/* --- temporary directories --- */

struct temp {
    char *path; /* NULL: removed */
    int fd;     /* marks it as in use */
};

struct removal {
    uv_work_t req;
    char *path;
    int fd;
};

static void removal_run(uv_work_t *req)
{
    struct removal *r = req->data;

    temp_remove(r->path, r->fd);
}

static void removal_after(uv_work_t *req, int status)
{
    struct removal *r = req->data;

    (void)status;
    free(r->path);
    free(r);
}

/* Renames the directory out of its place. */
static void leave_place(struct temp *temp)
{
    const char *slash = strrchr(temp->path, '/');
    char *gone;

    if (asprintf(&gone, "%.*s/.gone-%s", (int)(slash - temp->path), temp->path, slash + 1) < 0)
        return;
    if (rename(temp->path, gone) == 0) {
        free(temp->path);
        temp->path = gone;
    } else {
        free(gone);
    }
}

/* Closing must not wait, and a tree may be large: the directory leaves its place at once, and the pool
 * removes it. When the host stops there is no pool any more. */
static int l_temp_close(lua_State *L)
{
    struct temp *temp = bind_self(L, 1, TEMP_CLASS);
    struct host *host = bind_host(L);
    struct removal *r;

    if (!temp->path)
        return 0;
    r = host->stopping ? NULL : calloc(1, sizeof *r);
    if (r) {
        leave_place(temp);
        r->req.data = r;
        r->path = temp->path;
        r->fd = temp->fd;
    }
    if (!r || uv_queue_work(&host->loop, &r->req, removal_run, removal_after) != 0) {
        temp_remove(temp->path, temp->fd);
        free(temp->path);
        free(r);
    }
    temp->path = NULL;
    return 0;
}

static int l_temp_path(lua_State *L)
{
    struct temp *temp = bind_self(L, 1, TEMP_CLASS);

    lua_pushstring(L, temp->path);
    return 1;
}

static int push_temp(lua_State *L, struct fs_work *w)
{
    struct temp *temp = bind_new(L, sizeof *temp, TEMP_CLASS);

    temp->path = w->data;
    temp->fd = w->fd;
    w->data = NULL;
    w->fd = -1;
    return 1;
}

/* temp_dir(parent, prefix, sweep): a handle whose path() is there until it is closed or collected; with
 * `sweep` what killed processes left beside it goes first. */
static int l_temp_dir(lua_State *L)
{
    static const char *const known[] = {NULL};
    static const char usage[] = "fs.temp_dir([{dir, prefix}])";
    bool sweep = lua_toboolean(L, 3);
    const char *prefix = bind_text(L, 2, usage);
    struct fs_work *w;

    lua_settop(L, 2);
    w = fs_work_new(L, 3, known, TEMP_DIR, usage);
    w->flag = sweep;
    w->to = copy(L, prefix, strlen(prefix));
    w->data = calloc(1, PATH_MAX);
    if (!w->data)
        return luaL_error(L, "not enough memory");
    return fs_work_wait(L, w, push_temp);
}

/* --- watches ---
 *
 * inotify through libuv. A file is watched through its directory, since most writers replace files; so it may
 * also be missing as yet. Events are only hints: names are merged, and above NAMES_MAX forgotten. */

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

static void on_watch_event(uv_fs_event_t *event, const char *name, int events, int status)
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

static void on_watch_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static int watch_finish(lua_State *L, struct op *op)
{
    struct watch *w = bind_self(L, 1, WATCH_CLASS);
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
static int l_watch_wait(lua_State *L)
{
    struct watch *w = bind_self(L, 1, WATCH_CLASS);
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

static int l_watch_close(lua_State *L)
{
    struct watch *w = bind_self(L, 1, WATCH_CLASS);
    struct watch_job *job = w->job;

    if (!job)
        return 0;
    w->job = NULL;
    job->watch = NULL;
    uv_close((uv_handle_t *)&job->event, on_watch_closed);
    buf_free(&w->names);
    op_done(w->waiter);
    return 0;
}

/* Splits a file's path into its directory (in `dir`) and its name (in `only`); a directory stays whole. */
static bool split_path(const char *path, char *dir, size_t size, char *only, size_t only_size)
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
    struct watch *w = bind_new(L, sizeof *w, WATCH_CLASS);
    char dir[PATH_MAX];
    struct err e;
    int status;

    w->job = calloc(1, sizeof *w->job);
    if (!w->job)
        return luaL_error(L, "not enough memory");
    w->job->event.data = w->job;
    w->job->watch = w;
    uv_fs_event_init(&bind_host(L)->loop, &w->job->event);
    if (!split_path(path, dir, sizeof dir, w->job->only, sizeof w->job->only))
        status = UV_ENAMETOOLONG;
    else
        status = uv_fs_event_start(&w->job->event, on_watch_event, dir, 0);
    if (status < 0) {
        err_uv(&e, status, "cannot watch it");
        return err_return(L, &e, "fs.watch", path);
    }
    return 1;
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
static const luaL_Reg watch_methods[] = {{"wait", l_watch_wait}, {"close", l_watch_close}, {NULL, NULL}};
static const luaL_Reg functions[] = {
    {"read", l_read}, {"write", l_write},       {"append", l_append}, {"list", l_list},
    {"stat", l_stat}, {"mkdir", l_mkdir},       {"remove", l_remove}, {"rename", l_rename},
    {"lock", l_lock}, {"temp_dir", l_temp_dir}, {"watch", l_watch},   {NULL, NULL},
};

int luaopen_core_fs(lua_State *L)
{
    bind_class(L, LOCK_CLASS, lock_methods, lock_metamethods);
    bind_closable(L, TEMP_CLASS, temp_methods, l_temp_close);
    bind_closable(L, WATCH_CLASS, watch_methods, l_watch_close);
    luaL_newlib(L, functions);
    return 1;
}
