/* Copying a database that is another's: into memory, and without a trace at its place.
 *
 * A plain read-only connection to a database in WAL mode may create the log and its index, and writes its
 * mark into the index. So a log that is there is read with its index mapped read-only: while others have it
 * open, beside them; when nobody has, SQLite makes an index of its own in memory. Without a log the file is
 * all there is, and is read as one that does not change; whether that was true is looked at afterwards.
 * Checked against SQLite 3.40.1. */
#include "store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES    20 /* a host may begin, end or tidy up meanwhile */
#define PAUSE_US 20000

enum log_state { LOG_NONE, LOG_USABLE, LOG_ALONE };

/* What lies beside the file, and what the file itself looked like. */
struct beside {
    enum log_state log;
    struct stat file;
};

static bool there(const char *path, const char *suffix, off_t *size)
{
    char name[4096];
    struct stat st;

    if ((size_t)snprintf(name, sizeof name, "%s%s", path, suffix) >= sizeof name || stat(name, &st) != 0)
        return false;
    *size = st.st_size;
    return true;
}

static struct beside look(const char *path)
{
    struct beside found = {.log = LOG_NONE};
    off_t log = 0, index = 0;

    memset(&found.file, 0, sizeof found.file);
    stat(path, &found.file);
    if (there(path, "-wal", &log) && log > 0)
        found.log = there(path, "-shm", &index) ? LOG_USABLE : LOG_ALONE;
    return found;
}

static bool unchanged(const struct beside *a, const struct beside *b)
{
    return b->log == LOG_NONE && a->file.st_ino == b->file.st_ino && a->file.st_size == b->file.st_size &&
           a->file.st_mtim.tv_sec == b->file.st_mtim.tv_sec &&
           a->file.st_mtim.tv_nsec == b->file.st_mtim.tv_nsec;
}

/* The file's name as a URI: whatever is in the path stays part of the path. */
static char *uri_of(const char *path, const char *query)
{
    static const char hex[] = "0123456789ABCDEF";
    char *uri = malloc(strlen(path) * 3 + strlen(query) + sizeof "file:./"), *to = uri;

    if (!uri)
        return NULL;
    to = stpcpy(to, *path == '/' ? "file:" : "file:./");
    for (const unsigned char *c = (const unsigned char *)path; *c; c++) {
        if (*c == '%' || *c == '?' || *c == '#' || *c == '&') {
            *to++ = '%';
            *to++ = hex[*c >> 4];
            *to++ = hex[*c & 15];
        } else {
            *to++ = (char)*c;
        }
    }
    memcpy(to, query, strlen(query) + 1);
    return uri;
}

static int copy_pages(sqlite3 *into, sqlite3 *from)
{
    sqlite3_backup *backup;
    int rc = sqlite3_exec(from, "PRAGMA schema_version", NULL, NULL, NULL); /* opens the log, or fails to */

    if (rc != SQLITE_OK)
        return rc;
    backup = sqlite3_backup_init(into, "main", from, "main");
    if (!backup)
        return sqlite3_errcode(into);
    rc = sqlite3_backup_step(backup, -1);
    sqlite3_backup_finish(backup);
    return rc == SQLITE_DONE ? SQLITE_OK : rc == SQLITE_OK ? SQLITE_BUSY : rc;
}

static int copy_once(sqlite3 *into, const char *path, enum log_state log, int *system)
{
    char *uri = uri_of(path, log == LOG_NONE ? "?mode=ro&immutable=1" : "?mode=ro&readonly_shm=1");
    sqlite3 *from = NULL;
    int rc = SQLITE_NOMEM;

    if (uri)
        rc = sqlite3_open_v2(
            uri, &from, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI | SQLITE_OPEN_EXRESCODE,
            NULL);
    if (rc == SQLITE_OK)
        rc = copy_pages(into, from);
    *system = from ? sqlite3_system_errno(from) : 0;
    sqlite3_close(from);
    free(uri);
    return rc;
}

/* What passes: a host that begins, ends, or tidies its log up. */
static bool passes(int rc)
{
    switch (rc & 0xFF) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
    case SQLITE_READONLY:
        return true;
    default:
        return false;
    }
}

bool store_copy(sqlite3 *into, const char *path, struct err *e)
{
    int rc = SQLITE_BUSY, system = 0;

    e->code = ERR_NONE;
    for (int i = 0; i < TRIES; i++) {
        struct beside before = look(path), after;

        if (i > 0)
            usleep(PAUSE_US);
        if (before.log == LOG_ALONE)
            continue;
        rc = copy_once(into, path, before.log, &system);
        if (rc == SQLITE_OK && before.log == LOG_NONE) {
            after = look(path);
            if (!unchanged(&before, &after))
                rc = SQLITE_BUSY;
        }
        if (rc == SQLITE_OK)
            return true;
        if (!passes(rc))
            break;
    }
    if (look(path).log == LOG_ALONE)
        err_set(e, ERR_UNSUPPORTED, "the log beside it has lost its index (%s-shm)", path);
    else if (system && store_code(rc) == ERR_IO)
        err_errno(e, system, "cannot be read");
    else
        err_set(e, store_code(rc), "cannot be copied: %s", sqlite3_errstr(rc));
    return false;
}
