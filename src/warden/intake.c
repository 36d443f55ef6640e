#define _GNU_SOURCE
#include "intake.h"
#include "../channel/binding.h"
#include "../config/config_wire.h"
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum stage { CONFIGURATION, MODULE, FILES, SECRETS, STARTED, FAILED };

struct intake {
    enum stage stage;
    uint8_t *part; /* what DATA goes to */
    uint64_t part_size, part_have;
    bool in_part;
    struct sealed_reader *sealed; /* DATA goes through this; NULL: it is plain */
    bool has_key;
    uint8_t key[SEALED_KEY];
    uint8_t *wire, *module;
    size_t wire_size, module_size;
    bool decoded;
    struct config config;
    struct channel_workload *workload;
    struct intake_file *files;
    size_t n_files, room;
    uint64_t files_bytes;
    struct intake_secret *secrets; /* in the configuration's order */
    uint8_t digest[CHANNEL_DIGEST], flags;
    char error[640];
};

struct intake *intake_new(void) {
    struct intake *in = calloc(1, sizeof *in);
    if (!in) return NULL;
    in->workload = channel_workload_new();
    if (in->workload) return in;
    free(in);
    return NULL;
}

static void wipe(uint8_t *p, size_t n) {
    if (p) OPENSSL_cleanse(p, n);
    free(p);
}

void intake_file_done(struct intake *in, size_t i) {
    wipe(in->files[i].content, in->files[i].size);
    in->files[i].content = NULL;
    in->files[i].size = 0;
}

void intake_free(struct intake *in) {
    if (!in) return;
    for (size_t i = 0; i < in->n_files; i++) {
        intake_file_done(in, i);
        free(in->files[i].path);
    }
    for (uint32_t i = 0; in->secrets && i < in->config.n_secrets; i++)
        wipe(in->secrets[i].value, in->secrets[i].size);
    wipe(in->wire, in->wire_size);
    wipe(in->module, in->module_size);
    if (in->decoded) config_free(&in->config);
    sealed_reader_free(in->sealed);
    channel_workload_free(in->workload);
    free(in->files);
    free(in->secrets);
    OPENSSL_cleanse(in, sizeof *in);
    free(in);
}

/* ---- parts: an announced size, then DATA ---- */

static const char *begin(struct intake *in, uint8_t **where, size_t *size, uint64_t announced) {
    *where = malloc(announced ? announced : 1);
    if (!*where) return "the keep has not so much memory";
    *size = announced;
    in->part = *where;
    in->part_size = announced;
    in->part_have = 0;
    in->in_part = true;
    return NULL;
}

/* A part that comes encrypted: opened as it comes, into memory for its content alone. */
static const char *begin_sealed(struct intake *in, uint8_t **where, size_t *size, const struct channel_message *m) {
    if (!in->has_key) return "an encrypted part without a key before it";
    const char *wrong = begin(in, where, size, m->size - SEALED_MORE);
    if (wrong) return wrong;
    bool module = m->type == CHANNEL_SEALED_MODULE;
    in->part_size = m->size;
    in->sealed = sealed_reader_new(in->key, module ? SEALED_MODULE : SEALED_FILE, m->second.data, m->second.size,
                                   m->size, in->part);
    return in->sealed ? NULL : "the keep has not so much memory";
}

/* Nothing of it was looked at before this, and nothing ever is if this fails: whoever has delivered it is told, and
 * what came out is wiped with the rest of the delivery. */
static const char *end_sealed(struct intake *in) {
    bool right = sealed_reader_end(in->sealed);
    sealed_reader_free(in->sealed);
    in->sealed = NULL;
    if (right) return NULL;
    bool module = in->stage == MODULE;
    snprintf(in->error, sizeof in->error,
             "%s%.400s does not decrypt: the key is another package's, or the encrypted layer was changed, cut or put "
             "in another's place",
             module ? "" : "file ", module ? "the module" : in->files[in->n_files - 1].path);
    return in->error;
}

