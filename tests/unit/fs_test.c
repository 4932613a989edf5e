/* fs.c: whole writes, roots that hold, trees removed without following links. */
#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "fs.h"

static char base[256]; /* a directory of the running test */
static int base_fd;
static struct err err;

static const char *in(const char *name)
{
    static char paths[8][512];
    static unsigned at;
    char *path = paths[at++ % 8];

    snprintf(path, sizeof paths[0], "%s/%s", base, name);
    return path;
}

static struct fs_path plain(const char *name)
{
    return (struct fs_path){NULL, in(name)};
}

static struct fs_path rooted(const char *name)
{
    return (struct fs_path){base, name};
}

static void set_up(void)
{
    base_fd = fs_temp_dir("/tmp", "fs-test-", base, sizeof base, &err);
    CHECK(base_fd >= 0);
}

static int count(const char *path)
{
    DIR *dir = opendir(path);
    int n = 0;

    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n - 2;
}

static void tear_down(void)
{
    CHECK(fs_remove((struct fs_path){NULL, base}, true, &err));
    CHECK(access(base, F_OK) < 0);
    close(base_fd);
}

static bool holds(struct fs_path at, const char *want)
{
    struct buf got = {0};
    bool same = fs_read(at, 0, UINT64_MAX, 1 << 20, &got, &err) && got.len == strlen(want) &&
                (got.len == 0 || memcmp(got.data, want, got.len) == 0);

    buf_free(&got);
    return same;
}

static bool writes(struct fs_path at, const char *text)
{
    return fs_write(at, text, strlen(text), -1, true, &err);
}

UNIT(write_and_read)
{
    struct stat st;

    set_up();
    CHECK(writes(plain("a"), "one"));
    CHECK(holds(plain("a"), "one"));
    CHECK(writes(plain("a"), ""));
    CHECK(holds(plain("a"), ""));
    CHECK(fs_write(plain("b"), "x", 1, 0640, false, &err));
    CHECK(stat(in("b"), &st) == 0 && (st.st_mode & 07777) == 0640);
    CHECK(writes(plain("b"), "y"));
    CHECK(stat(in("b"), &st) == 0 && (st.st_mode & 07777) == 0640);
    CHECK_INT(count(base), 2); /* no temporary file is left */
    CHECK(!writes(plain("missing/b"), "y"));
    CHECK_INT(err.code, ERR_NOT_FOUND);
    tear_down();
}

UNIT(a_draft_appears_as_a_whole_or_not_at_all)
{
    struct fs_draft d;

    set_up();
    CHECK(writes(plain("a"), "old"));
    CHECK(fs_draft_open(&d, plain("a"), 0644, &err));
    CHECK(fs_draft_write(&d, "one ", 4, &err) && fs_draft_write(&d, "two", 3, &err));
    CHECK(holds(plain("a"), "old"));
    CHECK(fs_draft_commit(&d, &err));
    CHECK(holds(plain("a"), "one two"));
    CHECK(fs_draft_open(&d, plain("b"), 0644, &err) && fs_draft_write(&d, "half", 4, &err));
    fs_draft_drop(&d);
    CHECK_INT(count(base), 1);
    CHECK(!fs_draft_open(&d, plain("missing/b"), 0644, &err));
    CHECK_INT(err.code, ERR_NOT_FOUND);
    CHECK(fs_sync_parent(in("a"), &err));
    CHECK(!fs_sync_parent(in("missing/a"), &err));
    tear_down();
}

UNIT(write_replaces_links_and_spares_directories)
{
    struct stat st;

    set_up();
    CHECK(writes(plain("target"), "old"));
    CHECK_INT(symlink("target", in("link")), 0);
    CHECK(writes(plain("link"), "new"));
    CHECK(holds(plain("target"), "old"));
    CHECK(lstat(in("link"), &st) == 0 && S_ISREG(st.st_mode));
    CHECK_INT(mkdir(in("dir"), 0755), 0);
    CHECK(!writes(plain("dir"), "x"));
    CHECK_INT(count(base), 3);
    CHECK(!writes(plain("dir/."), "x"));
    CHECK(!writes(plain(".."), "x"));
    tear_down();
}

