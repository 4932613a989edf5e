/* Child processes by clone(2) as posix_spawn does it: memory shared and the host suspended until the child
 * has become the other program, so the price does not grow with the host's size.
 *
 * It is not posix_spawn itself for one reason: the child must enter its group in the guard's table before it
 * runs, or a host killed right then would leave it behind. A `struct proc` is owned by its set; the caller
 * gives it up with proc_release. A leader stays unreaped until then, which keeps its group's
 * number its own. */
#include "proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "guard.h"

#define STACK_SIZE ((size_t)256 * 1024) /* reserved once, touched as needed */
#define GRACE_MS   2000                 /* between TERM and KILL when no task waits any more */

enum stage { STAGE_DESCRIPTORS, STAGE_CWD, STAGE_EXEC };

/* What the starting child works from; it lives on the suspended host's stack. */
struct launch {
    const struct proc_options *options;
    const char *program;
    const sigset_t *changed;
    volatile pid_t *slot;
    enum stage stage;
    int error; /* 0: it runs */
};

struct proc {
    struct proc *prev, *next;
    struct proc_set *set; /* NULL: it has ended, only its memory is left */
    volatile pid_t *slot;
    pid_t pid;
    int pidfd;
    uv_poll_t poll;
    uv_timer_t timer; /* TERM to KILL after release */
    int closing;      /* uv handles still to close */
    bool exited, reaped, released;
    int status, signal;
    void (*on_exit)(struct proc *proc, void *data, int status, int signal);
    void *data;
};

struct proc_set {
    uv_loop_t *loop;
    struct guard guard;
    sigset_t changed; /* signals that may not have their standard effect in the host */
    char *stack;
    struct proc *first;
};

/* --- in the child, on memory shared with the suspended host: system calls only --- */

/* Handlers end with exec by themselves; what would survive is SIG_IGN. Both go, since a handler must not run
 * here, in memory shared with the host. */
static void child_signals(const sigset_t *changed)
{
    struct sigaction standard = {.sa_handler = SIG_DFL};

    for (int s = 1; s < NSIG; s++)
        if (sigismember(changed, s) == 1)
            sigaction(s, &standard, NULL);
}

static bool child_descriptors(const struct proc_options *o)
{
    int fds[3] = {o->stdin_fd, o->stdout_fd, o->stderr_fd};

    for (int i = 0; i < 3; i++) /* out of each other's way first */
        if (fds[i] < 3 && (fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3)) < 0)
            return false;
    for (int i = 0; i < 3; i++)
        if (dup2(fds[i], i) < 0)
            return false;
    /* Really closed, not left to exec: Linux lets the host go on before exec closes, and a lock or a pipe
     * that the host gives up right then would still be held by the child. */
    return close_range(3, ~0U, 0) == 0;
}

__attribute__((no_sanitize("address", "undefined"))) static int child_main(void *arg)
{
    struct launch *l = arg;
    sigset_t none;

    *l->slot = getpid();
    setsid();
    child_signals(l->changed);
    l->stage = STAGE_DESCRIPTORS;
    if (!child_descriptors(l->options))
        goto fail;
    l->stage = STAGE_CWD;
    if (l->options->cwd && chdir(l->options->cwd) < 0)
        goto fail;
    l->stage = STAGE_EXEC;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(l->program, l->options->argv, l->options->envp);
fail:
    l->error = errno;
    *l->slot = 0;
    _exit(127);
}

/* --- in the host --- */

static const char *env_path(char *const *envp)
{
    for (; *envp; envp++)
        if (strncmp(*envp, "PATH=", 5) == 0)
            return *envp + 5;
    return "/usr/local/bin:/usr/bin:/bin";
}

/* Finds `name` in the child's own PATH. Empty and relative entries are skipped: they would mean whatever
 * directory we happen to be in. False: errno says why. */
static bool program_find(const char *name, char *const *envp, char *out, size_t size)
{
    int why = ENOENT;
    struct stat st;

    for (const char *at = env_path(envp), *end; *at; at = *end ? end + 1 : end) {
        end = strchrnul(at, ':');
        if (*at != '/' || (size_t)snprintf(out, size, "%.*s/%s", (int)(end - at), at, name) >= size)
            continue;
        if (stat(out, &st) < 0 || !S_ISREG(st.st_mode))
            continue;
        if (access(out, X_OK) == 0)
            return true;
        why = EACCES;
    }
    errno = why;
    return false;
}

