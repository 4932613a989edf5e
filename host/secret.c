/* The registry of secrets and the filter over it.
 *
 * A secret is stored as a handful of forms: itself and the base64 characters that it alone determines, for
 * each alignment and alphabet. Escapes are not enumerated but undone while matching, since no two encoders
 * escape the same characters. The first four bytes of each form are its key in a hash table, so a text is
 * scanned with one look-up per byte however many secrets there are. The registry owns its copies and wipes
 * them. */
#include "secret.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "codec.h"
#include "secret_unit.h"

#define KEY_LEN     4
#define LINE_MIN    16 /* lines of a multi-line secret that count alone */
#define SLOTS_MIN   256
#define PREFIX_BITS 65536u

struct form {
    char *bytes;
    size_t len;
    uint32_t next;  /* index + 1 of the next form in the same slot */
    uint32_t uses;  /* how many registrations it stands for */
    uint32_t whole; /* how many of them were of exactly these bytes */
};

struct secrets {
    struct form *forms;
    size_t count, cap;
    uint32_t *heads; /* index + 1 of a slot's first form */
    uint32_t *keys;  /* 32 bits per slot: which hashed keys exist at all */
    size_t slots;    /* a power of two */
    size_t longest;
    uint32_t prefixes[PREFIX_BITS / 32]; /* the first 1, 2 and 3 bytes of every form, hashed */
};

struct probe {
    size_t match; /* length of the longest match here */
    bool partial; /* the text ends before it is decided */
};

static uint32_t mix(uint32_t key)
{
    key *= 0x9e3779b1u;
    return key ^ (key >> 15);
}

static bool bit_get(const uint32_t *bits, uint32_t bit)
{
    return bits[bit / 32] >> bit % 32 & 1;
}

static void bit_set(uint32_t *bits, uint32_t bit)
{
    bits[bit / 32] |= 1u << bit % 32;
}

static uint32_t key_of(const char *bytes)
{
    uint32_t key;

    memcpy(&key, bytes, KEY_LEN);
    return key;
}

static uint32_t prefix_bit(const unsigned char *bytes, size_t len)
{
    uint32_t key = (uint32_t)len;

    for (size_t i = 0; i < len; i++)
        key = key << 8 | bytes[i];
    return mix(key) % PREFIX_BITS;
}

static void wipe_free(void *data, size_t len)
{
    if (data)
        explicit_bzero(data, len);
    free(data);
}

struct secrets *secrets_open(void)
{
    return calloc(1, sizeof(struct secrets));
}

void secrets_close(struct secrets *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->count; i++)
        wipe_free(s->forms[i].bytes, s->forms[i].len);
    free(s->forms);
    free(s->heads);
    free(s->keys);
    wipe_free(s, sizeof *s);
}

size_t secrets_longest(const struct secrets *s)
{
    return s ? s->longest * ESCAPE_WIDTH : 0;
}

static void link_form(struct secrets *s, size_t index)
{
    struct form *form = &s->forms[index];
    uint32_t hash = mix(key_of(form->bytes)), *head = &s->heads[hash & (s->slots - 1)];

    form->next = *head;
    *head = (uint32_t)index + 1;
    bit_set(s->keys, hash & (uint32_t)(s->slots * 32 - 1));
}

static bool grow_table(struct secrets *s)
{
    size_t slots = s->slots ? s->slots * 2 : SLOTS_MIN;
    uint32_t *heads = calloc(slots, sizeof *heads), *keys = calloc(slots, sizeof *keys);

    if (!heads || !keys) {
        free(heads);
        free(keys);
        return false;
    }
    free(s->heads);
    free(s->keys);
    s->heads = heads;
    s->keys = keys;
    s->slots = slots;
    for (size_t i = 0; i < s->count; i++)
        link_form(s, i);
    return true;
}

