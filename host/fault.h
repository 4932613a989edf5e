/* Allocation failures on purpose, in the `fault` build only: the n-th allocation of our own objects and of
 * the static libraries fails, and optionally all that follow. The start of the program is reached by the
 * environment, see fault.c. */
#ifndef MOONTIDE_FAULT_H
#define MOONTIDE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

/* n = 0 switches it off. Returns how many allocations were still to go (0: the failure has happened). */
uint64_t fault_allocations(uint64_t n, bool onwards);

#endif
