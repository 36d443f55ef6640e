/* A keep's requests to its steward. The keep is sealed off from the network, and its steward speaks HTTP: the agent
 * carries the request and the answer, and is believed in neither. What is asked for is a certificate for a key that
 * evidence vouches for, what comes back is signed by an authority that the workload's configuration names; so the
 * server's own TLS certificate is not checked here: an agent that wanted to lie could do so anyway.
 *
 * libcurl's multi interface over the agent's loop: no thread, no waiting. Nor does the keep wait: GATE_STEWARD. */
#include "agent.h"
#include "loader/reach.h"
#include "log.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <curl/curl.h>
#include <openssl/evp.h>

enum {
    BODY_MAX = 64 * 1024,
    URL_MAX = 1024,
    CALLS_MAX = 64, /* at once, all keeps together */
    CALLS_OF_TENANT = 16,
    CALLS_OF_KEEP = 4,
    TIMEOUT_MS = 20000,
    REFUSAL_MAX = 650, /* bytes of a refusal in words: a keep shows no more */
};

struct call {
    struct call *next;
    struct upcalls *all;
    struct keep *keep;
    json_int_t id;
    CURL *curl;
    struct curl_slist *headers;
    unsigned char *body, answer[BODY_MAX];
    size_t answered;
};

struct upcalls {
    struct agent *agent;
    CURLM *multi;
    struct deadline timer;
    struct call *calls;
    unsigned n;
};

static void answer_error(struct keep *k, json_int_t id, const char *error) {
    control_send(k, json_pack("{s:s, s:I, s:s}", "answer", "steward", "id", id, "error", error));
}

/* Appends what can be printed of it, on one line. */
static void append(struct call *c, const char *text) {
    for (; text && *text && c->answered < REFUSAL_MAX; text++)
        c->answer[c->answered++] = (unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : (unsigned char)*text;
}

/* A refusal as RFC 9457 has it, in words: a keep shows it to its tenant, and reads no JSON. */
static void put_in_words(struct call *c) {
    json_t *problem = json_loadb((char *)c->answer, c->answered, 0, NULL), *reason;
    const char *title = json_string_value(json_object_get(problem, "title")),
               *detail = json_string_value(json_object_get(problem, "detail"));
    size_t i;
    if (title) {
        c->answered = 0;
        append(c, title);
        append(c, detail ? ": " : NULL);
        append(c, detail);
        json_array_foreach(json_object_get(problem, "reasons"), i, reason) {
            append(c, i ? "; " : ": ");
            append(c, json_string_value(json_object_get(reason, "text")));
            append(c, " (");
            append(c, json_string_value(json_object_get(reason, "rule")));
            append(c, ")");
        }
    }
    json_decref(problem);
}

static void answer(struct call *c, CURLcode result) {
    long status = 0;
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 400) put_in_words(c);
    if (result != CURLE_OK) {
        answer_error(c->keep, c->id, curl_easy_strerror(result));
        return;
    }
    char *text = malloc(c->answered / 3 * 4 + 8);
    if (!text) return;
    text[0] = 0;
    EVP_EncodeBlock((unsigned char *)text, c->answer, (int)c->answered);
    control_send(c->keep, json_pack("{s:s, s:I, s:i, s:s}", "answer", "steward", "id", c->id, "status", (int)status,
                                    "body", text));
    free(text);
}

static void drop(struct call *c) {
    struct upcalls *u = c->all;
    struct call **at = &u->calls;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    u->n--;
    if (c->curl) {
        curl_multi_remove_handle(u->multi, c->curl);
        curl_easy_cleanup(c->curl);
    }
    curl_slist_free_all(c->headers);
    free(c->body);
    free(c);
}

/* ---- libcurl on the loop ---- */

struct socket_watch {
    struct watch watch;
    struct upcalls *all;
};

static void collect(struct upcalls *u) {
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(u->multi, &left));) {
        struct call *c;
        if (m->msg != CURLMSG_DONE) continue;
        CURLcode result = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &c);
        answer(c, result);
        drop(c);
    }
}

