#include "binding.h"
#include <donjon/attest-identity.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define TAG(text) ((struct channel_bytes){(const uint8_t *)(text), sizeof(text) - 1})

static bool add(EVP_MD_CTX *c, struct channel_bytes b) {
    uint8_t length[4];
    for (unsigned i = 0; i < sizeof length; i++)
        length[i] = (uint8_t)(b.size >> (8 * i));
    return b.size <= UINT32_MAX && EVP_DigestUpdate(c, length, sizeof length) == 1 &&
           (b.size == 0 || EVP_DigestUpdate(c, b.data, b.size) == 1);
}

bool channel_report_data(struct channel_bytes spki, const uint8_t nonce[CHANNEL_NONCE],
                         const uint8_t exporter[CHANNEL_EXPORTER_SIZE], const uint8_t *digest,
                         uint8_t out[CHANNEL_REPORT_DATA]) {
    static const uint8_t none[CHANNEL_DIGEST];
    bool empty = !digest || memcmp(digest, none, sizeof none) == 0;
    const struct attest_bytes parts[] = {{spki.data, spki.size},
                                         {nonce, CHANNEL_NONCE},
                                         {exporter, CHANNEL_EXPORTER_SIZE},
                                         {digest, empty ? 0 : CHANNEL_DIGEST}};
    return attest_transcript("donjon channel v1", parts, sizeof parts / sizeof *parts, out);
}

bool channel_program_report_data(const uint8_t digest[CHANNEL_DIGEST], const uint8_t bytes[64],
                                 uint8_t out[CHANNEL_REPORT_DATA]) {
    const struct attest_bytes parts[] = {{digest, CHANNEL_DIGEST}, {bytes, 64}};
    return attest_transcript("donjon program v1", parts, sizeof parts / sizeof *parts, out);
}

int channel_path_compare(struct channel_bytes a, struct channel_bytes b) {
    size_t n = a.size < b.size ? a.size : b.size;
    int order = n ? memcmp(a.data, b.data, n) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

/* ---- the workload ---- */

struct channel_workload {
    EVP_MD_CTX *hash;
    enum { BEGUN, CONFIG, FILES, SPOILT } at;
    size_t last_size;
    uint8_t last[CHANNEL_PATH_MAX];
};

struct channel_workload *channel_workload_new(void) {
    struct channel_workload *w = calloc(1, sizeof *w);
    if (w) w->hash = EVP_MD_CTX_new();
    if (w && w->hash && EVP_DigestInit_ex(w->hash, EVP_sha256(), NULL) == 1 && add(w->hash, TAG("donjon workload v1")))
        return w;
    channel_workload_free(w);
    return NULL;
}

void channel_workload_free(struct channel_workload *w) {
    if (!w) return;
    EVP_MD_CTX_free(w->hash);
    free(w);
}

static bool step(struct channel_workload *w, bool ok, int next) {
    w->at = ok ? next : SPOILT;
    return ok;
}

static bool hash(struct channel_bytes content, uint8_t digest[CHANNEL_DIGEST]) {
    static const uint8_t nothing[1];
    return EVP_Digest(content.size ? content.data : nothing, content.size, digest, NULL, EVP_sha256(), NULL) == 1;
}

static bool add_digest(struct channel_workload *w, const uint8_t digest[CHANNEL_DIGEST]) {
    return add(w->hash, (struct channel_bytes){digest, CHANNEL_DIGEST});
}

bool channel_workload_config(struct channel_workload *w, struct channel_bytes wire) {
    return step(w, w->at == BEGUN && add(w->hash, wire), CONFIG);
}

bool channel_workload_module_digest(struct channel_workload *w, const uint8_t digest[CHANNEL_DIGEST]) {
    return step(w, w->at == CONFIG && add_digest(w, digest), FILES);
}

bool channel_workload_module(struct channel_workload *w, struct channel_bytes module) {
    uint8_t digest[CHANNEL_DIGEST];
    return hash(module, digest) ? channel_workload_module_digest(w, digest) : step(w, false, SPOILT);
}

bool channel_workload_file_digest(struct channel_workload *w, struct channel_bytes path,
                                  const uint8_t digest[CHANNEL_DIGEST]) {
    struct channel_bytes last = {w->last, w->last_size};
    bool ok = w->at == FILES && channel_path_ok(path.data, path.size) && channel_path_compare(last, path) < 0;
    if (!step(w, ok && add(w->hash, path) && add_digest(w, digest), FILES)) return false;
    memcpy(w->last, path.data, path.size);
    w->last_size = path.size;
    return true;
}

bool channel_workload_file(struct channel_workload *w, struct channel_bytes path, struct channel_bytes content) {
    uint8_t digest[CHANNEL_DIGEST];
    return hash(content, digest) ? channel_workload_file_digest(w, path, digest) : step(w, false, SPOILT);
}

bool channel_workload_digest(struct channel_workload *w, uint8_t out[CHANNEL_DIGEST]) {
    bool ok = w->at == FILES && EVP_DigestFinal_ex(w->hash, out, NULL) == 1;
    w->at = SPOILT;
    return ok;
}
