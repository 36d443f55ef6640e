/* Images of compiled code that somebody has changed: what image_check accepts can be installed, and is read nowhere out
 * of bounds. Nothing of it is run. The input changes a good image, which is made anew by each build: words of six
 * bytes, offset (24 bits, counted over header and tables twice as often as over all), how, value (16 bits); the first
 * word cuts its end off. */
#include "gen.h"
#include "native/image.h"
#include "native/native.h"
#include <donjon/platform.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t digest[IMAGE_ID] = "fuzz";
static struct engine *engine;
static struct module *module;
static struct extern_ imports[2];
static uint8_t *good;
static size_t good_size;

static enum trap_kind host(void *env, struct store *s, struct instance *caller, slot *args) {
    (void)env, (void)s, (void)caller, (void)args;
    return TRAP_NONE;
}

static void prepare(void) {
    static uint8_t seed[4000], bytes[GEN_MODULE_MAX];
    struct module_error err;
    for (size_t k = 0; k < sizeof seed; k++)
        seed[k] = (uint8_t)(k * k * 31 >> 3);
    engine = engine_new(donjon_platform_posix());
    module = module_new(engine, bytes, gen_module(seed, sizeof seed, GEN_ALL, bytes), &err);
    struct image_options options = {.digest = digest};
    good = module ? image_compile(module, &options, &good_size) : NULL;
    if (!good) __builtin_trap();
}

static void change(uint8_t *image, size_t size, const uint8_t *w) {
    uint32_t at = (uint32_t)w[0] | (uint32_t)w[1] << 8 | (uint32_t)w[2] << 16, value = w[4] | (uint32_t)w[5] << 8;
    size_t tables = size < 4096 ? size : 4096, where = at & 1 ? (at >> 1) % size : (at >> 1) % tables;
    switch (w[3] % 4) {
    case 0: image[where] ^= (uint8_t)(1u << value % 8); break;
    case 1: image[where] = (uint8_t)value; break;
    case 2: image[where] = (uint8_t)(image[where] + value); break;
    default:
        where &= ~(size_t)3;
        if (where + 4 <= size) memcpy(image + where, &(uint32_t){(uint32_t)(int32_t)(int16_t)value}, 4);
    }
}

static void install(const void *image, size_t size) {
    struct store *s = store_new(engine, NULL);
    struct instantiate_error err;
    if (!s || !s->native) abort();
    native_use_image(s->native, module, digest, image, size);
    for (unsigned k = 0; k < 2 && k < module->n_imports; k++)
        imports[k] =
            (struct extern_){.kind = EXTERN_FUNC, .func = func_new_host(s, module->func_types[k], host, NULL, NULL)};
    if (!instantiate(s, module, imports, false, &err)) engine->platform->realloc(NULL, err.message, 0);
    store_delete(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!module) prepare();
    if (!target_supported() || size < 6) return 0;
    size_t n = good_size - ((size_t)data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16) % (good_size + 1);
    if (!(data[3] & 1)) n = good_size; /* mostly whole */
    uint8_t *image = malloc(n + 1);    /* of exactly this size, for the sanitizer's sake */
    struct image checked;
    if (!image) return 0;
    memcpy(image, good, n);
    for (size_t k = 6; n && k + 6 <= size; k += 6)
        change(image, n, data + k);
    uint8_t *exact = realloc(image, n ? n : 1);
    if (!image_check(module, digest, exact, n, &checked)) install(exact, n);
    free(exact);
    return 0;
}
