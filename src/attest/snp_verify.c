/* Appraisal of an SNP report (AMD 56860, SNP ABI; order of checks as in AMD 57230). */
#include <stdio.h>

#include "crypto.h"
#include "policy.h"
#include "snp.h"

struct snp_case {
    struct attest_verifier *v;
    const struct attest_policy *policy;
    const struct endorsements *carried;
    struct attest_result *res;
    int64_t now;
    struct snp_report report;
    struct snp_vek vek;
    enum snp_product product; /* the certificate's, when there is one: a version 2 report does not say */
};

/* ---- Choosing the certificate ---- */

static bool tcb_equal(struct snp_tcb a, struct snp_tcb b) {
    return a.fmc == b.fmc && a.bootloader == b.bootloader && a.tee == b.tee && a.snp == b.snp &&
           a.microcode == b.microcode;
}

static bool hwid_matches(const struct snp_vek *vek, const struct snp_report *report) {
    return vek->hwid_size && memcmp(vek->hwid, report->chip_id, vek->hwid_size) == 0 &&
           all_zero(report->chip_id + vek->hwid_size, sizeof report->chip_id - vek->hwid_size);
}

enum { FITS_KIND = 8, FITS_PRODUCT = 4, FITS_CHIP = 4, FITS_TCB = 2, FITS = 1 };

static int fitness(const X509 *x, const struct snp_report *report) {
    struct snp_vek vek;
    snp_vek_parse(x, &vek);
    int score = FITS;
    if (vek.kind == snp_signing_key(report)) score += FITS_KIND;
    if (vek.product == snp_product_of(report)) score += FITS_PRODUCT;
    if (hwid_matches(&vek, report)) score += FITS_CHIP;
    if (tcb_equal(vek.tcb, snp_tcb_of(report->reported_tcb, vek.product))) score += FITS_TCB;
    return score;
}

struct vek_search {
    const struct snp_report *report;
    int64_t now;
    X509 *best;
    int score, standing; /* standing -1: not looked at */
    unsigned looked;
};

/* Certificates can fit equally well: VLEKs of one provider and TCB do not say where they are used, and certificates
 * are renewed. Then the one whose key signed, and of those the one that is valid now. */
static int standing(struct vek_search *s, const X509 *x) {
    struct attest_bytes signed_part = {s->report->raw, SNP_SIGNED_SIZE};
    bool valid = s->now >= time_of(X509_get0_notBefore(x)) && s->now <= time_of(X509_get0_notAfter(x));
    s->looked++;
    return ecdsa_verify_key(X509_get0_pubkey(x), P384_BYTES, signed_part, s->report->r, s->report->s) ? 2 + valid : 0;
}

/* Of two with the same score. A report that fits none of thousands of chips is not tried with each of them. */
static bool stands_better(struct vek_search *s, X509 *x) {
    enum { LOOK_MAX = 16 };
    bool worth = s->score >= FITS + FITS_KIND + FITS_TCB + FITS_CHIP ||
                 (s->score >= FITS + FITS_KIND + FITS_TCB && snp_signing_key(s->report) == SNP_VLEK);
    if (!worth || s->looked >= LOOK_MAX || X509_cmp(s->best, x) == 0) return false;
    if (s->standing < 0) s->standing = standing(s, s->best);
    int other = standing(s, x);
    if (other <= s->standing) return false;
    s->standing = other;
    return true;
}

static void best_vek(struct vek_search *s, const struct certs *list) {
    for (size_t i = 0; i < list->count; i++) {
        X509 *x = list->items[i];
        if (!snp_is_vek(x)) continue;
        int score = fitness(x, s->report);
        if (score < s->score || (score == s->score && !stands_better(s, x))) continue;
        if (score > s->score) s->standing = -1;
        s->score = score;
        s->best = x;
    }
}

X509 *snp_find_vek(struct attest_verifier *v, const struct endorsements *carried, const struct snp_report *report,
                   int64_t now) {
    struct vek_search s = {.report = report, .now = now, .standing = -1};
    if (carried) best_vek(&s, &carried->certs);
    best_vek(&s, &v->store.certs);
    return s.best;
}

/* ---- Form ---- */

