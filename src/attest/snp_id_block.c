/* SNP ID block and ID authentication information (SNP ABI, tables 75 and 76). */
#include "crypto.h"
#include "reader.h"

enum { ID_BLOCK = 96, ID_AUTH = 4096, KEY = 1028, SIGNATURE = 512, SCALAR = 72, ECDSA_P384 = 1, CURVE_P384 = 2 };

static void reverse48(uint8_t out[48], const uint8_t *in) {
    for (int i = 0; i < 48; i++)
        out[i] = in[47 - i];
}

/* Little-endian fields of 72 bytes, of which 48 count; the rest and everything behind must be zero. */
static bool pair(const uint8_t *fields, size_t total, uint8_t a[48], uint8_t b[48]) {
    reverse48(a, fields);
    reverse48(b, fields + SCALAR);
    return all_zero(fields + 48, SCALAR - 48) && all_zero(fields + SCALAR + 48, total - SCALAR - 48);
}

static bool signed_by(const uint8_t *key, const uint8_t *signature, struct attest_bytes message) {
    uint8_t xy[96], r[48], s[48];
    struct reader curve = reader_of((struct attest_bytes){key, 4});
    return read_le32(&curve) == CURVE_P384 && pair(key + 4, KEY - 4, xy, xy + 48) && pair(signature, SIGNATURE, r, s) &&
           ecdsa_verify_p384(xy, message, r, s);
}

const char *attest_snp_id_block(struct attest_bytes id_block, struct attest_bytes id_auth,
                                struct attest_id_block *out) {
    memset(out, 0, sizeof *out);
    if (id_block.size != ID_BLOCK) return "the ID block is not 96 bytes";
    if (id_auth.size != ID_AUTH) return "the ID authentication information is not 4096 bytes";
    struct reader r = reader_of(id_block);
    read_into(&r, out->launch_digest, sizeof out->launch_digest);
    read_into(&r, out->family_id, sizeof out->family_id);
    read_into(&r, out->image_id, sizeof out->image_id);
    out->version = read_le32(&r);
    out->guest_svn = read_le32(&r);
    out->policy = read_le64(&r);
    if (out->version != 1) return "the ID block's version is not 1";
    r = reader_of(id_auth);
    uint32_t id_algorithm = read_le32(&r), author_algorithm = read_le32(&r);
    bool zero = read_reserved(&r, 0x40 - 8);
    const uint8_t *id_signature = read_span(&r, SIGNATURE), *id_key = read_span(&r, KEY);
    zero &= read_reserved(&r, 0x680 - 0x240 - KEY);
    const uint8_t *author_signature = read_span(&r, SIGNATURE), *author_key = read_span(&r, KEY);
    zero &= read_reserved(&r, ID_AUTH - 0x880 - KEY);
    if (!zero) return "reserved bytes of the ID authentication information are set";
    if (id_algorithm != ECDSA_P384) return "the ID key algorithm is not ECDSA P-384 (1)";
    if (!signed_by(id_key, id_signature, id_block)) return "the ID key did not sign the ID block";
    sha384(id_key, KEY, out->id_key_digest);
    bool author = !all_zero(author_key, KEY) || !all_zero(author_signature, SIGNATURE);
    if (!author) return NULL;
    if (author_algorithm != ECDSA_P384) return "the author key algorithm is not ECDSA P-384 (1)";
    if (!signed_by(author_key, author_signature, (struct attest_bytes){id_key, KEY}))
        return "the author key did not sign the ID key";
    sha384(author_key, KEY, out->author_key_digest);
    return NULL;
}
