/* Making, removing and renaming in the tree of files, and locks. */
#include "fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool fail(struct err *e, const char *what)
{
    err_errno(e, errno, what);
    return false;
}

/* --- directories --- */

static bool mkdir_one(struct fs_path at, int mode, struct err *e)
{
    char text[4096];
    const char *leaf;
    int dir = fs_parent(at, text, sizeof text, &leaf);
    bool ok;

    if (dir < 0)
        return fail(e, "cannot open its directory");
    ok = mkdirat(dir, leaf, (mode_t)mode) == 0 || fail(e, "cannot make it");
    close(dir);
    return ok;
}

/* Makes sure of one directory on the way; true as well when somebody else was quicker. */
static bool mkdir_sure(struct fs_path at, int mode, struct err *e)
{
    struct stat st;

    for (int tries = 0; tries < 3; tries++) {
        if (fs_stat(at, true, &st, e)) {
            if (S_ISDIR(st.st_mode))
                return true;
            errno = ENOTDIR;
            return fail(e, "cannot make it");
        }
        if (e->code != ERR_NOT_FOUND)
            return false;
        if (mkdir_one(at, mode, e))
            return true;
        if (e->code != ERR_EXISTS)
            return false;
    }
    return false;
}

bool fs_mkdir(struct fs_path at, int mode, bool parents, struct err *e)
{
    char text[4096];
    size_t len = strlen(at.path);

    if (!parents)
        return mkdir_one(at, mode, e);
    if (len >= sizeof text) {
        errno = ENAMETOOLONG;
        return fail(e, "cannot make it");
    }
    memcpy(text, at.path, len + 1);
    for (size_t i = 1; i <= len; i++) {
        struct fs_path part = {at.root, text};

        if (text[i] != '/' && text[i] != '\0')
            continue;
        text[i] = '\0';
        if (!mkdir_sure(part, i == len ? mode : 0777, e))
            return false;
        text[i] = at.path[i];
    }
    e->code = ERR_NONE;
    return true;
}

/* --- removing a tree --- */

/* The way back up: what the directory that we came from was. */
struct level {
    dev_t dev;
    ino_t ino;
    char name[256]; /* of the directory we are in, in the one above */
};

struct removal {
    DIR *dir; /* the directory being emptied; owns its descriptor */
    struct level *levels;
    size_t depth, room;
    dev_t dev;
};

static DIR *dir_open(int at, const char *name, struct stat *st)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);

    if (fd >= 0 && (!dir || fstat(fd, st) < 0)) {
        int why = errno;

        if (dir)
            closedir(dir);
        else
            close(fd);
        errno = why;
        return NULL;
    }
    return dir;
}

/* Goes into the subdirectory. Only the way back is kept, no descriptor per level: the depth has no limit. */
static bool removal_enter(struct removal *r, const char *name)
{
    struct stat here, there;
    struct level *level;
    DIR *sub;

    if (r->depth == r->room) {
        size_t room = r->room ? r->room * 2 : 16;
        struct level *more = realloc(r->levels, room * sizeof *more);

        if (!more)
            return false;
        r->levels = more;
        r->room = room;
    }
    if (fstat(dirfd(r->dir), &here) < 0)
        return false;
    sub = dir_open(dirfd(r->dir), name, &there);
    if (!sub)
        return false;
    if (there.st_dev != r->dev) {
        closedir(sub);
        errno = EBUSY; /* something is mounted there */
        return false;
    }
    level = &r->levels[r->depth++];
    level->dev = here.st_dev;
    level->ino = here.st_ino;
    snprintf(level->name, sizeof level->name, "%s", name);
    closedir(r->dir);
    r->dir = sub;
    return true;
}

/* Goes back up and removes the directory just emptied. */
static bool removal_leave(struct removal *r)
{
    struct level *level = &r->levels[--r->depth];
    struct stat st;
    DIR *up = dir_open(dirfd(r->dir), "..", &st);

    if (!up)
        return false;
    closedir(r->dir);
    r->dir = up;
    if (st.st_dev != level->dev || st.st_ino != level->ino) {
        errno = EBUSY; /* somebody moved it while we were inside */
        return false;
    }
    return unlinkat(dirfd(up), level->name, AT_REMOVEDIR) == 0 || errno == ENOENT;
}

