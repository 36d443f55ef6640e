#define _GNU_SOURCE
/* donjon deploy: a keep is asked for, appraised, filled, and followed. */
#include "app.h"
#include "deployment.h"
#include "verbs.h"
#include "session.h"
#include "steps.h"

#include "agent/settings.h"
#include "gate/gate.h"
#include "loader/reach.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

struct deploy {
    const struct cli_verb *verb;
    struct app app;
    struct deployment d;
    struct steps steps;
    const char *backend, *policy, *root, *reference, *into;
    uint64_t memory;
    bool detach, json, quiet, restart, host_given, dry, told; /* told: how it ended */
    bool says_tee;                                            /* the agent: evidence decides, this only chooses words */
    int fd;                                                   /* of the link, while something is delivered */
    bool created; /* this very run has asked for the keep: it is ours to clean up */
    struct attest_result result;
    struct session_result end;
};

/* ---- the command line ---- */

static int wrong(struct cli_args *a, const char *what, const char *why) {
    return cli_usage_error(a, "%s: %s", what, why);
}

static char *absolute(const char *path) {
    char *real = realpath(path, NULL);
    return real ? real : strdup(path);
}

int deploy_host_option(struct target *t, struct cli_args *a, int id, const char *value) {
    char error[300];
    switch (id) {
    case DEPLOY_HOST:
        if (!target_set(t, value, error, sizeof error)) return cli_usage_error(a, "--host %s", error);
        return 0;
    case DEPLOY_AGENT_KEY:
        if (!target_set_key(t, value, error, sizeof error)) return cli_usage_error(a, "--agent-key: %s", error);
        return 0;
    case DEPLOY_AGENT_CA: free(t->ca); return (t->ca = absolute(value)) ? 0 : CLI_FAILED;
    case DEPLOY_TOKEN_FILE: free(t->token_file); return (t->token_file = absolute(value)) ? 0 : CLI_FAILED;
    default: return 0;
    }
}

static int take_option(struct deploy *x, struct cli_args *a, int id, const char *value) {
    struct trust *t = &x->d.trust;
    switch (id) {
    case DEPLOY_HOST: x->host_given = true; break;
    case DEPLOY_BACKEND: x->backend = value; break;
    case DEPLOY_POLICY: x->policy = value; break;
    case DEPLOY_NO_TEE: t->allow_no_tee = true; break;
    case DEPLOY_ROOT: x->root = value; break;
    case DEPLOY_REFERENCE: x->reference = value; break;
    case DEPLOY_COLLATERAL:
        if (t->n_collateral == TRUST_COLLATERAL_MAX) return wrong(a, "--collateral", "more than 32");
        t->collateral[t->n_collateral++] = absolute(value);
        break;
    case DEPLOY_SECRET: return app_add_secret(&x->app, value) ? 0 : CLI_FAILED;
    case DEPLOY_FILE: return app_add_file(&x->app, value) ? 0 : CLI_FAILED;
    case DEPLOY_DETACH: x->detach = true; break;
    case DEPLOY_RESTART:
        if (strcmp(value, "on-failure") != 0 && strcmp(value, "no") != 0)
            return wrong(a, "--restart", "expected on-failure or no");
        x->restart = *value == 'o';
        break;
    case DEPLOY_INTO: x->into = value; break;
    case DEPLOY_NAME:
        if (!tenant_name_fine(value, strlen(value)))
            return wrong(a, "--name", "expected up to 63 letters, digits, '-', '_' or '.'");
        strcpy(x->d.name, value);
        break;
    case DEPLOY_MEMORY:
        if (!config_parse_quantity(value, strlen(value), CONFIG_BYTES, &x->memory) || x->memory < KEEP_MEMORY_LEAST)
            return wrong(a, "--memory", "expected a size such as 512MiB, 32MiB at least");
        break;
    case DEPLOY_JSON: x->json = true; break;
    case DEPLOY_QUIET: x->quiet = true; break;
    case DEPLOY_DRY: x->dry = true; break;
    case DEPLOY_VERIFY_KEY:
        if (x->app.package.verify_key_count == PACKAGE_KEYS_MAX) return wrong(a, "--verify-key", "more than 16");
        x->app.verify_keys[x->app.package.verify_key_count++] = value;
        break;
    case DEPLOY_DECRYPT_KEY: x->app.decrypt_key = value; break;
    case DEPLOY_PLAIN_HTTP: x->app.package.plain_http = true; break;
    case DEPLOY_CA_FILE: x->app.package.ca_file = value; break;
    case OPT_CONFIG: x->app.run.config = value; break;
    case OPT_ARGV0: x->app.run.argv0 = value; break;
    default: break;
    }
    return deploy_host_option(&x->d.target, a, id, value);
}

