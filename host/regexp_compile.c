/* From a regular expression's text to a program: a tree first, because counted repetitions are written out.
 *
 * Patterns come from the configuration, yet every loop is bounded: nesting, tree and program have fixed room,
 * and the work of writing out nested repetitions is counted too. regexp_class.c reads bracket expressions and
 * escapes. */
#include "regexp_compile.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { WORK_MAX = 20 * REGEXP_PROGRAM_MAX };

static int parse_alternatives(struct regexp_compiler *c);

int regexp_refuse(struct regexp_compiler *c, enum err_code code, const char *fmt, ...)
{
    char why[128];
    va_list args;

    if (c->e->code != ERR_NONE)
        return -1;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    err_set(c->e, code, "regular expression: %s, at byte %d", why, (int)(c->at - c->start) + 1);
    return -1;
}

static int node_new(struct regexp_compiler *c, enum node_kind kind, int a, int b)
{
    struct node *n;

    if (a < 0 || b < 0)
        return -1;
    if (c->node_count == NODES_MAX)
        return regexp_refuse(c, ERR_TOO_LARGE, "too many parts");
    n = &c->nodes[c->node_count];
    memset(n, 0, sizeof *n);
    n->kind = kind;
    n->a = (int16_t)a;
    n->b = (int16_t)b;
    return c->node_count++;
}

static int node_set(struct regexp_compiler *c, const struct regexp_set *set)
{
    struct regexp *re = c->re;
    int i;

    for (i = 0; i < re->set_count; i++) {
        if (memcmp(&re->sets[i], set, sizeof *set) == 0)
            return node_new(c, NODE_SET, i, 0);
    }
    if (i == REGEXP_SETS_MAX)
        return regexp_refuse(c, ERR_TOO_LARGE, "more than %d different bytes and classes", REGEXP_SETS_MAX);
    re->sets[re->set_count++] = *set;
    return node_new(c, NODE_SET, i, 0);
}

static bool peek(const struct regexp_compiler *c, const char *text)
{
    size_t len = strlen(text);
    return (size_t)(c->end - c->at) >= len && memcmp(c->at, text, len) == 0;
}

static bool take(struct regexp_compiler *c, const char *text)
{
    if (!peek(c, text))
        return false;
    c->at += strlen(text);
    return true;
}

/* Reads a group's name and its `>`. True when it is the key group. */
static bool take_name(struct regexp_compiler *c, bool *key)
{
    const char *name = c->at;

    while (c->at < c->end && regexp_is_word(*c->at))
        c->at++;
    *key = c->at - name == 7 && memcmp(name, "compare", 7) == 0;
    if (c->at == name || !take(c, ">"))
        return regexp_refuse(c, ERR_INVALID, "a group's name is not finished") == 0;
    return true;
}

/* Reads flags up to `)` or `:`. False when there is something else among them. */
static bool take_flags(struct regexp_compiler *c)
{
    bool on = true;

    for (; c->at < c->end && *c->at != ')' && *c->at != ':'; c->at++) {
        if (*c->at == '-')
            on = false;
        else if (*c->at == 'i')
            c->fold = on;
        else if (*c->at == 's')
            c->dot_all = on;
        else
            return false;
    }
    return c->at < c->end;
}

/* Reads what follows an opening parenthesis. */
static int parse_group(struct regexp_compiler *c)
{
    bool fold = c->fold, dot_all = c->dot_all, key = false;
    int body;

    if (take(c, "?P<") || take(c, "?<")) {
        if (!take_name(c, &key))
            return -1;
    } else if (take(c, "?")) {
        if (!take_flags(c))
            return regexp_refuse(c, ERR_UNSUPPORTED, "only (?:, (?i), (?s) and (?P<name> may follow \"(?\"");
        if (take(c, ")")) /* from here to the end of the enclosing group */
            return node_new(c, NODE_EMPTY, 0, 0);
        c->at++;
    }
    if (key && c->re->has_key)
        return regexp_refuse(c, ERR_INVALID, "two groups are named \"compare\"");
    c->re->has_key = c->re->has_key || key;
    if (++c->depth > REGEXP_NEST_MAX)
        return regexp_refuse(c, ERR_TOO_LARGE, "more than %d groups in each other", REGEXP_NEST_MAX);
    body = parse_alternatives(c);
    c->depth--;
    if (body >= 0 && !take(c, ")"))
        return regexp_refuse(c, ERR_INVALID, "a group is not closed");
    c->fold = fold;
    c->dot_all = dot_all;
    return key ? node_new(c, NODE_KEY, body, 0) : body;
}

