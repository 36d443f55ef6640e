/* What gets nothing any more, whatever a rule says: a list that the operator changes, and SIGHUP. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "steward.h"

enum { DENIED_MAX = 65536, VALUE_MAX = 64, LINE_MAX_TEXT = 400 };

/* Names of what a verdict finds (docs/attestation.md), as far as they say who somebody is. */
static const char *const names[] = {
    "workload",
    "measurement",
    "mrtd",
    "mrenclave",
    "mrsigner",
    "enclave_hash",
    "sm_hash",
    "pcr0",
    "host_data",
    "id_key_digest",
    "chip_id",
    "mrconfigid",
    "mrowner",
    "config_id",
    "fmspc",
    "ppid",
    "image_id",
    "family_id",
    "mrseam",
    "mrsignerseam",
    "platform_instance_id",
    "author_key_digest",
};

struct denial {
    const char *name; /* of the above */
    uint8_t value[VALUE_MAX];
    size_t size;
    char why[120];
};

struct steward_denied {
    size_t count, room;
    struct denial *items;
};

static const char *known(const char *name) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i], name)) return names[i];
    return NULL;
}

static bool add(struct steward_denied *d, const struct denial *n) {
    if (d->count == d->room) {
        size_t room = d->room ? 2 * d->room : 16;
        struct denial *grown = room <= DENIED_MAX ? realloc(d->items, room * sizeof *grown) : NULL;
        if (!grown) return false;
        d->items = grown;
        d->room = room;
    }
    d->items[d->count++] = *n;
    return true;
}

/* NAME HEX [# why], or nothing, or a comment. Null, or what is wrong with it. */
static const char *take_line(struct steward_denied *d, char *line) {
    struct denial n = {.name = NULL};
    char *why = strchr(line, '#'), *rest = line;
    if (why) {
        *why++ = 0;
        why += strspn(why, " \t");
        snprintf(n.why, sizeof n.why, "%s", why);
        for (char *p = n.why; *p; p++)
            if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e) *p = ' ';
    }
    const char *name = strtok_r(rest, " \t\r", &rest), *value = name ? strtok_r(rest, " \t\r", &rest) : NULL;
    if (!name) return NULL;
    n.name = known(name);
    if (!n.name)
        return "expected workload, measurement, mrtd, mrenclave, mrsigner, chip_id or another name of the manual";
    if (!value || strtok_r(rest, " \t\r", &rest)) return "expected NAME HEX, and after a # why";
    if (OPENSSL_hexstr2buf_ex(n.value, sizeof n.value, &n.size, value, '\0') != 1 || n.size == 0)
        return "expected 1 to 64 bytes in hexadecimal";
    return add(d, &n) ? NULL : "more than there is room for";
}

struct steward_denied *steward_denied_read(const char *text, size_t size, char error[SETTINGS_ERROR]) {
    struct steward_denied *d = calloc(1, sizeof *d);
    unsigned number = 1;
    const char *wrong = d ? NULL : "out of memory";
    for (size_t at = 0; !wrong && at < size; number++) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t n = end ? (size_t)(end - text) - at : size - at;
        char line[LINE_MAX_TEXT];
        if (n >= sizeof line || memchr(text + at, 0, n)) {
            wrong = "expected a line of text, of 399 bytes at most";
            break;
        }
        memcpy(line, text + at, n);
        line[n] = 0;
        wrong = take_line(d, line);
        if (wrong) break;
        at += n + 1;
    }
    ERR_clear_error();
    if (!wrong) return d;
    snprintf(error, SETTINGS_ERROR, "line %u: %s", number, wrong);
    steward_denied_free(d);
    return NULL;
}

void steward_denied_free(struct steward_denied *d) {
    if (d) free(d->items);
    free(d);
}

/* Every fact of that name counts. */
static bool found_in(const struct denial *n, const struct attest_result *r) {
    if (!strcmp(n->name, "workload") && r->names_workload && n->size == sizeof r->workload &&
        !memcmp(n->value, r->workload, n->size))
        return true;
    for (unsigned i = 0; i < r->fact_count; i++) {
        const struct attest_fact *f = &r->facts[i];
        if (f->value.kind == ATTEST_BYTES && f->value.size == n->size && !strcmp(f->name, n->name) &&
            !memcmp(f->value.bytes, n->value, n->size))
            return true;
    }
    return false;
}

bool steward_denied_allows(const struct steward_denied *d, const struct attest_result *r, struct steward_reason *why) {
    for (size_t i = 0; d && i < d->count; i++) {
        const struct denial *n = &d->items[i];
        if (!found_in(n, r)) continue;
        char hex[2 * VALUE_MAX + 1];
        steward_hex(n->value, n->size, hex);
        return steward_because(why, "policy.denied", "denied by the operator: %s %s%s%s", n->name, hex,
                               *n->why ? ": " : "", n->why);
    }
    return true;
}
