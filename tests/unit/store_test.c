/* The SQLite room: settings, errors as codes, lost transactions, the statement cache,
 * other processes' locks. */
#include "unit.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "store.h"

static char dir[] = "/tmp/moontide-store-XXXXXX";
static char path[64];

static const struct store_options quick = {.busy_ms = 20, .budget_ms = 300, .durable = true};

static void fresh(void)
{
    static int n;

    snprintf(path, sizeof path, "%s/%d.db", dir, ++n);
}

static struct store *opened(void)
{
    struct err e;
    struct store *s = store_open(path, &quick, &e);

    CHECK(s);
    if (!s)
        printf("  %s\n", e.message);
    return s;
}

/* Runs one statement to its end; the code's name. */
static const char *run(struct store *s, const char *sql)
{
    struct err e = {.code = ERR_NONE};
    int step = SQLITE_ROW;

    if (!store_prepare(s, sql, strlen(sql), &e))
        return err_name(e.code);
    while (step == SQLITE_ROW)
        step = store_step(s, &e);
    store_release(s);
    return step == SQLITE_DONE ? "none" : err_name(e.code);
}

static long long number(struct store *s, const char *sql)
{
    struct err e;
    sqlite3_stmt *stmt = store_prepare(s, sql, strlen(sql), &e);
    long long value = -1;

    if (stmt && store_step(s, &e) == SQLITE_ROW)
        value = sqlite3_column_int64(stmt, 0);
    store_release(s);
    return value;
}

static const char *exec(struct store *s, const char *sql)
{
    struct err e = {.code = ERR_NONE};

    return store_exec(s, sql, &e) ? "none" : err_name(e.code);
}

UNIT(opens_a_private_wal_file)
{
    struct stat st;
    struct store *s;

    fresh();
    s = opened();
    CHECK(stat(path, &st) == 0);
    CHECK_INT(st.st_mode & 0777, 0600);
    CHECK_STR(exec(s, "CREATE TABLE t(x)"), "none");
    CHECK_STR(run(s, "PRAGMA foreign_key_check"), "none");
    CHECK_STR(run(s, "PRAGMA user_version = 7"), "none");
    CHECK_INT(number(s, "PRAGMA user_version"), 7);
    CHECK_STR(run(s, "SELECT x FROM t WHERE x = \"text\""), "invalid"); /* double quotes are names only */
    store_close(s);
}

UNIT(tells_failures_apart)
{
    struct err e;
    struct store *s;
    int fd;

    CHECK(!store_open("", &quick, &e));
    CHECK_STR(err_name(e.code), "invalid");
    snprintf(path, sizeof path, "%s/missing/a.db", dir);
    CHECK(!store_open(path, &quick, &e));
    CHECK_STR(err_name(e.code), "not_found");
    CHECK(!store_open(dir, &quick, &e));
    CHECK(e.code == ERR_INVALID || e.code == ERR_IO);
    fresh();
    CHECK(!store_open(path, &(struct store_options){.readonly = true, .budget_ms = 100}, &e));
    CHECK_STR(err_name(e.code), "not_found");
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    for (int i = 0; i < 100; i++)
        CHECK(write(fd, "this is not a database, is it?\n", 31) == 31);
    close(fd);
    CHECK(!store_open(path, &quick, &e));
    CHECK_STR(err_name(e.code), "mismatch");

    fresh();
    s = opened();
    CHECK_STR(
        exec(s, "CREATE TABLE t(id INTEGER PRIMARY KEY, u TEXT UNIQUE, n INT NOT NULL, c INT CHECK(c > 0));"
                "CREATE TABLE child(t INT REFERENCES t(id))"),
        "none");
    CHECK_STR(run(s, "INSERT INTO t VALUES(1, 'a', 1, 1)"), "none");
    CHECK_STR(run(s, "INSERT INTO t VALUES(1, 'b', 1, 1)"), "exists");
    CHECK_STR(run(s, "INSERT INTO t VALUES(2, 'a', 1, 1)"), "exists");
    CHECK_STR(run(s, "INSERT INTO t VALUES(2, 'b', NULL, 1)"), "invalid");
    CHECK_STR(run(s, "INSERT INTO t VALUES(2, 'b', 1, 0)"), "invalid");
    CHECK_STR(run(s, "INSERT INTO child VALUES(99)"), "invalid");
    CHECK_STR(run(s, "SELEC 1"), "invalid");
    CHECK_STR(run(s, "SELECT * FROM missing"), "invalid");
    CHECK_STR(run(s, ""), "invalid");
    CHECK_STR(run(s, "  -- nothing"), "invalid");
    CHECK_STR(run(s, "SELECT 1; SELECT 2"), "invalid");
    CHECK_STR(run(s, "SELECT 1;  "), "none");
    CHECK_STR(run(s, "SELECT zeroblob(100000000)"), "too_large");
    store_close(s);
}

