/* From the workload's bytes to its last instruction. */
#define _DEFAULT_SOURCE
#include "../wasi/link.h"
#include "../wasi/memfs.h"
#include "helpers.h"
#include "seal.h"
#include "warden.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct report report;

/* ---- what the program sees ---- */

static bool is_input(enum config_file_kind k) {
    return k == CONFIG_STDIN;
}

/* What a host has against a socket, for people. */
static const char *socket_reason(uint32_t error) {
    switch (error) {
    case WASI_EACCES: return "not allowed (EACCES)";
    case WASI_EADDRINUSE: return "the port is in use there; end what listens on it, or take another";
    case WASI_EADDRNOTAVAIL: return "it has no such address";
    case WASI_ECONNREFUSED: return "nothing listens there";
    case WASI_EHOSTUNREACH:
    case WASI_ENETUNREACH: return "there is no way to it";
    case WASI_ETIMEDOUT: return "no answer";
    default: return wasi_errno_name((wasi_errno)error);
    }
}

/* A deployed workload's sockets are opened now; those of others were, before the keep began. */
static void open_socket(struct warden *w, const struct config_file *f, uint32_t *handle) {
    uint32_t error = tenant_socket(w, f, handle);
    if (error == GATE_OK) return;
    bool listening = f->kind == CONFIG_LISTEN;
    const char *who = error != WASI_EACCES ? ""
                      : listening          ? "; which ports its tenants may have, the host's operator decides "
                                             "(`listen` in agent.toml, and who may open ports below 1024)"
                                           : "; where its tenants may connect to, the host's operator decides "
                                             "(`connect` in agent.toml)";
    report_failure(w, GATE_EXIT_REFUSED, "file \"%s\": the host cannot %s %s port %u: %s%s", f->name,
                   listening ? "listen on" : "connect to", listening ? f->addr : f->host, f->port, socket_reason(error),
                   who);
}

static struct wasi_file *config_file(struct warden *w, uint32_t number, const struct config_file *f) {
    bool socket = f->kind == CONFIG_LISTEN || f->kind == CONFIG_CONNECT;
    uint32_t handle = number;
    if (w->tenant && socket) open_socket(w, f, &handle);
    if (w->tenant && !socket && f->kind != CONFIG_NULL) return tenant_stream(w, f->kind);
    if (socket && f->prot == CONFIG_TLS) return tls_file(w, number, handle, f);
    switch (f->kind) {
    case CONFIG_NULL: return wasi_file_ref(wasi_file_null());
    case CONFIG_LISTEN:
    case CONFIG_CONNECT: return network_file(w, handle, f->kind == CONFIG_LISTEN);
    default: return gate_stream(&w->files, handle, w->boot.flags & BOOT_TERMINAL_IN << (f->kind - CONFIG_STDIN));
    }
}

static wasi_errno add_files(struct warden *w, struct wasi *wasi) {
    const struct config *c = &w->boot.config;
    for (uint32_t i = 0; i < c->n_files; i++) {
        const struct config_file *f = &c->files[i];
        struct wasi_file *file = config_file(w, i, f);
        if (!file) return WASI_ENOMEM;
        uint64_t rights = WASI_RIGHTS_ALL;
        if (is_input(f->kind)) rights &= ~(uint64_t)WASI_RIGHT_FD_WRITE;
        if (f->kind == CONFIG_STDOUT || f->kind == CONFIG_STDERR) rights &= ~(uint64_t)WASI_RIGHT_FD_READ;
        uint64_t inheriting = f->kind == CONFIG_LISTEN ? WASI_RIGHTS_SOCKET : 0;
        wasi_errno error = wasi_add_file(wasi, i, file, rights, inheriting, 0);
        if (error != WASI_SUCCESS) return error;
    }
    return WASI_SUCCESS;
}

