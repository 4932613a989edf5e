/* core.store: SQLite databases for scripts, over store.c. Nothing here waits: statements are short and
 * bounded, and a transaction is a zone in which waiting is refused.
 *
 * Each call puts the database's scope into its frame as a to-be-closed value, so that a statement is reset on
 * every path; the scope is made once per database. */
#include <stdlib.h>
#include <string.h>
#include <lauxlib.h>
#include "api.h"
#include "bind.h"
#include "err_lua.h"
#include "store.h"
#include "value_lua.h"

#define STORE_CLASS "moontide.store"
#define SCOPE_CLASS "moontide.store_scope"
#define BLOB_CLASS  "moontide.blob"

#define OPEN_USAGE        "store.open(path [, {readonly, durable, busy_timeout, budget, max_rows, from}])"
#define TRANSACTION_USAGE "db:transaction(fn [, {durable}])"

struct handle {
    struct store *store; /* NULL: closed */
    bool calling; /* a statement is being read: its rows may run finalisers, which must not come back */
    lua_Integer max_rows;
    char *path;
};

struct scope {
    struct handle *database;
};

static struct handle *self_open(lua_State *L)
{
    struct handle *self = bind_self(L, 1, STORE_CLASS);

    if (!self->store)
        luaL_error(L, "the database is closed");
    if (self->calling)
        luaL_error(L, "the database is in use by the statement around this call");
    return self;
}

static int fail(lua_State *L, const struct handle *self, const struct err *e, const char *op)
{
    return err_return(L, e, op, self->path);
}

/* ---- values ---- */

static int bind_value(lua_State *L, sqlite3_stmt *stmt, int to, int index)
{
    size_t len;
    const char *text;

    switch (lua_type(L, index)) {
    case LUA_TNIL:
        return SQLITE_OK;
    case LUA_TBOOLEAN:
        return sqlite3_bind_int(stmt, to, lua_toboolean(L, index));
    case LUA_TNUMBER:
        if (lua_isinteger(L, index))
            return sqlite3_bind_int64(stmt, to, lua_tointeger(L, index));
        if (lua_tonumber(L, index) != lua_tonumber(L, index))
            return luaL_error(L, "parameter %d is NaN", to);
        return sqlite3_bind_double(stmt, to, lua_tonumber(L, index));
    case LUA_TSTRING:
        /* The text lives in the caller's frame, longer than the statement is under way. */
        text = lua_tolstring(L, index, &len);
        return sqlite3_bind_text64(stmt, to, text, len, SQLITE_STATIC, SQLITE_UTF8);
    case LUA_TUSERDATA:
        if (value_is_null(L, index))
            return SQLITE_OK;
        if (luaL_testudata(L, index, BLOB_CLASS)) {
            lua_getiuservalue(L, index, 1); /* stays reachable through the blob */
            text = lua_tolstring(L, -1, &len);
            lua_pop(L, 1);
            return sqlite3_bind_blob64(stmt, to, text, len, SQLITE_STATIC);
        }
        break;
    default:
        break;
    }
    return luaL_error(L, "parameter %d is a %s", to, luaL_typename(L, index));
}

/* False when there is no memory for the column. */
static bool push_column(lua_State *L, sqlite3_stmt *stmt, int column)
{
    const void *bytes;

    switch (sqlite3_column_type(stmt, column)) {
    case SQLITE_INTEGER:
        lua_pushinteger(L, sqlite3_column_int64(stmt, column));
        return true;
    case SQLITE_FLOAT:
        lua_pushnumber(L, sqlite3_column_double(stmt, column));
        return true;
    case SQLITE_NULL:
        lua_pushnil(L);
        return true;
    case SQLITE_BLOB:
        bytes = sqlite3_column_blob(stmt, column);
        if (!bytes)
            bytes = "";
        break;
    default:
        bytes = sqlite3_column_text(stmt, column);
        break;
    }
    if (!bytes)
        return false;
    lua_pushlstring(L, bytes, (size_t)sqlite3_column_bytes(stmt, column));
    return true;
}

/* Pushes the current row as a table; the column names lie from stack index `names` on. */
static bool push_row(lua_State *L, sqlite3_stmt *stmt, int names, int columns)
{
    lua_createtable(L, 0, columns);
    for (int i = 0; i < columns; i++) {
        lua_pushvalue(L, names + i);
        if (!push_column(L, stmt, i))
            return false;
        lua_rawset(L, -3);
    }
    return true;
}

/* ---- statements ---- */

/* Takes (db, sql, ...), leaves the statement ready to step and the scope in the frame, on top of the stack.
 * NULL: *e says why. */
