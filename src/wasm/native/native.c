/* The native tier's run-time: contexts, code memory, calls in and out, unwinding, faults. */
#include "native.h"
#include "../gc.h"
#include "../heap.h"
#include "../interp.h"
#include "../objects.h"
#include "ahead.h"
#include "compile.h"
#include "image.h"
#include "target.h"
#include "x86_64/stubs.h"

#include <string.h>

enum {
    PAGE = 4096,
    STACK_GUARD = 64 << 10, /* no access below the stack: frames are smaller, or checked */
    STACK_HOST = 256 << 10, /* what C code called from compiled code may use */
    CODE_CHUNK = 64 << 10,  /* made accessible at a time */
    BATCH = 128,            /* functions that are installed at once */
};
static const size_t CODE_MOST = (size_t)1 << 30;

struct piece { /* one compiled function */
    uint8_t *code;
    uint32_t size, frame;
    struct vmctx *vm;
    uint32_t func;
    uint32_t landings, n_landings; /* in native->landings */
};

struct native {
    struct store *store;
    uint8_t *stack; /* reservation: guard, then stack_size */
    size_t stack_size;
    uint8_t *sp; /* while C runs inside a call: where compiled code has got to */
    struct activation *top;
    uint8_t *code;
    size_t code_used, code_mapped, code_reserved;
    struct piece *pieces; /* in order of address */
    uint32_t n_pieces, cap_pieces;
    struct landing *landings; /* of all pieces */
    uint32_t n_landings, cap_landings;
    struct vmctx *_Atomic vms; /* list: other threads walk it (native_interrupt) */
    slot *overflow;
    bool faults;        /* reach us: no explicit checks */
    struct image image; /* for instances of image_module, NULL when there is none */
    const struct module *image_module;
    struct ahead *ahead; /* compiles functions of ahead_vm before they are called; NULL: nobody does */
    struct vmctx *ahead_vm;
    native_code_seen seen; /* told about every piece; NULL: nobody */
    void *seen_ctx;
};

/* --- set-up --------------------------------------------------------------------------------------------------------
 */

static const struct donjon_platform *platform_of(const struct native *n) {
    return n->store->engine->platform;
}

static bool fault(void *tier, struct donjon_fault *fault);

struct native *native_new(struct store *s) {
    const struct donjon_platform *p = s->engine->platform;
    if (!target_supported()) return NULL;
    struct native *n = p->realloc(p->ctx, NULL, sizeof *n);
    if (!n) return NULL;
    *n = (struct native){.store = s,
                         .stack_size = (s->limits.stack_bytes + STACK_HOST + PAGE - 1) & ~(size_t)(PAGE - 1)};
    n->stack = p->reserve(p->ctx, STACK_GUARD + n->stack_size);
    for (n->code_reserved = CODE_MOST; !n->code && n->code_reserved >= 16 << 20; n->code_reserved /= 2) {
        n->code = p->reserve(p->ctx, n->code_reserved);
        if (n->code) break;
    }
    n->overflow = p->realloc(p->ctx, NULL, OVERFLOW_SLOTS * sizeof(slot));
    n->faults = !s->limits.explicit_checks && n->code && p->on_fault &&
                p->on_fault(p->ctx, fault, n, n->code, n->code_reserved);
    bool ok = n->stack && n->code && n->overflow &&
              p->protect(p->ctx, n->stack + STACK_GUARD, n->stack_size, DONJON_PROT_READ | DONJON_PROT_WRITE);
    if (ok) return n;
    native_delete(n);
    return NULL;
}

void native_quiet(struct native *n) {
    if (!n) return;
    ahead_stop(n->ahead);
    n->ahead = NULL;
}

void native_delete(struct native *n) {
    if (!n) return;
    const struct donjon_platform *p = platform_of(n);
    native_quiet(n);
    if (n->faults) p->on_fault(p->ctx, NULL, n, NULL, 0);
    if (n->stack) p->release(p->ctx, n->stack, STACK_GUARD + n->stack_size);
    if (n->code) p->release(p->ctx, n->code, n->code_reserved);
    for (struct vmctx *vm = n->vms, *next; vm; vm = next) {
        next = vm->next;
        p->release(p->ctx, (uint8_t *)vm - VM_POLL_PAGE, VM_POLL_PAGE + vm->size);
    }
    p->realloc(p->ctx, n->pieces, 0);
    p->realloc(p->ctx, n->landings, 0);
    p->realloc(p->ctx, n->overflow, 0);
    p->realloc(p->ctx, n, 0);
}

/* Room for `extra` more. */
static bool grow(const struct native *n, void *array, uint32_t *cap, uint32_t used, uint32_t extra, size_t item) {
    void **a = array;
    if (extra <= *cap - used) return true;
    if (extra > UINT32_MAX / 4 - used) return false;
    uint32_t more = *cap * 2 > used + extra ? *cap * 2 : used + extra + 64;
    void *grown = platform_of(n)->realloc(platform_of(n)->ctx, *a, more * item);
    if (!grown) return false;
    *a = grown;
    *cap = more;
    return true;
}

static const void *helper_table[HELPER_COUNT];
static void install_image(struct native *n, struct vmctx *vm);
static void begin_ahead(struct native *n, struct vmctx *vm);

/* Whole pages: contexts are reservations of their own, behind their poll page. */
static size_t vm_size(const struct module *m) {
    return (sizeof(struct vmctx) + 8 * (size_t)vm_slots(m) + PAGE - 1) & ~(size_t)(PAGE - 1);
}

