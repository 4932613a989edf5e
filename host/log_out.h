/* Bytes of a log onto its descriptor; used by log.c only. */
#ifndef MOONTIDE_LOG_OUT_H
#define MOONTIDE_LOG_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "log.h"

/* Writes a whole line. False: not all of it went out. */
bool log_out(struct log *log, const char *line, size_t len);

/* Milliseconds that never jump. */
uint64_t log_now(void);

#endif
