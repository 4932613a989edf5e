/* Temporary directories that do not outlive their process for long.
 *
 * Each is held by a lock on itself, which goes with the process however it ends. A directory of our name
 * whose lock is free was left by a killed host: the next one to make a directory beside it removes it. */
#include "fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#define SUFFIX ".moontide"

/* Opens and locks a directory of ours; -1 when it is not ours, or it is locked. */
static int dir_hold(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st, there;
    int why;

    if (fd < 0)
        return -1;
    /* A sweep may have taken it between mkdir and lock: then the name is gone, and so is our claim. */
    if (fstat(fd, &st) == 0 && st.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0 &&
        fstatat(parent, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == there.st_dev &&
        st.st_ino == there.st_ino)
        return fd;
    why = errno;
    close(fd);
    errno = why;
    return -1;
}

static bool ours(const char *name)
{
    size_t len = strlen(name);

    return len > sizeof SUFFIX && strcmp(name + len - (sizeof SUFFIX - 1), SUFFIX) == 0;
}

void fs_temp_sweep(const char *path)
{
    DIR *parent = opendir(path);
    struct dirent *entry;

    while (parent && (entry = readdir(parent))) {
        char gone[4096];
        struct err ignored;
        int fd;

        if (!ours(entry->d_name) || (fd = dir_hold(dirfd(parent), entry->d_name)) < 0)
            continue;
        if ((size_t)snprintf(gone, sizeof gone, "%s/%s", path, entry->d_name) < sizeof gone)
            fs_remove((struct fs_path){NULL, gone}, true, &ignored);
        close(fd);
    }
    if (parent)
        closedir(parent);
}

int fs_temp_dir(const char *path, const char *prefix, char *out, size_t size, struct err *e)
{
    int parent = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1, why;

    for (int tries = 0; parent >= 0 && fd < 0 && tries < 100; tries++) {
        unsigned long long id;
        char name[256];

        if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id)
            break;
        if ((size_t)snprintf(name, sizeof name, "%s%016llx%s", prefix, id, SUFFIX) >= sizeof name ||
            (size_t)snprintf(out, size, "%s/%s", path, name) >= size) {
            errno = ENAMETOOLONG;
            break;
        }
        if (mkdirat(parent, name, 0700) == 0) {
            fd = dir_hold(parent, name);
            why = errno;
            if (fd < 0)
                unlinkat(parent, name, AT_REMOVEDIR);
            errno = why;
        }
        if (fd < 0 && errno != EEXIST && errno != EWOULDBLOCK && errno != ENOENT)
            break;
    }
    if (fd < 0)
        err_errno(e, errno, "cannot make a directory");
    if (parent >= 0)
        close(parent);
    return fd;
}
