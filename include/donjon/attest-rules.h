/* Every check the Verifier makes: ATTEST_RULE(id, group, name, what is checked, what to do when it fails).
 * Included several times on purpose; docs/attestation.md explains how to read a rejection. */

// clang-format off
/* Form: can the evidence be read, and does it say nothing a conforming machine would not say? */
ATTEST_RULE(EVIDENCE, FORMAT, "format.evidence", "the evidence is complete and well-formed",
            "fetch the evidence again and pass it on byte for byte; it is truncated, padded or of another kind")
ATTEST_RULE(WRAPPER, FORMAT, "format.wrapper", "what carries the evidence is well-formed",
            "ask the attester's author: the wrapper does not follow its own format")
ATTEST_RULE(SNP_VERSION, FORMAT, "snp.version", "report version is one this verifier knows",
            "update the verifier: reports of unknown versions are not guessed at, their fields may mean something else")
ATTEST_RULE(SNP_ALGORITHM, FORMAT, "snp.signature_algorithm", "signature algorithm is ECDSA P-384 with SHA-384",
            "no other algorithm is defined for SNP; the report was altered")
ATTEST_RULE(SNP_RESERVED, FORMAT, "snp.reserved", "reserved fields and bits are zero",
            "the report was altered, or comes from firmware newer than this verifier: update the verifier")
ATTEST_RULE(SNP_SIGNING_KEY, FORMAT, "snp.signing_key", "the report is signed by a VCEK or VLEK",
            "the firmware did not sign this report (key masked or none): enable the chip key on the host")
ATTEST_RULE(QUOTE_VERSION, FORMAT, "quote.version", "quote version, body type and TEE type are known and agree",
            "update the verifier; unknown versions are never guessed at")
ATTEST_RULE(QUOTE_KEY_TYPE, FORMAT, "quote.key_type", "attestation key type is ECDSA P-256",
            "use the ECDSA quoting enclave (DCAP); EPID and others are not verified here")
ATTEST_RULE(QUOTE_VENDOR, FORMAT, "quote.vendor", "the quoting enclave's vendor is Intel",
            "only Intel's quoting enclave is supported")
ATTEST_RULE(QUOTE_CERTIFICATION, FORMAT, "quote.certification_data", "the quote names its PCK certificate",
            "have the attester send certification data type 5, or give the PCK chain with --collateral")
ATTEST_RULE(SGX_RESERVED, FORMAT, "sgx.reserved", "reserved fields of the enclave report are zero",
            "the report was altered, or the CPU is newer than this verifier: update the verifier")
ATTEST_RULE(TDX_RESERVED, FORMAT, "tdx.reserved", "reserved TD and SEAM attributes are zero",
            "the TD uses attributes this verifier does not know: update it, do not ignore them")
ATTEST_RULE(NITRO_ALGORITHM, FORMAT, "nitro.algorithm", "COSE algorithm is ES384 and the PCR digest SHA384",
            "AWS defines no other; the document was altered")
ATTEST_RULE(EVENT_LOG_FORMAT, FORMAT, "eventlog.format", "the event log is well-formed",
            "fetch the log again: /sys/firmware/acpi/tables/data/CCEL or the guest agent's JSON")

/* Certificates. */
ATTEST_RULE(ENDORSEMENT, CHAIN, "chain.endorsement", "the certificate of the signing key is at hand",
            "run `donjon collateral fetch` on the evidence, or give the certificate with --collateral")
ATTEST_RULE(CHAIN_PATH, CHAIN, "chain.path", "the certificate chains to a trust anchor, with the right names, roles and signatures",
            "the certificate is not the vendor's, or the chain is incomplete: fetch the chain again")
ATTEST_RULE(CHAIN_ALGORITHM, CHAIN, "chain.algorithm", "all certificates are signed with the algorithm their vendor uses",
            "the vendor does not issue such certificates; do not trust the source")
ATTEST_RULE(CHAIN_VALIDITY, CHAIN, "chain.validity", "every certificate is valid at the verification time",
            "get fresh evidence or a renewed certificate; to appraise old evidence at its own time use --at")
