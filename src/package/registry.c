/* Registries: the OCI distribution API over libcurl, HTTPS unless the registry is on loopback or plain HTTP was asked
 * for. Basic and token authentication. The only file that knows libcurl. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "internal.h"

enum {
    REDIRECTS_MAX = 5,
    CONNECT_S = 20,
    STALL_S = 60, /* less than a KiB a second for so long ends a transfer */
    URL_MAX = 8192,
    TOKEN_MAX = 64 << 10, /* of a token's answer */
    CREDENTIALS_MAX = 1024,
};

struct registry {
    struct store store;
    CURL *curl;
    bool plain, write;
    char *bearer;
    char *credentials; /* NAME:PASSWORD, or null */
    bool basic;        /* the registry asked for them */
};

/* One exchange. */
struct exchange {
    const char *method; /* GET, HEAD, POST, PUT */
    const char *url;
    const char *accept, *type;
    const void *body;
    size_t body_size;
    uint64_t most; /* of the answer */
    struct blob answer;
    size_t capacity;
    long status;
    char location[URL_MAX], challenge[URL_MAX];
    bool too_large;
};

/* ---- Curl ---- */

static size_t on_body(char *data, size_t one, size_t n, void *context) {
    struct exchange *x = context;
    (void)one;
    if (blob_append(&x->answer, &x->capacity, data, n, x->most)) return n;
    x->too_large = true;
    return 0;
}

static void keep_header(char *out, const char *value, size_t size) {
    while (size && (*value == ' ' || *value == '\t'))
        value++, size--;
    while (size && isspace((unsigned char)value[size - 1]))
        size--;
    if (size < URL_MAX) snprintf(out, URL_MAX, "%.*s", (int)size, value);
}

static size_t on_header(char *line, size_t one, size_t n, void *context) {
    static const char location[] = "Location:", challenge[] = "WWW-Authenticate:";
    struct exchange *x = context;
    (void)one;
    if (n > sizeof location && !strncasecmp(line, location, sizeof location - 1))
        keep_header(x->location, line + sizeof location - 1, n - sizeof location + 1);
    if (n > sizeof challenge && !strncasecmp(line, challenge, sizeof challenge - 1))
        keep_header(x->challenge, line + sizeof challenge - 1, n - sizeof challenge + 1);
    return n;
}

/* "HOST:PORT" of a URL, as it is compared before anything secret is sent there. */
static bool same_host(const struct registry *r, const char *url) {
    const char *at = strstr(url, "://");
    size_t size = strlen(r->store.reference->host);
    return at && !strncmp(at + 3, r->store.reference->host, size) && strchr("/?", at[3 + size]);
}

static void set_authentication(struct registry *r, const char *url) {
    if (!same_host(r, url)) return; /* libcurl does not carry it over to another host either */
    if (r->bearer) {
        curl_easy_setopt(r->curl, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
        curl_easy_setopt(r->curl, CURLOPT_XOAUTH2_BEARER, r->bearer);
    } else if (r->basic && r->credentials) {
        curl_easy_setopt(r->curl, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
        curl_easy_setopt(r->curl, CURLOPT_USERPWD, r->credentials);
    }
}

static void set_common(struct registry *r, struct exchange *x, char error[CURL_ERROR_SIZE]) {
    CURL *c = r->curl;
    const char *schemes = r->plain ? "http,https" : "https";
    curl_easy_reset(c);
    curl_easy_setopt(c, CURLOPT_URL, x->url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, schemes);
    curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, schemes);
    curl_easy_setopt(c, CURLOPT_MAXREDIRS, (long)REDIRECTS_MAX);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1024L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)STALL_S);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "donjon");
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    if (r->store.options->ca_file) curl_easy_setopt(c, CURLOPT_CAINFO, r->store.options->ca_file);
}

static void set_method(CURL *c, const struct exchange *x) {
    if (!strcmp(x->method, "GET"))
        curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L); /* registries keep blobs elsewhere */
    else if (!strcmp(x->method, "HEAD"))
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    else {
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, x->method);
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)x->body_size);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, x->body ? x->body : "");
    }
}

