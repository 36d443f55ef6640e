#include "attest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct verification {
    struct cli_args *a;
    struct attest_verifier *v;
    struct attest_policy policy;
    bool has_policy, only_evidence;
    int64_t now;
    const char *file, *url, *log, *key, *corim, *corim_key, *ear, *ear_key, *nonce;
    bool cwt, json, quiet, verbose, collateral_given;
    bool statuses_set, vmpls_set; /* by --set: the first replaces what no policy file has asked for */
    int colour;                   /* -1: by the terminal */
};

static bool fail(struct verification *x, const char *what, const char *why) {
    cli_error(x->a->verb, "%s: %s", what, why);
    return false;
}

static bool read_policy(struct verification *x, const char *path) {
    struct attest_bytes bytes;
    char error[400];
    if (!attest_read(x->a->verb, path, &bytes)) return false;
    attest_policy_free(&x->policy);
    bool ok = attest_policy_read(&x->policy, (const char *)bytes.data, bytes.size, error, sizeof error);
    free((void *)bytes.data);
    x->has_policy = true;
    return ok || fail(x, path, error);
}

static bool set_policy(struct verification *x, const char *setting) {
    const char *equal = strchr(setting, '=');
    char key[128], error[400];
    if (!equal || (size_t)(equal - setting) >= sizeof key) return fail(x, "--set", "expected KEY=VALUE");
    snprintf(key, sizeof key, "%.*s", (int)(equal - setting), setting);
    if (!x->has_policy && !strcmp(key, "intel.tcb_statuses") && !x->statuses_set) {
        x->policy.intel.tcb_statuses = 0;
        x->statuses_set = true;
    }
    if (!x->has_policy && !strcmp(key, "snp.vmpl") && !x->vmpls_set) {
        x->policy.snp.vmpls = 0;
        x->vmpls_set = true;
    }
    return attest_policy_set(&x->policy, key, equal + 1, strlen(equal + 1), error, sizeof error) ||
           fail(x, "--set", error);
}

static bool add_root(struct verification *x, const char *path, bool development) {
    struct attest_bytes bytes;
    if (!attest_read(x->a->verb, path, &bytes)) return false;
    bool ok =
        development ? attest_verifier_add_development_root(x->v, bytes) : attest_verifier_add_root(x->v, bytes, false);
    free((void *)bytes.data);
    return ok || fail(x, path, "expected one certificate (DER or PEM), the root");
}

static bool read_corim(struct verification *x) {
    struct attest_bytes corim, key = {0};
    char error[300];
    if (!x->corim) return true;
    if (!attest_read(x->a->verb, x->corim, &corim)) return false;
    bool ok = !x->corim_key || attest_read(x->a->verb, x->corim_key, &key);
    int taken = ok ? attest_corim_read(corim, key, &x->policy, error, sizeof error) : -1;
    free((void *)corim.data);
    free((void *)key.data);
    if (!ok) return false;
    if (taken < 0) return fail(x, x->corim, error);
    /* Nobody asks for reference values in order to be told that anything will do. */
    if (taken == 0) return fail(x, x->corim, "holds no reference value this verifier can use");
    return true;
}

/* One option; false when it was said what is wrong with it. */
static bool take_option(struct verification *x, int id, const char *value) {
    switch (id) {
    case OPT_POLICY: return true; /* read first, whatever the order */
    case OPT_SET: return set_policy(x, value);
    case OPT_AT:
        if (attest_parse_time(value, &x->now)) return true;
        return cli_error(x->a->verb, "--at: expected a time in UTC, such as 2026-01-31T00:00:00Z, found \"%s\"", value),
               false;
    case OPT_COLLATERAL: x->collateral_given = true; return attest_add_path(x->a->verb, x->v, value);
    case OPT_LOG: x->log = value; return true;
    case OPT_ROOT: return add_root(x, value, false);
    case OPT_DEV_ROOT: return add_root(x, value, true);
    case OPT_KEY: x->key = value; return true;
    case OPT_CORIM: x->corim = value; return true;
    case OPT_CORIM_KEY: x->corim_key = value; return true;
    case OPT_NONCE: x->nonce = value; return true;
    case OPT_URL: x->url = value; return true;
    case OPT_JSON: x->json = true; return true;
    case OPT_QUIET: x->quiet = true; return true;
    case OPT_VERBOSE: x->verbose = true; return true;
    case OPT_EAR: x->ear = value; return true;
    case OPT_EAR_KEY: x->ear_key = value; return true;
    case OPT_EAR_CWT: x->cwt = true; return true;
    case OPT_COLOUR:
        x->colour = strcmp(value, "always") == 0 ? 1 : strcmp(value, "never") == 0 ? 0 : -1;
        return x->colour >= 0 || strcmp(value, "auto") == 0 || fail(x, "--color", "expected always, never or auto");
    default: return false;
    }
}

