/* The audit log: chain, tampering, crashes, full disks. */
#include "support.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

static char path[96], directory[64], error[SETTINGS_ERROR];
static struct steward_audit audit;

static int set_up(void **state) {
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/audit-XXXXXX");
    if (!mkdtemp(directory)) return -1;
    snprintf(path, sizeof path, "%s/audit.jsonl", directory);
    return steward_audit_open(&audit, path, TEST_NOW, error) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    steward_audit_close(&audit);
    test_directory_free(directory);
    return 0;
}

static void fill(int n) {
    for (int i = 0; i < n; i++)
        assert_true(steward_audit_append(&audit, TEST_NOW + i, json_pack("{s:s, s:i}", "event", "test", "n", i)));
}

static bool whole(const uint8_t *wanted, struct steward_audit_report *r) {
    int fd = open(path, O_RDONLY);
    bool ok = steward_audit_check(fd, wanted, r, error);
    close(fd);
    return ok;
}

static char *content(size_t *size) {
    FILE *f = fopen(path, "r");
    char *text = malloc(1 << 20);
    *size = fread(text, 1, 1 << 20, f);
    fclose(f);
    return text;
}

static void put(const char *text, size_t size) {
    FILE *f = fopen(path, "w");
    fwrite(text, 1, size, f);
    fclose(f);
}

static void test_chain(void **state) {
    (void)state;
    struct steward_audit_report r;
    fill(5);
    uint8_t head[32];
    memcpy(head, audit.head, 32);
    fill(5);
    assert_true(whole(head, &r));
    assert_int_equal(r.entries, 10);
    assert_true(r.found && !r.torn);
    assert_memory_equal(r.head, audit.head, 32);
    head[0] ^= 1;
    assert_true(whole(head, &r));
    assert_false(r.found);
}

/* Every byte of every line but the last matters to the chain; of the last to its head. */
static void test_every_byte(void **state) {
    (void)state;
    struct steward_audit_report r;
    fill(4);
    steward_audit_close(&audit);
    size_t size;
    char *text = content(&size);
    for (size_t i = 0; i < size; i++) {
        text[i] ^= 1;
        put(text, size);
        bool ok = whole(NULL, &r);
        assert_false(ok && !memcmp(r.head, audit.head, 32) && r.entries == 4 && !r.torn);
        text[i] ^= 1;
    }
    free(text);
}

static void test_lines(void **state) {
    (void)state;
    struct steward_audit_report r;
    fill(4);
    steward_audit_close(&audit);
    size_t size;
    char *text = content(&size), *second = memchr(text, '\n', size) + 1,
         *third = memchr(second, '\n', size - (size_t)(second - text)) + 1;
    /* Without the second line. */
    char *without = malloc(size);
    memcpy(without, text, (size_t)(second - text));
    memcpy(without + (second - text), third, size - (size_t)(third - text));
    put(without, size - (size_t)(third - second));
    assert_false(whole(NULL, &r));
    assert_non_null(strstr(error, "line 2"));
    /* Without the first. */
    put(second, size - (size_t)(second - text));
    assert_false(whole(NULL, &r));
    /* A line that is longer than any. */
    char *huge = malloc(AUDIT_LINE_MAX + 100);
    memset(huge, 'x', AUDIT_LINE_MAX + 99);
    huge[AUDIT_LINE_MAX + 99] = '\n';
    put(huge, AUDIT_LINE_MAX + 100);
    assert_false(whole(NULL, &r));
    put(text, size);
    assert_true(whole(NULL, &r));
    free(text), free(without), free(huge);
}

static void test_reopens(void **state) {
    (void)state;
    fill(3);
    struct steward_audit second;
    assert_false(steward_audit_open(&second, path, TEST_NOW, error)); /* locked */
    assert_non_null(strstr(error, "another steward"));
    steward_audit_close(&audit);
    assert_true(steward_audit_open(&audit, path, TEST_NOW, error));
    assert_int_equal(audit.entries, 3);
    fill(1);
    struct steward_audit_report r;
    assert_true(whole(NULL, &r) && r.entries == 4);
    /* A log that somebody changed is not gone on with. */
    steward_audit_close(&audit);
    size_t size;
    char *text = content(&size);
    text[20] ^= 1;
    put(text, size);
    free(text);
    assert_false(steward_audit_open(&audit, path, TEST_NOW, error));
}

