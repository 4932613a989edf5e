/* A child's streams and its end, over proc.c and libuv's pipes.
 *
 * A result is complete when the leader has ended and its streams too. A grandchild may keep a stream open, so
 * the streams get LINGER_MS after the leader's end; then the rest of the group goes. Our pipe ends do not
 * block, the child's do: they are separate open files. */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK     ((size_t)64 * 1024)  /* read at once */
#define AHEAD     ((size_t)256 * 1024) /* read ahead of a reader */
#define LINGER_MS 1000

/* --- the end of things --- */

static void child_free(struct child *child)
{
    buf_free(&child->out.buf);
    buf_free(&child->err.buf);
    free(child);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct child *child = handle->data;

    if (--child->uv_handles == 0 && child->closed)
        child_free(child);
}

static void child_changed(struct child *child)
{
    if (child->changed && !child->closed)
        child->changed(child, child->data);
}

/* Gives the proc up when nothing can come from it any more. */
static void child_settle(struct child *child)
{
    if (!child->exited || child->out.open || child->err.open)
        return;
    uv_timer_stop(&child->timer);
    proc_release(child->proc);
    child->proc = NULL;
}

static void stream_end(struct child_stream *s)
{
    if (!s->open)
        return;
    s->open = s->reading = false;
    uv_close((uv_handle_t *)&s->pipe, on_handle_closed);
    child_settle(s->child);
}

/* --- reading --- */

static bool stream_collects(const struct child_stream *s)
{
    return s->child->collecting && !s->claimed;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct child_stream *s = (struct child_stream *)handle; /* the pipe is its first member */
    char *room = buf_room(&s->buf, CHUNK);

    (void)suggested;
    *out = room ? uv_buf_init(room, CHUNK) : uv_buf_init(s->child->spill, sizeof s->child->spill);
}

static void on_read(uv_stream_t *pipe, ssize_t got, const uv_buf_t *into)
{
    struct child_stream *s = (struct child_stream *)pipe;
    size_t take = got > 0 ? (size_t)got : 0;

    if (got == 0)
        return;
    if (got < 0) {
        stream_end(s);
        child_changed(s->child);
        return;
    }
    if (into->base == s->child->spill) {
        take = 0;
    } else if (stream_collects(s)) {
        size_t left = s->child->keep > s->buf.len ? s->child->keep - s->buf.len : 0;

        take = take < left ? take : left;
    }
    s->truncated |= take < (size_t)got;
    if (take) /* else the buffer may have no memory at all */
        buf_grew(&s->buf, take);
    if (!stream_collects(s) && s->buf.len >= AHEAD) {
        uv_read_stop(pipe);
        s->reading = false;
    }
    if (take)
        child_changed(s->child);
}

static void stream_go_on(struct child_stream *s)
{
    if (!s->open || s->reading || (!stream_collects(s) && s->buf.len >= AHEAD))
        return;
    s->reading = uv_read_start((uv_stream_t *)&s->pipe, on_alloc, on_read) == 0;
}

void child_took(struct child_stream *stream)
{
    stream_go_on(stream);
}

void child_claim(struct child_stream *stream, bool claimed)
{
    stream->claimed = claimed;
    stream_go_on(stream);
}

static void stream_trim(struct child_stream *s)
{
    if (s->claimed || s->buf.len <= s->child->keep)
        return;
    s->buf.len = s->child->keep; /* shrinking in place: buf.h keeps no other account of the length */
    s->buf.data[s->buf.len] = '\0';
    s->truncated = true;
}

void child_collect(struct child *child)
{
    child->collecting = true;
    stream_trim(&child->out);
    stream_trim(&child->err);
    stream_go_on(&child->out);
    stream_go_on(&child->err);
}

bool child_done(const struct child *child)
{
    return child->exited && (!child->out.open || child->out.claimed) &&
           (!child->err.open || child->err.claimed);
}

/* --- time --- */

