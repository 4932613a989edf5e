/* From a Lua pattern's text to its line of items; pattern.c matches them.
 *
 * Whether a capture is open at some place depends on the text before it alone, so captures, back references
 * and all faults are settled here. Faults become items, because stock Lua reports them only when it gets
 * there. */
#include "pattern_private.h"
#include <string.h>

struct compiler {
    struct pattern *p;
    const unsigned char *at, *end;
    uint32_t item_count, set_count;
};

/* The classes of bytes 0 to 127 in the C locale; higher bytes are in none. */
static bool class_bits(unsigned char letter, uint64_t bits[2])
{
    static const struct {
        unsigned char letter;
        uint64_t low, high;
    } classes[] = {
        {'a', 0, 0x07FFFFFE07FFFFFE},
        {'c', 0xFFFFFFFF, 0x8000000000000000},
        {'d', 0x03FF000000000000, 0},
        {'g', 0xFFFFFFFE00000000, 0x7FFFFFFFFFFFFFFF},
        {'l', 0, 0x07FFFFFE00000000},
        {'p', 0xFC00FFFE00000000, 0x78000001F8000001},
        {'s', 0x100003E00, 0},
        {'u', 0, 0x07FFFFFE},
        {'w', 0x03FF000000000000, 0x07FFFFFE07FFFFFE},
        {'x', 0x03FF000000000000, 0x0000007E0000007E},
        {'z', 1, 0},
    };

    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        if (classes[i].letter == letter) {
            bits[0] = classes[i].low;
            bits[1] = classes[i].high;
            return true;
        }
    }
    return false;
}

static bool is_repeat(unsigned char c)
{
    return c == '*' || c == '+' || c == '-' || c == '?';
}

static void set_add(struct pattern_set *set, unsigned char c)
{
    set->bits[c >> 6] |= (uint64_t)1 << (c & 63);
}

static void set_invert(struct pattern_set *set)
{
    for (int i = 0; i < 4; i++)
        set->bits[i] = ~set->bits[i];
}

/* Adds what "%letter" stands for: a class, its complement for a capital, or the byte itself. */
static void set_add_class(struct pattern_set *set, unsigned char letter)
{
    bool capital = letter >= 'A' && letter <= 'Z';
    struct pattern_set class = {{0}};

    if (!class_bits(capital ? letter | 0x20 : letter, class.bits)) {
        set_add(set, letter);
        return;
    }
    if (capital)
        set_invert(&class);
    for (int i = 0; i < 4; i++)
        set->bits[i] |= class.bits[i];
}

static struct pattern_item *item_add(struct compiler *c, enum pattern_op op)
{
    struct pattern_item *it = &c->p->items[c->item_count++];

    *it = (struct pattern_item){.op = (uint8_t)op};
    return it;
}

static void fault_add(struct compiler *c, enum pattern_fault fault, int arg)
{
    struct pattern_item *it = item_add(c, PATTERN_FAULT);

    it->byte = (uint8_t)arg;
    it->arg = fault;
    c->at = c->end; /* nothing behind it is ever reached */
}

static struct pattern_set *set_new(struct compiler *c, struct pattern_item *it)
{
    struct pattern_set *set = &c->p->sets[c->set_count];

    it->arg = c->set_count++;
    memset(set, 0, sizeof *set);
    return set;
}

/* Where the bracket that closes the set is, seen from behind the opening one; NULL when there is none. The
 * first byte never closes, nor does an escaped one. */
static const unsigned char *set_end(const struct compiler *c)
{
    const unsigned char *at = c->at;

    if (at < c->end && *at == '^')
        at++;
    do {
        if (at >= c->end)
            return NULL;
        if (*at++ == '%' && at < c->end)
            at++;
    } while (at >= c->end || *at != ']');
    return at;
}

/* Reads a set from behind its bracket. Ranges are looked for before escapes, so a range may end in "%". */
static void set_read(struct compiler *c, struct pattern_item *it, const unsigned char *close)
{
    struct pattern_set *set = set_new(c, it);
    bool inverted = *c->at == '^';

    for (c->at += inverted; c->at < close; c->at++) {
        if (*c->at == '%') {
            set_add_class(set, *++c->at); /* at worst the closing bracket itself */
        } else if (c->at + 2 < close && c->at[1] == '-') {
            for (int byte = c->at[0]; byte <= c->at[2]; byte++)
                set_add(set, (unsigned char)byte);
            c->at += 2;
        } else {
            set_add(set, *c->at);
        }
    }
    if (inverted)
        set_invert(set);
    c->at = close + 1;
}

/* Reads the set of "[set]" or "%f[set]"; c->at is behind the bracket. */
static void set_compile(struct compiler *c, enum pattern_op op)
{
    const unsigned char *close = set_end(c);

    if (close)
        set_read(c, item_add(c, op), close);
    else
        fault_add(c, PATTERN_NO_BRACKET, 0);
}