static bool poll_page(const struct native *n, struct vmctx *vm, enum donjon_prot prot) {
    const struct donjon_platform *p = platform_of(n);
    return p->protect(p->ctx, (uint8_t *)vm - VM_POLL_PAGE, VM_POLL_PAGE, prot);
}

bool native_instance(struct native *n, struct instance *i) {
    const struct donjon_platform *p = platform_of(n);
    const struct module *m = i->module;
    size_t size = vm_size(m);
    uint8_t *block = p->reserve(p->ctx, VM_POLL_PAGE + size);
    if (!block) return false;
    struct vmctx *vm = (struct vmctx *)(block + VM_POLL_PAGE);
    if (!p->protect(p->ctx, vm, size, DONJON_PROT_READ | DONJON_PROT_WRITE) || !poll_page(n, vm, DONJON_PROT_READ)) {
        p->release(p->ctx, block, VM_POLL_PAGE + size);
        return false;
    }
    vm->size = size;
    vm->instance = i;
    vm->store = n->store;
    vm->memory0 = i->memory0 ? i->memory0->base : NULL;
    vm->exit_stub = (void *)stub_exit;
    vm->attend_stub = (void *)stub_attend;
    vm->host_stub = (void *)stub_host;
    vm->cross_stub = (void *)stub_cross;
    vm->subtype_stub = (void *)stub_subtype;
    vm->overflow = n->overflow;
    vm->stack_limit = n->stack + STACK_GUARD + STACK_HOST;
    memcpy(vm->helpers, helper_table, sizeof vm->helpers);
    void **tail = vm->tail;
    for (uint32_t k = 0; k < m->n_funcs; k++)
        *tail++ = (void *)stub_lazy_site;
    for (uint32_t k = 0; k < m->n_funcs; k++)
        *tail++ = i->funcs[k];
    for (uint32_t k = 0; k < m->n_globals; k++)
        *tail++ = i->globals[k];
    for (uint32_t k = 0; k < m->n_memories; k++)
        *tail++ = i->memories[k];
    for (uint32_t k = 0; k < m->n_tables; k++)
        *tail++ = i->tables[k];
    for (uint32_t k = m->n_global_imports; k < m->n_globals; k++)
        if (vm_global_inline(m, k)) {
            struct global *cell = (struct global *)((uint8_t *)vm + vm_cell(m, k));
            *cell = *i->globals[k];
            vm->tail[(vm_global(m, k) - offsetof(struct vmctx, tail)) / 8] = i->globals[k] = cell;
        }
    for (uint32_t k = m->n_func_imports; k < m->n_funcs; k++) {
        i->funcs[k]->vm = vm;
        i->funcs[k]->native = (void *)stub_lazy_func;
    }
    vm->next = n->vms;
    n->vms = vm;
    if (n->image_module == m)
        install_image(n, vm);
    else
        begin_ahead(n, vm);
    if (atomic_load(&n->store->interrupt)) native_interrupt(n); /* one that came before: it counts here, too */
    return true;
}

void native_host_func(struct func *f) {
    f->native = (void *)stub_host;
}

/* Loops read their context's poll page. Calls look at nothing: instead the code pointers they go through lead to stubs
 * until the interrupt has been seen. May run in a signal handler, beside the code that it stops. */
static void redirect(struct vmctx *vm, uint32_t func) {
    __atomic_store_n(&vm->tail[func], (void *)stub_attend_site, __ATOMIC_RELAXED);
    __atomic_store_n(&vm->instance->funcs[func]->native, (void *)stub_attend_func, __ATOMIC_RELAXED);
}

void native_interrupt(struct native *n) {
    for (struct vmctx *vm = n->vms; vm; vm = vm->next) {
        const struct module *m = vm->instance->module;
        __atomic_store_n(&vm->interrupt, 1, __ATOMIC_SEQ_CST);
        poll_page(n, vm, DONJON_PROT_NONE);
        for (uint32_t f = m->n_func_imports; f < m->n_funcs; f++)
            redirect(vm, f);
    }
}

/* Either we see the interrupt, or the interrupt's stub comes after what we store: hence the order. */
static void set_code(struct vmctx *vm, uint32_t func, void *site, void *native) {
    __atomic_store_n(&vm->tail[func], site, __ATOMIC_SEQ_CST);
    __atomic_store_n(&vm->instance->funcs[func]->native, native, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&vm->interrupt, __ATOMIC_SEQ_CST)) redirect(vm, func);
}

/* An interrupt that comes while we are at it is made to count again at the end. */
void native_clear_interrupt(struct native *n) {
    atomic_store(&n->store->interrupt, 0);
    for (struct vmctx *vm = n->vms; vm; vm = vm->next) {
        const struct module *m = vm->instance->module;
        __atomic_store_n(&vm->interrupt, 0, __ATOMIC_SEQ_CST);
        poll_page(n, vm, DONJON_PROT_READ);
        for (uint32_t f = m->n_func_imports; f < m->n_funcs; f++)
            set_code(vm, f, (void *)stub_lazy_site, (void *)stub_lazy_func);
    }
    for (uint32_t k = 0; k < n->n_pieces; k++)
        set_code(n->pieces[k].vm, n->pieces[k].func, n->pieces[k].code, n->pieces[k].code);
    if (atomic_load(&n->store->interrupt)) native_interrupt(n);
}

