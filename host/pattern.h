/* Lua 5.4 patterns with a budget, as plain C.
 *
 * A debug hook does not fire inside of C, so one hostile string.find could hold the whole host for hours.
 * Here a pattern is translated once into a list of items and matched without recursion: the items form a
 * straight line, so each has at most one open alternative and the stack of alternatives is never longer than
 * the list. Every step is counted against the caller's budget. Knows no Lua; the caller owns all memory. */
#ifndef MOONTIDE_PATTERN_H
#define MOONTIDE_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PATTERN_CAPTURES 32

enum pattern_fault {
    PATTERN_OK,
    PATTERN_BUDGET,        /* the steps are used up */
    PATTERN_ENDS_ESCAPE,   /* "%" at the end */
    PATTERN_NO_BRACKET,    /* "[" without "]" */
    PATTERN_NO_BALANCE,    /* "%b" without two bytes */
    PATTERN_NO_FRONTIER,   /* "%f" without a set */
    PATTERN_MANY_CAPTURES, /* more than PATTERN_CAPTURES */
    PATTERN_BAD_CLOSE,     /* ")" without "(" */
    PATTERN_BAD_INDEX,     /* "%n" of a capture that is not complete there; fault_arg is n */
    PATTERN_OPEN_CAPTURE   /* "(" without ")", found when the capture is asked for */
};

/* One element of the line. */
struct pattern_item {
    uint8_t op, repeat, byte, close; /* `close`: the second byte of %b */
    uint32_t arg;                    /* a set's index, a capture's index, a fault */
};

struct pattern_set {
    uint64_t bits[4];
};

/* An alternative to go back to. */
struct pattern_choice {
    uint32_t item;
    size_t least, at;
};

struct pattern {
    struct pattern_item *items;
    struct pattern_set *sets;
    struct pattern_choice *choices; /* room for one per item: makes a pattern usable by one match at a time */
    int captures;
    uint32_t open;  /* bit i: capture i is never closed */
    uint32_t marks; /* bit i: capture i is a position */
    bool anchored;
    uint32_t lead; /* the item whose byte a match must begin with */
    bool led;      /* ... when there is such an item */
};

/* How much memory pattern_compile may use for a pattern of that text, aligned as malloc does. */
size_t pattern_room(const char *text, size_t len);

/* Translates; never fails: a malformed pattern faults when a match reaches the place, as in stock Lua. With
 * `anchors` a leading "^" anchors, otherwise (gmatch) it is an ordinary byte. */
void pattern_compile(struct pattern *p, void *room, const char *text, size_t len, bool anchors);

struct pattern_match {
    const char *text;
    size_t len;
    uint64_t budget;   /* steps that are left */
    size_t start, end; /* of the match */
    size_t from[PATTERN_CAPTURES], to[PATTERN_CAPTURES];
    enum pattern_fault fault;
    int fault_arg;
};

/* Looks for the first match that begins at `at` or later (only there when anchored) and does not end at
 * `not_end` (SIZE_MAX: may end anywhere), which is how gsub and gmatch step over empty matches. False: no
 * match, or m->fault. */
bool pattern_search(const struct pattern *p, struct pattern_match *m, size_t at, size_t not_end);

/* The fault in words; may contain one %d, for fault_arg. */
const char *pattern_fault_text(enum pattern_fault fault);

#endif