ATTEST_RULE(CHAIN_REVOKED, CHAIN, "chain.revocation", "no certificate of the chain is revoked",
            "the vendor withdrew this key: move the workload to another machine or update its firmware, then get a new certificate")
ATTEST_RULE(CHAIN_CRL, CHAIN, "chain.crl", "revocation lists are present, genuine and current",
            "run `donjon collateral fetch` to get the current CRLs")

/* Signatures. */
ATTEST_RULE(SNP_SIGNATURE, SIGNATURE, "snp.signature", "the chip's key signed this report",
            "the report was altered, or the certificate is another chip's or of another TCB: fetch the VCEK for this report's chip id and TCB")
ATTEST_RULE(QUOTE_QE_SIGNATURE, SIGNATURE, "quote.qe_signature", "the platform's PCK key signed the quoting enclave's report",
            "the quote was altered, or carries another platform's PCK certificate: fetch it again, and pass it on byte for byte")
ATTEST_RULE(QUOTE_SIGNATURE, SIGNATURE, "quote.signature", "the attestation key signed header and body",
            "the quote was altered after it was made: fetch it again")
ATTEST_RULE(NITRO_SIGNATURE, SIGNATURE, "nitro.signature", "the enclave's certificate signed the document",
            "the document was altered: fetch it again")
ATTEST_RULE(VTPM_SIGNATURE, SIGNATURE, "vtpm.signature", "the vTPM's key, named by the runtime data, signed its quote",
            "the vTPM quote was altered or belongs to another machine: fetch report and quote again, together")
ATTEST_RULE(KEYSTONE_SM_SIGNATURE, SIGNATURE, "keystone.sm_signature", "the device key signed the security monitor",
            "the report was altered or made on another device")
ATTEST_RULE(KEYSTONE_SIGNATURE, SIGNATURE, "keystone.signature", "the security monitor signed the enclave's report",
            "the report was altered after it was made")

/* Things that must belong together. */
ATTEST_RULE(SNP_PRODUCT, BINDING, "snp.product", "report, certificate and chain name the same product",
            "use the certificate chain of the product the report comes from")
ATTEST_RULE(SNP_VEK_TCB, BINDING, "snp.reported_tcb", "the certificate was issued for the TCB the report names, component by component",
            "fetch the VCEK/VLEK for exactly this reported TCB")
ATTEST_RULE(SNP_CHIP_ID, BINDING, "snp.chip_id", "the certificate was issued for this chip",
            "fetch the VCEK of this chip")
ATTEST_RULE(SNP_TCB_ORDER, BINDING, "snp.tcb_order", "committed, launch and reported TCB do not exceed the current TCB",
            "no conforming firmware reports this: do not trust the machine")
ATTEST_RULE(QUOTE_ATTESTATION_KEY, BINDING, "quote.attestation_key", "the quoting enclave vouches for the attestation key",
            "the attestation key or its authentication data was replaced: fetch the quote again, and pass it on byte for byte")
ATTEST_RULE(WRAPPER_SIGNATURE, BINDING, "wrapper.signature", "the certificate or request carrying the evidence is signed by its own key",
            "the certificate was altered, or is not self-signed as RA-TLS needs")
ATTEST_RULE(WRAPPER_KEY, BINDING, "wrapper.key", "report data vouches for the public key that carries the evidence",
            "the evidence was made for another key: it was copied from elsewhere. Do not talk to this peer")
ATTEST_RULE(WRAPPER_CLAIMS, BINDING, "wrapper.claims", "report data vouches for the claims next to the evidence",
            "the claims were altered or belong to other evidence")
ATTEST_RULE(WRAPPER_RUNTIME, BINDING, "wrapper.runtime_data", "report data vouches for Azure's runtime data",
            "the runtime data (vTPM key) was altered or belongs to another machine")
ATTEST_RULE(WRAPPER_TDREPORT, BINDING, "wrapper.td_report", "local TD report and quote describe the same TD",
            "the wrapper pairs a report with another TD's quote")
ATTEST_RULE(VTPM_PCRS, BINDING, "vtpm.pcrs", "the PCR values are those the vTPM quoted",
            "the PCR values beside the quote were altered or belong to another quote")
