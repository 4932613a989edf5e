/* Failures: the closed list of codes, and which one an errno or a libuv status is. */
#include "err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

static const char *const names[ERR_COUNT] = {
#define X(id, name) [ERR_##id] = name,
    ERR_CODES(X)
#undef X
};

const char *err_name(enum err_code code)
{
    return code < ERR_COUNT ? names[code] : "internal";
}

void err_set(struct err *e, enum err_code code, const char *fmt, ...)
{
    va_list args;

    e->code = code;
    va_start(args, fmt);
    vsnprintf(e->message, sizeof e->message, fmt, args);
    va_end(args);
}

static enum err_code code_of_errno(int errnum)
{
    switch (errnum) {
    case ENOENT:
    case ENOTDIR:
    case ESRCH:
        return ERR_NOT_FOUND;
    case EEXIST:
    case ENOTEMPTY:
        return ERR_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
    case EXDEV: /* openat2: the path leaves its root */
    case ELOOP:
        return ERR_DENIED;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
        return ERR_FULL;
    case ENOMEM:
        return ERR_MEMORY;
    case EFBIG:
    case E2BIG:
    case ENAMETOOLONG:
        return ERR_TOO_LARGE;
    case EBUSY:
    case EAGAIN:
    case ETXTBSY:
        return ERR_BUSY;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case ECONNREFUSED:
        return ERR_REFUSED;
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
        return ERR_RESET;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
        return ERR_UNREACHABLE;
    case EINVAL:
    case EISDIR:
    case EILSEQ:
        return ERR_INVALID;
    case ENOSYS:
    case EOPNOTSUPP:
    case ENOEXEC:
        return ERR_UNSUPPORTED;
    case ECANCELED:
        return ERR_CANCELLED;
    case EBADF:
        return ERR_CLOSED;
    default:
        return ERR_IO;
    }
}

void err_errno(struct err *e, int errnum, const char *what)
{
    char text[128];
    const char *words = errnum == EXDEV /* openat2's; renames report it themselves */
                            ? "the path leads out of its folder"
                            : strerror_r(errnum, text, sizeof text); /* GNU's: may or may not be the buffer */

    err_set(e, code_of_errno(errnum), "%s: %s", what, words);
}

void err_uv(struct err *e, int status, const char *what)
{
    enum err_code code;

    switch (status) {
    case UV_EAI_NONAME:
    case UV_EAI_AGAIN:
    case UV_EAI_FAIL:
    case UV_EAI_NODATA:
        code = ERR_DNS;
        break;
    case UV_EOF:
        code = ERR_CLOSED;
        break;
    default:
        code = code_of_errno(-status);
    }
    err_set(e, code, "%s: %s", what, uv_strerror(status));
}
