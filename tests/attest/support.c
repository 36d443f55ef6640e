#include "support.h"

#include <dirent.h>
#include <sys/stat.h>
#include <time.h>

const char *vector_path(const char *format, ...) {
    static char paths[16][512];
    static unsigned next;
    char *path = paths[next++ % 16];
    const char *shared = getenv("DONJON_SHARED");
    int n = snprintf(path, sizeof paths[0], "%s/vectors/", shared ? shared : "../shared");
    va_list args;
    va_start(args, format);
    vsnprintf(path + n, sizeof paths[0] - (size_t)n, format, args);
    va_end(args);
    return path;
}

void need_vectors(void) {
    struct stat st;
    if (stat(vector_path("manifest.json"), &st) != 0) {
        printf("SKIP: no %s\n", vector_path("manifest.json"));
        exit(77);
    }
}

struct attest_bytes load(const char *path) {
    struct attest_bytes bytes = {0};
    FILE *f = fopen(path, "rb");
    if (!f) return bytes;
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    uint8_t *data = malloc(size > 0 ? (size_t)size : 1);
    bytes = (struct attest_bytes){data, fread(data, 1, (size_t)size, f)};
    fclose(f);
    return bytes;
}

json_t *load_json(const char *path) {
    return json_load_file(path, 0, NULL);
}

int64_t parse_time(const char *text) {
    struct tm tm = {0};
    if (!text || !strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm)) return 0;
    return timegm(&tm);
}

bool add_file(struct attest_verifier *v, const char *path) {
    struct attest_bytes bytes = load(path);
    bool ok = bytes.size && attest_verifier_add(v, bytes);
    free((void *)bytes.data);
    return ok;
}

struct attest_verifier *verifier_with(const char *directory) {
    struct attest_verifier *v = attest_verifier_new();
    DIR *dir = directory ? opendir(directory) : NULL;
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        static const char *const kinds[] = {".der", ".pem", ".json", ".crl"};
        const char *dot = strrchr(entry->d_name, '.');
        bool wanted = false;
        for (int i = 0; dot && i < 4; i++)
            wanted |= strcmp(dot, kinds[i]) == 0;
        if (!wanted || strcmp(entry->d_name, "expected.json") == 0 || strcmp(entry->d_name, "csr.der") == 0) continue;
        char path[600];
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        add_file(v, path);
    }
    if (dir) closedir(dir);
    return v;
}

bool failed_rule(const struct attest_result *r, const char *rule) {
    for (unsigned i = 0; i < r->check_count; i++)
        if (r->checks[i].outcome == ATTEST_FAIL && (!rule || strcmp(attest_rules[r->checks[i].rule].name, rule) == 0))
            return true;
    return false;
}

const char *reason_name(const struct attest_result *r) {
    const struct attest_check *c = attest_result_reason(r);
    return c ? attest_rules[c->rule].name : "";
}

void appraise(struct attest_verifier *v, struct attest_bytes bytes, const struct attest_policy *policy, int64_t now,
              struct attest_result *r) {
    char error[300];
    struct attest_evidence *e = attest_evidence_open(bytes, error, sizeof error);
    memset(r, 0, offsetof(struct attest_result, checks));
    if (e)
        attest_verify(v, e, policy, now, r);
    else {
        r->check_count = r->failed = 1;
        r->checks[0] = (struct attest_check){.rule = ATTEST_RULE_EVIDENCE, .outcome = ATTEST_FAIL};
    }
    attest_evidence_free(e);
}

void appraise_file(struct attest_verifier *v, const char *path, const struct attest_policy *policy, int64_t now,
                   struct attest_result *r) {
    struct attest_bytes bytes = load(path);
    assert_true(bytes.size > 0);
    appraise(v, bytes, policy, now, r);
    free((void *)bytes.data);
}

void show(const char *what, const struct attest_result *r) {
    struct attest_text text = {0};
    attest_print_tree(r, false, true, &text);
    fprintf(stderr, "%s\n%s", what, text.data ? text.data : "");
    free(text.data);
}

char *text_fact(const struct attest_result *r, const char *name) {
    static char texts[4][4200];
    static unsigned next;
    char *text = texts[next++ % 4];
    const struct attest_fact *f = attest_result_fact(r, name);
    text[0] = 0;
    if (f) attest_value_format(&f->value, text, sizeof texts[0]);
    return text;
}
