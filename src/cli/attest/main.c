/* donjon-attest: the verbs about evidence. `donjon verify ...` starts it with its own arguments. */
#include "attest.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static const struct cli_option inspect_options[] = {
    {OPT_JSON, 0, "json", NULL, "As JSON on standard output."},
    {OPT_COLLATERAL, 'c', "collateral", "PATH", "Certificates that tell the product of old SNP reports."},
    {0},
};
static const struct cli_verb verb_inspect_evidence = {
    .name = "inspect",
    .operands = "FILE",
    .summary = "Show what evidence says, judging nothing",
    .text = "Decodes FILE completely: wrappers, report, certificates' claims. Nothing is verified.",
    .options = inspect_options,
    .main = main_inspect_evidence,
};
const struct cli_verb *const cli_verbs[] = {&verb_verify, &verb_collateral_fetch, &verb_measure, &verb_inspect_evidence,
                                            NULL};

bool attest_read(const struct cli_verb *verb, const char *path, struct attest_bytes *out) {
    char *bytes;
    size_t size;
    if (!cli_read_file(path, EVIDENCE_MAX, &bytes, &size)) {
        if (errno == EFBIG)
            cli_error(verb, "cannot read %s: it has more than %d MiB, which no evidence and no collateral has", path,
                      EVIDENCE_MAX >> 20);
        else
            cli_error(verb, "cannot read %s: %s", path, strerror(errno));
        return false;
    }
    *out = (struct attest_bytes){(uint8_t *)bytes, size};
    return true;
}

bool attest_cache_dir(char *out, size_t size) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = cache && *cache == '/' ? snprintf(out, size, "%s/donjon/collateral", cache)
            : home && *home        ? snprintf(out, size, "%s/.cache/donjon/collateral", home)
                                   : -1;
    return n > 0 && (size_t)n < size;
}

bool attest_parse_time(const char *text, int64_t *out) {
    struct tm tm = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (!end || *end || strlen(text) != 20) return false;
    struct tm asked = tm;
    *out = timegm(&tm); /* makes a March of the 31st of February */
    return tm.tm_mday == asked.tm_mday && tm.tm_mon == asked.tm_mon && tm.tm_hour == asked.tm_hour &&
           tm.tm_sec == asked.tm_sec;
}

static void add_file(struct attest_verifier *v, const char *path) {
    char *bytes;
    size_t size;
    if (!cli_read_file(path, COLLATERAL_MAX, &bytes, &size)) return;
    attest_verifier_add(v, (struct attest_bytes){(uint8_t *)bytes, size});
    free(bytes);
}

static bool add_directory(struct attest_verifier *v, const char *path, int depth) {
    DIR *dir = opendir(path);
    if (!dir) return false;
    for (struct dirent *e; (e = readdir(dir));) {
        char inner[4096];
        struct stat st;
        if (e->d_name[0] == '.' || snprintf(inner, sizeof inner, "%s/%s", path, e->d_name) >= (int)sizeof inner ||
            stat(inner, &st))
            continue;
        if (S_ISREG(st.st_mode))
            add_file(v, inner);
        else if (S_ISDIR(st.st_mode) && depth)
            add_directory(v, inner, depth - 1);
    }
    closedir(dir);
    return true;
}

/* Why a file that was named is of no use as collateral. */
static void say_unknown(const struct cli_verb *verb, const char *path, struct attest_bytes bytes) {
    struct attest_verifier *alone = attest_verifier_new();
    char error[300];
    if (alone) attest_verifier_add(alone, bytes);
    const char *malformed = alone ? attest_verifier_trouble(alone) : "";
    struct attest_evidence *e = attest_evidence_open(bytes, error, sizeof error);
    if (*malformed)
        cli_error(verb, "%s: malformed collateral: %s. Fetch it again, and store it byte for byte", path, malformed);
    else if (e)
        cli_error(verb, "%s: expected certificates, revocation lists or collateral, found evidence: give that as FILE",
                  path);
    else
        cli_error(verb, "%s: expected certificates, revocation lists or collateral, found %s", path,
                  attest_looks_like(bytes));
    attest_evidence_free(e);
    attest_verifier_free(alone);
}

bool attest_add_path(const struct cli_verb *verb, struct attest_verifier *v, const char *path) {
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return add_directory(v, path, 1);
    struct attest_bytes bytes;
    if (!attest_read(verb, path, &bytes)) return false;
    bool known = attest_verifier_add(v, bytes);
    if (!known) say_unknown(verb, path, bytes);
    free((void *)bytes.data);
    return known;
}

int main(int argc, char **argv) {
    return cli_program_main("donjon-attest", argc, argv);
}