static const char *config_done(struct intake *in) {
    struct config_error why;
    if (!config_decode(&in->config, in->wire, in->wire_size, &why)) {
        snprintf(in->error, sizeof in->error, "configuration: %s", why.message);
        return in->error;
    }
    in->decoded = true;
    if (in->config.n_mounts) return "the configuration mounts directories of a host: a deployed keep has none";
    if (in->config.n_secrets) {
        in->secrets = calloc(in->config.n_secrets, sizeof *in->secrets);
        if (!in->secrets) return "the keep has not so much memory";
    }
    for (uint32_t i = 0; i < in->config.n_secrets; i++) {
        in->secrets[i].secret = &in->config.secrets[i];
        for (uint32_t k = 0; in->config.secrets[i].env && k < in->config.n_env; k++)
            if (strcmp(in->config.env[k].key, in->config.secrets[i].env) == 0)
                return "a variable of the configuration's has the name of a secret's";
    }
    in->stage = MODULE;
    return channel_workload_config(in->workload, (struct channel_bytes){in->wire, in->wire_size}) ? NULL : "no digest";
}

static const char *module_done(struct intake *in) {
    in->stage = FILES;
    return channel_workload_module(in->workload, (struct channel_bytes){in->module, in->module_size}) ? NULL
                                                                                                      : "no digest";
}

static const char *file_done(struct intake *in) {
    const struct intake_file *f = &in->files[in->n_files - 1];
    bool ok = channel_workload_file(in->workload, (struct channel_bytes){(const uint8_t *)f->path, f->path_size},
                                    (struct channel_bytes){f->content, f->size});
    return ok ? NULL : "the files do not come in the order of their paths";
}

static const char *part_done(struct intake *in) {
    const char *wrong = in->sealed ? end_sealed(in) : NULL;
    if (wrong) return wrong;
    in->in_part = false;
    in->part = NULL;
    switch (in->stage) {
    case CONFIGURATION: return config_done(in);
    case MODULE: return module_done(in);
    default: return file_done(in);
    }
}

static const char *take_data(struct intake *in, const struct channel_message *m) {
    if (!in->in_part) return "data that was not announced";
    if (m->first.size > in->part_size - in->part_have) return "more data than was announced";
    if (!in->sealed)
        memcpy(in->part + in->part_have, m->first.data, m->first.size);
    else if (!sealed_reader_take(in->sealed, m->first.data, m->first.size))
        return "more data than was announced";
    in->part_have += m->first.size;
    return in->part_have == in->part_size ? part_done(in) : NULL;
}

/* ---- the messages ---- */

static const char *take_file(struct intake *in, const struct channel_message *m) {
    if (in->n_files == CHANNEL_FILES_MAX || in->n_files >= in->config.limits.fs_entries) return "too many files";
    bool sealed = m->type == CHANNEL_SEALED_FILE;
    uint64_t content = sealed ? m->size - SEALED_MORE : m->size;
    if (content > in->config.limits.fs_bytes - in->files_bytes)
        return "the files are larger than the configuration's limits.filesystem";
    if (in->n_files == in->room) {
        size_t room = in->room ? in->room * 2 : 16;
        void *p = realloc(in->files, room * sizeof *in->files);
        if (!p) return "the keep has not so much memory";
        in->files = p;
        in->room = room;
    }
    struct intake_file *f = &in->files[in->n_files];
    *f = (struct intake_file){.path = malloc(m->first.size + 1), .path_size = m->first.size};
    if (!f->path) return "the keep has not so much memory";
    memcpy(f->path, m->first.data, m->first.size);
    f->path[m->first.size] = 0;
    in->n_files++;
    in->files_bytes += content;
    const char *wrong = sealed ? begin_sealed(in, &f->content, &f->size, m) : begin(in, &f->content, &f->size, m->size);
    if (wrong && !f->content) f->size = 0;
    return wrong || m->size ? wrong : part_done(in);
}

static struct intake_secret *find_secret(struct intake *in, struct channel_bytes name) {
    for (uint32_t i = 0; i < in->config.n_secrets; i++) {
        const char *n = in->config.secrets[i].name;
        if (strlen(n) == name.size && memcmp(n, name.data, name.size) == 0) return &in->secrets[i];
    }
    return NULL;
}