static int node_assert(struct regexp_compiler *c, enum regexp_op op)
{
    return node_new(c, NODE_ASSERT, op, 0);
}

static int parse_escape(struct regexp_compiler *c)
{
    struct regexp_set set = {{0}};

    if (take(c, "b"))
        return node_assert(c, REGEXP_BOUNDARY);
    if (take(c, "B"))
        return node_assert(c, REGEXP_NO_BOUNDARY);
    if (take(c, "A"))
        return node_assert(c, REGEXP_BEGIN);
    if (take(c, "z"))
        return node_assert(c, REGEXP_END);
    return regexp_take_escape(c, &set, NULL) ? node_set(c, &set) : -1;
}

static int parse_atom(struct regexp_compiler *c)
{
    struct regexp_set set = {{0}};

    switch (*c->at++) {
    case '(':
        return parse_group(c);
    case '[':
        return regexp_take_class(c, &set) ? node_set(c, &set) : -1;
    case '\\':
        return parse_escape(c);
    case '^':
        return node_assert(c, REGEXP_BEGIN);
    case '$':
        return node_assert(c, REGEXP_END);
    case '.':
        memset(&set, 0xff, sizeof set);
        if (!c->dot_all)
            set.bits['\n' >> 5] &= ~(1U << ('\n' & 31));
        return node_set(c, &set);
    case '*':
    case '+':
    case '?':
        c->at--;
        return regexp_refuse(c, ERR_INVALID, "nothing to repeat");
    default:
        regexp_add_byte(c, &set, (unsigned char)c->at[-1]);
        return node_set(c, &set);
    }
}

static bool take_count(struct regexp_compiler *c, int *count)
{
    const char *start = c->at;

    for (*count = 0; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
        if (*count <= REGEXP_REPEAT_MAX)
            *count = *count * 10 + (*c->at - '0');
    }
    return c->at > start;
}

/* Reads {n}, {n,} or {n,m}; anything else that begins with a brace is an ordinary byte. */
static bool take_braces(struct regexp_compiler *c, int *min, int *max)
{
    const char *start = c->at++;

    if (!take_count(c, min))
        goto plain;
    *max = *min;
    if (take(c, ",")) {
        *max = UNLIMITED;
        if (!peek(c, "}") && !take_count(c, max))
            goto plain;
    }
    if (take(c, "}"))
        return true;
plain:
    c->at = start;
    return false;
}

static bool take_repeat(struct regexp_compiler *c, int *min, int *max)
{
    if (c->at == c->end)
        return false;
    if (*c->at == '{')
        return take_braces(c, min, max);
    *min = *c->at == '+';
    *max = *c->at == '?' ? 1 : UNLIMITED;
    return take(c, "*") || take(c, "+") || take(c, "?");
}

static int parse_repeat(struct regexp_compiler *c)
{
    int atom = parse_atom(c), min, max;

    if (atom < 0 || !take_repeat(c, &min, &max))
        return atom;
    if (min > REGEXP_REPEAT_MAX || max > REGEXP_REPEAT_MAX)
        return regexp_refuse(c, ERR_TOO_LARGE, "a count is over %d", REGEXP_REPEAT_MAX);
    if (max != UNLIMITED && min > max)
        return regexp_refuse(c, ERR_INVALID, "a count runs backwards");
    atom = node_new(c, NODE_REPEAT, atom, 0);
    if (atom < 0)
        return -1;
    c->nodes[atom].min = (int16_t)min;
    c->nodes[atom].max = (int16_t)max;
    c->nodes[atom].lazy = take(c, "?");
    if (take_repeat(c, &min, &max))
        return regexp_refuse(c, ERR_INVALID, "two repetitions in a row");
    return atom;
}

