/* Reference values out of a CoRIM (draft-ietf-rats-corim): unsigned (tag 501) or COSE_Sign1. Of the profiles in use we
 * take what a policy can hold: AMD's SNP profile and the SEAM digests of Intel's TDX profile. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cbor.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "cbor_pull.h"
#include "crypto.h"

enum {
    TAG_SIGN1 = 18,
    TAG_CORIM = 501,
    TAG_CORIM_OUTER = 500,
    TAG_COMID = 506,
    TAG_OID = 111,
    TAG_SVN = 552,
    TAG_MIN_SVN = 553,
    TAG_RAW = 560,
    CORIM_TAGS = 1,
    COMID_TRIPLES = 4,
    TRIPLES_REFERENCE = 0,
    ENV_CLASS = 0,
    CLASS_ID = 0,
    MEASUREMENT_KEY = 0,
    MEASUREMENT_VALUE = 1,
    VALUE_SVN = 1,
    VALUE_DIGESTS = 2,
    VALUE_RAW = 4,
    DIGEST_SHA384 = 7,
    TRIPLES_MAX = 256,
};

/* Measurement keys of the SNP profile: the report's fields in order. */
enum {
    SNP_GUEST_SVN = 1,
    SNP_FAMILY_ID = 3,
    SNP_IMAGE_ID = 4,
    SNP_MEASUREMENT = 641,
    SNP_HOST_DATA = 642,
    SNP_ID_KEY = 643,
    SNP_AUTHOR_KEY = 644
};

struct corim {
    struct attest_policy *policy;
    int taken;
    const char *wrong;
};

static void *wrong(struct corim *c, const char *what) {
    if (!c->wrong) c->wrong = what;
    return NULL;
}

/* The key in a map that begins at the reader, which must be there. */
static bool need(struct corim *c, struct reader map, uint64_t key, struct reader *value, const char *what) {
    if (cb_find(map, key, value)) return true;
    wrong(c, what);
    return false;
}

static bool tagged(struct reader *r, uint64_t tag) {
    struct cb_item item = cb_peek(r);
    if (item.kind != CB_TAG || item.number != tag) return false;
    cb_next(r);
    return true;
}

static void take(struct corim *c, struct attest_set *set, struct attest_bytes value, const char *what) {
    if (attest_set_add(set, value.data, value.size))
        c->taken++;
    else
        wrong(c, what);
}

static void take_snp(struct corim *c, uint64_t key, struct reader value) {
    struct reader field;
    struct attest_bytes bytes;
    struct attest_policy *p = c->policy;
    if (key == SNP_MEASUREMENT && cb_find(value, VALUE_DIGESTS, &field)) {
        struct cb_item list = cb_next(&field);
        for (uint64_t i = 0; list.kind == CB_ARRAY && list.number != CB_INDEFINITE && i < list.number; i++) {
            uint64_t algorithm;
            if (!cb_array(&field, 2) || !cb_uint(&field, &algorithm) || !cb_bytes(&field, &bytes))
                return (void)wrong(c, "a digest is not [algorithm, bytes]");
            if (algorithm != DIGEST_SHA384) return (void)wrong(c, "the measurement is not a SHA-384 digest");
            take(c, &p->snp.measurements, bytes, "the measurement is not 48 bytes");
        }
        return;
    }
    if (key == SNP_GUEST_SVN && cb_find(value, VALUE_SVN, &field)) {
        uint64_t svn;
        if (!tagged(&field, TAG_MIN_SVN)) tagged(&field, TAG_SVN);
        if (!cb_uint(&field, &svn) || svn > UINT32_MAX) return (void)wrong(c, "the guest SVN is not a number");
        p->snp.minimum_guest_svn = (uint32_t)svn;
        c->taken++;
        return;
    }
    struct attest_set *set = key == SNP_FAMILY_ID    ? &p->snp.family_ids
                             : key == SNP_IMAGE_ID   ? &p->snp.image_ids
                             : key == SNP_HOST_DATA  ? &p->snp.host_data
                             : key == SNP_ID_KEY     ? &p->snp.id_keys
                             : key == SNP_AUTHOR_KEY ? &p->snp.author_keys
                                                     : NULL;
    if (!set || !cb_find(value, VALUE_RAW, &field))
        return; /* of one machine or one boot: not a reference value of the code */
    tagged(&field, TAG_RAW);
    if (cb_bytes(&field, &bytes))
        take(c, set, bytes, "a raw value has the wrong size");
    else
        wrong(c, "a raw value is not bytes");
}

