/* Listening sockets; see the header. The unix socket's defences, in order: the path fits and its last part is
 * neither a link nor a file of another kind; its directory is a real one, ours, mode 0700; a socket that is
 * there is removed only when nothing answers on it; the new one has mode 0600 from its first moment. Where a
 * group may connect, the directory may be 0750 and the socket gets 0660, both of that group. */
#include "serve_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 1024 /* a flood of connections fills a short one, and then everybody waits a second */

static bool fail(struct err *e, int errnum, const char *what)
{
    if (errnum == EADDRINUSE)
        err_set(e, ERR_BUSY, "%s: address already in use", what);
    else
        err_errno(e, errnum, what);
    return false;
}

static int new_socket(int family, struct err *e)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        fail(e, errno, "socket");
    return fd;
}

bool serve_socket_tcp(struct serve_socket *s, const char *address, uint16_t port, struct err *e)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } name = {.v6 = {0}};
    socklen_t name_len = sizeof name;
    int fd = -1, on = 1;
    bool ok = false;

    if (getaddrinfo(address, NULL, &hints, &found) != 0) {
        err_set(e, ERR_INVALID, "not an IP address");
        return false;
    }
    if (found->ai_family == AF_INET6)
        ((struct sockaddr_in6 *)(void *)found->ai_addr)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)(void *)found->ai_addr)->sin_port = htons(port);
    fd = new_socket(found->ai_family, e);
    if (fd < 0)
        goto out;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (found->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, &name.any, &name_len) != 0) {
        fail(e, errno, "listen");
        goto out;
    }
    *s = (struct serve_socket){.fd = fd};
    s->port = ntohs(name.any.sa_family == AF_INET6 ? name.v6.sin6_port : name.v4.sin_port);
    fd = -1;
    ok = true;
out:
    if (fd >= 0)
        close(fd);
    freeaddrinfo(found);
    return ok;
}

static bool find_group(const char *name, gid_t *gid, struct err *e)
{
    char *end, space[16384];
    struct group entry, *found = NULL;
    unsigned long number = strtoul(name, &end, 10);

    if (*name && !*end && number < UINT32_MAX) {
        *gid = (gid_t)number;
        return true;
    }
    if (getgrnam_r(name, &entry, space, sizeof space, &found) != 0 || !found) {
        err_set(e, ERR_NOT_FOUND, "there is no group '%s': make it (groupadd) or name another one", name);
        return false;
    }
    *gid = found->gr_gid;
    return true;
}

/* Makes the directory when it is missing, and refuses one that others than `group` (NULL: anybody) may enter.
 */
static bool private_directory(const char *path, const gid_t *group, struct err *e)
{
    char dir[sizeof((struct sockaddr_un *)0)->sun_path];
    const char *slash = strrchr(path, '/');
    struct stat st;
    int fd = -1, errnum;

    if (!slash)
        snprintf(dir, sizeof dir, ".");
    else
        snprintf(dir, sizeof dir, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    if (mkdir(dir, 0700) == 0) {
        if (group && (chown(dir, (uid_t)-1, *group) != 0 || chmod(dir, 0750) != 0))
            return fail(e, errno, "the socket's directory cannot be given to the group");
    } else if (errno != EEXIST) {
        return fail(e, errno, "mkdir");
    }
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        errnum = errno;
        if (fd >= 0)
            close(fd);
        if (errnum == ENOTDIR || errnum == ELOOP) {
            err_set(e, ERR_DENIED, "the socket's directory is a link or no directory");
            return false;
        }
        return fail(e, errnum, "open directory");
    }
    close(fd);
    if (st.st_uid != geteuid() || (st.st_mode & (group && st.st_gid == *group ? 027 : 077)) != 0) {
        err_set(e, ERR_DENIED,
                group ? "the socket's directory must be ours, of the socket's group, and closed to others "
                        "(mode 0750, "
                        "is %04o)"
                      : "the socket's directory must be ours alone (mode 0700, is %04o)",
                (unsigned)st.st_mode & 07777);
        return false;
    }
    return true;
}

/* Clears the way: true when nothing is at the path, or nothing any more. */
static bool remove_stale(const char *path, const struct sockaddr_un *name, struct err *e)
{
    struct stat st;
    int fd, answer;

    if (lstat(path, &st) != 0)
        return errno == ENOENT || fail(e, errno, "stat");
    if (!S_ISSOCK(st.st_mode)) {
        err_set(e, ERR_DENIED, "something that is not a socket is at the socket's path");
        return false;
    }
    fd = new_socket(AF_UNIX, e);
    if (fd < 0)
        return false;
    answer = connect(fd, (const struct sockaddr *)name, sizeof *name) == 0 ? 0 : errno;
    close(fd);
    if (answer != ECONNREFUSED) {
        err_set(e, ERR_BUSY, "another process listens there");
        return false;
    }
    return unlink(path) == 0 || errno == ENOENT || fail(e, errno, "unlink");
}

bool serve_socket_unix(struct serve_socket *s, const char *path, const char *group, struct err *e)
{
    gid_t gid = 0;
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct stat st;
    int fd = -1;
    bool bound = false;

    if (!*path || strlen(path) >= sizeof name.sun_path) {
        err_set(e, ERR_INVALID, "a socket's path has 1 to %zu bytes", sizeof name.sun_path - 1);
        return false;
    }
    memcpy(name.sun_path, path, strlen(path));
    if (group && !find_group(group, &gid, e))
        return false;
    if (!private_directory(path, group ? &gid : NULL, e) || !remove_stale(path, &name, e))
        return false;
    fd = new_socket(AF_UNIX, e);
    if (fd < 0)
        return false;
    /* Linux takes the mode of the socket for the file that bind makes. Unlike a changed umask this does not
     * touch what other threads create meanwhile. */
    if (fchmod(fd, 0600) != 0 || !(bound = bind(fd, (struct sockaddr *)&name, sizeof name) == 0) ||
        (group && lchown(path, (uid_t)-1, gid) != 0) || chmod(path, group ? 0660 : 0600) != 0 ||
        lstat(path, &st) != 0 || listen(fd, BACKLOG) != 0) {
        fail(e, errno, "listen");
        goto out;
    }
    *s = (struct serve_socket){.fd = fd, .path = strdup(path), .dev = st.st_dev, .ino = st.st_ino};
    if (s->path)
        return true;
    err_set(e, ERR_MEMORY, "out of memory");
out:
    if (bound)
        unlink(path);
    close(fd);
    return false;
}

void serve_socket_close(struct serve_socket *s)
{
    struct stat st;

    if (s->path && lstat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
        unlink(s->path);
    free(s->path);
    s->path = NULL;
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}
