#define _GNU_SOURCE
#include "deployment.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

enum { FILE_MOST = 8 << 20, PREFIX_LEAST = 4 };
#define SUFFIX ".json"

void deployment_free(struct deployment *d) {
    target_free(&d->target);
    trust_free(&d->trust);
    OPENSSL_cleanse(d, sizeof *d);
}

/* ---- files ---- */

static bool directory(char *out, size_t size) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = state && *state == '/' ? snprintf(out, size, "%s/donjon/deployments", state)
            : home && *home        ? snprintf(out, size, "%s/.local/state/donjon/deployments", home)
                                   : -1;
    return n > 0 && (size_t)n < size;
}

static void to_hex(const uint8_t *bytes, size_t n, char *out) {
    for (size_t i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static bool from_hex(const char *hex, uint8_t *out, size_t n) {
    if (!hex || strlen(hex) != 2 * n || strspn(hex, "0123456789abcdef") != 2 * n) return false;
    for (size_t i = 0; i < n; i++)
        sscanf(hex + 2 * i, "%2hhx", &out[i]);
    return true;
}

static json_t *to_json(const struct deployment *d) {
    char owner[2 * CHANNEL_OWNER + 1], digest[2 * CHANNEL_DIGEST + 1];
    to_hex(d->owner, CHANNEL_OWNER, owner);
    to_hex(d->digest, CHANNEL_DIGEST, digest);
    json_t *j =
        json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s?, s:s?, s:s?, s:s, s:s, s:I, s:o}", "v", 1, "id", d->id,
                  "name", d->name, "app", d->app, "backend", d->backend, "host", d->target.host, "port", d->target.port,
                  "agent_key", d->target.key, "agent_ca", d->target.ca, "token_file", d->target.token_file, "owner",
                  owner, "workload", digest, "created", (json_int_t)d->created, "trust", trust_to_json(&d->trust));
    OPENSSL_cleanse(owner, sizeof owner);
    return j;
}

static bool take(const json_t *j, const char *name, char *out, size_t size) {
    const char *s = json_string_value(json_object_get(j, name));
    return s && (size_t)snprintf(out, size, "%s", s) < size;
}

static char *take_copy(const json_t *j, const char *name) {
    const char *s = json_string_value(json_object_get(j, name));
    return s ? strdup(s) : NULL;
}

static bool from_json(struct deployment *d, const json_t *j) {
    *d = (struct deployment){.created = json_integer_value(json_object_get(j, "created"))};
    bool ok = take(j, "id", d->id, sizeof d->id) && keep_id_fine(d->id, strlen(d->id)) &&
              take(j, "name", d->name, sizeof d->name) && take(j, "app", d->app, sizeof d->app) &&
              take(j, "backend", d->backend, sizeof d->backend) &&
              take(j, "host", d->target.host, sizeof d->target.host) &&
              take(j, "port", d->target.port, sizeof d->target.port) &&
              from_hex(json_string_value(json_object_get(j, "owner")), d->owner, CHANNEL_OWNER) &&
              from_hex(json_string_value(json_object_get(j, "workload")), d->digest, CHANNEL_DIGEST) &&
              trust_from_json(&d->trust, json_object_get(j, "trust"));
    d->target.key = take_copy(j, "agent_key");
    d->target.ca = take_copy(j, "agent_ca");
    d->target.token_file = take_copy(j, "token_file");
    if (!ok) deployment_free(d);
    return ok;
}

bool deployment_save(const struct cli_verb *verb, const struct deployment *d) {
    char dir[4096], path[4200];
    json_t *j = to_json(d);
    char *text = j ? json_dumps(j, JSON_INDENT(1)) : NULL;
    bool ok = text && directory(dir, sizeof dir) && cli_make_directories(dir);
    if (ok) {
        snprintf(path, sizeof path, "%s/%s" SUFFIX, dir, d->id);
        ok = cli_write_private(path, text, strlen(text));
    }
    if (!ok) cli_error(verb, "cannot remember the deployment in $XDG_STATE_HOME/donjon: %s", strerror(errno));
    if (text) OPENSSL_cleanse(text, strlen(text));
    free(text);
    json_decref(j);
    return ok;
}

void deployment_forget(const char *id) {
    char dir[4096], path[4200];
    if (!directory(dir, sizeof dir)) return;
    snprintf(path, sizeof path, "%s/%s" SUFFIX, dir, id);
    unlink(path);
}

