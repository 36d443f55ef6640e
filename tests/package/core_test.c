/* References, manifests, names, layers under encryption. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "package/internal.h"

#define HEX    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define DIGEST "sha256:" HEX

static char error[PACKAGE_ERROR];

static void test_references(void **state) {
    (void)state;
    static const char *const good[] = {
        "registry.example/app",
        "registry.example:5000/a/b_c/d__e/f--g.h:1.0",
        "localhost/app@" DIGEST,
        "127.0.0.1:5000/x:T_a-b.c@" DIGEST,
        "oci:dir",
        "oci:dir:tag",
        "oci:/a/b.c/d@" DIGEST,
        "[::1]:5000/app",
    };
    static const char *const bad[] = {
        "",
        "app",
        "shop/app",
        "registry.example",
        "registry.example/",
        "registry.example/App",
        "r.example/a:",
        "r.example/a:-x",
        "r.example/a b",
        "r.example/a/../b",
        "r.example//a",
        "r.example/a/",
        "r.example/a@sha256:12",
        "r.example/a@sha512:" HEX,
        "r.example/a@" DIGEST "0",
        "r.example/a?x=1",
        "r.example/a#b",
        "user@r.example/a",
        "https://r.example/a",
        "r.example\\a/b",
        "r.example/a%2e",
        "oci:",
        ".example/a",
        "r.example/a@SHA256:" HEX,
    };
    struct package_reference r;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!package_reference_read(good[i], &r, error)) fail_msg("%s: %s", good[i], error);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (package_reference_read(bad[i], &r, error)) fail_msg("read: %s", bad[i]);
    assert_true(package_reference_read(good[1], &r, error));
    assert_string_equal(r.host, "registry.example:5000");
    assert_string_equal(r.name, "a/b_c/d__e/f--g.h");
    assert_string_equal(r.tag, "1.0");
    char pinned[PACKAGE_PATH];
    assert_string_equal(package_reference_pinned(&r, DIGEST, pinned),
                        "registry.example:5000/a/b_c/d__e/f--g.h@" DIGEST);
    assert_true(package_is_reference("r.example/a") && package_is_reference("oci:x"));
    assert_false(package_is_reference("/etc/passwd") || package_is_reference("app.wasm") ||
                 package_is_reference("dir/"));
}

static void test_paths(void **state) {
    (void)state;
    static const char *const bad[] = {"",     "/",    "/a",    "a/",   "a//b", ".",     "..",
                                      "a/..", "../a", "a/./b", "a\nb", "a\\b", "a/../b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (plain_path(bad[i])) fail_msg("%s", bad[i]);
    assert_true(plain_path("a") && plain_path("a/b.c/..d") && plain_path("\xc3\xa4"));
    char longer[300];
    memset(longer, 'a', 256);
    longer[256] = 0;
    assert_false(plain_path(longer));
}

static bool reads(const char *text) {
    struct manifest m;
    bool ok = manifest_read(&m, text, strlen(text), error) && manifest_is_package(&m, error);
    manifest_free(&m);
    return ok;
}

#define CONFIG "\"config\":{\"mediaType\":\"" MEDIA_CONFIG "\",\"digest\":\"" DIGEST "\",\"size\":2}"
#define WASM   "{\"mediaType\":\"application/wasm\",\"digest\":\"" DIGEST "\",\"size\":8}"
#define FILE_(title)                                                                                                   \
    "{\"mediaType\":\"" MEDIA_FILE "\",\"digest\":\"" DIGEST "\",\"size\":8,\"annotations\":{\"" NOTE_TITLE            \
    "\":\"" title "\"}}"
#define MANIFEST(layers) "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_MANIFEST "\"," CONFIG ",\"layers\":[" layers "]}"

static void test_manifests(void **state) {
    (void)state;
    assert_true(reads(MANIFEST(WASM)));
    assert_true(reads(MANIFEST(WASM "," FILE_("a/b"))));
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"schemaVersion\":1," CONFIG ",\"layers\":[" WASM "]}",
        "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_INDEX "\"," CONFIG ",\"layers\":[" WASM "]}",
        "{\"schemaVersion\":2,\"manifests\":[]," CONFIG ",\"layers\":[" WASM "]}",
        "{\"schemaVersion\":2," CONFIG "," CONFIG ",\"layers\":[" WASM "]}",
        "{\"schemaVersion\":2,\"layers\":[" WASM "]}",
        MANIFEST(""),
        MANIFEST(FILE_("a")),
        MANIFEST(WASM "," WASM),
        MANIFEST(WASM "," FILE_("../a")),
        MANIFEST(WASM "," FILE_("/a")),
        MANIFEST(WASM "," FILE_("a") "," FILE_("a")),
        MANIFEST("{\"mediaType\":\"application/wasm\",\"digest\":\"" DIGEST "\",\"size\":-1}"),
        MANIFEST("{\"mediaType\":\"application/wasm\",\"digest\":\"" DIGEST "\",\"size\":8.0}"),
        MANIFEST("{\"mediaType\":\"application/wasm\",\"digest\":\"" DIGEST "\",\"size\":1073741825}"),
        MANIFEST("{\"mediaType\":\"application/wasm\",\"digest\":\"sha256:../../../../etc/passwd\",\"size\":8}"),
        MANIFEST("{\"mediaType\":\"application/wasm\",\"digest\":\"sha512:" HEX "\",\"size\":8}"),
        MANIFEST("{\"mediaType\":\"application/wasm\",\"size\":8}"),
        MANIFEST(WASM) "x",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (reads(bad[i])) fail_msg("read: %s", bad[i]);
    /* One form. */
    struct manifest m;
    assert_true(manifest_read(&m, MANIFEST(WASM "," FILE_("a")), strlen(MANIFEST(WASM "," FILE_("a"))), error));
    char *text = manifest_write(&m);
    assert_string_equal(text, MANIFEST(WASM "," FILE_("a")));
    free(text);
    manifest_free(&m);
}

