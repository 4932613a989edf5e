/* The version of this build. */
#include "version.h"

const char moontide_version[] = MOONTIDE_VERSION;
