/* Ranges of versions, by the rules of Masterminds/semver v3, which Helm and Flux users write.
 *
 *     range = group { "||" group }      group = rule { blank | "," rule }      rule = [op] operand
 *     op    = "=" "!=" ">" "<" ">=" "=>" "<=" "=<" "~" "~>" "^"     also `operand - operand`, with blanks
 *
 * Operands are loose versions (`v`, `1.2`, leading zeros) whose numbers may end in x, X or *. A pre-release
 * is only in a group that names one itself. Two oddities of the original are not copied: `~0.0.0` is not
 * "anything" but >=0.0.0 <0.1.0, and a bare wildcard means anything (with > < != nothing) whatever the
 * operator. An empty range means anything, an empty group beside a "||" is an error. */
#include "semver.h"
#include <string.h>

enum { MAX_RULES = 64 }; /* in one group */

enum op { OP_NONE, OP_NE, OP_GT, OP_LT, OP_GE, OP_LE, OP_TILDE, OP_CARET };

struct rule {
    struct semver v; /* absent numbers are 0 */
    enum op op;
    int numbers; /* how many numbers it really names: 0 to 3 */
};

struct scan {
    const char *at, *end;
};

static const struct semver_part ZERO = {"0", 1};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static void skip_blanks(struct scan *s)
{
    while (s->at < s->end && is_blank(*s->at))
        s->at++;
}

static bool take(struct scan *s, const char *text)
{
    size_t len = strlen(text);

    if ((size_t)(s->end - s->at) < len || memcmp(s->at, text, len) != 0)
        return false;
    s->at += len;
    return true;
}

static enum op take_op(struct scan *s)
{
    static const struct {
        const char *text;
        enum op op;
    } ops[] = {/* longer ones first */
               {"!=", OP_NE},   {">=", OP_GE},    {"=>", OP_GE}, {"<=", OP_LE},
               {"=<", OP_LE},   {"~>", OP_TILDE}, {">", OP_GT},  {"<", OP_LT},
               {"~", OP_TILDE}, {"^", OP_CARET},  {"=", OP_NONE}};

    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        if (take(s, ops[i].text))
            return ops[i].op;
    }
    return OP_NONE;
}

static bool ends_operand(char c)
{
    return is_blank(c) || c == ',' || c == '|';
}

/* Numbers and wildcards of an operand; leaves *s behind them. After a wildcard no number counts. */
static bool take_numbers(struct scan *s, struct rule *r)
{
    struct semver_part *numbers[] = {&r->v.major, &r->v.minor, &r->v.patch};
    bool open = false;

    for (int i = 0; i < 3; i++) {
        const char *start;

        *numbers[i] = ZERO;
        if (i > 0 && !take(s, "."))
            continue;
        if (take(s, "x") || take(s, "X") || take(s, "*")) {
            open = true;
            continue;
        }
        start = s->at;
        while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
            s->at++;
        if (s->at == start)
            return false;
        while (s->at - start > 1 && *start == '0')
            start++;
        if (!open) {
            *numbers[i] = (struct semver_part){start, (size_t)(s->at - start)};
            r->numbers = i + 1;
        }
    }
    return true;
}

/* Reads one operand. Its tail is checked by the version parser itself, behind three harmless numbers. */
static bool take_operand(struct scan *s, struct rule *r)
{
    char probe[SEMVER_MAX + 8] = "0.0.0";
    struct semver tail;
    const char *start;
    size_t len;

    take(s, "v");
    start = s->at;
    if (!take_numbers(s, r))
        return false;
    if (s->at - start > SEMVER_MAX)
        return false;
    start = s->at;
    while (s->at < s->end && !ends_operand(*s->at))
        s->at++;
    len = (size_t)(s->at - start);
    if (len > SEMVER_MAX - 5)
        return false;
    memcpy(probe + 5, start, len);
    if (!semver_parse(&tail, probe, 5 + len))
        return false;
    if (tail.pre.data)
        r->v.pre = (struct semver_part){start + 1, tail.pre.len};
    return true;
}

static bool same_major(const struct semver *a, const struct semver *b)
{
    return semver_equal_part(a->major, b->major);
}

static bool same_minor(const struct semver *a, const struct semver *b)
{
    return same_major(a, b) && semver_equal_part(a->minor, b->minor);
}

static bool is_zero(struct semver_part n)
{
    return n.len == 1 && *n.data == '0';
}