/* The policy file is what the other options add to. */
static bool find_policy(struct verification *x) {
    struct cli_args look = *x->a;
    const char *value;
    for (int id; (id = cli_next(&look, &value)) != CLI_END;) {
        if (id == CLI_STOP) {
            x->a->exit_code = look.exit_code;
            x->only_evidence = true;
            return false;
        }
        if (id == OPT_POLICY && !read_policy(x, value)) return false;
    }
    return true;
}

static bool read_arguments(struct verification *x) {
    const char *value;
    if (!find_policy(x)) return false;
    for (int id; (id = cli_next(x->a, &value)) != CLI_END;) {
        if (id == CLI_STOP) return false;
        if (id != CLI_OPERAND) {
            if (!take_option(x, id, value)) return false;
        } else if (x->file)
            return cli_usage_error(x->a, "expected one file, found \"%s\" too", value), false;
        else
            x->file = value;
    }
    char error[300];
    if (x->nonce && !attest_policy_set(&x->policy, "nonce", x->nonce, strlen(x->nonce), error, sizeof error))
        return fail(x, "--nonce", error);
    if (!x->file == !x->url)
        return cli_usage_error(x->a, x->file ? "expected a file or --url, not both"
                                             : "which evidence? Expected a file or --url"),
               false;
    if (x->ear && !x->ear_key) return cli_usage_error(x->a, "--ear needs --ear-key"), false;
    return read_corim(x);
}

static bool add_log(struct verification *x, struct attest_evidence *e) {
    struct attest_bytes log;
    if (!x->log) return true;
    if (!attest_read(x->a->verb, x->log, &log)) return false;
    bool ok = attest_evidence_add_log(e, log);
    if (!ok) cli_error(x->a->verb, "%s: expected a CCEL or dstack event log, found %s", x->log, attest_looks_like(log));
    free((void *)log.data);
    return ok;
}

static bool bind_key(struct verification *x, struct attest_evidence *e) {
    struct attest_bytes pem;
    if (!x->key) return true;
    if (!attest_read(x->a->verb, x->key, &pem)) return false;
    bool ok = attest_evidence_bind_pem(e, pem);
    if (!ok)
        cli_error(x->a->verb, "%s: expected a public key or a certificate in PEM, found %s", x->key,
                  attest_looks_like(pem));
    free((void *)pem.data);
    return ok;
}

static bool write_ear(struct verification *x, const struct attest_result *r) {
    struct attest_bytes key;
    if (!x->ear) return true;
    if (!attest_read(x->a->verb, x->ear_key, &key)) return false;
    /* Only what was answered. */
    struct attest_bytes nonce = {x->policy.nonce, attest_result_answers_nonce(r) ? x->policy.nonce_size : 0};
    size_t size = 0;
    char *text = x->cwt ? (char *)attest_ear_cwt(r, key, nonce, &size) : attest_ear_jwt(r, key, nonce);
    free((void *)key.data);
    if (!text) return fail(x, x->ear_key, "expected a private key on P-256 or P-384 in PEM");
    if (!x->cwt) size = strlen(text);
    FILE *f = strcmp(x->ear, "-") == 0 ? stdout : fopen(x->ear, "wb");
    bool ok = f && fwrite(text, 1, size, f) == size && (x->cwt || fputc('\n', f) != EOF);
    if (f && f != stdout) ok = fclose(f) == 0 && ok;
    free(text);
    return ok || fail(x, x->ear, strerror(errno));
}

