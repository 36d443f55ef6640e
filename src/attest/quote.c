#include "quote.h"

void sgx_body_parse(const uint8_t *bytes, struct sgx_body *b) {
    struct reader reader = reader_of((struct attest_bytes){bytes, SGX_BODY_SIZE}), *r = &reader;
    bool zero = true;
    read_into(r, b->cpu_svn, sizeof b->cpu_svn);
    b->misc_select = read_le32(r);
    zero &= read_reserved(r, 12);
    read_into(r, b->ext_product_id, sizeof b->ext_product_id);
    const uint8_t *attributes = read_span(r, sizeof b->attributes);
    memcpy(b->attributes, attributes, sizeof b->attributes);
    struct reader flags = reader_of((struct attest_bytes){attributes, sizeof b->attributes});
    b->flags = read_le64(&flags);
    b->xfrm = read_le64(&flags);
    read_into(r, b->mrenclave, sizeof b->mrenclave);
    zero &= read_reserved(r, 32);
    read_into(r, b->mrsigner, sizeof b->mrsigner);
    zero &= read_reserved(r, 32);
    read_into(r, b->config_id, sizeof b->config_id);
    b->product_id = read_le16(r);
    b->svn = read_le16(r);
    b->config_svn = read_le16(r);
    zero &= read_reserved(r, 42);
    read_into(r, b->family_id, sizeof b->family_id);
    read_into(r, b->report_data, sizeof b->report_data);
    b->reserved_zero = zero && (b->flags & ~SGX_FLAGS_KNOWN) == 0;
}

void td_body_parse(struct attest_bytes bytes, struct td_body *b) {
    struct reader reader = reader_of(bytes), *r = &reader;
    memset(b, 0, sizeof *b);
    read_into(r, b->tee_tcb_svn, sizeof b->tee_tcb_svn);
    read_into(r, b->mrseam, sizeof b->mrseam);
    read_into(r, b->mrsignerseam, sizeof b->mrsignerseam);
    read_into(r, b->seam_attributes, sizeof b->seam_attributes);
    b->attributes = read_le64(r);
    b->xfam = read_le64(r);
    read_into(r, b->mrtd, sizeof b->mrtd);
    read_into(r, b->mrconfigid, sizeof b->mrconfigid);
    read_into(r, b->mrowner, sizeof b->mrowner);
    read_into(r, b->mrownerconfig, sizeof b->mrownerconfig);
    read_into(r, b->rtmr, sizeof b->rtmr);
    read_into(r, b->report_data, sizeof b->report_data);
    b->is15 = bytes.size == TD15_BODY_SIZE;
    if (!b->is15) return;
    read_into(r, b->tee_tcb_svn2, sizeof b->tee_tcb_svn2);
    read_into(r, b->mrservicetd, sizeof b->mrservicetd);
}

bool quote_known(const struct quote *q) {
    bool td = q->body_type == QUOTE_BODY_TD10 || q->body_type == QUOTE_BODY_TD15;
    if (q->tee != (td ? QUOTE_TEE_TDX : QUOTE_TEE_SGX)) return false;
    switch (q->version) {
    case 3: return q->body_type == QUOTE_BODY_SGX;
    case 4: return q->body_type == QUOTE_BODY_SGX || q->body_type == QUOTE_BODY_TD10;
    case 5: return q->body_type == QUOTE_BODY_SGX || td;
    default: return false;
    }
}

