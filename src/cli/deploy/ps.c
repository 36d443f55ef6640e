#define _GNU_SOURCE
/* donjon ps: what is remembered here, beside what the hosts say. */
#include "deployment.h"
#include "verbs.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct row {
    char id[KEEP_ID + 1], name[KEEP_NAME_MAX + 1], host[280], state[160], backend[16], age[24], memory[16], cpu[16],
        ports[200];
};

static void age_text(int64_t seconds, char *out, size_t size) {
    static const struct {
        int64_t seconds;
        const char *unit;
    } units[] = {{86400, "d"}, {3600, "h"}, {60, "m"}, {1, "s"}};
    size_t i = 0;
    while (i < 3 && seconds < 2 * units[i].seconds)
        i++;
    snprintf(out, size, "%lld%s", (long long)(seconds > 0 ? seconds / units[i].seconds : 0), units[i].unit);
}

static const char *text_of(const json_t *keep, const char *name) {
    const char *s = json_string_value(json_object_get(keep, name));
    return s ? s : "";
}

/* "running", "exited 3", "killed", "waiting for its tenant". */
static void state_text(const json_t *keep, char *out, size_t size) {
    const char *state = text_of(keep, "state");
    const json_t *end = json_object_get(keep, "exit");
    const char *outcome = text_of(end, "outcome");
    long long code = (long long)json_integer_value(json_object_get(end, "code"));
    if (!strcmp(state, "waiting"))
        snprintf(out, size, "waiting for its tenant");
    else if (*outcome && !strcmp(outcome, "exited"))
        snprintf(out, size, "exited %lld", code);
    else if (*outcome)
        snprintf(out, size, "%s", outcome);
    else
        snprintf(out, size, "%s", state);
}

static void fill(struct row *row, const json_t *keep) {
    char state[300];
    json_int_t memory = json_integer_value(json_object_get(keep, "memory_used")),
               cpu = json_integer_value(json_object_get(keep, "cpu_ms"));
    json_t *ports = json_object_get(keep, "ports"), *port;
    size_t i;
    state_text(keep, state, sizeof state);
    cli_printable(state, row->state, sizeof row->state, false);
    cli_printable(text_of(keep, "backend"), row->backend, sizeof row->backend, false);
    age_text(time(NULL) - json_integer_value(json_object_get(keep, "created")), row->age, sizeof row->age);
    snprintf(row->memory, sizeof row->memory, "%lldM", (long long)memory >> 20);
    snprintf(row->cpu, sizeof row->cpu, "%.1fs", (double)cpu / 1000);
    json_array_foreach(ports, i, port) {
        size_t n = strlen(row->ports);
        snprintf(row->ports + n, sizeof row->ports - n, "%s%d", n ? "," : "", (int)json_integer_value(port));
    }
    /* What has ended has no ports; where they stand there is room for a sentence. */
    const char *why = text_of(keep, "why");
    if (*why) cli_printable(why, row->ports, sizeof row->ports, false);
}

/* ---- asking the hosts ---- */

/* One answer a host, however many of its keeps are remembered. */
struct answer {
    char host[256], port[8], token[512];
    json_t *keeps; /* NULL: */
    char error[600];
    struct answer *next;
};

static struct answer *ask(struct answer **answers, const struct target *t) {
    const char *token = t->token_file ? t->token_file : "";
    for (struct answer *a = *answers; a; a = a->next)
        if (!strcmp(a->host, t->host) && !strcmp(a->port, t->port) && !strcmp(a->token, token)) return a;
    struct answer *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    memcpy(a->host, t->host, sizeof a->host);
    memcpy(a->port, t->port, sizeof a->port);
    snprintf(a->token, sizeof a->token, "%s", token);
    json_t *reply = link_ask_once(t, json_pack("{s:s}", "op", "list"), a->error, sizeof a->error);
    a->keeps = json_incref(json_object_get(reply, "keeps"));
    json_decref(reply);
    a->next = *answers;
    return *answers = a;
}

static void free_answers(struct answer *a) {
    for (struct answer *next; a; a = next) {
        next = a->next;
        json_decref(a->keeps);
        free(a);
    }
}

