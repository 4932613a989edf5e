# Writes the table of embedded files as C: one .incbin for each file name read, and the three lookups.
{
    name[NR - 1] = $0
    printf "__asm__(\".section .rodata\\nembed_%d: .incbin \\\"%s\\\"\\nembed_end_%d: .byte 0\\n.previous\\n\");\n", NR - 1, $0, NR - 1
    printf "extern const char embed_%d[], embed_end_%d[];\n", NR - 1, NR - 1
}
END {
    print "#include \"embed.h\""
    print "static const struct { const char *name, *start, *end; } files[] = {"
    for (i = 0; i < NR; i++)
        printf "    { \"%s\", embed_%d, embed_end_%d },\n", name[i], i, i
    print "};"
    print "size_t embed_count(void) { return sizeof files / sizeof *files; }"
    print "struct embed embed_at(size_t i)"
    print "{"
    print "    struct embed e = { files[i].name, files[i].start, (size_t)(files[i].end - files[i].start) };"
    print "    return e;"
    print "}"
}
