/* Whole modules: compiled on several threads, laid out, and checked when they come back. */
#include "image.h"
#include "target.h"

#include <stdatomic.h>
#include <string.h>

static const uint8_t magic[8] = {'D', 'o', 'n', 'j', 'I', 'm', 'g', '\n'};

/* --- compiling --------------------------------------------------------------------------------------------------- */

struct job {
    const struct module *m;
    const struct image_options *o;
    struct compiled *funcs; /* the module's own functions */
    uint32_t n;
    _Atomic uint32_t next, done;
};

static void trim(const struct donjon_platform *p, struct compiled *c) {
    uint8_t *smaller = c->size ? p->realloc(p->ctx, c->code, c->size) : NULL;
    if (smaller) c->code = smaller;
}

/* One thread's work: functions come from a counter, so that big ones hold nobody up. Compiling is a pure function of
 * the module, which does not change. A function that cannot be compiled stays empty: its first call will say why. */
static void work(void *arg, unsigned thread) {
    struct job *j = arg;
    (void)thread;
    for (uint32_t k; (k = atomic_fetch_add(&j->next, 1)) < j->n;) {
        struct compile_options opt = {.find_code = UINT32_MAX,
                                      .bounds_checks = j->o->bounds_checks,
                                      .no_faults = j->o->no_faults,
                                      .fuel = j->o->fuel};
        if (compile_function(j->m, j->m->n_func_imports + k, &opt, &j->funcs[k]))
            trim(j->m->engine->platform, &j->funcs[k]);
        if (j->o->progress) j->o->progress(j->o->ctx, atomic_fetch_add(&j->done, 1) + 1, j->n);
    }
}

static void compile_all(struct job *j) {
    const struct donjon_platform *p = j->m->engine->platform;
    unsigned threads = j->o->threads < j->n ? j->o->threads : j->n;
    if (threads > 1 && p->parallel)
        p->parallel(p->ctx, threads, work, j);
    else
        work(j, 0);
}

static uint64_t aligned(uint64_t at) {
    return (at + IMAGE_ALIGN - 1) & ~(uint64_t)(IMAGE_ALIGN - 1);
}

static struct image_header layout(const struct job *j, uint64_t *code_size) {
    struct image_header h = {.version = IMAGE_VERSION,
                             .flags = (j->o->fuel ? IMAGE_FUEL : 0) | (j->o->bounds_checks ? IMAGE_BOUNDS : 0) |
                                      (j->o->no_faults ? IMAGE_NO_FAULTS : 0),
                             .cpu = target_features,
                             .module_size = j->m->size,
                             .first_func = j->m->n_func_imports,
                             .n_funcs = j->n};
    memcpy(h.magic, magic, sizeof magic);
    memcpy(h.engine, engine_build_id, IMAGE_ID);
    memcpy(h.digest, j->o->digest, IMAGE_ID);
    *code_size = 0;
    for (uint32_t k = 0; k < j->n; k++) {
        const struct compiled *c = &j->funcs[k];
        *code_size = aligned(*code_size) + c->size;
        h.n_landings += c->n_landings;
        h.n_relocations += c->n_relocations;
    }
    h.code_size = (uint32_t)*code_size;
    return h;
}

static uint8_t *put(uint8_t *to, const void *from, size_t size) {
    if (size) memcpy(to, from, size);
    return to + size;
}

/* Copies everything to its place, freeing what was copied. */
static void fill(struct job *j, const struct image_header *h, uint8_t *bytes) {
    uint8_t *funcs = put(bytes, h, sizeof *h), *landings = funcs + (size_t)h->n_funcs * sizeof(struct image_func),
            *relocations = landings + (size_t)h->n_landings * sizeof(struct landing),
            *code = relocations + (size_t)h->n_relocations * sizeof(struct relocation);
    uint32_t at = 0;
    for (uint32_t k = 0; k < j->n; k++) {
        struct compiled *c = &j->funcs[k];
        uint32_t start = (uint32_t)aligned(at);
        memset(code + at, 0xCC, start - at); /* int3 */
        struct image_func f = {start, c->size, c->frame, c->n_landings, c->n_relocations};
        if (!c->size) f = (struct image_func){.offset = start};
        funcs = put(funcs, &f, sizeof f);
        landings = put(landings, c->landings, c->n_landings * sizeof *c->landings);
        relocations = put(relocations, c->relocations, c->n_relocations * sizeof *c->relocations);
        put(code + start, c->code, c->size);
        at = start + c->size;
        compiled_free(j->m->engine->platform, c);
    }
}

void *image_compile(const struct module *m, const struct image_options *o, size_t *size) {
    const struct donjon_platform *p = m->engine->platform;
    struct job j = {.m = m, .o = o, .n = m->n_funcs - m->n_func_imports};
    j.funcs = p->realloc(p->ctx, NULL, (j.n + 1) * sizeof *j.funcs);
    if (!j.funcs) return NULL;
    memset(j.funcs, 0, j.n * sizeof *j.funcs);
    compile_all(&j);
    uint64_t code_size;
    struct image_header h = layout(&j, &code_size);
    *size = sizeof h + h.n_funcs * sizeof(struct image_func) + h.n_landings * sizeof(struct landing) +
            h.n_relocations * sizeof(struct relocation) + (size_t)code_size;
    uint8_t *bytes = code_size == h.code_size ? p->realloc(p->ctx, NULL, *size) : NULL;
    if (bytes) fill(&j, &h, bytes);
    for (uint32_t k = 0; k < j.n; k++)
        compiled_free(p, &j.funcs[k]);
    p->realloc(p->ctx, j.funcs, 0);
    return bytes;
}

