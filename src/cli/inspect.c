/* donjon inspect: what is in a file. Decodes and says; judges nothing beyond "is it valid". */
#include "attest/verbs.h"
#include "cli.h"
#include <donjon/wasm.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_JSON = 1, MODULE_MAX = 1 << 30, TYPE_MAX = 512 };

struct inspected {
    const char *path;
    size_t size;
    wasm_importtype_vec_t imports;
    wasm_exporttype_vec_t exports;
    bool names, dwarf;
};

static const char *kind_name(wasm_externkind_t kind) {
    switch (kind) {
    case WASM_EXTERN_FUNC: return "function";
    case WASM_EXTERN_GLOBAL: return "global";
    case WASM_EXTERN_TABLE: return "table";
    case WASM_EXTERN_MEMORY: return "memory";
    default: return "tag";
    }
}

static char *limits_print(char *out, size_t size, struct donjon_limits64 l) {
    if (l.max == UINT64_MAX)
        snprintf(out, size, "%s%llu or more", l.is64 ? "64-bit, " : "", (unsigned long long)l.min);
    else
        snprintf(out, size, "%s%llu to %llu", l.is64 ? "64-bit, " : "", (unsigned long long)l.min,
                 (unsigned long long)l.max);
    return out;
}

/* An import's or export's type as text. */
static const char *type_print(const wasm_externtype_t *t, char out[TYPE_MAX]) {
    char part[256];
    out[0] = 0;
    switch (wasm_externtype_kind(t)) {
    case WASM_EXTERN_FUNC: donjon_functype_print(wasm_externtype_as_functype_const(t), out, TYPE_MAX); break;
    case WASM_EXTERN_GLOBAL: {
        const wasm_globaltype_t *g = wasm_externtype_as_globaltype_const(t);
        donjon_valtype_print(wasm_globaltype_content(g), part, sizeof part);
        snprintf(out, TYPE_MAX, "%s%s", wasm_globaltype_mutability(g) == WASM_VAR ? "mutable " : "", part);
        break;
    }
    case WASM_EXTERN_TABLE: {
        const wasm_tabletype_t *b = wasm_externtype_as_tabletype_const(t);
        char elem[128];
        donjon_valtype_print(wasm_tabletype_element(b), elem, sizeof elem);
        snprintf(out, TYPE_MAX, "%s elements of %s", limits_print(part, sizeof part, donjon_tabletype_limits(b)), elem);
        break;
    }
    case WASM_EXTERN_MEMORY:
        snprintf(out, TYPE_MAX, "%s pages",
                 limits_print(part, sizeof part, donjon_memorytype_limits(wasm_externtype_as_memorytype_const(t))));
        break;
    default:
        if (donjon_externtype_tag(t)) donjon_functype_print(donjon_externtype_tag(t), out, TYPE_MAX);
    }
    return out;
}

static const char *name_print(const wasm_name_t *n, char out[256]) {
    char raw[256];
    size_t len = n->size < sizeof raw - 1 ? n->size : sizeof raw - 1;
    memcpy(raw, n->data, len);
    raw[len] = 0;
    return cli_printable(raw, out, 256, false);
}

static bool name_is(const wasm_name_t *n, const char *s) {
    return n->size == strlen(s) && !memcmp(n->data, s, n->size);
}

static json_t *json_name(const wasm_name_t *n) {
    json_t *j = json_stringn(n->data, n->size);
    return j ? j : json_null();
}

static json_t *json_extern(const wasm_externtype_t *t, json_t *item) {
    char text[TYPE_MAX];
    json_object_set_new(item, "kind", json_string(kind_name(wasm_externtype_kind(t))));
    json_object_set_new(item, "type", json_string(type_print(t, text)));
    return item;
}

static void show_json(const struct inspected *m) {
    json_t *root = json_object(), *imports = json_array(), *exports = json_array();
    for (size_t i = 0; i < m->imports.size; i++) {
        json_t *item = json_object();
        json_object_set_new(item, "module", json_name(wasm_importtype_module(m->imports.data[i])));
        json_object_set_new(item, "name", json_name(wasm_importtype_name(m->imports.data[i])));
        json_array_append_new(imports, json_extern(wasm_importtype_type(m->imports.data[i]), item));
    }
    for (size_t i = 0; i < m->exports.size; i++) {
        json_t *item = json_object();
        json_object_set_new(item, "name", json_name(wasm_exporttype_name(m->exports.data[i])));
        json_array_append_new(exports, json_extern(wasm_exporttype_type(m->exports.data[i]), item));
    }
    json_t *file = json_string(m->path);
    json_object_set_new(root, "file", file ? file : json_null());
    json_object_set_new(root, "type", json_string("wasm-module"));
    json_object_set_new(root, "bytes", json_integer((json_int_t)m->size));
    json_object_set_new(root, "function_names", json_boolean(m->names));
    json_object_set_new(root, "dwarf", json_boolean(m->dwarf));
    json_object_set_new(root, "imports", imports);
    json_object_set_new(root, "exports", exports);
    json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
}

/* What the exports and imports say about how to run it. */
static const char *purpose(const struct inspected *m) {
    bool start = false, wasi = false, wasi0 = false;
    for (size_t i = 0; i < m->exports.size; i++)
        start |= name_is(wasm_exporttype_name(m->exports.data[i]), "_start") &&
                 wasm_externtype_kind(wasm_exporttype_type(m->exports.data[i])) == WASM_EXTERN_FUNC;
    for (size_t i = 0; i < m->imports.size; i++) {
        wasi |= name_is(wasm_importtype_module(m->imports.data[i]), "wasi_snapshot_preview1");
        wasi0 |= name_is(wasm_importtype_module(m->imports.data[i]), "wasi_unstable");
    }
    if (!start) return "a library: it has no _start to run";
    if (wasi0) return "a program for WASI preview 0";
    return wasi ? "a program for WASI preview 1" : "a program that uses no WASI";
}