static void on_linger(uv_timer_t *timer)
{
    struct child *child = timer->data;

    /* A stream that waits for its reader still holds what the child wrote: give it time. */
    if ((child->out.open && !child->out.reading) || (child->err.open && !child->err.reading)) {
        uv_timer_start(timer, on_linger, LINGER_MS, 0);
        return;
    }
    child->out.truncated |= child->out.open;
    child->err.truncated |= child->err.open;
    stream_end(&child->out);
    stream_end(&child->err);
    child_changed(child);
}

static void on_kill_time(uv_timer_t *timer)
{
    child_signal(timer->data, SIGKILL);
}

static void on_deadline(uv_timer_t *timer)
{
    struct child *child = timer->data;

    child->timed_out = true;
    child_signal(child, SIGTERM);
    uv_timer_start(timer, on_kill_time, child->grace, 0);
}

static void on_exit_of_leader(struct proc *proc, void *data, int status, int signum)
{
    struct child *child = data;

    child->exited = true;
    child->ended = uv_hrtime();
    child->status = status;
    child->signal = signum;
    uv_timer_stop(&child->timer);
    if (child->timed_out)
        proc_signal(proc, SIGKILL); /* the rest of the group had its time, too */
    if (child->out.open || child->err.open)
        uv_timer_start(&child->timer, on_linger, LINGER_MS, 0);
    child_settle(child);
    child_changed(child);
}

/* --- descriptors for the child --- */

