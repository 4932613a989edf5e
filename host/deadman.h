/* The dead man's switch: a timer of the kernel that ends the process unless it is set again in time. It needs
 * neither the loop nor Lua, goes on while the process is stopped or the machine sleeps, and strikes before
 * any other code of a process that was stopped for too long. One for a process; called by api_sys.c. */
#ifndef MOONTIDE_DEADMAN_H
#define MOONTIDE_DEADMAN_H

#include <stdbool.h>

/* EX_TEMPFAIL of sysexits.h: start me again. */
#define DEADMAN_STATUS 75

/* Sets it anew; 0 or less takes it away. False, with errno, when there is no timer to be had. */
bool deadman_set(double seconds);

#endif
