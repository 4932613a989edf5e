/* The watchdog: notices a script that keeps the loop for too long.
 *
 * No hook is set while scripts behave (a permanent count hook costs 2x). A one-shot POSIX timer, armed by the
 * first slice that finds it unarmed, sets a count hook on the coroutine that is then running; the hook
 * (slice.c) decides: give the loop a turn, end the script, or try again at the timer's next tick.
 * While the same slice goes on, the timer sets the hook again now and then: Lua can lose one. */
#ifndef MOONTIDE_WATCHDOG_H
#define MOONTIDE_WATCHDOG_H

#include <stdbool.h>
#include <lua.h>

struct watchdog;

#define WATCHDOG_SLICE_MS 5
#define WATCHDOG_LOST_MS  100

struct watchdog *watchdog_open(lua_Hook hook);

/* From now on the hook that it sets is one of lines, too. */
void watchdog_lines(struct watchdog *w);
void watchdog_close(struct watchdog *w);

/* A slice begins. */
void watchdog_begin(struct watchdog *w, lua_State *co);

/* Which coroutine of the slice runs now. NULL: none, the slice is over. */
void watchdog_run(struct watchdog *w, lua_State *co);

/* Which one runs; NULL: none. */
lua_State *watchdog_running(const struct watchdog *w);

/* For the hook: this slice goes on, and is looked at again when it has taken as long once more. */
void watchdog_again(struct watchdog *w);

/* Another coroutine of the same slice goes on: what was found out before is now its to act on. */
void watchdog_back(struct watchdog *w, lua_State *co);

#endif
