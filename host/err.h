/* Failures as plain C values. Knows no Lua; err_lua.h turns one into the error that scripts see.
 *
 * The codes are a closed list; scripts compare codes, never texts. */
#ifndef MOONTIDE_ERR_H
#define MOONTIDE_ERR_H

#define ERR_CODES(X)                                                                                         \
    X(NONE, "none")                                                                                          \
    X(CANCELLED, "cancelled")     /* the waiting task was cancelled */                                       \
    X(DEADLINE, "deadline")       /* the task's own time was up */                                           \
    X(BUDGET, "budget")           /* a limited script used up its processor time */                          \
    X(MEMORY, "memory")           /* no memory, or a limited script used up its own */                       \
    X(TIMEOUT, "timeout")         /* the other side was too slow */                                          \
    X(REFUSED, "refused")         /* nothing listens there */                                                \
    X(UNREACHABLE, "unreachable") /* no route, host down */                                                  \
    X(DNS, "dns")                 /* the name does not resolve */                                            \
    X(TLS, "tls")                 /* certificate or handshake */                                             \
    X(RESET, "reset")             /* the connection broke */                                                 \
    X(CLOSED, "closed")           /* the handle or the peer is closed */                                     \
    X(PROTOCOL, "protocol")       /* the answer breaks the protocol */                                       \
    X(REDIRECT, "redirect")       /* a redirect we will not follow */                                        \
    X(TOO_LARGE, "too_large")     /* over a size, depth or count limit */                                    \
    X(NOT_FOUND, "not_found")                                                                                \
    X(EXISTS, "exists")                                                                                      \
    X(DENIED, "denied")             /* permission, or outside of a root */                                   \
    X(UNAUTHORIZED, "unauthorized") /* credentials are missing or wrong */                                   \
    X(INVALID, "invalid")           /* the input cannot be understood */                                     \
    X(UNSUPPORTED, "unsupported")                                                                            \
    X(BUSY, "busy")         /* locked, or too many at once; try later */                                     \
    X(CONFLICT, "conflict") /* it was changed in between */                                                  \
    X(RATE_LIMITED, "rate_limited")                                                                          \
    X(FULL, "full")           /* no space, no descriptors */                                                 \
    X(IO, "io")               /* the device or the system failed */                                          \
    X(STATUS, "status")       /* an HTTP status that the caller called bad */                                \
    X(EXIT, "exit")           /* an exit status that the caller called bad */                                \
    X(SIGNAL, "signal")       /* a child ended by a signal */                                                \
    X(MISMATCH, "mismatch")   /* a digest, size or type is not the promised one */                           \
    X(UNHEALTHY, "unhealthy") /* a release does not prove itself */                                          \
    X(DIVERGED, "diverged")   /* a run no longer matches its journal */                                      \
    X(FAILED, "failed")       /* refused for a reason of its own */                                          \
    X(SCRIPT, "script")       /* a script's own mistake, with its traceback */                               \
    X(INTERNAL, "internal")   /* our own bug */

enum err_code {
#define X(id, name) ERR_##id,
    ERR_CODES(X)
#undef X
        ERR_COUNT
};

struct err {
    enum err_code code; /* ERR_NONE: no failure */
    char message[256];
};

/* Name of a code as scripts see it ("timeout"). */
const char *err_name(enum err_code code);

/* Fills *e from a format, an errno, or a libuv status (negative). `what` leads the message. Truncates. */
void err_set(struct err *e, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void err_errno(struct err *e, int errnum, const char *what);
void err_uv(struct err *e, int status, const char *what);

#endif
