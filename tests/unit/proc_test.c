/* proc.c, guard.c and child.c: what a child gets, how it ends, and that nothing outlives the host. */
#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "child.h"
#include "proc.h"

/* The kernel's argv is not const, but nobody writes to it. */
#define T(text) ((char *)(uintptr_t)(text))

static uv_loop_t loop;
static struct proc_set *set;

static void set_up(void)
{
    struct err e;

    signal(SIGPIPE, SIG_IGN);
    uv_loop_init(&loop);
    set = proc_set_open(&loop, &e);
    CHECK(set != NULL);
}

static void close_set(void)
{
    proc_set_close(set);
    set = NULL;
}

/* Closes everything; the loop must be empty then: no handle was forgotten. */
static void tear_down(void)
{
    close_set();
    for (int i = 0; i < 100 && uv_loop_alive(&loop); i++)
        uv_run(&loop, UV_RUN_NOWAIT);
    CHECK_INT(uv_loop_close(&loop), 0);
    CHECK_INT(waitpid(-1, NULL, WNOHANG), -1); /* neither child nor zombie is left */
    CHECK_INT(errno, ECHILD);
}

static int count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static bool alive(pid_t pid)
{
    char path[64], text[512] = "", *at;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    f = fopen(path, "re");
    if (!f)
        return false;
    at = fgets(text, sizeof text, f) ? strrchr(text, ')') : NULL; /* the state follows the name */
    fclose(f);
    return at && at[2] != 'Z' && at[2] != 'X';
}

static bool gone_within(pid_t pid, int milliseconds)
{
    for (; alive(pid) && milliseconds > 0; milliseconds -= 10)
        usleep(10000);
    return !alive(pid);
}

/* One child with a pipe for its output, run until `finished`. */
struct run {
    struct child *child;
    struct err err;
    bool changed;
};

static void on_changed(struct child *child, void *data)
{
    struct run *run = data;

    (void)child;
    run->changed = true;
}

static char *no_env[] = {NULL};

static bool run_start(struct run *run, char **argv, char **envp, struct child_options more)
{
    more.argv = argv;
    more.envp = envp ? envp : no_env;
    if (more.out.kind == STDIO_NULL)
        more.out.kind = STDIO_PIPE;
    more.keep = more.keep ? more.keep : 65536;
    run->err.code = ERR_NONE;
    run->child = child_start(set, &more, &run->err);
    if (!run->child)
        return false;
    run->child->changed = on_changed;
    run->child->data = run;
    return true;
}

static void run_finish(struct run *run)
{
    child_collect(run->child);
    while (!child_done(run->child))
        uv_run(&loop, UV_RUN_ONCE);
}

UNIT(exit_status)
{
    char *argv[] = {T("sh"), T("-c"), T("echo hi; exit 7"), NULL};
    struct run run;

    set_up();
    CHECK(run_start(&run, argv, NULL, (struct child_options){0}));
    run_finish(&run);
    CHECK_INT(run.child->status, 7);
    CHECK_INT(run.child->signal, 0);
    CHECK_STR(run.child->out.buf.data, "hi\n");
    CHECK(run.child->proc == NULL); /* reaped as soon as it is over */
    child_close(run.child);
    tear_down();
}

UNIT(not_found)
{
    char *missing[] = {T("no-such-program-here"), NULL};
    char *slash[] = {T("/proc/nonexistent/program"), NULL};
    char *plain[] = {T("/etc/passwd"), NULL};
    char *fine[] = {T("true"), NULL};
    struct run run;
    int before;

    set_up();
    CHECK(run_start(&run, fine, NULL, (struct child_options){0})); /* the guard is there from now on */
    run_finish(&run);
    child_close(run.child);
    uv_run(&loop, UV_RUN_NOWAIT);
    before = count_fds();
    CHECK(!run_start(&run, missing, NULL, (struct child_options){0}));
    CHECK_INT(run.err.code, ERR_NOT_FOUND);
    CHECK(!run_start(&run, slash, NULL, (struct child_options){0}));
    CHECK_INT(run.err.code, ERR_NOT_FOUND);
    CHECK(!run_start(&run, plain, NULL, (struct child_options){0}));
    CHECK_INT(run.err.code, ERR_DENIED);
    CHECK(!run_start(&run, fine, NULL, (struct child_options){.cwd = "/proc/nonexistent"}));
    CHECK_INT(run.err.code, ERR_NOT_FOUND);
    CHECK(strstr(run.err.message, "working directory") != NULL);
    uv_run(&loop, UV_RUN_NOWAIT);
    CHECK_INT(count_fds(), before);
    tear_down();
}