/* Version 5 names and sizes the body; before, the TEE type decides. */
static const char *parse_body(struct reader *r, struct quote *q) {
    static const uint32_t sizes[] = {
        [QUOTE_BODY_SGX] = SGX_BODY_SIZE, [QUOTE_BODY_TD10] = TD10_BODY_SIZE, [QUOTE_BODY_TD15] = TD15_BODY_SIZE};
    q->body_type = q->tee == QUOTE_TEE_TDX ? QUOTE_BODY_TD10 : QUOTE_BODY_SGX;
    if (q->version == 5) {
        uint16_t type = read_le16(r);
        uint32_t size = read_le32(r);
        if (type < QUOTE_BODY_SGX || type > QUOTE_BODY_TD15) return "unknown body type";
        q->body_type = (enum quote_body)type;
        if (size != sizes[type]) return "body size does not fit the body type";
    }
    q->body = read_bytes(r, sizes[q->body_type]);
    if (r->failed) return "ends within the report body";
    if (q->body_type == QUOTE_BODY_SGX)
        sgx_body_parse(q->body.data, &q->sgx);
    else
        td_body_parse(q->body, &q->td);
    return NULL;
}

/* From the QE report on; in versions 4 and 5 all of it is certification data of type 6. */
static const char *parse_qe(struct reader *r, struct quote *q) {
    q->qe_report = read_span(r, SGX_BODY_SIZE);
    q->qe_signature = read_span(r, 64);
    q->qe_auth = read_bytes(r, read_le16(r));
    q->certification = read_le16(r);
    q->certification_data = read_bytes(r, read_le32(r));
    if (r->failed) return "certification data does not fit its size";
    if (r->left) return "bytes after the certification data";
    sgx_body_parse(q->qe_report, &q->qe);
    return NULL;
}

static const char *parse_signature(struct reader *r, struct quote *q) {
    struct reader inner = reader_of(read_bytes(r, read_le32(r)));
    if (r->failed) return "signature data is longer than the quote";
    q->signature = read_span(&inner, 64);
    q->attestation_key = read_span(&inner, 64);
    if (q->version == 3) return inner.failed ? "ends within the signature" : parse_qe(&inner, q);
    uint16_t type = read_le16(&inner);
    struct reader qe = reader_of(read_bytes(&inner, read_le32(&inner)));
    if (inner.failed) return "QE report data does not fit the signature data";
    if (type != CERT_QE_REPORT) return "signature data does not hold QE report certification data (type 6)";
    if (inner.left) return "bytes after the QE report data";
    return parse_qe(&qe, q);
}

/* Some producers hand out their whole buffer: Intel's TD quoting enclave 70 zeros too many, Google's guests 8000 bytes.
 * Any other byte after the end, or a few only, was put there by somebody else. */
static bool is_padding(const struct reader *r) {
    enum { PADDING_MIN = 16 };
    return r->left == 0 || (r->left >= PADDING_MIN && all_zero(r->at, r->left));
}

const char *quote_parse(struct attest_bytes bytes, struct quote *q) {
    memset(q, 0, sizeof *q);
    struct reader reader = reader_of(bytes), *r = &reader;
    q->version = read_le16(r);
    q->key_type = read_le16(r);
    q->tee = read_le32(r);
    q->qe_svn = read_le16(r);
    q->pce_svn = read_le16(r);
    read_into(r, q->vendor, sizeof q->vendor);
    read_into(r, q->user_data, sizeof q->user_data);
    if (r->failed) return "ends within the header";
    if (q->version < 3 || q->version > 5) return "unknown version";
    const char *wrong = parse_body(r, q);
    if (wrong) return wrong;
    q->signed_part = (struct attest_bytes){bytes.data, (size_t)(r->at - bytes.data)};
    if (q->key_type != QUOTE_KEY_ECDSA_P256) return QUOTE_OTHER_KEY;
    wrong = parse_signature(r, q);
    if (wrong) return wrong;
    q->size = bytes.size - r->left;
    if (!is_padding(r)) return "bytes after the end of the quote";
    return NULL;
}

size_t quote_size(struct attest_bytes bytes) {
    struct quote q;
    quote_parse(bytes, &q);
    return q.size;
}

/* ---- Facts ---- */