static void show_text(const struct inspected *m) {
    char text[TYPE_MAX], a[256], b[256];
    printf("%s: a valid WebAssembly module of %zu bytes, %s\n", m->path, m->size, purpose(m));
    printf("function names: %s; source lines (DWARF): %s\n", m->names ? "yes" : "no", m->dwarf ? "yes" : "no");
    printf("\nimports: %zu\n", m->imports.size);
    for (size_t i = 0; i < m->imports.size; i++) {
        const wasm_importtype_t *t = m->imports.data[i];
        printf("  %-8s %s.%s  %s\n", kind_name(wasm_externtype_kind(wasm_importtype_type(t))),
               name_print(wasm_importtype_module(t), a), name_print(wasm_importtype_name(t), b),
               type_print(wasm_importtype_type(t), text));
    }
    printf("\nexports: %zu\n", m->exports.size);
    for (size_t i = 0; i < m->exports.size; i++) {
        const wasm_exporttype_t *t = m->exports.data[i];
        printf("  %-8s %s  %s\n", kind_name(wasm_externtype_kind(wasm_exporttype_type(t))),
               name_print(wasm_exporttype_name(t), a), type_print(wasm_exporttype_type(t), text));
    }
}

static bool has_section(const wasm_module_t *module, const char *name) {
    const uint8_t *data;
    size_t size;
    return donjon_module_custom_section(module, name, &data, &size);
}

static int inspect_module(struct cli_args *a, const char *path, const char *bytes, size_t size, bool json) {
    wasm_engine_t *engine = wasm_engine_new();
    wasm_store_t *store = engine ? wasm_store_new(engine) : NULL;
    struct donjon_module_error err = {.message = "out of memory"};
    wasm_module_t *module = store ? donjon_module_new(store, bytes, size, &err) : NULL;
    int code = CLI_NO;
    if (!module) {
        char where[64] = "";
        if (err.func != UINT32_MAX && !err.malformed) snprintf(where, sizeof where, ", function %u", err.func);
        cli_error(a->verb, "%s: %s module, byte %zu%s: %s", path, err.malformed ? "malformed" : "invalid", err.offset,
                  where, err.message);
    } else {
        struct inspected m = {.path = path, .size = size};
        wasm_module_imports(module, &m.imports);
        wasm_module_exports(module, &m.exports);
        m.names = has_section(module, "name");
        m.dwarf = has_section(module, ".debug_line");
        if (json)
            show_json(&m);
        else
            show_text(&m);
        wasm_importtype_vec_delete(&m.imports);
        wasm_exporttype_vec_delete(&m.exports);
        wasm_module_delete(module);
        code = CLI_YES;
    }
    if (store) wasm_store_delete(store);
    if (engine) wasm_engine_delete(engine);
    return code;
}

/* Not a module: attestation evidence, perhaps. donjon-attest knows, and says `why` when it is not that either. */
static int inspect_other(struct cli_args *a, const char *path, const char *why) {
    if (strcmp(path, "-")) return attest_exec(a);
    cli_error(a->verb, "%s %s", path, why); /* standard input cannot be read twice */
    return CLI_NO;
}

static int inspect(struct cli_args *a, bool *json) {
    const char *path = NULL, *value;
    for (int id; (id = cli_next(a, &value)) != CLI_END;) {
        if (id == CLI_STOP) return a->exit_code;
        if (id == OPT_JSON)
            *json = true;
        else if (path)
            return cli_usage_error(a, "expected one file, found \"%s\" too", value);
        else
            path = value;
    }
    if (!path) return cli_usage_error(a, "which file? Expected the path of a WebAssembly module");
    char *bytes;
    size_t size;
    if (!cli_read_file(path, MODULE_MAX, &bytes, &size)) {
        cli_error(a->verb, "cannot read %s: %s", path, strerror(errno));
        return CLI_FAILED;
    }
    const char *why = cli_not_a_module(bytes, size);
    int code = CLI_NO;
    if (why)
        code = inspect_other(a, path, why);
    else
        code = inspect_module(a, path, bytes, size, *json);
    free(bytes);
    return code;
}

static int main_inspect(struct cli_args *a) {
    bool json = false;
    int code = inspect(a, &json);
    return json && code ? cli_json_failed(code) : code;
}

static const struct cli_option options[] = {
    {OPT_JSON, 0, "json", NULL, "Write it as JSON to standard output."},
    {0},
};
static const struct cli_example examples[] = {
    {"donjon inspect app.wasm", "What does it import?"},
    {"donjon inspect --json app.wasm", "For a machine"},
    {"donjon inspect report.bin", "What does this attestation evidence say?"},
    {0},
};

const struct cli_verb verb_inspect = {
    .name = "inspect",
    .operands = "FILE",
    .summary = "Show what a WebAssembly module imports, exports and is",
    .text =
        "Decodes and validates FILE completely, without running any of it, and shows its imports and exports with "
        "their types. Of attestation evidence it shows every field, judging nothing; `donjon verify` judges.\n\n"
        "Exit code 0: a valid module. 1: not one; the message says at which byte, and in which function. 125: the file "
        "cannot be read. With --json it is then {error, exit_code}.",
    .options = options,
    .examples = examples,
    .main = main_inspect,
};
