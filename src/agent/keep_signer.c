/* Evidence where there is no TEE: SNP's format, signed by the development key that the agent has made. It says what a
 * TEE would have measured, and in family_id what the keep really is: "process" or "kvm". */
#include "keep_host.h"
#include "../loader/measure.h"
#include <donjon/attest.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MOST = 256 << 20 };

struct keep_signer {
    struct attest_signer *signer;
    char *endorsements; /* PEM, without the root: nobody is to trust it because the keep says so */
    uint8_t measurement[ATTEST_SNP_DIGEST], family[16];
};

static bool read_file(const char *path, struct attest_bytes *out) {
    FILE *f = fopen(path, "rbe");
    long size = f && fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    uint8_t *bytes = size > 0 && size <= FILE_MOST ? malloc((size_t)size) : NULL;
    bool ok = bytes && fseek(f, 0, SEEK_SET) == 0 && fread(bytes, 1, (size_t)size, f) == (size_t)size;
    if (f) fclose(f);
    if (!ok) free(bytes);
    *out = ok ? (struct attest_bytes){bytes, (size_t)size} : (struct attest_bytes){NULL, 0};
    return ok;
}

struct keep_signer *keep_signer_new(const char *path, char *error, size_t size) {
    struct keep_signer *s = calloc(1, sizeof *s);
    struct attest_bytes pem;
    bool read = s && read_file(path, &pem);
    if (read) {
        s->signer = attest_signer_load(pem);
        explicit_bzero((void *)(uintptr_t)pem.data, pem.size);
        free((void *)(uintptr_t)pem.data);
        s->endorsements = s->signer ? attest_signer_certificates(s->signer, false) : NULL;
    }
    if (s && s->endorsements) return s;
    snprintf(error, size, read ? "%s is not a software signer's file" : "cannot read the software signer's file %s",
             path);
    keep_signer_free(s);
    return NULL;
}

void keep_signer_free(struct keep_signer *s) {
    if (!s) return;
    attest_signer_free(s->signer);
    free(s->endorsements);
    free(s);
}

/* A file beside this program, or where a developer says it is: as the loader finds them. */
static void find(const char *name, const char *variable, char *path, size_t size) {
    const char *given = getenv(variable);
    if (given && *given) {
        snprintf(path, size, "%s", given);
        return;
    }
    ssize_t n = readlink("/proc/self/exe", path, size - 1);
    while (n > 0 && path[n - 1] != '/')
        n--;
    snprintf(path + (n > 0 ? n : 0), size - (size_t)(n > 0 ? n : 0), "%s", name);
}

bool keep_signer_measure(struct keep_signer *s, const char *backend, char *error, size_t size) {
    char warden_path[4096], shim_path[4096];
    struct attest_bytes warden = {NULL, 0}, shim = {NULL, 0};
    find("donjon-warden-tls", "DONJON_WARDEN", warden_path, sizeof warden_path);
    find("donjon-shim", "DONJON_SHIM", shim_path, sizeof shim_path);
    const char *wrong = NULL;
    if (!read_file(warden_path, &warden) || !read_file(shim_path, &shim))
        wrong = "a file cannot be read";
    else
        wrong = keep_measure_warden(shim, warden, s->measurement);
    if (wrong) snprintf(error, size, "cannot measure %s and %s: %s", shim_path, warden_path, wrong);
    free((void *)(uintptr_t)warden.data);
    free((void *)(uintptr_t)shim.data);
    memset(s->family, 0, sizeof s->family);
    memcpy(s->family, backend, strnlen(backend, sizeof s->family));
    return !wrong;
}

const uint8_t *keep_signer_measurement(const struct keep_signer *s) {
    return s->measurement;
}

bool keep_signer_evidence(struct keep_signer *s, const uint8_t report_data[64], uint8_t *out, uint32_t room,
                          uint32_t *n, uint32_t *size) {
    struct attest_signer_claims claims = {.guest_svn = 0};
    size_t more = strlen(s->endorsements);
    memcpy(claims.report_data, report_data, sizeof claims.report_data);
    memcpy(claims.measurement, s->measurement, sizeof claims.measurement);
    memcpy(claims.family_id, s->family, sizeof claims.family_id);
    if (room < ATTEST_SNP_REPORT + more || !attest_signer_report(s->signer, &claims, out)) return false;
    memcpy(out + ATTEST_SNP_REPORT, s->endorsements, more);
    *n = ATTEST_SNP_REPORT;
    *size = ATTEST_SNP_REPORT + (uint32_t)more;
    return true;
}