static void show(struct verification *x, const struct attest_result *r) {
    bool colour = x->colour < 0 ? cli_colours(STDOUT_FILENO) : x->colour;
    if (x->json) {
        char *json = attest_print_json(r);
        if (json) puts(json);
        free(json);
        return;
    }
    struct attest_text text = {0};
    attest_print_tree(r, colour, x->verbose, &text);
    const char *from = text.data ? text.data : "";
    if (x->quiet && text.size > 1) { /* the verdict is the last line */
        const char *line = text.data + text.size - 1;
        while (line > text.data && line[-1] != '\n')
            line--;
        from = line;
    }
    fputs(from, stdout);
    free(text.data);
}

static int verify(struct verification *x) {
    static struct attest_result result;
    struct attest_bytes bytes;
    char error[400];
    if (x->url ? !attest_fetch_certificate(x->a->verb, x->url, &bytes) : !attest_read(x->a->verb, x->file, &bytes))
        return CLI_FAILED;
    struct attest_evidence *e = attest_evidence_open(bytes, error, sizeof error);
    if (!e) {
        attest_reject_unopened(bytes, error, x->now, &result);
        free((void *)bytes.data);
        show(x, &result);
        return CLI_NO;
    }
    free((void *)bytes.data);
    int code = CLI_FAILED;
    if (add_log(x, e) && bind_key(x, e)) {
        char cache[4096];
        if (!x->collateral_given && attest_cache_dir(cache, sizeof cache) && access(cache, R_OK) == 0)
            attest_add_path(x->a->verb, x->v, cache);
        attest_verify(x->v, e, &x->policy, x->now, &result);
        show(x, &result);
        code = !write_ear(x, &result) ? CLI_FAILED : result.accepted ? CLI_YES : CLI_NO;
    }
    attest_evidence_free(e);
    return code;
}

int main_verify(struct cli_args *a) {
    struct verification x = {.a = a, .v = attest_verifier_new(), .now = time(NULL), .colour = -1};
    attest_policy_genuine(&x.policy);
    int code = CLI_FAILED;
    if (!x.v)
        cli_error(a->verb, "out of memory");
    else if (read_arguments(&x))
        code = verify(&x);
    else
        code = a->exit_code ? a->exit_code : x.only_evidence ? CLI_YES : CLI_FAILED;
    attest_policy_free(&x.policy);
    attest_verifier_free(x.v);
    return code;
}

/* ---- inspect ---- */

static int inspect(struct cli_args *a, bool *as_json) {
    static struct attest_result result;
    struct attest_verifier *v = attest_verifier_new();
    const char *value, *file = NULL;
    for (int id; (id = cli_next(a, &value)) != CLI_END;) {
        if (id == CLI_STOP) return a->exit_code;
        if (id == OPT_JSON)
            *as_json = true;
        else if (id == OPT_COLLATERAL) {
            if (!attest_add_path(a->verb, v, value)) return CLI_FAILED;
        } else if (file)
            return cli_usage_error(a, "expected one file, found \"%s\" too", value);
        else
            file = value;
    }
    if (!file) return cli_usage_error(a, "which file? Expected one with evidence");
    struct attest_bytes bytes;
    char error[400];
    if (!attest_read(a->verb, file, &bytes)) return CLI_FAILED;
    struct attest_evidence *e = attest_evidence_open(bytes, error, sizeof error);
    if (!e) {
        const char *why = cli_not_a_module(bytes.data, bytes.size); /* `donjon inspect` came here because of it */
        if (why)
            cli_error(a->verb, "%s %s; and as evidence: %s", file, why, error);
        else
            cli_error(a->verb, "%s: %s", file, error);
        free((void *)bytes.data);
        attest_verifier_free(v);
        return CLI_NO;
    }
    free((void *)bytes.data);
    attest_inspect(v, e, &result);
    struct verification x = {.a = a, .json = *as_json, .verbose = true, .colour = -1};
    show(&x, &result);
    attest_evidence_free(e);
    attest_verifier_free(v);
    return CLI_YES;
}

int main_inspect_evidence(struct cli_args *a) {
    bool json = false;
    int code = inspect(a, &json);
    return json && code ? cli_json_failed(code) : code;
}
