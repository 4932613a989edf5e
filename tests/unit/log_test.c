/* Log lines: one event is one line whatever the text, secrets stay out, a stuck reader does not
 * hold us up. */
#include "unit.h"
#include "codec.h"
#include "json_text.h"
#include "log.h"
#include "log_text.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct log_event event(const char *text, size_t len)
{
    return (struct log_event){.level = LOG_INFO, .message = text, .len = len};
}

static void json(const char *text, size_t len, const char *want)
{
    struct buf out = {0};

    CHECK(json_quote(&out, text, len, log_hidden));
    CHECK_STR(out.data, want);
    buf_free(&out);
}

static void plain(const char *text, bool quote, const char *want)
{
    struct buf out = {0};

    CHECK(log_plain(&out, text, strlen(text), quote));
    CHECK_STR(out.data ? out.data : "", want);
    buf_free(&out);
}

UNIT(json_escapes)
{
    json("plain \xc3\xa9 \xf0\x9f\x8c\x99", 13, "\"plain \xc3\xa9 \xf0\x9f\x8c\x99\"");
    json("", 0, "\"\"");
    json("a\"b\\c\n\r\t\0\x1b[2J\x7f", 14, "\"a\\\"b\\\\c\\n\\r\\t\\u0000\\u001b[2J\\u007f\"");
    json("\xc2\x85\xe2\x80\xae\xe2\x80\xa8\xef\xbb\xbf\xf3\xa0\x81\x81", 15,
         "\"\\u0085\\u202e\\u2028\\ufeff\\udb40\\udc41\"");
    json("\xff\xc0\xaf\xed\xa0\x80\xe2\x82", 8,
         "\"\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\"");
}

UNIT(plain_escapes)
{
    plain("two words", false, "two words");
    plain("two words", true, "\"two words\"");
    plain("a=\"b\"", true, "\"a=\\\"b\\\"\"");
    plain("", true, "\"\"");
    plain("x\n\x1b[31m\xe2\x80\xae\xff", false, "x\\n\\x1b[31m\\u202e\\xff");
}

UNIT(cut_keeps_characters)
{
    CHECK_INT(log_cut("abc", 3, 5), 3);
    CHECK_INT(log_cut("abcdef", 6, 4), 4);
    CHECK_INT(log_cut("ab\xf0\x9f\x8c\x99z", 7, 5), 2);
    CHECK_INT(log_cut("ab\xf0\x9f\x8c\x99z", 7, 6), 6);
    CHECK_INT(log_cut("\x80\x80\x80\x80\x80\x80", 6, 3), 3);
}

/* Reads whatever is in the pipe. */
static size_t drain(int fd, struct buf *out)
{
    char piece[65536];
    ssize_t n;

    while ((n = read(fd, piece, sizeof piece)) > 0)
        buf_add(out, piece, (size_t)n);
    return out->len;
}

static size_t lines(const struct buf *b)
{
    size_t count = 0;

    for (size_t i = 0; i < b->len; i++)
        count += b->data[i] == '\n';
    return count;
}

static unsigned next(void)
{
    static unsigned state = 11;

    state ^= state << 13;
    state ^= state >> 17;
    return state ^= state << 5;
}

/* Random bytes rich in what breaks lines, in the message, a field's name and its value, both formats. */
UNIT(one_line_per_event)
{
    static const char nasty[] = "\n\r\0\x1b[\"\\\x7f\xc2\x85\xe2\x80\xa8\xe2\x80\xaexyz=\xff\xf3\xa0\x81\x81";
    int fds[2];

    CHECK(pipe2(fds, O_NONBLOCK) == 0);
    for (int human = 0; human < 2; human++)
        for (int round = 0; round < 200; round++) {
            struct log log;
            struct buf out = {0};
            char text[3][40];
            struct log_field f = {.name = text[1], .name_len = 7, .text = text[2], .len = 40};

            log_init(&log, fds[1], NULL);
            log.human = human;
            for (size_t i = 0; i < sizeof text; i++)
                text[i / 40][i % 40] = next() % 4 ? nasty[next() % (sizeof nasty - 1)] : (char)next();
            for (int i = 0; i < 5; i++) {
                struct log_event e = {
                    .level = LOG_WARN, .message = text[0], .len = (size_t)(30 + i), .fields = &f, .count = 1};

                log_write(&log, &e);
            }
            log_fini(&log);
            drain(fds[0], &out);
            CHECK_INT(lines(&out), 5);
            for (size_t at = 0, n; at < out.len; at += n) {
                uint32_t code = 0;

                n = utf8_decode(out.data + at, out.len - at, &code);
                CHECK(n > 0 && (code == '\n' || !log_hidden(code)));
                if (!n)
                    break;
            }
            buf_free(&out);
        }
    close(fds[0]);
    close(fds[1]);
}