static int read_text(const struct cli_verb *verb, const char *path, char **out) {
    size_t size;
    if (cli_read_file(path, 1 << 20, out, &size) && strlen(*out) == size) return 0;
    return cli_error(verb, "cannot read %s: %s", path, strerror(errno ? errno : EILSEQ));
}

static int read_options(struct deploy *x, struct cli_args *a) {
    const char *value;
    for (int id; (id = cli_next(a, &value)) != CLI_OPERAND;) {
        if (id == CLI_STOP) return a->exit_code ? a->exit_code : -1;
        if (id == CLI_END) return cli_usage_error(a, "which program? Expected a module or a directory");
        int code = take_option(x, a, id, value);
        if (code) return code;
    }
    x->app.run.app = value;
    if (!x->into && !x->host_given && !x->dry) return cli_usage_error(a, "where? Expected --host HOST");
    if (x->into && x->host_given) return cli_usage_error(a, "--into knows its host: expected no --host");
    struct trust *t = &x->d.trust;
    if (x->root && !t->allow_no_tee)
        return cli_usage_error(a,
                               "--development-root: evidence under it proves nothing; expected --allow-no-tee as well");
    if (x->root && read_text(x->verb, x->root, &t->root)) return CLI_FAILED;
    if (x->policy) return read_text(x->verb, x->policy, &t->policy);
    return trust_measure(x->verb, t, x->reference) ? 0 : CLI_FAILED;
}

/* A keep that waits for its tenant again: where it is and how it was appraised is known. */
static int read_into(struct deploy *x) {
    struct deployment d;
    if (!x->into) return 0;
    if (!deployment_find(x->verb, x->into, &d)) return CLI_FAILED;
    bool allow = x->d.trust.allow_no_tee;
    deployment_free(&x->d);
    x->d = d;
    x->d.trust.allow_no_tee &= allow; /* said anew each time */
    return 0;
}

/* ---- signals ---- */

/* From the moment a deployment is remembered to that at which it is forgotten, whoever interrupts us waits until what
 * has to be cleaned up is. */
static sigset_t interrupts(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    return set;
}

