/* YAML text as a flat list of nodes in document order, over libyaml's events. Knows no Lua.
 *
 * Aliases stay aliases here: the caller that walks the tree limits their cost. The tree owns its memory;
 * free it on every path. */
#ifndef MOONTIDE_YAML_TREE_H
#define MOONTIDE_YAML_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "buf.h"
#include "err.h"

enum yaml_kind { YAML_DOCUMENT, YAML_MAP, YAML_LIST, YAML_SCALAR, YAML_ALIAS };

/* What a tag says; from YAML_TYPE_MERGE on, what only values of Kubernetes objects may have. */
enum yaml_type {
    YAML_TYPE_NONE,
    YAML_TYPE_STR,
    YAML_TYPE_INT,
    YAML_TYPE_BOOL,
    YAML_TYPE_NULL,
    YAML_TYPE_MERGE,
    YAML_TYPE_OTHER,
    YAML_TYPE_FLOAT,
    YAML_TYPE_BINARY,
};

struct yaml_node {
    uint8_t kind;       /* enum yaml_kind */
    uint8_t type;       /* enum yaml_type */
    bool plain;         /* a scalar without quotes */
    uint32_t line;      /* from 1 */
    uint32_t column;    /* from 1 */
    uint32_t next;      /* the node behind this one and all inside of it */
    uint32_t target;    /* of an alias: the node that it stands for (filled in by the user of the tree) */
    uint32_t text, len; /* of a scalar, in tree->text */
    uint32_t anchor, anchor_len; /* name of an anchor or alias, in tree->text; no length: none */
};

struct yaml_tree {
    struct yaml_node *nodes;
    uint32_t count, cap;
    uint32_t documents;
    struct buf text;
    size_t line, column; /* where the fault is, from 1; 0: nowhere */
};

/* Reads all documents; `tree` starts zeroed. At most `max_nodes` nodes and VALUE_DEPTH levels. False: *e, and
 * the place in the tree. The caller frees the tree in any case. */
bool yaml_tree_read(struct yaml_tree *tree, const char *text, size_t len, uint32_t max_nodes, struct err *e);
void yaml_tree_free(struct yaml_tree *tree);

/* The fault `what` at a node: fills *e ("line 3, column 5: ...") and the place. Returns false. */
bool yaml_tree_fault(struct yaml_tree *tree, const struct yaml_node *at, enum err_code code, struct err *e,
                     const char *what);

#endif