static bool load(const char *dir, const char *name, struct deployment *d) {
    char path[4400], *bytes;
    size_t size, n = strlen(name);
    if (n != KEEP_ID + sizeof SUFFIX - 1 || strcmp(name + KEEP_ID, SUFFIX) != 0) return false;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (!cli_read_file(path, FILE_MOST, &bytes, &size)) return false;
    json_t *j = json_loadb(bytes, size, 0, NULL);
    OPENSSL_cleanse(bytes, size);
    free(bytes);
    bool ok = j && from_json(d, j) && !strncmp(d->id, name, KEEP_ID);
    json_decref(j);
    return ok;
}

static int by_age(const void *a, const void *b) {
    const struct deployment *x = a, *y = b;
    return x->created < y->created ? -1 : x->created > y->created ? 1 : strcmp(x->id, y->id);
}

struct deployment *deployment_all(size_t *n) {
    char dir[4096];
    struct deployment *all = NULL, one;
    *n = 0;
    DIR *d = directory(dir, sizeof dir) ? opendir(dir) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (!load(dir, e->d_name, &one)) continue;
        struct deployment *grown = realloc(all, (*n + 1) * sizeof *all);
        if (!grown) {
            deployment_free(&one);
            break;
        }
        all = grown;
        all[(*n)++] = one;
    }
    if (d) closedir(d);
    if (all) qsort(all, *n, sizeof *all, by_age);
    return all;
}

bool deployment_find(const struct cli_verb *verb, const char *what, struct deployment *out) {
    size_t n, found = 0, at = 0, len = strlen(what);
    char ids[200] = "";
    struct deployment *all = deployment_all(&n);
    for (size_t i = 0; i < n; i++) {
        bool id = len >= PREFIX_LEAST && !strncmp(all[i].id, what, len);
        if (!id && strcmp(all[i].name, what) != 0) continue;
        size_t used = strlen(ids);
        if (sizeof ids - used > 16) snprintf(ids + used, sizeof ids - used, "%s%.8s", found ? ", " : "", all[i].id);
        found++;
        at = i;
    }
    if (found == 1) *out = all[at];
    for (size_t i = 0; i < n; i++)
        if (found != 1 || i != at) deployment_free(&all[i]);
    free(all);
    if (found == 0) cli_error(verb, "no deployment \"%s\" here; `donjon ps` lists them", what);
    if (found > 1) cli_error(verb, "\"%s\" is %zu deployments: %s; give the id of one", what, found, ids);
    return found == 1;
}

/* ---- reaching it ---- */

static bool check_digest(const struct cli_verb *verb, const struct deployment *d, const struct channel_client *c) {
    if (!memcmp(channel_client_digest(c), d->digest, CHANNEL_DIGEST)) return true;
    static const uint8_t none[CHANNEL_DIGEST];
    if (!memcmp(channel_client_digest(c), none, CHANNEL_DIGEST))
        cli_error(verb, "the keep waits for its workload again; `donjon deploy --into %.8s APP` delivers it", d->id);
    else
        cli_error(verb, "the keep runs another workload than the one that was delivered");
    return false;
}

bool deployment_reach(const struct cli_verb *verb, const struct deployment *d, const uint8_t *nonce, struct link *l,
                      struct channel_client **out, struct attest_result *r, bool *judged) {
    *judged = false;
    *out = NULL;
    json_t *reply = link_open(l, &d->target)
                        ? link_ask(l, &d->target, json_pack("{s:s, s:s}", "op", "channel", "id", d->id))
                        : NULL;
    json_decref(reply);
    if (!reply) return cli_error(verb, "%s", l->error), false;
    struct channel_io io = link_io(l);
    struct channel_client *c = *out = channel_client_new(&io);
    if (!c) return cli_error(verb, "out of memory"), false;
    if (!channel_client_handshake(c, nonce)) return cli_error(verb, "%s", channel_client_error(c)), false;
    bool ok = trust_appraise(verb, &d->trust, c, r);
    *judged = r->check_count > 0;
    if (!ok && *judged) {
        const struct attest_check *why = attest_result_reason(r);
        cli_error(verb, "the keep's evidence is rejected: %s",
                  why ? attest_rules[why->rule].title : channel_client_error(c));
    }
    return ok && check_digest(verb, d, c);
}
