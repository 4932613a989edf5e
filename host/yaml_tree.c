/* libyaml 0.2.5 events to a flat node list: one pass, bounded nodes and depth, no recursion.
 *
 * List or object keys and directives in bulk are refused here; typing, custom tags and aliases are not our
 * business (api_yaml.c). libyaml holds memory only inside of yaml_tree_read. */
#include "yaml_tree.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>
#include "value.h"

/* libyaml compares each %TAG line with all before it; more than a few are an attack. */
#define DIRECTIVES_MAX 16

struct reader {
    struct yaml_tree *tree;
    struct err *err;
    uint32_t max_nodes;
    unsigned depth;
    uint32_t open[VALUE_DEPTH + 1]; /* the document and the containers that are not closed yet */
    bool key_next[VALUE_DEPTH + 1]; /* the next node is a key */
};

static bool fault_at(struct yaml_tree *tree, yaml_mark_t mark, enum err_code code, struct err *e,
                     const char *what, const char *context)
{
    tree->line = mark.line + 1;
    tree->column = mark.column + 1;
    err_set(e, code, "line %zu, column %zu: %s%s%s", tree->line, tree->column, what, context ? " " : "",
            context ? context : "");
    return false;
}

bool yaml_tree_fault(struct yaml_tree *tree, const struct yaml_node *at, enum err_code code, struct err *e,
                     const char *what)
{
    yaml_mark_t mark = {.line = at->line - 1, .column = at->column - 1};

    return fault_at(tree, mark, code, e, what, NULL);
}

/* The reader's buffer is UTF-8; where the scanner stopped, its pointer stands. */
static bool at_tab(const yaml_parser_t *parser)
{
    return parser->error == YAML_SCANNER_ERROR && parser->buffer.pointer < parser->buffer.last &&
           *parser->buffer.pointer == '\t';
}

/* What libyaml says about the text that it cannot read. */
static bool parser_fault(struct yaml_tree *tree, const yaml_parser_t *parser, struct err *e)
{
    if (parser->error == YAML_MEMORY_ERROR) {
        err_set(e, ERR_MEMORY, "no memory");
        return false;
    }
    if (parser->error == YAML_READER_ERROR) { /* knows only the byte; the mark is where the scanner was */
        fault_at(tree, parser->mark, ERR_INVALID, e, parser->problem ? parser->problem : "cannot be read",
                 NULL);
        return false;
    }
    if (at_tab(parser)) /* libyaml knows only that no token begins with one */
        return fault_at(tree, parser->problem_mark, ERR_INVALID, e, "a tab: YAML is indented by spaces",
                        NULL);
    return fault_at(tree, parser->problem_mark, ERR_INVALID, e,
                    parser->problem ? parser->problem : "cannot be read", parser->context);
}

static bool no_memory(struct reader *r)
{
    err_set(r->err, ERR_MEMORY, "no memory");
    return false;
}

static bool keep_text(struct reader *r, const yaml_char_t *text, size_t len, uint32_t *at, uint32_t *length)
{
    struct buf *arena = &r->tree->text;

    *at = (uint32_t)arena->len;
    *length = (uint32_t)len;
    return (arena->len + len < UINT32_MAX && buf_add(arena, text, len)) || no_memory(r);
}

static enum yaml_type read_tag(const yaml_char_t *tag, yaml_event_type_t on)
{
    static const char prefix[] = "tag:yaml.org,2002:";
    static const struct {
        const char *name;
        enum yaml_type type;
        yaml_event_type_t on;
    } known[] = {
        {"str", YAML_TYPE_STR, YAML_SCALAR_EVENT},          {"int", YAML_TYPE_INT, YAML_SCALAR_EVENT},
        {"bool", YAML_TYPE_BOOL, YAML_SCALAR_EVENT},        {"null", YAML_TYPE_NULL, YAML_SCALAR_EVENT},
        {"float", YAML_TYPE_FLOAT, YAML_SCALAR_EVENT},      {"binary", YAML_TYPE_BINARY, YAML_SCALAR_EVENT},
        {"merge", YAML_TYPE_MERGE, YAML_SCALAR_EVENT},      {"map", YAML_TYPE_NONE, YAML_MAPPING_START_EVENT},
        {"seq", YAML_TYPE_NONE, YAML_SEQUENCE_START_EVENT},
    };
    const char *name = (const char *)tag;

    if (!tag)
        return YAML_TYPE_NONE;
    if (strcmp(name, "!") == 0) /* "not resolved": a scalar is text */
        return on == YAML_SCALAR_EVENT ? YAML_TYPE_STR : YAML_TYPE_NONE;
    if (strncmp(name, prefix, sizeof prefix - 1) == 0)
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (strcmp(name + sizeof prefix - 1, known[i].name) == 0 && on == known[i].on)
                return known[i].type;
    return YAML_TYPE_OTHER;
}

/* Appends a node and tells whose turn is next in the mapping that it is in. */
static struct yaml_node *add_node(struct reader *r, const yaml_event_t *event, enum yaml_kind kind)
{
    struct yaml_tree *tree = r->tree;
    struct yaml_node *node;