static bool check_form(struct snp_case *c) {
    struct attest_result *res = c->res;
    const struct snp_report *t = &c->report;
    bool known = t->version >= SNP_VERSION_MIN && t->version <= SNP_VERSION_MAX;
    bool ok = check(res, ATTEST_RULE_SNP_VERSION, known, v_text("2, 3, 4 or 5"), v_number(t->version));
    ok &= check(res, ATTEST_RULE_SNP_ALGORITHM, t->algorithm == SNP_ALGORITHM_ECDSA_P384,
                v_number(SNP_ALGORITHM_ECDSA_P384), v_number(t->algorithm));
    bool clean = t->reserved_zero && t->signature_padded;
    check(res, ATTEST_RULE_SNP_RESERVED, clean, v_text("zero"),
          v_text(clean                  ? "zero"
                 : !t->signature_padded ? "r or s is longer than 48 bytes"
                                        : "a reserved field or bit is set"));
    enum snp_key key = snp_signing_key(t);
    ok &= check(res, ATTEST_RULE_SNP_SIGNING_KEY, key == SNP_VCEK || key == SNP_VLEK, v_text("VCEK or VLEK"),
                v_text(key == SNP_VCEK     ? "VCEK"
                       : key == SNP_VLEK   ? "VLEK"
                       : key == SNP_NO_KEY ? "none: the report is not signed"
                                           : "reserved value"));
    return ok;
}

/* ---- Certificate and bindings ---- */

static struct attest_value show_tcb(struct attest_result *res, struct snp_tcb t, enum snp_product product) {
    if (product == SNP_TURIN)
        return v_format(res, "fmc %u, bootloader %u, tee %u, snp %u, microcode %u", t.fmc, t.bootloader, t.tee, t.snp,
                        t.microcode);
    return v_format(res, "bootloader %u, tee %u, snp %u, microcode %u", t.bootloader, t.tee, t.snp, t.microcode);
}

/* Is the certificate the one this report needs? Whether it is genuine and signed, other rules say. */
static void check_endorsement(struct snp_case *c, const X509 *vek) {
    struct attest_result *res = c->res;
    const struct snp_report *t = &c->report;
    enum { SHOWN = 8 }; /* bytes of a chip id that tell machines apart for a reader */
    char tcb[100], chip[2 * SHOWN + 4] = "", other[2 * SHOWN + 4] = "";
    bool vlek = snp_signing_key(t) == SNP_VLEK, masked = all_zero(t->chip_id, sizeof t->chip_id);
    struct snp_tcb reported = snp_tcb_of(t->reported_tcb, c->product);
    snprintf(tcb, sizeof tcb, "%s", show_tcb(res, reported, c->product).text);
    for (int i = 0; i < SHOWN; i++) {
        sprintf(chip + 2 * i, "%02x", t->chip_id[i]);
        sprintf(other + 2 * i, "%02x", c->vek.hwid[i]);
    }
    struct attest_value wanted = vlek     ? v_format(res, "a VLEK of the provider for %s", tcb)
                                 : masked ? v_format(res, "the VCEK of the chip (its id is masked) for %s", tcb)
                                          : v_format(res, "the VCEK of chip %s.. for %s", chip, tcb);
    bool kind = vek && c->vek.kind == snp_signing_key(t), here = kind && (vlek || masked || hwid_matches(&c->vek, t)),
         fits = here && tcb_equal(reported, c->vek.tcb);
    struct attest_value found =
        !vek    ? v_text("no VCEK or VLEK given")
        : !kind ? v_format(res, "only a %s", c->vek.kind == SNP_VLEK ? "VLEK" : "VCEK or unknown certificate")
        : !here ? v_format(res, "one of chip %s..", other)
        : fits  ? v_text(vlek ? "VLEK" : "VCEK")
                : v_format(res, "one for %s", show_tcb(res, c->vek.tcb, c->vek.product).text);
    check(res, ATTEST_RULE_ENDORSEMENT, fits, wanted, found);
}

static void check_product(struct snp_case *c, const struct chain *chain) {
    enum snp_product reported = snp_product_of(&c->report);
    char issuer[80], wanted[80];
    bool vlek = c->vek.kind == SNP_VLEK;
    common_name(X509_get_issuer_name(chain->certs[0]), issuer, sizeof issuer);
    const char *name = snp_product_names[c->vek.product];
    snprintf(wanted, sizeof wanted, "SEV-%s%s", vlek ? "VLEK-" : "", name);
    bool ok = c->vek.product != SNP_UNKNOWN && strcmp(issuer, wanted) == 0;
    char root[80], ark[80];
    common_name(X509_get_subject_name(chain->certs[chain->count - 1]), root, sizeof root);
    snprintf(ark, sizeof ark, "ARK-%s", name);
    ok = ok && strcmp(root, ark) == 0 && chain->count == 3;
    if (c->report.version >= 3) ok = ok && reported == c->vek.product;
    check(c->res, ATTEST_RULE_SNP_PRODUCT, ok, v_format(c->res, "%s under %s and %s", name, wanted, ark),
          v_format(c->res, "%s under %s and %s", c->report.version >= 3 ? snp_product_names[reported] : name, issuer,
                   root));
}