UNIT(reads_stay_bounded)
{
    struct buf got = {0};

    set_up();
    CHECK(writes(plain("ten"), "0123456789"));
    CHECK(!fs_read(plain("ten"), 0, UINT64_MAX, 9, &got, &err));
    CHECK_INT(err.code, ERR_TOO_LARGE);
    buf_free(&got);
    CHECK(fs_read(plain("ten"), 0, UINT64_MAX, 10, &got, &err));
    CHECK_STR(got.data, "0123456789");
    buf_free(&got);
    CHECK(fs_read(plain("ten"), 3, 4, 10, &got, &err));
    CHECK_STR(got.data, "3456");
    buf_free(&got);
    CHECK(fs_read(plain("ten"), 8, 100, 10, &got, &err));
    CHECK_STR(got.data, "89");
    buf_free(&got);
    CHECK(fs_read(plain("ten"), 50, UINT64_MAX, 10, &got, &err));
    CHECK_INT(got.len, 0);
    buf_free(&got);
    CHECK(fs_read((struct fs_path){NULL, "/proc/self/status"}, 0, UINT64_MAX, 65536, &got, &err));
    CHECK(got.len > 100); /* although its size is 0 */
    buf_free(&got);
    CHECK(!fs_read((struct fs_path){NULL, "/proc/self/status"}, 0, UINT64_MAX, 10, &got, &err));
    CHECK_INT(err.code, ERR_TOO_LARGE);
    buf_free(&got);
    tear_down();
}

/* None of these may keep us waiting. */
UNIT(only_regular_files)
{
    struct buf got = {0};

    set_up();
    CHECK_INT(mkfifo(in("fifo"), 0600), 0);
    CHECK(!fs_read(plain("fifo"), 0, UINT64_MAX, 10, &got, &err));
    CHECK_INT(err.code, ERR_INVALID);
    CHECK(!fs_append(plain("fifo"), "x", 1, -1, false, &err));
    CHECK(!fs_read((struct fs_path){NULL, base}, 0, UINT64_MAX, 10, &got, &err));
    CHECK_INT(err.code, ERR_INVALID);
    CHECK(!fs_read((struct fs_path){NULL, "/dev/zero"}, 0, UINT64_MAX, 10, &got, &err));
    CHECK_INT(err.code, ERR_INVALID);
    tear_down();
}

UNIT(roots_hold)
{
    static const char *const escapes[] = {
        "../outside", "sub/../../outside", "/etc/passwd",   "up/outside",     "absolute",
        "sub/up2/x",  "chain/passwd",      "sub/../../etc", "proc/self/root", ".//..//outside",
    };
    struct buf got = {0};
    char outside[300];

    set_up();
    snprintf(outside, sizeof outside, "%s-outside", base);
    CHECK(writes((struct fs_path){NULL, outside}, "secret"));
    CHECK_INT(mkdir(in("sub"), 0755), 0);
    CHECK_INT(symlink("..", in("up")), 0);
    CHECK_INT(symlink("../..", in("sub/up2")), 0);
    CHECK_INT(symlink("/etc/passwd", in("absolute")), 0);
    CHECK_INT(symlink("/etc", in("chain")), 0);
    CHECK_INT(symlink("/proc", in("proc")), 0);
    CHECK_INT(symlink("sub", in("inside")), 0);
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++) {
        struct stat st;
        struct fs_path at = rooted(escapes[i]);

        err.code = ERR_NONE;
        CHECK(!fs_read(at, 0, UINT64_MAX, 1 << 20, &got, &err));
        CHECK(err.code == ERR_DENIED || err.code == ERR_NOT_FOUND);
        CHECK(!fs_stat(at, true, &st, &err));
        CHECK(!fs_append(at, "x", 1, -1, false, &err));
        CHECK(fs_lock(at, false, &err) < 0);
        /* The absolute link itself may be replaced or removed: that stays inside. */
        if (strcmp(escapes[i], "absolute") != 0) {
            CHECK(!writes(at, "overwritten"));
            CHECK(!fs_remove(at, true, &err));
            CHECK(!fs_mkdir(at, 0755, true, &err));
            CHECK(!fs_rename(base, "sub", escapes[i], true, false, &err));
        }
    }
    buf_free(&got);
    CHECK(holds((struct fs_path){NULL, outside}, "secret"));
    CHECK(writes(rooted("inside/f"), "fine")); /* links that stay inside are fine */
    CHECK(holds(rooted("sub/../sub/f"), "fine"));
    CHECK(fs_mkdir(rooted("a/b/c"), 0755, true, &err));
    CHECK_INT(unlink(outside), 0);
    tear_down();
}

