/* Lines: their two formats, and the limit on repeating them. Called by api_log.c only; writing is
 * the duty of log_out.c. The buffers belong to the struct log and are kept from line to line. */
#include "log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "json_text.h"
#include "log_out.h"
#include "log_text.h"

#define INPUT_MAX (1u << 20) /* of a text that is looked at */
#define TEXT_MAX  16384      /* of a text that is written */
#define KEEP_MAX  65536      /* of a buffer that is kept */
#define WINDOW_MS 10000
#define BURST     20

const char *const log_level_names[LOG_LEVELS + 1] = {"debug", "info", "warn", "error", NULL};

uint64_t log_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool wants_color(void)
{
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

    return !(no_color && *no_color) && term && strcmp(term, "dumb") != 0;
}

void log_init(struct log *log, int fd, struct secrets *secrets)
{
    struct stat st;

    *log = (struct log){.fd = fd, .secrets = secrets, .burst = BURST};
    log->pollable = fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
    log->human = isatty(fd) == 1;
    log->color = log->human && wants_color();
}

bool log_redact(struct log *log, const char *text, size_t len, struct buf *out)
{
    struct secrets_tail tail = {0};
    struct buf known = {0};
    size_t used = len < INPUT_MAX ? len : INPUT_MAX;
    /* Of a text that is cut the undecided end is left out: half a secret is one too. */
    bool ok = secrets_feed(log->secrets, &tail, text, used, used == len, &known) &&
              secrets_shapes(known.data, known.len, out);

    secrets_tail_free(&tail);
    buf_free(&known);
    return ok;
}

/* Leaves the redacted and shortened text in log->clean. */
static bool clean(struct log *log, const char *text, size_t len)
{
    log->clean.len = 0;
    if (!log_redact(log, text, len, &log->clean))
        return false;

    size_t kept = log_cut(log->clean.data, log->clean.len, TEXT_MAX);

    if (kept < log->clean.len || len > INPUT_MAX) {
        log->clean.len = kept;
        return buf_printf(&log->clean, "... (%zu bytes)", len);
    }
    return log->clean.data || buf_text(&log->clean, "");
}

static bool put_json(struct log *log, struct buf *out, const char *text, size_t len)
{
    return clean(log, text, len) && json_quote(out, log->clean.data, log->clean.len, log_hidden);
}

static bool put_plain(struct log *log, struct buf *out, const char *text, size_t len, bool quote)
{
    return clean(log, text, len) && log_plain(out, log->clean.data, log->clean.len, quote);
}

static bool reserved(const struct log_field *f)
{
    static const char *const names[] = {"time", "level", "message"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (f->name_len == strlen(names[i]) && memcmp(f->name, names[i], f->name_len) == 0)
            return true;
    return false;
}

static bool json_field(struct log *log, const struct log_field *f, struct buf *out)
{
    bool ok = buf_add(out, ",", 1) && put_json(log, out, f->name, f->name_len);

    if (ok && reserved(f)) {
        out->len--;
        ok = buf_text(out, "_\"");
    }
    if (!ok || !buf_add(out, ":", 1) || !clean(log, f->text, f->len))
        return false;
    /* A number in which a secret was found is no number any more. */
    if (f->bare && log->clean.len == f->len && memcmp(log->clean.data, f->text, f->len) == 0)
        return buf_add(out, f->text, f->len);
    return json_quote(out, log->clean.data, log->clean.len, log_hidden);
}

bool log_object(struct log *log, const struct log_event *event, struct buf *out)
{
    struct timespec now = clock_wall(log->clock);
    struct tm tm;
    char date[32];

    gmtime_r(&now.tv_sec, &tm);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);

    bool ok = buf_printf(out, "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"message\":", date,
                         now.tv_nsec / 1000000, log_level_names[event->level]) &&
              put_json(log, out, event->message, event->len);

    for (size_t i = 0; ok && i < event->count; i++)
        ok = json_field(log, &event->fields[i], out);
    return ok && buf_add(out, "}", 1);
}

static bool human_line(struct log *log, const struct log_event *event, struct buf *out)
{
    static const char *const colors[] = {"\x1b[2m", "\x1b[36m", "\x1b[33m", "\x1b[31m"};
    const char *dim = log->color ? "\x1b[2m" : "", *plain = log->color ? "\x1b[0m" : "";
    time_t now = clock_wall(log->clock).tv_sec;
    struct tm tm;
    char clock[16];

    localtime_r(&now, &tm);
    strftime(clock, sizeof clock, "%H:%M:%S", &tm);

    bool ok = buf_printf(out, "%s%s%s %s%-5s%s ", dim, clock, plain, log->color ? colors[event->level] : "",
                         log_level_names[event->level], plain) &&
              put_plain(log, out, event->message, event->len, false);

    for (size_t i = 0; ok && i < event->count; i++) {
        const struct log_field *f = &event->fields[i];

        ok = buf_printf(out, " %s", dim) && put_plain(log, out, f->name, f->name_len, true) &&
             buf_printf(out, "=%s", plain) && put_plain(log, out, f->text, f->len, true);
    }
    return ok;
}

