/* B6's peer: raw SQLite with the journal's shape, prepared statements, one transaction for each transition.
 *
 *     peer_sqlite FILE COUNT off|normal|full
 *
 * A transition updates the run's row and adds a step's row. Prints commits per second and the median and 99th
 * percentile of a commit in microseconds. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static sqlite3 *db;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void must(int rc)
{
    if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ROW) {
        fprintf(stderr, "peer_sqlite: %s\n", sqlite3_errmsg(db));
        exit(1);
    }
}

static sqlite3_stmt *prepare(const char *sql)
{
    sqlite3_stmt *s;

    must(sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &s, NULL));
    return s;
}

static void run(sqlite3_stmt *s)
{
    must(sqlite3_step(s));
    must(sqlite3_reset(s));
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    long count = argc > 3 ? strtol(argv[2], NULL, 10) : 0;
    double *took = calloc((size_t)count + 1, sizeof *took), began, total;
    char pragma[64];
    sqlite3_stmt *begin, *commit, *update, *insert;

    if (count < 1 || !took)
        return fprintf(stderr, "usage: peer_sqlite FILE COUNT off|normal|full\n"), 2;
    must(sqlite3_open(argv[1], &db));
    snprintf(pragma, sizeof pragma, "PRAGMA journal_mode=WAL; PRAGMA synchronous=%s", argv[3]);
    must(sqlite3_exec(db, pragma, NULL, NULL, NULL));
    must(sqlite3_exec(db,
                      "CREATE TABLE run(id INTEGER PRIMARY KEY, state TEXT NOT NULL, updated REAL NOT NULL);"
                      "CREATE TABLE step(id INTEGER PRIMARY KEY, run INTEGER NOT NULL, path TEXT NOT NULL,"
                      " result TEXT); INSERT INTO run VALUES(1, 'queued', 0)",
                      NULL, NULL, NULL));
    begin = prepare("BEGIN IMMEDIATE");
    commit = prepare("COMMIT");
    update = prepare("UPDATE run SET state=?, updated=? WHERE id=1");
    insert = prepare("INSERT INTO step(run, path, result) VALUES(1, ?, ?)");
    began = now();
    for (long i = 0; i < count; i++) {
        double start = now();

        run(begin);
        must(sqlite3_bind_text(update, 1, i % 2 ? "running" : "waiting", -1, SQLITE_STATIC));
        must(sqlite3_bind_double(update, 2, start));
        run(update);
        must(sqlite3_bind_text(insert, 1, "release/1/apply", -1, SQLITE_STATIC));
        must(sqlite3_bind_text(insert, 2, "{\"digest\":\"sha256:0123456789abcdef\",\"ok\":true}", -1,
                               SQLITE_STATIC));
        run(insert);
        run(commit);
        took[i] = (now() - start) * 1e6;
    }
    total = now() - began;
    qsort(took, (size_t)count, sizeof *took, by_size);
    printf("{\"rate\":%.1f,\"p50\":%.1f,\"p99\":%.1f}\n", (double)count / total, took[count / 2],
           took[count * 99 / 100]);
    free(took);
    sqlite3_finalize(begin);
    sqlite3_finalize(commit);
    sqlite3_finalize(update);
    sqlite3_finalize(insert);
    sqlite3_close(db);
    return 0;
}