static void check_bindings(struct snp_case *c, const struct chain *chain) {
    struct attest_result *res = c->res;
    const struct snp_report *t = &c->report;
    if (chain) check_product(c, chain);
    bool kind = c->vek.well_formed && c->vek.kind == snp_signing_key(t);
    struct snp_tcb reported = snp_tcb_of(t->reported_tcb, c->product);
    bool same = kind && tcb_equal(reported, c->vek.tcb) && reported.reserved_zero;
    check(res, ATTEST_RULE_SNP_VEK_TCB, same,
          kind ? show_tcb(res, c->vek.tcb, c->product)
               : v_text(c->vek.well_formed ? "a certificate of the kind that signed"
                                           : "a certificate with AMD's extensions"),
          kind ? show_tcb(res, reported, c->product)
               : v_text(snp_signing_key(t) == SNP_VLEK ? "VLEK report" : "VCEK report"));
    bool masked = all_zero(t->chip_id, sizeof t->chip_id);
    if (c->vek.kind == SNP_VLEK) {
        note(res, ATTEST_RULE_SNP_CHIP_ID,
             masked ? v_text("masked; a VLEK names the provider, not the chip")
                    : v_bytes(res, t->chip_id, sizeof t->chip_id));
        return;
    }
    if (masked) { /* MASK_CHIP_ID: the signature alone says which chip it was */
        note(res, ATTEST_RULE_SNP_CHIP_ID,
             v_text("masked by the host; the certificate of the key that signed names it"));
        return;
    }
    uint8_t wanted[64] = {0};
    memcpy(wanted, c->vek.hwid, c->vek.hwid_size);
    bool ours = hwid_matches(&c->vek, t);
    check(res, ATTEST_RULE_SNP_CHIP_ID, ours, v_bytes(res, wanted, sizeof wanted),
          v_bytes(res, t->chip_id, sizeof t->chip_id));
}

/* a <= b in every component. */
static bool tcb_at_most(struct snp_tcb a, struct snp_tcb b) {
    return a.fmc <= b.fmc && a.bootloader <= b.bootloader && a.tee <= b.tee && a.snp <= b.snp &&
           a.microcode <= b.microcode;
}

static void check_order(struct snp_case *c) {
    const struct snp_report *t = &c->report;
    struct snp_tcb current = snp_tcb_of(t->current_tcb, c->product),
                   committed = snp_tcb_of(t->committed_tcb, c->product),
                   reported = snp_tcb_of(t->reported_tcb, c->product), launch = snp_tcb_of(t->launch_tcb, c->product);
    unsigned current_fw = t->current_major << 16 | t->current_minor << 8 | t->current_build,
             committed_fw = t->committed_major << 16 | t->committed_minor << 8 | t->committed_build;
    const char *wrong = !tcb_at_most(committed, current)  ? "committed TCB above current TCB"
                        : !tcb_at_most(reported, current) ? "reported TCB above current TCB"
                        : !tcb_at_most(launch, current)   ? "launch TCB above current TCB"
                        : committed_fw > current_fw       ? "committed firmware above current firmware"
                        : !(current.reserved_zero && committed.reserved_zero && launch.reserved_zero)
                            ? "reserved TCB bytes are set"
                            : NULL;
    struct attest_value wanted = v_text("no TCB above the current one");
    check(c->res, ATTEST_RULE_SNP_TCB_ORDER, !wrong, wanted, wrong ? v_text(wrong) : wanted);
}

/* ---- Policy ---- */