ATTEST_RULE(EVENT_LOG, BINDING, "eventlog.replay", "replaying the event log gives the RTMRs of the quote",
            "the log is not this boot's, is incomplete, or was altered")
ATTEST_RULE(EVENT_DATA, BINDING, "eventlog.data", "the data of runtime events hashes to their digests",
            "event data was altered: names and payloads in this log mean nothing")

/* Signed statements of Intel about the platform. */
ATTEST_RULE(TCB_INFO, COLLATERAL, "intel.tcb_info", "TCB info for this platform (FMSPC, PCE id) is at hand and well-formed",
            "run `donjon collateral fetch` on the quote, or give Intel's TCB info with --collateral")
ATTEST_RULE(TCB_INFO_SIGNATURE, COLLATERAL, "intel.tcb_info_signature", "Intel signed the TCB info",
            "fetch the TCB info again and store it byte for byte: re-formatted JSON does not verify")
ATTEST_RULE(TCB_INFO_CURRENT, COLLATERAL, "intel.tcb_info_current", "the TCB info is valid at the verification time",
            "run `donjon collateral fetch`; for old evidence use collateral of its time and --at")
ATTEST_RULE(QE_IDENTITY, COLLATERAL, "intel.qe_identity", "the quoting enclave's identity is at hand and well-formed",
            "run `donjon collateral fetch`, or give Intel's QE identity with --collateral")
ATTEST_RULE(QE_IDENTITY_SIGNATURE, COLLATERAL, "intel.qe_identity_signature", "Intel signed the QE identity",
            "fetch the QE identity again and store it byte for byte")
ATTEST_RULE(QE_IDENTITY_CURRENT, COLLATERAL, "intel.qe_identity_current", "the QE identity is valid at the verification time",
            "run `donjon collateral fetch`; for old evidence use collateral of its time and --at")
ATTEST_RULE(QE_REPORT, COLLATERAL, "intel.qe_report", "the quoting enclave is the one Intel names",
            "an enclave that is not Intel's quoting enclave made this quote: have the attester use Intel's (DCAP)")
ATTEST_RULE(TDX_MODULE, COLLATERAL, "intel.tdx_module", "the TDX module is one Intel names",
            "fetch newer TCB info; if it persists the host runs an unknown TDX module")
ATTEST_RULE(TCB_LEVEL, COLLATERAL, "intel.tcb_level", "the platform reaches a TCB level Intel has published and not revoked",
            "update BIOS, microcode and platform software of the host, then have it re-provisioned for a new PCK certificate")

/* The Relying Party's policy. */
ATTEST_RULE(POLICY_WINDOW, POLICY, "policy.window", "the policy itself is in force",
            "renew the policy, or set its valid_from and valid_until")
ATTEST_RULE(TEE, POLICY, "policy.tee", "this kind of TEE is allowed", "add it to `tees` in the policy, or use other machines")
ATTEST_RULE(SOFTWARE, POLICY, "policy.software", "evidence comes from hardware",
            "this keep has no hardware protection: anybody on its host can read it. For development only: allow_software")
ATTEST_RULE(MEASUREMENT, POLICY, "policy.measurement", "the measurement of the launched code is an allowed one",
            "something else was launched than the policy names, another build of it perhaps")
ATTEST_RULE(SIGNER, POLICY, "policy.signer", "the code's signer is an allowed one",
            "sign with the expected key")
ATTEST_RULE(DEBUG, POLICY, "policy.debug", "debugging is off",
            "the host can read this TEE's memory: launch without the debug attribute. For development only: allow_debug")
ATTEST_RULE(REPORT_DATA, POLICY, "policy.report_data", "report data is what the policy names, all bytes of it",
            "the evidence was made for another session, key or nonce")
ATTEST_RULE(NONCE, POLICY, "policy.nonce", "the evidence answers this nonce",
            "the evidence is old or was made for somebody else: ask again with your nonce")
ATTEST_RULE(WORKLOAD, POLICY, "policy.workload", "the workload digest (the certificate's, or in the hardware's field) is an allowed one",
            "another workload was launched, or none was named at launch")
ATTEST_RULE(AGE, POLICY, "policy.max_age", "the evidence is recent", "ask for fresh evidence")