/* --- checking ---------------------------------------------------------------------------------------------------- */

struct image_func image_func(const struct image *i, uint32_t n) {
    struct image_func f;
    memcpy(&f, i->funcs + n * sizeof f, sizeof f);
    return f;
}

struct landing image_landing(const struct image *i, uint32_t n) {
    struct landing l;
    memcpy(&l, i->landings + n * sizeof l, sizeof l);
    return l;
}

struct relocation image_relocation(const struct image *i, uint32_t n) {
    struct relocation r;
    memcpy(&r, i->relocations + n * sizeof r, sizeof r);
    return r;
}

static const char *header_wrong(const struct image_header *h, const struct module *m, const uint8_t *digest) {
    if (memcmp(h->magic, magic, sizeof magic) != 0) return "not compiled code of this kind";
    if (h->version != IMAGE_VERSION) return "compiled code in another version's format";
    if (memcmp(h->engine, engine_build_id, IMAGE_ID) != 0) return "compiled by another build of the engine";
    if (h->flags & ~(uint32_t)IMAGE_FLAGS_ALL || h->zero) return "malformed: unknown flags";
    if (h->cpu != target_features) return "compiled for another kind of CPU";
    if (!target_supported()) return "compiled for a CPU with features that this one lacks";
    if (h->module_size != m->size || memcmp(h->digest, digest, IMAGE_ID) != 0) return "compiled from another module";
    if (h->first_func != m->n_func_imports || h->n_funcs != m->n_funcs - m->n_func_imports)
        return "malformed: not as many functions as the module";
    return NULL;
}

/* The landings of one function: sorted by return address, all within it. */
static const char *landings_wrong(const struct image *i, const struct module *m, const struct image_func *f,
                                  uint32_t first) {
    uint32_t last = 0;
    for (uint32_t k = 0; k < f->n_landings; k++) {
        struct landing l = image_landing(i, first + k);
        if (l.return_at < last || l.return_at > f->size || l.code >= f->size) return "malformed: landing out of bounds";
        if (l.tag != NONE32 && l.tag >= m->n_tags) return "malformed: landing without a tag";
        last = l.return_at;
    }
    return NULL;
}

static const char *relocations_wrong(const struct image *i, const struct module *m, const struct image_func *f,
                                     uint32_t first) {
    uint64_t end = 0;
    for (uint32_t k = 0; k < f->n_relocations; k++) {
        struct relocation r = image_relocation(i, first + k);
        if (r.at < end || r.at + (uint64_t)4 > f->size) return "malformed: relocation out of bounds";
        if (r.type >= m->n_types) return "malformed: relocation without a type";
        end = r.at + (uint64_t)4;
    }
    return NULL;
}

static const char *functions_wrong(const struct image *i, const struct module *m) {
    uint64_t end = 0, landings = 0, relocations = 0;
    for (uint32_t k = 0; k < i->head.n_funcs; k++) {
        struct image_func f = image_func(i, k);
        if (f.offset < end || f.offset % IMAGE_ALIGN || f.offset + (uint64_t)f.size > i->head.code_size)
            return "malformed: function out of bounds";
        if (f.frame % 8 || f.frame > INT32_MAX) return "malformed: frame of no possible size";
        if (f.n_landings > i->head.n_landings - landings || f.n_relocations > i->head.n_relocations - relocations)
            return "malformed: more landings or relocations than there are";
        const char *wrong = landings_wrong(i, m, &f, (uint32_t)landings);
        if (!wrong) wrong = relocations_wrong(i, m, &f, (uint32_t)relocations);
        if (wrong) return wrong;
        end = f.offset + (uint64_t)f.size;
        landings += f.n_landings;
        relocations += f.n_relocations;
    }
    if (landings != i->head.n_landings || relocations != i->head.n_relocations)
        return "malformed: landings or relocations of no function";
    return NULL;
}

const char *image_check(const struct module *m, const uint8_t *digest, const void *bytes, size_t size,
                        struct image *out) {
    memset(out, 0, sizeof *out);
    if (size < sizeof out->head) return "cut short";
    memcpy(&out->head, bytes, sizeof out->head);
    const struct image_header *h = &out->head;
    const char *wrong = header_wrong(h, m, digest);
    if (wrong) return wrong;
    uint64_t funcs = sizeof *h, landings = funcs + (uint64_t)h->n_funcs * sizeof(struct image_func),
             relocations = landings + (uint64_t)h->n_landings * sizeof(struct landing),
             code = relocations + (uint64_t)h->n_relocations * sizeof(struct relocation), end = code + h->code_size;
    if (end != size) return "malformed: its parts do not add up to its size";
    const uint8_t *b = bytes;
    out->funcs = b + funcs;
    out->landings = b + landings;
    out->relocations = b + relocations;
    out->code = b + code;
    return functions_wrong(out, m);
}