/* Room for one more form; the table keeps at most half of its slots filled. */
static bool make_room(struct secrets *s)
{
    if (s->count == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 16;
        struct form *forms = realloc(s->forms, cap * sizeof *forms);

        if (!forms)
            return false;
        s->forms = forms;
        s->cap = cap;
    }
    return s->slots >= 2 * (s->count + 1) || grow_table(s);
}

/* The first form whose key may be the one at `key`, as index + 1. */
static uint32_t candidates(const struct secrets *s, const char *key)
{
    uint32_t hash = mix(key_of(key));

    return bit_get(s->keys, hash & (uint32_t)(s->slots * 32 - 1)) ? s->heads[hash & (s->slots - 1)] : 0;
}

static struct form *find_form(const struct secrets *s, const char *bytes, size_t len)
{
    for (uint32_t i = s->slots ? candidates(s, bytes) : 0; i; i = s->forms[i - 1].next)
        if (s->forms[i - 1].len == len && memcmp(s->forms[i - 1].bytes, bytes, len) == 0)
            return &s->forms[i - 1];
    return NULL;
}

/* What is done with each form of a value. */
typedef bool (*form_fn)(struct secrets *s, const char *bytes, size_t len);

static bool add_form(struct secrets *s, const char *bytes, size_t len)
{
    struct form *known;
    char *copy;

    if (len < KEY_LEN || !make_room(s))
        return len < KEY_LEN;
    known = find_form(s, bytes, len);
    if (known) {
        known->uses += known->uses < UINT32_MAX;
        return true;
    }
    copy = malloc(len);
    if (!copy)
        return false;
    memcpy(copy, bytes, len);
    s->forms[s->count] = (struct form){.bytes = copy, .len = len, .uses = 1};
    link_form(s, s->count++);
    if (len > s->longest)
        s->longest = len;
    for (size_t n = 1; n < KEY_LEN; n++)
        bit_set(s->prefixes, prefix_bit((const unsigned char *)bytes, n));
    return true;
}

/* Only counts; secrets_drop then removes what is of no use. */
static bool drop_form(struct secrets *s, const char *bytes, size_t len)
{
    struct form *known = len < KEY_LEN ? NULL : find_form(s, bytes, len);

    if (known && known->uses > 0 && known->uses < UINT32_MAX)
        known->uses--;
    return true;
}

/* The base64 characters that the value alone determines when `shift` other bytes stand before it: a character
 * holds 6 bits, and those that share one with a neighbour are left out. */
static bool each_base64(struct secrets *s, const char *value, size_t len, form_fn fn)
{
    size_t room = base64_encoded(len + 2), padded = len + 2;
    char *plain = calloc(1, padded), *text = malloc(room);
    bool ok = plain && text;

    for (size_t shift = 0; ok && shift < 3; shift++)
        for (enum base64_kind kind = BASE64; ok && kind <= BASE64_URL; kind++) {
            size_t from = (shift * 8 + 5) / 6, to = (shift + len) * 8 / 6;

            memcpy(plain + shift, value, len);
            base64_encode(text, plain, shift + len, kind);
            ok = fn(s, text + from, to - from);
        }
    wipe_free(plain, padded);
    wipe_free(text, room);
    return ok;
}

static bool each_form(struct secrets *s, const char *value, size_t len, form_fn fn)
{
    return fn(s, value, len) && each_base64(s, value, len, fn);
}

static bool each_value(struct secrets *s, const char *value, size_t len, form_fn fn)
{
    const char *end = value + len;
    size_t lines = 0;

    if (len < KEY_LEN || !each_form(s, value, len, fn))
        return false;
    for (const char *at = value, *stop; at < end; at = stop + 1) {
        stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop)
            stop = end;
        lines += stop > at;
    }
    /* A file's last newline is no part of the secret as people use it; so a single line counts
     * in any case. */
    for (const char *at = value, *stop; at < end; at = stop + 1) {
        stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop)
            stop = end;

        size_t line = (size_t)(stop - at);

        if (line && at[line - 1] == '\r')
            line--;
        if (line < len && line >= (lines == 1 ? KEY_LEN : LINE_MIN) && strncmp(at, "-----", 5) != 0 &&
            !each_form(s, at, line, fn))
            return false;
    }
    return true;
}

