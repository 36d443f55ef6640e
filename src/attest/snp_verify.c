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

/* The first reserved field or bit that is set, in words (SNP ABI 1.55, table 23). */
static void which_reserved(const struct snp_report *t, char *out, size_t size) {
    static const struct {
        uint16_t at, size;
        uint8_t below; /* reserved in versions before this one */
    } fields[] = {{0x4c, 4, 255},  {0x188, 3, 3},  {0x18b, 21, 255},  {0x1eb, 1, 255},
                  {0x1ef, 1, 255}, {0x1f8, 16, 5}, {0x208, 152, 255}, {0x330, 368, 255}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (t->version >= fields[i].below || all_zero(t->raw + fields[i].at, fields[i].size)) continue;
        size_t at = fields[i].at;
        while (!t->raw[at])
            at++;
        snprintf(out, size, "byte 0x%zx is 0x%02x", at, t->raw[at]);
        return;
    }
    unsigned long long policy = t->policy & ~SNP_POLICY_KNOWN, platform = t->platform_info & ~SNP_PLATFORM_KNOWN;
    if (!(t->policy & SNP_POLICY_ONE))
        snprintf(out, size, "bit 17 of the guest policy is 0, where 1 belongs");
    else if (policy)
        snprintf(out, size, "unknown bits 0x%llx of the guest policy are set", policy);
    else if (platform)
        snprintf(out, size, "unknown bits 0x%llx of the platform info are set", platform);
    else
        snprintf(out, size, "unknown bits of the key info (byte 0x48) are set: 0x%x", t->key_info);
}

