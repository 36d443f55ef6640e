/* usage: bench-compile [--only FUNCTION] FILE.wasm...
 * Compiles every function of each module (or one, to be looked at with a profiler), one after the other on one thread,
 * over and over for a second, and prints one line each: file, bytes of module and of code section, best CPU seconds,
 * bytes of machine code, peak memory of the compiler beyond the module, and the slowest function: its index, size and
 * MiB/s. */
#include "donjon/platform.h"
#include "native/compile.h"
#include "store.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct { size_t now, peak; } used;

static void *counting_realloc(void *ctx, void *block, size_t size) {
    const struct donjon_platform *p = ctx;
    if (block) used.now -= malloc_usable_size(block);
    void *fresh = p->realloc(p->ctx, block, size);
    if (fresh) used.now += malloc_usable_size(fresh);
    if (used.now > used.peak) used.peak = used.now;
    return fresh;
}

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static unsigned char *read_file(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0) return NULL;
    long n = ftell(f);
    rewind(f);
    unsigned char *data = n > 0 ? malloc((size_t)n) : NULL;
    if (data && fread(data, 1, (size_t)n, f) != (size_t)n) {
        free(data);
        data = NULL;
    }
    fclose(f);
    *size = (size_t)n;
    return data;
}

struct totals {
    double seconds, slowest; /* slowest: seconds a byte */
    size_t code, slowest_size;
    uint32_t slowest_func, refused;
};

static uint32_t only = UINT32_MAX;

static struct totals compile_all(const struct module *m) {
    struct totals t = {0};
    double begin = cpu_seconds();
    for (uint32_t f = m->n_func_imports; f < m->n_funcs; f++) {
        if (only != UINT32_MAX && f != only) continue;
        struct compile_options o = {.find_code = UINT32_MAX};
        struct compiled c;
        size_t size = m->bodies[f - m->n_func_imports].size;
        bool large = size >= 32768; /* what is small is timed as a whole */
        double from = large ? cpu_seconds() : 0;
        if (!compile_function(m, f, &o, &c)) {
            t.refused++;
            continue;
        }
        t.code += c.size;
        compiled_free(m->engine->platform, &c);
        if (!large) continue;
        double each = (cpu_seconds() - from) / (double)size;
        if (each > t.slowest) t.slowest = each, t.slowest_func = f, t.slowest_size = size;
    }
    t.seconds = cpu_seconds() - begin;
    return t;
}

static int measure(struct engine *e, const char *path) {
    size_t size;
    unsigned char *data = read_file(path, &size);
    if (!data) return fprintf(stderr, "%s: cannot read\n", path), 1;
    struct module_error err;
    struct module *m = module_new(e, data, size, &err);
    free(data);
    if (!m) return fprintf(stderr, "%s: %s\n", path, err.message), 1;
    size_t before = used.now;
    used.peak = before;
    struct totals best = {.seconds = 1e9};
    for (double total = 0; total < 1;) {
        struct totals t = compile_all(m);
        if (t.seconds < best.seconds) best = t;
        total += t.seconds;
    }
    printf("%s %zu %u %.4f %zu %zu", path, size, m->code_size, best.seconds, best.code, used.peak - before);
    if (best.slowest_size) printf(" %u %zu %.2f", best.slowest_func, best.slowest_size, 1 / best.slowest / 1048576);
    printf("\n");
    if (best.refused) fprintf(stderr, "%s: %u functions refused\n", path, best.refused);
    module_unref(m);
    return best.refused > 0;
}

int main(int argc, char **argv) {
    struct donjon_platform platform = *donjon_platform_posix();
    platform.ctx = (void *)(uintptr_t)donjon_platform_posix();
    platform.realloc = counting_realloc;
    struct engine *e = engine_new(&platform);
    int first = 1, bad = 0;
    if (argc > 2 && !strcmp(argv[1], "--only")) only = (uint32_t)strtoul(argv[2], NULL, 10), first = 3;
    if (argc <= first || !e) return fprintf(stderr, "usage: bench-compile [--only FUNCTION] FILE.wasm...\n"), 125;
    for (int i = first; i < argc; i++)
        bad |= measure(e, argv[i]);
    return bad;
}
