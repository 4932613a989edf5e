/* The build's tool for embedded files: reads their names, one a line, and prints the generated table as C.
 *
 *     embed_make CODE <NAMES >TABLE
 *
 * A module of the stdlib is compiled here, once, and its byte code is appended to the file CODE. The names in
 * it (of locals, upvalues, lines) are kept: tracebacks are those of the text. Policies stay text: a run
 * records it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <lauxlib.h>

#define FILES_MAX 4096

struct file {
    char name[256];
    long code, code_len;
};

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "embed_make: %s: %s\n", what, why);
    return 1;
}

static int append(lua_State *L, const void *part, size_t len, void *to)
{
    (void)L;
    return fwrite(part, 1, len, to) != len;
}

static int compile(lua_State *L, struct file *file, FILE *code)
{
    if (luaL_loadfilex(L, file->name, "t") != LUA_OK)
        return fail(file->name, lua_tostring(L, -1));
    file->code = ftell(code);
    if (lua_dump(L, append, code, 0) != 0)
        return fail(file->name, "its byte code cannot be written");
    file->code_len = ftell(code) - file->code;
    lua_settop(L, 0);
    return 0;
}

/* Byte code lies apart from the texts: what of it is read brings no page of them into memory. */
static void print_file(int i, const struct file *file, const char *code)
{
    printf("__asm__(\".section .rodata.embed_text,\\\"a\\\"\\n\"\n"
           "        \"text_%d: .incbin \\\"%s\\\"\\ntext_end_%d: .byte 0\\n\"\n",
           i, file->name, i);
    if (file->code_len > 0)
        printf("        \".section .rodata.embed_code,\\\"a\\\"\\n\"\n"
               "        \"code_%d: .incbin \\\"%s\\\", %ld, %ld\\n\"\n",
               i, code, file->code, file->code_len);
    printf("        \".previous\\n\");\nextern const char text_%d[], text_end_%d[]", i, i);
    printf(file->code_len > 0 ? ", code_%d[];\n" : ";\n", i);
}

static void print_table(const struct file *files, int count)
{
    puts("static const struct { const char *path, *text, *text_end, *code; size_t code_len; } files[] = {");
    for (int i = 0; i < count; i++) {
        printf("    { \"%s\", text_%d, text_end_%d, ", files[i].name, i, i);
        if (files[i].code_len > 0)
            printf("code_%d, %ld },\n", i, files[i].code_len);
        else
            puts("0, 0 },");
    }
    puts("};\n"
         "size_t embed_count(void) { return sizeof files / sizeof *files; }\n"
         "struct embed embed_at(size_t i)\n"
         "{\n"
         "    struct embed e = { files[i].path, files[i].text, (size_t)(files[i].text_end - files[i].text),\n"
         "                       files[i].code, files[i].code_len };\n"
         "    return e;\n"
         "}");
}

int main(int argc, char **argv)
{
    static struct file files[FILES_MAX];
    lua_State *L = luaL_newstate();
    FILE *code = argc == 2 ? fopen(argv[1], "wb") : NULL;
    int count = 0;

    if (!L || !code)
        return fail("usage", "embed_make CODE <NAMES >TABLE");
    puts("#include \"embed.h\"");
    while (count < FILES_MAX && scanf("%255s", files[count].name) == 1) {
        struct file *file = &files[count];

        if (strncmp(file->name, "stdlib/", 7) == 0 && compile(L, file, code) != 0)
            return 1;
        print_file(count++, file, argv[1]);
    }
    print_table(files, count);
    lua_close(L);
    return fclose(code) != 0 || fflush(stdout) != 0 ? fail(argv[1], "cannot be written") : 0;
}