UNIT(path_skips_relative_entries)
{
    char *argv[] = {T("true"), NULL};
    char *relative[] = {T("PATH=:.:bin"), NULL};
    struct run run;

    set_up();
    CHECK_INT(chdir("/usr/bin"), 0);
    CHECK(!run_start(&run, argv, relative, (struct child_options){0}));
    CHECK_INT(run.err.code, ERR_NOT_FOUND);
    CHECK_INT(chdir("/"), 0);
    tear_down();
}

UNIT(nothing_is_inherited)
{
    char *argv[] = {T("sh"), T("-c"), T("ls /proc/self/fd; env; grep -E '^Sig(Blk|Ign)' /proc/self/status"),
                    NULL};
    char *envp[] = {T("ONLY=this"), T("PATH=/usr/bin:/bin"), NULL};
    struct run run;
    sigset_t usr1;
    const char *ignored;
    int leak;

    set_up();
    leak = fcntl(open("/dev/null", O_RDONLY), F_DUPFD, 50); /* not close-on-exec, on purpose */
    setenv("MOONTIDE_CANARY", "1", 1);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    CHECK(run_start(&run, argv, envp, (struct child_options){0}));
    sigprocmask(SIG_UNBLOCK, &usr1, NULL);
    run_finish(&run);
    /* ls itself holds 3 for the directory it reads; PWD and the like are the shell's own */
    CHECK(strncmp(run.child->out.buf.data, "0\n1\n2\n3\n", 8) == 0);
    CHECK(strstr(run.child->out.buf.data, "\n4\n") == NULL);
    CHECK(strstr(run.child->out.buf.data, "\n50\n") == NULL);
    CHECK(strstr(run.child->out.buf.data, "ONLY=this") != NULL);
    CHECK(strstr(run.child->out.buf.data, "CANARY") == NULL);
    CHECK(strstr(run.child->out.buf.data, "SigBlk:\t0000000000000000") != NULL);
    /* 32 and 33 belong to the C library: programs started by make, which uses posix_spawn,
     * have them ignored. */
    ignored = strstr(run.child->out.buf.data, "SigIgn:\t");
    CHECK(ignored && (strtoull(ignored + 8, NULL, 16) & ~(3ull << 31)) == 0);
    child_close(run.child);
    close(leak);
    tear_down();
}

/* A host that was started with closed standard streams gives the child the right ones all the same. */
UNIT(low_descriptors)
{
    char *argv[] = {T("sh"), T("-c"), T("cat; echo err >&2"), NULL};
    int keep_in, keep_err;
    struct run run;

    set_up();
    keep_in = fcntl(0, F_DUPFD_CLOEXEC, 100);
    keep_err = fcntl(2, F_DUPFD_CLOEXEC, 100);
    close(0);
    close(2);
    CHECK(run_start(&run, argv, NULL,
                    (struct child_options){.in = {.kind = STDIO_DATA, .data = "data\n", .len = 5},
                                           .err = {.kind = STDIO_PIPE}}));
    run_finish(&run);
    dup2(keep_in, 0);
    dup2(keep_err, 2);
    close(keep_in);
    close(keep_err);
    CHECK_STR(run.child->out.buf.data, "data\n");
    CHECK_STR(run.child->err.buf.data, "err\n");
    child_close(run.child);
    tear_down();
}

UNIT(output_beyond_the_limit_is_dropped)
{
    char *argv[] = {T("head"), T("-c"), T("3000000"), T("/dev/zero"), NULL};
    struct run run;

    set_up();
    CHECK(run_start(&run, argv, NULL, (struct child_options){.keep = 100000}));
    run_finish(&run);
    CHECK_INT(run.child->status, 0);
    CHECK_INT(run.child->out.buf.len, 100000);
    CHECK(run.child->out.truncated);
    CHECK(run.child->out.buf.cap < 400000);
    child_close(run.child);
    tear_down();
}

UNIT(timeout_ends_the_group)
{
    char *argv[] = {T("sh"), T("-c"), T("trap '' TERM; (trap '' TERM; sleep 100) & echo $!; wait"), NULL};
    struct run run;
    pid_t inner;

    set_up();
    CHECK(run_start(&run, argv, NULL, (struct child_options){.timeout = 200, .grace = 100}));
    run_finish(&run);
    CHECK(run.child->timed_out);
    CHECK_INT(run.child->signal, SIGKILL);
    inner = atoi(run.child->out.buf.data);
    CHECK(inner > 0 && gone_within(inner, 1000));
    child_close(run.child);
    tear_down();
}

