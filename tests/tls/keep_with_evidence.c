/* Runs a program in a keep on a host that makes evidence, with the software signer, as an agent's host does:
 *
 *     keep_with_evidence SIGNER.pem BACKEND CONFIG.toml PROGRAM.wasm [ARGUMENT...]
 *
 * SIGNER.pem is made where there is none, with the development root beside it in SIGNER.pem.root. Stewards are asked by
 * curl(1), without a look at their certificate, as an agent does; with FLIP in the environment their answers are
 * changed on the way: byte FLIP of a certificate's PEM. */
#define _GNU_SOURCE
#include <donjon/attest.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "config/config.h"
#include "config/config_toml.h"
#include "gate/gate.h"
#include "loader/loader.h"

/* It ends when the keep does, in the middle of things. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "detect_leaks=0";
}

static char *read_file(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    char *data = f ? malloc(64 << 20) : NULL;
    *size = data ? fread(data, 1, 64 << 20, f) : 0;
    if (f) fclose(f);
    return data;
}

static bool write_file(const char *path, const char *suffix, const char *text) {
    char full[4096];
    snprintf(full, sizeof full, "%s%s", path, suffix);
    FILE *f = fopen(full, "wb");
    bool ok = f && fputs(text, f) >= 0;
    return f && fclose(f) == 0 && ok;
}

static struct attest_signer *get_signer(const char *path) {
    size_t size;
    char *pem = read_file(path, &size);
    if (pem) return attest_signer_load((struct attest_bytes){(uint8_t *)pem, size});
    struct attest_signer *s = attest_signer_new((int64_t)time(NULL) - 60);
    if (!s || !write_file(path, ".root", attest_signer_certificates(s, true)) ||
        !write_file(path, "", attest_signer_export(s)))
        return NULL;
    return s;
}

static bool evidence(void *ctx, const uint8_t report_data[64], uint8_t *out, uint32_t room, uint32_t *n,
                     uint32_t *size) {
    struct attest_signer_claims claims = {.measurement = {0xd0, 0x27}};
    char *chain = attest_signer_certificates(ctx, false);
    memcpy(claims.report_data, report_data, 64);
    bool ok = chain && ATTEST_SNP_REPORT + strlen(chain) <= room && attest_signer_report(ctx, &claims, out);
    if (ok) memcpy(out + ATTEST_SNP_REPORT, chain, strlen(chain));
    *n = ATTEST_SNP_REPORT;
    *size = ok ? (uint32_t)(ATTEST_SNP_REPORT + strlen(chain)) : 0;
    free(chain);
    return ok;
}

/* `curl URL < body > answer`: what it prints at its end, the HTTP status, makes its pipe readable. */
struct question {
    FILE *curl; /* NULL: free */
    unsigned which;
    char body[200], answer[200];
};
static struct question questions[4];
static const char *directory; /* the configuration's: the test's own */

static int steward(void *ctx, const char *url, unsigned which, const uint8_t *body, uint32_t body_size) {
    char command[5000];
    struct question *q = questions;
    (void)ctx;
    while (q < questions + 4 && q->curl)
        q++;
    if (q == questions + 4 || strpbrk(url, "'\\ ")) return -1;
    snprintf(q->body, sizeof q->body, "%s/body-XXXXXX", directory);
    snprintf(q->answer, sizeof q->answer, "%s/answer-XXXXXX", directory);
    int fd = mkstemp(q->body), answer = mkstemp(q->answer);
    if (fd < 0 || answer < 0 || write(fd, body, body_size) != (ssize_t)body_size) return -1;
    close(fd);
    close(answer);
    snprintf(command, sizeof command,
             "exec curl -sk -m 60 -o %s -w '%%{http_code}' -H 'Accept: application/octet-stream, */*' %s%s '%s'",
             q->answer, body_size ? "--data-binary @" : "", body_size ? q->body : "", url);
    q->which = which;
    q->curl = popen(command, "re");
    return q->curl ? fileno(q->curl) : -1;
}

static struct question *question_of(int fd) {
    for (int i = 0; i < 4; i++)
        if (questions[i].curl && fileno(questions[i].curl) == fd) return &questions[i];
    return NULL;
}

static bool steward_answer(void *ctx, int fd, uint8_t *out, uint32_t room, uint32_t *status, uint32_t *size) {
    struct question *q = question_of(fd);
    char code[4] = "";
    const char *flip = getenv("FLIP");
    (void)ctx;
    if (!q || fread(code, 1, 3, q->curl) != 3 || atoi(code) == 0) return false;
    FILE *f = fopen(q->answer, "rb");
    *size = f ? (uint32_t)fread(out, 1, room, f) : 0;
    if (f) fclose(f);
    *status = (uint32_t)atoi(code);
    if (flip && q->which == GATE_STEWARD_CERTIFY && atoi(flip) < (int)*size) out[atoi(flip)] ^= 1;
    return true;
}

static void steward_end(void *ctx, int fd) {
    struct question *q = question_of(fd);
    (void)ctx;
    if (!q) return;
    close(fd); /* else pclose waits for curl's own time to be up; what it writes then is nobody's */
    unlink(q->body);
    unlink(q->answer);
    q->curl = NULL;
}

int main(int argc, char **argv) {
    static struct config_reports reports;
    struct config config;
    struct config_error err;
    struct keep_result result;
    size_t size, wasm_size;
    if (argc < 5) return 2;
    struct attest_signer *signer = get_signer(argv[1]);
    char *text = read_file(argv[3], &size), *wasm = read_file(argv[4], &wasm_size), *dir = strdup(argv[3]);
    if (!signer || !text || !wasm || !config_init(&config)) return 2;
    *strrchr(dir, '/') = 0;
    directory = dir;
    if (!config_parse_toml_in(&config, text, size, dir, &reports)) {
        fprintf(stderr, "%s\n", reports.report[0].message);
        return 2;
    }
    for (int i = 5; i < argc; i++)
        if (!config_add_arg(&config, argv[i], strlen(argv[i]), &err)) return 2;
    const struct keep_services services = {.ctx = signer,
                                           .evidence = evidence,
                                           .steward = steward,
                                           .steward_answer = steward_answer,
                                           .steward_end = steward_end};
    const struct keep_options options = {.config = &config,
                                         .wasm = wasm,
                                         .wasm_size = wasm_size,
                                         .stdio = {0, 1, 2},
                                         .backend = argv[2],
                                         .debug = true,
                                         .services = &services};
    keep_run(&options, &result);
    if (result.text) fprintf(stderr, "%s\n", result.text);
    int code = result.exit_code;
    keep_result_free(&result);
    config_free(&config);
    attest_signer_free(signer);
    return code;
}
