/* A database: statements and their cache, transactions, opening, errors, care.
 *
 * Everything that a script must not be able to get wrong is set here: WAL, foreign keys, no trusted schema,
 * defensive mode, no double-quoted strings, and an authorizer that keeps transactions, ATTACH and most
 * PRAGMAs for this module. Checked against SQLite 3.40.1. */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>
#include "fs.h"

#define CACHE_MAX 64 /* statements; a host uses some thirty */
#define SQL_MAX   (1 << 20)

/* Virtual machine steps between two reads of the clock: some ten microseconds. */
#define PROGRESS_STEPS 2000

struct cached {
    struct cached *next; /* most recently used first */
    sqlite3_stmt *stmt;
    size_t len;
    char sql[];
};

struct store {
    sqlite3 *db;
    struct cached *cache;
    unsigned cached;
    sqlite3_stmt *active; /* under way, not reset yet */
    sqlite3_int64 changes_before;
    sqlite3_stmt *begin, *commit, *rollback;
    uint64_t budget_ns;
    uint64_t deadline; /* of the statement under way, by uv_hrtime; 0: none */
    bool readonly, durable;
    bool synced;         /* synchronous is FULL now */
    bool in_transaction; /* store_begin until store_commit or store_rollback */
    bool internal;       /* our own SQL: the authorizer lets it pass */
    const char *denied;  /* what the authorizer refused */
    struct err lost;     /* why SQLite gave the transaction up */
};

static int on_progress(void *ud)
{
    const struct store *store = ud;

    return store->deadline && uv_hrtime() > store->deadline;
}

static void start_clock(struct store *store)
{
    store->deadline = uv_hrtime() + store->budget_ns;
}

/* ---- what a script may do, and what went wrong ---- */

static bool allowed_pragma(const char *name)
{
    static const char *const allowed[] = {
        "application_id", "foreign_key_check", "freelist_count",  "incremental_vacuum",
        "index_info",     "index_list",        "integrity_check", "optimize",
        "page_count",     "page_size",         "quick_check",     "table_info",
        "table_list",     "table_xinfo",       "user_version",    "wal_checkpoint",
    };

    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        if (sqlite3_stricmp(name, allowed[i]) == 0)
            return true;
    return false;
}

static int on_authorize(void *ud, int action, const char *first, const char *second, const char *schema,
                        const char *trigger)
{
    struct store *store = ud;

    (void)second;
    (void)schema;
    (void)trigger;
    if (store->internal)
        return SQLITE_OK;
    switch (action) {
    case SQLITE_TRANSACTION:
    case SQLITE_SAVEPOINT:
        store->denied = "transactions are made by db:transaction only";
        return SQLITE_DENY;
    case SQLITE_ATTACH:
    case SQLITE_DETACH:
        store->denied = "ATTACH, DETACH and VACUUM are not allowed here";
        return SQLITE_DENY;
    case SQLITE_PRAGMA:
        if (allowed_pragma(first))
            return SQLITE_OK;
        store->denied = "this PRAGMA is not allowed here";
        return SQLITE_DENY;
    default:
        return SQLITE_OK;
    }
}

/* Bad SQL, a constraint and a wrong type are invalid. */
enum err_code store_code(int rc)
{
    static const struct {
        int rc; /* extended, or for all of its kind */
        enum err_code code;
    } known[] = {
        {SQLITE_CONSTRAINT_UNIQUE, ERR_EXISTS},
        {SQLITE_CONSTRAINT_PRIMARYKEY, ERR_EXISTS},
        {SQLITE_CONSTRAINT_ROWID, ERR_EXISTS},
        {SQLITE_IOERR_NOMEM, ERR_MEMORY},
        {SQLITE_BUSY, ERR_BUSY},
        {SQLITE_LOCKED, ERR_BUSY},
        {SQLITE_PROTOCOL, ERR_BUSY},
        {SQLITE_FULL, ERR_FULL},
        {SQLITE_IOERR, ERR_IO},
        {SQLITE_CANTOPEN, ERR_IO},
        {SQLITE_CORRUPT, ERR_MISMATCH},
        {SQLITE_NOTADB, ERR_MISMATCH},
        {SQLITE_FORMAT, ERR_MISMATCH},
        {SQLITE_READONLY, ERR_DENIED},
        {SQLITE_PERM, ERR_DENIED},
        {SQLITE_AUTH, ERR_DENIED},
        {SQLITE_NOMEM, ERR_MEMORY},
        {SQLITE_INTERRUPT, ERR_BUDGET},
        {SQLITE_TOOBIG, ERR_TOO_LARGE},
        {SQLITE_MISUSE, ERR_INTERNAL},
        {SQLITE_INTERNAL, ERR_INTERNAL},
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].rc == rc || known[i].rc == (rc & 0xFF))
            return known[i].code;
    return ERR_INVALID;
}

