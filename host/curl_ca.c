/* Own certificate authorities, read once per version of their file.
 *
 * A small file is given to curl as bytes: curl keeps one parsed store for a path, and another path would push
 * out the system's (25 to 40 ms to parse again); and a connection made under the old file is not reused after
 * it changed. A whole bundle costs too much to parse for each connection: it goes by its path, and is read
 * again once an hour, like the system's. */
#include "curl_inside.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_CA_FILE   (1024 * 1024)
#define SMALL_CA_FILE (16 * 1024)

struct curl_ca {
    struct curl_ca *next;
    char *path;
    uint64_t version; /* unique */
    uint64_t checked; /* when the file was last looked at: loop time in ms */
    struct stat seen; /* what the file was when it was read */
    char *data;
    size_t len;
};

static void ca_free(struct curl_ca *ca)
{
    if (!ca)
        return;
    free(ca->path);
    free(ca->data);
    free(ca);
}

void curl_cas_free(struct curl_ca **cas)
{
    while (*cas) {
        struct curl_ca *ca = *cas;

        *cas = ca->next;
        ca_free(ca);
    }
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Reads the whole file into ca; the caller frees ca in any case. */
static bool ca_read(struct curl_ca *ca, struct err *e)
{
    int fd = open(ca->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool ok = false;

    if (fd < 0 || fstat(fd, &ca->seen) != 0) {
        err_errno(e, errno, "the CA file");
        goto out;
    }
    if (!S_ISREG(ca->seen.st_mode) || ca->seen.st_size > MAX_CA_FILE) {
        err_set(e, ERR_INVALID, "the CA file is not a regular file of at most 1 MiB");
        goto out;
    }
    ca->data = malloc((size_t)ca->seen.st_size + 1);
    if (!ca->data) {
        err_set(e, ERR_MEMORY, "not enough memory for the CA file");
        goto out;
    }
    while (ca->len < (size_t)ca->seen.st_size) {
        ssize_t n = read(fd, ca->data + ca->len, (size_t)ca->seen.st_size - ca->len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            err_errno(e, errno, "the CA file");
            goto out;
        }
        if (n == 0)
            break;
        ca->len += (size_t)n;
    }
    ca->data[ca->len] = '\0';
    ok = strstr(ca->data, "-----BEGIN ") != NULL;
    if (!ok)
        err_set(e, ERR_INVALID, "the CA file holds no certificate");
out:
    if (fd >= 0)
        close(fd);
    return ok;
}

static struct curl_ca *ca_load(const char *path, struct err *e)
{
    struct curl_ca *ca = calloc(1, sizeof *ca);

    if (ca)
        ca->path = strdup(path);
    if (!ca || !ca->path) {
        err_set(e, ERR_MEMORY, "not enough memory for the CA file");
        ca_free(ca);
        return NULL;
    }
    if (!ca_read(ca, e)) {
        ca_free(ca);
        return NULL;
    }
    return ca;
}

/* The file's current contents, looked at once a second. */
static struct curl_ca *ca_find(struct curl_loop *loop, const char *path, struct err *e)
{
    struct curl_ca **link = &loop->cas, *ca, *fresh;
    struct stat now;

    while (*link && strcmp((*link)->path, path) != 0)
        link = &(*link)->next;
    ca = *link;
    if (ca && uv_now(loop->uv) - ca->checked < 1000)
        return ca;
    if (ca && stat(path, &now) == 0 && same_file(&ca->seen, &now)) {
        ca->checked = uv_now(loop->uv);
        return ca;
    }
    fresh = ca_load(path, e);
    if (!fresh)
        return NULL;
    fresh->version = ++loop->ca_versions;
    fresh->checked = uv_now(loop->uv);
    if (ca) {
        fresh->next = ca->next;
        ca_free(ca);
    }
    *link = fresh;
    return fresh;
}

bool curl_transfer_trust(struct curl_transfer *t, const char *path, struct err *e)
{
    const char *bundle;
    struct curl_blob blob = {.flags = CURL_BLOB_COPY};
    struct curl_ca *ca = NULL;

    if (!path && !t->trusts)
        return true;
    if (path) {
        ca = ca_find(t->loop, path, e);
        if (!ca)
            return false;
        if (ca->version == t->trusts)
            return true;
        blob.data = ca->data;
        blob.len = ca->len;
    }
    bundle = ca && ca->len > SMALL_CA_FILE ? path : curl_version_info(CURLVERSION_NOW)->cainfo;
    if (curl_easy_setopt(t->easy, CURLOPT_CAINFO, bundle) != CURLE_OK ||
        curl_easy_setopt(t->easy, CURLOPT_CAINFO_BLOB, ca && bundle != path ? &blob : NULL) != CURLE_OK) {
        err_set(e, ERR_MEMORY, "not enough memory for the CA file");
        return false;
    }
    t->trusts = ca ? ca->version : 0;
    return true;
}