static const char *take_secret(struct intake *in, const struct channel_message *m) {
    struct intake_secret *s = find_secret(in, m->first);
    if (!s) return "a secret that the configuration does not name";
    if (s->value) return "a secret that comes twice";
    if (s->secret->env && m->second.size && memchr(m->second.data, 0, m->second.size))
        return "a secret with a zero byte, which no environment can hold";
    s->value = malloc(m->second.size ? m->second.size : 1);
    if (!s->value) return "the keep has not so much memory";
    if (m->second.size) memcpy(s->value, m->second.data, m->second.size);
    s->size = m->second.size;
    in->stage = SECRETS;
    return NULL;
}

static const char *take_start(struct intake *in, const struct channel_message *m) {
    for (uint32_t i = 0; i < in->config.n_secrets; i++) {
        if (in->secrets[i].value) continue;
        snprintf(in->error, sizeof in->error, "the secret \"%s\" is missing", in->secrets[i].secret->name);
        return in->error;
    }
    if (!channel_workload_digest(in->workload, in->digest)) return "no digest";
    if (CRYPTO_memcmp(in->digest, m->fixed, CHANNEL_DIGEST) != 0)
        return "what was delivered does not have the digest that was named";
    in->flags = m->flags;
    in->stage = STARTED;
    OPENSSL_cleanse(in->key, sizeof in->key);
    return NULL;
}

static const char *take(struct intake *in, const struct channel_message *m) {
    if (m->type == CHANNEL_DATA) return take_data(in, m);
    if (in->in_part) return "less data than was announced";
    switch (m->type) {
    case CHANNEL_CONFIG:
        if (in->stage == CONFIGURATION && !in->wire) return begin(in, &in->wire, &in->wire_size, m->size);
        break;
    case CHANNEL_MODULE:
        if (in->stage == MODULE && !in->module) return begin(in, &in->module, &in->module_size, m->size);
        break;
    case CHANNEL_KEY:
        if (in->stage == MODULE && !in->module && !in->has_key) {
            memcpy(in->key, m->fixed, sizeof in->key);
            in->has_key = true;
            return NULL;
        }
        break;
    case CHANNEL_SEALED_MODULE:
        if (in->stage == MODULE && !in->module) return begin_sealed(in, &in->module, &in->module_size, m);
        break;
    case CHANNEL_FILE:
    case CHANNEL_SEALED_FILE:
        if (in->stage == FILES) return take_file(in, m);
        break;
    case CHANNEL_SECRET:
        if (in->stage == FILES || in->stage == SECRETS) return take_secret(in, m);
        break;
    case CHANNEL_START:
        if (in->stage == FILES || in->stage == SECRETS) return take_start(in, m);
        break;
    default: break;
    }
    return "a message that does not come next in a delivery";
}

const char *intake_take(struct intake *in, const struct channel_message *m, bool *started) {
    *started = false;
    if (in->stage == FAILED || in->stage == STARTED) return "this delivery is over";
    const char *wrong = take(in, m);
    if (wrong) {
        in->stage = FAILED;
        OPENSSL_cleanse(in->key, sizeof in->key);
    }
    *started = in->stage == STARTED;
    return wrong;
}

const uint8_t *intake_digest(const struct intake *in) {
    return in->digest;
}

uint8_t intake_flags(const struct intake *in) {
    return in->flags;
}

/* The secrets' names go with it; their entries still point there. */
struct config intake_config(struct intake *in) {
    in->decoded = false;
    return in->config;
}

uint8_t *intake_module(struct intake *in, size_t *size) {
    uint8_t *module = in->module;
    *size = in->module_size;
    in->module = NULL;
    return module;
}

const struct intake_file *intake_files(const struct intake *in, size_t *n) {
    *n = in->n_files;
    return in->files;
}

const struct intake_secret *intake_secrets(const struct intake *in, size_t *n) {
    *n = in->secrets ? in->config.n_secrets : 0;
    return in->secrets;
}