UNIT(grandchild_holds_the_pipe)
{
    char *argv[] = {T("sh"), T("-c"), T("sleep 100 & echo $!"), NULL};
    struct run run;
    uint64_t start;

    set_up();
    start = uv_hrtime();
    CHECK(run_start(&run, argv, NULL, (struct child_options){0}));
    run_finish(&run);
    CHECK((uv_hrtime() - start) / 1000000 < 3000);
    CHECK_INT(run.child->status, 0);
    CHECK(run.child->out.truncated); /* there might have been more */
    CHECK(gone_within(atoi(run.child->out.buf.data), 1000));
    child_close(run.child);
    tear_down();
}

UNIT(closing_ends_the_group)
{
    char *argv[] = {T("sh"), T("-c"), T("trap 'exit 0' TERM; sleep 100 & echo $!; wait"), NULL};
    struct run run;
    pid_t leader, inner;

    set_up();
    CHECK(run_start(&run, argv, NULL, (struct child_options){0}));
    while (run.child->out.buf.len == 0)
        uv_run(&loop, UV_RUN_ONCE);
    leader = run.child->pid;
    inner = atoi(run.child->out.buf.data);
    child_close(run.child);
    for (int i = 0; i < 300 && uv_loop_alive(&loop); i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
        usleep(10000);
    }
    CHECK(!alive(leader));
    CHECK(gone_within(inner, 1000));
    tear_down();
}

UNIT(closing_the_set_ends_all)
{
    char *argv[] = {T("sh"), T("-c"), T("trap '' TERM; echo ok; while :; do sleep 1; done"), NULL};
    struct run run[3];
    pid_t pids[3];

    set_up();
    for (int i = 0; i < 3; i++) {
        CHECK(run_start(&run[i], argv, NULL, (struct child_options){0}));
        pids[i] = run[i].child->pid;
        while (run[i].child->out.buf.len == 0)
            uv_run(&loop, UV_RUN_ONCE);
    }
    close_set();
    for (int i = 0; i < 3; i++) {
        CHECK(!alive(pids[i]));
        child_close(run[i].child); /* handles that Lua lets go of only now */
    }
    tear_down();
}

UNIT(writing)
{
    char *argv[] = {T("cat"), NULL};
    struct child_options o = {.in = {.kind = STDIO_PIPE}};
    static char big[300000];
    struct run run;

    set_up();
    memset(big, 'b', sizeof big);
    CHECK(run_start(&run, argv, NULL, o));
    run.child->keep = sizeof big;
    child_collect(run.child);
    CHECK(child_write(run.child, big, sizeof big, &run.err));
    while (run.child->writing)
        uv_run(&loop, UV_RUN_ONCE);
    CHECK_INT(run.child->write_status, 0);
    child_close_stdin(run.child);
    CHECK(!child_write(run.child, "x", 1, &run.err));
    CHECK_INT(run.err.code, ERR_CLOSED);
    run_finish(&run);
    CHECK_INT(run.child->out.buf.len, sizeof big);
    CHECK(memcmp(run.child->out.buf.data, big, sizeof big) == 0);
    child_close(run.child);
    tear_down();
}

UNIT(writing_to_a_deaf_child)
{
    char *argv[] = {T("true"), NULL};
    static char big[300000];
    struct run run;

    set_up();
    CHECK(run_start(&run, argv, NULL, (struct child_options){.in = {.kind = STDIO_PIPE}}));
    CHECK(child_write(run.child, big, sizeof big, &run.err));
    while (run.child->writing)
        uv_run(&loop, UV_RUN_ONCE);
    CHECK_INT(run.child->write_status, UV_EPIPE);
    run_finish(&run);
    child_close(run.child);
    tear_down();
}

