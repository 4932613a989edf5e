/* YAML nodes to Lua values: typing, aliases, merge keys, lines. */
#ifndef MOONTIDE_YAML_BUILD_H
#define MOONTIDE_YAML_BUILD_H

#include <stdbool.h>
#include <stdint.h>
#include <lua.h>
#include "buf.h"
#include "err.h"
#include "yaml_tree.h"

/* Owned by a closable userdata of the binding; yaml_build_free drops the tree and the path. */
struct yaml_build {
    struct yaml_tree tree;
    struct buf path; /* of the value under construction, when marks are wanted */
    struct err err;
    uint64_t nodes, max_nodes; /* built so far, each use of an alias counted */
    uint64_t bytes, max_bytes; /* of scalars and of mark paths */
    unsigned depth;
    int marks; /* stack index of the table of marks; 0: not wanted */
    bool null_as_nil;
    bool kubernetes; /* scalars mean what kubectl takes them for */
};

/* Finds what every alias of the tree stands for; once, before building. False: b->err.
 * raises (memory only) */
bool yaml_build_link(lua_State *L, struct yaml_build *b);

/* Pushes the value of the node. False: b->err, and the stack holds leftovers. raises (memory only) */
bool yaml_build_value(lua_State *L, struct yaml_build *b, uint32_t node);

void yaml_build_free(struct yaml_build *b);

#endif
