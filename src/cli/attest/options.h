/* Ids of the options of the verbs about evidence. */
#ifndef DONJON_CLI_ATTEST_OPTIONS_H
#define DONJON_CLI_ATTEST_OPTIONS_H

enum {
    OPT_POLICY = 1,
    OPT_SET,
    OPT_AT,
    OPT_COLLATERAL,
    OPT_LOG,
    OPT_ROOT,
    OPT_DEV_ROOT,
    OPT_KEY,
    OPT_CORIM,
    OPT_CORIM_KEY,
    OPT_NONCE,
    OPT_URL,
    OPT_JSON,
    OPT_QUIET,
    OPT_VERBOSE,
    OPT_EAR,
    OPT_EAR_KEY,
    OPT_EAR_CWT,
    OPT_COLOUR,
    OPT_FROM,
    OPT_DRY,
    OPT_KIND,
    OPT_VCPUS,
    OPT_SIGNATURE,
    OPT_FEATURES,
    OPT_VMM,
    OPT_KERNEL,
    OPT_INITRD,
    OPT_CMDLINE,
    OPT_AUTH,
    OPT_WARDEN,
    OPT_CODE,
    OPT_C_BIT,
};

#endif
