/* Matching of Lua patterns: the budgeted loop that replaces the C library's recursion. */
#include "pattern_private.h"
#include <string.h>

/* One attempt from one place of the text. */
struct attempt {
    const struct pattern *p;
    struct pattern_match *m;
    const struct pattern_item *it;
    size_t at;
    uint32_t depth; /* of p->choices */
};

static bool spend(struct pattern_match *m, uint64_t steps)
{
    if (steps >= m->budget) {
        m->budget = 0;
        m->fault = PATTERN_BUDGET;
        return false;
    }
    m->budget -= steps;
    return true;
}

static inline bool takes(const struct pattern *p, const struct pattern_item *it, unsigned char c)
{
    return it->op == PATTERN_ANY ||
           (it->op == PATTERN_BYTE ? it->byte == c : pattern_set_has(&p->sets[it->arg], c));
}

static inline unsigned char byte_at(const struct pattern_match *m, size_t at)
{
    return (unsigned char)m->text[at];
}

static void choice_push(struct attempt *a, size_t least, size_t at)
{
    a->p->choices[a->depth++] = (struct pattern_choice){(uint32_t)(a->it - a->p->items), least, at};
}

/* Goes back to the latest alternative. False when none is left. */
static bool retreat(struct attempt *a)
{
    while (a->depth > 0) {
        struct pattern_choice *top = &a->p->choices[a->depth - 1];
        const struct pattern_item *it = &a->p->items[top->item];

        if (it->repeat == '-') {
            if (top->at == a->m->len || !takes(a->p, it, byte_at(a->m, top->at))) {
                a->depth--;
                continue;
            }
            a->at = ++top->at;
        } else {
            a->at = --top->at;
            if (top->at == top->least)
                a->depth--;
        }
        a->it = it + 1;
        return true;
    }
    return false;
}

/* Takes as many bytes as the item repeats over, remembering that fewer would do. */
static bool repeat_greedy(struct attempt *a)
{
    const struct pattern_match *m = a->m;
    size_t to = a->at, most = a->it->repeat == '?' && to < m->len ? to + 1 : m->len;
    size_t least = a->at + (a->it->repeat == '+');

    if (a->it->op == PATTERN_ANY) {
        to = most;
    } else {
        while (to < most && takes(a->p, a->it, byte_at(m, to)))
            to++;
        if (!spend(a->m, to - a->at))
            return false;
    }
    if (to < least)
        return false;
    if (to > least)
        choice_push(a, least, to);
    a->at = to;
    return true;
}

static bool single(struct attempt *a)
{
    switch (a->it->repeat) {
    case 0:
        if (a->at == a->m->len || !takes(a->p, a->it, byte_at(a->m, a->at)))
            return false;
        a->at++;
        return true;
    case '-':
        choice_push(a, a->at, a->at);
        return true;
    default:
        return repeat_greedy(a);
    }
}

static bool back_reference(struct attempt *a)
{
    const struct pattern_match *m = a->m;
    size_t from = m->from[a->it->arg], len = m->to[a->it->arg] - from;

    if (!spend(a->m, len / 16) || m->len - a->at < len || memcmp(m->text + from, m->text + a->at, len) != 0)
        return false;
    a->at += len;
    return true;
}

static bool balance(struct attempt *a)
{
    size_t at = a->at, level = 1;

    if (at == a->m->len || byte_at(a->m, at) != a->it->byte)
        return false;
    while (++at < a->m->len) {
        unsigned char c = byte_at(a->m, at);

        if (c == a->it->close) {
            if (--level == 0)
                break;
        } else if (c == a->it->byte) {
            level++;
        }
    }
    if (!spend(a->m, at - a->at) || at == a->m->len)
        return false;
    a->at = at + 1;
    return true;
}

/* The text is taken to have a zero byte on either side. */
static bool frontier(const struct attempt *a)
{
    const struct pattern_set *set = &a->p->sets[a->it->arg];
    unsigned char before = a->at > 0 ? byte_at(a->m, a->at - 1) : 0;
    unsigned char here = a->at < a->m->len ? byte_at(a->m, a->at) : 0;

    return !pattern_set_has(set, before) && pattern_set_has(set, here);
}

/* Performs the current item. False: it does not match here, or a fault. */
static bool advance(struct attempt *a)
{
    switch (a->it->op) {
    case PATTERN_OPEN:
        a->m->from[a->it->arg] = a->at;
        return true;
    case PATTERN_CLOSE:
        a->m->to[a->it->arg] = a->at;
        return true;
    case PATTERN_BACK:
        return back_reference(a);
    case PATTERN_BALANCE:
        return balance(a);
    case PATTERN_FRONTIER:
        return frontier(a);
    case PATTERN_END:
        return a->at == a->m->len;
    case PATTERN_NEVER:
        return false;
    case PATTERN_FAULT:
        a->m->fault = (enum pattern_fault)a->it->arg;
        a->m->fault_arg = a->it->byte;
        return false;
    default:
        return single(a);
    }
}

/* Tries to match at exactly m->start. What a capture holds needs no restoring when going back: the items that
 * set it lie behind the alternative and are performed again. */
static bool match_here(const struct pattern *p, struct pattern_match *m)
{
    struct attempt a = {.p = p, .m = m, .it = p->items, .at = m->start};

    while (a.it->op != PATTERN_MATCH) {
        if (!spend(m, 1))
            return false;
        if (advance(&a))
            a.it++;
        else if (m->fault || !retreat(&a))
            return false;
    }
    m->end = a.at;
    return true;
}

/* Moves m->start to the next place where a match can begin. False when there is none. */
static bool skip_to_lead(const struct pattern *p, struct pattern_match *m)
{
    const struct pattern_item *lead = &p->items[p->lead];
    size_t at = m->start;

    if (lead->op == PATTERN_SET) {
        while (at < m->len && !pattern_set_has(&p->sets[lead->arg], byte_at(m, at)))
            at++;
    } else {
        const char *found = at < m->len ? memchr(m->text + at, lead->byte, m->len - at) : NULL;
        at = found ? (size_t)(found - m->text) : m->len;
    }
    if (!spend(m, (at - m->start) / 8) || at == m->len)
        return false;
    m->start = at;
    return true;
}

bool pattern_search(const struct pattern *p, struct pattern_match *m, size_t at, size_t not_end)
{
    m->fault = PATTERN_OK;
    for (m->start = at; m->start <= m->len; m->start++) {
        if (p->led && !p->anchored && !skip_to_lead(p, m))
            return false;
        if (match_here(p, m) && m->end != not_end)
            return true;
        if (m->fault || p->anchored)
            return false;
    }
    return false;
}

const char *pattern_fault_text(enum pattern_fault fault)
{
    switch (fault) {
    case PATTERN_BUDGET:
        return "the pattern needs too many steps for this text";
    case PATTERN_ENDS_ESCAPE:
        return "malformed pattern (ends with '%')";
    case PATTERN_NO_BRACKET:
        return "malformed pattern (missing ']')";
    case PATTERN_NO_BALANCE:
        return "malformed pattern (missing arguments to '%b')";
    case PATTERN_NO_FRONTIER:
        return "missing '[' after '%f' in pattern";
    case PATTERN_MANY_CAPTURES:
        return "too many captures";
    case PATTERN_BAD_CLOSE:
        return "invalid pattern capture";
    case PATTERN_BAD_INDEX:
        return "invalid capture index %d";
    case PATTERN_OPEN_CAPTURE:
        return "unfinished capture";
    default:
        return "no fault";
    }
}
