/* What store.c (statements, transactions) and store_open.c (opening, errors, care) share. Nobody else. */
#ifndef MOONTIDE_STORE_PRIVATE_H
#define MOONTIDE_STORE_PRIVATE_H

#include "store.h"

struct cached {
    struct cached *next; /* most recently used first */
    sqlite3_stmt *stmt;
    uint64_t hash;
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
    uint64_t deadline; /* of the statement under way, monotonic nanoseconds; 0: none */
    bool readonly, durable;
    bool synced;         /* synchronous is FULL now */
    bool in_transaction; /* store_begin until store_commit or store_rollback */
    bool internal;       /* our own SQL: the authorizer lets it pass */
    const char *denied;  /* what the authorizer refused */
    struct err lost;     /* why SQLite gave the transaction up */
};

uint64_t store_clock(void); /* monotonic nanoseconds */

/* Describes the failure that SQLite just reported; returns false. A transaction that it rolled back by itself
 * is remembered as lost. */
bool store_fault(struct store *store, int rc, struct err *e);

/* Runs our own statements, which the authorizer lets pass. */
bool store_own_exec(struct store *store, const char *sql, struct err *e);

/* Drops every cached statement. */
void store_forget_all(struct store *store);

#endif
