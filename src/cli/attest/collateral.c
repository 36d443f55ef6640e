/* donjon collateral fetch: from the vendors into the cache. What is written there is only ever read by the Verifier,
 * which believes none of it. */
#include "attest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { URLS_MAX = 8, NAME_MAX_CHARS = 180 };

/* A file name out of the URL: host and path, with what means something to a file system replaced. */
static void name_of(const char *url, const char *suffix, char *out, size_t size) {
    const char *at = strstr(url, "://");
    at = at ? at + 3 : url;
    size_t n = 0, limit = NAME_MAX_CHARS < size ? NAME_MAX_CHARS : size - 1;
    /* Of a long name the end tells more: the query with the TCB. */
    uint32_t sum = 2166136261u;
    for (const char *c = at; *c; c++)
        sum = (sum ^ (uint8_t)*c) * 16777619u;
    for (; *at && n < limit; at++)
        out[n++] = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9') ||
                           *at == '.' || *at == '-'
                       ? *at
                       : '_';
    snprintf(out + n, size - n, "-%08x%s", sum, suffix);
}

static bool keep(struct cli_args *a, const char *directory, const char *url, const char *suffix, const char *data,
                 size_t size) {
    char name[256], path[4400];
    name_of(url, suffix, name, sizeof name);
    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (!cli_write_private(path, data, size)) {
        cli_error(a->verb, "cannot write %s: %s", path, strerror(errno));
        return false;
    }
    printf("%s\n", path);
    return true;
}

/* https://kdsintf.amd.com/vcek/... on another server. */
static void redirect(const char *url, const char *from, char *out, size_t size) {
    const char *path = strstr(url, "://");
    path = path ? strchr(path + 3, '/') : url;
    size_t n = strlen(from);
    while (n && from[n - 1] == '/')
        n--;
    snprintf(out, size, "%.*s%s", (int)n, from, path ? path : "/");
}

/* The VCEK of a chip whose product is not known is asked for under one name and then under the other. */
static bool is_vcek(const char *url) {
    return strstr(url, "/vcek/v1/") && strchr(url, '?');
}

/* What a refusal means, from whom, and what to do. */
static const char *hint_of(const char *url, long status) {
    if (status == 404 && is_vcek(url))
        return ": AMD knows no such chip and TCB: get the VCEK from who operates the host";
    if (status == 404 && strstr(url, "fmspc=")) return ": Intel has no TCB info for this kind of platform and TEE";
    if (status == 401 && strstr(url, "/pckcert?"))
        return ": Intel gives PCK certificates to those with a subscription key: have the attester send its PCK chain, "
               "or get "
               "the certificate from who operates the host (PCCS)";
    if (status >= 500) return ": the server is in trouble, try again later, or another one with --from";
    return "";
}

static bool fetch_one(struct cli_args *a, const char *directory, const char *url, const char *from, bool try) {
    enum { NOT_FOUND = 404 };
    char asked[2048];
    struct fetched f;
    if (from)
        redirect(url, from, asked, sizeof asked);
    else
        snprintf(asked, sizeof asked, "%s", url);
    bool ok = attest_http_get(asked, &f);
    if (!ok && !(try && f.status == NOT_FOUND)) cli_error(a->verb, "%s: %s%s", asked, f.error, hint_of(url, f.status));
    struct attest_verifier *v = ok ? attest_verifier_new() : NULL;
    if (ok && !attest_verifier_add(v, (struct attest_bytes){(uint8_t *)f.body, f.size})) {
        const char *malformed = attest_verifier_trouble(v);
        cli_error(a->verb, "%s: expected a certificate, revocation list or collateral, found something else: %s", asked,
                  *malformed ? malformed : attest_looks_like((struct attest_bytes){(uint8_t *)f.body, f.size}));
        ok = false;
    }
    attest_verifier_free(v);
    ok = ok && keep(a, directory, url, "", f.body, f.size);
    if (ok && f.issuer_chain) ok = keep(a, directory, url, "-issuer.pem", f.issuer_chain, strlen(f.issuer_chain));
    free(f.body);
    free(f.issuer_chain);
    return ok;
}

int main_collateral_fetch(struct cli_args *a) {
    const char *file = NULL, *from = NULL, *value;
    char directory[4096] = "", error[400];
    bool dry = false;
    for (int id; (id = cli_next(a, &value)) != CLI_END;) {
        if (id == CLI_STOP) return a->exit_code;
        if (id == OPT_COLLATERAL)
            snprintf(directory, sizeof directory, "%s", value);
        else if (id == OPT_FROM)
            from = value;
        else if (id == OPT_DRY)
            dry = true;
        else if (file)
            return cli_usage_error(a, "expected one file, found \"%s\" too", value);
        else
            file = value;
    }
    if (!file) return cli_usage_error(a, "which evidence? Expected a file");
    if (!*directory && !attest_cache_dir(directory, sizeof directory))
        return cli_usage_error(a, "no cache directory is known; give --output");
    struct attest_bytes bytes;
    if (!attest_read(a->verb, file, &bytes)) return CLI_FAILED;
    struct attest_evidence *e = attest_evidence_open(bytes, error, sizeof error);
    free((void *)bytes.data);
    if (!e) {
        cli_error(a->verb, "%s: %s", file, error);
        return CLI_NO;
    }
    const char *lacking = attest_collateral_lacking(e);
    struct attest_verifier *v = attest_verifier_new();
    char *urls[URLS_MAX];
    size_t count = attest_collateral_urls(v, e, urls, URLS_MAX);
    int code = CLI_YES;
    if (lacking)
        cli_error(a->verb, "%s: %s", file, lacking);
    else if (!count)
        printf("nothing to fetch: evidence of this kind brings its own certificates\n");
    if (count && !dry && !cli_make_directories(directory)) {
        cli_error(a->verb, "cannot make %s: %s", directory, strerror(errno));
        code = CLI_FAILED;
    }
    bool found = false; /* the VCEK */
    for (size_t i = 0; i < count; i++) {
        bool vcek = is_vcek(urls[i]), try = vcek && i + 1 < count && is_vcek(urls[i + 1]);
        if (dry)
            printf("%s\n", urls[i]);
        else if (code != CLI_FAILED && !(vcek && found)) {
            bool here = fetch_one(a, directory, urls[i], from, try);
            found |= vcek && here;
            if (!here && !try) code = CLI_NO;
        }
        free(urls[i]);
    }
    attest_evidence_free(e);
    attest_verifier_free(v);
    return code;
}
