/* The allocation-failure seam: link-time wrappers, see the Makefile's fault variant. Empty
 * in other builds. */
#include "fault.h"

#include <stddef.h>
#include <string.h>

#ifdef MOONTIDE_FAULTS

#include <stdio.h>
#include <stdlib.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *ptr, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *ptr, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t len);

static uint64_t left; /* allocations until the failure; 0: none planned */
static bool failing, keep_failing;

uint64_t fault_allocations(uint64_t n, bool onwards)
{
    uint64_t before = left;

    left = n;
    keep_failing = onwards;
    failing = false;
    return before;
}

static bool refuse(void)
{
    if (failing)
        return keep_failing;
    if (left == 0 || --left > 0)
        return false;
    failing = true;
    return true;
}

/* MOONTIDE_FAIL_ALLOCATION=N, or N+ for all from there on: from before main, for the start of the program.
 * The end says how many were still to go, so that a sweep knows when it is past the last one. */
__attribute__((constructor)) static void plan_from_environment(void)
{
    const char *plan = getenv("MOONTIDE_FAIL_ALLOCATION");
    char *end;

    if (plan) {
        uint64_t n = strtoull(plan, &end, 10);

        fault_allocations(n, *end == '+');
    }
}

__attribute__((destructor)) static void tell_what_is_left(void)
{
    if (getenv("MOONTIDE_FAIL_ALLOCATION") && left > 0)
        fprintf(stderr, "moontide: %llu allocations were still to go\n", (unsigned long long)left);
}

void *__wrap_malloc(size_t size)
{
    return refuse() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return refuse() ? NULL : __real_calloc(count, size);
}

/* Making a block smaller never fails: Lua relies on that, and only its allocator shrinks. */
void *__wrap_realloc(void *ptr, size_t size)
{
    return refuse() ? NULL : __real_realloc(ptr, size);
}

char *__wrap_strndup(const char *text, size_t len)
{
    size_t n = strnlen(text, len);
    char *copy = refuse() ? NULL : __real_malloc(n + 1);

    if (copy) {
        memcpy(copy, text, n);
        copy[n] = '\0';
    }
    return copy;
}

char *__wrap_strdup(const char *text)
{
    return __wrap_strndup(text, strlen(text));
}

#else

uint64_t fault_allocations(uint64_t n, bool onwards)
{
    (void)n;
    (void)onwards;
    return 0;
}

#endif
