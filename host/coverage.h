/* Line coverage: how often each line of people's scripts ran, for `moontide test --coverage`.
 *
 * While it is off no hook is set and nothing is counted. Once on, it stays on: every coroutine of a task has
 * the line hook of slice.c, which calls coverage_line. */
#ifndef MOONTIDE_COVERAGE_H
#define MOONTIDE_COVERAGE_H

#include <lua.h>

struct coverage;

/* NULL: not enough memory. */
struct coverage *coverage_open(void);
void coverage_close(struct coverage *c);

/* For the line hook: counts the line. Never raises; what there is no memory for is not counted. */
void coverage_line(struct coverage *c, lua_State *L, lua_Debug *ar);

/* Pushes a table: file -> line -> count. May raise. */
void coverage_push(lua_State *L, const struct coverage *c);

#endif
