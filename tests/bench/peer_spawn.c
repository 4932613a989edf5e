/* B5's C peers: peer_spawn posix|uv COUNT BALLAST_MB
 *
 * Spawns /bin/true COUNT times, one after the other, with three pipes, and waits for its exit and for the end
 * of both outputs. `posix` is posix_spawn and blocking reads; `uv` is uv_spawn on a loop with a 1 ms timer;
 * how late that is served is the stall: the worst and the 99th percentile. BALLAST_MB is touched memory,
 * because fork's price grows with it. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

extern char **environ;

static long left, failed;
#define MAX_TICKS 100000
static uint64_t last_tick, late[MAX_TICKS];
static size_t ticks;

static void posix_once(void)
{
    char *argv[] = {"/bin/true", NULL};
    posix_spawn_file_actions_t actions;
    int in[2], out[2], err[2], status;
    char byte;
    pid_t pid;

    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
        abort();
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_adddup2(&actions, err[1], 2);
    if (posix_spawn(&pid, argv[0], &actions, NULL, argv, environ) != 0)
        abort();
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]), close(in[1]), close(out[1]), close(err[1]);
    while (read(out[0], &byte, 1) > 0)
        ;
    while (read(err[0], &byte, 1) > 0)
        ;
    close(out[0]), close(err[0]);
    if (waitpid(pid, &status, 0) != pid || status != 0)
        failed++;
}

struct child {
    uv_process_t process;
    uv_pipe_t pipes[3];
    int open; /* handles that are not closed yet */
};

static void loop_once(void);

static void on_any_closed(uv_handle_t *handle)
{
    struct child *c = handle->data;

    if (--c->open > 0)
        return;
    free(c);
    if (--left > 0)
        loop_once();
    else
        uv_stop(uv_default_loop());
}

static void on_child_exit(uv_process_t *process, int64_t status, int signum)
{
    if (status != 0 || signum != 0)
        failed++;
    uv_close((uv_handle_t *)process, on_any_closed);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
    static char bytes[4096];

    (void)handle;
    (void)size;
    *buf = uv_buf_init(bytes, sizeof bytes);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    (void)buf;
    if (n < 0)
        uv_close((uv_handle_t *)stream, on_any_closed);
}

static void loop_once(void)
{
    struct child *c = calloc(1, sizeof *c);
    char *argv[] = {"/bin/true", NULL};
    uv_stdio_container_t stdio[3];
    uv_process_options_t options = {
        .file = argv[0], .args = argv, .exit_cb = on_child_exit, .stdio = stdio, .stdio_count = 3};

    if (!c)
        abort();
    c->open = 4;
    c->process.data = c;
    for (int i = 0; i < 3; i++) {
        uv_pipe_init(uv_default_loop(), &c->pipes[i], 0);
        c->pipes[i].data = c;
        stdio[i].flags = (uv_stdio_flags)(UV_CREATE_PIPE | (i == 0 ? UV_READABLE_PIPE : UV_WRITABLE_PIPE));
        stdio[i].data.stream = (uv_stream_t *)&c->pipes[i];
    }
    if (uv_spawn(uv_default_loop(), &c->process, &options) != 0)
        abort();
    uv_close((uv_handle_t *)&c->pipes[0], on_any_closed);
    uv_read_start((uv_stream_t *)&c->pipes[1], on_alloc, on_read);
    uv_read_start((uv_stream_t *)&c->pipes[2], on_alloc, on_read);
}

static void on_tick(uv_timer_t *timer)
{
    uint64_t now = uv_hrtime();

    (void)timer;
    if (ticks < MAX_TICKS)
        late[ticks++] = now - last_tick > 1000000 ? now - last_tick - 1000000 : 0;
    last_tick = now;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    size_t ballast = argc > 3 ? strtoul(argv[3], NULL, 10) << 20 : 0;
    char *memory = malloc(ballast + 1);
    long count = argc > 2 ? strtol(argv[2], NULL, 10) : 0;
    uv_timer_t tick;
    uint64_t began;
    double took;

    if (!memory || count < 1)
        return fprintf(stderr, "usage: peer_spawn posix|uv COUNT BALLAST_MB\n"), 2;
    memset(memory, 1, ballast + 1);
    left = count;
    began = last_tick = uv_hrtime();
    if (strcmp(argv[1], "posix") == 0) {
        for (long i = 0; i < count; i++)
            posix_once();
    } else {
        uv_timer_init(uv_default_loop(), &tick);
        uv_timer_start(&tick, on_tick, 1, 1);
        loop_once();
        uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    }
    took = (double)(uv_hrtime() - began) / 1e3 / (double)count;
    qsort(late, ticks, sizeof *late, by_size);
    printf("{\"each\":%.3f,\"stall\":%.3f,\"p99\":%.3f,\"ballast\":%zu}\n", took,
           ticks ? (double)late[ticks - 1] / 1e6 : 0, ticks ? (double)late[ticks * 99 / 100] / 1e6 : 0,
           ballast + (size_t)memory[ballast] - 1);
    return failed > 0;
}
