/* One GET with libcurl; the only file that knows it. */
#include "attest.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

struct transfer {
    struct fetched *f;
    CURL *curl;
    size_t capacity;
};

static size_t on_body(char *data, size_t one, size_t n, void *context) {
    struct transfer *t = context;
    if (t->f->size + n > COLLATERAL_MAX) return 0; /* fails the transfer */
    if (t->f->size + n + 1 > t->capacity) {
        size_t wanted = (t->f->size + n + 1) * 2;
        char *grown = realloc(t->f->body, wanted);
        if (!grown) return 0;
        t->f->body = grown;
        t->capacity = wanted;
    }
    memcpy(t->f->body + t->f->size, data, n);
    t->f->size += n;
    t->f->body[t->f->size] = 0;
    return n * one;
}

/* Intel sends the signer's chain percent-encoded in a header whose name depends on what was asked for. */
static size_t on_header(char *line, size_t one, size_t n, void *context) {
    static const char *const names[] = {
        "TCB-Info-Issuer-Chain:", "SGX-TCB-Info-Issuer-Chain:", "SGX-Enclave-Identity-Issuer-Chain:",
        "SGX-PCK-CRL-Issuer-Chain:", "SGX-PCK-Certificate-Issuer-Chain:"};
    struct transfer *t = context;
    if (n > 12 && !strncasecmp(line, "Retry-After:", 12)) t->f->retry_after = strtol(line + 12, NULL, 10);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t length = strlen(names[i]);
        if (n <= length || strncasecmp(line, names[i], length) != 0) continue;
        while (length < n && line[length] == ' ')
            length++;
        int size = 0;
        char *plain = curl_easy_unescape(t->curl, line + length, (int)(n - length), &size);
        free(t->f->issuer_chain);
        t->f->issuer_chain = plain ? strndup(plain, (size_t)size) : NULL;
        curl_free(plain);
    }
    return n * one;
}

bool attest_http_get(const char *url, struct fetched *f) {
    enum { TIMEOUT_S = 30 };
    memset(f, 0, sizeof *f);
    CURL *curl = curl_easy_init();
    if (!curl) return false;
    struct transfer t = {f, curl, 0};
    char error[CURL_ERROR_SIZE] = "";
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https,http");
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)TIMEOUT_S);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "donjon");
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &t);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &t);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &f->status);
    if (code != CURLE_OK)
        snprintf(f->error, sizeof f->error, "%s", *error ? error : curl_easy_strerror(code));
    else if (f->status == 429)
        snprintf(f->error, sizeof f->error, "the server asks to wait%s", f->retry_after ? "" : " and try again");
    else if (f->status != 200)
        snprintf(f->error, sizeof f->error, "HTTP status %ld", f->status);
    if (f->retry_after && f->status == 429)
        snprintf(f->error + strlen(f->error), sizeof f->error - strlen(f->error), " %ld s", f->retry_after);
    curl_easy_cleanup(curl);
    return code == CURLE_OK && f->status == 200;
}