ATTEST_RULE(SNP_PRODUCTS, POLICY, "snp.products", "the product is an allowed one", "add it to snp.products, or use other machines")
ATTEST_RULE(SNP_VMPL, POLICY, "snp.vmpl", "the report was requested at an allowed VMPL",
            "request the report from the expected privilege level, or set snp.vmpl; a host-requested report (4294967295) proves nothing")
ATTEST_RULE(SNP_MIGRATION, POLICY, "snp.migration", "the guest cannot be migrated by a migration agent",
            "clear MIGRATE_MA in the guest policy, or set snp.allow_migration")
ATTEST_RULE(SNP_SMT, POLICY, "snp.smt", "simultaneous multithreading is as the policy allows",
            "launch with SMT off in the guest policy, or set snp.allow_smt")
ATTEST_RULE(SNP_SINGLE_SOCKET, POLICY, "snp.single_socket", "the guest is bound to one socket",
            "set SINGLE_SOCKET in the guest policy, or drop snp.require_single_socket")
ATTEST_RULE(SNP_CXL, POLICY, "snp.cxl", "CXL is as the policy allows", "clear CXL_ALLOW in the guest policy, or set snp.allow_cxl")
ATTEST_RULE(SNP_ABI, POLICY, "snp.abi", "firmware and guest policy demand at least this ABI version",
            "update the SEV firmware, or launch with a higher minimum ABI in the guest policy")
ATTEST_RULE(SNP_GUEST_SVN, POLICY, "snp.guest_svn", "the guest's security version is high enough", "launch a newer guest image (its ID block says the version), or lower snp.minimum_guest_svn")
ATTEST_RULE(SNP_FAMILY_ID, POLICY, "snp.family_id", "family id is an allowed one", "launch with the expected ID block")
ATTEST_RULE(SNP_IMAGE_ID, POLICY, "snp.image_id", "image id is an allowed one", "launch with the expected ID block")
ATTEST_RULE(SNP_HOST_DATA, POLICY, "snp.host_data", "host data is an allowed value", "launch with the expected host data")
ATTEST_RULE(SNP_AUTHOR_KEY, POLICY, "snp.author_key", "an allowed author key signed the ID key",
            "launch with an ID block whose key is signed by the expected author key")
ATTEST_RULE(SNP_CHIP, POLICY, "snp.chips", "the chip is a pinned one", "use the pinned machines")
ATTEST_RULE(SNP_CSP, POLICY, "snp.csp", "the cloud provider in the VLEK is an allowed one", "use the named provider's machines, or add this one to snp.csp_ids")
ATTEST_RULE(SNP_VLEK, POLICY, "snp.vlek", "the signing key kind is allowed", "set snp.allow_vlek, or use a VCEK")
ATTEST_RULE(SNP_PLATFORM, POLICY, "snp.platform_info", "the platform has the required protections on",
            "change the host's BIOS settings, or drop the bits from snp.require_platform_info")
ATTEST_RULE(SNP_MIN_TCB, POLICY, "snp.minimum_tcb", "every component of every TCB reaches the policy's minimum",
            "update the host's firmware and microcode, commit it, and fetch a new VCEK")
ATTEST_RULE(SNP_PROVISIONAL, POLICY, "snp.provisional", "running firmware is committed and cannot be rolled back",
            "have the host commit its firmware (SNP_COMMIT), or set snp.allow_provisional")
ATTEST_RULE(SNP_MITIGATIONS, POLICY, "snp.mitigations", "the required mitigation bits are set at launch and now",
            "update the host's firmware and relaunch the guest")

ATTEST_RULE(TCB_STATUS, POLICY, "intel.tcb_status", "the platform's TCB status is one the policy accepts",
            "update the platform (see the advisories), or accept this status in intel.tcb_statuses after reading them")
ATTEST_RULE(ADVISORIES, POLICY, "intel.advisories", "no advisory the policy forbids applies",
            "update the platform, or take the advisory off intel.forbidden_advisories")
ATTEST_RULE(EVALUATION, POLICY, "intel.evaluation_number", "the collateral is of a recent enough TCB evaluation",
            "fetch newer collateral, or lower intel.minimum_evaluation")