static void socket_ready(struct watch *w, uint32_t events) {
    struct upcalls *u = ((struct socket_watch *)w)->all;
    int running, what = (events & EPOLLIN ? CURL_CSELECT_IN : 0) | (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                        (events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
    curl_multi_socket_action(u->multi, w->fd, what, &running);
    collect(u);
}

static int on_socket(CURL *curl, curl_socket_t fd, int what, void *ctx, void *of_socket) {
    struct upcalls *u = ctx;
    struct socket_watch *w = of_socket;
    (void)curl;
    if (what == CURL_POLL_REMOVE) {
        if (w) loop_forget(&u->agent->loop, &w->watch);
        free(w);
        return 0;
    }
    if (!w) {
        w = calloc(1, sizeof *w);
        if (!w) return -1;
        w->watch = (struct watch){.fd = fd, .ready = socket_ready};
        w->all = u;
        curl_multi_assign(u->multi, fd, w);
    }
    uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
    return loop_want(&u->agent->loop, &w->watch, events) ? 0 : -1;
}

static void timer_passed(struct deadline *d) {
    struct upcalls *u = OWNER_OF(d, struct upcalls, timer);
    int running;
    curl_multi_socket_action(u->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    collect(u);
}

static int on_timer(CURLM *multi, long ms, void *ctx) {
    struct upcalls *u = ctx;
    (void)multi;
    if (ms < 0)
        loop_clear(&u->timer);
    else
        loop_set(&u->agent->loop, &u->timer, (uint64_t)ms);
    return 0;
}

struct upcalls *upcalls_new(struct agent *a) {
    struct upcalls *u = calloc(1, sizeof *u);
    if (!u) return NULL;
    u->agent = a;
    u->timer.passed = timer_passed;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    u->multi = curl_multi_init();
    if (!u->multi) {
        free(u);
        return NULL;
    }
    curl_multi_setopt(u->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(u->multi, CURLMOPT_SOCKETDATA, u);
    curl_multi_setopt(u->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(u->multi, CURLMOPT_TIMERDATA, u);
    return u;
}

void upcalls_delete(struct upcalls *u) {
    if (!u) return;
    while (u->calls)
        drop(u->calls);
    curl_multi_cleanup(u->multi);
    loop_clear(&u->timer);
    free(u);
    curl_global_cleanup();
}

void upcalls_forget(struct upcalls *u, struct keep *k) {
    for (struct call *c = u->calls, *next; c; c = next) {
        next = c->next;
        if (c->keep == k) drop(c);
    }
}

/* ---- one call ---- */

static size_t on_answer(char *data, size_t one, size_t n, void *ctx) {
    struct call *c = ctx;
    if (n > sizeof c->answer - c->answered) return 0; /* fails the transfer */
    memcpy(c->answer + c->answered, data, n);
    c->answered += n;
    return n * one;
}

/* A keep reaches no further into the host's network through us than its programs do (loader/reach.h). */
static curl_socket_t open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *a) {
    struct reach reach;
    (void)purpose;
    bool ok = reach_parse_connect(ctx, &reach) && reach_may_connect(&reach, &a->addr);
    return ok ? socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol) : CURL_SOCKET_BAD;
}

static bool set_options(struct call *c, const char *url, size_t body) {
    CURL *h = c->curl;
    bool ok = curl_easy_setopt(h, CURLOPT_URL, url) == CURLE_OK &&
              curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "https,http") == CURLE_OK &&
              curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)TIMEOUT_MS) == CURLE_OK &&
              curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
              curl_easy_setopt(h, CURLOPT_USERAGENT, "donjon-agent") == CURLE_OK &&
              curl_easy_setopt(h, CURLOPT_SSL_VERIFYPEER, 0L) == CURLE_OK && /* above */
              curl_easy_setopt(h, CURLOPT_SSL_VERIFYHOST, 0L) == CURLE_OK &&
              curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_answer) == CURLE_OK &&
              curl_easy_setopt(h, CURLOPT_WRITEDATA, c) == CURLE_OK &&
              curl_easy_setopt(h, CURLOPT_PRIVATE, c) == CURLE_OK &&
              /* Every request has a connection of its own: what another may reach, open_socket has not been asked. */
              curl_easy_setopt(h, CURLOPT_FRESH_CONNECT, 1L) == CURLE_OK &&
              curl_easy_setopt(h, CURLOPT_FORBID_REUSE, 1L) == CURLE_OK;
    /* No proxy of the agent's environment either, which could reach what open_socket does not see. */
    if (ok && !settings_steward(&c->all->agent->settings, url))
        ok = curl_easy_setopt(h, CURLOPT_NOPROXY, "*") == CURLE_OK &&
             curl_easy_setopt(h, CURLOPT_OPENSOCKETFUNCTION, open_socket) == CURLE_OK &&
             curl_easy_setopt(h, CURLOPT_OPENSOCKETDATA, (void *)keep_tenant(c->keep)->connect) == CURLE_OK;
    if (!ok) return false;
    /* A nonce can be had as JSON or as it is: a keep has no use for JSON. */
    c->headers = curl_slist_append(NULL, "Accept: application/octet-stream, */*");
    struct curl_slist *more =
        body ? curl_slist_append(c->headers, "Content-Type: application/octet-stream") : c->headers;
    if (!c->headers || !more || curl_easy_setopt(h, CURLOPT_HTTPHEADER, c->headers) != CURLE_OK) return false;
    return !body || (curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE, (long)body) == CURLE_OK &&
                     curl_easy_setopt(h, CURLOPT_POSTFIELDS, c->body) == CURLE_OK);
}

