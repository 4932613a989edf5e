/* Bounded versions of what Lua's string and table libraries do in C loops.
 *
 * No debug hook fires inside of C, so whatever could run or grow there without end is replaced before any
 * script runs. Called once by host_open, after the libraries are open. */
#ifndef MOONTIDE_TEXT_H
#define MOONTIDE_TEXT_H

#include <stddef.h>
#include <lua.h>

/* Key in the registry of what sys.steady was given. */
#define FORMAT_STEADY "moontide.steady"

#define TEXT_STEPS      10000000 /* steps of one pattern call, and TEXT_STEPS_BYTE more per byte of text */
#define TEXT_STEPS_BYTE 4
#define TEXT_MAX        ((size_t)64 << 20) /* bytes that string.rep, string.gsub, table.concat may make */

/* Lets an armed watchdog act when a C function is about to take long: runs Lua instructions, since hooks fire
 * at nothing else. C functions can call each other without any in between, as in s:gsub(p, string.find). */
void text_pulse(lua_State *L);

/* The same where the task may be set aside: then the C function goes on in k. */
void text_pulse_k(lua_State *L, lua_KContext context, lua_KFunction k);

#endif