UNIT(keeps_its_own_words)
{
    static const char *const refused[] = {
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT a",
        "ATTACH ':memory:' AS x",
        "VACUUM",
        "PRAGMA journal_mode=DELETE",
        "PRAGMA synchronous=OFF",
        "PRAGMA foreign_keys=OFF",
        "PRAGMA writable_schema=ON",
        "PRAGMA trusted_schema=ON",
    };
    struct store *s;

    fresh();
    s = opened();
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        CHECK_STR(run(s, refused[i]), "denied");
        CHECK_STR(exec(s, refused[i]), "denied");
    }
    CHECK_STR(run(s, "SELECT load_extension('x')"), "invalid");
    CHECK_STR(run(s, "INSERT INTO sqlite_schema VALUES(1,2,3,4,5)"), "invalid");
    store_close(s);
}

UNIT(cuts_a_long_statement)
{
    const char *endless =
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT count(*) FROM c";
    struct store *s;

    fresh();
    s = opened();
    CHECK_STR(run(s, endless), "budget");
    CHECK_STR(exec(s, endless), "budget");
    CHECK_STR(run(s, "SELECT 1"), "none");
    store_close(s);
}

UNIT(a_lost_transaction_stays_lost)
{
    struct store *s;
    struct err e;

    fresh();
    s = opened();
    CHECK_STR(exec(s, "CREATE TABLE t(x UNIQUE)"), "none");
    CHECK(store_begin(s, true, &e));
    CHECK_STR(run(s, "INSERT INTO t VALUES(1)"), "none");
    /* an interrupted write: SQLite takes the whole transaction back by itself */
    CHECK_STR(
        run(s,
            "INSERT INTO t WITH RECURSIVE c(x) AS (SELECT 10 UNION ALL SELECT x+1 FROM c) SELECT x FROM c"),
        "budget");
    CHECK_STR(run(s, "INSERT INTO t VALUES(2)"), "budget"); /* would be a commit of its own */
    CHECK(!store_commit(s, &e));
    CHECK_STR(err_name(e.code), "budget");
    CHECK(!store_in_transaction(s));
    CHECK_INT(number(s, "SELECT count(*) FROM t"), 0);

    CHECK(store_begin(s, true, &e));
    CHECK_STR(run(s, "INSERT INTO t VALUES(1)"), "none");
    CHECK_STR(run(s, "INSERT OR ROLLBACK INTO t VALUES(1)"), "exists");
    CHECK_STR(run(s, "INSERT INTO t VALUES(2)"), "exists");
    CHECK(!store_commit(s, &e));
    CHECK_INT(number(s, "SELECT count(*) FROM t"), 0);

    /* a plain constraint undoes its statement only */
    CHECK(store_begin(s, true, &e));
    CHECK_STR(run(s, "INSERT INTO t VALUES(1)"), "none");
    CHECK_STR(run(s, "INSERT INTO t VALUES(1)"), "exists");
    CHECK(store_commit(s, &e));
    CHECK_INT(number(s, "SELECT count(*) FROM t"), 1);

    CHECK(store_begin(s, false, &e));
    CHECK_STR(run(s, "INSERT INTO t VALUES(3)"), "none");
    store_rollback(s);
    CHECK_INT(number(s, "SELECT count(*) FROM t"), 1);
    store_close(s);
}

UNIT(durability_follows_the_transaction)
{
    struct store *s;
    struct err e;

    fresh();
    s = opened();
    CHECK_STR(exec(s, "CREATE TABLE t(x)"), "none");
    for (int durable = 0; durable < 2; durable++) {
        sqlite3_stmt *stmt;

        CHECK(store_begin(s, durable, &e));
        /* the PRAGMA is ours alone: look through the back door of a table-valued function */
        stmt = store_prepare(s, "INSERT INTO t VALUES(1)", 23, &e);
        CHECK(stmt);
        if (stmt) {
            sqlite3_stmt *level = NULL;

            CHECK(store_step(s, &e) == SQLITE_DONE);
            sqlite3_set_authorizer(sqlite3_db_handle(stmt), NULL, NULL);
            sqlite3_prepare_v2(sqlite3_db_handle(stmt), "PRAGMA synchronous", -1, &level, NULL);
            CHECK(sqlite3_step(level) == SQLITE_ROW);
            CHECK_INT(sqlite3_column_int(level, 0), durable ? 2 : 1);
            sqlite3_finalize(level);
        }
        CHECK(store_commit(s, &e));
    }
    store_close(s);
}

