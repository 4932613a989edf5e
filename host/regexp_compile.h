/* What the two halves of the regular expression compiler share. Nobody else includes this. */
#ifndef MOONTIDE_REGEXP_COMPILE_H
#define MOONTIDE_REGEXP_COMPILE_H

#include "regexp_program.h"

enum { NODES_MAX = 4 * REGEXP_PATTERN_MAX, UNLIMITED = -1 };

enum node_kind { NODE_EMPTY, NODE_SET, NODE_CAT, NODE_ALT, NODE_REPEAT, NODE_KEY, NODE_ASSERT };

struct node {
    enum node_kind kind;
    int16_t a, b; /* children; a set's index; an assertion's op */
    int16_t min, max;
    bool lazy;
};

struct regexp_compiler {
    struct regexp *re;
    const char *start, *at, *end;
    struct err *e;
    bool fold, dot_all;
    int depth, work;
    int node_count;
    struct node nodes[NODES_MAX];
};

/* Records the first reason; always -1. */
int regexp_refuse(struct regexp_compiler *c, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Adds a byte, and its other case while (?i) holds. */
void regexp_add_byte(struct regexp_compiler *c, struct regexp_set *set, unsigned char byte);

/* Reads what follows a backslash into the set. *byte (may be NULL) is the byte it stands for, -1
 * for a class. */
bool regexp_take_escape(struct regexp_compiler *c, struct regexp_set *set, int *byte);

/* Reads what follows an opening bracket. */
bool regexp_take_class(struct regexp_compiler *c, struct regexp_set *set);

bool regexp_is_word(char c);

#endif