/* The signals that are handled or ignored now, and those that the host may handle later (api_signal.c). To
 * check all of them for each child would cost as much as the rest of our part of a spawn. */
static void signals_changed(sigset_t *changed)
{
    static const int later[] = {SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGCHLD, SIGPIPE, SIGWINCH};
    struct sigaction now;

    sigemptyset(changed);
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        sigaddset(changed, later[i]);
    for (int s = 1; s < NSIG; s++)
        if (sigaction(s, NULL, &now) == 0 && now.sa_handler != SIG_DFL)
            sigaddset(changed, s);
}

struct proc_set *proc_set_open(uv_loop_t *loop, struct err *e)
{
    struct proc_set *set = calloc(1, sizeof *set);
    void *stack;

    if (!set) {
        err_errno(e, ENOMEM, "keeping track of children");
        return NULL;
    }
    stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) {
        err_errno(e, errno, "mapping a stack for children");
        free(set);
        return NULL;
    }
    if (!guard_open(&set->guard, e)) {
        munmap(stack, STACK_SIZE);
        free(set);
        return NULL;
    }
    signals_changed(&set->changed);
    set->loop = loop;
    set->stack = stack;
    return set;
}

static void launch_error(const struct launch *l, struct err *e)
{
    char what[300];

    if (l->stage == STAGE_CWD)
        snprintf(what, sizeof what, "working directory %.200s", l->options->cwd);
    else
        snprintf(what, sizeof what, "cannot start %.200s", l->program);
    err_errno(e, l->error, what);
}

