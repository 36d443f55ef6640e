#include "warden.h"
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

void tls_start(struct warden *w) {
    /* No file is there to be read, none may be opened; and nothing is to be done at an exit that never comes. */
    const uint64_t crypto = OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT;
    uint8_t seed[32];
    if (OPENSSL_init_crypto(crypto, NULL) != 1 || OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1 ||
        RAND_bytes(seed, sizeof seed) != 1)
        report_failure(w, GATE_EXIT_BROKEN, "OpenSSL does not start: %s", ERR_reason_error_string(ERR_peek_error()));
    OPENSSL_cleanse(seed, sizeof seed);
}

struct wasi_file *tls_file(struct warden *w, uint32_t handle, const struct config_file *f) {
    (void)handle;
    report_failure(w, GATE_EXIT_REFUSED, "file \"%s\": prot = \"tls\" is not in this release yet", f->name);
}