UNIT(append)
{
    set_up();
    CHECK(fs_append(plain("log"), "a", 1, 0600, true, &err));
    CHECK(fs_append(plain("log"), "b", 1, -1, false, &err));
    CHECK(holds(plain("log"), "ab"));
    tear_down();
}

UNIT(listing)
{
    struct buf got = {0};

    set_up();
    CHECK(fs_list((struct fs_path){NULL, base}, 10, &got, &err));
    CHECK_INT(got.len, 0);
    buf_free(&got);
    CHECK(writes(plain("b"), ""));
    CHECK(writes(plain("B"), ""));
    CHECK_INT(mkdir(in("a"), 0755), 0);
    CHECK_INT(symlink("nowhere", in("\xff\n")), 0);
    CHECK(fs_list(rooted("."), 10, &got, &err));
    CHECK_INT(got.len, 3 * 3 + 4);
    CHECK(got.len == 13 && memcmp(got.data, "fB\0da\0fb\0l\xff\n\0", 13) == 0);
    buf_free(&got);
    CHECK(!fs_list(rooted("."), 3, &got, &err));
    CHECK_INT(err.code, ERR_TOO_LARGE);
    buf_free(&got);
    CHECK(!fs_list(plain("b"), 3, &got, &err));
    CHECK_INT(err.code, ERR_NOT_FOUND);
    tear_down();
}

UNIT(removing_follows_no_link)
{
    struct stat st;

    set_up();
    CHECK(fs_mkdir(plain("keep/inner"), 0755, true, &err));
    CHECK(writes(plain("keep/inner/file"), "x"));
    CHECK(fs_mkdir(plain("tree/a/b"), 0755, true, &err));
    CHECK_INT(symlink("../../../keep", in("tree/a/b/link")), 0);
    CHECK_INT(symlink("keep", in("top")), 0);
    CHECK_INT(mkfifo(in("tree/fifo"), 0600), 0);
    CHECK(!fs_remove(plain("tree"), false, &err));
    CHECK_INT(err.code, ERR_EXISTS);
    CHECK(fs_remove(plain("tree"), true, &err));
    CHECK(fs_remove(plain("top"), true, &err));
    CHECK(holds(plain("keep/inner/file"), "x"));
    CHECK(!fs_stat(plain("tree"), false, &st, &err));
    CHECK(!fs_remove(plain("tree"), true, &err));
    CHECK_INT(err.code, ERR_NOT_FOUND);
    CHECK(!fs_remove(plain("keep/."), true, &err));
    tear_down();
}

/* Deeper than any path can name and than we have descriptors. */
UNIT(removing_a_deep_tree)
{
    int at;

    set_up();
    at = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 3000; i++) {
        int next;

        CHECK_INT(mkdirat(at, "deeper-and-deeper", 0755), 0);
        next = openat(at, "deeper-and-deeper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = next;
        CHECK(at >= 0);
    }
    close(at);
    tear_down();
}

UNIT(removing_a_wide_tree)
{
    set_up();
    for (int i = 0; i < 50; i++) {
        char name[64];

        snprintf(name, sizeof name, "d%d/e%d", i % 7, i);
        CHECK(fs_mkdir(plain(name), 0755, true, &err));
        for (int j = 0; j < 40; j++) {
            snprintf(name, sizeof name, "d%d/e%d/f%d", i % 7, i, j);
            CHECK(fs_write(plain(name), "", 0, -1, false, &err));
        }
    }
    tear_down();
}

