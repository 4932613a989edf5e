/* Statements and transactions of a database: the cache, the clock of a statement, what SQLite gave up.
 *
 * The cache is a short list, most recently used first: a host uses some thirty statements. */
#include "store_private.h"

#include <stdlib.h>
#include <string.h>

#define CACHE_MAX 64
#define SQL_MAX   (1 << 20)

static void start_clock(struct store *store)
{
    store->deadline = store_clock() + store->budget_ns;
}

/* The level cannot change inside a transaction, and changing costs; so only when it differs. */
static bool set_synced(struct store *store, bool full, struct err *e)
{
    if (store->synced == full)
        return true;
    if (!store_own_exec(store, full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL", e))
        return false;
    store->synced = full;
    return true;
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
        store_fault(store, rc, e);
    sqlite3_reset(*stmt);
    store->internal = false;
    return rc == SQLITE_DONE;
}

static void forget(struct store *store, struct cached **link)
{
    struct cached *entry = *link;

    *link = entry->next;
    sqlite3_finalize(entry->stmt);
    free(entry);
    store->cached--;
}

void store_forget_all(struct store *store)
{
    while (store->cache)
        forget(store, &store->cache);
}

static uint64_t hash_text(const char *text, size_t len)
{
    uint64_t hash = UINT64_C(14695981039346656037);

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
    return hash;
}

/* Moves the entry of this text to the front; NULL when there is none. */
static struct cached *cache_find(struct store *store, uint64_t hash, const char *sql, size_t len)
{
    for (struct cached **link = &store->cache; *link; link = &(*link)->next) {
        struct cached *entry = *link;

        if (entry->hash == hash && entry->len == len && memcmp(entry->sql, sql, len) == 0) {
            *link = entry->next;
            entry->next = store->cache;
            return store->cache = entry;
        }
    }
    return NULL;
}

static struct cached *cache_add(struct store *store, uint64_t hash, const char *sql, size_t len,
                                struct err *e)
{
    struct cached *entry = calloc(1, sizeof *entry + len + 1), **last = &store->cache;
    const char *tail;
    int rc;

    if (!entry) {
        err_set(e, ERR_MEMORY, "no memory");
        return NULL;
    }
    memcpy(entry->sql, sql, len);
    entry->hash = hash;
    entry->len = len;
    store->denied = NULL;
    rc = sqlite3_prepare_v3(store->db, entry->sql, (int)len + 1, SQLITE_PREPARE_PERSISTENT, &entry->stmt,
                            &tail);
    if (rc != SQLITE_OK)
        store_fault(store, rc, e);
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
    uint64_t hash = hash_text(sql, len);
    struct cached *entry;

    if (!ready(store, e))
        return NULL;
    if (len > SQL_MAX || memchr(sql, '\0', len)) {
        err_set(e, ERR_INVALID, "the statement is too long or holds a NUL byte");
        return NULL;
    }
    entry = cache_find(store, hash, sql, len);
    if (!entry)
        entry = cache_add(store, hash, sql, len, e);
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
    store_fault(store, rc, e);
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
    return rc == SQLITE_OK || store_fault(store, rc, e);
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
