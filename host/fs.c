/* Reading, writing, listing: one file at a time. Removing and other changes of the tree are in fs_tree.c. */
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

int fs_open(struct fs_path at, int flags, mode_t mode)
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

int fs_parent(struct fs_path at, char *text, size_t size, const char **leaf)
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

/* The file that becomes the new one: without a name where the file system can do that, so that a host killed
 * while it writes leaves nothing; else with one that nobody else has. */
struct draft {
    int dir, fd;
    char name[64]; /* empty: it has none */
};

static bool draft_name(struct draft *d)
{
    unsigned long long id;

    if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id)
        return false;
    snprintf(d->name, sizeof d->name, ".moontide-%016llx.tmp", id);
    return true;
}

static bool draft_open(struct draft *d, mode_t mode)
{
    d->fd = openat(d->dir, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, mode);
    if (d->fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT && errno != EINVAL))
        return d->fd >= 0;
    for (int tries = 0; tries < 100 && d->fd < 0 && draft_name(d); tries++) {
        d->fd = openat(d->dir, d->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
        if (d->fd < 0) {
            d->name[0] = '\0';
            if (errno != EEXIST)
                break;
        }
    }
    return d->fd >= 0;
}

static bool draft_fill(const struct draft *d, const void *data, size_t len, int mode, const struct stat *old,
                       bool sync, struct err *e)
{
    if (!write_all(d->fd, data, len, e))
        return false;
    if (old && (old->st_uid != geteuid() || old->st_gid != getegid())) {
        /* Only root may give files away; for others the new owner is who wrote it. */
        if (fchown(d->fd, old->st_uid, old->st_gid) < 0 && errno != EPERM)
            return fail(e, "keeping the owner");
    }
    if (mode >= 0 && fchmod(d->fd, (mode_t)mode) < 0)
        return fail(e, "setting the mode");
    if (sync && fsync(d->fd) < 0)
        return fail(e, "syncing");
    return true;
}

/* Gives the draft the name of the file that it replaces. A link cannot replace, a rename needs a name. */
static bool draft_place(struct draft *d, const char *leaf, struct err *e)
{
    char self[64];

    snprintf(self, sizeof self, "/proc/self/fd/%d", d->fd);
    for (int tries = 0; !d->name[0] && tries < 100; tries++) {
        if (tries == 0 && linkat(AT_FDCWD, self, d->dir, leaf, AT_SYMLINK_FOLLOW) == 0)
            return true;
        if (errno != EEXIST || !draft_name(d))
            break;
        if (linkat(AT_FDCWD, self, d->dir, d->name, AT_SYMLINK_FOLLOW) < 0)
            d->name[0] = '\0';
    }
    if (d->name[0] && renameat(d->dir, d->name, d->dir, leaf) == 0) {
        d->name[0] = '\0';
        return true;
    }
    return fail(e, "cannot put it in place");
}

/* A network file system may say only now that it is full. */
static bool draft_close(struct draft *d, bool ok, struct err *e)
{
    if (d->fd >= 0 && close(d->fd) < 0 && ok)
        ok = fail(e, "writing");
    if (!ok && d->name[0])
        unlinkat(d->dir, d->name, 0);
    return ok;
}

bool fs_write(struct fs_path at, const void *data, size_t len, int mode, bool sync, struct err *e)
{
    char text[4096];
    const char *leaf;
    struct stat old;
    struct draft d = {.fd = -1};
    bool ok, had;

    d.dir = fs_parent(at, text, sizeof text, &leaf);
    if (d.dir < 0)
        return fail(e, "cannot open its directory");
    had = fstatat(d.dir, leaf, &old, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(old.st_mode);
    if (mode < 0 && had)
        mode = (int)(old.st_mode & 0777);
    ok = draft_open(&d, mode < 0 ? 0666 : 0600) || fail(e, "cannot make a file beside it");
    ok = ok && draft_fill(&d, data, len, mode, had ? &old : NULL, sync, e);
    ok = ok && draft_place(&d, leaf, e);
    ok = draft_close(&d, ok, e);
    if (ok && sync)
        ok = sync_dir(d.dir, e);
    close(d.dir);
    return ok;
}

bool fs_append(struct fs_path at, const void *data, size_t len, int mode, bool sync, struct err *e)
{
    int fd = fs_open(at, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, mode < 0 ? 0666 : (mode_t)mode);
    struct stat st;
    bool ok = false;

    if (fd < 0 && errno == ENXIO) /* a FIFO that nobody reads */
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
