/* Running regular expressions and globs; regexp_compile.c makes the programs.
 *
 * All threads of the program advance over the subject together, in the order in which a backtracking engine
 * would try them, so each byte costs at most one visit per instruction. Everything lives on the C stack. */
#include "regexp_program.h"
#include <string.h>

#define NOWHERE UINT16_MAX

struct thread {
    uint16_t pc;
    uint16_t from, to; /* of the key group */
};

/* Threads in order of preference; `mark` says in which generation an instruction was added last. */
struct threads {
    struct thread list[REGEXP_PROGRAM_MAX];
    size_t count;
};

struct run {
    const struct regexp *re;
    const unsigned char *subject;
    size_t len;
    uint32_t mark[REGEXP_PROGRAM_MAX];
    uint32_t generation;
    struct thread stack[2 * REGEXP_PROGRAM_MAX];
};

static bool is_word(const struct run *r, size_t at)
{
    unsigned char c;

    if (at >= r->len)
        return false;
    c = r->subject[at];
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_boundary(const struct run *r, size_t at)
{
    return is_word(r, at) != (at > 0 && is_word(r, at - 1));
}

/* Follows everything that consumes nothing from `first` on, and lists the byte tests it leads to. */
static void threads_add(struct run *r, struct threads *to, struct thread first, size_t at)
{
    size_t depth = 0;

    r->stack[depth++] = first;
    while (depth > 0) {
        struct thread t = r->stack[--depth];
        const struct regexp_inst *in = &r->re->program[t.pc];
        bool go = true;

        if (r->mark[t.pc] == r->generation)
            continue;
        r->mark[t.pc] = r->generation;
        switch (in->op) {
        case REGEXP_BYTE:
        case REGEXP_MATCH:
            to->list[to->count++] = t;
            continue;
        case REGEXP_SPLIT:
            r->stack[depth] = t;
            r->stack[depth++].pc = in->y;
            break;
        case REGEXP_KEY_OPEN:
            t.from = (uint16_t)at;
            t.to = NOWHERE;
            break;
        case REGEXP_KEY_CLOSE:
            t.to = (uint16_t)at;
            break;
        case REGEXP_BEGIN:
            go = at == 0;
            break;
        case REGEXP_END:
            go = at == r->len;
            break;
        case REGEXP_BOUNDARY:
            go = is_boundary(r, at);
            break;
        case REGEXP_NO_BOUNDARY:
            go = !is_boundary(r, at);
            break;
        default: /* REGEXP_JUMP */
            break;
        }
        if (go) {
            r->stack[depth] = t;
            r->stack[depth++].pc = in->x;
        }
    }
}

/* Moves every thread over the byte at `at`. True when a thread matched; *found is then the preferred one, and
 * the less preferred ones are gone. */
static bool threads_step(struct run *r, const struct threads *now, struct threads *next, size_t at,
                         struct thread *found)
{
    r->generation++;
    for (size_t i = 0; i < now->count; i++) {
        struct thread t = now->list[i];
        const struct regexp_inst *in = &r->re->program[t.pc];

        if (in->op == REGEXP_MATCH) {
            *found = t;
            return true;
        }
        if (at < r->len && regexp_set_has(&r->re->sets[in->set], r->subject[at])) {
            t.pc = in->x;
            threads_add(r, next, t, at + 1);
        }
    }
    return false;
}

bool regexp_match(const struct regexp *re, const char *subject, size_t len, struct regexp_key *key)
{
    struct run r;
    struct threads lists[2];
    struct threads *now = &lists[0], *next = &lists[1];
    struct thread found = {0, NOWHERE, NOWHERE};
    bool matched = false;

    if (len > REGEXP_SUBJECT_MAX)
        return false;
    r.re = re;
    r.subject = (const unsigned char *)subject;
    r.len = len;
    r.generation = 1;
    memset(r.mark, 0, sizeof r.mark);
    now->count = next->count = 0;
    for (size_t at = 0; at <= len; at++) {
        struct threads *swap;

        if (!matched) /* a later start is less preferred than all that run */
            threads_add(&r, now, (struct thread){re->start, NOWHERE, NOWHERE}, at);
        next->count = 0;
        matched = threads_step(&r, now, next, at, &found) || matched;
        swap = now;
        now = next;
        next = swap;
        if (matched && now->count == 0)
            break;
    }
    if (key) {
        bool set = matched && re->has_key && found.from != NOWHERE && found.to != NOWHERE;
        key->data = set ? subject + found.from : NULL;
        key->len = set ? (size_t)(found.to - found.from) : 0;
    }
    return matched;
}

bool glob_match(const char *pattern, size_t pattern_len, const char *subject, size_t len)
{
    size_t p = 0, s = 0, star = 0, resume = 0;
    bool starred = false;

    while (s < len) {
        if (p < pattern_len && pattern[p] == '*') {
            starred = true; /* only the last star seen ever needs to take more */
            star = ++p;
            resume = s;
        } else if (p < pattern_len && pattern[p] == subject[s]) {
            p++;
            s++;
        } else if (starred) {
            p = star;
            s = ++resume;
        } else {
            return false;
        }
    }
    while (p < pattern_len && pattern[p] == '*')
        p++;
    return p == pattern_len;
}
