/* Files and their tree: reading, writing, listing, making, removing, renaming, locks. */
#include "fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool fail(struct err *e, const char *what)
{
    err_errno(e, errno, what);
    return false;
}

static void close_quietly(int fd)
{
    int why = errno;

    if (fd >= 0)
        close(fd);
    errno = why;
}

/* --- opening --- */

/* Opens a path; openat2 beneath the root when there is one. -1 with errno set. */
static int fs_open(struct fs_path at, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | O_NOCTTY),
        .mode = flags & O_CREAT ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    int root, fd;

    if (!at.root)
        return open(at.path, flags | O_CLOEXEC | O_NOCTTY, mode);
    root = open(at.root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return -1;
    if (flags & O_PATH) /* openat2 refuses flags that O_PATH ignores */
        how.flags &= ~(uint64_t)O_NOCTTY;
    for (int tries = 0; tries < 16; tries++) { /* EAGAIN: something was renamed while ".." was looked up */
        fd = (int)syscall(SYS_openat2, root, at.path, &how, sizeof how);
        if (fd >= 0 || errno != EAGAIN)
            break;
    }
    close_quietly(root);
    return fd;
}

/* Opens the directory that holds the last component, which *leaf then points at (into `text`). -1 with errno.
 */
static int fs_parent(struct fs_path at, char *text, size_t size, const char **leaf)
{
    size_t len = strlen(at.path);
    char *slash;
    int fd;

    while (len > 1 && at.path[len - 1] == '/')
        len--;
    if (len >= size) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(text, at.path, len);
    text[len] = '\0';
    slash = strrchr(text, '/');
    *leaf = slash ? slash + 1 : text;
    if (!**leaf || strcmp(*leaf, ".") == 0 || strcmp(*leaf, "..") == 0) {
        errno = EINVAL;
        return -1;
    }
    if (slash)
        *slash = '\0';
    at.path = !slash ? "." : slash == text ? "/" : text;
    fd = fs_open(at, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0 &&
        errno == EACCES) /* may be passed through but not read: good enough, it just cannot be synced */
        fd = fs_open(at, O_PATH | O_DIRECTORY, 0);
    return fd;
}

char fs_type(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return 'f';
    case S_IFDIR:
        return 'd';
    case S_IFLNK:
        return 'l';
    case S_IFIFO:
        return 'p';
    case S_IFSOCK:
        return 's';
    case S_IFCHR:
        return 'c';
    case S_IFBLK:
        return 'b';
    default:
        return '?';
    }
}

/* Anything that is not a regular file could keep us waiting, or never end. */
static bool regular(int fd, struct stat *st, struct err *e)
{
    if (fstat(fd, st) < 0)
        return fail(e, "looking at it");
    if (S_ISREG(st->st_mode))
        return true;
    err_set(e, ERR_INVALID, S_ISDIR(st->st_mode) ? "is a directory" : "is not a regular file");
    return false;
}

/* --- reading --- */

static bool read_all(int fd, uint64_t offset, uint64_t length, size_t max, size_t guess, struct buf *out,
                     struct err *e)
{
    uint64_t left = length;

    while (left > 0) {
        size_t piece = guess > out->len ? guess - out->len : 65536;
        char *room;
        ssize_t n;

        if (piece > left)
            piece = (size_t)left;
        if (piece > max - out->len + 1) /* one more than allowed tells whether there is more */
            piece = max - out->len + 1;
        room = buf_room(out, piece);
        if (!room) {
            errno = ENOMEM;
            return fail(e, "reading");
        }
        n = pread(fd, room, piece, (off_t)(offset + out->len));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(e, "reading");
        if (n == 0)
            return true;
        buf_grew(out, (size_t)n);
        left -= (uint64_t)n;
        if (out->len > max) {
            err_set(e, ERR_TOO_LARGE, "has more than %zu bytes", max);
            return false;
        }
    }
    return true;
}

bool fs_read(struct fs_path at, uint64_t offset, uint64_t length, size_t max, struct buf *out, struct err *e)
{
    int fd = fs_open(at, O_RDONLY | O_NONBLOCK, 0);
    struct stat st;
    bool ok = false;

    if (fd < 0)
        return fail(e, "cannot open it");
    if (!regular(fd, &st, e))
        goto out;
    /* The size is only a hint: files of /proc say 0, others grow meanwhile. */
    if (length == UINT64_MAX && st.st_size > 0 && (uint64_t)st.st_size > offset &&
        (uint64_t)st.st_size - offset > max) {
        err_set(e, ERR_TOO_LARGE, "has more than %zu bytes", max);
        goto out;
    }
    ok = read_all(fd, offset, length, max,
                  (uint64_t)st.st_size > offset ? (size_t)((uint64_t)st.st_size - offset) + 1 : 0, out, e);
out:
    close(fd);
    return ok;
}