/* Clones the child; when this returns it is either the other program or an error. */
static bool proc_launch(struct proc *proc, struct launch *launch, struct err *e)
{
    sigset_t all, old;
    int why = 0;

    /* No handler may run in the child while it shares our memory. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    proc->pid = clone(child_main, proc->set->stack + STACK_SIZE,
                      CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, launch, &proc->pidfd);
    if (proc->pid < 0)
        why = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (why) {
        err_errno(e, why, "starting a process");
        return false;
    }
    if (launch->error) {
        waitpid(proc->pid, NULL, 0);
        close(proc->pidfd);
        launch_error(launch, e);
        return false;
    }
    return true;
}

static void proc_closed(uv_handle_t *handle)
{
    struct proc *proc = handle->data;

    if (--proc->closing == 0 && proc->released)
        free(proc);
}

/* The end of a proc: the rest of its group is killed, the leader reaped, the slot given back. */
static void proc_end(struct proc *proc)
{
    if (!proc->reaped) {
        kill(-proc->pid, SIGKILL);
        waitpid(proc->pid, NULL, WNOHANG);
        guard_drop(proc->slot);
        proc->reaped = true;
    }
    if (proc->prev)
        proc->prev->next = proc->next;
    else
        proc->set->first = proc->next;
    if (proc->next)
        proc->next->prev = proc->prev;
    proc->set = NULL;
    proc->closing = 2;
    uv_close((uv_handle_t *)&proc->poll, proc_closed); /* first: libuv must never watch a closed descriptor */
    uv_close((uv_handle_t *)&proc->timer, proc_closed);
    close(proc->pidfd);
}

/* Checks whether the leader ended, without reaping it. */
static bool proc_look(struct proc *proc)
{
    siginfo_t info = {0};

    if (proc->exited)
        return true;
    if (waitid(P_PIDFD, (id_t)proc->pidfd, &info, WEXITED | WNOWAIT | WNOHANG) == 0) {
        if (info.si_pid == 0)
            return false;
        if (info.si_code == CLD_EXITED)
            proc->status = info.si_status;
        else
            proc->signal = info.si_status;
    } else if (errno != ECHILD) {
        return false;
    } else {
        /* Reaped elsewhere; the group's number may be reused now. */
        proc->status = -1;
        proc->reaped = true;
        guard_drop(proc->slot);
    }
    proc->exited = true;
    return true;
}

static void on_pidfd(uv_poll_t *poll, int status, int events)
{
    struct proc *proc = poll->data;

    (void)status;
    (void)events;
    if (!proc_look(proc))
        return;
    uv_poll_stop(&proc->poll);
    if (proc->released)
        proc_end(proc);
    else if (proc->on_exit)
        proc->on_exit(proc, proc->data, proc->status, proc->signal);
}

static bool proc_watch(struct proc *proc, struct err *e)
{
    int status = uv_poll_init(proc->set->loop, &proc->poll, proc->pidfd);

    if (status < 0) {
        err_uv(e, status, "watching a child");
        return false;
    }
    uv_timer_init(proc->set->loop, &proc->timer);
    proc->poll.data = proc->timer.data = proc;
    uv_poll_start(&proc->poll, UV_READABLE, on_pidfd); /* cannot fail on a handle that is open */
    return true;
}

struct proc *proc_start(struct proc_set *set, const struct proc_options *options, struct err *e)
{
    struct launch launch = {.options = options, .program = options->argv[0]};
    struct proc *proc = NULL;
    char path[4096];

    if (!guard_ensure(&set->guard, e))
        return NULL;
    if (!strchr(launch.program, '/')) {
        if (!program_find(launch.program, options->envp, path, sizeof path)) {
            launch.error = errno;
            launch.stage = STAGE_EXEC;
            launch_error(&launch, e);
            return NULL;
        }
        launch.program = path;
    }
    proc = calloc(1, sizeof *proc);
    if (!proc) {
        err_errno(e, ENOMEM, "starting a process");
        return NULL;
    }
    launch.changed = &set->changed;
    launch.slot = guard_reserve(&set->guard);
    if (!launch.slot) {
        err_set(e, ERR_FULL, "too many children at once");
        free(proc);
        return NULL;
    }
    *proc =
        (struct proc){.set = set, .slot = launch.slot, .on_exit = options->on_exit, .data = options->data};
    if (!proc_launch(proc, &launch, e)) {
        guard_drop(launch.slot);
        free(proc);
        return NULL;
    }
    if (!proc_watch(proc, e)) {
        kill(-proc->pid, SIGKILL);
        waitpid(proc->pid, NULL, 0);
        guard_drop(proc->slot);
        close(proc->pidfd);
        free(proc);
        return NULL;
    }
    proc->next = set->first;
    if (proc->next)
        proc->next->prev = proc;
    set->first = proc;
    return proc;
}

pid_t proc_pid(const struct proc *proc)
{
    return proc->pid;
}

bool proc_signal(struct proc *proc, int signum)
{
    return !proc->reaped && kill(-proc->pid, signum) == 0;
}

static void on_grace(uv_timer_t *timer)
{
    proc_signal(timer->data, SIGKILL);
}

void proc_release(struct proc *proc)
{
    if (!proc || proc->released)
        return;
    proc->released = true;
    proc->on_exit = NULL;
    if (!proc->set) {
        if (!proc->closing)
            free(proc);
        return;
    }
    if (proc_look(proc)) {
        proc_end(proc);
        return;
    }
    proc_signal(proc, SIGTERM);
    uv_timer_start(&proc->timer, on_grace, GRACE_MS, 0);
}

/* Waits until every child ended, at most so long. Blocks: the loop is over when this is called. */
static void set_wait(struct proc_set *set, int milliseconds)
{
    uint64_t end = uv_hrtime() + (uint64_t)milliseconds * 1000000;

    for (struct proc *p = set->first; p; p = p->next) {
        while (!proc_look(p)) {
            uint64_t now = uv_hrtime();
            struct pollfd fd = {.fd = p->pidfd, .events = POLLIN};

            if (now >= end || (poll(&fd, 1, (int)((end - now) / 1000000) + 1) < 0 && errno != EINTR))
                break;
        }
    }
}

size_t proc_set_count(const struct proc_set *set)
{
    size_t n = 0;

    for (const struct proc *p = set ? set->first : NULL; p; p = p->next)
        n++;
    return n;
}

uv_loop_t *proc_set_loop(const struct proc_set *set)
{
    return set->loop;
}

void proc_set_close(struct proc_set *set)
{
    if (!set)
        return;
    for (struct proc *p = set->first; p; p = p->next)
        if (!proc_look(p))
            proc_signal(p, SIGTERM);
    set_wait(set, GRACE_MS);
    for (struct proc *p = set->first; p; p = p->next)
        proc_signal(p, SIGKILL);
    set_wait(set, GRACE_MS);
    while (set->first)
        proc_end(set->first);
    guard_close(&set->guard);
    munmap(set->stack, STACK_SIZE);
    free(set);
}
