/* One SQLite file: connection, statement cache, transactions, time limit of a statement. Knows no Lua.
 *
 * Everything is synchronous on purpose: statements are short, and what takes longer than the budget is cut.
 * One statement is under way at a time; store_prepare starts it, store_release ends it. */
#ifndef MOONTIDE_STORE_H
#define MOONTIDE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sqlite3.h>
#include "err.h"

struct store_options {
    bool readonly;      /* the file must exist; nothing is written */
    bool durable;       /* each commit reaches the disk (synchronous=FULL), else the next checkpoint does */
    uint64_t busy_ms;   /* how long another process' lock is waited for */
    uint64_t budget_ms; /* how long one statement may run */
    const char *from;   /* ":memory:" only: the file whose content it begins with; NULL: empty */
};

struct store;

/* Opens or creates (mode 0600) the file in WAL mode. NULL: *e says why. Close it with store_close. */
struct store *store_open(const char *path, const struct store_options *options, struct err *e);

/* Finalises every statement, rolls back what is open. Accepts NULL. */
void store_close(struct store *store);

/* A statement ready to be bound, from the cache when it was used before; `sql` is exactly one statement. Ends
 * the one that was under way. NULL: *e. */
sqlite3_stmt *store_prepare(struct store *store, const char *sql, size_t len, struct err *e);

/* Next row: SQLITE_ROW, SQLITE_DONE, or 0 with *e. */
int store_step(struct store *store, struct err *e);

/* Ends the statement under way and forgets its parameters. Idempotent. */
void store_release(struct store *store);

/* Rows that the statement under way has changed so far, without those of triggers. */
int64_t store_changes(const struct store *store);
int64_t store_last_id(const struct store *store);

/* Runs statements without parameters, one after the other. */
bool store_exec(struct store *store, const char *sql, struct err *e);

/* One transaction at a time. When SQLite itself gave one up (disk full, interrupted write), every later
 * statement in it and its commit fail with the reason, so that nothing is committed by halves. */
bool store_begin(struct store *store, bool durable, struct err *e);
bool store_commit(struct store *store, struct err *e); /* rolls back when it fails */
void store_rollback(struct store *store);
bool store_in_transaction(const struct store *store);
bool store_durable(const struct store *store); /* the level that it was opened with */

/* Copies the file at `path` into an empty database, as of its last commit. Nothing at its place is written,
 * created or locked for writing, whether another process works on it, died in the middle, or none ever did.
 * ERR_UNSUPPORTED: its log has lost the index beside it (store.h does not know how to read it in place). */
bool store_copy(sqlite3 *into, const char *path, struct err *e);

/* What an SQLite result code means to callers. */
enum err_code store_code(int rc);

/* Checks the whole file for damage; ERR_MISMATCH names the first. No time limit. */
bool store_check(struct store *store, struct err *e);

/* Copies the database into a new file, which is on the disk when this returns. No time limit. */
bool store_backup(struct store *store, const char *path, struct err *e);

#endif