/* Empties the directory: unlinks what is no directory, goes into what is one, comes back, looks again. */
static bool removal_run(struct removal *r)
{
    for (;;) {
        struct dirent *entry;
        bool entered = false;

        while (!entered && (errno = 0, (entry = readdir(r->dir)) != NULL)) {
            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                continue;
            if (entry->d_type != DT_DIR) {
                if (unlinkat(dirfd(r->dir), entry->d_name, 0) == 0 || errno == ENOENT)
                    continue;
                if (errno != EISDIR)
                    return false;
            }
            if (removal_enter(r, entry->d_name))
                entered = true;
            else if (errno != ENOENT)
                return false;
        }
        if (entered)
            continue;
        if (errno != 0)
            return false;
        if (r->depth == 0)
            return true;
        if (!removal_leave(r))
            return false;
    }
}

static bool remove_tree(int parent, const char *leaf)
{
    struct removal r = {0};
    struct stat st;
    bool ok;
    int why;

    r.dir = dir_open(parent, leaf, &st);
    if (!r.dir)
        return false;
    r.dev = st.st_dev;
    ok = removal_run(&r);
    why = errno;
    closedir(r.dir);
    free(r.levels);
    errno = why;
    return ok && unlinkat(parent, leaf, AT_REMOVEDIR) == 0;
}

bool fs_remove(struct fs_path at, bool recursive, struct err *e)
{
    char text[4096];
    const char *leaf;
    struct stat st;
    bool ok;
    int dir = fs_parent(at, text, sizeof text, &leaf);

    if (dir < 0)
        return fail(e, "cannot open its directory");
    if (fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW) < 0)
        ok = fail(e, "cannot find it");
    else if (!S_ISDIR(st.st_mode))
        ok = unlinkat(dir, leaf, 0) == 0 || fail(e, "cannot remove it");
    else if (!recursive)
        ok = unlinkat(dir, leaf, AT_REMOVEDIR) == 0 || fail(e, "cannot remove the directory");
    else
        ok = remove_tree(dir, leaf) || fail(e, "cannot remove the tree");
    close(dir);
    return ok;
}

/* --- renaming --- */

bool fs_rename(const char *root, const char *from, const char *to, bool replace, bool sync, struct err *e)
{
    char from_text[4096], to_text[4096];
    const char *from_leaf, *to_leaf;
    int from_dir = fs_parent((struct fs_path){root, from}, from_text, sizeof from_text, &from_leaf);
    int to_dir = -1;
    bool ok = false;

    if (from_dir < 0)
        return fail(e, "cannot open its directory");
    to_dir = fs_parent((struct fs_path){root, to}, to_text, sizeof to_text, &to_leaf);
    if (to_dir < 0) {
        fail(e, "cannot open the new directory");
        goto out;
    }
    if (renameat2(from_dir, from_leaf, to_dir, to_leaf, replace ? 0 : RENAME_NOREPLACE) < 0) {
        if (errno == EXDEV)
            err_set(e, ERR_UNSUPPORTED, "cannot rename it to another file system");
        else
            fail(e, "cannot rename it");
        goto out;
    }
    /* A directory that cannot be synced (no right to read it, a special file system) is no failure. */
    if (sync) {
        fsync(to_dir);
        fsync(from_dir);
    }
    ok = true;
out:
    if (to_dir >= 0)
        close(to_dir);
    close(from_dir);
    return ok;
}

/* --- locks --- */

int fs_lock(struct fs_path at, bool shared, struct err *e)
{
    struct flock lock = {.l_type = shared ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
    int flags = O_CREAT | O_NONBLOCK;

    for (int tries = 0; tries < 16; tries++) {
        struct stat ours, there;
        int fd = fs_open(at, flags | O_RDWR, 0600);

        if (fd < 0 && shared && (errno == EACCES || errno == EROFS))
            fd = fs_open(at, O_RDONLY | O_NONBLOCK, 0);
        if (fd < 0) {
            fail(e, "cannot open it");
            return -1;
        }
        if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
            if (errno == EAGAIN || errno == EACCES)
                err_set(e, ERR_BUSY, "somebody else holds the lock");
            else
                fail(e, "cannot lock it");
            close(fd);
            return -1;
        }
        /* Somebody may have removed or replaced the file between open and lock: then ours locks nothing. */
        if (fstat(fd, &ours) == 0 && fs_stat(at, true, &there, e) && ours.st_dev == there.st_dev &&
            ours.st_ino == there.st_ino) {
            e->code = ERR_NONE;
            return fd;
        }
        close(fd);
    }
    err_set(e, ERR_BUSY, "the lock's file is replaced all the time");
    return -1;
}