/* A reader that does not come keeps the child waiting instead of filling memory. */
UNIT(backpressure)
{
    char *argv[] = {T("head"), T("-c"), T("2000000"), T("/dev/zero"), NULL};
    struct run run;
    size_t got = 0;

    set_up();
    CHECK(run_start(&run, argv, NULL, (struct child_options){0}));
    child_claim(&run.child->out, true);
    for (int i = 0; i < 20; i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
        usleep(5000);
    }
    CHECK(run.child->out.buf.len < 400000);
    CHECK(!run.child->exited);
    while (run.child->out.open || run.child->out.buf.len > 0) {
        got += run.child->out.buf.len;
        buf_skip(&run.child->out.buf, run.child->out.buf.len);
        child_took(&run.child->out);
        if (run.child->out.open)
            uv_run(&loop, UV_RUN_ONCE);
    }
    CHECK_INT(got, 2000000);
    run_finish(&run);
    CHECK(!run.child->out.truncated);
    child_close(run.child);
    tear_down();
}

UNIT(a_thousand_spawns)
{
    char *argv[] = {T("/bin/true"), NULL};
    struct run run;
    int before = 0;

    set_up();
    for (int i = 0; i < 1000; i++) {
        CHECK(run_start(&run, argv, NULL, (struct child_options){.err = {.kind = STDIO_PIPE}}));
        run_finish(&run);
        child_close(run.child);
        if (i == 10)
            before = count_fds();
    }
    uv_run(&loop, UV_RUN_NOWAIT);
    CHECK(count_fds() <= before);
    tear_down();
}

/* With every number of free descriptors from none on: an error or a child, and nothing leaked either way. */
static int starve(void)
{
    char *argv[] = {T("true"), NULL};
    struct rlimit limit = {0, 0};
    int before, started = 0, refused = 0;
    struct run run;

    set_up();
    if (!run_start(&run, argv, NULL, (struct child_options){0})) /* the loop and the guard have theirs */
        return 1;
    run_finish(&run);
    child_close(run.child);
    uv_run(&loop, UV_RUN_NOWAIT);
    before = count_fds();
    for (rlim_t n = 3; n < 40; n++) {
        limit.rlim_cur = n;
        limit.rlim_max = 1024;
        setrlimit(RLIMIT_NOFILE, &limit);
        if (run_start(&run, argv, NULL,
                      (struct child_options){.in = {.kind = STDIO_PIPE}, .err = {.kind = STDIO_PIPE}})) {
            run_finish(&run);
            started += run.child->status == 0;
            child_close(run.child);
        } else {
            refused += run.err.code == ERR_FULL;
        }
        uv_run(&loop, UV_RUN_NOWAIT);
        limit.rlim_cur = 1024;
        setrlimit(RLIMIT_NOFILE, &limit);
        if (count_fds() != before)
            return 2;
    }
    return started > 0 && refused > 0 && started + refused == 37 ? 0 : 3;
}

UNIT(no_descriptors_left)
{
    int status = 1;
    pid_t pid = fork();

    if (pid == 0)
        _exit(starve());
    waitpid(pid, &status, 0);
    CHECK_INT(status, 0);
}

/* The heart of it: a host that is killed leaves nobody behind, whatever its children think of TERM. */
static void killed_host(int *to_us)
{
    char *argv[] = {T("sh"), T("-c"), T("trap '' TERM; (trap '' TERM; sleep 100) & echo $! $$; sleep 100"),
                    NULL};
    struct run run;

    set_up();
    if (!run_start(&run, argv, NULL, (struct child_options){0}))
        _exit(1);
    while (run.child->out.buf.len == 0)
        uv_run(&loop, UV_RUN_ONCE);
    if (write(*to_us, run.child->out.buf.data, run.child->out.buf.len) < 0)
        _exit(1);
    for (;;)
        pause();
}