/* --- writing --- */

static bool write_all(int fd, const char *data, size_t len, struct err *e)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(e, "writing");
        data += n;
        len -= (size_t)n;
    }
    return true;
}

/* Some file systems cannot sync a directory, and a directory that we may not read cannot be synced either. */
static bool sync_dir(int fd, struct err *e)
{
    if (fsync(fd) == 0 || errno == EINVAL || errno == EBADF || errno == EROFS)
        return true;
    return fail(e, "syncing the directory");
}

bool fs_sync_parent(const char *path, struct err *e)
{
    char text[4096];
    const char *leaf;
    int dir = fs_parent((struct fs_path){.path = path}, text, sizeof text, &leaf);
    bool ok = dir >= 0 ? sync_dir(dir, e) : fail(e, "cannot open its directory");

    close_quietly(dir);
    return ok;
}

/* A draft has no name where the file system can do that, so that a host killed while it writes leaves
 * nothing; else one that no other process uses. */
static bool draft_name(struct fs_draft *d)
{
    unsigned long long id;

    if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id)
        return false;
    snprintf(d->name, sizeof d->name, ".moontide-%016llx.tmp", id);
    return true;
}

static bool draft_dir(struct fs_draft *d, struct fs_path at, struct err *e)
{
    char text[4096];
    const char *leaf;

    d->fd = -1;
    d->name[0] = '\0';
    d->dir = fs_parent(at, text, sizeof text, &leaf);
    if (d->dir < 0)
        return fail(e, "cannot open its directory");
    if ((size_t)snprintf(d->leaf, sizeof d->leaf, "%s", leaf) < sizeof d->leaf)
        return true;
    errno = ENAMETOOLONG;
    fail(e, "cannot make it");
    close(d->dir);
    return false;
}

static bool draft_file(struct fs_draft *d, mode_t mode, struct err *e)
{
    d->fd = openat(d->dir, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, mode);
    if (d->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT || errno == EINVAL))
        for (int tries = 0; tries < 100 && d->fd < 0 && draft_name(d); tries++) {
            d->fd = openat(d->dir, d->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
            if (d->fd < 0) {
                d->name[0] = '\0';
                if (errno != EEXIST)
                    break;
            }
        }
    return d->fd >= 0 || fail(e, "cannot make a file beside it");
}

/* Gives the draft the name of the file that it replaces. A link cannot replace, a rename needs a name. */
static bool draft_place(struct fs_draft *d, struct err *e)
{
    char self[64];

    snprintf(self, sizeof self, "/proc/self/fd/%d", d->fd);
    for (int tries = 0; !d->name[0] && tries < 100; tries++) {
        if (tries == 0 && linkat(AT_FDCWD, self, d->dir, d->leaf, AT_SYMLINK_FOLLOW) == 0)
            return true;
        if (errno != EEXIST || !draft_name(d))
            break;
        if (linkat(AT_FDCWD, self, d->dir, d->name, AT_SYMLINK_FOLLOW) < 0)
            d->name[0] = '\0';
    }
    if (d->name[0] && renameat(d->dir, d->name, d->dir, d->leaf) == 0) {
        d->name[0] = '\0';
        return true;
    }
    return fail(e, "cannot put it in place");
}

/* A network file system may report only now that it is full. */
static bool draft_close(struct fs_draft *d, bool ok, struct err *e)
{
    if (d->fd >= 0 && close(d->fd) < 0 && ok)
        ok = fail(e, "writing");
    if (!ok && d->name[0])
        unlinkat(d->dir, d->name, 0);
    close(d->dir);
    return ok;
}

bool fs_draft_open(struct fs_draft *d, struct fs_path at, mode_t mode, struct err *e)
{
    return draft_dir(d, at, e) && (draft_file(d, mode, e) || draft_close(d, false, e));
}

bool fs_draft_write(const struct fs_draft *d, const void *data, size_t len, struct err *e)
{
    return write_all(d->fd, data, len, e);
}

bool fs_draft_commit(struct fs_draft *d, struct err *e)
{
    return draft_close(d, draft_place(d, e), e);
}

void fs_draft_drop(struct fs_draft *d)
{
    struct err ignored;

    draft_close(d, false, &ignored);
}