static void policy_guest(struct snp_case *c) {
    struct attest_result *res = c->res;
    const struct attest_policy *p = c->policy;
    const struct snp_report *t = &c->report;
    bool vmpl = t->vmpl < 4 && (p->snp.vmpls >> t->vmpl & 1);
    check(res, ATTEST_RULE_SNP_VMPL, vmpl,
          v_format(res, "%s%s%s%s", p->snp.vmpls & 1 ? "0 " : "", p->snp.vmpls & 2 ? "1 " : "",
                   p->snp.vmpls & 4 ? "2 " : "", p->snp.vmpls & 8 ? "3" : ""),
          t->vmpl == UINT32_MAX ? v_text("requested by the host") : v_number(t->vmpl));
    check_off(res, ATTEST_RULE_SNP_MIGRATION, t->policy & SNP_POLICY_MIGRATE, p->snp.allow_migration);
    check_off(res, ATTEST_RULE_SNP_SMT, t->policy & SNP_POLICY_SMT, p->snp.allow_smt);
    check_off(res, ATTEST_RULE_SNP_CXL, t->policy & SNP_POLICY_CXL, p->snp.allow_cxl);
    if (p->snp.require_single_socket)
        check(res, ATTEST_RULE_SNP_SINGLE_SOCKET, t->policy & SNP_POLICY_SINGLE_SOCKET, v_bool(true),
              v_bool(t->policy & SNP_POLICY_SINGLE_SOCKET));
    else
        note(res, ATTEST_RULE_SNP_SINGLE_SOCKET, v_bool(t->policy & SNP_POLICY_SINGLE_SOCKET));
    /* The guest policy's own minimum was enforced at launch; the firmware's version is what runs now. */
    uint32_t running = (uint32_t)t->current_major << 8 | t->current_minor, guest = t->policy & 0xffff;
    check(res, ATTEST_RULE_SNP_ABI, running >= p->snp.minimum_abi && running >= guest,
          v_format(res, "at least %u.%u", (p->snp.minimum_abi > guest ? p->snp.minimum_abi : guest) >> 8,
                   (p->snp.minimum_abi > guest ? p->snp.minimum_abi : guest) & 0xff),
          v_format(res, "%u.%u", running >> 8, running & 0xff));
    check(res, ATTEST_RULE_SNP_GUEST_SVN, t->guest_svn >= p->snp.minimum_guest_svn, v_number(p->snp.minimum_guest_svn),
          v_number(t->guest_svn));
}

static void policy_identity(struct snp_case *c) {
    struct attest_result *res = c->res;
    const struct attest_policy *p = c->policy;
    const struct snp_report *t = &c->report;
    bool named = p->snp.measurements.count || p->snp.id_keys.count;
    bool ok = check_set(res, ATTEST_RULE_MEASUREMENT, &p->snp.measurements, t->measurement, sizeof t->measurement);
    ok &= check_set(res, ATTEST_RULE_SIGNER, &p->snp.id_keys, t->id_key_digest, sizeof t->id_key_digest);
    res->identified = named && ok;
    bool author = snp_author_key(t);
    if (p->snp.author_keys.count || p->snp.require_author_key) {
        bool listed = !p->snp.author_keys.count ||
                      set_has(&p->snp.author_keys, t->author_key_digest, sizeof t->author_key_digest);
        check(res, ATTEST_RULE_SNP_AUTHOR_KEY, author && listed,
              v_text(p->snp.author_keys.count ? "a listed author key" : "an author key"),
              author ? v_bytes(res, t->author_key_digest, sizeof t->author_key_digest) : v_text("no author key"));
    } else
        note(res, ATTEST_RULE_SNP_AUTHOR_KEY,
             author ? v_bytes(res, t->author_key_digest, sizeof t->author_key_digest) : v_text("no author key"));
    check_set(res, ATTEST_RULE_SNP_FAMILY_ID, &p->snp.family_ids, t->family_id, sizeof t->family_id);
    check_set(res, ATTEST_RULE_SNP_IMAGE_ID, &p->snp.image_ids, t->image_id, sizeof t->image_id);
    check_set(res, ATTEST_RULE_SNP_HOST_DATA, &p->snp.host_data, t->host_data, sizeof t->host_data);
    policy_workload(res, p, t->host_data, sizeof t->host_data);
    policy_report_data(res, p, t->report_data);
}

/* The first component of `t` below the minimum, or null. */
static const char *below(struct snp_tcb t, const struct attest_min_tcb *min, int *wanted, int *found) {
    const struct {
        const char *name;
        int have, want;
    } parts[] = {{"fmc", t.fmc, min->fmc},
                 {"bootloader", t.bootloader, min->bootloader},
                 {"tee", t.tee, min->tee},
                 {"snp", t.snp, min->snp},
                 {"microcode", t.microcode, min->microcode}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (parts[i].have >= parts[i].want) continue;
        *wanted = parts[i].want;
        *found = parts[i].have;
        return parts[i].name;
    }
    return NULL;
}

