#include "request.h"

#include "settings.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

const char *const request_op_names[REQUEST_OPS] = {"create", "channel", "list", "stop", "info"};

/* Which members each operation may have, beside v, token and op. */
enum { HAS_ID = 1, HAS_CREATE = 2 };
static const unsigned members[REQUEST_OPS] = {
    [REQUEST_CREATE] = HAS_CREATE, [REQUEST_CHANNEL] = HAS_ID, [REQUEST_STOP] = HAS_ID};

struct reading {
    struct request *r;
    char *error;
    size_t error_size;
};

static bool wrong(struct reading *x, const char *member, const char *expected) {
    snprintf(x->error, x->error_size, "request: %s: expected %s", member, expected);
    return false;
}

bool keep_id_fine(const char *s, size_t n) {
    return n == KEEP_ID && strspn(s, "0123456789abcdef") == KEEP_ID;
}

static bool printable(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (s[i] < 0x21 || s[i] > 0x7e) return false;
    return true;
}

/* A member that is text of `least` to `most` bytes, or null where that may be. jansson has refused NUL inside. */
static bool take_text(struct reading *x, const char *name, json_t *value, bool null, size_t least, size_t most,
                      char *out) {
    if (null && json_is_null(value)) return true;
    size_t n = json_string_length(value);
    if (!json_is_string(value) || n < least || n > most || !printable(json_string_value(value), n)) {
        char expected[96];
        snprintf(expected, sizeof expected, "%zu to %zu printable characters%s", least, most, null ? ", or null" : "");
        return wrong(x, name, expected);
    }
    memcpy(out, json_string_value(value), n + 1);
    return true;
}

static bool take_create(struct reading *x, const char *name, json_t *value) {
    struct request *r = x->r;
    if (!strcmp(name, "backend")) return take_text(x, name, value, true, 1, sizeof r->backend - 1, r->backend);
    if (!strcmp(name, "name")) {
        if (!take_text(x, name, value, true, 1, KEEP_NAME_MAX, r->name)) return false;
        return !*r->name || tenant_name_fine(r->name, strlen(r->name)) ||
               wrong(x, name, "letters, digits, '-', '_' or '.'");
    }
    if (!strcmp(name, "restart")) {
        r->restart = json_is_true(value);
        return json_is_boolean(value) || wrong(x, name, "true or false");
    }
    if (strcmp(name, "memory") != 0) return wrong(x, name, "no such member");
    if (json_is_null(value)) return true;
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < KEEP_MEMORY_LEAST || n > (json_int_t)1 << 50)
        return wrong(x, name, "a number of bytes, at least 32 MiB, or null");
    r->memory = (uint64_t)n;
    return true;
}

static bool take_member(struct reading *x, const char *name, json_t *value) {
    struct request *r = x->r;
    if (!strcmp(name, "v"))
        return (json_is_integer(value) && json_integer_value(value) == REQUEST_VERSION) ||
               wrong(x, name, "version 1, the only one this agent knows");
    if (!strcmp(name, "op")) return true; /* known by now */
    if (!strcmp(name, "token")) return take_text(x, name, value, true, TOKEN_MIN, TOKEN_MAX, r->token);
    if (members[r->op] & HAS_CREATE) return take_create(x, name, value);
    if (!(members[r->op] & HAS_ID) || strcmp(name, "id") != 0) return wrong(x, "a member", "no other than of this op");
    if (!json_is_string(value) || !keep_id_fine(json_string_value(value), json_string_length(value)))
        return wrong(x, name, "32 hexadecimal digits");
    memcpy(r->id, json_string_value(value), KEEP_ID + 1);
    return true;
}

static bool take_op(struct reading *x, json_t *root) {
    const char *op = json_string_value(json_object_get(root, "op"));
    for (int i = 0; op && i < REQUEST_OPS; i++) {
        if (strcmp(op, request_op_names[i]) != 0) continue;
        x->r->op = (enum request_op)i;
        return true;
    }
    return wrong(x, "op", "create, channel, list, stop or info");
}

/* The token's copies inside jansson's tree do not outlive the parsing. */
static void clear_token(json_t *root) {
    json_t *token = json_object_get(root, "token");
    if (json_is_string(token)) explicit_bzero((char *)json_string_value(token), json_string_length(token));
}

static bool take_all(struct reading *x, json_t *root) {
    const char *name;
    json_t *value;
    if (!json_is_object(root)) return wrong(x, "the line", "one JSON object");
    if (!json_object_get(root, "v")) return wrong(x, "v", "version 1");
    if (!take_op(x, root)) return false;
    json_object_foreach(root, name, value) if (!take_member(x, name, value)) return false;
    return !(members[x->r->op] & HAS_ID) || *x->r->id || wrong(x, "id", "32 hexadecimal digits");
}

bool request_parse(struct request *r, const char *line, size_t size, char *error, size_t error_size) {
    struct reading x = {r, error, error_size};
    json_error_t e;
    *r = (struct request){0};
    if (size > REQUEST_MAX) return wrong(&x, "the line", "at most 64 KiB");
    json_t *root = json_loadb(line, size, JSON_REJECT_DUPLICATES, &e);
    if (!root) return wrong(&x, "the line", "JSON");
    bool ok = take_all(&x, root);
    clear_token(root);
    json_decref(root);
    if (!ok) request_clear(r);
    return ok;
}

void request_clear(struct request *r) {
    explicit_bzero(r, sizeof *r);
}