/* Describes the failure that SQLite just reported; returns false. A transaction that it rolled back by itself
 * is remembered as lost. */
static bool fault(struct store *store, int rc, struct err *e)
{
    int system = sqlite3_system_errno(store->db);

    if (rc == SQLITE_AUTH && store->denied)
        err_set(e, ERR_DENIED, "%s", store->denied);
    else if (rc == SQLITE_INTERRUPT)
        err_set(e, ERR_BUDGET, "the statement took longer than %llu ms",
                (unsigned long long)(store->budget_ns / 1000000));
    else if (((rc & 0xFF) == SQLITE_IOERR || (rc & 0xFF) == SQLITE_CANTOPEN) && system &&
             store_code(rc) == ERR_IO)
        err_errno(e, system, sqlite3_errstr(rc));
    else
        err_set(e, store_code(rc), "%s", sqlite3_errmsg(store->db));
    if (store->in_transaction && sqlite3_get_autocommit(store->db) && store->lost.code == ERR_NONE)
        store->lost = *e;
    return false;
}

/* ---- our own statements, which the authorizer lets pass ---- */

static bool own_exec(struct store *store, const char *sql, struct err *e)
{
    int rc;

    store->internal = true;
    rc = sqlite3_exec(store->db, sql, NULL, NULL, NULL);
    store->internal = false;
    return rc == SQLITE_OK || fault(store, rc, e);
}

/* The one text that a statement of ours answers, cut to `text`. */
static bool own_text(struct store *store, const char *sql, char text[256], struct err *e)
{
    sqlite3_stmt *stmt = NULL;
    const char *value;
    int rc;

    store->internal = true;
    rc = sqlite3_prepare_v2(store->db, sql, -1, &stmt, NULL);
    store->internal = false;
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) {
        value = (const char *)sqlite3_column_text(stmt, 0);
        snprintf(text, 256, "%s", value ? value : "");
    } else {
        fault(store, rc, e);
    }
    sqlite3_finalize(stmt);
    return rc == SQLITE_ROW;
}