/* --- code ----------------------------------------------------------------------------------------------------------
 */

static bool code_protect(struct native *n, size_t at, size_t size, unsigned prot) {
    size_t from = at & ~(size_t)(PAGE - 1), to = (at + size + PAGE - 1) & ~(size_t)(PAGE - 1);
    return platform_of(n)->protect(platform_of(n)->ctx, n->code + from, to - from, (enum donjon_prot)prot);
}

/* Executable memory: writable from code_open to code_close, executable after, never both. */
static uint8_t *code_open(struct native *n, size_t size) {
    const size_t align =
        n->ahead ? PAGE : IMAGE_ALIGN; /* a page is made writable once where others would have to know */
    size_t at = (n->code_used + align - 1) & ~(align - 1);
    if (at > n->code_reserved || size > n->code_reserved - at) return NULL;
    return code_protect(n, at, size, DONJON_PROT_READ | DONJON_PROT_WRITE | DONJON_PROT_FILL) ? n->code + at : NULL;
}

static bool code_close(struct native *n, const uint8_t *code, size_t size) {
    size_t at = (size_t)(code - n->code);
    if (!code_protect(n, at, size, DONJON_PROT_READ | DONJON_PROT_EXEC)) return false;
    n->code_used = at + size;
    return true;
}

/* Where code is written until it is put to its place: there, or, with put_code, elsewhere. */
struct code_room {
    uint8_t *write, *scratch;
};

static bool code_begin(struct native *n, size_t size, struct code_room *r) {
    const struct donjon_platform *p = platform_of(n);
    r->scratch = p->put_code ? p->realloc(p->ctx, NULL, size) : NULL;
    if (r->scratch) memset(r->scratch, 0, size);
    r->write = r->scratch ? r->scratch : code_open(n, size);
    return r->write;
}

/* NULL: there is no room. */
static uint8_t *code_end(struct native *n, size_t size, struct code_room *r) {
    const struct donjon_platform *p = platform_of(n);
    if (!r->scratch) return code_close(n, r->write, size) ? r->write : NULL;
    size_t at = (n->code_used + IMAGE_ALIGN - 1) & ~(size_t)(IMAGE_ALIGN - 1);
    uint8_t *code = NULL;
    if (at <= n->code_reserved && size <= n->code_reserved - at &&
        p->put_code(p->ctx, n->code + at, r->scratch, size)) {
        code = n->code + at;
        n->code_used = at + size;
    } else if ((code = code_open(n, size))) {
        memcpy(code, r->scratch, size);
        if (!code_close(n, code, size)) code = NULL;
    }
    p->realloc(p->ctx, r->scratch, 0);
    return code;
}

static void relocate(const struct module *m, uint8_t *code, struct relocation r) {
    memcpy(code + r.at, &m->type_ids[r.type], 4);
}

/* A piece that lies behind all others; its landings have been added. There is room. */
static void add_piece(struct native *n, struct vmctx *vm, uint32_t func, uint8_t *code, struct image_func f) {
    n->pieces[n->n_pieces++] =
        (struct piece){code, f.size, f.frame, vm, func, n->n_landings - f.n_landings, f.n_landings};
    set_code(vm, func, code, code);
}

static bool room_for_pieces(struct native *n, uint32_t pieces, uint32_t landings) {
    return grow(n, &n->pieces, &n->cap_pieces, n->n_pieces, pieces, sizeof *n->pieces) &&
           grow(n, &n->landings, &n->cap_landings, n->n_landings, landings, sizeof *n->landings);
}

static void tell(const struct native *n, const struct piece *p, struct bytes name) {
    struct native_code c = {p->code, p->size, p->vm->instance->module, p->func, name};
    n->seen(n->seen_ctx, &c);
}

void native_on_code(struct native *n, native_code_seen seen, void *ctx) {
    n->seen = seen;
    n->seen_ctx = ctx;
}

/* Does every 32-bit address plus every 32-bit offset fall into memory 0's reservation? Then faults check bounds. */
static bool guarded(const struct instance *i) {
    return !i->memory0 || i->memory0->reserved >= (2ull << 32) + 64;
}

static struct compile_options options_for(const struct native *n, const struct instance *i) {
    return (struct compile_options){.find_code = UINT32_MAX,
                                    .bounds_checks = !guarded(i),
                                    .no_faults = !n->faults,
                                    .fuel = n->store->limits.fuel_enabled};
}

/* With a thread for it, the first instance's functions are compiled beside the program. */
static void begin_ahead(struct native *n, struct vmctx *vm) {
    struct compile_options o = options_for(n, vm->instance);
    if (n->ahead || !n->store->limits.helpers) return;
    n->ahead = ahead_start(vm->instance->module, &o, n->store->limits.helpers);
    n->ahead_vm = vm;
}

struct made {
    uint32_t func;
    struct compiled c;
};

static bool make(struct native *n, struct vmctx *vm, struct made *made) {
    struct instance *i = vm->instance;
    struct compile_options o = options_for(n, i);
    struct ahead *a = vm == n->ahead_vm ? n->ahead : NULL;
    enum ahead_result r = a ? ahead_take(a, made->func, &made->c) : AHEAD_YOURS;
    if (r == AHEAD_MADE) return true;
    if (a) o.called = ahead_hint, o.called_ctx = a;
    if (r == AHEAD_YOURS && compile_function(i->module, made->func, &o, &made->c)) return true;
    return target_emit_host_jump(platform_of(n), i->module, made->func, &made->c); /* too costly: interpreted */
}