/* One request and its answer, whatever the status. */
static bool perform(struct registry *r, struct exchange *x, bool authenticate, char *error) {
    char why[CURL_ERROR_SIZE] = "", line[300];
    struct curl_slist *headers = NULL;
    blob_free(&x->answer);
    x->capacity = 0;
    x->status = 0;
    *x->location = *x->challenge = 0;
    set_common(r, x, why);
    set_method(r->curl, x);
    if (authenticate) set_authentication(r, x->url);
    if (x->accept) {
        snprintf(line, sizeof line, "Accept: %s", x->accept);
        headers = curl_slist_append(headers, line);
    }
    if (x->body) {
        snprintf(line, sizeof line, "Content-Type: %s", x->type);
        headers = curl_slist_append(headers, line);
    }
    headers = curl_slist_append(headers, "Expect:");
    curl_easy_setopt(r->curl, CURLOPT_HTTPHEADER, headers);
    CURLcode code = curl_easy_perform(r->curl);
    curl_slist_free_all(headers);
    curl_easy_getinfo(r->curl, CURLINFO_RESPONSE_CODE, &x->status);
    if (code == CURLE_OK) return true;
    if (x->too_large)
        return package_fail(error, "%.300s: answered with more than the %llu bytes it should have", x->url,
                            (unsigned long long)x->most);
    return package_fail(error, "%.300s: %s", x->url, *why ? why : curl_easy_strerror(code));
}

/* ---- Authentication ---- */

/* A parameter of a challenge: key="value". */
static bool parameter(const char *challenge, const char *key, char *out, size_t size) {
    size_t length = strlen(key);
    for (const char *at = challenge; (at = strcasestr(at, key)); at += length) {
        bool begins = at > challenge && strchr(", ", at[-1]);
        if (!begins || at[length] != '=' || at[length + 1] != '"') continue;
        const char *value = at + length + 2, *end = strchr(value, '"');
        if (!end || (size_t)(end - value) >= size) return false;
        snprintf(out, size, "%.*s", (int)(end - value), value);
        return true;
    }
    return false;
}

static bool token_url(struct registry *r, const char *challenge, char url[URL_MAX], char *error) {
    char realm[2048], service[512] = "", scope[1024];
    if (!parameter(challenge, "realm", realm, sizeof realm))
        return package_fail(error, "%s: asks for a token and does not say where", r->store.reference->host);
    parameter(challenge, "service", service, sizeof service);
    /* Ours, not the registry's wish: exactly this repository, exactly what is to be done. */
    snprintf(scope, sizeof scope, "repository:%s:%s", r->store.reference->name, r->write ? "pull,push" : "pull");
    bool secure = !strncmp(realm, "https://", 8), plain = !strncmp(realm, "http://", 7) && r->plain;
    if (!secure && !plain)
        return package_fail(error, "%s: its token service is not on https: %.200s", r->store.reference->host, realm);
    char *a = curl_easy_escape(r->curl, service, 0), *b = curl_easy_escape(r->curl, scope, 0);
    int n =
        a && b ? snprintf(url, URL_MAX, "%s%sservice=%s&scope=%s", realm, strchr(realm, '?') ? "&" : "?", a, b) : -1;
    curl_free(a);
    curl_free(b);
    return (n > 0 && n < URL_MAX) ||
           package_fail(error, "%s: the token's address is too long", r->store.reference->host);
}

