/* What a plain YAML scalar means. Knows no Lua, owns no memory. */
#ifndef MOONTIDE_YAML_RESOLVE_H
#define MOONTIDE_YAML_RESOLVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* UINT: a whole number above the largest int64_t, which is no key and no float. */
enum yaml_scalar_kind {
    YAML_IS_TEXT,
    YAML_IS_NULL,
    YAML_IS_BOOL,
    YAML_IS_INT,
    YAML_IS_UINT,
    YAML_IS_FLOAT,
};

struct yaml_scalar {
    enum yaml_scalar_kind kind;
    bool truth;
    int64_t integer;
    double number; /* of UINT and FLOAT; may be infinite or no number, which JSON does not know */
};

/* true, false, null, ~, nothing, and decimal integers of 64 bits; all else (0123, +1, 1_000, 0x10, 1.10)
 * stays the text that it is. */
struct yaml_scalar yaml_resolve(const char *text, size_t len);

/* In a Kubernetes object: as sigs.k8s.io/yaml 1.6.0 over go.yaml.in/yaml/v2, which kubectl reads manifests
 * with. */
struct yaml_scalar yaml_resolve_kubernetes(const char *text, size_t len);

#define YAML_KEY_MAX 32

/* The text that a key of this kind becomes in JSON; its length, 0 for text (it stays as it is) and for what
 * cannot be a key. `out` holds YAML_KEY_MAX bytes. */
size_t yaml_resolve_key(const struct yaml_scalar *scalar, char *out);

#endif
