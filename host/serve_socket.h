/* Listening sockets: loopback TCP, and unix sockets that only their owner can reach.
 *
 * Knows neither Lua nor HTTP. A unix socket lives in a directory that is ours and closed to others; it is
 * made when it is missing. */
#ifndef MOONTIDE_SERVE_SOCKET_H
#define MOONTIDE_SERVE_SOCKET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "err.h"

struct serve_socket {
    int fd;
    uint16_t port; /* TCP: the real one, also when 0 was asked for */
    char *path;    /* unix: owned; NULL for TCP */
    dev_t dev;     /* the file that we made, so that no other is removed */
    ino_t ino;
};

/* `address` is an IP address in text. False: *e says why, nothing is open. */
bool serve_socket_tcp(struct serve_socket *s, const char *address, uint16_t port, struct err *e);
/* `group` (NULL: none) may connect, too: its name or number. */
bool serve_socket_unix(struct serve_socket *s, const char *path, const char *group, struct err *e);

/* Closes it and removes the socket file, unless another one is there. Harmless when closed. */
void serve_socket_close(struct serve_socket *s);

#endif