UNIT(waits_for_others_and_then_is_busy)
{
    struct store *a, *b;
    struct err e;

    fresh();
    a = opened();
    b = opened();
    CHECK_STR(exec(a, "CREATE TABLE t(x)"), "none");
    CHECK(store_begin(a, true, &e));
    CHECK_STR(run(b, "INSERT INTO t VALUES(1)"), "busy");
    CHECK(!store_begin(b, true, &e));
    CHECK_STR(err_name(e.code), "busy");
    CHECK(!store_in_transaction(b));
    CHECK_INT(number(b, "SELECT count(*) FROM t"), 0); /* readers never wait */
    CHECK(store_commit(a, &e));
    CHECK_STR(run(b, "INSERT INTO t VALUES(1)"), "none");
    store_close(b);
    store_close(a);
}

UNIT(reads_only_when_told)
{
    struct store *s, *reader;
    struct err e;

    fresh();
    s = opened();
    CHECK_STR(exec(s, "CREATE TABLE t(x); INSERT INTO t VALUES(5)"), "none");
    reader = store_open(path, &(struct store_options){.readonly = true, .budget_ms = 100}, &e);
    CHECK(reader);
    if (reader) {
        CHECK_INT(number(reader, "SELECT x FROM t"), 5);
        CHECK_STR(run(reader, "INSERT INTO t VALUES(6)"), "denied");
        CHECK(store_begin(reader, true, &e));
        CHECK_STR(run(s, "UPDATE t SET x = 7"), "none");
        CHECK_INT(number(reader, "SELECT x FROM t"), 7); /* the snapshot begins with the first read */
        CHECK_STR(run(s, "UPDATE t SET x = 8"), "none");
        CHECK_INT(number(reader, "SELECT x FROM t"), 7);
        CHECK(store_commit(reader, &e));
        CHECK_INT(number(reader, "SELECT x FROM t"), 8);
    }
    store_close(reader);
    store_close(s);
}

UNIT(caches_and_forgets_statements)
{
    struct store *s;
    struct err e;
    sqlite3_stmt *first;
    char sql[64];

    fresh();
    s = opened();
    first = store_prepare(s, "SELECT 1", 8, &e);
    CHECK(store_prepare(s, "SELECT 1", 8, &e) == first);
    for (int i = 0; i < 300; i++) {
        int len = snprintf(sql, sizeof sql, "SELECT %d + 0", i);
        sqlite3_stmt *stmt = store_prepare(s, sql, (size_t)len, &e);

        CHECK(stmt && store_step(s, &e) == SQLITE_ROW && sqlite3_column_int(stmt, 0) == i);
    }
    CHECK_STR(exec(s, "CREATE TABLE t(a)"), "none");
    CHECK_INT(number(s, "SELECT count(*) FROM t"), 0);
    CHECK_STR(exec(s, "ALTER TABLE t ADD COLUMN b"), "none"); /* cached statements follow the schema */
    CHECK_INT(number(s, "SELECT count(*) FROM t"), 0);
    store_close(s);
}

UNIT(counts_changes)
{
    struct store *s;
    struct err e;

    fresh();
    s = opened();
    CHECK_STR(exec(s, "CREATE TABLE t(x); INSERT INTO t VALUES(1),(2),(3)"), "none");
    CHECK(store_prepare(s, "UPDATE t SET x = x + 1 WHERE x > 1", 34, &e));
    CHECK(store_step(s, &e) == SQLITE_DONE);
    CHECK_INT(store_changes(s), 2);
    CHECK(store_prepare(s, "SELECT 1 WHERE 0", 16, &e));
    CHECK(store_step(s, &e) == SQLITE_DONE);
    CHECK_INT(store_changes(s), 0);
    CHECK(store_prepare(s, "CREATE TABLE u(x)", 17, &e));
    CHECK(store_step(s, &e) == SQLITE_DONE);
    CHECK_INT(store_changes(s), 0);
    store_close(s);
}