static void sgx_describe(struct attest_result *res, const struct sgx_body *b) {
    fact_bytes(res, "mrenclave", b->mrenclave, sizeof b->mrenclave);
    fact_bytes(res, "mrsigner", b->mrsigner, sizeof b->mrsigner);
    fact_number(res, "isv_prod_id", b->product_id);
    fact_number(res, "isv_svn", b->svn);
    fact(res, "debug", v_bool(b->flags & SGX_FLAG_DEBUG));
    fact_bytes(res, "report_data", b->report_data, sizeof b->report_data);
    fact_bytes(res, "attributes", b->attributes, sizeof b->attributes);
    fact_hex(res, "misc_select", b->misc_select);
    fact_bytes(res, "cpu_svn", b->cpu_svn, sizeof b->cpu_svn);
    fact_bytes(res, "config_id", b->config_id, sizeof b->config_id);
    fact_number(res, "config_svn", b->config_svn);
    fact_bytes(res, "isv_family_id", b->family_id, sizeof b->family_id);
    fact_bytes(res, "isv_ext_prod_id", b->ext_product_id, sizeof b->ext_product_id);
}

void td_describe(struct attest_result *res, const struct td_body *b) {
    static const char *const rtmr[] = {"rtmr0", "rtmr1", "rtmr2", "rtmr3"};
    fact_bytes(res, "mrtd", b->mrtd, sizeof b->mrtd);
    for (int i = 0; i < RTMR_COUNT; i++)
        fact_bytes(res, rtmr[i], b->rtmr[i], RTMR_SIZE);
    fact_bytes(res, "report_data", b->report_data, sizeof b->report_data);
    fact(res, "debug", v_bool(b->attributes & TD_ATTR_UNDER_DEBUG));
    fact_hex(res, "td_attributes", b->attributes);
    fact_hex(res, "xfam", b->xfam);
    fact_bytes(res, "mrconfigid", b->mrconfigid, sizeof b->mrconfigid);
    fact_bytes(res, "mrowner", b->mrowner, sizeof b->mrowner);
    fact_bytes(res, "mrownerconfig", b->mrownerconfig, sizeof b->mrownerconfig);
    fact_bytes(res, "mrseam", b->mrseam, sizeof b->mrseam);
    fact_bytes(res, "mrsignerseam", b->mrsignerseam, sizeof b->mrsignerseam);
    fact_bytes(res, "seam_attributes", b->seam_attributes, sizeof b->seam_attributes);
    fact_bytes(res, "tee_tcb_svn", b->tee_tcb_svn, sizeof b->tee_tcb_svn);
    if (!b->is15) return;
    fact_bytes(res, "tee_tcb_svn2", b->tee_tcb_svn2, sizeof b->tee_tcb_svn2);
    fact_bytes(res, "mrservicetd", b->mrservicetd, sizeof b->mrservicetd);
}

void quote_describe(struct attest_result *res, const struct quote *q) {
    static const char *const bodies[] = {"?", "SGX enclave", "TD 1.0", "TD 1.5"};
    fact_number(res, "version", q->version);
    fact(res, "body", v_text(bodies[q->body_type]));
    if (q->body_type == QUOTE_BODY_SGX)
        sgx_describe(res, &q->sgx);
    else
        td_describe(res, &q->td);
    fact_number(res, "attestation_key_type", q->key_type);
    fact_bytes(res, "qe_vendor", q->vendor, sizeof q->vendor);
    fact_bytes(res, "user_data", q->user_data, sizeof q->user_data);
    if (q->version == 3) {
        fact_number(res, "qe_svn", q->qe_svn);
        fact_number(res, "pce_svn", q->pce_svn);
    }
    if (!q->qe_report) return;
    fact_bytes(res, "qe_mrenclave", q->qe.mrenclave, sizeof q->qe.mrenclave);
    fact_bytes(res, "qe_mrsigner", q->qe.mrsigner, sizeof q->qe.mrsigner);
    fact_number(res, "qe_isv_prod_id", q->qe.product_id);
    fact_number(res, "qe_isv_svn", q->qe.svn);
    fact_number(res, "certification_data_type", q->certification);
}