UNIT(fields_and_secrets)
{
    struct secrets *s = secrets_open();
    struct log log;
    struct buf out = {0};
    struct log_field f[] = {
        {.name = "n", .name_len = 1, .text = "12", .len = 2, .bare = true},
        {.name = "pin", .name_len = 3, .text = "987654", .len = 6, .bare = true},
        {.name = "level", .name_len = 5, .text = "x", .len = 1},
        {.name = "url", .name_len = 3, .text = "http://u:pw@h/hunter22", .len = 22},
    };
    struct log_event e = {.level = LOG_ERROR, .message = "m hunter22", .len = 10, .fields = f, .count = 4};

    CHECK(secrets_add(s, "hunter22", 8) && secrets_add(s, "987654", 6));
    log_init(&log, -1, s);
    CHECK(log_object(&log, &e, &out));
    CHECK(strstr(out.data, "\"level\":\"error\",\"message\":\"m "
                           "[redacted]\",\"n\":12,\"pin\":\"[redacted]\",\"level_\":\"x\","
                           "\"url\":\"http://u:[redacted]@h/[redacted]\"}") != NULL);
    buf_free(&out);
    log_fini(&log);
    secrets_close(s);
}

static void put(char *to, const char *what, size_t len)
{
    while (len--)
        *to++ = *what++;
}

/* A cut never shows a part of a secret: not at the written end, not at the end of what is looked at. */
UNIT(long_texts_are_cut)
{
    struct secrets *s = secrets_open();
    struct log log;
    size_t len = (1u << 20) + 4000;
    char *text = malloc(len);

    CHECK(secrets_add(s, "0123456789abcdef", 16));
    log_init(&log, -1, s);
    for (size_t shift = 0; shift < 17; shift++) {
        struct buf out = {0};

        memset(text, '.', len);
        put(text + 16384 - shift, "0123456789abcdef", 16);
        put(text + (1u << 20) - shift, "0123456789abcdef", 16);

        struct log_event e = event(text, len);

        CHECK(log_object(&log, &e, &out));
        CHECK(strstr(out.data, "0123") == NULL); /* fewer digits may be the time's */
        CHECK(strstr(out.data, "... (1052576 bytes)\"}") != NULL);
        CHECK(out.len < 17000);
        buf_free(&out);
    }
    free(text);
    log_fini(&log);
    secrets_close(s);
}

UNIT(repeats_are_counted)
{
    struct log log;
    struct buf out = {0};
    int fds[2];

    CHECK(pipe2(fds, O_NONBLOCK) == 0);
    log_init(&log, fds[1], NULL);
    for (int i = 0; i < 1000; i++) {
        struct log_event same = event("same", 4), other = event("other", 5);

        log_write(&log, &same);
        if (i < 3)
            log_write(&log, &other);
    }
    drain(fds[0], &out);
    CHECK_INT(lines(&out), 23);
    log_fini(&log);
    drain(fds[0], &out);
    CHECK_INT(lines(&out), 24);
    CHECK(strstr(out.data, "\"message\":\"same (repeated)\",\"dropped\":980}") != NULL);
    buf_free(&out);
    close(fds[0]);
    close(fds[1]);
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Blocking ends, as stderr usually is; nobody reads for the first half. */
static void stuck(int in, int out_fd)
{
    struct log log;
    struct buf got = {0};
    char text[9000];
    double start = seconds();

    memset(text, 'x', sizeof text);
    log_init(&log, out_fd, NULL);
    for (int i = 0; i < 500; i++) {
        struct log_event e = event(text, sizeof text - (size_t)i);

        log_write(&log, &e);
    }
    CHECK(seconds() - start < 1);
    CHECK(log.lost > 100);
    CHECK(fcntl(in, F_SETFL, O_NONBLOCK) == 0);
    drain(in, &got);

    size_t before = got.len;
    struct log_event last = event("the last", 8);

    log_write(&log, &last);
    drain(in, &got);
    CHECK(strstr(got.data + before, "\"message\":\"log lines were lost\",\"lost\":") != NULL);
    CHECK(strstr(got.data + before, "\"message\":\"the last\"}\n") != NULL);
    CHECK(got.data[before] == '\n' || got.data[before - 1] == '\n');
    log_fini(&log);
    buf_free(&got);
    close(in);
    close(out_fd);
}

UNIT(stuck_pipe)
{
    int fds[2];

    CHECK(pipe(fds) == 0);
    stuck(fds[0], fds[1]);
}

UNIT(stuck_socket)
{
    int fds[2];

    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    stuck(fds[0], fds[1]);
}

UNIT(closed_descriptor)
{
    struct log log;
    struct log_event e = event("x", 1);

    log_init(&log, -1, NULL);
    log_write(&log, &e);
    CHECK_INT(log.lost, 1);
    log_fini(&log);
}

UNIT_MAIN(C(json_escapes), C(plain_escapes), C(cut_keeps_characters), C(one_line_per_event),
          C(fields_and_secrets), C(long_texts_are_cut), C(repeats_are_counted), C(stuck_pipe),
          C(stuck_socket), C(closed_descriptor))