static bool get_token(struct registry *r, const char *challenge, char *error) {
    char url[URL_MAX], why[CURL_ERROR_SIZE] = "";
    if (!token_url(r, challenge, url, error)) return false;
    struct exchange x = {.method = "GET", .url = url, .most = TOKEN_MAX};
    set_common(r, &x, why);
    if (r->credentials) { /* that is who the registry says to show them to, as docker does */
        curl_easy_setopt(r->curl, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
        curl_easy_setopt(r->curl, CURLOPT_USERPWD, r->credentials);
    }
    CURLcode code = curl_easy_perform(r->curl);
    curl_easy_getinfo(r->curl, CURLINFO_RESPONSE_CODE, &x.status);
    json_t *root = code == CURLE_OK && x.status == 200
                       ? json_loadb((const char *)x.answer.data, x.answer.size, JSON_REJECT_DUPLICATES, NULL)
                       : NULL;
    const char *token = json_string_value(json_object_get(root, "token"));
    if (!token) token = json_string_value(json_object_get(root, "access_token"));
    free(r->bearer);
    r->bearer = token ? strdup(token) : NULL;
    json_decref(root);
    if (x.answer.data) OPENSSL_cleanse(x.answer.data, x.answer.size);
    blob_free(&x.answer);
    if (r->bearer) return true;
    return package_fail(error, "%.300s: no token (status %ld%s)", url, x.status,
                        r->credentials ? "" : "; no credentials were given");
}

/* With authentication, when the registry asks for it. */
static bool ask(struct registry *r, struct exchange *x, char *error) {
    if (!perform(r, x, true, error)) return false;
    if (x->status != 401) return true;
    char challenge[URL_MAX];
    snprintf(challenge, sizeof challenge, "%s", x->challenge);
    if (!strncasecmp(challenge, "Bearer ", 7)) {
        if (!get_token(r, challenge, error)) return false;
    } else if (!strncasecmp(challenge, "Basic", 5) && r->credentials && !r->basic)
        r->basic = true;
    else
        return package_fail(error, "%s: wants credentials%s", r->store.reference->host,
                            r->credentials ? " other than the ones given" : ": docker's config.json or --user-file");
    return perform(r, x, true, error);
}

static bool refused(const struct exchange *x, char *error) {
    char why[200] = "";
    json_t *root = json_loadb((const char *)x->answer.data, x->answer.size, 0, NULL);
    const char *text =
        json_string_value(json_object_get(json_array_get(json_object_get(root, "errors"), 0), "message"));
    for (size_t i = 0; text && text[i] && i + 1 < sizeof why; i++) {
        why[i] = (unsigned char)text[i] < 0x20 ? '?' : text[i];
        why[i + 1] = 0;
    }
    json_decref(root);
    return package_fail(error, "%s %.300s: status %ld%s%s", x->method, x->url, x->status, *why ? ": " : "", why);
}

/* ---- The store ---- */

static void url_for(const struct registry *r, const char *kind, const char *what, char url[URL_MAX]) {
    snprintf(url, URL_MAX, "%s://%s/v2/%s/%s/%s", r->plain ? "http" : "https", r->store.reference->host,
             r->store.reference->name, kind, what);
}

/* A GET whose answer, of at most `most` bytes, becomes *out. */
static bool fetch(struct registry *r, const char *kind, const char *what, const char *accept, uint64_t most,
                  struct blob *out, bool *missing, char *error) {
    char url[URL_MAX];
    url_for(r, kind, what, url);
    struct exchange x = {.method = "GET", .url = url, .accept = accept, .most = most};
    bool ok = ask(r, &x, error);
    *missing = ok && x.status == 404;
    if (ok && x.status != 200) ok = refused(&x, error);
    if (ok)
        *out = x.answer;
    else
        blob_free(&x.answer);
    return ok;
}

static bool get_manifest(struct store *s, const char *target, struct blob *out, bool *missing, char *error) {
    return fetch((struct registry *)s, "manifests", target, MEDIA_MANIFEST, PACKAGE_MANIFEST_MAX, out, missing, error);
}

static bool get_blob(struct store *s, const char *digest, uint64_t size, struct blob *out, char *error) {
    bool missing;
    return fetch((struct registry *)s, "blobs", digest, NULL, size, out, &missing, error);
}

/* Where the upload goes: the Location, which may be relative, with the digest. */
static bool upload_url(const struct registry *r, const char *base, const char *location, const char *digest,
                       char url[URL_MAX], char *error) {
    CURLU *u = curl_url();
    char *whole = NULL, query[PACKAGE_DIGEST + 8];
    snprintf(query, sizeof query, "digest=%s", digest);
    bool ok = u && *location && !curl_url_set(u, CURLUPART_URL, base, 0) &&
              !curl_url_set(u, CURLUPART_URL, location, 0) &&
              !curl_url_set(u, CURLUPART_QUERY, query, CURLU_APPENDQUERY) &&
              !curl_url_get(u, CURLUPART_URL, &whole, 0) && strlen(whole) < URL_MAX;
    if (ok) snprintf(url, URL_MAX, "%s", whole);
    curl_free(whole);
    curl_url_cleanup(u);
    return ok || package_fail(error, "%s: an upload without a usable Location", r->store.reference->host);
}

static bool put_blob(struct store *s, const char *digest, const void *data, size_t size, char *error) {
    struct registry *r = (struct registry *)s;
    char url[URL_MAX], to[URL_MAX];
    url_for(r, "blobs", digest, url);
    struct exchange x = {.method = "HEAD", .url = url, .most = TOKEN_MAX};
    if (!ask(r, &x, error)) return false;
    if (x.status == 200) return true; /* it is there */
    url_for(r, "blobs", "uploads/", url);
    x = (struct exchange){.method = "POST", .url = url, .most = TOKEN_MAX};
    bool ok = ask(r, &x, error) && (x.status == 202 || refused(&x, error)) &&
              upload_url(r, url, x.location, digest, to, error);
    blob_free(&x.answer);
    if (!ok) return false;
    x = (struct exchange){.method = "PUT",
                          .url = to,
                          .type = "application/octet-stream",
                          .body = data,
                          .body_size = size,
                          .most = TOKEN_MAX};
    ok = ask(r, &x, error) && (x.status == 201 || refused(&x, error));
    blob_free(&x.answer);
    return ok;
}

static bool put_manifest(struct store *s, const char *tag, const char *digest, const void *data, size_t size,
                         char *error) {
    struct registry *r = (struct registry *)s;
    char url[URL_MAX];
    (void)digest;
    url_for(r, "manifests", tag, url);
    struct exchange x = {
        .method = "PUT", .url = url, .type = MEDIA_MANIFEST, .body = data, .body_size = size, .most = TOKEN_MAX};
    bool ok = ask(r, &x, error) && (x.status == 201 || x.status == 200 || refused(&x, error));
    blob_free(&x.answer);
    return ok;
}

static void forget(char *secret) {
    if (secret) OPENSSL_cleanse(secret, strlen(secret));
    free(secret);
}

static void registry_close(struct store *s) {
    struct registry *r = (struct registry *)s;
    if (r->curl) curl_easy_cleanup(r->curl);
    forget(r->bearer);
    forget(r->credentials);
    free(r);
}

static const struct store_ops ops = {get_manifest, get_blob, put_blob, put_manifest, registry_close};

/* ---- Credentials ---- */

/* docker's: {"auths": {"HOST": {"auth": base64 of NAME:PASSWORD}}}. Helpers are programs, which are not started. */
static char *docker_credentials(const char *host) {
    const char *dir = getenv("DOCKER_CONFIG"), *home = getenv("HOME");
    char path[PACKAGE_PATH];
    int n = dir && *dir     ? snprintf(path, sizeof path, "%s/config.json", dir)
            : home && *home ? snprintf(path, sizeof path, "%s/.docker/config.json", home)
                            : -1;
    json_t *root = n > 0 && n < (int)sizeof path ? json_load_file(path, 0, NULL) : NULL;
    const char *auth =
        json_string_value(json_object_get(json_object_get(json_object_get(root, "auths"), host), "auth"));
    size_t length = auth ? strlen(auth) : 0;
    char *plain = length && length % 4 == 0 && length <= CREDENTIALS_MAX ? calloc(1, length + 4) : NULL;
    if (plain && (EVP_DecodeBlock((uint8_t *)plain, (const uint8_t *)auth, (int)length) < 0 || !strchr(plain, ':'))) {
        free(plain);
        plain = NULL;
    }
    json_decref(root);
    return plain;
}

static bool is_loopback(const char *host) {
    size_t name = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    return (name == 9 && !strncmp(host, "localhost", 9)) || !strncmp(host, "127.", 4) ||
           (name == 5 && !strncmp(host, "[::1]", 5));
}

struct store *registry_open(const struct package_reference *ref, const struct package_options *o, bool write,
                            char *error) {
    static bool ready;
    if (!ready) ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
    struct registry *r = ready ? calloc(1, sizeof *r) : NULL;
    if (!r) return package_fail(error, "out of memory"), NULL;
    r->store = (struct store){&ops, ref, o};
    r->write = write;
    r->plain = o->plain_http || (is_loopback(ref->host) && !o->ca_file);
    r->credentials = o->user ? strdup(o->user) : docker_credentials(ref->host);
    r->curl = curl_easy_init();
    if (r->curl) return &r->store;
    registry_close(&r->store);
    return package_fail(error, "out of memory"), NULL;
}