static void open_compile(struct compiler *c)
{
    bool mark = c->at < c->end && *c->at == ')';
    int index = c->p->captures;

    if (index == PATTERN_CAPTURES) {
        fault_add(c, PATTERN_MANY_CAPTURES, 0);
        return;
    }
    item_add(c, PATTERN_OPEN)->arg = (uint32_t)index;
    *(mark ? &c->p->marks : &c->p->open) |= 1U << index;
    c->p->captures++;
    c->at += mark;
}

static void close_compile(struct compiler *c)
{
    int index = c->p->captures - 1;

    while (index >= 0 && !(c->p->open >> index & 1))
        index--;
    if (index < 0) {
        fault_add(c, PATTERN_BAD_CLOSE, 0);
        return;
    }
    item_add(c, PATTERN_CLOSE)->arg = (uint32_t)index;
    c->p->open &= ~(1U << index);
}

static void back_compile(struct compiler *c, unsigned char digit)
{
    int index = digit - '1';

    if (index < 0 || index >= c->p->captures || c->p->open >> index & 1)
        fault_add(c, PATTERN_BAD_INDEX, index + 1);
    else if (c->p->marks >> index & 1)
        item_add(c, PATTERN_NEVER);
    else
        item_add(c, PATTERN_BACK)->arg = (uint32_t)index;
}

static void balance_compile(struct compiler *c)
{
    struct pattern_item *it;

    if (c->end - c->at < 2) {
        fault_add(c, PATTERN_NO_BALANCE, 0);
        return;
    }
    it = item_add(c, PATTERN_BALANCE);
    it->byte = *c->at++;
    it->close = *c->at++;
}

static void frontier_compile(struct compiler *c)
{
    if (c->at == c->end || *c->at != '[') {
        fault_add(c, PATTERN_NO_FRONTIER, 0);
        return;
    }
    c->at++;
    set_compile(c, PATTERN_FRONTIER);
}

/* Reads something that stands for one byte, with the repetition behind it. */
static void single_compile(struct compiler *c)
{
    unsigned char byte = *c->at++;
    uint32_t before = c->item_count;

    if (byte == '.') {
        item_add(c, PATTERN_ANY);
    } else if (byte == '[') {
        set_compile(c, PATTERN_SET);
    } else if (byte != '%') {
        item_add(c, PATTERN_BYTE)->byte = byte;
    } else if (c->at == c->end) {
        fault_add(c, PATTERN_ENDS_ESCAPE, 0);
    } else {
        set_add_class(set_new(c, item_add(c, PATTERN_SET)), *c->at++);
    }
    if (c->at < c->end && is_repeat(*c->at))
        c->p->items[before].repeat = *c->at++;
}

static void item_compile(struct compiler *c)
{
    unsigned char byte = *c->at, next = c->end - c->at > 1 ? c->at[1] : 0;

    if (byte == '(' || byte == ')') {
        c->at++;
        (byte == '(' ? open_compile : close_compile)(c);
    } else if (byte == '$' && c->at + 1 == c->end) {
        c->at++;
        item_add(c, PATTERN_END);
    } else if (byte == '%' && (next == 'b' || next == 'f')) {
        c->at += 2;
        (next == 'b' ? balance_compile : frontier_compile)(c);
    } else if (byte == '%' && next >= '0' && next <= '9') {
        c->at += 2;
        back_compile(c, next);
    } else {
        single_compile(c);
    }
}

/* Finds the item that any match must begin with, so that the search can skip to its byte. */
static void lead_find(struct pattern *p)
{
    uint32_t i = 0;
    const struct pattern_item *it;

    while (p->items[i].op == PATTERN_OPEN || p->items[i].op == PATTERN_CLOSE)
        i++;
    it = &p->items[i];
    p->lead = i;
    p->led = it->op == PATTERN_BALANCE ||
             ((it->op == PATTERN_BYTE || it->op == PATTERN_SET) && (!it->repeat || it->repeat == '+'));
}

/* Upper bounds of what the text can need: an item for each byte and the end, and so on. */
static void count(const char *text, size_t len, size_t *sets, size_t *choices)
{
    *sets = *choices = 0;
    for (size_t i = 0; i < len; i++) {
        *sets += text[i] == '[' || text[i] == '%';
        *choices += is_repeat((unsigned char)text[i]);
    }
}

size_t pattern_room(const char *text, size_t len)
{
    size_t sets, choices;

    count(text, len, &sets, &choices);
    return choices * sizeof(struct pattern_choice) + sets * sizeof(struct pattern_set) +
           (len + 2) * sizeof(struct pattern_item);
}

void pattern_compile(struct pattern *p, void *room, const char *text, size_t len, bool anchors)
{
    struct compiler c = {.p = p, .at = (const unsigned char *)text, .end = (const unsigned char *)text + len};
    size_t sets, choices;

    count(text, len, &sets, &choices);
    memset(p, 0, sizeof *p);
    p->choices = room;
    p->sets = (struct pattern_set *)(p->choices + choices);
    p->items = (struct pattern_item *)(p->sets + sets);
    if (anchors && len > 0 && *text == '^') {
        p->anchored = true;
        c.at++;
    }
    while (c.at < c.end)
        item_compile(&c);
    item_add(&c, PATTERN_MATCH);
    lead_find(p);
}
