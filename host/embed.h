/* Files that are part of the binary: the stdlib, the default scripts, the manual. Generated table, see
 * Makefile. */
#ifndef MOONTIDE_EMBED_H
#define MOONTIDE_EMBED_H

#include <stdbool.h>
#include <stddef.h>

struct embed {
    const char *path; /* "stdlib/http.lua" */
    const char *text;
    size_t len;
    const char *code; /* a stdlib module's byte code; NULL: it has none */
    size_t code_len;
};

/* The generated table; embed_at(i) for i < embed_count(). */
size_t embed_count(void);
struct embed embed_at(size_t i);

/* False when there is no such file. */
bool embed_find(const char *path, struct embed *out);

/* Gives back the pages of byte code; whatever is loaded later brings its own back. */
void embed_release(void);

#endif