UNIT(copies_and_checks)
{
    struct store *s, *copy;
    struct err e;
    char to[80], nowhere[80];
    struct stat st;
    int fd;

    fresh();
    s = opened();
    CHECK_STR(exec(s, "CREATE TABLE t(x); CREATE INDEX i ON t(x);"
                      "INSERT INTO t WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c LIMIT 5000)"
                      "SELECT hex(x * 7919) FROM c"),
              "none");
    CHECK(store_check(s, &e));
    snprintf(to, sizeof to, "%s.copy", path);
    CHECK(store_backup(s, to, &e));
    CHECK(stat(to, &st) == 0);
    CHECK_INT(st.st_mode & 0777, 0600);
    CHECK(!store_backup(s, to, &e));
    CHECK_STR(err_name(e.code), "exists");
    CHECK(store_begin(s, true, &e));
    CHECK(!store_backup(s, to, &e));
    CHECK_STR(err_name(e.code), "conflict");
    CHECK(store_commit(s, &e));
    snprintf(nowhere, sizeof nowhere, "%s/missing/x", dir);
    CHECK(!store_backup(s, nowhere, &e));
    CHECK_STR(err_name(e.code), "not_found");
    store_close(s);

    copy = store_open(to, &quick, &e);
    CHECK(copy);
    CHECK(copy && store_check(copy, &e));
    CHECK_INT(number(copy, "SELECT count(*) FROM t"), 5000);
    store_close(copy);

    fd = open(to, O_WRONLY);
    for (off_t at = 4096 * 3; at < st.st_size; at += 4096)
        CHECK(pwrite(fd, "damage", 6, at) == 6);
    close(fd);
    copy = store_open(to, &quick, &e);
    CHECK(copy);
    CHECK(!copy || !store_check(copy, &e));
    CHECK_STR(err_name(e.code), "mismatch");
    CHECK_STR(copy ? run(copy, "SELECT sum(length(x)) FROM t NOT INDEXED") : "mismatch", "mismatch");
    store_close(copy);
}

UNIT(fills_up)
{
    struct store *s;
    struct err e;

    fresh();
    s = opened();
    CHECK_STR(exec(s, "CREATE TABLE t(x)"), "none");
    CHECK(store_prepare(s, "SELECT 1", 8, &e));
    sqlite3_set_authorizer(sqlite3_db_handle(store_prepare(s, "SELECT 1", 8, &e)), NULL, NULL);
    CHECK_STR(exec(s, "PRAGMA max_page_count = 4"), "none");
    CHECK(store_begin(s, true, &e));
    CHECK_STR(run(s, "INSERT INTO t VALUES(1)"), "none");
    CHECK_STR(run(s, "INSERT INTO t VALUES(zeroblob(100000))"), "full");
    store_rollback(s);
    CHECK_INT(number(s, "SELECT count(*) FROM t"), 0);
    CHECK_STR(run(s, "INSERT INTO t VALUES(1)"), "none");
    store_close(s);
}

/* Last: removes what the others made. */
UNIT(leaves_nothing_behind)
{
    char file[80];
    struct store *memory;
    struct err e;

    memory = store_open(":memory:", &quick, &e);
    CHECK(memory);
    CHECK_STR(exec(memory, "CREATE TABLE t(x)"), "none");
    store_close(memory);
    store_close(NULL);
    CHECK(access(":memory:", F_OK) != 0);
    for (int n = 1; n <= 30; n++) {
        static const char *const ends[] = {".db",      ".db-wal",      ".db-shm",
                                           ".db.copy", ".db.copy-wal", ".db.copy-shm"};

        for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
            snprintf(file, sizeof file, "%s/%d%s", dir, n, ends[i]);
            unlink(file);
        }
    }
    CHECK(rmdir(dir) == 0);
}

UNIT(makes_its_folder)
{
    CHECK(mkdtemp(dir) != NULL);
}

UNIT_MAIN(C(makes_its_folder), C(opens_a_private_wal_file), C(tells_failures_apart), C(keeps_its_own_words),
          C(cuts_a_long_statement), C(a_lost_transaction_stays_lost), C(durability_follows_the_transaction),
          C(waits_for_others_and_then_is_busy), C(reads_only_when_told), C(caches_and_forgets_statements),
          C(counts_changes), C(copies_and_checks), C(fills_up), C(leaves_nothing_behind))