bool secrets_add(struct secrets *s, const char *value, size_t len)
{
    if (!each_value(s, value, len, add_form))
        return false; /* what was added stays hidden, and cannot be removed */
    find_form(s, value, len)->whole++;
    return true;
}

/* A value that is a line of another secret, but was never registered itself, cannot be removed.
 * Without memory some of its forms stay hidden. `longest` and `prefixes` stay, too: they may only be too
 * large. */
void secrets_drop(struct secrets *s, const char *value, size_t len)
{
    struct form *own = s && len >= KEY_LEN ? find_form(s, value, len) : NULL;
    size_t kept = 0;

    if (!own || !own->whole)
        return;
    own->whole--;
    each_value(s, value, len, drop_form);
    for (size_t i = 0; i < s->count; i++) {
        if (s->forms[i].uses > 0)
            s->forms[kept++] = s->forms[i];
        else
            wipe_free(s->forms[i].bytes, s->forms[i].len);
    }
    if (kept == s->count)
        return;
    s->count = kept;
    memset(s->heads, 0, s->slots * sizeof *s->heads);
    memset(s->keys, 0, s->slots * sizeof *s->keys);
    for (size_t i = 0; i < kept; i++)
        link_form(s, i);
}

/* Compares a form with the text; the outcome is added to *p. */
static void match_form(const struct form *form, const char *t, size_t left, enum spelling how,
                       struct probe *p)
{
    size_t at = 0, i = 0;

    if (how == PLAIN) {
        if (memcmp(form->bytes, t, left < form->len ? left : form->len) != 0)
            return;
        i = form->len;
        at = i;
    }
    while (i < form->len) {
        struct unit u = {0};

        if (at < left)
            u = secret_unit(t + at, left - at, how);
        if (!u.used) {
            p->partial = true;
            return;
        }
        if (u.len > form->len - i || memcmp(form->bytes + i, u.bytes, u.len) != 0)
            return;
        at += u.used;
        i += u.len;
    }
    if (at > left)
        p->partial = true;
    else if (at > p->match)
        p->match = at;
}

/* The first four bytes that the text spells here; fewer only when it ends before. */
static size_t spelled_key(const char *t, size_t left, enum spelling how, unsigned char key[KEY_LEN])
{
    size_t at = 0, n = 0;

    while (n < KEY_LEN && at < left) {
        struct unit u = secret_unit(t + at, left - at, how);

        if (!u.used)
            break;
        for (size_t i = 0; i < u.len && n < KEY_LEN; i++)
            key[n++] = u.bytes[i];
        at += u.used;
    }
    return n;
}

/* A text being scanned, and where each escape character comes next (at `len` when it does not). */
struct cursor {
    const char *text;
    size_t len, at;
    size_t escape[SPELLINGS];
};

static void probe_spelling(const struct secrets *s, const struct cursor *c, enum spelling how,
                           struct probe *p)
{
    const char *t = c->text + c->at;
    size_t left = c->len - c->at;
    unsigned char key[KEY_LEN];
    size_t n = spelled_key(t, left, how, key);

    if (n < KEY_LEN) {
        p->partial = p->partial || n == 0 || bit_get(s->prefixes, prefix_bit(key, n));
        return;
    }
    for (uint32_t i = candidates(s, (char *)key); i; i = s->forms[i - 1].next)
        match_form(&s->forms[i - 1], t, left, how, p);
}

