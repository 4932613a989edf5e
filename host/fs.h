/* Files, as blocking C functions for the thread pool. Knows no Lua and no loop.
 *
 * Every path comes with an optional root: then it is resolved beneath that directory by openat2, whatever
 * symbolic links say, and a path that would leave it fails with ERR_DENIED. All descriptors are
 * close-on-exec. Functions return false (or -1) with *e filled; what they return through pointers belongs to
 * the caller. */
#ifndef MOONTIDE_FS_H
#define MOONTIDE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include "buf.h"
#include "err.h"

struct fs_path {
    const char *root; /* NULL: the path is taken as it is */
    const char *path;
};

/* Reads a regular file, or `length` bytes of it from `offset`. More than `max` bytes fail: ERR_TOO_LARGE. */
bool fs_read(struct fs_path at, uint64_t offset, uint64_t length, size_t max, struct buf *out, struct err *e);

/* Replaces a file as a whole: readers see the old or the new content. Keeps mode and owner of the old file;
 * mode -1 leaves a new one to the umask. A symbolic link at the place is replaced, not followed. */
bool fs_write(struct fs_path at, const void *data, size_t len, int mode, bool sync, struct err *e);
bool fs_append(struct fs_path at, const void *data, size_t len, int mode, bool sync, struct err *e);

/* A file that is written piece by piece, and takes its name as a whole or not at all. Open it with the mode
 * that a new file gets (the umask applies); commit or drop it once. When opening fails, nothing is open. */
struct fs_draft {
    int dir, fd;
    char leaf[256]; /* the name that it will take */
    char name[64];  /* the one that it has; empty: none */
};
bool fs_draft_open(struct fs_draft *d, struct fs_path at, mode_t mode, struct err *e);
bool fs_draft_write(const struct fs_draft *d, const void *data, size_t len, struct err *e);
bool fs_draft_commit(struct fs_draft *d, struct err *e);
void fs_draft_drop(struct fs_draft *d);

/* Makes the directory entry of a new file last. */
bool fs_sync_parent(const char *path, struct err *e);

/* Appends one record per entry, sorted by name: a type letter (fs_type), the name, NUL. */
bool fs_list(struct fs_path at, size_t max, struct buf *out, struct err *e);

bool fs_mkdir(struct fs_path at, int mode, bool parents, struct err *e);

/* Removes a file, an empty directory, or with `recursive` a whole tree. Never follows a symbolic link, never
 * leaves the file system it started on. */
bool fs_remove(struct fs_path at, bool recursive, struct err *e);
bool fs_stat(struct fs_path at, bool follow, struct stat *out, struct err *e);
bool fs_rename(const char *root, const char *from, const char *to, bool replace, bool sync, struct err *e);

/* Opens (makes) and locks a file with an OFD lock; ERR_BUSY when it is locked. The lock goes with
 * the descriptor. */
int fs_lock(struct fs_path at, bool shared, struct err *e);

/* Makes a new directory in `parent`, mode 0700, and writes its path into `out`. The descriptor returned (-1:
 * failed) marks it as in use. */
int fs_temp_dir(const char *parent, const char *prefix, char *out, size_t size, struct err *e);

/* Removes the directories in `parent` that fs_temp_dir made for processes that were killed. */
void fs_temp_sweep(const char *parent);

/* One letter for a file's type: f d l p s c b, ? for anything else. */
char fs_type(mode_t mode);

#endif