static size_t code_align(size_t size) {
    return (size + IMAGE_ALIGN - 1) & ~(size_t)(IMAGE_ALIGN - 1);
}

/* The functions' code, one behind the other. NULL: there is no room. */
static uint8_t *install(struct native *n, struct vmctx *vm, const struct made *all, uint32_t count) {
    const struct module *m = vm->instance->module;
    size_t size = 0, landings = 0, at = 0;
    for (uint32_t k = 0; k < count; k++) {
        size = code_align(size) + all[k].c.size;
        landings += all[k].c.n_landings;
    }
    if (landings >= UINT32_MAX || !room_for_pieces(n, count, (uint32_t)landings)) return NULL;
    struct code_room room;
    if (!code_begin(n, size, &room)) return NULL;
    for (uint32_t k = 0; k < count; k++) {
        const struct compiled *c = &all[k].c;
        memcpy(room.write + at, c->code, c->size);
        for (uint32_t r = 0; r < c->n_relocations; r++)
            relocate(m, room.write + at, c->relocations[r]);
        at = code_align(at + c->size);
    }
    uint8_t *code = code_end(n, size, &room);
    if (!code) return NULL;
    at = 0;
    for (uint32_t k = 0; k < count; k++) {
        const struct compiled *c = &all[k].c;
        if (c->n_landings) memcpy(n->landings + n->n_landings, c->landings, c->n_landings * sizeof *c->landings);
        n->n_landings += c->n_landings;
        add_piece(n, vm, all[k].func, code + at, (struct image_func){0, c->size, c->frame, c->n_landings, 0});
        if (n->seen) tell(n, &n->pieces[n->n_pieces - 1], module_func_name(m, all[k].func));
        at = code_align(at + c->size);
    }
    return code;
}

/* What was made ahead meanwhile comes along: making memory executable is dear where several processors use it. */
static void *compile(struct native *n, struct vmctx *vm, uint32_t func) {
    struct made all[BATCH];
    uint32_t count = 1;
    if (vm->tail[func] != (void *)stub_lazy_site) return vm->tail[func];
    all[0].func = func;
    if (!make(n, vm, &all[0])) return NULL;
    if (n->ahead && vm == n->ahead_vm)
        while (count < BATCH && ahead_next(n->ahead, &all[count].func, &all[count].c))
            count++;
    uint8_t *code = install(n, vm, all, count);
    for (uint32_t k = 0; k < count; k++)
        compiled_free(platform_of(n), &all[k].c);
    return code;
}

/* --- images --------------------------------------------------------------------------------------------------------
 */

const char *native_use_image(struct native *n, const struct module *m, const uint8_t *digest, const void *bytes,
                             size_t size) {
    n->image_module = NULL;
    if (!bytes) return NULL;
    const char *wrong = image_check(m, digest, bytes, size, &n->image);
    if (wrong) return wrong;
    if (!(n->image.head.flags & IMAGE_FUEL) != !n->store->limits.fuel_enabled)
        return n->store->limits.fuel_enabled ? "compiled without counting fuel" : "compiled for counting fuel";
    if (!(n->image.head.flags & IMAGE_NO_FAULTS) != n->faults)
        return n->faults ? "compiled for where memory faults cannot be caught"
                         : "compiled for where memory faults can be caught";
    n->image_module = m;
    return NULL;
}

static void tell_image(struct native *n, const struct module *m, uint32_t first) {
    const struct donjon_platform *p = platform_of(n);
    struct bytes *names = p->realloc(p->ctx, NULL, m->n_funcs * sizeof *names);
    if (!names) return;
    memset(names, 0, m->n_funcs * sizeof *names);
    module_func_names(m, names);
    for (uint32_t k = first; k < n->n_pieces; k++)
        tell(n, &n->pieces[k], names[n->pieces[k].func]);
    p->realloc(p->ctx, names, 0);
}

/* Takes all of an image's code over. Where that does not work out, functions are compiled when they are called. */
static void install_image(struct native *n, struct vmctx *vm) {
    const struct image *i = &n->image;
    const struct image_header *h = &i->head;
    const struct module *m = vm->instance->module;
    uint32_t first = n->n_pieces, relocation = 0;
    if (n->faults && !(h->flags & IMAGE_BOUNDS) != guarded(vm->instance)) return;
    if (!room_for_pieces(n, h->n_funcs, h->n_landings)) return;
    uint8_t *code = h->code_size ? code_open(n, h->code_size) : NULL;
    if (!code) return;
    memcpy(code, i->code, h->code_size);
    for (uint32_t k = 0; k < h->n_funcs; k++) {
        struct image_func f = image_func(i, k);
        for (uint32_t r = 0; r < f.n_relocations; r++)
            relocate(m, code + f.offset, image_relocation(i, relocation++));
    }
    if (!code_close(n, code, h->code_size)) return;
    if (h->n_landings) memcpy(n->landings + n->n_landings, i->landings, h->n_landings * sizeof *n->landings);
    for (uint32_t k = 0; k < h->n_funcs; k++) {
        struct image_func f = image_func(i, k);
        n->n_landings += f.n_landings;
        if (f.size) add_piece(n, vm, h->first_func + k, code + f.offset, f);
    }
    if (n->seen) tell_image(n, m, first);
}

