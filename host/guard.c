/* The guard process and the table it shares with the host.
 *
 * The guard is a fork that runs no other program: it must exist before the first child does, at once and
 * whatever became of our executable's file. It gives back the heap and the environment it was forked with, so
 * that it costs little and what the host knows does not live twice; from then on it makes
 * only system calls. */
#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GUARD_SLOTS 16384 /* children at a time */
#define GUARD_GRACE 40    /* ticks of 50 ms between TERM and KILL */
#define GUARD_NAME  "moontide: guard"

/* Where the kernel keeps the program's heap, arguments and environment: fields 47 to
 * 51 of /proc/self/stat. */
struct layout {
    uintptr_t heap, args, args_end, env, env_end;
};

static bool layout_read(struct layout *layout)
{
    char text[1024];
    unsigned long long v[5];
    ssize_t n;
    char *at;
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return false;
    n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    at = strrchr(text, ')'); /* the name may hold anything; field 3 follows it */
    for (int field = 2; at && field < 47; field++) {
        at = strchr(at, ' ');
        at = at ? at + 1 : NULL;
    }
    if (!at || sscanf(at, "%llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3], &v[4]) != 5)
        return false;
    *layout =
        (struct layout){(uintptr_t)v[0], (uintptr_t)v[1], (uintptr_t)v[2], (uintptr_t)v[3], (uintptr_t)v[4]};
    return true;
}

/* In the guard: forget what the host knew, and carry a name of our own. */
static void guard_strip(const struct layout *layout)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t heap = (layout->heap + page - 1) & ~(page - 1), end = (uintptr_t)sbrk(0),
              tls = (uintptr_t)&errno;

    if (chdir("/") < 0)
        return; /* cannot happen; the rest is comfort */
    prctl(PR_SET_NAME, GUARD_NAME);
    prctl(PR_SET_DUMPABLE, 0);
    if (layout->args && layout->args_end - layout->args > sizeof GUARD_NAME) {
        memset((void *)layout->args, 0, layout->args_end - layout->args);
        memcpy((void *)layout->args, GUARD_NAME, sizeof GUARD_NAME);
    }
    if (layout->env)
        memset((void *)layout->env, 0, layout->env_end - layout->env);
    /* A statically linked libc keeps thread-local data in the heap; then it has to stay. */
    if (layout->heap && end > heap && !(tls >= heap && tls < end))
        madvise((void *)heap, end - heap, MADV_DONTNEED);
}

static void guard_signals(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t none;

    for (int s = 1; s < NSIG; s++)
        sigaction(s, &ignore, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Keeps the link to the host alone; returns its number, which changes when it was one of the three standard
 * ones. */
static int guard_descriptors(int link)
{
    int null;

    if (link < 3)
        link = fcntl(link, F_DUPFD_CLOEXEC, 3);
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3; fd++) {
        if (null >= 0)
            dup2(null, fd);
        else
            close(fd);
    }
    if (link > 3)
        close_range(3, (unsigned)link - 1, 0);
    close_range((unsigned)link + 1, ~0U, 0);
    return link;
}

/* Signals every listed group; takes those that are gone off the list. Returns how many are left. */
static size_t guard_sweep(volatile pid_t *slots, int signum)
{
    size_t left = 0;

    for (size_t i = 0; i < GUARD_SLOTS; i++) {
        pid_t group = slots[i];

        if (group <= 1)
            continue;
        if (kill(-group, signum) < 0 && errno == ESRCH)
            slots[i] = 0;
        else
            left++;
    }
    return left;
}

static _Noreturn void guard_run(volatile pid_t *slots, int link)
{
    struct timespec tick = {0, 50 * 1000 * 1000};
    char byte;
    size_t left;

    while (read(link, &byte, 1) < 0 && errno == EINTR)
        ;
    left = guard_sweep(slots, SIGTERM);
    for (int i = 0; left > 0 && i < GUARD_GRACE; i++) {
        nanosleep(&tick, NULL);
        left = guard_sweep(slots, 0);
    }
    guard_sweep(slots, SIGKILL);
    _exit(0);
}

bool guard_open(struct guard *guard, struct err *e)
{
    size_t size = GUARD_SLOTS * sizeof *guard->slots;
    void *table = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (table == MAP_FAILED) {
        err_errno(e, errno, "mapping the table of children");
        return false;
    }
    *guard = (struct guard){.slots = table, .fd = -1};
    return true;
}

/* True when the guard process runs. A guard that was killed is reaped here. */
static bool guard_alive(struct guard *guard)
{
    if (!guard->pid)
        return false;
    if (waitpid(guard->pid, NULL, WNOHANG) == 0)
        return true;
    close(guard->fd);
    guard->fd = -1;
    guard->pid = 0;
    return false;
}

/* The guard's side, from fork to end. */
static _Noreturn void guard_main(volatile pid_t *slots, const struct layout *layout, int fd)
{
    setsid();
    guard_signals();
    fd = guard_descriptors(fd);
    if (write(fd, "", 1) == 1)
        guard_strip(layout); /* from here on the host's memory is gone */
    guard_run(slots, fd);
}

/* Forks, and waits until the guard has closed what it inherited: else a lock that we give up now would live
 * on in it. The socket's other end is ours from then on. */
static pid_t guard_fork(struct guard *guard, int ours, int theirs)
{
    struct layout layout = {0};
    sigset_t all, old;
    char byte;
    pid_t pid;
    int why;

    layout_read(&layout);
    sigfillset(&all); /* no handler of the host may run in the guard: its loop is not there */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pid = _Fork();
    if (pid == 0)
        guard_main(guard->slots, &layout, theirs);
    why = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    close(theirs);
    while (pid > 0 && read(ours, &byte, 1) < 0 && errno == EINTR)
        ;
    errno = why;
    return pid;
}

bool guard_ensure(struct guard *guard, struct err *e)
{
    int fds[2];
    pid_t pid;

    if (guard_alive(guard))
        return true;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
        err_errno(e, errno, "opening the guard's socket");
        return false;
    }
    pid = guard_fork(guard, fds[0], fds[1]);
    if (pid < 0) {
        err_errno(e, errno, "starting the guard process");
        close(fds[0]);
        return false;
    }
    guard->fd = fds[0];
    guard->pid = pid;
    return true;
}

volatile pid_t *guard_reserve(struct guard *guard)
{
    for (size_t i = 0; i < GUARD_SLOTS; i++) {
        size_t at = (guard->next + i) % GUARD_SLOTS;

        if (guard->slots[at] == 0) {
            guard->next = at + 1;
            guard->slots[at] = -1;
            return &guard->slots[at];
        }
    }
    return NULL;
}

void guard_drop(volatile pid_t *slot)
{
    *slot = 0;
}

void guard_close(struct guard *guard)
{
    if (guard->fd >= 0)
        close(guard->fd);
    if (guard->pid)
        while (waitpid(guard->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    if (guard->slots) {
        /* volatile only matters to the two processes, not to the unmapping */
        munmap((void *)(uintptr_t)guard->slots, GUARD_SLOTS * sizeof *guard->slots);
    }
    *guard = (struct guard){.fd = -1};
}