static sqlite3_stmt *start(lua_State *L, struct handle *self, const char *usage, struct err *e)
{
    sqlite3_stmt *stmt;
    const char *sql;
    size_t len;
    int given = lua_gettop(L) - 2, wanted;

    if (lua_type(L, 2) != LUA_TSTRING)
        bind_usage(L, usage);
    sql = lua_tolstring(L, 2, &len);
    luaL_checkstack(L, 8, "store");
    lua_getiuservalue(L, 1, 1);
    lua_toclose(L, -1);
    self->calling = true;
    stmt = store_prepare(self->store, sql, len, e);
    if (!stmt)
        return NULL;
    wanted = sqlite3_bind_parameter_count(stmt);
    if (given != wanted)
        luaL_error(L, "the statement wants %d parameters, not %d: %s", wanted, given, sql);
    for (int i = 1; i <= given; i++)
        if (bind_value(L, stmt, i, i + 2) != SQLITE_OK) {
            err_set(e, ERR_TOO_LARGE, "parameter %d is too large", i);
            return NULL;
        }
    return stmt;
}

/* Pushes the column names; returns the index of the first. */
static int push_names(lua_State *L, sqlite3_stmt *stmt, int columns)
{
    int names = lua_gettop(L) + 1;

    luaL_checkstack(L, columns + 8, "store");
    for (int i = 0; i < columns; i++)
        lua_pushstring(L, sqlite3_column_name(stmt, i));
    return names;
}

static int l_run(lua_State *L)
{
    struct handle *self = self_open(L);
    struct err e;
    sqlite3_stmt *stmt = start(L, self, "db:run(sql, ...)", &e);
    int step = SQLITE_ROW;

    while (stmt && step == SQLITE_ROW)
        step = store_step(self->store, &e);
    if (!stmt || step != SQLITE_DONE)
        return fail(L, self, &e, "store.run");
    lua_pushinteger(L, store_changes(self->store));
    lua_pushinteger(L, store_last_id(self->store));
    return 2;
}

static int l_row(lua_State *L)
{
    struct handle *self = self_open(L);
    struct err e;
    sqlite3_stmt *stmt = start(L, self, "db:row(sql, ...)", &e);
    int step = stmt ? store_step(self->store, &e) : 0, columns;

    if (step == SQLITE_ROW) {
        columns = sqlite3_column_count(stmt);
        if (!push_row(L, stmt, push_names(L, stmt, columns), columns)) {
            err_set(&e, ERR_MEMORY, "no memory");
            step = 0;
        }
        /* What writes (INSERT ... RETURNING) has to come to its end. */
        while (step == SQLITE_ROW && !sqlite3_stmt_readonly(stmt))
            step = store_step(self->store, &e);
    } else if (step == SQLITE_DONE) {
        lua_pushnil(L);
    }
    return step ? 1 : fail(L, self, &e, "store.row");
}

static int l_rows(lua_State *L)
{
    struct handle *self = self_open(L);
    struct err e;
    sqlite3_stmt *stmt = start(L, self, "db:rows(sql, ...)", &e);
    int columns, names = 0, result, step;
    lua_Integer n = 0;

    if (!stmt)
        return fail(L, self, &e, "store.rows");
    columns = sqlite3_column_count(stmt);
    lua_newtable(L);
    result = lua_gettop(L);
    while ((step = store_step(self->store, &e)) == SQLITE_ROW) {
        if (n >= self->max_rows) {
            err_set(&e, ERR_TOO_LARGE, "more than %lld rows", (long long)self->max_rows);
            return fail(L, self, &e, "store.rows");
        }
        if (n == 0) /* not needed without rows */
            names = push_names(L, stmt, columns);
        if (!push_row(L, stmt, names, columns)) {
            err_set(&e, ERR_MEMORY, "no memory");
            return fail(L, self, &e, "store.rows");
        }
        lua_rawseti(L, result, ++n);
    }
    lua_settop(L, result);
    return step ? 1 : fail(L, self, &e, "store.rows");
}