static int parse_sequence(struct regexp_compiler *c)
{
    int all = node_new(c, NODE_EMPTY, 0, 0);

    while (all >= 0 && c->at < c->end && *c->at != '|' && *c->at != ')')
        all = node_new(c, NODE_CAT, all, parse_repeat(c));
    return all;
}

static int parse_alternatives(struct regexp_compiler *c)
{
    int all = parse_sequence(c);

    while (all >= 0 && take(c, "|"))
        all = node_new(c, NODE_ALT, all, parse_sequence(c));
    return all;
}

static int emit(struct regexp_compiler *c, enum regexp_op op, int set, int x, int y)
{
    struct regexp *re = c->re;

    if (x < 0 || y < 0)
        return -1;
    if (re->size == REGEXP_PROGRAM_MAX)
        return regexp_refuse(c, ERR_TOO_LARGE, "too large once its repetitions are written out");
    re->program[re->size] = (struct regexp_inst){(uint8_t)op, (uint8_t)set, (uint16_t)x, (uint16_t)y};
    return re->size++;
}

static int emit_node(struct regexp_compiler *c, int index, int next);

static int emit_repeat(struct regexp_compiler *c, const struct node *n, int next)
{
    int entry = next, copies = n->min;

    if (n->max == UNLIMITED) {
        int split = emit(c, REGEXP_SPLIT, 0, next, next), body = emit_node(c, n->a, split);
        if (split < 0 || body < 0)
            return -1;
        *(n->lazy ? &c->re->program[split].y : &c->re->program[split].x) = (uint16_t)body;
        entry = copies > 0 ? body : split;
        copies -= copies > 0;
    } else {
        for (int i = n->min; i < n->max && entry >= 0; i++) {
            int body = emit_node(c, n->a, entry);
            entry = n->lazy ? emit(c, REGEXP_SPLIT, 0, next, body) : emit(c, REGEXP_SPLIT, 0, body, next);
        }
    }
    while (copies-- > 0 && entry >= 0)
        entry = emit_node(c, n->a, entry);
    return entry;
}

/* Writes the node so that it goes on at `next`; returns where it begins. */
static int emit_node(struct regexp_compiler *c, int index, int next)
{
    const struct node *n = &c->nodes[index];

    if (next < 0)
        return -1;
    if (++c->work > WORK_MAX)
        return regexp_refuse(c, ERR_TOO_LARGE, "too large once its repetitions are written out");
    switch (n->kind) {
    case NODE_SET:
        return emit(c, REGEXP_BYTE, n->a, next, 0);
    case NODE_CAT:
        return emit_node(c, n->a, emit_node(c, n->b, next));
    case NODE_ALT: {
        int other = emit_node(c, n->b, next);
        return emit(c, REGEXP_SPLIT, 0, emit_node(c, n->a, next), other);
    }
    case NODE_REPEAT:
        return emit_repeat(c, n, next);
    case NODE_KEY:
        return emit(c, REGEXP_KEY_OPEN, 0, emit_node(c, n->a, emit(c, REGEXP_KEY_CLOSE, 0, next, 0)), 0);
    case NODE_ASSERT:
        return emit(c, (enum regexp_op)n->a, 0, next, 0);
    default: /* NODE_EMPTY */
        return next;
    }
}

bool regexp_compile(struct regexp *re, const char *pattern, size_t len, struct err *e)
{
    struct regexp_compiler c = {.re = re, .start = pattern, .at = pattern, .end = pattern + len, .e = e};
    int tree, start;

    memset(re, 0, sizeof *re);
    e->code = ERR_NONE;
    if (len > REGEXP_PATTERN_MAX)
        return regexp_refuse(&c, ERR_TOO_LARGE, "over %d bytes long", REGEXP_PATTERN_MAX) == 0;
    tree = parse_alternatives(&c);
    if (tree >= 0 && c.at < c.end)
        tree = regexp_refuse(&c, ERR_INVALID, "a group is closed that was not opened");
    if (tree < 0)
        return false;
    start = emit_node(&c, tree, emit(&c, REGEXP_MATCH, 0, 0, 0));
    re->start = start < 0 ? 0 : (uint16_t)start;
    return start >= 0;
}