/* What a replaced file was goes over to the new one. */
static bool draft_keep(const struct fs_draft *d, const struct stat *old, int mode, struct err *e)
{
    /* Only root may give files away; for others the new owner is who wrote it. */
    if (old && (old->st_uid != geteuid() || old->st_gid != getegid()) &&
        fchown(d->fd, old->st_uid, old->st_gid) < 0 && errno != EPERM)
        return fail(e, "keeping the owner");
    if (mode >= 0 && fchmod(d->fd, (mode_t)mode) < 0)
        return fail(e, "setting the mode");
    return true;
}

bool fs_write(struct fs_path at, const void *data, size_t len, int mode, bool sync, struct err *e)
{
    struct stat old;
    struct fs_draft d;
    bool ok, had;

    if (!draft_dir(&d, at, e))
        return false;
    had = fstatat(d.dir, d.leaf, &old, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(old.st_mode);
    if (mode < 0 && had)
        mode = (int)(old.st_mode & 0777);
    ok = draft_file(&d, mode < 0 ? 0666 : 0600, e) && write_all(d.fd, data, len, e) &&
         draft_keep(&d, had ? &old : NULL, mode, e) && (!sync || fsync(d.fd) == 0 || fail(e, "syncing")) &&
         draft_place(&d, e) && (!sync || sync_dir(d.dir, e));
    return draft_close(&d, ok, e);
}

bool fs_append(struct fs_path at, const void *data, size_t len, int mode, bool sync, struct err *e)
{
    int fd = fs_open(at, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, mode < 0 ? 0666 : (mode_t)mode);
    struct stat st;
    bool ok = false;

    if (fd < 0 && errno == ENXIO) /* a FIFO without a reader */
        errno = EINVAL;
    if (fd < 0)
        return fail(e, "cannot open it");
    if (!regular(fd, &st, e) || !write_all(fd, data, len, e))
        goto out;
    if (sync && fsync(fd) < 0) {
        fail(e, "syncing");
        goto out;
    }
    ok = true;
out:
    close(fd);
    return ok;
}

/* --- listing --- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a + 1, *(char *const *)b + 1);
}

/* Puts the records in the order of their names. */
static bool sort_records(struct buf *records, size_t count, struct err *e)
{
    char **index = calloc(count + 1, sizeof *index);
    struct buf sorted = {0};
    char *at = records->data;
    bool ok = index != NULL;

    for (size_t i = 0; ok && i < count; i++) {
        index[i] = at;
        at += strlen(at) + 1;
    }
    if (ok && count)
        qsort(index, count, sizeof *index, by_name);
    for (size_t i = 0; ok && i < count; i++)
        ok = buf_add(&sorted, index[i], strlen(index[i]) + 1);
    free(index);
    if (!ok) {
        buf_free(&sorted);
        errno = ENOMEM;
        return fail(e, "listing");
    }
    buf_free(records);
    *records = sorted;
    return true;
}

static char entry_type(int dir, const struct dirent *entry)
{
    struct stat st;

    if (entry->d_type != DT_UNKNOWN)
        return fs_type((mode_t)DTTOIF(entry->d_type));
    return fstatat(dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? fs_type(st.st_mode) : '?';
}

bool fs_list(struct fs_path at, size_t max, struct buf *out, struct err *e)
{
    int fd = fs_open(at, O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    size_t count = 0;

    if (!dir) {
        fail(e, "cannot open the directory");
        close_quietly(fd);
        return false;
    }
    while (errno = 0, (entry = readdir(dir)) != NULL) {
        char type = entry_type(fd, entry);

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (++count > max) {
            err_set(e, ERR_TOO_LARGE, "has more than %zu entries", max);
            closedir(dir);
            return false;
        }
        if (!buf_add(out, &type, 1) || !buf_add(out, entry->d_name, strlen(entry->d_name) + 1)) {
            errno = ENOMEM;
            break;
        }
    }
    if (errno != 0) {
        fail(e, "listing");
        closedir(dir);
        return false;
    }
    closedir(dir);
    return sort_records(out, count, e);
}

/* --- looking --- */

bool fs_stat(struct fs_path at, bool follow, struct stat *out, struct err *e)
{
    int fd = fs_open(at, O_PATH | (follow ? 0 : O_NOFOLLOW), 0);
    bool ok;

    if (fd < 0)
        return fail(e, "cannot find it");
    ok = fstat(fd, out) == 0 || fail(e, "looking at it");
    close(fd);
    return ok;
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

/* Makes sure of one directory on the way; true as well when another process made it. */
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
        errno = EBUSY; /* it was moved meanwhile */
        return false;
    }
    return unlinkat(dirfd(up), level->name, AT_REMOVEDIR) == 0 || errno == ENOENT;
}

/* Empties the directory: unlinks what is no directory, goes into what is one, and lists it again after coming
 * back. */
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
        /* The file may have been removed or replaced between open and lock: then ours locks nothing. */
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