static wasi_errno add_mounts(struct warden *w, struct wasi *wasi) {
    const struct config *c = &w->boot.config;
    for (uint32_t i = 0; i < c->n_mounts; i++) {
        const struct config_mount *m = &c->mounts[i];
        struct wasi_file *dir = gate_directory(&w->files, c->n_files + i);
        if (!dir) return WASI_ENOMEM;
        uint64_t denied = m->writable ? 0 : WASI_RIGHTS_CHANGING;
        wasi_errno error = wasi_add_preopen(wasi, dir, m->guest, WASI_RIGHTS_DIR & ~denied,
                                            (WASI_RIGHTS_DIR | WASI_RIGHTS_FILE) & ~denied, NULL);
        if (error != WASI_SUCCESS) return error;
    }
    return WASI_SUCCESS;
}

/* The in-memory root: where a program finds "/" unless a host directory was mounted there. */
static wasi_errno add_root(struct warden *w, struct wasi *wasi, const struct wasi_host *host) {
    const struct config_limits *l = &w->boot.config.limits;
    struct memfs_limits limits = {.bytes = l->fs_bytes,
                                  .inodes = l->fs_entries < UINT32_MAX ? (uint32_t)l->fs_entries : UINT32_MAX};
    struct memfs *fs = memfs_new(host, &limits);
    struct wasi_file *root = fs ? memfs_root(fs) : NULL;
    if (!root) return WASI_ENOMEM;
    memfs_release(fs);
    wasi_errno error = w->tenant ? tenant_fill(w, wasi, root) : (uint32_t)WASI_SUCCESS;
    if (error == WASI_SUCCESS) error = tls_show_identity(w, root);
    if (error != WASI_SUCCESS) {
        wasi_file_unref(root);
        return error;
    }
    return wasi_add_preopen(wasi, root, "/", WASI_RIGHTS_DIR, WASI_RIGHTS_DIR | WASI_RIGHTS_FILE, NULL);
}

static wasi_errno add_words(struct warden *w, struct wasi *wasi) {
    const struct config *c = &w->boot.config;
    wasi_errno error = wasi_add_arg(wasi, c->program, strlen(c->program));
    for (uint32_t i = 0; error == WASI_SUCCESS && i < c->n_args; i++)
        error = wasi_add_arg(wasi, c->args[i], strlen(c->args[i]));
    return error;
}

static wasi_errno add_variable(struct wasi *wasi, const char *key, const char *value) {
    size_t k = strlen(key), v = strlen(value);
    char *text = malloc(k + 1 + v);
    if (!text) return WASI_ENOMEM;
    memcpy(text, key, k);
    text[k] = '=';
    memcpy(text + k + 1, value, v);
    wasi_errno error = wasi_add_env(wasi, text, k + 1 + v);
    free(text);
    return error;
}

/* FD_COUNT and FD_NAMES, as Enarx announces descriptors. */
static wasi_errno add_announcement(struct warden *w, struct wasi *wasi) {
    const struct config *c = &w->boot.config;
    if (!c->announce_fds) return WASI_SUCCESS;
    char count[16];
    snprintf(count, sizeof count, "%u", c->n_files);
    size_t size = config_fd_names(c, NULL, 0) + 1;
    char *names = malloc(size);
    if (!names) return WASI_ENOMEM;
    config_fd_names(c, names, size);
    wasi_errno error = add_variable(wasi, "FD_COUNT", count);
    if (error == WASI_SUCCESS) error = add_variable(wasi, "FD_NAMES", names);
    free(names);
    return error;
}

static wasi_errno add_environment(struct warden *w, struct wasi *wasi) {
    const struct config *c = &w->boot.config;
    wasi_errno error = add_announcement(w, wasi);
    for (uint32_t i = 0; error == WASI_SUCCESS && i < c->n_env; i++)
        error = add_variable(wasi, c->env[i].key, c->env[i].value);
    return error;
}

static struct wasi *make_world(struct warden *w) {
    struct wasi_host host = warden_host(w);
    struct wasi *wasi = wasi_new(&host);
    if (!wasi) report_failure(w, GATE_EXIT_BROKEN, "out of memory");
    wasi_errno error = add_words(w, wasi);
    if (error == WASI_SUCCESS) error = add_environment(w, wasi);
    if (error == WASI_SUCCESS) error = add_files(w, wasi);
    if (error == WASI_SUCCESS) error = add_mounts(w, wasi);
    if (error == WASI_SUCCESS && !config_has_root(&w->boot.config)) error = add_root(w, wasi, &host);
    if (error != WASI_SUCCESS)
        report_failure(w, GATE_EXIT_REFUSED, "cannot lay out the program's world: %s", wasi_errno_name(error));
    return wasi;
}

