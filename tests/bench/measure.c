/* The one instrument: runs a program and prints what the kernel says that it cost, whoever it is.
 *
 *     measure PROGRAM [ARGS...]
 *     measure --first PORT PROGRAM [ARGS...]
 *
 * The program's output passes through. The last line of stderr is a JSON object: wall, user and system
 * seconds, peak resident KiB, exit status. With --first it listens on PORT, starts the program and prints the
 * milliseconds from exec to the first byte of the first request ({"first":...}), then ends the program's
 * process group. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static pid_t start(char **argv)
{
    pid_t pid = fork();

    if (pid == 0) {
        setpgid(0, 0);
        execvp(argv[0], argv);
        fprintf(stderr, "measure: %s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    return pid;
}

static int whole(char **argv)
{
    struct rusage use;
    double began = now(), wall;
    int status;
    pid_t pid = start(argv);

    while (wait4(pid, &status, 0, &use) < 0 && errno == EINTR)
        ;
    wall = now() - began;
    status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    fprintf(stderr, "{\"wall\":%.6f,\"user\":%.6f,\"system\":%.6f,\"peak\":%ld,\"status\":%d}\n", wall,
            seconds(use.ru_utime), seconds(use.ru_stime), use.ru_maxrss, status);
    return status;
}

static int first(int port, char **argv)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, fd;
    struct pollfd p = {.events = POLLIN};
    double began, took = -1;
    char byte;
    pid_t pid;

    a.sin_port = htons((unsigned short)port);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&a, sizeof a) < 0 || listen(listener, 64) < 0) {
        perror("measure");
        return 2;
    }
    began = now();
    pid = start(argv);
    p.fd = listener;
    if (poll(&p, 1, 60000) == 1 && (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        if (read(fd, &byte, 1) == 1)
            took = (now() - began) * 1e3;
        close(fd);
    }
    kill(-pid, SIGKILL);
    waitpid(pid, NULL, 0);
    fprintf(stderr, "{\"first\":%.3f}\n", took);
    return took < 0;
}

int main(int argc, char **argv)
{
    if (argc > 3 && strcmp(argv[1], "--first") == 0)
        return first((int)strtol(argv[2], NULL, 10), argv + 3);
    if (argc < 2) {
        fprintf(stderr, "usage: measure [--first PORT] PROGRAM [ARGS...]\n");
        return 2;
    }
    return whole(argv + 1);
}