UNIT(killed_host_leaves_nobody)
{
    int fds[2], inner = 0, leader = 0;
    char text[64] = "";
    pid_t pid;

    CHECK_INT(pipe2(fds, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0)
        killed_host(&fds[1]);
    close(fds[1]);
    CHECK(read(fds[0], text, sizeof text - 1) > 0);
    close(fds[0]);
    CHECK_INT(sscanf(text, "%d %d", &inner, &leader), 2);
    CHECK(alive(inner) && alive(leader));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    CHECK(gone_within(leader, 4000));
    CHECK(gone_within(inner, 4000));
}

/* Killed in the middle of a spawn, many times: the child either never starts or is ended. */
UNIT(host_killed_while_spawning)
{
    char marker[] = "600.0123456"; /* an argument that nobody else's sleep has */
    int left = 0;
    DIR *dir;
    struct dirent *entry;

    snprintf(marker, sizeof marker, "600.%07d", getpid());
    for (int i = 0; i < 40; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            char *argv[] = {T("/bin/sleep"), marker, NULL};
            struct run run;

            set_up();
            for (;;)
                run_start(&run, argv, NULL, (struct child_options){0});
        }
        usleep((useconds_t)(2000 + i * 173));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    usleep(500000);
    dir = opendir("/proc");
    while ((entry = readdir(dir))) {
        char path[300], line[64] = "";
        FILE *f;

        snprintf(path, sizeof path, "/proc/%s/cmdline", entry->d_name);
        f = atoi(entry->d_name) ? fopen(path, "re") : NULL;
        if (!f)
            continue;
        if (fread(line, 1, sizeof line - 1, f) > 11 && strcmp(line, "/bin/sleep") == 0)
            left += strcmp(line + 11, marker) == 0;
        fclose(f);
    }
    closedir(dir);
    CHECK_INT(left, 0);
}

UNIT(guard_is_replaced)
{
    char *argv[] = {T("true"), NULL};
    struct run run;
    char text[4096] = "", *children = text;
    FILE *f;
    pid_t first;

    set_up();
    CHECK(run_start(&run, argv, NULL, (struct child_options){0}));
    run_finish(&run);
    child_close(run.child);
    f = fopen("/proc/thread-self/children", "re");
    CHECK(f && fgets(text, sizeof text, f));
    if (f)
        fclose(f);
    first = atoi(children); /* the only child now is the guard */
    CHECK(first > 0);
    kill(first, SIGKILL);
    CHECK(gone_within(first, 1000));
    CHECK(run_start(&run, argv, NULL, (struct child_options){0}));
    run_finish(&run);
    child_close(run.child);
    tear_down();
}

/* Whether the heap of another process holds the text. */
static bool heap_holds(pid_t pid, const char *text)
{
    char line[512], path[64], *heap = NULL;
    unsigned long from = 0, to = 0;
    bool found = false;
    FILE *maps;
    int mem;

    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    maps = fopen(path, "re");
    while (maps && fgets(line, sizeof line, maps))
        if (strstr(line, "[heap]") && sscanf(line, "%lx-%lx", &from, &to) == 2)
            break;
    if (maps)
        fclose(maps);
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    mem = open(path, O_RDONLY | O_CLOEXEC);
    heap = malloc(to - from + 1);
    if (mem >= 0 && heap && pread(mem, heap, to - from, (off_t)from) == (ssize_t)(to - from))
        found = memmem(heap, to - from, text, strlen(text)) != NULL;
    free(heap);
    close(mem);
    return found;
}

UNIT(guard_has_a_name_and_nothing_else)
{
    char *argv[] = {T("true"), NULL};
    char text[4096] = "", path[64], *canary = NULL;
    struct run run;
    int pid = 0, n = 0;
    FILE *f;
    DIR *dir;
    struct dirent *entry;

    set_up();
    CHECK(asprintf(&canary, "moon-canary-%d", getpid()) > 0);
    CHECK(run_start(&run, argv, NULL, (struct child_options){0}));
    run_finish(&run);
    child_close(run.child);
    f = fopen("/proc/thread-self/children", "re");
    CHECK(f && fscanf(f, "%d", &pid) == 1);
    if (f)
        fclose(f);
    usleep(50000);
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    f = fopen(path, "re");
    CHECK(f && fgets(text, sizeof text, f));
    if (f)
        fclose(f);
    CHECK_STR(text, "moontide: guard");
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    dir = opendir(path);
    while (dir && (entry = readdir(dir)))
        n += entry->d_name[0] != '.';
    if (dir)
        closedir(dir);
    CHECK_INT(n, 4); /* the three standard ones and the socket */
    /* The address sanitizer keeps its heap elsewhere, and then there is nothing to compare. */
    CHECK(!heap_holds(getpid(), canary) || !heap_holds(pid, canary));
    free(canary);
    tear_down();
}

UNIT_MAIN(C(exit_status), C(not_found), C(path_skips_relative_entries), C(nothing_is_inherited),
          C(low_descriptors), C(output_beyond_the_limit_is_dropped), C(timeout_ends_the_group),
          C(grandchild_holds_the_pipe), C(closing_ends_the_group), C(closing_the_set_ends_all), C(writing),
          C(writing_to_a_deaf_child), C(backpressure), C(a_thousand_spawns), C(no_descriptors_left),
          C(killed_host_leaves_nobody), C(host_killed_while_spawning), C(guard_is_replaced),
          C(guard_has_a_name_and_nothing_else))
