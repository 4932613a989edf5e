/* Plain values: what JSON, YAML and SQLite agree on. Knows no Lua; the part that does is value_lua.h.
 *
 * The deepest nesting, the way to a value inside of another one, one check of UTF-8. Nothing here keeps
 * memory. */
#ifndef MOONTIDE_VALUE_H
#define MOONTIDE_VALUE_H

#include <stdbool.h>
#include <stddef.h>

/* Nesting that the formats accept, read and written. */
#define VALUE_DEPTH 64

/* The way to a value inside of another one, for messages: "apps[2].name". */
struct value_path {
    unsigned depth;
    struct value_step {
        const char *key; /* NULL: an index */
        size_t len;
        long long index;
    } steps[VALUE_DEPTH];
};

/* Prints the path, cut where it gets long, without bytes that a terminal could take for orders; "the value"
 * when it is empty. Always NUL-terminated. */
void value_path_print(const struct value_path *path, char *to, size_t size);

/* Length of the longest valid UTF-8 prefix (no surrogates, no overlong forms, up to U+10FFFF). */
size_t value_utf8(const char *text, size_t len);

#endif
