/* Plain values: what JSON, YAML and SQLite agree on. Knows no Lua; the part that does is value_lua.h.
 *
 * The deepest nesting, and the way to a value inside of another one. Nothing here keeps memory. */
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

#endif