static bool never(void *context, const char *name, bool directory) {
    (void)name;
    *(int *)context += directory ? 100 : 1;
    return true;
}

static void test_names(void **state) {
    (void)state;
    static const char text[] =
        "[[files]]\nkind = \"listen\"\ntrust = [\"a.pem\", \"b.pem\"]\npeer-policy = \"p.toml\"\nhost = \"h\"\n"
        "[[mounts]]\nhost = \"d\"\nguest = \"/d\"\n";
    int count = 0;
    assert_true(config_names(text, strlen(text), never, &count, error));
    assert_int_equal(count, 103);
    assert_false(config_names("x = ", 4, never, &count, error));
    assert_false(config_names("[[mounts]]\nhost = \"a\\u0000b\"\n", 30, never, &count, error));
}

static void test_seal(void **state) {
    (void)state;
    uint8_t key[32] = {1, 2, 3}, other[32] = {1, 2, 4};
    struct blob sealed, plain;
    assert_true(seal(key, SEALED_MODULE, NULL, "hello", 5, &sealed));
    assert_true(unseal(key, SEALED_MODULE, NULL, &sealed, &plain));
    assert_true(plain.size == 5 && !memcmp(plain.data, "hello", 5));
    blob_free(&plain);
    assert_false(unseal(other, SEALED_MODULE, NULL, &sealed, &plain));
    assert_false(unseal(key, SEALED_FILE, NULL, &sealed, &plain));
    assert_false(unseal(key, SEALED_MODULE, "a", &sealed, &plain));
    for (size_t i = 0; i < sealed.size; i++) {
        sealed.data[i] ^= 1;
        assert_false(unseal(key, SEALED_MODULE, NULL, &sealed, &plain));
        sealed.data[i] ^= 1;
    }
    for (size_t cut = 1; cut <= sealed.size; cut++) {
        struct blob part = {sealed.data, sealed.size - cut};
        assert_false(unseal(key, SEALED_MODULE, NULL, &part, &plain));
    }
    blob_free(&sealed);
    assert_true(seal(key, SEALED_FILE, "empty", "", 0, &sealed));
    assert_true(unseal(key, SEALED_FILE, "empty", &sealed, &plain));
    assert_int_equal(plain.size, 0);
    blob_free(&plain);
    blob_free(&sealed);
}