/* ---- the program ---- */

static wasm_store_t *make_store(struct warden *w) {
    const struct config_limits *l = &w->boot.config.limits;
    struct donjon_limits limits = {.memory_bytes = l->memory,
                                   .table_elems = l->tables,
                                   .stack_bytes = l->stack,
                                   .call_depth = l->call_depth < UINT32_MAX ? (uint32_t)l->call_depth : UINT32_MAX,
                                   .heap_bytes = l->heap,
                                   .fuel = l->fuel,
                                   .fuel_enabled = l->fuel != CONFIG_UNLIMITED,
                                   .interpret = w->boot.config.interpret,
                                   .explicit_checks = w->boot.config.explicit_checks,
                                   .helpers = helpers_count()};
    wasm_engine_t *engine = donjon_engine_new(helpers_platform(seal_open()));
    wasm_store_t *store = engine ? donjon_store_new(engine, &limits) : NULL;
    if (!store) report_failure(w, GATE_EXIT_BROKEN, "out of memory for the engine");
    if (!w->tenant) return store;
    donjon_store_set_attend(store, tenant_attend, w);
    if (!timer_look()) report_failure(w, GATE_EXIT_BROKEN, "no timer");
    return store;
}

static wasm_module_t *load(struct warden *w, wasm_store_t *store) {
    struct donjon_module_error e;
    wasm_module_t *module = donjon_module_new(store, w->boot.module, w->boot.module_size, &e);
    if (!module) {
        char in[32] = "";
        if (e.func != UINT32_MAX) snprintf(in, sizeof in, " in function %u", e.func);
        report_failure(w, GATE_EXIT_REFUSED, "%s module at byte %zu (0x%zx)%s: %s",
                       e.malformed ? "malformed" : "invalid", e.offset, e.offset, in, e.message);
    }
    free(w->boot.module);
    w->boot.module = NULL;
    return module;
}

/* Tells the loader where compiled code is. */
static void tell_code(void *ctx, const struct donjon_code *c) {
    struct warden *w = ctx;
    size_t n = c->name_size < GATE_MAX_NAME ? c->name_size : GATE_MAX_NAME;
    struct gate_request q = {.op = GATE_CODE, .args = {(uint64_t)(uintptr_t)c->address, c->size}};
    struct gate_reply reply;
    char *name = (char *)w->gate.block->data;
    if (n)
        memcpy(name, c->name, n);
    else
        n = (size_t)snprintf(name, GATE_MAX_NAME, "func[%u]", c->func);
    q.len = (uint32_t)n;
    (void)gate_call(&w->gate, &q, &reply);
}

/* Code that came with the module; what does not fit is no reason to fail, only to compile. */
static void use_code(struct warden *w, wasm_store_t *store, const wasm_module_t *module) {
    char line[128];
    if (w->boot.flags & BOOT_PROFILE) donjon_store_on_code(store, tell_code, w);
    if (!w->boot.code) return;
    const char *why = donjon_store_use_image(store, module, w->boot.digest, w->boot.code, w->boot.code_size);
    snprintf(line, sizeof line, "compiled code of %zu bytes %s%s", w->boot.code_size, why ? "not used: " : "used",
             why ? why : "");
    report_log(w, line);
}

/* The instance has its own copy. */
static void free_code(struct warden *w, wasm_store_t *store, const wasm_module_t *module) {
    if (!w->boot.code) return;
    donjon_store_use_image(store, module, w->boot.digest, NULL, 0);
    free(w->boot.code);
    w->boot.code = NULL;
}

