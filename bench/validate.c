/* usage: bench-validate FILE.wasm...
 * Decodes and validates each file over and over for half a second; prints the best MiB/s and what the loaded module
 * takes. */
#include "donjon/platform.h"
#include "store.h"

#include <stdio.h>
#include <stdlib.h>
#include <malloc.h>
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

static int measure(struct engine *e, const char *path) {
    size_t size;
    unsigned char *data = read_file(path, &size);
    if (!data) return fprintf(stderr, "%s: cannot read\n", path), 1;
    double best = 1e9, total = 0;
    size_t kept = 0, before = used.now;
    used.peak = 0;
    while (total < 0.5) {
        struct module_error err;
        double start = cpu_seconds();
        struct module *m = module_new(e, data, size, &err);
        double took = cpu_seconds() - start;
        if (!m) return fprintf(stderr, "%s: %s\n", path, err.message), free(data), 1;
        kept = used.now - before;
        module_unref(m);
        if (took < best) best = took;
        total += took;
    }
    printf("%8.1f MiB/s  %7.2f ms  loaded %.2fx  peak %.2fx  %s\n", (double)size / best / (1 << 20), best * 1e3,
           (double)kept / (double)size, (double)(used.peak - before) / (double)size, path);
    free(data);
    return 0;
}

int main(int argc, char **argv) {
    struct donjon_platform counting = *donjon_platform_posix();
    counting.ctx = (void *)(size_t)donjon_platform_posix();
    counting.realloc = counting_realloc;
    struct engine *e = engine_new(&counting);
    int failed = 0;
    for (int i = 1; e && i < argc; i++)
        failed |= measure(e, argv[i]);
    engine_delete(e);
    return failed || !e;
}