/* A layer's digest, for those who have the key and not the layer. */
/* Configuration, order, number and kind of layers: all of it belongs to the note. */
static void test_sealed_package(void **state) {
    (void)state;
    uint8_t key[PACKAGE_KEY] = {7}, other[PACKAGE_KEY] = {8};
    char note[SEALED_NOTE], config[] = "args = []", title[] = "a", elsewhere[] = "b", sealed[] = "00";
    struct layer layers[2] = {{.media = SEALED_MODULE, .sealed_digest = sealed},
                              {.media = SEALED_FILE, .title = title, .sealed_digest = sealed}};
    struct manifest m = {.layers = layers, .layer_count = 2, .config_toml = config};
    assert_false(unseal_package(key, &m));
    assert_true(seal_package(key, &m, note));
    m.sealed_package = note;
    assert_true(unseal_package(key, &m));
    assert_false(unseal_package(other, &m));
    config[8] = ' ';
    assert_false(unseal_package(key, &m));
    config[8] = ']', m.config_toml = NULL;
    assert_false(unseal_package(key, &m));
    m.config_toml = config, m.layer_count = 1;
    assert_false(unseal_package(key, &m));
    m.layer_count = 2, layers[1].title = elsewhere;
    assert_false(unseal_package(key, &m));
    layers[1].title = title, layers[1].sealed_digest = NULL;
    assert_false(unseal_package(key, &m));
    layers[1].sealed_digest = sealed, layers[0].media[0] = 'A';
    assert_false(unseal_package(key, &m));
    layers[0].media[0] = 'a';
    assert_true(unseal_package(key, &m));
    note[0] = note[0] == '0' ? '1' : '0';
    assert_false(unseal_package(key, &m));
}

static void test_sealed_digest(void **state) {
    (void)state;
    static const uint8_t sha256_abc[32] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
                                           0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
                                           0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
    uint8_t key[32] = {1}, other[32] = {2}, digest[32];
    char note[SEALED_NOTE];
    assert_true(seal_digest(key, "a", "abc", 3, note));
    assert_int_equal(strlen(note), SEALED_NOTE - 1);
    assert_true(unseal_digest(key, "a", note, digest));
    assert_memory_equal(digest, sha256_abc, 32);
    assert_false(unseal_digest(other, "a", note, digest));
    assert_false(unseal_digest(key, "b", note, digest));
    assert_false(unseal_digest(key, NULL, note, digest));
    assert_false(unseal_digest(key, "a", "", digest));
    for (size_t i = 0; note[i]; i++) {
        char was = note[i];
        note[i] = was == '0' ? '1' : '0';
        assert_false(unseal_digest(key, "a", note, digest));
        note[i] = 'A';
        assert_false(unseal_digest(key, "a", note, digest));
        note[i] = was;
    }
    note[SEALED_NOTE - 3] = 0;
    assert_false(unseal_digest(key, "a", note, digest));
}

/* Bounds of a reader that gets its layer in pieces. */
static void test_sealed_reader(void **state) {
    (void)state;
    uint8_t key[32] = {1}, out[8];
    struct blob sealed;
    assert_null(sealed_reader_new(key, SEALED_FILE, NULL, 0, SEALED_MORE - 1, out));
    assert_null(sealed_reader_new(key, SEALED_FILE, NULL, 0, SEALED_CONTENT_MAX + SEALED_MORE + 1, out));
    assert_null(sealed_reader_new(key, SEALED_FILE, out, SEALED_TITLE_MAX + 1, SEALED_MORE, out));
    assert_true(seal(key, SEALED_FILE, "f", "12345678", 8, &sealed));
    for (size_t cut = 0; cut <= sealed.size; cut++) {
        struct sealed_reader *r = sealed_reader_new(key, SEALED_FILE, (const uint8_t *)"f", 1, sealed.size, out);
        assert_true(sealed_reader_take(r, sealed.data, cut));
        assert_int_equal(sealed_reader_full(r), cut == sealed.size);
        assert_false(cut < sealed.size && sealed_reader_end(r));
        sealed_reader_free(r);
        r = sealed_reader_new(key, SEALED_FILE, (const uint8_t *)"f", 1, sealed.size, out);
        assert_true(sealed_reader_take(r, sealed.data, cut));
        assert_true(sealed_reader_take(r, sealed.data + cut, sealed.size - cut));
        assert_false(sealed_reader_take(r, sealed.data, 1));
        assert_true(sealed_reader_end(r));
        assert_memory_equal(out, "12345678", 8);
        sealed_reader_free(r);
    }
    blob_free(&sealed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_references),     cmocka_unit_test(test_paths),
        cmocka_unit_test(test_manifests),      cmocka_unit_test(test_names),
        cmocka_unit_test(test_seal),           cmocka_unit_test(test_sealed_digest),
        cmocka_unit_test(test_sealed_package), cmocka_unit_test(test_sealed_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
