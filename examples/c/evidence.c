/* What a program can know of its own keep: the certificate and the evidence in /run/donjon, and evidence over 64 bytes
 * of its own choice, from the import donjon.evidence (docs/wasi.md).
 *
 *     evidence TEXT > evidence.cbor      then: donjon inspect evidence.cbor
 *
 * The report data is not the 64 bytes, but a digest over them and the workload's: SHA-512 of "donjon program v1", the
 * workload digest and the bytes, each with its length before it. Here TEXT is hashed into the bytes by the program
 * itself, as a protocol of its own would do it with a challenge. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

__attribute__((import_module("donjon"), import_name("evidence"))) int
donjon_evidence(const uint8_t bytes[64], void *out, uint32_t capacity, uint32_t *size);

static long size_of(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return -1;
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    fclose(f);
    return size;
}

int main(int argc, char **argv) {
    static uint8_t bytes[64], evidence[64 * 1024];
    uint32_t size = 0;
    const char *text = argc > 1 ? argv[1] : "";
    for (size_t i = 0; text[i]; i++)
        bytes[i % 64] ^= (uint8_t)text[i]; /* not a digest: an example's stand-in for one */

    static const char *const files[] = {"/run/donjon/identity.pem", "/run/donjon/evidence"};
    for (int i = 0; i < 2; i++)
        fprintf(stderr, "%s: %ld bytes\n", files[i], size_of(files[i]));
    int error = donjon_evidence(bytes, evidence, sizeof evidence, &size);
    if (error) {
        fprintf(stderr, "donjon.evidence: %s\n", error == ENOTSUP ? "this keep has none" : strerror(error));
        return 1;
    }
    fprintf(stderr, "donjon.evidence: %u bytes\n", (unsigned)size);
    return fwrite(evidence, 1, size, stdout) == size ? 0 : 1;
}