/* Whom a call site means: `call *disp32(%r14)`. */
static uint32_t site_func(const uint8_t *return_address) {
    int32_t disp;
    memcpy(&disp, return_address - 4, 4);
    return (uint32_t)(((size_t)disp - offsetof(struct vmctx, tail)) / 8);
}

/* What stands for a function in a context's table, for those who come through struct func. */
static void *as_func(void *site) {
    if (site == (void *)stub_attend_site) return (void *)stub_attend_func;
    return site == (void *)stub_lazy_site ? (void *)stub_lazy_func : site;
}

/* Calls of functions that are to be compiled. An interrupt may have come before us: then it goes to that stub. */
void *native_compile_site(struct vmctx *vm, const uint8_t *return_address, struct regs *regs) {
    if ((uint8_t *)regs < vm->stack_limit) return NULL;
    return compile(vm->store->native, vm, site_func(return_address));
}

void *native_compile_func(struct vmctx *vm, struct func *f, struct regs *regs) {
    if ((uint8_t *)regs < vm->stack_limit) return NULL;
    return as_func(compile(vm->store->native, f->vm, f->wasm.index));
}

/* --- attending to interrupts ---------------------------------------------------------------------------------------
 */

/* In a loop. Its registers lie at `saved`. */
uint32_t native_attend(struct vmctx *vm, uint64_t *saved) {
    struct native *n = vm->store->native;
    uint8_t *outer = n->sp;
    n->sp = (uint8_t *)saved;
    enum trap_kind kind = store_attend(vm->store);
    n->sp = outer;
    return kind;
}

/* In a call. Where it leads is looked up in between: another interrupt would hide it. */
static void *attend_call(struct vmctx *vm, uint32_t func, struct regs *regs) {
    struct native *n = vm->store->native;
    uint8_t *outer = n->sp;
    if (!n->store->attend) return NULL;
    native_clear_interrupt(n);
    void *code = (uint8_t *)regs < vm->stack_limit ? NULL : compile(n, vm, func);
    if (!code) code = vm->tail[func]; /* which will say so itself */
    n->sp = (uint8_t *)regs;
    enum trap_kind kind = store_attend_call(n->store);
    n->sp = outer;
    return kind == TRAP_NONE ? code : NULL;
}

void *native_attend_site(struct vmctx *vm, const uint8_t *return_address, struct regs *regs) {
    return attend_call(vm, site_func(return_address), regs);
}

void *native_attend_func(struct vmctx *vm, struct func *f, struct regs *regs) {
    (void)vm;
    return as_func(attend_call(f->vm, f->wasm.index, regs));
}

/* --- calls from outside --------------------------------------------------------------------------------------------
 */

static uint8_t kind_of(valtype t) {
    return vt_is_ref(t) ? KIND_I64 : (uint8_t)vt_kind(t);
}

static uint32_t general_index(uint8_t reg) {
    static const uint8_t index[16] = {[0] = 0, [1] = 1, [2] = 2, [3] = 3, [6] = 4, [7] = 5, [8] = 6, [9] = 7};
    return index[reg];
}

/* Where value k of a list of types lies, in saved registers or the overflow area. */
static slot *place_of(struct native *n, struct convention *c, valtype t, struct regs *r) {
    uint32_t overflow = 0;
    uint8_t reg = target_next_place(c, kind_of(t), &overflow);
    if (reg == REG_NONE) return &n->overflow[overflow];
    return reg >= REG_VECTOR ? (slot *)&r->vector[reg - REG_VECTOR] : (slot *)&r->general[general_index(reg)];
}

static void spread(struct native *n, const valtype *types, uint32_t count, const slot *from, struct regs *r) {
    struct convention c = {0};
    for (uint32_t k = 0; k < count; k++) {
        slot *to = place_of(n, &c, types[k], r);
        if (types[k] == VT_I32)
            to->i64 = from->i32; /* upper half zero: compiled code relies on it */
        else
            memcpy(to, from, 8 * vt_slots(types[k]));
        from += vt_slots(types[k]);
    }
}

static void gather(struct native *n, const valtype *types, uint32_t count, slot *to, struct regs *r) {
    struct convention c = {0};
    for (uint32_t k = 0; k < count; k++) {
        memcpy(to, place_of(n, &c, types[k], r), 8 * vt_slots(types[k]));
        to += vt_slots(types[k]);
    }
}

enum trap_kind native_call(struct native *n, struct func *f, slot *args) {
    const struct functype *t = type_func(n->store->engine, f->type_id);
    uint8_t *here = __builtin_frame_address(0), *end = n->stack + STACK_GUARD + n->stack_size;
    bool inside = here >= n->stack && here < end; /* a host function calls back */
    /* On another stack while code waits on ours (a coroutine of the host's): there is no telling what is free. */
    if (inside ? here < f->vm->stack_limit : n->top != NULL) {
        n->store->trap.kind = TRAP_STACK;
        return TRAP_STACK;
    }
    struct regs regs;
    struct activation act = {.regs = &regs, .previous = n->top};
    memset(&regs, 0, sizeof regs);
    spread(n, t->params, t->n_params, args, &regs);
    n->top = &act;
    enum trap_kind kind = (enum trap_kind)stub_enter(f, f->vm, inside ? NULL : end, &act);
    n->top = act.previous;
    if (kind == TRAP_NONE) gather(n, t->results, t->n_results, args, &regs);
    if (kind == TRAP_INTERRUPT) native_clear_interrupt(n);
    return kind;
}