static int data_open(const char *data, size_t len)
{
    int fd = memfd_create("stdin", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    size_t done = 0;

    while (fd >= 0 && done < len) {
        ssize_t n = write(fd, data + done, len - done);

        if (n < 0 && errno != EINTR) {
            int why = errno;

            close(fd);
            errno = why;
            return -1;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0) {
        lseek(fd, 0, SEEK_SET);
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK);
    }
    return fd;
}

/* A regular file or a harmless device; a FIFO would make us wait for its other end. */
static int file_open(const struct child_stdio *io, bool output)
{
    int flags = output ? O_WRONLY | O_CREAT | (io->append ? O_APPEND : O_TRUNC) : O_RDONLY;
    int fd = open(io->path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
    struct stat st;

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISCHR(st.st_mode))) {
        close(fd);
        errno = EINVAL;
        return -1;
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    return fd;
}

/* Opens what becomes descriptor `number` of the child, and our end of it when it is a pipe. */
static bool stdio_open(const struct child_stdio *io, int number, int *theirs, int *ours, struct err *e)
{
    static const char *const names[] = {"standard input", "standard output", "standard error"};
    int fds[2];
    char what[300];

    switch (io->kind) {
    case STDIO_PIPE:
        if (pipe2(fds, O_CLOEXEC) == 0) {
            *theirs = fds[number != 0];
            *ours = fds[number == 0];
        }
        break;
    case STDIO_INHERIT:
        *theirs = fcntl(number, F_DUPFD_CLOEXEC, 3);
        break;
    case STDIO_FILE:
        *theirs = file_open(io, number != 0);
        break;
    case STDIO_DATA:
        *theirs = data_open(io->data, io->len);
        break;
    default:
        *theirs = open("/dev/null", (number ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
    }
    if (*theirs >= 0)
        return true;
    snprintf(what, sizeof what, "%s %.200s", names[number], io->kind == STDIO_FILE ? io->path : "");
    err_errno(e, errno, what);
    return false;
}

/* --- start --- */

/* Hands our end of a pipe to libuv; the descriptor is libuv's afterwards. */
static bool pipe_adopt(struct child *child, uv_pipe_t *pipe, int *fd, struct err *e)
{
    int status;

    if (*fd < 0)
        return false;
    uv_pipe_init(child->timer.loop, pipe, 0);
    pipe->data = child;
    child->uv_handles++;
    status = uv_pipe_open(pipe, *fd);
    if (status < 0) {
        uv_close((uv_handle_t *)pipe, on_handle_closed);
        err_uv(e, status, "opening a child's pipe");
        return false;
    }
    *fd = -1;
    return true;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static bool child_launch(struct child *child, struct proc_set *set, const struct child_options *o,
                         int theirs[3], struct err *e)
{
    struct proc_options po = {
        .argv = o->argv,
        .envp = o->envp,
        .cwd = o->cwd,
        .stdin_fd = theirs[0],
        .stdout_fd = theirs[1],
        .stderr_fd = o->err.kind == STDIO_MERGED ? theirs[1] : theirs[2],
        .on_exit = on_exit_of_leader,
        .data = child,
    };

    child->started = uv_hrtime();
    child->proc = proc_start(set, &po, e);
    if (!child->proc)
        return false;
    child->pid = proc_pid(child->proc);
    uv_update_time(child->timer.loop);
    if (o->timeout)
        uv_timer_start(&child->timer, on_deadline, o->timeout, 0);
    stream_go_on(&child->out);
    stream_go_on(&child->err);
    return true;
}

struct child *child_start(struct proc_set *set, const struct child_options *o, struct err *e)
{
    struct child *child = calloc(1, sizeof *child);
    int theirs[3] = {-1, -1, -1}, ours[3] = {-1, -1, -1};
    bool ok = false;

    if (!child) {
        err_errno(e, ENOMEM, "starting a process");
        return NULL;
    }
    child->grace = o->grace;
    child->keep = o->keep;
    child->out.child = child->err.child = child;
    uv_timer_init(proc_set_loop(set), &child->timer);
    child->timer.data = child;
    child->uv_handles = 1;
    if (!stdio_open(&o->in, 0, &theirs[0], &ours[0], e) || !stdio_open(&o->out, 1, &theirs[1], &ours[1], e))
        goto out;
    if (o->err.kind != STDIO_MERGED && !stdio_open(&o->err, 2, &theirs[2], &ours[2], e))
        goto out;
    e->code = ERR_NONE;
    child->in_open = pipe_adopt(child, &child->in, &ours[0], e);
    child->out.open = pipe_adopt(child, &child->out.pipe, &ours[1], e);
    child->err.open = pipe_adopt(child, &child->err.pipe, &ours[2], e);
    if (e->code != ERR_NONE)
        goto out;
    ok = child_launch(child, set, o, theirs, e);
out:
    for (int i = 0; i < 3; i++) {
        close_fd(&theirs[i]);
        close_fd(&ours[i]);
    }
    if (!ok) {
        child_close(child);
        return NULL;
    }
    return child;
}

/* --- the rest --- */

struct child_writing {
    uv_write_t req;
    struct child *child;
    char data[];
};

static void on_written(uv_write_t *req, int status)
{
    struct child_writing *w = req->data;
    struct child *child = w->child;

    free(w);
    child->writing = false;
    child->write_status = status;
    child_changed(child);
}

bool child_write(struct child *child, const void *data, size_t len, struct err *e)
{
    struct child_writing *w;
    uv_buf_t piece;
    int status;

    if (!child->in_open) {
        err_set(e, ERR_CLOSED, "standard input is closed");
        return false;
    }
    w = malloc(sizeof *w + len);
    if (!w) {
        err_errno(e, ENOMEM, "writing to a child");
        return false;
    }
    memcpy(w->data, data, len);
    w->child = child;
    w->req.data = w;
    piece = uv_buf_init(w->data, (unsigned)len);
    child->writing = true;
    status = uv_write(&w->req, (uv_stream_t *)&child->in, &piece, 1, on_written);
    if (status < 0) {
        child->writing = false;
        free(w);
        err_uv(e, status, "writing to a child");
        return false;
    }
    return true;
}

void child_close_stdin(struct child *child)
{
    if (!child->in_open)
        return;
    child->in_open = false;
    uv_close((uv_handle_t *)&child->in, on_handle_closed);
}

bool child_signal(struct child *child, int signum)
{
    return child->proc && proc_signal(child->proc, signum);
}

void child_close(struct child *child)
{
    if (!child || child->closed)
        return;
    child->closed = true;
    child_close_stdin(child);
    stream_end(&child->out);
    stream_end(&child->err);
    proc_release(child->proc);
    child->proc = NULL;
    uv_close((uv_handle_t *)&child->timer, on_handle_closed);
}