/* NULL: not base64, or more than may be. */
static unsigned char *decode_body(const char *text, size_t *size) {
    size_t n = strlen(text);
    if (n % 4 || n / 4 * 3 > BODY_MAX + 2) return NULL;
    unsigned char *out = malloc(n / 4 * 3 + 1);
    int got = out && n ? EVP_DecodeBlock(out, (const unsigned char *)text, (int)n) : 0;
    if (!out || got < 0) {
        free(out);
        return NULL;
    }
    *size = (size_t)got - (n && text[n - 1] == '=') - (n && text[n - 2] == '=');
    return out;
}

static const char *start(struct upcalls *u, struct keep *k, const json_t *m, json_int_t id) {
    const char *kind = json_string_value(json_object_get(m, "upcall")),
               *url = json_string_value(json_object_get(m, "url")),
               *body = json_string_value(json_object_get(m, "body"));
    unsigned mine = 0, tenants = 0;
    for (struct call *c = u->calls; c; c = c->next) {
        mine += c->keep == k;
        tenants += !strcmp(c->keep->tenant, k->tenant);
    }
    if (!kind || strcmp(kind, "steward") != 0) return "this agent knows only upcalls to a steward";
    if (!url || strlen(url) > URL_MAX || (strncmp(url, "https://", 8) != 0 && strncmp(url, "http://", 7) != 0))
        return "expected an https:// URL";
    if (u->n >= CALLS_MAX || mine >= CALLS_OF_KEEP || tenants >= CALLS_OF_TENANT) return "too many requests at once";
    struct call *c = calloc(1, sizeof *c);
    if (!c) return "out of memory";
    *c = (struct call){.next = u->calls, .all = u, .keep = k, .id = id, .curl = curl_easy_init()};
    u->calls = c;
    u->n++;
    size_t size = 0;
    c->body = decode_body(body ? body : "", &size);
    if (c->body && c->curl && set_options(c, url, size) && curl_multi_add_handle(u->multi, c->curl) == CURLM_OK)
        return NULL;
    const char *why = c->body ? "cannot be sent" : "the body is not base64, or more than 64 KiB";
    drop(c);
    return why;
}

void upcall_start(struct upcalls *u, struct keep *k, const json_t *m) {
    json_int_t id = json_integer_value(json_object_get(m, "id"));
    const char *error = start(u, k, m, id);
    if (!error) return;
    log_event(LOG_WARN, "a keep's request to its steward is refused", "keep", k->id, "why", error, NULL);
    answer_error(k, id, error);
}
