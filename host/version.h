/* The version of this build, from git; its own object, so that a commit rebuilds nothing else. */
#ifndef MOONTIDE_VERSION_H
#define MOONTIDE_VERSION_H

extern const char moontide_version[];

#endif
