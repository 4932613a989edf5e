/* The collector's pace: never in the middle of a script, in turns, and in the end. */
#include "collector.h"
#include <lauxlib.h>
#include <lualib.h>
#include "unit.h"

static struct alloc alloc;
static struct collector collector;

static lua_State *open_state(void)
{
    lua_State *L;

    alloc = (struct alloc){0};
    collector = (struct collector){0};
    L = lua_newstate(alloc_lua, &alloc);
    luaL_openlibs(L);
    collector_init(&collector, L, &alloc);
    return L;
}

static bool holds(lua_State *L, const char *expression)
{
    bool yes;

    CHECK_INT(luaL_loadstring(L, expression), LUA_OK);
    CHECK_INT(lua_pcall(L, 0, 1, 0), LUA_OK);
    yes = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return yes;
}

/* One turn after the other, until nothing is due any more. */
static int pay_all(lua_State *L)
{
    int turns = 0;

    do {
        collector_turn(&collector);
        collector_pay(&collector, L);
        turns++;
    } while (collector.cycle && turns < 100000 && holds(L, "local _ = ('x'):rep(100000) return true"));
    return turns;
}

UNIT(a_large_allocation_is_not_paid_for_at_once)
{
    lua_State *L = open_state();

    CHECK(holds(L, "live = {} for i = 1, 200000 do live[i] = { i } end return true"));
    pay_all(L);
    CHECK(holds(L, "weak = setmetatable({}, { __mode = 'k' }) weak[{}] = true "
                   "for i = 1, 20 do local _ = ('x'):rep(32 << 20) .. i end return next(weak) ~= nil"));
    collector_turn(&collector);
    collector_pay(&collector, L);
    collector_pay(&collector, L); /* the turn's time is used up: there is no more */
    CHECK(collector.cycle);
    CHECK(holds(L, "return next(weak) ~= nil"));
    CHECK(pay_all(L) > 1);
    CHECK(holds(L, "return next(weak) == nil and #live == 200000"));
    CHECK(alloc.used < 64 << 20);
    lua_close(L);
}

UNIT(nothing_is_paid_while_little_was_allocated)
{
    lua_State *L = open_state();

    CHECK(holds(L, "live = {} for i = 1, 20000 do live[i] = { i } end return true"));
    pay_all(L);
    CHECK(!collector.cycle && collector.due > alloc.used);
    CHECK(holds(L, "weak = setmetatable({}, { __mode = 'k' }) weak[{}] = true return true"));
    for (int i = 0; i < 1000; i++) {
        collector_turn(&collector);
        collector_pay(&collector, L);
    }
    CHECK(holds(L, "return next(weak) ~= nil"));
    lua_close(L);
}

UNIT(what_settles_is_collected_although_little_was_allocated)
{
    lua_State *L = open_state();
    int turns = 0;

    CHECK(holds(L, "weak = setmetatable({}, { __mode = 'k' }) weak[{}] = true return true"));
    collector_settle(&collector);
    do {
        collector_turn(&collector);
        collector_pay(&collector, L);
    } while (collector.settling && ++turns < 1000);
    CHECK(!collector.settling && !collector.cycle);
    CHECK(holds(L, "return next(weak) == nil"));
    CHECK(collector.due > alloc.used);
    lua_close(L);
}

UNIT_MAIN(C(a_large_allocation_is_not_paid_for_at_once), C(nothing_is_paid_while_little_was_allocated),
          C(what_settles_is_collected_although_little_was_allocated))