/* A map key below zero: the TDX profile's extensions. */
static bool find_negative(struct reader map, uint64_t magnitude, struct reader *value) {
    uint64_t count;
    if (!cb_map(&map, &count)) return false;
    while (cb_more(&map, &count)) {
        struct cb_item key = cb_peek(&map);
        if (!cb_skip(&map)) return false;
        *value = map;
        if (key.kind == CB_NEGINT && key.number == magnitude - 1) return true;
        if (!cb_skip(&map)) return false;
    }
    return false;
}

/* MRTEE (-83): tag 60020 on [operator, [[algorithm, digest], ...]], or the list itself. */
static void take_tdx(struct corim *c, struct reader value) {
    enum { MRTEE = 83, TAG_SET = 60020 };
    struct reader field;
    if (!find_negative(value, MRTEE, &field)) return;
    if (tagged(&field, TAG_SET)) {
        uint64_t operation;
        if (!cb_array(&field, 2) || !cb_uint(&field, &operation))
            return (void)wrong(c, "MRTEE is not [operator, digests]");
    }
    struct cb_item list = cb_next(&field);
    for (uint64_t i = 0; list.kind == CB_ARRAY && list.number != CB_INDEFINITE && i < list.number; i++) {
        struct cb_item algorithm;
        struct attest_bytes bytes;
        if (!cb_array(&field, 2)) return (void)wrong(c, "a digest is not [algorithm, bytes]");
        algorithm = cb_next(&field);
        if (!cb_bytes(&field, &bytes)) return (void)wrong(c, "a digest is not [algorithm, bytes]");
        if (algorithm.kind == CB_UINT && algorithm.number == DIGEST_SHA384)
            take(c, &c->policy->tdx.mrseams, bytes, "MRSEAM is not 48 bytes");
    }
}

static bool class_is(struct reader environment, const uint8_t *oid, size_t size) {
    struct reader class, id;
    struct attest_bytes bytes;
    return cb_find(environment, ENV_CLASS, &class) && cb_find(class, CLASS_ID, &id) && tagged(&id, TAG_OID) &&
           cb_bytes(&id, &bytes) && bytes.size >= size && memcmp(bytes.data, oid, size) == 0;
}

/* [environment, [measurement, ...]] */
static void read_reference(struct corim *c, struct reader *r) {
    static const uint8_t amd_oid[] = {0x2b, 6, 1, 4, 1, 0x9c, 0x78, 3},
                         intel_oid[] = {0x60, 0x86, 0x48, 1,
                                        0x86, 0xf8, 0x4d}; /* 1.3.6.1.4.1.3704.3, 2.16.840.1.113741 */
    if (!cb_array(r, 2)) return (void)wrong(c, "a reference triple is not [environment, measurements]");
    struct reader environment = *r;
    cb_skip(r);
    struct cb_item list = cb_next(r);
    if (list.kind != CB_ARRAY) return (void)wrong(c, "measurements are not a list");
    bool snp = class_is(environment, amd_oid, sizeof amd_oid), tdx = class_is(environment, intel_oid, sizeof intel_oid);
    for (uint64_t i = 0; i < list.number && !r->failed && !c->wrong; i++) {
        struct reader measurement = *r, value, key;
        uint64_t number;
        cb_skip(r);
        if (!need(c, measurement, MEASUREMENT_VALUE, &value, "a measurement has no value")) return;
        if (snp) {
            if (!need(c, measurement, MEASUREMENT_KEY, &key, "an SNP measurement has no key")) return;
            if (!cb_uint(&key, &number)) return (void)wrong(c, "an SNP measurement's key is not a number");
            take_snp(c, number, value);
        }
        if (tdx) take_tdx(c, value);
    }
}

static void read_comid(struct corim *c, struct attest_bytes bytes) {
    struct reader r = reader_of(bytes), triples, references;
    if (!cb_well_formed(bytes)) return (void)wrong(c, "a CoMID is not well-formed");
    if (cb_peek(&r).kind != CB_MAP) return (void)wrong(c, "a CoMID is not a map");
    if (!need(c, r, COMID_TRIPLES, &triples, "a CoMID has no triples")) return;
    if (!cb_find(triples, TRIPLES_REFERENCE, &references)) return; /* endorsed values, keys, ... */
    struct cb_item list = cb_next(&references);
    if (list.kind != CB_ARRAY || list.number > TRIPLES_MAX)
        return (void)wrong(c, "reference triples are not a list of at most 256");
    for (uint64_t i = 0; i < list.number && !references.failed && !c->wrong; i++)
        read_reference(c, &references);
    if (references.failed) wrong(c, "a reference triple is malformed");
}