/* Runs one of begin, commit, rollback; prepared once. */
static bool own_statement(struct store *store, sqlite3_stmt **stmt, const char *sql, struct err *e)
{
    int rc = SQLITE_OK;

    store->internal = true;
    if (!*stmt)
        rc = sqlite3_prepare_v3(store->db, sql, -1, SQLITE_PREPARE_PERSISTENT, stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(*stmt);
    if (rc != SQLITE_DONE)
        fault(store, rc, e);
    sqlite3_reset(*stmt);
    store->internal = false;
    return rc == SQLITE_DONE;
}

/* The level cannot change inside a transaction, and changing costs; so only when it differs. */
static bool set_synced(struct store *store, bool full, struct err *e)
{
    if (store->synced == full)
        return true;
    if (!own_exec(store, full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", e))
        return false;
    store->synced = full;
    return true;
}

/* ---- statements ---- */

static void forget(struct store *store, struct cached **link)
{
    struct cached *entry = *link;

    *link = entry->next;
    sqlite3_finalize(entry->stmt);
    free(entry);
    store->cached--;
}

static void forget_all(struct store *store)
{
    while (store->cache)
        forget(store, &store->cache);
}

/* Moves the entry of this text to the front; NULL when there is none. */
static struct cached *cache_find(struct store *store, const char *sql, size_t len)
{
    for (struct cached **link = &store->cache; *link; link = &(*link)->next) {
        struct cached *entry = *link;

        if (entry->len == len && memcmp(entry->sql, sql, len) == 0) {
            *link = entry->next;
            entry->next = store->cache;
            return store->cache = entry;
        }
    }
    return NULL;
}

static struct cached *cache_add(struct store *store, const char *sql, size_t len, struct err *e)
{
    struct cached *entry = calloc(1, sizeof *entry + len + 1), **last = &store->cache;
    const char *tail;
    int rc;

    if (!entry) {
        err_set(e, ERR_MEMORY, "no memory");
        return NULL;
    }
    memcpy(entry->sql, sql, len);
    entry->len = len;
    store->denied = NULL;
    rc = sqlite3_prepare_v3(store->db, entry->sql, (int)len + 1, SQLITE_PREPARE_PERSISTENT, &entry->stmt,
                            &tail);
    if (rc != SQLITE_OK)
        fault(store, rc, e);
    else if (!entry->stmt)
        err_set(e, ERR_INVALID, "the statement is empty");
    else if (tail[strspn(tail, " \t\r\n;")])
        err_set(e, ERR_INVALID, "more than one statement; use db:exec");
    else {
        if (store->cached++ >= CACHE_MAX) {
            while ((*last)->next)
                last = &(*last)->next;
            forget(store, last);
        }
        entry->next = store->cache;
        return store->cache = entry;
    }
    sqlite3_finalize(entry->stmt);
    free(entry);
    return NULL;
}

/* Before any SQL of a script: nothing under way, no lost transaction, the right level, the clock started. */
static bool ready(struct store *store, struct err *e)
{
    store_release(store);
    start_clock(store);
    store->denied = NULL;
    if (!store->in_transaction)
        return store->readonly || set_synced(store, store->durable, e);
    if (!sqlite3_get_autocommit(store->db))
        return true;
    err_set(e, store->lost.code, "the transaction was given up: %.200s", store->lost.message);
    return false;
}

sqlite3_stmt *store_prepare(struct store *store, const char *sql, size_t len, struct err *e)
{
    struct cached *entry;

    if (!ready(store, e))
        return NULL;
    if (len > SQL_MAX || memchr(sql, '\0', len)) {
        err_set(e, ERR_INVALID, "the statement is too long or holds a NUL byte");
        return NULL;
    }
    entry = cache_find(store, sql, len);
    if (!entry)
        entry = cache_add(store, sql, len, e);
    if (!entry)
        return NULL;
    store->changes_before = sqlite3_total_changes64(store->db);
    return store->active = entry->stmt;
}

int store_step(struct store *store, struct err *e)
{
    int rc = sqlite3_step(store->active);

    if (rc == SQLITE_ROW || rc == SQLITE_DONE)
        return rc;
    fault(store, rc, e);
    return 0;
}

void store_release(struct store *store)
{
    if (!store->active)
        return;
    sqlite3_reset(store->active);
    sqlite3_clear_bindings(store->active);
    store->active = NULL;
}

int64_t store_changes(const struct store *store)
{
    if (sqlite3_total_changes64(store->db) == store->changes_before)
        return 0; /* sqlite3_changes would tell of an earlier statement */
    return sqlite3_changes64(store->db);
}

int64_t store_last_id(const struct store *store)
{
    return sqlite3_last_insert_rowid(store->db);
}

bool store_exec(struct store *store, const char *sql, struct err *e)
{
    int rc;

    if (!ready(store, e))
        return false;
    rc = sqlite3_exec(store->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK || fault(store, rc, e);
}

/* ---- transactions ---- */

bool store_begin(struct store *store, bool durable, struct err *e)
{
    store_release(store);
    start_clock(store);
    if (!store->readonly && !set_synced(store, durable, e))
        return false;
    if (!own_statement(store, &store->begin, store->readonly ? "BEGIN" : "BEGIN IMMEDIATE", e))
        return false;
    store->lost = (struct err){.code = ERR_NONE};
    store->in_transaction = true;
    return true;
}

bool store_commit(struct store *store, struct err *e)
{
    bool ok = false;

    store_release(store);
    start_clock(store);
    if (sqlite3_get_autocommit(store->db))
        err_set(e, store->lost.code, "the transaction was given up: %.200s", store->lost.message);
    else
        ok = own_statement(store, &store->commit, "COMMIT", e);
    if (!ok)
        store_rollback(store);
    store->in_transaction = false;
    return ok;
}

void store_rollback(struct store *store)
{
    struct err ignored;

    store_release(store);
    store->deadline = 0;
    if (!sqlite3_get_autocommit(store->db))
        own_statement(store, &store->rollback, "ROLLBACK", &ignored);
    store->in_transaction = false;
}

bool store_in_transaction(const struct store *store)
{
    return store->in_transaction;
}

bool store_durable(const struct store *store)
{
    return store->durable;
}

/* ---- opening ---- */

/* A new file is ours alone. O_EXCL matters: to close a second descriptor of a database that this process has
 * open would drop its locks (POSIX). */
static bool create_file(const char *path, struct err *e)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0 && errno != EEXIST) {
        err_errno(e, errno, "cannot create the database");
        return false;
    }
    if (fd >= 0)
        close(fd);
    return true;
}

static bool configure(struct store *store, const struct store_options *o, bool memory, struct err *e)
{
    sqlite3 *db = store->db;
    char mode[256];

    sqlite3_busy_timeout(db, o->busy_ms > INT_MAX ? INT_MAX : (int)o->busy_ms);
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_FKEY, 1, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
    sqlite3_limit(db, SQLITE_LIMIT_LENGTH, 64 << 20);
    sqlite3_limit(db, SQLITE_LIMIT_SQL_LENGTH, 1 << 20);
    sqlite3_limit(db, SQLITE_LIMIT_COLUMN, 200);
    sqlite3_limit(db, SQLITE_LIMIT_VARIABLE_NUMBER, 1000);
    sqlite3_set_authorizer(db, on_authorize, store);
    sqlite3_progress_handler(db, PROGRESS_STEPS, on_progress, store);
    if (o->readonly)
        return own_exec(store, "PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY; PRAGMA schema_version",
                        e);
    if (!own_text(store, "PRAGMA journal_mode=WAL", mode, e))
        return false;
    if (strcmp(mode, memory ? "memory" : "wal") != 0) {
        err_set(e, ERR_UNSUPPORTED, "the file system has no shared memory for SQLite's WAL mode");
        return false;
    }
    store->synced = !o->durable; /* whatever it is: set_synced sets it */
    return own_exec(store,
                    "PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY; PRAGMA journal_size_limit=16777216",
                    e) &&
           set_synced(store, o->durable, e);
}

struct store *store_open(const char *path, const struct store_options *o, struct err *e)
{
    bool memory = strcmp(path, ":memory:") == 0;
    struct store *store = calloc(1, sizeof *store);
    char *name = NULL;
    int rc;

    e->code = ERR_NONE;
    if (!*path) {
        err_set(e, ERR_INVALID, "the path is empty");
        goto out;
    }
    /* Debian's SQLite takes "file:..." for a URI; a path never is one. */
    if (!store || asprintf(&name, "%s%s", memory || *path == '/' ? "" : "./", path) < 0) {
        name = NULL;
        err_set(e, ERR_MEMORY, "no memory");
        goto out;
    }
    if (!memory && !o->readonly && !create_file(path, e))
        goto out;
    rc = sqlite3_open_v2(name, &store->db,
                         (o->readonly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE) | SQLITE_OPEN_NOMUTEX |
                             SQLITE_OPEN_EXRESCODE,
                         NULL);
    if (!store->db)
        err_set(e, ERR_MEMORY, "no memory");
    else if (rc != SQLITE_OK)
        fault(store, rc, e);
    store->readonly = o->readonly;
    store->durable = o->durable;
    store->budget_ns = o->budget_ms * 1000000u;
    if (e->code == ERR_NONE && o->from)
        store_copy(store->db, o->from, e);
    if (e->code == ERR_NONE)
        configure(store, o, memory, e);
out:
    free(name);
    if (e->code == ERR_NONE)
        return store;
    store_close(store);
    return NULL;
}

void store_close(struct store *store)
{
    if (!store)
        return;
    store_release(store);
    forget_all(store);
    sqlite3_finalize(store->begin);
    sqlite3_finalize(store->commit);
    sqlite3_finalize(store->rollback);
    sqlite3_close(store->db);
    free(store);
}

/* ---- care ---- */

/* The first thing that is wrong with the file; "ok" when nothing is. */
bool store_check(struct store *store, struct err *e)
{
    char said[256];

    store_release(store);
    store->deadline = 0;
    if (!own_text(store, "PRAGMA quick_check(1)", said, e))
        return false;
    if (strcmp(said, "ok") == 0)
        return true;
    err_set(e, ERR_MISMATCH, "the database is damaged: %.200s", said);
    return false;
}

bool store_backup(struct store *store, const char *path, struct err *e)
{
    sqlite3_backup *backup;
    sqlite3 *copy = NULL;
    char *name = NULL;
    bool ok = false;
    int fd, rc;

    store_release(store);
    store->deadline = 0;
    if (store->in_transaction) {
        err_set(e, ERR_CONFLICT, "a backup cannot be made inside a transaction");
        return false;
    }
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        err_errno(e, errno, "cannot create the copy");
        return false;
    }
    close(fd);
    if (asprintf(&name, "%s%s", *path == '/' ? "" : "./", path) < 0) {
        name = NULL;
        err_set(e, ERR_MEMORY, "no memory");
        goto out;
    }
    rc = sqlite3_open_v2(name, &copy, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    backup = rc == SQLITE_OK ? sqlite3_backup_init(copy, "main", store->db, "main") : NULL;
    if (backup) {
        sqlite3_backup_step(backup, -1);
        rc = sqlite3_backup_finish(backup);
    } else if (copy) {
        rc = sqlite3_errcode(copy);
    }
    if (rc == SQLITE_OK)
        ok = fs_sync_parent(path, e);
    else
        err_set(e, store_code(rc), "%s", copy ? sqlite3_errmsg(copy) : "no memory");
out:
    sqlite3_close(copy);
    free(name);
    if (!ok)
        unlink(path);
    return ok;
}
