#define _GNU_SOURCE
/* donjon logs, attach, stop, evidence: later visits to a deployment. */
#include "deployment.h"
#include "session.h"
#include "verbs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

/* The one operand of a verb, and for the others `take`. */
static int one_operand(struct cli_args *a, const char **what, int (*take)(void *, struct cli_args *, int, const char *),
                       void *ctx) {
    const char *value;
    *what = NULL;
    for (int id; (id = cli_next(a, &value)) != CLI_END;) {
        if (id == CLI_STOP) return a->exit_code ? a->exit_code : -1;
        if (id != CLI_OPERAND) {
            int code = take(ctx, a, id, value);
            if (code) return code;
        } else if (*what)
            return cli_usage_error(a, "expected one deployment, found \"%s\" too", value);
        else
            *what = value;
    }
    return *what ? 0 : cli_usage_error(a, "which deployment? `donjon ps` lists them");
}

/* What may be asked of a visit to a program's output. */
struct visit {
    enum channel_purpose purpose;
    uint8_t flags;
    bool input, json;
};

/* What became of it, as an exit code: attached, the program's own. */
static int visited(struct cli_args *a, const struct visit *v, const char *app, bool had_ended,
                   struct session_result *end) {
    /* The log's end is what was asked for, as is leaving. */
    if (end->end == SESSION_CLOSED || end->end == SESSION_LEFT) {
        if (v->json) fputs("{\"outcome\":\"running\",\"exit_code\":null}\n", stderr);
        return CLI_YES;
    }
    if (end->end != SESSION_EXITED) return session_report(a->verb, app, end, v->json);
    bool logs = v->purpose == CHANNEL_LOGS;
    if (end->lost) cli_warning(a->verb, "%llu bytes of output were lost", (unsigned long long)end->lost);
    /* Attached while it ended, as `deploy`: a shell knows the exit code, and a person sees what went wrong. */
    int code = v->json || logs || had_ended ? session_tell_end(a->verb, app, end, v->json)
                                            : session_report(a->verb, app, end, false);
    return logs ? CLI_YES : code;
}

/* Appraised, and opened for its purpose; then a session. */
static int visit(struct cli_args *a, const char *what, const struct visit *v) {
    static struct attest_result result;
    struct deployment d;
    struct link l = {.fd = -1};
    struct channel_client *c = NULL;
    struct session_result end = {0};
    bool judged, met = false;
    int code = CLI_FAILED;
    if (!deployment_find(a->verb, what, &d)) {
        if (v->json) session_tell_failed();
        return CLI_FAILED;
    }
    if (deployment_reach(a->verb, &d, NULL, &l, &c, &result, &judged)) {
        bool had_ended = channel_client_state(c) == CHANNEL_EXITED;
        if (!channel_client_open(c, v->purpose, v->flags, d.owner)) {
            cli_error(a->verb, "%s", channel_client_error(c));
        } else {
            struct session s = {.verb = a->verb, .link = &l, .client = c, .input = v->input};
            session_run(&s, &end);
            met = true;
            code = visited(a, v, d.app, had_ended, &end);
        }
    }
    if (!met && v->json) session_tell_failed();
    free(end.text);
    channel_client_free(c);
    link_close(&l);
    deployment_free(&d);
    return code;
}

static int take_visit(void *ctx, struct cli_args *a, int id, const char *value) {
    struct visit *v = ctx;
    (void)a;
    (void)value;
    if (id == DEPLOY_FOLLOW) v->flags |= CHANNEL_FOLLOW;
    if (id == DEPLOY_JSON) v->json = true;
    return 0;
}

int main_logs(struct cli_args *a) {
    const char *what;
    struct visit v = {.purpose = CHANNEL_LOGS};
    int code = one_operand(a, &what, take_visit, &v);
    if (code) return code == -1 ? CLI_YES : code;
    return visit(a, what, &v);
}

int main_attach(struct cli_args *a) {
    const char *what;
    struct visit v = {.purpose = CHANNEL_ATTACH, .flags = CHANNEL_REPLAY, .input = true};
    int code = one_operand(a, &what, take_visit, &v);
    if (code) return code == -1 ? CLI_YES : code;
    return visit(a, what, &v);
}

/* ---- stop ---- */

static bool stop_one(const struct cli_verb *verb, const char *what, char id[KEEP_ID + 1]) {
    struct deployment d;
    char error[600];
    *id = 0;
    if (!deployment_find(verb, what, &d)) return false;
    memcpy(id, d.id, sizeof d.id);
    json_t *reply = link_ask_once(&d.target, json_pack("{s:s, s:s}", "op", "stop", "id", d.id), error, sizeof error);
    /* A host that knows nothing of it any more has nothing to stop. */
    bool ok = reply || strstr(error, "no such keep");
    if (ok)
        deployment_forget(d.id);
    else
        cli_error(verb, "%s", error);
    json_decref(reply);
    deployment_free(&d);
    return ok;
}