static void trim(struct buf *b)
{
    if (b->cap > KEEP_MAX)
        buf_free(b);
}

static bool put(struct log *log, const struct log_event *event)
{
    log->line.len = 0;
    return (log->human ? human_line : log_object)(log, event, &log->line) && buf_add(&log->line, "\n", 1) &&
           log_out(log, log->line.data, log->line.len);
}

/* Says how many lines were lost, if any were. False: there is still no reader. */
static bool put_lost(struct log *log)
{
    char count[24];
    struct log_field field = {.name = "lost", .name_len = 4, .text = count, .bare = true};
    struct log_event event = {
        .level = LOG_WARN, .message = "log lines were lost", .len = 19, .fields = &field, .count = 1};

    field.len = (size_t)snprintf(count, sizeof count, "%llu", (unsigned long long)log->lost);
    if (log->lost && !put(log, &event))
        return false;
    log->lost = 0;
    return true;
}

/* Formats and writes without any limit. */
static void put_event(struct log *log, const struct log_event *event)
{
    if (!put_lost(log) || !put(log, event))
        log->lost++;
    trim(&log->line);
    trim(&log->clean);
}

static uint64_t hash_more(uint64_t hash, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    return (hash ^ len) * 0x100000001b3u;
}

static uint64_t event_hash(const struct log_event *e)
{
    uint64_t hash = hash_more(0xcbf29ce484222325u + (uint64_t)e->level, e->message, e->len);

    for (size_t i = 0; i < e->count; i++) {
        hash = hash_more(hash, e->fields[i].name, e->fields[i].name_len);
        hash = hash_more(hash, e->fields[i].text, e->fields[i].len);
    }
    return hash ^ hash >> 32;
}

/* Ends a window; what it held back is counted in one line. */
static void tell_dropped(struct log *log, struct log_repeat *r)
{
    char count[16];
    struct log_field field = {.name = "dropped", .name_len = 7, .text = count, .bare = true};
    struct log_event event = {
        .level = r->level, .message = r->head, .len = r->head_len, .fields = &field, .count = 1};

    if (!r->dropped)
        return;
    field.len = (size_t)snprintf(count, sizeof count, "%u", r->dropped);
    r->dropped = 0;
    log->dropping--;
    put_event(log, &event);
}

static void begin_window(struct log *log, struct log_repeat *r, const struct log_event *e, uint64_t hash,
                         uint64_t now)
{
    tell_dropped(log, r);
    *r = (struct log_repeat){.hash = hash, .since = now, .seen = 1, .level = e->level};
    if (clean(log, e->message, e->len)) {
        size_t kept = log_cut(log->clean.data, log->clean.len, sizeof r->head - 24);

        /* not "%s": a NUL in the message is a character like others */
        memcpy(r->head, log->clean.data, kept);
        r->head_len = kept + (size_t)snprintf(r->head + kept, sizeof r->head - kept, "%s (repeated)",
                                              kept < log->clean.len ? "..." : "");
    }
}

/* Whether the event may be written; counts it otherwise. */
static bool admit(struct log *log, const struct log_event *e)
{
    struct timespec t = clock_steady(log->clock);
    uint64_t hash = event_hash(e), now = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
    struct log_repeat *r;

    if (!log->burst)
        return true;
    if (!log->repeats && !(log->repeats = calloc(LOG_REPEATS, sizeof *log->repeats)))
        return true;
    for (size_t i = 0; log->dropping && i < LOG_REPEATS; i++)
        if (now - log->repeats[i].since >= WINDOW_MS)
            tell_dropped(log, &log->repeats[i]);
    r = &log->repeats[hash % LOG_REPEATS];
    if (r->hash != hash || !r->seen || now - r->since >= WINDOW_MS) {
        begin_window(log, r, e, hash, now);
        return true;
    }
    if (r->seen++ < log->burst)
        return true;
    log->dropping += r->dropped++ == 0;
    return false;
}

void log_write(struct log *log, const struct log_event *event)
{
    if (admit(log, event))
        put_event(log, event);
}

void log_fini(struct log *log)
{
    for (size_t i = 0; log->repeats && i < LOG_REPEATS; i++)
        tell_dropped(log, &log->repeats[i]);
    put_lost(log);
    free(log->repeats);
    log->repeats = NULL;
    buf_free(&log->line);
    buf_free(&log->clean);
}
