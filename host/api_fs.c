/* core.fs: files on the thread pool, over fs.c. Everything here waits. Locks and temporary directories are in
 * api_hold.c, watches in api_watch.c.
 *
 * A job owns plain copies of its arguments. Paths with NUL raise; stdlib/fs.lua documents the rest. */
#include <stdlib.h>
#include <string.h>
#include "api.h"
#include "bind.h"
#include "fs.h"
#include "host.h"
#include "work.h"

#define READ_MAX ((size_t)16 * 1024 * 1024)
#define LIST_MAX ((size_t)1000000)

struct fs_work {
    struct work work;
    char *root, *path, *to;
    char *data;
    size_t len, max;
    uint64_t offset, length;
    int mode;
    bool sync, flag; /* flag: parents, recursive, follow or replace */
    struct buf out;
    struct stat st;
};

static struct fs_path place(const struct fs_work *w)
{
    return (struct fs_path){w->root, w->path};
}

static void fs_work_destroy(struct work *work)
{
    struct fs_work *w = (struct fs_work *)work;

    free(w->root);
    free(w->path);
    free(w->to);
    free(w->data);
    buf_free(&w->out);
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

/* A job for the path at 1 and the options at `opts`. */
static struct fs_work *fs_work_new(lua_State *L, int opts, void (*run)(struct work *), const char *usage)
{
    const char *path = bind_text(L, 1, usage);
    const char *root = bind_opt_text(L, opts, "root", NULL);
    struct fs_work *w = work_new(L, sizeof *w, run, fs_work_destroy);

    w->mode = -1;
    w->path = copy(L, path, strlen(path));
    if (root)
        w->root = copy(L, root, strlen(root));
    return w;
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

static void read_run(struct work *work)
{
    struct fs_work *w = (struct fs_work *)work;

    fs_read(place(w), w->offset, w->length, w->max, &w->out, &work->err);
}

static int read_finish(lua_State *L, struct work *work)
{
    struct fs_work *w = (struct fs_work *)work;

    if (work->err.code != ERR_NONE)
        return err_return(L, &work->err, "fs.read", w->path);
    lua_pushlstring(L, w->out.len ? w->out.data : "", w->out.len);
    return 1;
}

static int l_read(lua_State *L)
{
    static const char *const known[] = {"max", "root", "offset", "length", NULL};
    static const char usage[] = "fs.read(path [, {max, root, offset, length}])";
    struct fs_work *w;

    bind_options(L, 2, usage, known);
    lua_settop(L, 2);
    w = fs_work_new(L, 2, read_run, usage);
    w->max = size_option(L, 2, "max", READ_MAX);
    w->offset = size_option(L, 2, "offset", 0);
    w->length = bind_opt_integer(L, 2, "length", -1) < 0 ? UINT64_MAX : size_option(L, 2, "length", 0);
    if (w->max > SIZE_MAX / 2)
        w->max = SIZE_MAX / 2;
    return work_wait(L, &w->work, read_finish);
}

static int done_finish(lua_State *L, struct work *work, const char *op)
{
    struct fs_work *w = (struct fs_work *)work;

    if (work->err.code != ERR_NONE)
        return err_return(L, &work->err, op, w->path);
    lua_pushboolean(L, 1);
    return 1;
}

static void write_run(struct work *work)
{
    struct fs_work *w = (struct fs_work *)work;

    fs_write(place(w), w->data, w->len, w->mode, w->sync, &work->err);
}

static int write_finish(lua_State *L, struct work *work)
{
    return done_finish(L, work, "fs.write");
}

static void append_run(struct work *work)
{
    struct fs_work *w = (struct fs_work *)work;

    fs_append(place(w), w->data, w->len, w->mode, w->sync, &work->err);
}

static int append_finish(lua_State *L, struct work *work)
{
    return done_finish(L, work, "fs.append");
}

static struct fs_work *output_new(lua_State *L, bool sync, void (*run)(struct work *), const char *usage)
{
    static const char *const known[] = {"mode", "root", "sync", NULL};
    const char *data;
    size_t len;
    struct fs_work *w;

    if (lua_type(L, 2) != LUA_TSTRING)
        bind_usage(L, usage);
    bind_options(L, 3, usage, known);
    lua_settop(L, 3);
    data = lua_tolstring(L, 2, &len);
    w = fs_work_new(L, 3, run, usage);
    w->data = copy(L, data, len);
    w->len = len;
    w->mode = mode_option(L, 3, -1);
    w->sync = bind_opt_bool(L, 3, "sync", sync);
    return w;
}

static int l_write(lua_State *L)
{
    struct fs_work *w = output_new(L, true, write_run, "fs.write(path, data [, {mode, root, sync}])");

    return work_wait(L, &w->work, write_finish);
}

static int l_append(lua_State *L)
{
    struct fs_work *w = output_new(L, false, append_run, "fs.append(path, data [, {mode, root, sync}])");

    return work_wait(L, &w->work, append_finish);
}

/* --- list, stat --- */

static void push_type(lua_State *L, char type)
{
    static const char *const names[] = {"file", "dir", "link", "fifo", "socket", "device", "device"};
    const char *at = strchr("fdlpscb", type);

    lua_pushstring(L, type && at ? names[at - "fdlpscb"] : "unknown");
}

static void list_run(struct work *work)
{
    struct fs_work *w = (struct fs_work *)work;

    fs_list(place(w), w->max, &w->out, &work->err);
}

/* Two tables: the names in order; the type of each name. */
static int list_finish(lua_State *L, struct work *work)
{
    struct fs_work *w = (struct fs_work *)work;
    lua_Integer n = 0;

    if (work->err.code != ERR_NONE)
        return err_return(L, &work->err, "fs.list", w->path);
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
    static const char usage[] = "fs.list(path [, {root, max}])";
    struct fs_work *w;

    bind_options(L, 2, usage, known);
    lua_settop(L, 2);
    w = fs_work_new(L, 2, list_run, usage);
    w->max = size_option(L, 2, "max", LIST_MAX);
    return work_wait(L, &w->work, list_finish);
}

static void stat_run(struct work *work)
{
    struct fs_work *w = (struct fs_work *)work;

    fs_stat(place(w), w->flag, &w->st, &work->err);
}

static void set_integer(lua_State *L, const char *name, lua_Integer value)
{
    lua_pushinteger(L, value);
    lua_setfield(L, -2, name);
}

static int stat_finish(lua_State *L, struct work *work)
{
    struct fs_work *w = (struct fs_work *)work;
    const struct stat *st = &w->st;

    if (work->err.code != ERR_NONE)
        return err_return(L, &work->err, "fs.stat", w->path);
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
    static const char usage[] = "fs.stat(path [, {root, follow}])";
    struct fs_work *w;

    bind_options(L, 2, usage, known);
    lua_settop(L, 2);
    w = fs_work_new(L, 2, stat_run, usage);
    w->flag = bind_opt_bool(L, 2, "follow", true);
    return work_wait(L, &w->work, stat_finish);
}

/* --- mkdir, remove, rename --- */

static void mkdir_run(struct work *work)
{
    struct fs_work *w = (struct fs_work *)work;

    fs_mkdir(place(w), w->mode, w->flag, &work->err);
}

static int mkdir_finish(lua_State *L, struct work *work)
{
    return done_finish(L, work, "fs.mkdir");
}

static int l_mkdir(lua_State *L)
{
    static const char *const known[] = {"root", "mode", "parents", NULL};
    static const char usage[] = "fs.mkdir(path [, {root, mode, parents}])";
    struct fs_work *w;

    bind_options(L, 2, usage, known);
    lua_settop(L, 2);
    w = fs_work_new(L, 2, mkdir_run, usage);
    w->mode = mode_option(L, 2, 0777);
    w->flag = bind_opt_bool(L, 2, "parents", false);
    return work_wait(L, &w->work, mkdir_finish);
}

static void remove_run(struct work *work)
{
    struct fs_work *w = (struct fs_work *)work;

    fs_remove(place(w), w->flag, &work->err);
}

static int remove_finish(lua_State *L, struct work *work)
{
    return done_finish(L, work, "fs.remove");
}

static int l_remove(lua_State *L)
{
    static const char *const known[] = {"root", "recursive", NULL};
    static const char usage[] = "fs.remove(path [, {root, recursive}])";
    struct fs_work *w;

    bind_options(L, 2, usage, known);
    lua_settop(L, 2);
    w = fs_work_new(L, 2, remove_run, usage);
    w->flag = bind_opt_bool(L, 2, "recursive", false);
    return work_wait(L, &w->work, remove_finish);
}

static void rename_run(struct work *work)
{
    struct fs_work *w = (struct fs_work *)work;

    fs_rename(w->root, w->path, w->to, w->flag, w->sync, &work->err);
}

static int rename_finish(lua_State *L, struct work *work)
{
    return done_finish(L, work, "fs.rename");
}

static int l_rename(lua_State *L)
{
    static const char *const known[] = {"root", "replace", "sync", NULL};
    static const char usage[] = "fs.rename(from, to [, {root, replace, sync}])";
    const char *to = bind_text(L, 2, usage);
    struct fs_work *w;

    bind_options(L, 3, usage, known);
    lua_settop(L, 3);
    w = fs_work_new(L, 3, rename_run, usage);
    w->to = copy(L, to, strlen(to));
    w->flag = bind_opt_bool(L, 3, "replace", true);
    w->sync = bind_opt_bool(L, 3, "sync", true);
    return work_wait(L, &w->work, rename_finish);
}

/* --- tables --- */

static const luaL_Reg functions[] = {
    {"read", l_read},   {"write", l_write},   {"append", l_append}, {"list", l_list}, {"stat", l_stat},
    {"mkdir", l_mkdir}, {"remove", l_remove}, {"rename", l_rename}, {NULL, NULL},
};

int luaopen_core_fs(lua_State *L)
{
    luaL_newlib(L, functions);
    hold_register(L);
    watch_register(L);
    return 1;
}
