/* Line coverage: a list of files, the one that ran last in front, with a counter for each line. */
#include "coverage.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <lauxlib.h>

/* Lines beyond are not counted: scripts are short. */
#define LINES_MAX 1000000

struct covered {
    struct covered *next;
    uint64_t *counts; /* by line, from 1 on */
    int size;
    char name[];
};

struct coverage {
    struct covered *files;
};

struct coverage *coverage_open(void)
{
    return calloc(1, sizeof(struct coverage));
}

void coverage_close(struct coverage *c)
{
    while (c && c->files) {
        struct covered *f = c->files;

        c->files = f->next;
        free(f->counts);
        free(f);
    }
    free(c);
}

/* The file of that name, made when it is new, in front of the list. NULL: not enough memory. */
static struct covered *find(struct coverage *c, const char *name)
{
    struct covered *f, **link = &c->files;

    while (*link && strcmp((*link)->name, name) != 0)
        link = &(*link)->next;
    f = *link;
    if (f) {
        *link = f->next;
    } else {
        size_t len = strlen(name) + 1;

        f = calloc(1, sizeof *f + len);
        if (!f)
            return NULL;
        memcpy(f->name, name, len);
    }
    f->next = c->files;
    c->files = f;
    return f;
}

void coverage_line(struct coverage *c, lua_State *L, lua_Debug *ar)
{
    struct covered *f;

    if (!lua_getinfo(L, "Sl", ar) || ar->source[0] != '@' || strncmp(ar->source, "@stdlib/", 8) == 0 ||
        ar->currentline < 1 || ar->currentline > LINES_MAX)
        return;
    f = find(c, ar->source + 1);
    if (!f)
        return;
    if (ar->currentline > f->size) {
        int size = ar->currentline + 256;
        uint64_t *counts = realloc(f->counts, (size_t)size * sizeof *counts);

        if (!counts)
            return;
        memset(counts + f->size, 0, (size_t)(size - f->size) * sizeof *counts);
        f->counts = counts;
        f->size = size;
    }
    f->counts[ar->currentline - 1]++;
}

void coverage_push(lua_State *L, const struct coverage *c)
{
    lua_newtable(L);
    for (const struct covered *f = c ? c->files : NULL; f; f = f->next) {
        lua_newtable(L);
        for (int i = 0; i < f->size; i++)
            if (f->counts[i]) {
                lua_pushinteger(L, (lua_Integer)f->counts[i]);
                lua_rawseti(L, -2, i + 1);
            }
        lua_setfield(L, -2, f->name);
    }
}
