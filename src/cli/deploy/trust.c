#define _GNU_SOURCE
#include "trust.h"

#include "loader/measure.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { POLICY_MAX = 1 << 20, FILE_MOST = 4 << 20, PROGRAM_MOST = 256 << 20 };

void trust_free(struct trust *t) {
    free(t->policy);
    free(t->root);
    free(t->agent_root);
    for (size_t i = 0; i < t->n_collateral; i++)
        free(t->collateral[i]);
    *t = (struct trust){0};
}

static json_t *text_or_null(const char *s) {
    return s ? json_string(s) : json_null();
}

json_t *trust_to_json(const struct trust *t) {
    json_t *collateral = json_array();
    for (size_t i = 0; i < t->n_collateral; i++)
        json_array_append_new(collateral, json_string(t->collateral[i]));
    return json_pack("{s:o, s:o, s:o, s:o, s:b, s:s}", "policy", text_or_null(t->policy), "root", text_or_null(t->root),
                     "agent_root", text_or_null(t->agent_root), "collateral", collateral, "allow_no_tee",
                     (int)t->allow_no_tee, "measurement", t->measurement);
}

static char *copy_text(const json_t *j, const char *name) {
    const char *s = json_string_value(json_object_get(j, name));
    return s ? strdup(s) : NULL;
}

bool trust_from_json(struct trust *t, const json_t *j) {
    const char *measurement = json_string_value(json_object_get(j, "measurement"));
    json_t *collateral = json_object_get(j, "collateral"), *item;
    size_t i;
    *t = (struct trust){.policy = copy_text(j, "policy"),
                        .root = copy_text(j, "root"),
                        .agent_root = copy_text(j, "agent_root"),
                        .allow_no_tee = json_is_true(json_object_get(j, "allow_no_tee"))};
    json_array_foreach(collateral, i, item) if (t->n_collateral < TRUST_COLLATERAL_MAX && json_is_string(item))
        t->collateral[t->n_collateral++] = strdup(json_string_value(item));
    /* Nothing to compare with would accept anything: a damaged file accepts nothing. */
    if (!measurement || strlen(measurement) >= sizeof t->measurement || (!*measurement && !t->policy)) return false;
    strcpy(t->measurement, measurement);
    return true;
}

/* ---- reference values ---- */

static bool read_program(const struct cli_verb *verb, const char *dir, const char *name, struct attest_bytes *out) {
    char path[4200], *bytes;
    size_t size;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (!cli_read_file(path, PROGRAM_MOST, &bytes, &size)) {
        cli_error(verb, "cannot read %s, whose measurement the keep must have: %s", path, strerror(errno));
        return false;
    }
    *out = (struct attest_bytes){(uint8_t *)bytes, size};
    return true;
}

bool trust_measure(const struct cli_verb *verb, struct trust *t, const char *dir) {
    char own[4096];
    struct attest_bytes shim = {0}, warden = {0};
    uint8_t digest[ATTEST_SNP_DIGEST];
    if (!dir) {
        ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
        own[n > 0 ? n : 0] = 0;
        char *slash = strrchr(own, '/');
        if (!slash) return cli_error(verb, "cannot tell where this program is"), false;
        *slash = 0;
        dir = own;
    }
    bool ok = read_program(verb, dir, "donjon-shim", &shim) && read_program(verb, dir, "donjon-warden-tls", &warden);
    const char *wrong = ok ? keep_measure_warden(shim, warden, digest) : NULL;
    if (wrong) cli_error(verb, "%s: %s", dir, wrong);
    for (size_t i = 0; ok && !wrong && i < sizeof digest; i++)
        snprintf(t->measurement + 2 * i, 3, "%02x", digest[i]);
    free((void *)shim.data);
    free((void *)warden.data);
    return ok && !wrong;
}

/* ---- collateral: any file, never believed, verified at each use ---- */

static bool add_file(struct attest_verifier *v, const char *path) {
    char *bytes;
    size_t size;
    if (!cli_read_file(path, FILE_MOST, &bytes, &size)) return false;
    attest_verifier_add(v, (struct attest_bytes){(uint8_t *)bytes, size});
    free(bytes);
    return true;
}

static bool add_path(struct attest_verifier *v, const char *path) {
    DIR *dir = opendir(path);
    if (!dir) return add_file(v, path);
    for (struct dirent *e; (e = readdir(dir));) {
        char inner[4200];
        snprintf(inner, sizeof inner, "%s/%s", path, e->d_name);
        if (e->d_name[0] != '.') add_file(v, inner);
    }
    closedir(dir);
    return true;
}

static void add_cache(struct attest_verifier *v) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char path[4096];
    if (cache && *cache == '/')
        snprintf(path, sizeof path, "%s/donjon/collateral", cache);
    else
        snprintf(path, sizeof path, "%s/.cache/donjon/collateral", home ? home : "");
    if (access(path, R_OK) == 0) add_path(v, path);
}

/* ---- appraisal ---- */

static struct attest_verifier *make_verifier(const struct cli_verb *verb, const struct trust *t) {
    struct attest_verifier *v = attest_verifier_new();
    const char *root = t->root ? t->root : t->agent_root;
    if (!v) {
        cli_error(verb, "out of memory");
        return NULL;
    }
    if (!t->n_collateral) add_cache(v);
    for (size_t i = 0; i < t->n_collateral; i++) {
        if (add_path(v, t->collateral[i])) continue;
        cli_error(verb, "cannot read %s: %s", t->collateral[i], strerror(errno));
        attest_verifier_free(v);
        return NULL;
    }
    /* Without hardware the signer is the host's own, and who it says that it is means nothing: its root may as well
     * come from the host. Nothing but --allow-no-tee makes such evidence acceptable. */
    if (t->allow_no_tee && root &&
        !attest_verifier_add_development_root(v, (struct attest_bytes){(const uint8_t *)root, strlen(root)})) {
        cli_error(verb, "the development root is no certificate");
        attest_verifier_free(v);
        return NULL;
    }
    return v;
}

static bool make_policy(const struct cli_verb *verb, const struct trust *t, struct attest_policy *p) {
    char error[400] = "out of memory";
    bool ok = true;
    if (t->policy)
        ok = attest_policy_read(p, t->policy, strlen(t->policy), error, sizeof error);
    else
        attest_policy_genuine(p);
    if (ok && !t->policy)
        ok = attest_policy_set(p, "snp.measurements", t->measurement, strlen(t->measurement), error, sizeof error);
    if (!ok) cli_error(verb, "policy: %s", error);
    /* A policy that allows software evidence is not enough: it takes the flag as well, each time. */
    p->allow_software = t->allow_no_tee;
    return ok;
}

bool trust_appraise(const struct cli_verb *verb, const struct trust *t, struct channel_client *c,
                    struct attest_result *r) {
    struct attest_policy policy = {0};
    struct attest_verifier *v = make_verifier(verb, t);
    if (!v) return false;
    memset(r, 0, sizeof *r);
    bool made = make_policy(verb, t, &policy);
    bool ok = made && channel_client_appraise(c, v, &policy, time(NULL), r);
    if (made && !ok && !r->check_count) cli_error(verb, "%s", channel_client_error(c));
    attest_policy_free(&policy);
    attest_verifier_free(v);
    return ok;
}
