/* Where the vendors serve what an appraisal needs: AMD's Key Distribution Service (57230, section 4) and Intel's
 * Provisioning Certification Service (API v4). */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "evidence.h"
#include "quote.h"
#include "snp.h"

struct list {
    char **urls;
    size_t count, max;
};

static void put(struct list *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct list *l, const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (l->count < l->max && vasprintf(&l->urls[l->count], format, args) >= 0) l->count++;
    va_end(args);
}

static void hex(const uint8_t *bytes, size_t size, char *out) {
    for (size_t i = 0; i < size; i++)
        sprintf(out + 2 * i, "%02x", bytes[i]);
}

bool snp_vcek_url(const struct snp_report *report, enum snp_product product, char *out, size_t size) {
    if (product == SNP_UNKNOWN) return false;
    struct snp_tcb t = snp_tcb_of(report->reported_tcb, product);
    char chip[129], fmc[20] = "";
    hex(report->chip_id, product == SNP_TURIN ? 8 : 64, chip);
    if (product == SNP_TURIN) snprintf(fmc, sizeof fmc, "fmcSPL=%02u&", t.fmc);
    int n =
        snprintf(out, size, "https://kdsintf.amd.com/vcek/v1/%s/%s?%sblSPL=%02u&teeSPL=%02u&snpSPL=%02u&ucodeSPL=%02u",
                 snp_product_names[product], chip, fmc, t.bootloader, t.tee, t.snp, t.microcode);
    return n > 0 && (size_t)n < size;
}

static bool masked(const struct snp_report *report) {
    return all_zero(report->chip_id, sizeof report->chip_id);
}

/* https://kdsintf.amd.com/vcek/v1/{product}/{hwid}?blSPL=..&teeSPL=..&snpSPL=..&ucodeSPL=.. and .../cert_chain, .../crl
 */
static void amd_urls(struct list *l, struct attest_verifier *v, const struct attest_evidence *e) {
    struct snp_report report;
    if (!snp_parse(e->report, &report)) return;
    enum snp_product product = snp_product_of(&report);
    X509 *vek = snp_find_vek(v, &e->carried, &report, 0);
    struct snp_vek parsed;
    if (product == SNP_UNKNOWN && vek) {
        snp_vek_parse(vek, &parsed);
        product = parsed.product;
    }
    /* A version 2 report does not name its product. There were two of them in its time: one has the chip. */
    enum snp_product first = product == SNP_UNKNOWN ? SNP_MILAN : product,
                     last = product == SNP_UNKNOWN ? SNP_GENOA : product;
    bool vlek = snp_signing_key(&report) == SNP_VLEK;
    char url[500];
    for (enum snp_product p = first; p <= last; p++)
        if (!vlek && !masked(&report) && snp_vcek_url(&report, p, url, sizeof url)) put(l, "%s", url);
    /* A VLEK is given to the provider only: it has to come with the evidence. */
    for (enum snp_product p = first; p <= last; p++) {
        put(l, "https://kdsintf.amd.com/%s/v1/%s/cert_chain", vlek ? "vlek" : "vcek", snp_product_names[p]);
        put(l, "https://kdsintf.amd.com/%s/v1/%s/crl", vlek ? "vlek" : "vcek", snp_product_names[p]);
    }
}

static void intel_urls(struct list *l, struct attest_verifier *v, const struct attest_evidence *e) {
    struct quote q;
    struct endorsements in_quote = {0};
    struct pck pck = {0};
    (void)v;
    if (e->local_only || quote_parse(e->report, &q)) return;
    bool td = q.tee == QUOTE_TEE_TDX;
    X509 *leaf = quote_pck_leaf(&q, &in_quote);
    if (leaf && pck_parse(leaf, &pck)) {
        char issuer[80], fmspc[13];
        common_name(X509_get_issuer_name(leaf), issuer, sizeof issuer);
        hex(pck.fmspc, sizeof pck.fmspc, fmspc);
        put(l, "https://api.trustedservices.intel.com/%s/certification/v4/tcb?fmspc=%s", td ? "tdx" : "sgx", fmspc);
        put(l, "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=%s&encoding=der",
            strstr(issuer, "Platform") ? "platform" : "processor");
    } else if (q.certification == CERT_PPID_RSA3072 && q.certification_data.size >= 384 + 20) {
        /* Needs an API subscription key; the query is what the quote offers. */
        const uint8_t *clear = q.certification_data.data + q.certification_data.size - 20;
        char ppid[769], cpusvn[33], pcesvn[5], pceid[5];
        hex(q.certification_data.data, 384, ppid);
        hex(clear, 16, cpusvn);
        hex(clear + 16, 2, pcesvn);
        hex(clear + 18, 2, pceid);
        put(l,
            "https://api.trustedservices.intel.com/sgx/certification/v4/"
            "pckcert?encrypted_ppid=%s&cpusvn=%s&pcesvn=%s&pceid=%s",
            ppid, cpusvn, pcesvn, pceid);
    }
    put(l, "https://api.trustedservices.intel.com/%s/certification/v4/qe/identity", td ? "tdx" : "sgx");
    put(l, "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der");
    endorsements_free(&in_quote);
}

size_t attest_collateral_urls(struct attest_verifier *v, const struct attest_evidence *e, char **urls, size_t max) {
    struct list l = {urls, 0, max};
    if (e->tee == ATTEST_TEE_SNP) amd_urls(&l, v, e);
    if (e->tee == ATTEST_TEE_SGX || e->tee == ATTEST_TEE_TDX) intel_urls(&l, v, e);
    return l.count;
}

const char *attest_collateral_lacking(const struct attest_evidence *e) {
    struct snp_report report;
    if (e->tee == ATTEST_TEE_KEYSTONE)
        return "Keystone has no vendor to ask: put the device's public key into keystone.device_keys of the policy";
    if (e->local_only)
        return "this is a local TD report, which cannot be verified elsewhere: have the attester send a quote";
    if (e->tee != ATTEST_TEE_SNP || !snp_parse(e->report, &report)) return NULL;
    if (snp_signing_key(&report) == SNP_VLEK)
        return "a VLEK signed this report, and AMD gives those to cloud providers only: have the attester send the "
               "certificate "
               "table, or get the VLEK from the provider";
    if (masked(&report))
        return "the host keeps its chip id secret, so AMD's server cannot find its VCEK: have the attester send the "
               "certificate "
               "table, or get the VCEK from who operates the host";
    return NULL;
}