static void hold_interrupts(bool on) {
    sigset_t set = interrupts();
    fflush(NULL);
    sigprocmask(on ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

static bool interrupted(void) {
    sigset_t pending;
    sigpending(&pending);
    return sigismember(&pending, SIGINT) || sigismember(&pending, SIGTERM) || sigismember(&pending, SIGHUP);
}

/* Sleeps, unless somebody interrupts: his signal, or 0. */
static int wait_seconds(unsigned seconds) {
    sigset_t set = interrupts();
    struct timespec t = {.tv_sec = seconds};
    int got = sigtimedwait(&set, NULL, &t);
    return got > 0 ? got : 0;
}

/* ---- steps ---- */

static int refuse(struct deploy *x, const char *step, const char *why) {
    if (interrupted()) why = "interrupted; the keep is given up";
    steps_say(&x->steps, step, false, "%s", why);
    return cli_error(x->verb, "%s", why);
}

/* A port that the host will not give the program is named now, before anything is delivered. The host's word, as its
 * refusal later would be. */
static int ports_fine(struct deploy *x, const json_t *keep) {
    const char *ports = json_string_value(json_object_get(json_object_get(keep, "reach"), "listen"));
    const struct config *c = &x->app.run.c;
    struct reach reach;
    char shown[16], why[700];
    if (!ports || !reach_parse_listen(ports, &reach)) return 0;
    for (uint32_t i = 0; i < c->n_files; i++) {
        const struct config_file *f = &c->files[i];
        if (f->kind != CONFIG_LISTEN || reach_may_listen(&reach, f->port)) continue;
        cli_printable(ports, shown, sizeof shown, false);
        bool none = !strcmp(shown, "none");
        snprintf(why, sizeof why,
                 "file \"%s\" listens on port %u; this host lets your programs listen on %s%s. Take another port in "
                 "[[files]], or have the host's operator change `listen` of your [[tenants]] in its agent.toml",
                 f->name, f->port, none ? "no port" : "ports ", none ? "" : shown);
        return refuse(x, "keep", why);
    }
    return 0;
}

static int get_keep(struct deploy *x, struct link *l) {
    struct target *t = &x->d.target;
    if (!link_open(l, t)) return refuse(x, "connect", l->error);
    steps_say(&x->steps, "connect", true, "connected to %s port %s, agent key %.16s...", t->host, t->port, l->key);
    if (!t->key) t->key = strdup(l->key); /* later visits find the same agent, or say so */
    json_t *ask = x->into ? json_pack("{s:s, s:s}", "op", "channel", "id", x->d.id)
                          : json_pack("{s:s, s:s?, s:s?, s:b}", "op", "create", "backend", x->backend, "name",
                                      *x->d.name ? x->d.name : NULL, "restart", (int)(x->restart && x->detach));
    if (x->memory) json_object_set_new(ask, "memory", json_integer((json_int_t)x->memory));
    json_t *reply = link_ask(l, t, ask), *keep = json_object_get(reply, "keep");
    const char *id = json_string_value(json_object_get(keep, "id")),
               *backend = json_string_value(json_object_get(keep, "backend")),
               *protects = json_string_value(json_object_get(keep, "protects"));
    bool ok = reply && id && keep_id_fine(id, strlen(id)) && (!x->into || !strcmp(id, x->d.id));
    if (ok) {
        strcpy(x->d.id, id);
        cli_printable(backend ? backend : "?", x->d.backend, sizeof x->d.backend, false);
        steps_say(&x->steps, "keep", true, "keep %.8s built: %s, protects %s", id, x->d.backend,
                  protects ? protects : "?");
        x->says_tee = json_is_true(json_object_get(keep, "tee"));
        x->created = !x->into;
    }
    int code = ok ? ports_fine(x, keep) : refuse(x, "keep", reply ? "the agent's answer names no keep" : l->error);
    json_decref(reply);
    return code;
}

/* The agent's development root, for evidence that proves nothing anyway. */
static void ask_root(struct deploy *x) {
    char error[600];
    struct trust *t = &x->d.trust;
    if (!t->allow_no_tee || t->root || t->agent_root) return;
    json_t *info = link_ask_once(&x->d.target, json_pack("{s:s}", "op", "info"), error, sizeof error);
    const char *root = json_string_value(json_object_get(info, "development_root"));
    if (root) t->agent_root = strdup(root);
    json_decref(info);
}

/* Without hardware evidence is the host's own word, but even a host that lies by mistake is to be found out: a keep of
 * another kind than was asked for is none. The software signer says in family_id what the keep is. */
static bool is_asked_for(struct deploy *x, const struct attest_result *r) {
    const struct attest_fact *f = attest_result_fact(r, "family_id");
    if (!x->backend || r->tee != ATTEST_TEE_SOFTWARE || !f) return true;
    char family[17] = "";
    const struct attest_value *v = &f->value;
    memcpy(family, v->bytes, v->size < 16 ? v->size : 16);
    if (!strcmp(family, x->backend)) return true;
    char clean[64];
    cli_error(x->verb, "refused, nothing was delivered: a keep of backend %s was asked for, this is one of %s",
              x->backend, cli_printable(family, clean, sizeof clean, false));
    return false;
}

static int appraise(struct deploy *x, struct channel_client *c) {
    struct attest_result *r = &x->result;
    if (!channel_client_handshake(c, NULL)) return refuse(x, "evidence", channel_client_error(c));
    steps_say(&x->steps, "evidence", true, "evidence received over this connection: %zu bytes",
              channel_client_evidence(c).size);
    ask_root(x);
    bool ok = trust_appraise(x->verb, &x->d.trust, c, r);
    steps_appraisal(&x->steps, r);
    if (ok && !is_asked_for(x, r)) return CLI_FAILED;
    if (ok && r->tee != ATTEST_TEE_SOFTWARE) {
        steps_say(&x->steps, "appraised", true, "accepted: %s", attest_tee_names[r->tee]);
        return 0;
    }
    if (ok) {
        steps_no_tee(&x->steps, x->d.backend);
        return 0;
    }
    if (!r->check_count) return CLI_FAILED; /* said */
    const struct attest_check *why = attest_result_reason(r);
    if ((r->tee == ATTEST_TEE_SOFTWARE || !x->says_tee) && !x->d.trust.allow_no_tee)
        return cli_error(x->verb,
                         "refused, nothing was delivered: no hardware keeps the host out of this keep (%s). "
                         "--allow-no-tee deploys nevertheless; the host can then read everything",
                         x->d.backend);
    if (!why) return cli_error(x->verb, "refused, nothing was delivered: %s", channel_client_error(c));
    char expected[300], found[300];
    const char *remedy = attest_check_remedy(why);
    if (why->rule == ATTEST_RULE_MEASUREMENT && !x->d.trust.policy)
        remedy = "the host has another release than this one, or has changed it: --reference DIR names another "
                 "release's shim and warden, if you trust that one";
    return cli_error(x->verb, "refused, nothing was delivered: %s: expected %s, found %s; %s",
                     attest_rules[why->rule].name, attest_value_format(&why->expected, expected, sizeof expected),
                     attest_value_format(&why->found, found, sizeof found), remedy);
}

static void progress(void *ctx, uint64_t done, uint64_t all) {
    struct deploy *x = ctx;
    steps_delivering(&x->steps, done, all);
    if (interrupted()) shutdown(x->fd, SHUT_RDWR); /* the delivery fails then */
}

static int deliver(struct deploy *x, struct channel_client *c) {
    static const uint8_t none[CHANNEL_DIGEST];
    char digest[17];
    if (memcmp(channel_client_digest(c), none, sizeof none) != 0)
        return refuse(x, "deliver", "this keep has a workload already");
    memcpy(x->d.digest, x->app.digest, CHANNEL_DIGEST);
    x->d.created = time(NULL);
    snprintf(x->d.app, sizeof x->d.app, "%s", x->app.run.app);
    if (RAND_bytes(x->d.owner, sizeof x->d.owner) != 1) return refuse(x, "deliver", "no random numbers");
    /* Before the keep knows the owner's secret: a keep nobody can prove to own would be lost. */
    if (!deployment_save(x->verb, &x->d)) return CLI_FAILED;
    x->app.delivery.progress = progress;
    x->app.delivery.progress_ctx = x;
    if (!channel_client_open(c, CHANNEL_DEPLOY, 0, x->d.owner) || !channel_client_deliver(c, &x->app.delivery))
        return refuse(x, "deliver", channel_client_error(c));
    for (size_t i = 0; i < 8; i++)
        snprintf(digest + 2 * i, 3, "%02x", x->app.digest[i]);
    steps_say(&x->steps, "deliver", true, "delivered %llu bytes%s: workload %s...",
              (unsigned long long)app_size(&x->app),
              x->app.delivery.key ? ", encrypted as they are, and the key to open them there" : "", digest);
    if (!channel_client_start(c, x->detach ? CHANNEL_DETACHED : 0)) return refuse(x, "start", channel_client_error(c));
    if (!x->detach) steps_say(&x->steps, "start", true, "running as %.8s", x->d.id);
    return 0;
}

/* The keep has done its work, or never will: the agent ends it, and it is forgotten. */
static void give_up_keep(struct deploy *x) {
    char error[600];
    if (!*x->d.id || (!x->created && !x->into)) return;
    json_decref(link_ask_once(&x->d.target, json_pack("{s:s, s:s}", "op", "stop", "id", x->d.id), error, sizeof error));
    deployment_forget(x->d.id);
    x->created = false;
}

/* Until the program's end; detached, until it runs, or could not begin. True: there is an end to be told. */
static bool follow(struct deploy *x, struct link *l, struct channel_client *c) {
    struct session s = {
        .verb = x->verb, .link = l, .client = c, .input = !x->app.took_stdin && !x->detach, .interrupt_ends = true};
    if (x->app.took_stdin && !x->detach) channel_client_stdin_end(c);
    session_run(&s, &x->end);
    if (x->end.end == SESSION_STARTED) {
        steps_say(&x->steps, "start", true, "running as %.8s", x->d.id);
        return false;
    }
    if (x->detach && x->end.end == SESSION_CLOSED)
        x->end = (struct session_result){.end = SESSION_LOST, .text = strdup("the keep does not say whether it runs")};
    return true;
}

/* One keep, from asking to its end, or to where we leave it. `*ran`: x->end says how the program ended. */
static int deploy_once(struct deploy *x, bool *ran) {
    struct link l = {.fd = -1};
    struct channel_client *c = NULL;
    struct channel_io io = link_io(&l);
    hold_interrupts(false); /* when it is deployed again: so far nothing has to be cleaned up */
    int code = get_keep(x, &l);
    *ran = false;
    if (!code && !(c = channel_client_new(&io))) code = cli_error(x->verb, "out of memory");
    if (!code) code = appraise(x, c);
    if (!code) hold_interrupts(true);
    x->fd = l.fd;
    if (!code) code = deliver(x, c);
    if (!code) *ran = follow(x, &l, c);
    channel_client_free(c);
    link_close(&l);
    /* Where only the connection was lost the program may go on, unless we were just about to end it. */
    if (code || (*ran && (x->end.end != SESSION_LOST || x->end.signal))) give_up_keep(x);
    return code;
}

static bool should_restart(const struct deploy *x) {
    const struct session_result *r = &x->end;
    if (!x->restart || x->detach || r->signal) return false;
    return r->end != SESSION_EXITED || r->exit_kind != GATE_EXIT_PROGRAM || (r->status & 0xff) != 0;
}

/* Attached, with --restart=on-failure: again, in a fresh keep, after a while that grows. */
static int deploy(struct deploy *x) {
    enum { FIRST_WAIT = 1, LONGEST_WAIT = 60 };
    bool ran;
    int code = deploy_once(x, &ran);
    for (unsigned wait = FIRST_WAIT; ran && should_restart(x);
         wait = wait * 2 > LONGEST_WAIT ? LONGEST_WAIT : wait * 2) {
        cli_warning(x->verb, "the program failed; it is deployed again in %u s", wait);
        if (x->end.end == SESSION_LOST) give_up_keep(x);
        free(x->end.text);
        x->end = (struct session_result){.end = SESSION_LEFT, .signal = wait_seconds(wait)};
        if (x->end.signal) {
            cli_warning(x->verb, "interrupted: it is not deployed again");
            break;
        }
        *x->d.id = 0;
        code = deploy_once(x, &ran);
    }
    if (code || !ran) return code;
    if (x->end.end == SESSION_LOST && *x->d.id)
        cli_warning(x->verb, "whether the program goes on, `donjon ps` says; `donjon attach %.8s` finds it", x->d.id);
    x->told = true;
    return session_report(x->verb, x->app.run.app, &x->end, x->json);
}

/* What a policy, or a steward's rule, has to name for this very deployment. */
static int show_digests(const struct deploy *x) {
    printf("workload     ");
    for (size_t i = 0; i < CHANNEL_DIGEST; i++)
        printf("%02x", x->app.digest[i]);
    printf("\nmeasurement  %s\n", *x->d.trust.measurement ? x->d.trust.measurement : "(the policy's)");
    if (*x->app.pinned) printf("package      %s\n", x->app.pinned);
    return CLI_YES;
}

int main_deploy(struct cli_args *a) {
    struct cli_args second = *a;
    static struct deploy x;
    x.verb = x.app.run.verb = a->verb;
    snprintf(x.d.target.port, sizeof x.d.target.port, "%d", AGENT_PORT);
    int code = read_options(&x, a);
    bool asked = !code;
    steps_init(&x.steps, x.json, x.quiet);
    if (!code) code = read_into(&x);
    if (!code && !app_load(&x.app, &second)) code = CLI_FAILED;
    if (!code && *x.app.pinned) steps_say(&x.steps, "package", true, "package %s", x.app.pinned);
    if (!code) code = x.dry ? show_digests(&x) : deploy(&x);
    if (!code && x.detach && !x.dry) printf("%s\n", x.d.id);
    if (asked && x.json && !x.told && code == CLI_FAILED) session_tell_failed();
    hold_interrupts(false);
    free(second.keys_copy);
    app_free(&x.app);
    deployment_free(&x.d);
    return code == -1 ? CLI_YES : code;
}