static void read_corim(struct corim *c, struct attest_bytes bytes) {
    struct reader r = reader_of(bytes), tags;
    if (!cb_well_formed(bytes)) return (void)wrong(c, "not well-formed CBOR with distinct keys");
    tagged(&r, TAG_CORIM_OUTER);
    bool corim = tagged(&r, TAG_CORIM);
    if (!corim && tagged(&r, TAG_COMID)) { /* a CoMID by itself */
        struct attest_bytes inner;
        if (cb_peek(&r).kind == CB_BYTES)
            cb_bytes(&r, &inner);
        else
            inner = cb_span(&r);
        return read_comid(c, inner);
    }
    if (cb_peek(&r).kind != CB_MAP) return (void)wrong(c, "not a CoRIM");
    if (!corim && !cb_find(r, CORIM_TAGS, &tags)) return (void)wrong(c, "not a CoRIM");
    if (!corim && cb_peek(&tags).kind == CB_MAP)
        return read_comid(c, bytes); /* untagged CoMID: key 1 is its identity */
    if (!need(c, r, CORIM_TAGS, &tags, "a CoRIM has no tags")) return;
    struct cb_item list = cb_next(&tags);
    if (list.kind != CB_ARRAY || list.number > TRIPLES_MAX) return (void)wrong(c, "the tags are not a list");
    for (uint64_t i = 0; i < list.number && !c->wrong; i++) {
        struct attest_bytes item, inner;
        bool comid = tagged(&tags, TAG_COMID);
        if (!cb_bytes(&tags, &item)) return (void)wrong(c, "a tag is not a byte string");
        struct reader t = reader_of(item);
        if (!comid && !tagged(&t, TAG_COMID)) continue; /* CoSWID, CoTL */
        inner = (struct attest_bytes){t.at, t.left};
        read_comid(c, inner);
    }
}

/* COSE_Sign1 with ES256 or ES384 by the key given; its payload, or null with the reason in c. */
static struct attest_bytes open_signed(struct corim *c, struct reader r, struct attest_bytes key_pem) {
    struct attest_bytes header = {0}, payload = {0}, signature = {0}, none = {0};
    struct cb_item unprotected;
    if (!cb_array(&r, 4) || !cb_bytes(&r, &header)) return wrong(c, "not a COSE_Sign1"), none;
    unprotected = cb_peek(&r);
    if (unprotected.kind != CB_MAP || !cb_skip(&r) || !cb_bytes(&r, &payload) || !cb_bytes(&r, &signature) || r.left)
        return wrong(c, "not a COSE_Sign1"), none;
    BIO *bio = BIO_new_mem_buf(key_pem.data, (int)key_pem.size);
    EVP_PKEY *key = bio ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    struct reader alg;
    unsigned width = key_on_curve(key, P256_BYTES) ? P256_BYTES : key_on_curve(key, P384_BYTES) ? P384_BYTES : 0;
    uint64_t wanted = width == P256_BYTES ? 6 : 34; /* ES256 is -7, ES384 -35 */
    bool named = cb_find(reader_of(header), 1, &alg);
    struct cb_item algorithm = named ? cb_next(&alg) : (struct cb_item){.kind = CB_BAD};
    bool ok = width && algorithm.kind == CB_NEGINT && algorithm.number == wanted && signature.size == 2 * width;
    enum { HEAD = 9 };
    size_t size = 1 + 11 + 3 * HEAD + header.size + payload.size;
    uint8_t *message = ok ? malloc(size) : NULL;
    if (message) {
        uint8_t *at = message;
        *at++ = 0x84;
        memcpy(at, "\x6aSignature1", 11);
        at += 11;
        at += cbor_encode_bytestring_start(header.size, at, HEAD);
        memcpy(at, header.data, header.size);
        at += header.size;
        *at++ = 0x40;
        at += cbor_encode_bytestring_start(payload.size, at, HEAD);
        memcpy(at, payload.data, payload.size);
        at += payload.size;
        ok = ecdsa_verify_key(key, width, (struct attest_bytes){message, (size_t)(at - message)}, signature.data,
                              signature.data + width);
    } else
        ok = false;
    free(message);
    EVP_PKEY_free(key);
    if (!ok)
        return wrong(c, key_pem.size ? "the signature does not verify with the key given"
                                     : "it is signed: a key is needed"),
               none;
    return payload;
}

int attest_corim_read(struct attest_bytes bytes, struct attest_bytes key_pem, struct attest_policy *policy, char *error,
                      size_t error_size) {
    struct corim c = {.policy = policy};
    struct reader r = reader_of(bytes);
    tagged(&r, TAG_CORIM_OUTER);
    struct reader ahead = r;
    if (tagged(&ahead, TAG_SIGN1)) {
        struct attest_bytes payload = open_signed(&c, ahead, key_pem);
        if (!c.wrong) read_corim(&c, payload);
    } else if (key_pem.size)
        wrong(&c, "it is not signed, and a key was given");
    else
        read_corim(&c, bytes);
    if (!c.wrong) return c.taken;
    snprintf(error, error_size, "CoRIM: %s", c.wrong);
    return -1;
}