ATTEST_RULE(INTEL_SMT, POLICY, "intel.smt", "simultaneous multithreading is as the policy allows",
            "turn hyperthreading off and re-provision, or set intel.allow_smt")
ATTEST_RULE(INTEL_PLATFORM, POLICY, "intel.platforms", "the platform (PPID or platform instance) is a pinned one",
            "use the pinned machines")
ATTEST_RULE(SGX_PRODUCT, POLICY, "sgx.product", "enclave product id and security version are what the policy asks",
            "run a newer enclave of the expected product, or change sgx.product_id or sgx.minimum_svn")
ATTEST_RULE(SGX_SAMPLE_SIGNER, POLICY, "sgx.sample_signer", "the enclave is not signed with a published sample key",
            "sign the enclave with your own key: anybody has this one")
ATTEST_RULE(SGX_CONFIG, POLICY, "sgx.config_id", "CONFIGID is an allowed value", "launch with the expected CONFIGID")
ATTEST_RULE(SGX_ATTRIBUTES, POLICY, "sgx.attributes", "enclave attributes and XFRM stay within the allowed mask",
            "rebuild the enclave without the extra attributes, or widen sgx.attribute_mask")
ATTEST_RULE(TDX_RTMR, POLICY, "tdx.rtmr", "runtime measurement registers have allowed values",
            "something else was booted or measured; compare the event log with a known good one")
ATTEST_RULE(TDX_SEPT_VE, POLICY, "tdx.sept_ve_disable", "the host cannot inject #VE on secret pages",
            "launch the TD with SEPT_VE_DISABLE, or set tdx.allow_sept_ve")
ATTEST_RULE(TDX_MIGRATABLE, POLICY, "tdx.migration", "the TD cannot be migrated", "launch without MIGRATABLE, or set tdx.allow_migration")
ATTEST_RULE(TDX_PERFMON, POLICY, "tdx.perfmon", "performance monitoring and key locker attributes are off",
            "launch without PERFMON/PKS/KL, or widen tdx.allow_attributes")
ATTEST_RULE(TDX_XFAM, POLICY, "tdx.xfam", "enabled CPU features stay within the allowed mask", "launch the TD with fewer CPU features, or widen tdx.xfam_mask")
ATTEST_RULE(TDX_SEAM, POLICY, "tdx.mrseam", "the TDX module is a pinned one", "have who operates the host run the pinned TDX module")
ATTEST_RULE(TDX_CONFIG, POLICY, "tdx.mrconfigid", "MRCONFIGID is an allowed value", "launch with the expected MRCONFIGID")
ATTEST_RULE(TDX_OWNER, POLICY, "tdx.mrowner", "MROWNER and MROWNERCONFIG are allowed values", "launch with the expected owner")
ATTEST_RULE(TDX_SERVICE, POLICY, "tdx.mrservicetd", "no service TD is bound, or an allowed one",
            "launch without service TD, or add its hash to tdx.mrservicetds")
ATTEST_RULE(NITRO_PCRS, POLICY, "nitro.pcrs", "the PCRs have allowed values", "another enclave image, role or instance is running than the policy names")
ATTEST_RULE(NITRO_MODULE, POLICY, "nitro.modules", "the module id is a pinned one", "use the pinned instances")
ATTEST_RULE(NITRO_FIELDS, POLICY, "nitro.user_data", "user data is an allowed value", "the enclave vouches for something else than you asked about")
ATTEST_RULE(KEYSTONE_DEVICE, CHAIN, "keystone.device", "the device key is trusted",
            "add the device's public key to keystone.device_keys; the key inside a report is only a hint")
ATTEST_RULE(WRAPPER_VALIDITY, POLICY, "wrapper.validity", "the certificate carrying the evidence is valid at the verification time",
            "get a fresh certificate from the peer")
ATTEST_RULE(VTPM_POLICY, POLICY, "vtpm.policy", "the vTPM's PCRs have allowed values",
            "something else was booted or measured into the vTPM, or the evidence lacks a vTPM quote that covers these PCRs")
ATTEST_RULE(KEYSTONE_SM, POLICY, "keystone.sm", "the security monitor is an allowed one", "install the expected security monitor")
