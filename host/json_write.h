/* Our own JSON writer: canonical, so that equal values give equal text. */
#ifndef MOONTIDE_JSON_WRITE_H
#define MOONTIDE_JSON_WRITE_H

#include <stdbool.h>
#include <lua.h>
#include "buf.h"
#include "err.h"

struct json_style {
    bool pretty; /* two spaces a level, one member a line */
    bool clean;  /* invalid UTF-8 becomes U+FFFD instead of a fault */
};

/* Appends the value at `index` to `out`, whose `max` is the limit of the text. False: *e says what cannot be
 * written and where in the value. The caller owns `out`, also when this raises. */
bool json_write(lua_State *L, int index, const struct json_style *style, struct buf *out, struct err *e);

#endif
