/* donjon compile --dump. Instructions are shown by objdump where it is installed, as bytes where it is not. */
#define _GNU_SOURCE
#include "compile.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum stage { STAGE_IR = 1, STAGE_RA = 2, STAGE_ASM = 4 };
static const char *const stage_names[] = {"ir", "ra", "asm"};

/* The assembly of one function: the text as it came, and the code that it shows. */
struct listing {
    char **lines;
    size_t n_lines, cap_lines;
    uint8_t *code;
    size_t size, cap;
    bool constants; /* what follows is data */
    size_t code_end;
};

struct dump {
    unsigned stages;
    const char *stage; /* whose heading stands above */
    bool objdump;
    struct listing l;
};

static void *grown(void *old, size_t n, size_t *cap, size_t item) {
    if (n < *cap) return old;
    *cap = *cap ? 2 * *cap : 256;
    void *p = realloc(old, *cap * item);
    if (!p) abort();
    return p;
}

/* "    1a2b: 48 8b 07" */
static bool code_line(struct listing *l, const char *text) {
    char *end;
    if (strncmp(text, "    ", 4) != 0) return false;
    (void)strtoul(text, &end, 16);
    if (*end != ':') return false;
    for (const char *p = end + 1; *p; p = end) {
        unsigned long byte = strtoul(p, &end, 16);
        if (end == p) break;
        l->code = grown(l->code, l->size, &l->cap, 1);
        l->code[l->size++] = (uint8_t)byte;
    }
    return true;
}

static void keep_line(struct listing *l, const char *text) {
    if (!strcmp(text, "  constants:")) l->constants = true;
    code_line(l, text);
    if (!l->constants) l->code_end = l->size;
    l->lines = grown(l->lines, l->n_lines, &l->cap_lines, sizeof *l->lines);
    l->lines[l->n_lines] = strdup(text);
    if (!l->lines[l->n_lines++]) abort();
}

static void line(void *ctx, const char *stage, const char *text) {
    struct dump *d = ctx;
    unsigned which = 0;
    while (which < 3 && strcmp(stage_names[which], stage) != 0)
        which++;
    if (which == 3 || !(d->stages & 1u << which)) return;
    if (d->stage != stage_names[which]) printf("%s:\n", stage_names[which]);
    d->stage = stage_names[which];
    if (1u << which == STAGE_ASM && d->objdump)
        keep_line(&d->l, text);
    else
        puts(text);
}

/* objdump's instructions from `*at` on, up to the byte `end`. Gives the offset of the next one. */
static size_t print_until(FILE *f, size_t at, size_t end, char **pending, size_t *room) {
    while (at < end) {
        char *tab = strchr(*pending, '\t');
        printf("    %4zx: %s", at, tab ? tab + 1 : "\n");
        do {
            if (getline(pending, room, f) < 0) return SIZE_MAX;
        } while (!strchr(*pending, '\t'));
        at = strtoul(*pending, NULL, 16);
    }
    return at;
}

static bool objdump_listing(struct listing *l) {
    char path[] = "/tmp/donjon-code-XXXXXX", command[256];
    int fd = mkstemp(path);
    if (fd < 0) return false;
    bool ok = write(fd, l->code, l->code_end) == (ssize_t)l->code_end;
    close(fd);
    snprintf(command, sizeof command,
             "objdump -D -b binary -m i386:x86-64 -M intel --no-show-raw-insn -w %s 2>/dev/null", path);
    FILE *f = ok ? popen(command, "r") : NULL;
    char *pending = NULL;
    size_t room = 0, at = 0, seen = 0;
    struct listing count = {0};
    while (f && getline(&pending, &room, f) >= 0 && !strstr(pending, "   0:\t")) {
    }
    ok = f && pending && strstr(pending, "   0:\t");
    for (size_t k = 0; ok && k < l->n_lines; k++) {
        bool code = code_line(&count, l->lines[k]);
        seen = count.size;
        if (!code || seen > l->code_end)
            puts(l->lines[k]);
        else if (at != SIZE_MAX)
            at = print_until(f, at, seen, &pending, &room);
    }
    if (f) pclose(f);
    unlink(path);
    free(pending);
    free(count.code);
    return ok;
}

static void finish_listing(struct listing *l) {
    bool shown = l->n_lines && objdump_listing(l);
    for (size_t k = 0; k < l->n_lines; k++) {
        if (!shown) puts(l->lines[k]);
        free(l->lines[k]);
    }
    free(l->lines);
    free(l->code);
    *l = (struct listing){0};
}

static bool parse_stages(const char *s, unsigned *stages) {
    for (*stages = 0; *s;) {
        size_t n = strcspn(s, ",");
        unsigned which = 0;
        while (which < 3 && (strlen(stage_names[which]) != n || memcmp(stage_names[which], s, n) != 0))
            which++;
        if (which == 3) return false;
        *stages |= 1u << which;
        s += n + (s[n] == ',');
    }
    return *stages;
}

static bool parse_func(const wasm_module_t *module, const char *s, uint32_t *func) {
    char *end;
    unsigned long n = strtoul(s, &end, 10);
    if (*s < '0' || *s > '9' || *end || n > UINT32_MAX) return donjon_module_find_func(module, s, func);
    *func = (uint32_t)n;
    return true;
}

int compile_dump(const struct cli_verb *verb, const wasm_module_t *module, const char *stages, const char *func,
                 const struct donjon_compile_options *options) {
    struct dump d = {.objdump = !system("command -v objdump >/dev/null 2>&1")};
    struct donjon_module_counts c = donjon_module_counts(module);
    uint32_t first = c.imported_funcs, end = c.funcs;
    char name[128];
    if (!parse_stages(stages, &d.stages))
        return cli_error(verb, "--dump %s: expected ir, ra or asm, or several with commas between them", stages);
    if (func) {
        if (!parse_func(module, func, &first)) return cli_error(verb, "--func %s: no function of that name", func);
        if (first < c.imported_funcs || first >= c.funcs)
            return cli_error(verb, "--func %s: expected %u to %u; the functions below are imported", func,
                             c.imported_funcs, c.funcs - 1);
        end = first + 1;
    }
    for (uint32_t k = first; k < end; k++) {
        donjon_module_func_name(module, k, name, sizeof name);
        printf("%sfunction %u, %s\n", k > first ? "\n" : "", k, name);
        d.stage = NULL;
        bool ok = donjon_module_dump(module, k, options, line, &d);
        finish_listing(&d.l);
        if (!ok) return cli_error(verb, "function %u cannot be compiled: out of memory, or beyond the compiler", k);
    }
    return CLI_YES;
}
