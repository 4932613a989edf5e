/* Hostile text made safe to print: one line, valid UTF-8, nothing that moves a cursor or turns the reading
 * direction. Knows no Lua and keeps nothing. */
#ifndef MOONTIDE_LOG_TEXT_H
#define MOONTIDE_LOG_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "buf.h"

/* Control characters, direction marks, and what is invisible: never printed as they are. */
bool log_hidden(uint32_t code);

/* Appends for eyes: hidden characters as \n, \x1b, \u202e, other bytes as \xff. With `quote` the text gets
 * quotes where it would otherwise be ambiguous (empty, with spaces, quotes or =). */
bool log_plain(struct buf *out, const char *text, size_t len, bool quote);

/* At most `max` bytes of the text, not cutting a character in two. */
size_t log_cut(const char *text, size_t len, size_t max);

#endif
