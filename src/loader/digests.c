/* donjon-digests WARDEN OUT: the page of digests that is measured with the shim. A tool of the build. */
#include "kvm_image.h"
#include <stdio.h>
#include <stdlib.h>

enum { WARDEN_MOST = 256 << 20 };

int main(int argc, char **argv) {
    FILE *in = argc == 3 ? fopen(argv[1], "rb") : NULL, *out;
    uint8_t *bytes = malloc(WARDEN_MOST);
    static struct shim_digests digests;
    size_t n = in && bytes ? fread(bytes, 1, WARDEN_MOST, in) : 0;
    if (n == 0 || n == WARDEN_MOST || !kvm_digests(bytes, n, &digests)) {
        fprintf(stderr, "donjon-digests: expected WARDEN OUT with a warden that is an ELF program\n");
        return 1;
    }
    out = fopen(argv[2], "wb");
    bool ok = out && fwrite(&digests, sizeof digests, 1, out) == 1;
    if (out && fclose(out) != 0) ok = false;
    if (!ok) perror(argv[2]);
    fclose(in);
    free(bytes);
    return ok ? 0 : 1;
}
