/* JSON strings: quoting, and undoing one escape. Knows no Lua, keeps nothing. */
#ifndef MOONTIDE_JSON_TEXT_H
#define MOONTIDE_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "buf.h"

/* Appends a quoted string. Characters for which `hidden` (may be NULL) answers true are escaped besides those
 * that must be; bytes that are not UTF-8 become U+FFFD, escaped when there is `hidden`. False: memory or the
 * limit. */
bool json_quote(struct buf *out, const char *text, size_t len, bool (*hidden)(uint32_t code));

/* Undoes the escape at `text`, a backslash, of which `left` characters are there. Returns how many bytes of
 * UTF-8 it stands for; *used is how many characters it takes. 0: it is no escape (a lone surrogate is none),
 * or the text ends inside of it, then *used is 0. */
size_t json_unescape(char out[4], const char *text, size_t left, size_t *used);

#endif