static bool check_form(struct snp_case *c) {
    struct attest_result *res = c->res;
    const struct snp_report *t = &c->report;
    char reserved[200] = "zero";
    bool known = t->version >= SNP_VERSION_MIN && t->version <= SNP_VERSION_MAX;
    bool ok = check(res, ATTEST_RULE_SNP_VERSION, known, v_text("2, 3, 4 or 5"), v_number(t->version));
    if (t->version < SNP_VERSION_MIN)
        advise(res, "no firmware in use makes such reports: the file is something else of 1184 bytes, or was altered");
    ok &= check(res, ATTEST_RULE_SNP_ALGORITHM, t->algorithm == SNP_ALGORITHM_ECDSA_P384,
                v_number(SNP_ALGORITHM_ECDSA_P384), v_number(t->algorithm));
    bool clean = t->reserved_zero && t->signature_padded;
    if (!t->reserved_zero) which_reserved(t, reserved, sizeof reserved);
    check(res, ATTEST_RULE_SNP_RESERVED, clean, v_text("zero"),
          !t->signature_padded ? v_text("r or s is longer than 48 bytes") : v_format(res, "%s", reserved));
    if (!t->signature_padded) advise(res, "the signature was altered: fetch the report again");
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
static bool check_endorsement(struct snp_case *c, const X509 *vek) {
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
    char url[500];
    /* Of which product the chip is, a certificate of another chip does not say. */
    enum snp_product named = snp_product_of(t), product = named == SNP_UNKNOWN && here ? c->vek.product : named;
    if (vlek)
        advise(res,
               "AMD gives VLEKs to cloud providers only: have the attester send the certificate table with the report "
               "(SNP_GET_EXT_REPORT, auxblob of configfs-tsm), or get the VLEK from the provider and give it with "
               "--collateral");
    else if (masked)
        advise(res,
               "AMD's server finds a VCEK by the chip id, which the host keeps secret here (MASK_CHIP_ID): have the "
               "attester send the certificate table, or get the VCEK from who operates the host");
    else if (snp_vcek_url(t, product, url, sizeof url))
        advise(res, "run `donjon collateral fetch` on the evidence, or give with --collateral what AMD serves at %s",
               url);
    else if (t->version < 3 && snp_vcek_url(t, SNP_MILAN, url, sizeof url))
        advise(
            res,
            "run `donjon collateral fetch` on the evidence, or give with --collateral what AMD serves at %s (a report "
            "of version 2 does not say of which product its chip is: if AMD knows none there, with Genoa in the "
            "place of Milan)",
            url);
    return fits;
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
    const char *says = c->report.version >= 3 ? snp_product_names[reported] : name;
    check(c->res, ATTEST_RULE_SNP_PRODUCT, ok,
          v_format(c->res, "report, certificate and chain of %s (%s under %s)", says, wanted, ark),
          v_format(c->res, "a report of %s, a certificate of %s, signed by %s under %s", says, name, issuer, root));
    if (c->report.version >= 3 && reported == SNP_UNKNOWN)
        advise(c->res, "the report's CPUID names a product this verifier does not know: update the verifier");
}

static void check_bindings(struct snp_case *c, const struct chain *chain, bool fits) {
    struct attest_result *res = c->res;
    const struct snp_report *t = &c->report;
    if (chain) check_product(c, chain);
    bool kind = c->vek.well_formed && c->vek.kind == snp_signing_key(t);
    struct snp_tcb reported = snp_tcb_of(t->reported_tcb, c->product);
    bool same = kind && tcb_equal(reported, c->vek.tcb) && reported.reserved_zero;
    struct attest_value wanted_tcb = show_tcb(res, reported, c->product);
    check(res, ATTEST_RULE_SNP_VEK_TCB, same,
          v_format(res, "a %s for %s", snp_signing_key(t) == SNP_VLEK ? "VLEK" : "VCEK", wanted_tcb.text),
          kind                 ? show_tcb(res, c->vek.tcb, c->product)
          : c->vek.well_formed ? v_text(c->vek.kind == SNP_VLEK ? "a VLEK" : "a VCEK")
                               : v_text("a certificate without AMD's extensions, or with malformed ones"));
    if (!fits) advise(res, "not the certificate this report needs: see chain.endorsement");
    bool masked = all_zero(t->chip_id, sizeof t->chip_id);
    uint8_t hwid[64] = {0};
    memcpy(hwid, c->vek.hwid, c->vek.hwid_size);
    if (c->vek.kind == SNP_VLEK) {
        note(res, ATTEST_RULE_SNP_CHIP_ID,
             masked ? v_text("masked; a VLEK names the provider, not the chip")
                    : v_bytes(res, t->chip_id, sizeof t->chip_id));
        return;
    }
    if (masked) { /* MASK_CHIP_ID: the signature alone says which chip it was */
        fact_bytes(res, "certificate_chip_id", hwid, sizeof hwid);
        note(res, ATTEST_RULE_SNP_CHIP_ID,
             v_text("masked by the host; the certificate of the key that signed names it"));
        return;
    }
    bool ours = hwid_matches(&c->vek, t);
    check(res, ATTEST_RULE_SNP_CHIP_ID, ours, v_bytes(res, t->chip_id, sizeof t->chip_id),
          v_bytes(res, hwid, sizeof hwid));
    if (!fits) advise(res, "not the certificate this report needs: see chain.endorsement");
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
    bool committed_wrong = wrong && !tcb_at_most(committed, current),
         reported_wrong = wrong && !tcb_at_most(reported, current);
    struct attest_value shown = show_tcb(c->res,
                                         committed_wrong  ? committed
                                         : reported_wrong ? reported
                                                          : launch,
                                         c->product);
    struct attest_value now = wrong ? show_tcb(c->res, current, c->product) : v_none();
    check(c->res, ATTEST_RULE_SNP_TCB_ORDER, !wrong, wanted,
          wrong ? v_format(c->res, "%s (%s; current %s)", wrong, shown.text, now.text) : wanted);
}

/* ---- Policy ---- */

static void policy_guest(struct snp_case *c) {
    struct attest_result *res = c->res;
    const struct attest_policy *p = c->policy;
    const struct snp_report *t = &c->report;
    bool vmpl = t->vmpl < 4 && (p->snp.vmpls >> t->vmpl & 1);
    check(res, ATTEST_RULE_SNP_VMPL, vmpl,
          v_format(res, "VMPL%s%s%s%s", p->snp.vmpls & 1 ? " 0" : "", p->snp.vmpls & 2 ? " 1" : "",
                   p->snp.vmpls & 4 ? " 2" : "", p->snp.vmpls & 8 ? " 3" : ""),
          t->vmpl == UINT32_MAX ? v_text("requested by the host") : v_format(res, "VMPL %u", t->vmpl));
    concerns(res, "snp.vmpl");
    if (t->vmpl == UINT32_MAX)
        advise(res, "a report the host asked for says nothing of who is in the guest: request it from inside");
    else if (t->vmpl < 4)
        advise(res,
               "request the report from a more privileged level of the guest, or, if code at VMPL %u is meant to speak "
               "for "
               "it, allow it: snp.vmpl = %u",
               t->vmpl, t->vmpl);
    check_off(res, ATTEST_RULE_SNP_MIGRATION, t->policy & SNP_POLICY_MIGRATE, p->snp.allow_migration);
    check_off(res, ATTEST_RULE_SNP_SMT, t->policy & SNP_POLICY_SMT, p->snp.allow_smt);
    check_off(res, ATTEST_RULE_SNP_CXL, t->policy & SNP_POLICY_CXL, p->snp.allow_cxl);
    if (p->snp.require_single_socket)
        check(res, ATTEST_RULE_SNP_SINGLE_SOCKET, t->policy & SNP_POLICY_SINGLE_SOCKET, v_text("SINGLE_SOCKET on"),
              v_text(t->policy & SNP_POLICY_SINGLE_SOCKET ? "on" : "off"));
    else
        note(res, ATTEST_RULE_SNP_SINGLE_SOCKET, v_bool(t->policy & SNP_POLICY_SINGLE_SOCKET));
    /* The guest policy's own minimum was enforced at launch; the firmware's version is what runs now. */
    uint32_t running = (uint32_t)t->current_major << 8 | t->current_minor, guest = t->policy & 0xffff;
    bool demanded = p->snp.minimum_abi > guest;
    check(res, ATTEST_RULE_SNP_ABI, running >= p->snp.minimum_abi && running >= guest,
          v_format(res, "at least %u.%u", (p->snp.minimum_abi > guest ? p->snp.minimum_abi : guest) >> 8,
                   (p->snp.minimum_abi > guest ? p->snp.minimum_abi : guest) & 0xff),
          v_format(res, "%u.%u", running >> 8, running & 0xff));
    if (demanded)
        advise(res, "have who operates the host update its SEV firmware, or lower snp.minimum_abi");
    else
        advise(
            res,
            "the firmware runs a guest whose policy demands a newer one: no conforming firmware does, do not trust it");
    check(res, ATTEST_RULE_SNP_GUEST_SVN, t->guest_svn >= p->snp.minimum_guest_svn,
          v_format(res, "at least %u", p->snp.minimum_guest_svn), v_number(t->guest_svn));
}

static void policy_identity(struct snp_case *c) {
    struct attest_result *res = c->res;
    const struct attest_policy *p = c->policy;
    const struct snp_report *t = &c->report;
    bool named = p->snp.measurements.count || p->snp.id_keys.count;
    bool ok = check_set(res, ATTEST_RULE_MEASUREMENT, "snp.measurements", &p->snp.measurements, t->measurement,
                        sizeof t->measurement);
    ok &= check_set(res, ATTEST_RULE_SIGNER, "snp.id_keys", &p->snp.id_keys, t->id_key_digest, sizeof t->id_key_digest);
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
    check_set(res, ATTEST_RULE_SNP_FAMILY_ID, "snp.family_ids", &p->snp.family_ids, t->family_id, sizeof t->family_id);
    check_set(res, ATTEST_RULE_SNP_IMAGE_ID, "snp.image_ids", &p->snp.image_ids, t->image_id, sizeof t->image_id);
    check_set(res, ATTEST_RULE_SNP_HOST_DATA, "snp.host_data", &p->snp.host_data, t->host_data, sizeof t->host_data);
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
        check(res, ATTEST_RULE_SNP_MIN_TCB, false, v_format(res, "%s TCB: %s at least %d", names[i], part, wanted),
              v_format(res, "%d (%s)", found, show_tcb(res, snp_tcb_of(raw[i], c->product), c->product).text));
        concerns(res, v_format(res, "snp.minimum_tcb.%s.%s", snp_product_names[c->product], part).text);
        static const char *const steps[] = {"have who operates the host raise the reported TCB (SNP_SET_CONFIG) after "
                                            "the update, and fetch the VCEK for it",
                                            "have who operates the host update its firmware and microcode",
                                            "have who operates the host commit its update "
                                            "(SNP_COMMIT)",
                                            "launch the guest anew: it was launched before the host was updated"};
        advise(res, "%s. Or lower %s", steps[i], res->checks[res->check_count - 1].key);
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
    if (t->version < 5)
        advise(res,
               "reports of version %u have no mitigation bits: update the host's firmware, or drop "
               "snp.require_mitigations",
               t->version);
}

/* " SMT ECC ...", of PLATFORM_INFO. */
static const char *platform_names(uint64_t bits, char *out, size_t size) {
    static const char *const names[] = {"SMT", "TSME", "ECC", "RAPL off", "ciphertext hiding", "alias check"};
    size_t at = 0;
    out[0] = 0;
    for (size_t i = 0; i < 64 && at < size; i++) {
        if (!(bits >> i & 1)) continue;
        const char *comma = at ? "," : "";
        at += (size_t)(i < sizeof names / sizeof *names ? snprintf(out + at, size - at, "%s %s", comma, names[i])
                                                        : snprintf(out + at, size - at, "%s bit %zu", comma, i));
    }
    return out;
}

static void policy_platform(struct snp_case *c) {
    struct attest_result *res = c->res;
    const struct attest_policy *p = c->policy;
    const struct snp_report *t = &c->report;
    check_words(res, ATTEST_RULE_SNP_PRODUCTS, "snp.products", &p->snp.products, snp_product_names[c->product]);
    uint64_t wanted = p->snp.require_platform_info;
    char have[120], want[120], lack[120];
    check(res, ATTEST_RULE_SNP_PLATFORM, (t->platform_info & wanted) == wanted,
          v_format(res, "0x%llx%s", (unsigned long long)wanted, platform_names(wanted, want, sizeof want)),
          v_format(res, "0x%llx%s", (unsigned long long)t->platform_info,
                   platform_names(t->platform_info, have, sizeof have)));
    advise(res,
           "have who operates the host turn on, in its BIOS, what is missing:%s. Or drop the bits from "
           "snp.require_platform_info",
           platform_names(wanted & ~t->platform_info, lack, sizeof lack));
    check_set(res, ATTEST_RULE_SNP_CHIP, "snp.chips", &p->snp.chips, t->chip_id, sizeof t->chip_id);
    bool vlek = snp_signing_key(t) == SNP_VLEK;
    if (vlek && p->snp.allow_vlek)
        note(res, ATTEST_RULE_SNP_VLEK, v_text("VLEK"));
    else
        check(res, ATTEST_RULE_SNP_VLEK, !vlek, v_text("VCEK"), v_text(vlek ? "VLEK" : "VCEK"));
    if (vlek) check_words(res, ATTEST_RULE_SNP_CSP, "snp.csp_ids", &p->snp.csp_ids, c->vek.csp);
}

void snp_verify(struct attest_verifier *v, struct attest_bytes bytes, const struct endorsements *carried,
                const struct attest_policy *policy, int64_t now, struct attest_result *res) {
    struct snp_case c = {.v = v, .policy = policy, .carried = carried, .res = res, .now = now};
    res->tee = ATTEST_TEE_SNP;
    bool sized = snp_parse(bytes, &c.report);
    check(res, ATTEST_RULE_EVIDENCE, sized, v_format(res, "%d bytes", SNP_REPORT_SIZE),
          v_format(res, "%zu bytes", bytes.size));
    if (bytes.size < SNP_REPORT_SIZE)
        advise(res, "the report is cut off: fetch it again, all of it");
    else
        advise(res, "something was added: pass on the report alone, or followed by its certificate table");
    if (!sized) return;
    bool readable = check_form(&c);
    c.product = snp_product_of(&c.report);
    X509 *vek = snp_find_vek(v, carried, &c.report, now);
    if (vek) {
        snp_vek_parse(vek, &c.vek);
        if (c.vek.product != SNP_UNKNOWN) c.product = c.vek.product;
    }
    snp_describe(res, &c.report, c.product);
    bool fits = check_endorsement(&c, vek);
    if (!vek) return;
    char why[240] = "";
    const struct chain *chain = chain_of(v, vek, carried, VENDOR_AMD, why, sizeof why);
    check_chain(res, chain, why, now);
    if (!chain && !c.report.reported_tcb) /* no processor that AMD has sold is at level 0 of everything */
        advise(res, "this looks like the software signer of a keep without a TEE, which proves nothing: to appraise it "
                    "nevertheless, --dev-root with its agent's dev-root.pem and --set allow_software=true");
    else if (!chain)
        advise(res,
               "the certificate was damaged, is not AMD's, or its ASK is missing: fetch certificate and chain again "
               "(`donjon "
               "collateral fetch`; the chain is https://kdsintf.amd.com/%s/v1/%s/cert_chain). A root of your own: "
               "--root, or "
               "--dev-root",
               c.vek.kind == SNP_VLEK ? "vlek" : "vcek", snp_product_names[c.product == SNP_UNKNOWN ? 0 : c.product]);
    if (chain) check_revocation(v, res, chain, carried, 1 /* AMD does not list VCEKs */, policy->snp.require_crl, now);
    if (chain && chain->vendor == VENDOR_SOFTWARE) res->tee = ATTEST_TEE_SOFTWARE;
    bool signed_ok = chain && readable && c.report.signature_padded &&
                     ecdsa_verify_key(chain->key, P384_BYTES, (struct attest_bytes){bytes.data, SNP_SIGNED_SIZE},
                                      c.report.r, c.report.s);
    check(res, ATTEST_RULE_SNP_SIGNATURE, signed_ok, v_text("signed by the certificate's key"),
          v_text(signed_ok   ? "valid"
                 : !chain    ? "not checked: there is no trusted key to do it with"
                 : !readable ? "not checked: the report is of an unknown form"
                             : "the signature does not verify"));
    if (!chain)
        advise(res, "repair the certificates first (chain.path)");
    else if (!readable)
        advise(res, "see the failures under form");
    else if (!fits)
        advise(res, "this is not the certificate of the key that signed: see chain.endorsement");
    else if (c.vek.kind == SNP_VLEK || all_zero(c.report.chip_id, sizeof c.report.chip_id))
        advise(res, "kind and TCB of the certificate agree, but it does not name the chip: this is another one of the "
                    "same kind (providers have several VLEKs; of masked chips any has its VCEK), or the report was "
                    "altered after it was signed. Have the attester send report and certificate together (certificate "
                    "table), byte for byte");
    else
        advise(res, "the certificate is the right one (chip and TCB agree), so the report was altered after it was "
                    "signed: fetch "
                    "it again, and pass it on byte for byte");
    check_bindings(&c, chain, fits);
    check_order(&c);
    policy_common(res, policy, res->tee, c.report.policy & SNP_POLICY_DEBUG);
    policy_identity(&c);
    policy_guest(&c);
    policy_platform(&c);
    policy_tcb(&c);
}