/* Moves on while nothing can begin here: no form has this key, and no escape is near enough to change it. */
static void skip_ordinary(const struct secrets *s, struct cursor *c)
{
    size_t stop = c->len < KEY_LEN ? 0 : c->len - KEY_LEN + 1;

    for (enum spelling how = PERCENT; how < SPELLINGS; how++) {
        if (c->escape[how] < c->at) {
            const char *found = memchr(c->text + c->at, secret_escapes[how], c->len - c->at);

            c->escape[how] = found ? (size_t)(found - c->text) : c->len;
        }
        if (c->escape[how] < c->len && c->escape[how] < stop + KEY_LEN - 1)
            stop = c->escape[how] < KEY_LEN ? 0 : c->escape[how] - KEY_LEN + 1;
    }
    while (c->at < stop && !candidates(s, c->text + c->at))
        c->at++;
}

static struct probe probe_all(const struct secrets *s, const struct cursor *c)
{
    struct probe p = {0};

    for (enum spelling how = PLAIN; how < SPELLINGS; how++)
        if (how == PLAIN || c->escape[how] < c->len)
            probe_spelling(s, c, how, &p);
    return p;
}

/* Filters text[0..len); the first `covered` bytes are under a mark already. Returns how far it is decided
 * (all of it when `last`), moves *covered to what is under a mark beyond that, or SIZE_MAX without memory. */
static size_t scan(const struct secrets *s, const char *text, size_t len, bool last, size_t *covered,
                   struct buf *out)
{
    struct cursor c = {.text = text, .len = len};
    size_t shown = *covered, hidden = *covered;

    for (enum spelling how = PERCENT; how < SPELLINGS; how++) {
        const char *found = memchr(text, secret_escapes[how], len);

        c.escape[how] = found ? (size_t)(found - text) : len;
    }
    for (; c.at < len; c.at++) {
        skip_ordinary(s, &c);

        struct probe p = probe_all(s, &c);

        if (p.partial && !last)
            break;
        if (!p.match)
            continue;
        if (c.at >= hidden) { /* overlapping secrets share one mark */
            if (!buf_add(out, text + shown, c.at - shown) || !buf_text(out, SECRET_MARK))
                return SIZE_MAX;
        }
        if (c.at + p.match > hidden)
            hidden = c.at + p.match;
        shown = hidden;
    }
    if (c.at > shown && !buf_add(out, text + shown, c.at - shown))
        return SIZE_MAX;
    *covered = hidden > c.at ? hidden - c.at : 0;
    return c.at;
}

static bool take_back(struct buf *out, size_t len)
{
    if (out->data && out->len > len) {
        explicit_bzero(out->data + len, out->len - len);
        out->len = len;
    }
    return false;
}

bool secrets_filter(struct secrets *s, const char *text, size_t len, struct buf *out)
{
    size_t covered = 0, before = out->len;

    if (len == 0)
        return true;
    if (!s || !s->count)
        return buf_add(out, text, len);
    return scan(s, text, len, true, &covered, out) != SIZE_MAX || take_back(out, before);
}

bool secrets_feed(struct secrets *s, struct secrets_tail *tail, const char *text, size_t len, bool last,
                  struct buf *out)
{
    size_t before = out->len, kept = tail->held.len, covered = tail->covered;

    /* What is held goes first, also when the secret that it might have begun was dropped meanwhile. */
    if (!s || (!s->count && !kept))
        return !len || buf_add(out, text, len);
    if (len && !buf_add(&tail->held, text, len))
        return false;

    size_t done = tail->held.len ? scan(s, tail->held.data, tail->held.len, last, &covered, out) : 0;

    if (done == SIZE_MAX) {
        tail->held.len = kept;
        return take_back(out, before);
    }
    tail->covered = covered;
    if (last)
        secrets_tail_free(tail);
    else
        buf_skip(&tail->held, done);
    return true;
}

void secrets_tail_free(struct secrets_tail *tail)
{
    if (tail->held.data)
        explicit_bzero(tail->held.data, tail->held.cap);
    buf_free(&tail->held);
    tail->covered = 0;
}