UNIT(renaming)
{
    set_up();
    CHECK(writes(plain("a"), "a"));
    CHECK(writes(plain("b"), "b"));
    CHECK(!fs_rename(NULL, in("a"), in("b"), false, true, &err));
    CHECK_INT(err.code, ERR_EXISTS);
    CHECK(fs_rename(NULL, in("a"), in("b"), true, true, &err));
    CHECK(holds(plain("b"), "a"));
    CHECK(!fs_rename(NULL, in("a"), in("c"), true, true, &err));
    CHECK_INT(err.code, ERR_NOT_FOUND);
    CHECK(fs_rename(base, "b", "c", true, false, &err));
    CHECK(holds(plain("c"), "a"));
    tear_down();
}

UNIT(locks)
{
    int first, second;

    set_up();
    first = fs_lock(plain("lock"), false, &err);
    CHECK(first >= 0);
    CHECK((fcntl(first, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(fs_lock(plain("lock"), false, &err) < 0);
    CHECK_INT(err.code, ERR_BUSY);
    CHECK(fs_lock(plain("lock"), true, &err) < 0);
    close(first);
    first = fs_lock(plain("lock"), true, &err);
    second = fs_lock(plain("lock"), true, &err);
    CHECK(first >= 0 && second >= 0);
    CHECK(fs_lock(plain("lock"), false, &err) < 0);
    close(first);
    close(second);
    tear_down();
}

/* Many processes at once: no two ever hold it together, and a killed holder lets go. */
UNIT(locks_between_processes)
{
    int pipes[2], ends = 0;
    char who = 0;

    set_up();
    CHECK_INT(pipe2(pipes, O_CLOEXEC), 0);
    for (int i = 0; i < 8; i++) {
        if (fork() == 0) {
            for (int round = 0; round < 25;) {
                int fd = fs_lock(plain("lock"), false, &err);
                int excl;

                if (fd < 0) {
                    usleep(200);
                    continue;
                }
                excl = open(in("held"), O_CREAT | O_EXCL | O_CLOEXEC, 0600);
                if (excl < 0 || unlink(in("held")) < 0)
                    _exit(1);
                close(excl);
                close(fd);
                round++;
            }
            _exit(0);
        }
    }
    for (int status; wait(&status) > 0;)
        ends += WIFEXITED(status) && WEXITSTATUS(status) == 0;
    CHECK_INT(ends, 8);
    if (fork() == 0) {
        if (fs_lock(plain("lock"), false, &err) < 0 || write(pipes[1], "x", 1) != 1)
            _exit(1);
        raise(SIGKILL);
    }
    CHECK_INT(read(pipes[0], &who, 1), 1);
    wait(NULL);
    close(pipes[0]);
    close(pipes[1]);
    CHECK((ends = fs_lock(plain("lock"), false, &err)) >= 0);
    close(ends);
    tear_down();
}

/* A write that cannot be completed leaves the old file and nothing else. The size limit stands for a full
 * disk. */
UNIT(failed_write_leaves_the_old_file)
{
    static char big[200000];
    int status = 1;

    set_up();
    CHECK(writes(plain("f"), "old"));
    if (fork() == 0) {
        struct rlimit limit = {65536, 65536};
        bool failed;

        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        failed = !fs_write(plain("f"), big, sizeof big, -1, true, &err) && err.code == ERR_TOO_LARGE;
        _exit(failed && holds(plain("f"), "old") && count(base) == 1 ? 0 : 1);
    }
    wait(&status);
    CHECK_INT(status, 0);
    tear_down();
}

/* What a killed process left goes; what somebody still uses, or never was ours, stays. */
UNIT(temporary_directories_are_swept)
{
    char mine[300], left[300] = "", text[320] = "";
    int pipes[2], fd;

    set_up();
    CHECK_INT(pipe2(pipes, O_CLOEXEC), 0);
    if (fork() == 0) {
        if (fs_temp_dir(base, "left-", left, sizeof left, &err) < 0)
            _exit(1);
        snprintf(text, sizeof text, "%s/file", left);
        if (!fs_append((struct fs_path){NULL, text}, "x", 1, -1, false, &err) ||
            write(pipes[1], left, sizeof left) != sizeof left)
            _exit(1);
        raise(SIGKILL);
    }
    CHECK_INT(read(pipes[0], left, sizeof left), sizeof left);
    wait(NULL);
    fd = fs_temp_dir(base, "mine-", mine, sizeof mine, &err);
    CHECK(fd >= 0);
    CHECK_INT(mkdir(in("plain"), 0700), 0);
    CHECK(writes(plain("file.moontide"), ""));
    CHECK_INT(symlink("plain", in("link.moontide")), 0);
    CHECK_INT(count(base), 5);
    fs_temp_sweep(base);
    CHECK_INT(count(base), 4);
    CHECK(access(left, F_OK) < 0);
    CHECK(access(mine, F_OK) == 0);
    close(fd);
    close(pipes[0]);
    close(pipes[1]);
    tear_down();
}

/* Whether every file is one that was wholly written; then all but "f" are removed. */
static bool only_whole(struct buf *got, const char *want, size_t size)
{
    DIR *dir = opendir(base);
    struct dirent *entry;
    bool whole = dir != NULL;

    while (dir && (entry = readdir(dir))) {
        if (entry->d_name[0] == '.' && strspn(entry->d_name, ".") == strlen(entry->d_name))
            continue;
        got->len = 0;
        whole =
            whole && fs_read(plain(entry->d_name), 0, UINT64_MAX, 16 << 20, got, &err) &&
            ((got->len == size && memcmp(got->data, want, size) == 0) || holds(plain(entry->d_name), "old"));
        if (strcmp(entry->d_name, "f") != 0)
            unlink(in(entry->d_name));
    }
    if (dir)
        closedir(dir);
    return whole;
}

/* Nobody ever sees half a file beside the one that is written, and a killed writer leaves none. */
UNIT(killed_writer_leaves_nothing)
{
    static char big[8 << 20];
    struct buf got = {0};

    set_up();
    memset(big, 'n', sizeof big);
    CHECK(writes(plain("f"), "old"));
    for (int i = 0; i < 30; i++) {
        pid_t pid = fork();

        if (pid == 0)
            for (;;)
                fs_write(plain("f"), big, sizeof big, -1, false, &err);
        usleep((useconds_t)(500 + i * 211));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        /* Killed between its last link and the rename it leaves a second name, of a file that is whole. */
        CHECK(count(base) <= 2 && only_whole(&got, big, sizeof big));
    }
    buf_free(&got);
    tear_down();
}

/* A real full disk, in a mount namespace of a child of ours; without the right to mount there is nothing to
 * see. */
static int fill_disk(void)
{
    static char data[90000];
    bool full;

    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", base, "tmpfs", 0, "size=256k") < 0)
        return 77;
    if (!writes(plain("f"), "old") || !fs_write(plain("a"), data, sizeof data, -1, true, &err) ||
        !fs_write(plain("b"), data, sizeof data, -1, true, &err))
        return 1;
    full = !fs_write(plain("f"), data, sizeof data, -1, true, &err) && err.code == ERR_FULL;
    if (!full || !holds(plain("f"), "old") || count(base) != 3)
        return 2;
    full = !fs_append(plain("a"), data, sizeof data, -1, false, &err) && err.code == ERR_FULL;
    return full ? 0 : 3;
}

UNIT(full_disk)
{
    int status = 1;

    set_up();
    if (fork() == 0)
        _exit(fill_disk());
    wait(&status);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        printf("  no right to mount here: full_disk not tried\n");
    else
        CHECK_INT(status, 0);
    tear_down();
}

UNIT_MAIN(C(write_and_read), C(a_draft_appears_as_a_whole_or_not_at_all),
          C(write_replaces_links_and_spares_directories), C(reads_stay_bounded), C(only_regular_files),
          C(roots_hold), C(append), C(listing), C(removing_follows_no_link), C(removing_a_deep_tree),
          C(removing_a_wide_tree), C(renaming), C(locks), C(locks_between_processes),
          C(failed_write_leaves_the_old_file), C(full_disk), C(temporary_directories_are_swept),
          C(killed_writer_leaves_nothing))
