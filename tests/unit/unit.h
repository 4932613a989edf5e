/* A unit test of a C room: a program of UNIT cases that prints one line each and exits 1 when any failed. */
#ifndef MOONTIDE_UNIT_H
#define MOONTIDE_UNIT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit_case {
    const char *name;
    void (*run)(void);
};

static int unit_failures;

#define UNIT(name) static void unit_##name(void)

#define CHECK(expr)                                                                                          \
    do {                                                                                                     \
        if (!(expr)) {                                                                                       \
            printf("  %s:%d: not true: %s\n", __FILE__, __LINE__, #expr);                                    \
            unit_failures++;                                                                                 \
        }                                                                                                    \
    } while (0)

#define CHECK_INT(got, want)                                                                                 \
    do {                                                                                                     \
        long long got_ = (long long)(got), want_ = (long long)(want);                                        \
        if (got_ != want_) {                                                                                 \
            printf("  %s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #got, got_, want_);                \
            unit_failures++;                                                                                 \
        }                                                                                                    \
    } while (0)

#define CHECK_STR(got, want)                                                                                 \
    do {                                                                                                     \
        const char *got_ = (got), *want_ = (want);                                                           \
        if (!got_ || strcmp(got_, want_) != 0) {                                                             \
            printf("  %s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, #got, got_ ? got_ : "(null)",  \
                   want_);                                                                                   \
            unit_failures++;                                                                                 \
        }                                                                                                    \
    } while (0)

static inline int unit_main(const struct unit_case *cases, size_t count)
{
    int failed = 0;

    for (size_t i = 0; i < count; i++) {
        unit_failures = 0;
        cases[i].run();
        printf("%s %s\n", unit_failures ? "not ok" : "ok", cases[i].name);
        failed += unit_failures != 0;
    }
    printf("%zu passed, %d failed\n", count - (size_t)failed, failed);
    return failed ? 1 : 0;
}

/* UNIT_MAIN(C(first), C(second)) */
// clang-format off
#define C(name) {#name, unit_##name}
// clang-format on
#define UNIT_MAIN(...)                                                                                       \
    int main(void)                                                                                           \
    {                                                                                                        \
        static const struct unit_case cases[] = {__VA_ARGS__};                                               \
        return unit_main(cases, sizeof cases / sizeof *cases);                                               \
    }

#endif
