/* The crash note: a file that says what the loop was doing, written by signal handlers. */
#include "crash_note.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PATH_ROOM = 4096, STACK_ROOM = 16384 };

static char file[PATH_ROOM];
static const char *volatile working_on;
static volatile sig_atomic_t noted;
static pid_t loop_thread;

static void put(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);

        if (n <= 0)
            return;
        text += n;
        len -= (size_t)n;
    }
}

static void note(const char *words)
{
    int fd;

    if (noted || !file[0])
        return;
    fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    put(fd, words, strlen(words));
    close(fd);
    noted = 1;
}

#if !defined(__SANITIZE_ADDRESS__)
/* A signal that this process earned. It is raised again when the handler is left: SA_RESETHAND. */
static void on_fault(int signum)
{
    const char *words = working_on;

    if (words && (pid_t)syscall(SYS_gettid) == loop_thread)
        note(words);
    raise(signum);
}

static void catch_faults(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    static char room[STACK_ROOM];
    stack_t stack = {.ss_sp = room, .ss_size = sizeof room}; /* the usual one may be what is used up */
    struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_ONSTACK | SA_RESETHAND};

    sigaltstack(&stack, NULL);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &action, NULL);
}
#else /* the sanitizer has handlers of its own */
static void catch_faults(void)
{
}
#endif

bool crash_note_file(const char *path)
{
    size_t len = path ? strlen(path) : 0;

    if (len >= sizeof file)
        return false;
    file[0] = '\0';
    if (!path)
        return true;
    memcpy(file + 1, path + 1,
           len); /* with its end; the first byte last: a handler sees all of it or nothing */
    file[0] = path[0];
    loop_thread = (pid_t)syscall(SYS_gettid);
    catch_faults();
    return true;
}

void crash_note_begin(const char *words)
{
    working_on = words;
}

void crash_note_end(void)
{
    working_on = NULL;
    if (!noted)
        return;
    unlink(file);
    noted = 0;
}

void crash_note_lasts(long wall_ms, long cpu_ms)
{
    static const char before[] =
        "moontide: the loop was kept for 10 s, and nothing could interrupt it; it worked on ",
                      after[] = "; this host ends\n";
    const char *words = working_on, *end;

    if (!words)
        return;
    if (wall_ms >= CRASH_NOTE_NOTE_MS)
        note(words);
    if (cpu_ms < CRASH_NOTE_CPU_MS && wall_ms < CRASH_NOTE_WALL_MS)
        return;
    end = strchr(words, '\n');
    put(STDERR_FILENO, before, sizeof before - 1);
    put(STDERR_FILENO, words, end ? (size_t)(end - words) : strlen(words));
    put(STDERR_FILENO, after, sizeof after - 1);
    _exit(CRASH_NOTE_STATUS);
}
