/* How a text may spell a secret: one step of undoing an encoding. Used by secret.c only. */
#ifndef MOONTIDE_SECRET_UNIT_H
#define MOONTIDE_SECRET_UNIT_H

#include <stddef.h>

enum spelling { PLAIN, PERCENT, WEBFORM, JSON, SPELLINGS };

/* The character that begins an escape of each spelling. */
extern const char secret_escapes[SPELLINGS];

#define ESCAPE_WIDTH 6 /* \u00XX: the widest spelling of one byte */

struct unit {
    unsigned char bytes[4];
    size_t len;  /* how many bytes it stands for */
    size_t used; /* how many characters it takes; 0: the text ends inside of it */
};

/* The unit at `t`, of which `left` (at least one) characters are there. What is no escape
 * stands for itself. */
struct unit secret_unit(const char *t, size_t left, enum spelling how);

#endif
