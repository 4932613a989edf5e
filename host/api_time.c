/* core.time: clocks and sleep. Waiting: sleep. */
#include <time.h>
#include "api.h"
#include "bind.h"
#include "host.h"
#include "op.h"

static int sleep_finish(lua_State *L, struct op *op)
{
    (void)L;
    (void)op;
    return 0;
}

static int l_sleep(lua_State *L)
{
    uint64_t millis = bind_millis(luaL_checknumber(L, 1));
    struct op *op = op_new(L, sizeof *op, NULL);

    op_timeout(L, op, millis);
    return op_wait(L, op, sleep_finish);
}

static lua_Number seconds(struct timespec t)
{
    return (lua_Number)t.tv_sec + (lua_Number)t.tv_nsec / 1e9;
}

static int l_now(lua_State *L)
{
    lua_pushnumber(L, seconds(clock_wall(&bind_host(L)->clock)));
    return 1;
}

static int l_monotonic(lua_State *L)
{
    lua_pushnumber(L, seconds(clock_steady(&bind_host(L)->clock)));
    return 1;
}

static int l_cpu(lua_State *L)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    lua_pushnumber(L, seconds(t));
    return 1;
}

/* iso(seconds): RFC 3339 in UTC, whole seconds. Years outside of 0..9999 are refused. */
static int l_iso(lua_State *L)
{
    lua_Number at = luaL_checknumber(L, 1);
    char text[32];
    struct tm tm;
    time_t t;

    luaL_argcheck(L, at > -62135596801.0 && at < 253402300800.0, 1, "year out of range");
    t = (time_t)at;
    gmtime_r(&t, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    lua_pushstring(L, text);
    return 1;
}

/* utc(year, month, day, hour, minute, second): seconds since 1970. */
static int l_utc(lua_State *L)
{
    struct tm tm = {0};

    tm.tm_year = (int)luaL_checkinteger(L, 1) - 1900;
    tm.tm_mon = (int)luaL_checkinteger(L, 2) - 1;
    tm.tm_mday = (int)luaL_checkinteger(L, 3);
    tm.tm_hour = (int)luaL_checkinteger(L, 4);
    tm.tm_min = (int)luaL_checkinteger(L, 5);
    tm.tm_sec = (int)luaL_checkinteger(L, 6);
    lua_pushinteger(L, (lua_Integer)timegm(&tm));
    return 1;
}

int luaopen_core_time(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"sleep", l_sleep}, {"now", l_now}, {"monotonic", l_monotonic}, {"cpu", l_cpu}, {"iso", l_iso},
        {"utc", l_utc},     {NULL, NULL},
    };

    luaL_newlib(L, functions);
    return 1;
}
