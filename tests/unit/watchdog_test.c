/* The watchdog: a script that keeps the loop is noticed, also when the first hook is lost. */
#include <lauxlib.h>
#include <unistd.h>
#include "unit.h"
#include "watchdog.h"

static int calls;

static void lose_the_first(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    if (++calls > 1)
        luaL_error(L, "noticed");
}

static int spin(lua_State *L, struct watchdog *w)
{
    int status;

    watchdog_run(w, L);
    status = luaL_dostring(L, "while true do end");
    watchdog_run(w, NULL);
    return status;
}

UNIT(a_hook_that_is_lost_is_set_again)
{
    struct watchdog *w = watchdog_open(lose_the_first);
    lua_State *L = luaL_newstate();

    CHECK(w && L);
    alarm(20); /* a watchdog that sleeps would keep us for ever */
    CHECK(spin(L, w) != 0);
    CHECK_INT(calls, 2);
    CHECK(spin(L, w) != 0); /* and the next slice is watched from its beginning */
    CHECK_INT(calls, 3);
    alarm(0);
    lua_close(L);
    watchdog_close(w);
}

UNIT_MAIN(C(a_hook_that_is_lost_is_set_again))