    if (tree->count >= r->max_nodes) {
        fault_at(tree, event->start_mark, ERR_TOO_LARGE, r->err, "too many nodes", NULL);
        return NULL;
    }
    if (tree->count == tree->cap) {
        uint32_t cap = tree->cap ? tree->cap * 2 : 64;

        node = realloc(tree->nodes, cap * sizeof *node);
        if (!node) {
            no_memory(r);
            return NULL;
        }
        tree->nodes = node;
        tree->cap = cap;
    }
    node = &tree->nodes[tree->count++];
    memset(node, 0, sizeof *node);
    node->kind = (uint8_t)kind;
    node->line = (uint32_t)event->start_mark.line + 1;
    node->column = (uint32_t)event->start_mark.column + 1;
    node->next = tree->count;
    if (r->depth && tree->nodes[r->open[r->depth - 1]].kind == YAML_MAP) {
        bool *key = &r->key_next[r->depth - 1];

        if (*key && (kind == YAML_MAP || kind == YAML_LIST)) {
            fault_at(tree, event->start_mark, ERR_UNSUPPORTED, r->err, "a key must be a scalar", NULL);
            return NULL;
        }
        *key = !*key;
    }
    return node;
}

static bool open_node(struct reader *r, const yaml_event_t *event, enum yaml_kind kind,
                      const yaml_char_t *anchor, const yaml_char_t *tag)
{
    struct yaml_node *node;

    if (r->depth > VALUE_DEPTH) /* the document itself is a level, too */
        return fault_at(r->tree, event->start_mark, ERR_TOO_LARGE, r->err, "nested deeper than 64 levels",
                        NULL);
    node = add_node(r, event, kind);
    if (!node)
        return false;
    node->type = (uint8_t)read_tag(tag, event->type);
    r->open[r->depth] = r->tree->count - 1;
    r->key_next[r->depth++] = kind == YAML_MAP;
    return !anchor || keep_text(r, anchor, strlen((const char *)anchor), &node->anchor, &node->anchor_len);
}

static void close_node(struct reader *r)
{
    r->depth--;
    r->tree->nodes[r->open[r->depth]].next = r->tree->count;
}

static bool add_scalar(struct reader *r, const yaml_event_t *event)
{
    const yaml_char_t *anchor = event->data.scalar.anchor;
    struct yaml_node *node = add_node(r, event, YAML_SCALAR);

    if (!node)
        return false;
    node->type = (uint8_t)read_tag(event->data.scalar.tag, event->type);
    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (anchor && !keep_text(r, anchor, strlen((const char *)anchor), &node->anchor, &node->anchor_len))
        return false;
    return keep_text(r, event->data.scalar.value, event->data.scalar.length, &node->text, &node->len);
}

static bool add_alias(struct reader *r, const yaml_event_t *event)
{
    const yaml_char_t *name = event->data.alias.anchor;
    struct yaml_node *node = add_node(r, event, YAML_ALIAS);

    return node && keep_text(r, name, strlen((const char *)name), &node->anchor, &node->anchor_len);
}

static bool take_event(struct reader *r, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        r->tree->documents++;
        return open_node(r, event, YAML_DOCUMENT, NULL, NULL);
    case YAML_MAPPING_START_EVENT:
        return open_node(r, event, YAML_MAP, event->data.mapping_start.anchor, event->data.mapping_start.tag);
    case YAML_SEQUENCE_START_EVENT:
        return open_node(r, event, YAML_LIST, event->data.sequence_start.anchor,
                         event->data.sequence_start.tag);
    case YAML_DOCUMENT_END_EVENT:
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        close_node(r);
        return true;
    case YAML_SCALAR_EVENT:
        return add_scalar(r, event);
    case YAML_ALIAS_EVENT:
        return add_alias(r, event);
    default:
        return true;
    }
}

/* A directive stands at the start of a line, however libyaml lets lines end (CR, LF, U+0085, U+2028, U+2029),
 * or behind a byte order mark. */
static bool few_directives(struct yaml_tree *tree, const char *text, size_t len, struct err *e)
{
    const char *at = text, *end = text + len;
    unsigned found = 0;

    while ((at = memmem(at, (size_t)(end - at), "%TAG", 4))) {
        if ((at == text || strchr("\r\n\x85\xA8\xA9\xBF", at[-1])) && ++found > DIRECTIVES_MAX) {
            tree->line = tree->column = 1;
            err_set(e, ERR_TOO_LARGE, "too many directives");
            return false;
        }
        at += 4;
    }
    return true;
}

bool yaml_tree_read(struct yaml_tree *tree, const char *text, size_t len, uint32_t max_nodes, struct err *e)
{
    struct reader r = {.tree = tree, .err = e, .max_nodes = max_nodes};
    yaml_parser_t parser;
    bool ok = few_directives(tree, text, len, e), end = false;

    if (!ok)
        return false;
    if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) { /* libyaml counts a byte order mark as a column */
        text += 3;
        len -= 3;
    }
    if (!yaml_parser_initialize(&parser))
        return no_memory(&r);
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
    while (ok && !end) {
        yaml_event_t event;

        if (!yaml_parser_parse(&parser, &event)) {
            ok = parser_fault(tree, &parser, e);
        } else {
            end = event.type == YAML_STREAM_END_EVENT;
            ok = take_event(&r, &event);
            yaml_event_delete(&event);
        }
    }
    yaml_parser_delete(&parser);
    return ok;
}

void yaml_tree_free(struct yaml_tree *tree)
{
    free(tree->nodes);
    buf_free(&tree->text);
    tree->nodes = NULL;
    tree->count = tree->cap = 0;
}
