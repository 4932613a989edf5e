/* The watchdog: notices a script that keeps the loop for too long.
 *
 * No hook is set while scripts behave (a permanent count hook costs 2x). A one-shot POSIX timer, armed by the
 * first slice that finds it unarmed, sets a count hook on the coroutine that is then running; the hook
 * (slice.c) decides: give the loop a turn, or end the script. While the same slice goes on, the timer sets
 * the hook again now and then: Lua can lose one. */
#ifndef MOONTIDE_WATCHDOG_H
#define MOONTIDE_WATCHDOG_H

#include <stdbool.h>
#include <lua.h>

struct watchdog;

#define WATCHDOG_SLICE_MS 5
#define WATCHDOG_AGAIN_MS 100

struct watchdog *watchdog_open(lua_Hook hook);
void watchdog_close(struct watchdog *w);

/* Around every slice: which coroutine runs. NULL: none. */
void watchdog_run(struct watchdog *w, lua_State *co);

#endif
