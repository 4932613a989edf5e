/* YAML writer over libyaml's emitter: deterministic block style that reads back as the same value. */
#ifndef MOONTIDE_YAML_WRITE_H
#define MOONTIDE_YAML_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <lua.h>
#include "err.h"

struct yaml_writer;

/* Registers the writer's userdata class. raises */
void yaml_writer_open(lua_State *L);

/* Pushes a writer, a closable userdata that owns the emitter and the text (at most `max` bytes). raises */
struct yaml_writer *yaml_writer_push(lua_State *L, size_t max);

/* Writes the value at `index`, or each item of the list there as a document of its own. False: see
 * yaml_writer_error. raises (memory only) */
bool yaml_write(lua_State *L, struct yaml_writer *w, int index, bool all);
const struct err *yaml_writer_error(const struct yaml_writer *w);

/* Pushes the text. raises (memory only) */
void yaml_writer_text(lua_State *L, const struct yaml_writer *w);

#endif