/* --- calls to the host ---------------------------------------------------------------------------------------------
 */

/* Also for functions of ours that are left to the interpreter: to compiled code those are hosts. */
uint32_t native_host_call(struct vmctx *vm, struct func *f, struct regs *regs) {
    struct native *n = vm->store->native;
    const struct functype *t = type_func(n->store->engine, f->type_id);
    uint32_t slots = t->param_slots > t->result_slots ? t->param_slots : t->result_slots;
    if ((uint8_t *)regs < vm->stack_limit) return TRAP_STACK;
    slot args[slots + 1];
    gather(n, t->params, t->n_params, args, regs);
    uint8_t *outer = n->sp;
    n->sp = (uint8_t *)args;
    enum trap_kind kind = f->kind == FUNC_WASM ? interp_call(n->store->interp, f, args)
                                               : f->host.callback(f->host.env, n->store, vm->instance, args);
    n->sp = outer;
    if (kind == TRAP_NONE) spread(n, t->results, t->n_results, args, regs);
    return kind;
}

bool native_subtype(struct vmctx *vm, struct func *f, uint32_t type_id) {
    return type_id_matches(vm->store->engine, f->type_id, type_id);
}

/* --- unwinding -----------------------------------------------------------------------------------------------------
 */

static const struct piece *piece_at(const struct native *n, const uint8_t *pc) {
    uint32_t lo = 0, hi = n->n_pieces;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (n->pieces[mid].code + n->pieces[mid].size <= pc)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n->n_pieces && n->pieces[lo].code <= pc ? &n->pieces[lo] : NULL;
}

struct frame {
    const uint8_t *pc; /* where it goes on; the instruction before it for callers */
    uint64_t *sp;      /* of its body */
    struct vmctx *vm;
    const struct piece *piece;
};

/* To the compiled frame that pc and sp belong to, passing stubs; false at the end of the activation. */
static bool find_frame(const struct native *n, struct frame *f) {
    if (f->pc == stub_cross_return) {
        f->vm = (struct vmctx *)f->sp[0];
        f->pc = (const uint8_t *)f->sp[1];
        f->sp += 2;
    }
    f->piece = piece_at(n, f->pc - 1);
    return f->piece != NULL;
}

static bool next_frame(const struct native *n, struct frame *f) {
    uint64_t *ret = f->sp + f->piece->frame / 8;
    f->pc = (const uint8_t *)ret[0];
    f->sp = ret + 1;
    return find_frame(n, f);
}

/* Where in the module a piece of code came from: compiled again, which gives the same code. */
static void find_source(struct native *n, const struct piece *p, uint32_t code, struct compile_options *found) {
    *found = (struct compile_options){.find_code = code,
                                      .bounds_checks = !guarded(p->vm->instance),
                                      .no_faults = !n->faults,
                                      .fuel = n->store->limits.fuel_enabled};
    struct compiled c;
    if (compile_function(p->vm->instance->module, p->func, found, &c)) compiled_free(platform_of(n), &c);
}

/* Big functions cost much to compile again: after so many bytes of them, frames get their function's start. */
enum { BACKTRACE_BYTES = 1 << 20 };

/* What one return address stands for: its function, and those that were inlined there, innermost first. */
struct known_frame {
    const uint8_t *pc;
    uint32_t n;
    struct source sources[INLINE_DEPTH + 1];
};

static void know_frame(struct native *n, const struct frame *f, uint32_t *spent, struct known_frame *k) {
    const struct module *m = f->vm->instance->module;
    const struct func_body *body = &m->bodies[f->piece->func - m->n_func_imports];
    struct compile_options found = {0};
    if (*spent <= BACKTRACE_BYTES) find_source(n, f->piece, (uint32_t)(f->pc - 1 - f->piece->code), &found);
    *spent += body->size < BACKTRACE_BYTES ? body->size : BACKTRACE_BYTES;
    k->pc = f->pc;
    k->n = found.n_found;
    memcpy(k->sources, found.found, sizeof k->sources);
    if (!k->n) k->sources[k->n++] = (struct source){f->piece->func, body->offset};
}

static void record_backtrace(struct native *n, struct frame f) {
    struct trap *t = &n->store->trap;
    struct known_frame known[BACKTRACE_MAX];
    uint32_t n_known = 0, spent = 0;
    if (!find_frame(n, &f)) return;
    do {
        uint32_t k = 0;
        while (k < n_known && known[k].pc != f.pc)
            k++;
        if (k == n_known && t->n_frames < BACKTRACE_MAX) know_frame(n, &f, &spent, &known[n_known++]);
        t->n_frames_total += k < n_known ? known[k].n : 1;
        for (uint32_t i = 0; k < n_known && i < known[k].n && t->n_frames < BACKTRACE_MAX; i++)
            t->frames[t->n_frames++] =
                (struct frame_info){f.vm->instance, known[k].sources[i].func, known[k].sources[i].at};
    } while (next_frame(n, &f));
}

/* Frames from `sp` on are left. What stood there must not look like references to the next ones' collections: it is
 * cleared up to where the activation began, its own end of the stack excepted. */
static struct activation *leave(struct native *n, enum trap_kind kind, void *sp) {
    uint8_t *from = sp, *end = n->stack + STACK_GUARD + n->stack_size, *entered = (uint8_t *)n->top->sp;
    if (entered >= n->stack && entered < end) end = entered;
    if (from >= n->stack + STACK_GUARD && from < end) memset(from, 0, (size_t)(end - from));
    n->top->kind = kind;
    return n->top;
}

