/* Bytes of a log onto its descriptor; used by log.c only. */
#ifndef MOONTIDE_LOG_OUT_H
#define MOONTIDE_LOG_OUT_H

#include <stddef.h>
#include "log.h"

/* Writes a whole line, or counts it as lost. */
void log_out(struct log *log, const char *line, size_t len);

/* Says how many lines were lost, if any were and somebody reads again. */
void log_out_lost(struct log *log);

#endif
