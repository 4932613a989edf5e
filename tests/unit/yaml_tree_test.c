/* YAML text to nodes: shape, places, limits, and the texts that are meant to be slow. */
#include "unit.h"
#include <time.h>
#include "yaml_tree.h"

static const char *read_code(const char *text, size_t len, uint32_t nodes, struct yaml_tree *kept)
{
    struct yaml_tree tree = {0};
    struct err e = {.code = ERR_NONE};
    bool ok = yaml_tree_read(&tree, text, len, nodes, &e);

    if (kept)
        *kept = tree;
    yaml_tree_free(&tree);
    return ok ? "none" : err_name(e.code);
}

UNIT(lists_nodes_in_order)
{
    const char *text = "a: [1, 'x']\nb: &q {}\n--- *q\n";
    struct yaml_tree t = {0};
    struct err e;

    CHECK(yaml_tree_read(&t, text, strlen(text), 100, &e));
    CHECK_INT(t.documents, 2);
    CHECK_INT(t.count, 10);
    CHECK_INT(t.nodes[0].kind, YAML_DOCUMENT);
    CHECK_INT(t.nodes[0].next, 8);
    CHECK_INT(t.nodes[1].kind, YAML_MAP);
    CHECK_INT(t.nodes[1].next, 8);
    CHECK_INT(t.nodes[2].kind, YAML_SCALAR);
    CHECK(t.nodes[2].plain);
    CHECK_INT(t.nodes[3].kind, YAML_LIST);
    CHECK_INT(t.nodes[3].next, 6);
    CHECK(!t.nodes[5].plain);
    CHECK_INT(t.nodes[7].line, 2);
    CHECK_INT(t.nodes[7].column, 4);
    CHECK_INT(t.nodes[7].anchor_len, 1);
    CHECK_INT(t.nodes[9].kind, YAML_ALIAS);
    CHECK_INT(t.nodes[9].line, 3);
    yaml_tree_free(&t);
}

UNIT(tells_what_tags_say)
{
    static const struct {
        const char *text;
        enum yaml_type type;
    } tagged[] = {
        {"!ruby/object:File {}", YAML_TYPE_OTHER},
        {"!!python/none ''", YAML_TYPE_OTHER},
        {"!!map 1", YAML_TYPE_OTHER},
        {"!!int [1]", YAML_TYPE_OTHER},
        {"!!seq [1]", YAML_TYPE_NONE},
        {"! 1", YAML_TYPE_STR},
        {"! {}", YAML_TYPE_NONE},
        {"!!merge <<", YAML_TYPE_MERGE},
        {"!!binary aGk=", YAML_TYPE_BINARY},
        {"\xEF\xBB\xBF!!float 1", YAML_TYPE_FLOAT},
    };

    for (size_t i = 0; i < sizeof tagged / sizeof *tagged; i++) {
        struct yaml_tree t = {0};
        struct err e = {0};

        CHECK(yaml_tree_read(&t, tagged[i].text, strlen(tagged[i].text), 100, &e));
        CHECK_INT(t.nodes[1].type, tagged[i].type);
        CHECK_INT(t.nodes[1].column, 1);
        yaml_tree_free(&t);
    }
}

UNIT(says_where)
{
    static const struct {
        const char *text, *code;
        size_t line, column;
    } bad[] = {
        {"a: [1\nb: 2", "invalid", 2, 2},    {"a: 1\n b: 2\n", "invalid", 2, 3},
        {"? [a]\n: b", "unsupported", 1, 3}, {"{ {a: 1}: b }", "unsupported", 1, 3},
        {"a: \"\\ud800\"", "invalid", 1, 7}, {"%YAML 9.9\n--- a", "invalid", 1, 1},
        {"a: \t- b", "invalid", 1, 5},
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct yaml_tree t;

        CHECK_STR(read_code(bad[i].text, strlen(bad[i].text), 100, &t), bad[i].code);
        if (t.line != bad[i].line || t.column != bad[i].column)
            printf("  %s\n", bad[i].text);
        CHECK_INT(t.line, bad[i].line);
        CHECK_INT(t.column, bad[i].column);
    }
    CHECK_STR(read_code("a: \xFF", 4, 100, NULL), "invalid");
    CHECK_STR(read_code("a: \0", 4, 100, NULL), "invalid");
    CHECK_STR(read_code("\xFF\xFE"
                        "a\0",
                        4, 100, NULL),
              "invalid"); /* UTF-16 */
}

static char *repeat(const char *unit, size_t n, size_t *len)
{
    size_t u = strlen(unit);
    char *text = malloc(n * u + 1);

    for (size_t i = 0; i < n; i++)
        memcpy(text + i * u, unit, u);
    text[n * u] = '\0';
    *len = n * u;
    return text;
}

static void hostile(const char *unit, size_t n, const char *want)
{
    size_t len;
    char *text = repeat(unit, n, &len);
    clock_t start = clock();
    const char *code = read_code(text, len, 500000, NULL);
    double took = (double)(clock() - start) / CLOCKS_PER_SEC;

    if (strcmp(code, want) != 0 || took > 10)
        printf("  %.20s... took %.2f s\n", unit, took);
    CHECK_STR(code, want);
    CHECK(took < 10);
    free(text);
}

UNIT(bounds_what_a_text_may_cost)
{
    hostile("[", 100000, "too_large");
    hostile("{a: ", 100000, "too_large");
    hostile("- ", 100000, "too_large");
    hostile("? ", 100000, "unsupported"); /* a mapping as key */
    hostile("[],", 1000000, "invalid");   /* a comma outside of a list */
    hostile("- a\n", 1000000, "too_large");
    hostile("%TAG !a! b\n", 100000, "too_large");
    hostile("%TAG !a! b\r", 100000, "too_large");
    hostile("&a ", 100000, "invalid");
    hostile("!!str ", 100000, "invalid");
    hostile("# no\n", 1000000, "none");
    hostile("\"", 1000000, "invalid");
    hostile("'", 4000000, "none");
    hostile("---\n", 300000, "too_large");
    hostile("a", 8000000, "none");
    hostile("a ", 4000000, "none");
    hostile("a\n\n", 2000000, "none");
    hostile("|\n", 1000000, "invalid");
}

UNIT(stops_at_the_node_limit)
{
    CHECK_STR(read_code("[a, b, c]", 9, 5, NULL), "none");
    CHECK_STR(read_code("[a, b, c]", 9, 4, NULL), "too_large");
    CHECK_STR(read_code("", 0, 1, NULL), "none");
}

UNIT_MAIN(C(lists_nodes_in_order), C(tells_what_tags_say), C(says_where), C(bounds_what_a_text_may_cost),
          C(stops_at_the_node_limit))
