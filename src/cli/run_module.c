#include "code_cache.h"
#include "code_file.h"
#include "code_key.h"
#include "gate/gate.h"
#include "run.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A file made by `donjon compile`: used whole or not at all. */
static int open_compiled(struct run *r, struct run_module *m, const char *shown, size_t size) {
    uint8_t key[MAC_KEY];
    char error[4600];
    struct code_file f = {.code = NULL};
    if (!code_key(false, key, error, sizeof error))
        return cli_error(r->verb, "%s cannot be authenticated: %s; `donjon compile %s -o %s` makes it anew", shown,
                         error, shown, shown);
    const char *wrong = code_file_open(m->bytes, size, key, &f);
    explicit_bzero(key, sizeof key);
    if (!wrong && !f.module) wrong = "is an entry of the cache, without its module";
    if (wrong) return cli_error(r->verb, "%s %s; `donjon compile %s -o %s` makes it anew", shown, wrong, shown, shown);
    m->wasm = f.module;
    m->wasm_size = (size_t)f.head.module_size;
    m->code = f.code;
    m->code_size = (size_t)f.head.code_size;
    memcpy(m->digest, f.head.digest, sizeof m->digest);
    memcpy(m->code_sha256, f.head.code_sha256, sizeof m->code_sha256);
    return 0;
}

/* Code that counts fuel is not what the cache has. */
static void look_in_cache(struct run *r, struct run_module *m) {
    bool usable = !r->no_cache && !r->c.interpret && !r->c.explicit_checks && m->wasm_size >= CODE_CACHE_MIN &&
                  strcmp(r->module, "-") != 0 && r->c.limits.fuel == CONFIG_UNLIMITED && code_cache_on();
    if (!usable) return;
    const uint8_t *code;
    if (code_cache_find(m->wasm, m->wasm_size, &m->cached, &code, &m->code_size, m->digest, m->code_sha256))
        m->code = code;
    else
        m->worth_caching = true;
}

int run_read_module(struct run *r, struct run_module *m) {
    const char *shown = strcmp(r->module, "-") ? r->module : "standard input";
    size_t size;
    *m = (struct run_module){0};
    if (!cli_read_file(r->module, BOOT_MAX_MODULE, &m->bytes, &size)) {
        if (errno != EFBIG) return cli_error(r->verb, "cannot read %s: %s", shown, strerror(errno));
        return cli_error(r->verb, "%s: more than the %u MiB a module may have", shown, BOOT_MAX_MODULE >> 20);
    }
    m->wasm = m->bytes;
    m->wasm_size = size;
    int code = 0;
    const char *why = NULL;
    if (code_file_is(m->bytes, size))
        code = open_compiled(r, m, shown, size);
    else if ((why = cli_not_a_module(m->bytes, size)))
        code = cli_error(r->verb, "%s %s", shown, why);
    else
        look_in_cache(r, m);
    if (code) run_free_module(m);
    return code;
}

void run_free_module(struct run_module *m) {
    free(m->bytes);
    free(m->cached);
    m->bytes = NULL;
    m->cached = NULL;
}