static json_t *find(json_t *keeps, const char *id) {
    size_t i;
    json_t *keep;
    json_array_foreach(keeps, i, keep) if (!strcmp(text_of(keep, "id"), id)) return keep;
    return NULL;
}

/* ---- showing ---- */

static void print_row(const struct row *r) {
    printf("%-9.8s %-16s %-24s %-24s %-8s %5s %7s %7s  %s\n", r->id, *r->name ? r->name : "-", r->host, r->state,
           r->backend, r->age, r->memory, r->cpu, r->ports);
}

static void print_head(void) {
    static const struct row head = {"ID", "NAME", "HOST", "STATE", "BACKEND", "AGE", "MEMORY", "CPU", "PORTS"};
    print_row(&head);
}

static void host_text(const struct target *t, char *out, size_t size) {
    snprintf(out, size, strchr(t->host, ':') ? "[%s]:%s" : "%s:%s", t->host, t->port);
}

static json_t *remembered_json(const struct deployment *d, json_t *keep, const char *error) {
    json_t *j =
        keep ? json_deep_copy(keep)
             : json_pack("{s:s, s:s, s:s}", "id", d->id, "name", d->name, "state", error ? "unreachable" : "gone");
    char host[300];
    host_text(&d->target, host, sizeof host);
    json_object_set_new(j, "host", json_string(host));
    json_object_set_new(j, "app", json_string(d->app));
    if (error) json_object_set_new(j, "error", json_string(error));
    return j;
}

static void show_remembered(bool json, json_t *out) {
    size_t n;
    struct deployment *all = deployment_all(&n);
    if (!json) print_head();
    struct answer *answers = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct deployment *d = &all[i];
        struct row row = {0};
        struct answer *a = ask(&answers, &d->target);
        json_t *keep = a ? find(a->keeps, d->id) : NULL;
        const char *error = a && !a->keeps ? a->error : NULL;
        if (json) json_array_append_new(out, remembered_json(d, keep, error));
        memcpy(row.id, d->id, sizeof row.id);
        memcpy(row.name, d->name, sizeof row.name);
        host_text(&d->target, row.host, sizeof row.host);
        if (keep) {
            fill(&row, keep);
        } else {
            snprintf(row.state, sizeof row.state, "%s", error ? "unreachable" : "gone");
            memcpy(row.backend, d->backend, sizeof row.backend);
            age_text(time(NULL) - d->created, row.age, sizeof row.age);
        }
        if (!json) print_row(&row);
    }
    for (size_t i = 0; i < n; i++)
        deployment_free(&all[i]);
    free(all);
    free_answers(answers);
}

static bool show_host(const struct cli_verb *verb, const struct target *t, bool json, json_t *out) {
    char error[600];
    size_t i;
    json_t *reply = link_ask_once(t, json_pack("{s:s}", "op", "list"), error, sizeof error), *keep;
    if (!reply) return cli_error(verb, "%s", error), false;
    if (!json) print_head();
    json_array_foreach(json_object_get(reply, "keeps"), i, keep) {
        struct row row = {0};
        if (json) json_array_append(out, keep);
        cli_printable(text_of(keep, "id"), row.id, sizeof row.id, false);
        cli_printable(text_of(keep, "name"), row.name, sizeof row.name, false);
        host_text(t, row.host, sizeof row.host);
        fill(&row, keep);
        if (!json) print_row(&row);
    }
    json_decref(reply);
    return true;
}

int main_ps(struct cli_args *a) {
    struct target t = {0};
    const char *value;
    bool json = false, host = false;
    int code = CLI_YES;
    for (int id; (id = cli_next(a, &value)) != CLI_END;) {
        if (id == CLI_STOP) return a->exit_code;
        if (id == CLI_OPERAND) return cli_usage_error(a, "expected no operand, found \"%s\"", value);
        if (id == DEPLOY_JSON) json = true;
        host |= id == DEPLOY_HOST;
        if ((code = deploy_host_option(&t, a, id, value))) return code;
    }
    json_t *out = json_array();
    if (!host)
        show_remembered(json, out);
    else if (!show_host(a->verb, &t, json, out))
        code = CLI_FAILED;
    if (json && !code) {
        json_dumpf(out, stdout, JSON_INDENT(1));
        putchar('\n');
    }
    json_decref(out);
    target_free(&t);
    return code;
}