static int l_exec(lua_State *L)
{
    struct handle *self = self_open(L);
    const char *sql = bind_text(L, 2, "db:exec(sql)");
    struct err e;

    if (lua_gettop(L) != 2)
        return bind_usage(L, "db:exec(sql)");
    if (!store_exec(self->store, sql, &e))
        return fail(L, self, &e, "store.exec");
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- transactions ---- */

/* The function's results decide: nil or false with an error, or a raised error, takes everything back. */
static int l_transaction(lua_State *L)
{
    static const char *const known[] = {"durable", NULL};
    struct handle *self = self_open(L);
    struct err e;
    bool durable;
    int status, results;

    if (!lua_isfunction(L, 2))
        return bind_usage(L, TRANSACTION_USAGE);
    bind_options(L, 3, TRANSACTION_USAGE, known);
    durable = bind_opt_bool(L, 3, "durable", store_durable(self->store));
    if (store_in_transaction(self->store))
        return luaL_error(L, "transactions do not nest");
    lua_settop(L, 2);
    if (!store_begin(self->store, durable, &e))
        return fail(L, self, &e, "store.transaction");
    lua_pushvalue(L, 2);
    status = lua_pcall(L, 0, LUA_MULTRET, 0); /* no continuation: waiting in there is refused */
    if (status != LUA_OK) {
        store_rollback(self->store);
        return lua_error(L);
    }
    results = lua_gettop(L) - 2;
    if (results >= 2 && !lua_toboolean(L, 3) && lua_toboolean(L, 4)) {
        store_rollback(self->store);
        return results;
    }
    if (!store_commit(self->store, &e))
        return fail(L, self, &e, "store.transaction");
    if (!results)
        lua_pushboolean(L, 1);
    return results ? results : 1;
}

/* ---- the database ---- */

static int l_check(lua_State *L)
{
    struct handle *self = self_open(L);
    struct err e;

    if (!store_check(self->store, &e))
        return fail(L, self, &e, "store.check");
    lua_pushboolean(L, 1);
    return 1;
}

static int l_backup(lua_State *L)
{
    struct handle *self = self_open(L);
    const char *path = bind_text(L, 2, "db:backup(path)");
    struct err e;

    if (!store_backup(self->store, path, &e))
        return err_return(L, &e, "store.backup", path);
    lua_pushboolean(L, 1);
    return 1;
}

static int l_collect(lua_State *L)
{
    struct handle *self = bind_self(L, 1, STORE_CLASS);

    store_close(self->store);
    free(self->path);
    self->store = NULL;
    self->path = NULL;
    return 0;
}

/* Closing twice is fine; closing under a transaction or a statement is not. */
static int l_close(lua_State *L)
{
    struct handle *self = bind_self(L, 1, STORE_CLASS);

    if (self->store && (self->calling || store_in_transaction(self->store)))
        return luaL_error(L, "the database is in use");
    return l_collect(L);
}

static int l_tostring(lua_State *L)
{
    struct handle *self = bind_self(L, 1, STORE_CLASS);

    if (self->store)
        lua_pushfstring(L, "store: %s", self->path);
    else
        lua_pushliteral(L, "store: closed");
    return 1;
}

/* Leaves a call: the statement is reset whatever happened. The scope finds its database by a plain pointer:
 * the database holds the scope, and is the first argument of the call that is left. */
static int l_scope_close(lua_State *L)
{
    struct handle *self = ((struct scope *)bind_self(L, 1, SCOPE_CLASS))->database;

    self->calling = false;
    if (self->store)
        store_release(self->store);
    return 0;
}

static int l_open(lua_State *L)
{
    static const char *const known[] = {"readonly", "durable", "busy_timeout", "budget", "max_rows",
                                        "from",     NULL};
    const char *path = bind_text(L, 1, OPEN_USAGE);
    struct store_options options;
    struct handle *self;
    struct scope *scope;
    struct err e;

    bind_options(L, 2, OPEN_USAGE, known);
    options.readonly = bind_opt_bool(L, 2, "readonly", false);
    options.durable = bind_opt_bool(L, 2, "durable", true);
    options.busy_ms = bind_millis(bind_opt_number(L, 2, "busy_timeout", 1));
    options.budget_ms = bind_millis(bind_opt_number(L, 2, "budget", 2));
    options.from = bind_opt_text(L, 2, "from", NULL);
    if (options.from && strcmp(path, ":memory:") != 0)
        return luaL_error(L, "option 'from' is for a database in memory: store.open(\":memory:\", {from=})");
    self = bind_new(L, sizeof *self, STORE_CLASS);
    self->max_rows = bind_opt_integer(L, 2, "max_rows", 100000);
    scope = bind_new(L, sizeof *scope, SCOPE_CLASS);
    scope->database = self;
    lua_setiuservalue(L, -2, 1);
    self->path = strdup(path);
    if (!self->path)
        return err_fail(L, ERR_MEMORY, "store.open", path, "no memory");
    self->store = store_open(path, &options, &e);
    return self->store ? 1 : err_return(L, &e, "store.open", path);
}

static int l_blob(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TSTRING)
        return bind_usage(L, "store.blob(bytes)");
    lua_settop(L, 1);
    bind_new(L, 1, BLOB_CLASS);
    lua_insert(L, 1);
    lua_setiuservalue(L, 1, 1);
    return 1;
}

static const luaL_Reg methods[] = {
    {"exec", l_exec},
    {"run", l_run},
    {"row", l_row},
    {"rows", l_rows},
    {"transaction", l_transaction},
    {"check", l_check},
    {"backup", l_backup},
    {"close", l_close},
    {NULL, NULL},
};
static const luaL_Reg metamethods[] = {
    {"__gc", l_collect},
    {"__close", l_close},
    {"__tostring", l_tostring},
    {NULL, NULL},
};
static const luaL_Reg scope_metamethods[] = {
    {"__close", l_scope_close},
    {NULL, NULL},
};
static const luaL_Reg functions[] = {
    {"open", l_open},
    {"blob", l_blob},
    {NULL, NULL},
};

int luaopen_core_store(lua_State *L)
{
    bind_class(L, STORE_CLASS, methods, metamethods);
    bind_class(L, SCOPE_CLASS, NULL, scope_metamethods);
    bind_class(L, BLOB_CLASS, NULL, NULL);
    luaL_newlib(L, functions);
    return 1;
}