int main_stop(struct cli_args *a) {
    const char *value;
    char keep[KEEP_ID + 1];
    bool json = false;
    int code = CLI_YES;
    json_t *stopped = json_array();
    for (int id; (id = cli_next(a, &value)) != CLI_END;) {
        if (id == CLI_STOP) {
            json_decref(stopped);
            return a->exit_code;
        }
        if (id == DEPLOY_JSON) {
            json = true;
            continue;
        }
        bool ok = stop_one(a->verb, value, keep);
        if (!ok) code = CLI_FAILED;
        json_array_append_new(stopped,
                              json_pack("{s:s, s:s?, s:b, s:s?}", "deployment", value, "id", *keep ? keep : NULL,
                                        "stopped", (int)ok, "error", ok ? NULL : cli_last_error()));
    }
    bool any = json_array_size(stopped) > 0;
    if (json && any) {
        json_dumpf(stopped, stdout, JSON_INDENT(1));
        putchar('\n');
    }
    json_decref(stopped);
    return any ? code : cli_usage_error(a, "which deployment? `donjon ps` lists them");
}

/* ---- evidence ---- */

struct evidence_options {
    const char *output;
    bool json, given;
    uint8_t nonce[CHANNEL_NONCE];
};

static int take_evidence(void *ctx, struct cli_args *a, int id, const char *value) {
    struct evidence_options *o = ctx;
    if (id == DEPLOY_OUTPUT) o->output = value;
    if (id == DEPLOY_JSON) o->json = true;
    if (id != DEPLOY_NONCE) return 0;
    if (strlen(value) != 2 * CHANNEL_NONCE || strspn(value, "0123456789abcdefABCDEF") != 2 * CHANNEL_NONCE)
        return cli_usage_error(a, "--nonce: expected 64 hexadecimal digits");
    for (size_t i = 0; i < CHANNEL_NONCE; i++)
        sscanf(value + 2 * i, "%2hhx", &o->nonce[i]);
    o->given = true;
    return 0;
}

static bool save(const struct cli_verb *verb, const char *path, struct channel_bytes b) {
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(b.data, 1, b.size, f) == b.size;
    if (f) ok = fclose(f) == 0 && ok;
    if (!ok) cli_error(verb, "cannot write %s: %s", path, strerror(errno));
    return ok;
}

static const char *hex(const uint8_t *bytes, size_t n, char *out) {
    for (size_t i = 0; i < n; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    return out;
}

static void show_evidence(const struct evidence_options *o, const struct deployment *d, const struct channel_client *c,
                          const struct attest_result *r, const char *pem) {
    char report[129], nonce[65], digest[65];
    hex(channel_client_report_data(c), 64, report);
    hex(channel_client_nonce(c), 32, nonce);
    hex(channel_client_digest(c), 32, digest);
    if (o->json) {
        json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b}", "id", d->id, "evidence", o->output,
                              "endorsements", pem, "report_data", report, "nonce", nonce, "workload", digest, "tee",
                              attest_tee_names[r->tee], "accepted", (int)r->accepted);
        json_dumpf(j, stdout, JSON_INDENT(1));
        putchar('\n');
        json_decref(j);
        return;
    }
    printf(
        "evidence      %s\nendorsements  %s\nreport data   %s\nnonce         %s\nworkload      %s\nTEE           %s\n",
        o->output, pem, report, nonce, digest, attest_tee_names[r->tee]);
    bool software = r->tee == ATTEST_TEE_SOFTWARE;
    printf("\ndonjon verify --collateral %s --set report_data=%s%s %s\n", pem, report,
           software ? " --dev-root dev-root.pem --set allow_software=true" : "", o->output);
    if (software) puts("(dev-root.pem: the agent's, from its state directory; its operator has it)");
}

int main_evidence(struct cli_args *a) {
    static struct attest_result result;
    struct evidence_options o = {.output = "evidence.bin"};
    struct deployment d;
    struct link l = {.fd = -1};
    struct channel_client *c = NULL;
    const char *what;
    char pem[4200];
    bool judged;
    int code = one_operand(a, &what, take_evidence, &o);
    if (code) return code == -1 ? CLI_YES : code;
    if (!deployment_find(a->verb, what, &d)) return CLI_FAILED;
    bool accepted = deployment_reach(a->verb, &d, o.given ? o.nonce : NULL, &l, &c, &result, &judged);
    code = CLI_FAILED;
    snprintf(pem, sizeof pem, "%s.pem", o.output);
    if (judged && save(a->verb, o.output, channel_client_evidence(c)) &&
        save(a->verb, pem, channel_client_endorsements(c))) {
        show_evidence(&o, &d, c, &result, pem);
        code = accepted ? CLI_YES : CLI_NO;
    }
    channel_client_free(c);
    link_close(&l);
    deployment_free(&d);
    return code;
}