static uint32_t first_landing(const struct landing *l, uint32_t n, uint32_t return_at) {
    uint32_t lo = 0, hi = n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (l[mid].return_at < return_at)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Looks for a handler of store->thrown from this frame outwards. */
static bool land(struct native *n, struct vmctx *vm, struct frame f) {
    struct exn *x = n->store->thrown;
    if (!find_frame(n, &f)) return false;
    do {
        uint32_t at = (uint32_t)(f.pc - f.piece->code);
        if (!f.piece->n_landings) continue;
        const struct landing *all = n->landings + f.piece->landings;
        for (uint32_t k = first_landing(all, f.piece->n_landings, at); k < f.piece->n_landings; k++) {
            const struct landing *l = &all[k];
            if (l->return_at != at) break;
            if (l->tag != NONE32 && f.vm->instance->tags[l->tag] != x->tag) continue;
            vm->land_pc = f.piece->code + l->code;
            vm->land_sp = f.sp;
            vm->land_vm = f.vm;
            vm->land_exn = x;
            n->store->thrown = NULL;
            n->store->trap.n_frames = n->store->trap.n_frames_total = 0; /* what an interpreted callee noted */
            return true;
        }
    } while (next_frame(n, &f));
    return false;
}

struct activation *native_unwind(struct vmctx *vm, uint64_t *sp) {
    struct native *n = vm->store->native;
    enum trap_kind kind = (enum trap_kind)vm->kind;
    struct frame f = {(const uint8_t *)sp[0], sp + 1, vm, NULL};
    if (kind == TRAP_EXCEPTION) {
        if (land(n, vm, f)) return NULL;
        if (n->store->nesting == 1) record_backtrace(n, f); /* nobody outside can catch it any more */
        return leave(n, TRAP_EXCEPTION, sp);
    }
    n->store->trap.kind = kind;
    if (kind == TRAP_FUEL) n->store->fuel = 0;
    record_backtrace(n, f);
    return leave(n, kind, sp);
}

/* Runs as a signal handler, so it does no more than turn the fault into a call of the exit stub from where it happened.
 * Only what compiled code may meet: an access beyond memory 0, a poll page, the end of the stack. Anything else is a
 * mistake of ours, and must not look like a trap of the program's. */
static bool fault(void *tier, struct donjon_fault *fault) {
    struct native *n = tier;
    const uint8_t *pc = (const uint8_t *)fault->pc, *address = (const uint8_t *)fault->address;
    if (!n->top || !piece_at(n, pc)) return false;
    struct vmctx *vm = (struct vmctx *)fault->r14;
    const struct memory *m = vm->instance->memory0;
    if (address >= n->stack && address < n->stack + STACK_GUARD) { /* no room to call anything */
        n->store->trap.kind = TRAP_STACK;
        fault->rdi = (uintptr_t)leave(n, TRAP_STACK, (void *)fault->sp);
        fault->pc = (uintptr_t)stub_leave;
        return true;
    }
    if (address >= (const uint8_t *)vm - VM_POLL_PAGE && address < (const uint8_t *)vm) {
        fault->sp -= sizeof(uintptr_t);
        *(uintptr_t *)fault->sp = fault->pc + POLL_SIZE;
        fault->pc = (uintptr_t)stub_attend;
        return true;
    }
    if (m && (uintptr_t)(address - m->base) < m->reserved)
        vm->kind = TRAP_MEMORY;
    else
        return false;
    fault->sp -= sizeof(uintptr_t);
    *(uintptr_t *)fault->sp = fault->pc + 1;
    fault->pc = (uintptr_t)stub_fault;
    return true;
}

void native_stack(const struct native *n, const slot **begin, const slot **end) {
    *begin = *end = (const slot *)(n->stack + STACK_GUARD + n->stack_size);
    if (n->sp) *begin = (const slot *)n->sp;
}

/* --- helpers -------------------------------------------------------------------------------------------------------
 */

#define HELPER(name) static uint32_t name(struct vmctx *vm, slot *a)

/* What moves many bytes costs fuel by the size, and is followed by a look at interrupts. */
static enum trap_kind charge_bulk(struct vmctx *vm, uint64_t bytes) {
    struct store *s = vm->store;
    if (bytes < BULK_FREE) return TRAP_NONE;
    if (s->limits.fuel_enabled && s->fuel < bytes / BULK_BYTES_PER_FUEL) return TRAP_FUEL;
    if (s->limits.fuel_enabled) s->fuel -= bytes / BULK_BYTES_PER_FUEL;
    return __atomic_load_n(&vm->interrupt, __ATOMIC_RELAXED) ? store_attend(s) : TRAP_NONE;
}

/* Addresses of 32-bit memories and tables come as i32, whose upper half is zero in compiled code too. */
HELPER(help_memory_grow) {
    struct memory *m = vm->instance->memories[a[0].i32];
    uint64_t old = memory_grow(vm->store, m, a[1].i64);
    a[0].i64 = m->type.is64 || old != UINT64_MAX ? old : UINT32_MAX;
    return TRAP_NONE;
}
HELPER(help_memory_init) {
    struct instance *i = vm->instance;
    enum trap_kind kind = memory_init(i, a[0].i32, i->memories[a[1].i32], a[2].i64, a[3].i64, a[4].i64);
    return kind ? kind : charge_bulk(vm, a[4].i64);
}
HELPER(help_memory_copy) {
    const struct memory *d = vm->instance->memories[a[0].i32], *s = vm->instance->memories[a[1].i32];
    uint64_t to = a[2].i64, from = a[3].i64, n = a[4].i64;
    if (n > d->size || to > d->size - n || n > s->size || from > s->size - n) return TRAP_MEMORY;
    memmove(d->base + to, s->base + from, n);
    return charge_bulk(vm, n);
}
HELPER(help_memory_fill) {
    const struct memory *d = vm->instance->memories[a[0].i32];
    uint64_t to = a[1].i64, n = a[3].i64;
    if (n > d->size || to > d->size - n) return TRAP_MEMORY;
    memset(d->base + to, (int)a[2].i32, n);
    return charge_bulk(vm, n);
}
HELPER(help_data_drop) {
    vm->instance->data_dropped[a[0].i32] = true;
    return TRAP_NONE;
}
HELPER(help_table_get) {
    const struct table *t = vm->instance->tables[a[0].i32];
    if (a[1].i64 >= t->size) return TRAP_TABLE;
    a[0] = t->elems[a[1].i64];
    return TRAP_NONE;
}
HELPER(help_table_set) {
    const struct table *t = vm->instance->tables[a[0].i32];
    if (a[1].i64 >= t->size) return TRAP_TABLE;
    t->elems[a[1].i64] = a[2];
    return TRAP_NONE;
}
HELPER(help_table_grow) {
    struct table *t = vm->instance->tables[a[0].i32];
    uint64_t old = table_grow(vm->store, t, a[2].i64, a[1]);
    a[0].i64 = t->type.limits.is64 || old != UINT64_MAX ? old : UINT32_MAX;
    return TRAP_NONE;
}
HELPER(help_table_fill) {
    enum trap_kind kind = table_fill(vm->instance->tables[a[0].i32], a[1].i64, a[2], a[3].i64);
    return kind ? kind : charge_bulk(vm, a[3].i64 * sizeof(slot));
}
HELPER(help_table_init) {
    struct instance *i = vm->instance;
    enum trap_kind kind = table_init(i, a[0].i32, i->tables[a[1].i32], a[2].i64, a[3].i64, a[4].i64);
    return kind ? kind : charge_bulk(vm, a[4].i64 * sizeof(slot));
}
HELPER(help_table_copy) {
    struct instance *i = vm->instance;
    enum trap_kind kind = table_copy(i->tables[a[0].i32], i->tables[a[1].i32], a[2].i64, a[3].i64, a[4].i64);
    return kind ? kind : charge_bulk(vm, a[4].i64 * sizeof(slot));
}
HELPER(help_elem_drop) {
    vm->instance->elem_dropped[a[0].i32] = true;
    return TRAP_NONE;
}
HELPER(help_throw) {
    struct native *n = vm->store->native;
    struct tag *tag = vm->instance->tags[a[0].i32];
    uint32_t slots = type_func(vm->store->engine, tag->type_id)->param_slots;
    uint8_t *outer = n->sp;
    n->sp = (uint8_t *)a;
    struct exn *x = heap_new_exn(vm->store->heap, tag);
    n->sp = outer;
    if (!x) return TRAP_OUT_OF_MEMORY;
    memcpy(x->payload, a + 1, slots * sizeof(slot));
    vm->store->thrown = x;
    return TRAP_EXCEPTION;
}
HELPER(help_throw_ref) {
    if (!a[0].exn) return TRAP_NULL_EXN;
    vm->store->thrown = a[0].exn;
    return TRAP_EXCEPTION;
}
HELPER(help_new) {
    struct native *n = vm->store->native;
    uint8_t *outer = n->sp;
    n->sp = (uint8_t *)a;
    a[0].ref = heap_new_object(vm->store->heap, 0, a[0].i32);
    n->sp = outer;
    return a[0].ref ? TRAP_NONE : TRAP_OUT_OF_MEMORY;
}
HELPER(help_gc) {
    struct native *n = vm->store->native;
    uint64_t bytes = 0;
    uint8_t *outer = n->sp;
    n->sp = (uint8_t *)a;
    enum trap_kind kind = gc_functions[a[0].i32 & 31](vm->instance, a[0].i32 >> 5, a[1].i32, a + 2, a, &bytes);
    n->sp = outer;
    return kind ? kind : charge_bulk(vm, bytes);
}
static const void *helper_table[HELPER_COUNT] = {
    [HELPER_MEMORY_GROW] = help_memory_grow,
    [HELPER_MEMORY_INIT] = help_memory_init,
    [HELPER_MEMORY_COPY] = help_memory_copy,
    [HELPER_MEMORY_FILL] = help_memory_fill,
    [HELPER_DATA_DROP] = help_data_drop,
    [HELPER_TABLE_GET] = help_table_get,
    [HELPER_TABLE_SET] = help_table_set,
    [HELPER_TABLE_GROW] = help_table_grow,
    [HELPER_TABLE_FILL] = help_table_fill,
    [HELPER_TABLE_INIT] = help_table_init,
    [HELPER_TABLE_COPY] = help_table_copy,
    [HELPER_ELEM_DROP] = help_elem_drop,
    [HELPER_THROW] = help_throw,
    [HELPER_THROW_REF] = help_throw_ref,
    [HELPER_NEW] = help_new,
    [HELPER_GC] = help_gc,
};
