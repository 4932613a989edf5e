/* A fuzz target: a function that libFuzzer calls with bytes of its choice. HOLDS ends the run when a promise
 * is broken; crashes, leaks, undefined behaviour and slowness end it by themselves. Input is cut into pieces
 * so that one file can hold several arguments. */
#ifndef MOONTIDE_FUZZ_H
#define MOONTIDE_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOLDS(expr)                                                                                          \
    do {                                                                                                     \
        if (!(expr)) {                                                                                       \
            fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #expr);                       \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

struct fuzz_input {
    const char *at, *end;
};

struct fuzz_piece {
    const char *data;
    size_t len;
};

/* The bytes up to the next newline (or the end), which is dropped. */
static inline struct fuzz_piece fuzz_line(struct fuzz_input *in)
{
    size_t left = (size_t)(in->end - in->at);
    const char *stop = left ? memchr(in->at, '\n', left) : NULL;
    struct fuzz_piece piece = {in->at, stop ? (size_t)(stop - in->at) : left};

    in->at = stop ? stop + 1 : in->end;
    return piece;
}

#endif