static void test_crash(void **state) {
    (void)state;
    fill(3);
    steward_audit_close(&audit);
    size_t size;
    char *text = content(&size);
    for (size_t cut = 1; cut < 60; cut += 7) {
        put(text, size - cut);
        assert_true(steward_audit_open(&audit, path, TEST_NOW, error));
        struct steward_audit_report r;
        assert_true(whole(NULL, &r));
        assert_int_equal(r.entries, 3); /* two, and one that says what happened */
        steward_audit_close(&audit);
    }
    free(text);
}

/* Renamed by logrotate: what follows goes on in a new file, and says of what. */
static void test_rotation(void **state) {
    (void)state;
    struct steward_audit_report old, new;
    char renamed[128], head[65];
    snprintf(renamed, sizeof renamed, "%s.1", path);
    fill(3);
    assert_true(steward_audit_reopen(&audit, path, TEST_NOW, error)); /* nothing to be done */
    assert_int_equal(audit.entries, 3);
    assert_int_equal(rename(path, renamed), 0);
    fill(1); /* nobody has told it yet: goes with the old one */
    steward_hex(audit.head, 32, head);
    assert_true(steward_audit_reopen(&audit, path, TEST_NOW, error));
    assert_int_equal(audit.entries, 1);
    fill(2);
    assert_true(whole(NULL, &new));
    assert_int_equal(new.entries, 3);
    assert_string_equal(new.before, head);
    int fd = open(renamed, O_RDONLY);
    assert_true(steward_audit_check(fd, NULL, &old, error));
    close(fd);
    assert_int_equal(old.entries, 4);
    assert_string_equal(old.before, "");

    /* Somebody else's file in its place, and no file to be made: the open one stays. */
    assert_int_equal(rename(path, renamed), 0);
    put("{}\n", 3);
    assert_false(steward_audit_reopen(&audit, path, TEST_NOW, error));
    unlink(path);
    assert_int_equal(symlink(renamed, path), 0);
    assert_false(steward_audit_reopen(&audit, path, TEST_NOW, error));
    unlink(path);
    fill(1);
    assert_int_equal(audit.entries, 4);
    /* A new one that cannot be written: neither is its entry lost, since there is none. */
    struct rlimit limit = {10, RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    assert_false(steward_audit_reopen(&audit, path, TEST_NOW, error));
    setrlimit(RLIMIT_FSIZE, &none);
    unlink(path);
    fill(1);
    assert_int_equal(audit.entries, 5);
    /* A log that is broken is not mended by another. */
    snprintf(audit.broken, sizeof audit.broken, "broken");
    assert_true(steward_audit_reopen(&audit, path, TEST_NOW, error));
    assert_int_equal(access(path, F_OK), -1);
}

/* A disk that fills up in the middle of a line: nothing half remains, and nothing is recorded any more. */
static void test_full(void **state) {
    (void)state;
    fill(2);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    struct rlimit limit = {(rlim_t)st.st_size + 20, RLIM_INFINITY}, none = {RLIM_INFINITY, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    assert_false(steward_audit_append(&audit, TEST_NOW, json_pack("{s:s}", "event", "test")));
    setrlimit(RLIMIT_FSIZE, &none);
    assert_false(steward_audit_append(&audit, TEST_NOW, json_pack("{s:s}", "event", "test")));
    assert_true(*audit.broken);
    struct steward_audit_report r;
    assert_true(whole(NULL, &r));
    assert_true(r.entries == 2 && !r.torn);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(chain), TEST(every_byte), TEST(lines), TEST(reopens), TEST(crash), TEST(full), TEST(rotation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