/* A trap that comes out of the engine; does not come back. */
static _Noreturn void trapped(struct warden *w, struct wasi *wasi, const wasm_trap_t *trap) {
    uint32_t code;
    network_finish(w);
    if (wasi_exited(wasi, &code)) report_exit(w, GATE_EXIT_PROGRAM, code, NULL);
    if (w->stop) {
        char limit[CONFIG_QUANTITY_MAX];
        report_format(&report, "wall time limit of %s exceeded",
                      config_format_quantity(limit, CONFIG_NANOSECONDS, w->boot.config.limits.time));
        donjon_trap_print(trap, report_line, &report);
        report_exit(w, GATE_EXIT_TIMEOUT, 0, &report);
    }
    donjon_trap_print(trap, report_line, &report);
    report_exit(w, GATE_EXIT_TRAP, 0, &report);
}

static wasm_instance_t *link_module(struct warden *w, wasm_store_t *store, const wasm_module_t *module,
                                    struct wasi *wasi) {
    char error[512];
    donjon_linker_t *linker = donjon_linker_new(store);
    if (!linker) report_failure(w, GATE_EXIT_BROKEN, "out of memory for linking");
    if (w->boot.config.unknown_imports_trap) donjon_linker_set_unknown_imports_trap(linker, true);
    if (w->boot.config.unknown_imports_default) donjon_linker_set_unknown_imports_default(linker, true);
    if (!wasi_link(wasi, linker, module, error, sizeof error)) report_failure(w, GATE_EXIT_REFUSED, "%s", error);
    if (!import_link(w, linker)) report_failure(w, GATE_EXIT_BROKEN, "out of memory for linking");
    wasm_trap_t *trap = NULL;
    wasm_instance_t *instance = donjon_linker_instantiate(linker, module, &trap);
    if (instance) return instance;
    if (!trap) report_failure(w, GATE_EXIT_BROKEN, "out of memory for the instance");
    /* Nothing of it has run when it does not fit together, or its memories and tables are more than it may have. */
    bool refused = donjon_trap_kind(trap) == DONJON_TRAP_LINK ||
                   (donjon_trap_kind(trap) == DONJON_TRAP_OUT_OF_MEMORY && donjon_trap_frames(trap, NULL) == 0);
    if (!refused) trapped(w, wasi, trap);
    wasm_message_t message;
    wasm_trap_message(trap, &message); /* a line for each import that is missing; ends with a NUL */
    char *rest = message.data;
    for (char *line; (line = strsep(&rest, "\n"));)
        if (*line) report_line(&report, line);
    report_exit(w, GATE_EXIT_REFUSED, 0, &report);
}

static wasm_func_t *find_start(struct warden *w, const wasm_instance_t *instance) {
    wasm_extern_t *e = donjon_instance_export(instance, "_start");
    wasm_func_t *f = e ? wasm_extern_as_func(e) : NULL;
    if (f && wasm_func_param_arity(f) == 0 && wasm_func_result_arity(f) == 0) return f;
    if (f) report_failure(w, GATE_EXIT_REFUSED, "the module's _start takes or gives values: expected () -> ()");
    if (donjon_instance_export(instance, "_initialize"))
        report_failure(w, GATE_EXIT_REFUSED,
                       "the module is a library (it exports _initialize): expected a program with _start");
    report_failure(w, GATE_EXIT_REFUSED, "the module exports no function _start");
}

void run(struct warden *w) {
    struct wasi *wasi = make_world(w);
    wasm_store_t *store = make_store(w);
    wasm_module_t *module = load(w, store);
    timer_interrupts(store);
    use_code(w, store, module);
    wasm_instance_t *instance = link_module(w, store, module, wasi);
    free_code(w, store, module);
    wasm_func_t *start = find_start(w, instance);

    struct gate_request ready = {.op = GATE_READY};
    struct gate_reply reply;
    (void)gate_call(&w->gate, &ready, &reply);
    if (w->tenant) tenant_running(w);
    donjon_slot_t none[1];
    wasm_trap_t *trap = donjon_func_call(start, none);
    if (trap) trapped(w, wasi, trap);
    network_finish(w);
    report_exit(w, GATE_EXIT_PROGRAM, 0, NULL);
}
