/* What gets nothing any more, whatever a rule says: a list that the operator changes, and SIGHUP. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "steward.h"

enum { DENIED_MAX = 65536, VALUE_MAX = 64, LINE_MAX_TEXT = 400 };

/* Names of what a verdict finds (docs/attestation.md), as far as they say who somebody is, and how long it is: a digest
 * that lost an end in copying would deny nobody, silently. */
static const struct known {
    const char *name;
    size_t size;
} names[] = {
    {"workload", 32},
    {"measurement", 48},
    {"mrtd", 48},
    {"mrenclave", 32},
    {"mrsigner", 32},
    {"enclave_hash", 64},
    {"sm_hash", 64},
    {"pcr0", 48},
    {"host_data", 32},
    {"id_key_digest", 48},
    {"chip_id", 64},
    {"mrconfigid", 48},
    {"mrowner", 48},
    {"config_id", 64},
    {"fmspc", 6},
    {"ppid", 16},
    {"image_id", 16},
    {"family_id", 16},
    {"mrseam", 48},
    {"mrsignerseam", 48},
    {"platform_instance_id", 16},
    {"author_key_digest", 48},
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

static const struct known *known(const char *name) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i].name, name)) return &names[i];
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

static bool denied_because(char *wrong, size_t room, const char *why) {
    snprintf(wrong, room, "%s", why);
    return false;
}

/* NAME HEX [# why], or nothing, or a comment. False: what is wrong with it. */
static bool take_line(struct steward_denied *d, char *line, char *wrong, size_t room) {
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
    if (!name) return true;
    const struct known *k = known(name);
    if (!k)
        return denied_because(wrong, room,
                              "expected workload, measurement, mrtd, mrenclave, mrsigner, chip_id or "
                              "another name of docs/steward.md");
    n.name = k->name;
    if (!value || strtok_r(rest, " \t\r", &rest))
        return denied_because(wrong, room, "expected NAME HEX, and after a # why");
    if (OPENSSL_hexstr2buf_ex(n.value, sizeof n.value, &n.size, value, '\0') != 1 || n.size != k->size) {
        snprintf(wrong, room, "expected %zu bytes in hexadecimal, found %zu characters", k->size, strlen(value));
        return false;
    }
    return add(d, &n) || denied_because(wrong, room, "more than there is room for");
}

struct steward_denied *steward_denied_read(const char *text, size_t size, char error[SETTINGS_ERROR]) {
    struct steward_denied *d = calloc(1, sizeof *d);
    unsigned number = 1;
    char wrong[160] = "out of memory";
    bool fine = d;
    for (size_t at = 0; fine && at < size; number++) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t n = end ? (size_t)(end - text) - at : size - at;
        char line[LINE_MAX_TEXT];
        if (n >= sizeof line || memchr(text + at, 0, n)) {
            fine = denied_because(wrong, sizeof wrong, "expected a line of text, of 399 bytes at most");
            break;
        }
        memcpy(line, text + at, n);
        line[n] = 0;
        fine = take_line(d, line, wrong, sizeof wrong);
        if (!fine) break;
        at += n + 1;
    }
    ERR_clear_error();
    if (fine) return d;
    snprintf(error, SETTINGS_ERROR, "line %u: %s", number, wrong);
    steward_denied_free(d);
    return NULL;
}

void steward_denied_free(struct steward_denied *d) {
    if (d) free(d->items);
    free(d);
}

/* Does this fact say the same of somebody as what is denied? The hardware's own fields name workloads, too (behind the
 * digest come zeros), and a host may mask the chip in the report: the certificate of the key that signed still names
 * it. */
static bool is_same(const struct denial *n, const struct attest_fact *f) {
    static const char *const also[][2] = {{"workload", "host_data"},
                                          {"workload", "mrconfigid"},
                                          {"workload", "config_id"},
                                          {"chip_id", "certificate_chip_id"}};
    const struct attest_value *v = &f->value;
    if (v->kind != ATTEST_BYTES || v->size < n->size || memcmp(v->bytes, n->value, n->size)) return false;
    if (!strcmp(f->name, n->name)) return v->size == n->size;
    bool same = false;
    for (size_t i = 0; i < sizeof also / sizeof *also; i++)
        same |= !strcmp(also[i][0], n->name) && !strcmp(also[i][1], f->name);
    for (size_t i = n->size; i < v->size; i++)
        same = same && !v->bytes[i];
    return same;
}

/* Every fact of that name counts. */
static bool found_in(const struct denial *n, const struct attest_result *r) {
    if (!strcmp(n->name, "workload") && r->names_workload && n->size == sizeof r->workload &&
        !memcmp(n->value, r->workload, n->size))
        return true;
    for (unsigned i = 0; i < r->fact_count; i++)
        if (is_same(n, &r->facts[i])) return true;
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