/* Whether v lies in the block that the operand names: all of 1.x, all of 1.2.x, or just 1.2.3. */
static bool in_block(const struct rule *r, const struct semver *v)
{
    switch (r->numbers) {
    case 0:
        return true;
    case 1:
        return same_major(v, &r->v);
    case 2:
        return same_minor(v, &r->v);
    default:
        return semver_compare(v, &r->v) == 0;
    }
}

static bool in_caret(const struct rule *r, const struct semver *v)
{
    if (r->numbers <= 1 || !is_zero(r->v.major))
        return same_major(v, &r->v);
    if (r->numbers == 2 || !is_zero(r->v.minor))
        return same_minor(v, &r->v);
    return same_minor(v, &r->v) && semver_equal_part(v->patch, r->v.patch);
}

static bool rule_allows(const struct rule *r, const struct semver *v)
{
    int order = semver_compare(v, &r->v);

    switch (r->op) {
    case OP_NE:
        return !in_block(r, v);
    case OP_GT:
        return order > 0 && !in_block(r, v);
    case OP_LT:
        return order < 0;
    case OP_GE:
        return order >= 0;
    case OP_LE:
        return order < 0 || in_block(r, v);
    case OP_TILDE:
        return order >= 0 &&
               (r->numbers <= 1 ? r->numbers == 0 || same_major(v, &r->v) : same_minor(v, &r->v));
    case OP_CARET:
        return order >= 0 && (r->numbers == 0 || in_caret(r, v));
    default:
        return r->numbers == 3 ? order == 0 : order >= 0 && in_block(r, v);
    }
}

/* Reads a rule, or both rules of a hyphen range. Returns how many, 0 when it is none. */
static int take_rules(struct scan *s, struct rule out[2])
{
    struct scan ahead;

    memset(out, 0, 2 * sizeof *out);
    ahead = *s;
    out[0].op = take_op(s);
    bool plain = s->at == ahead.at;
    skip_blanks(s);
    if (!take_operand(s, &out[0]))
        return 0;
    ahead = *s;
    skip_blanks(&ahead);
    if (!plain || ahead.at == s->at || !take(&ahead, "-") || ahead.at == ahead.end || !is_blank(*ahead.at))
        return 1;
    skip_blanks(&ahead);
    if (!take_operand(&ahead, &out[1]))
        return 0;
    *s = ahead;
    out[0].op = OP_GE;
    out[1].op = OP_LE;
    return 2;
}

/* Reads a group up to "||" or the end. Returns how many rules, 0 when it cannot be understood. */
static int take_group(struct scan *s, struct rule *rules, int max)
{
    int count = 0;

    for (;;) {
        int got = count + 2 <= max ? take_rules(s, rules + count) : 0;
        const char *before;

        if (!got)
            return 0;
        count += got;
        before = s->at;
        skip_blanks(s);
        if (s->at == s->end || *s->at == '|')
            return count;
        if (take(s, ","))
            skip_blanks(s);
        else if (s->at == before)
            return 0;
    }
}

static bool group_allows(const struct rule *rules, int count, const struct semver *v)
{
    bool pre = !v->pre.data;

    for (int i = 0; i < count && !pre; i++)
        pre = rules[i].v.pre.data != NULL;
    for (int i = 0; i < count && pre; i++)
        pre = rule_allows(&rules[i], v);
    return pre;
}

bool semver_satisfies(const struct semver *v, const char *range, size_t len, struct err *e)
{
    struct rule rules[MAX_RULES];
    struct scan s = {range, range + len};
    bool allowed = false;

    e->code = ERR_NONE;
    if (len > SEMVER_RANGE_MAX) {
        err_set(e, ERR_TOO_LARGE, "a range may have %d bytes, this one has %zu", SEMVER_RANGE_MAX, len);
        return false;
    }
    skip_blanks(&s);
    if (s.at == s.end)
        return !v->pre.data;
    for (;;) {
        int count;

        skip_blanks(&s);
        count = take_group(&s, rules, MAX_RULES);
        if (!count)
            break;
        allowed = allowed || group_allows(rules, count, v);
        if (s.at == s.end)
            return allowed;
        if (!take(&s, "||"))
            break;
    }
    err_set(e, ERR_INVALID, "not a version range: \"%.*s\", at byte %d", (int)(len > 100 ? 100 : len), range,
            (int)(s.at - range) + 1);
    return false;
}