static void policy_tcb(struct snp_case *c) {
    struct attest_result *res = c->res;
    const struct snp_report *t = &c->report;
    static const char *const names[] = {"reported", "current", "committed", "launch"};
    const uint64_t raw[] = {t->reported_tcb, t->current_tcb, t->committed_tcb, t->launch_tcb};
    bool ok = true;
    for (int i = 0; c->product != SNP_UNKNOWN && i < 4; i++) {
        int wanted = 0, found = 0;
        const char *part = below(snp_tcb_of(raw[i], c->product), &c->policy->snp.minimum[c->product], &wanted, &found);
        if (!part) continue;
        ok = false;
        check(res, ATTEST_RULE_SNP_MIN_TCB, false, v_format(res, "%s %s at least %d", names[i], part, wanted),
              v_number((uint64_t)found));
    }
    if (ok)
        check(res, ATTEST_RULE_SNP_MIN_TCB, c->product != SNP_UNKNOWN, v_text("at least the policy's minimum"),
              v_text(c->product != SNP_UNKNOWN ? "reached" : "unknown product"));
    bool settled = t->committed_tcb == t->current_tcb && t->committed_major == t->current_major &&
                   t->committed_minor == t->current_minor && t->committed_build == t->current_build;
    if (settled || !c->policy->snp.allow_provisional)
        check(res, ATTEST_RULE_SNP_PROVISIONAL, settled, v_text("committed equals current"),
              v_text(settled ? "committed equals current" : "current is above committed"));
    else
        note(res, ATTEST_RULE_SNP_PROVISIONAL, v_text("current is above committed: the host can still roll back"));
    uint64_t mitigations = t->launch_mitigations & t->current_mitigations, wanted = c->policy->snp.require_mitigations;
    check(res, ATTEST_RULE_SNP_MITIGATIONS, (mitigations & wanted) == wanted, v_hex(wanted), v_hex(mitigations));
}

static void policy_platform(struct snp_case *c) {
    struct attest_result *res = c->res;
    const struct attest_policy *p = c->policy;
    const struct snp_report *t = &c->report;
    check_words(res, ATTEST_RULE_SNP_PRODUCTS, &p->snp.products, snp_product_names[c->product]);
    uint64_t wanted = p->snp.require_platform_info;
    check(res, ATTEST_RULE_SNP_PLATFORM, (t->platform_info & wanted) == wanted, v_hex(wanted), v_hex(t->platform_info));
    check_set(res, ATTEST_RULE_SNP_CHIP, &p->snp.chips, t->chip_id, sizeof t->chip_id);
    bool vlek = snp_signing_key(t) == SNP_VLEK;
    check_off(res, ATTEST_RULE_SNP_VLEK, vlek, p->snp.allow_vlek);
    if (vlek) check_words(res, ATTEST_RULE_SNP_CSP, &p->snp.csp_ids, c->vek.csp);
}

void snp_verify(struct attest_verifier *v, struct attest_bytes bytes, const struct endorsements *carried,
                const struct attest_policy *policy, int64_t now, struct attest_result *res) {
    struct snp_case c = {.v = v, .policy = policy, .carried = carried, .res = res, .now = now};
    res->tee = ATTEST_TEE_SNP;
    bool sized = snp_parse(bytes, &c.report);
    check(res, ATTEST_RULE_EVIDENCE, sized, v_format(res, "%d bytes", SNP_REPORT_SIZE),
          v_format(res, "%zu bytes", bytes.size));
    if (!sized) return;
    bool readable = check_form(&c);
    c.product = snp_product_of(&c.report);
    X509 *vek = snp_find_vek(v, carried, &c.report, now);
    if (vek) {
        snp_vek_parse(vek, &c.vek);
        if (c.vek.product != SNP_UNKNOWN) c.product = c.vek.product;
    }
    snp_describe(res, &c.report, c.product);
    check_endorsement(&c, vek);
    if (!vek) return;
    char why[240] = "";
    const struct chain *chain = chain_of(v, vek, carried, VENDOR_AMD, why, sizeof why);
    check_chain(res, chain, why, now);
    if (chain) check_revocation(v, res, chain, carried, 1 /* AMD does not list VCEKs */, policy->snp.require_crl, now);
    if (chain && chain->vendor == VENDOR_SOFTWARE) res->tee = ATTEST_TEE_SOFTWARE;
    bool signed_ok = chain && readable && c.report.signature_padded &&
                     ecdsa_verify_key(chain->key, P384_BYTES, (struct attest_bytes){bytes.data, SNP_SIGNED_SIZE},
                                      c.report.r, c.report.s);
    check(res, ATTEST_RULE_SNP_SIGNATURE, signed_ok, v_text("signed by the certificate's key"),
          v_text(signed_ok ? "valid"
                 : chain   ? "not valid"
                           : "no trusted key to check it with"));
    check_bindings(&c, chain);
    check_order(&c);
    policy_common(res, policy, res->tee, c.report.policy & SNP_POLICY_DEBUG);
    policy_identity(&c);
    policy_guest(&c);
    policy_platform(&c);
    policy_tcb(&c);
}
