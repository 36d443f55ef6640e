/* A database at work, in memory: inserts, an index, joins, aggregates, updates, text. Linked with SQLite. */
#include "bench.h"
#include "sqlite3.h"

/* A file system of which only the clock and the dice are used: everything is in memory, and the same each time. */
static int vfs_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out) {
    (void)v, (void)name, (void)f, (void)flags, (void)out;
    return SQLITE_CANTOPEN;
}
static int vfs_delete(sqlite3_vfs *v, const char *name, int sync) {
    (void)v, (void)name, (void)sync;
    return SQLITE_OK;
}
static int vfs_access(sqlite3_vfs *v, const char *name, int flags, int *out) {
    (void)v, (void)name, (void)flags;
    *out = 0;
    return SQLITE_OK;
}
static int vfs_path(sqlite3_vfs *v, const char *name, int n, char *out) {
    (void)v;
    snprintf(out, (size_t)n, "%s", name);
    return SQLITE_OK;
}
static int vfs_random(sqlite3_vfs *v, int n, char *out) {
    (void)v;
    memset(out, 42, (size_t)n);
    return n;
}
static int vfs_time(sqlite3_vfs *v, sqlite3_int64 *out) {
    (void)v;
    *out = 212000000000000;
    return SQLITE_OK;
}
int sqlite3_os_init(void) {
    static sqlite3_vfs vfs = {.iVersion = 2,
                              .szOsFile = 64,
                              .mxPathname = 100,
                              .zName = "none",
                              .xOpen = vfs_open,
                              .xDelete = vfs_delete,
                              .xAccess = vfs_access,
                              .xFullPathname = vfs_path,
                              .xRandomness = vfs_random,
                              .xCurrentTimeInt64 = vfs_time};
    return sqlite3_vfs_register(&vfs, 1);
}
int sqlite3_os_end(void) {
    return SQLITE_OK;
}

static uint64_t h;
static int row(void *p, int n, char **values, char **names) {
    (void)p, (void)names;
    for (int i = 0; i < n; i++)
        for (const char *s = values[i] ? values[i] : "-"; *s; s++)
            h = (h ^ (uint8_t)*s) * 1099511628211u;
    return 0;
}
static void run(sqlite3 *db, const char *sql) {
    char *error = NULL;
    if (sqlite3_exec(db, sql, row, NULL, &error) == SQLITE_OK) return;
    printf("%s\n", error);
    exit(1);
}

static uint64_t kernel(void) {
    sqlite3 *db;
    sqlite3_stmt *insert;
    uint64_t s = 88172645463325252u;
    h = 14695981039346656037u;
    if (sqlite3_open(":memory:", &db) != SQLITE_OK) return 0;
    run(db, "CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT, city INTEGER, born INTEGER);"
            "CREATE TABLE city(id INTEGER PRIMARY KEY, name TEXT);"
            "BEGIN;");
    sqlite3_prepare_v2(db, "INSERT INTO person(name, city, born) VALUES(?1, ?2, ?3)", -1, &insert, NULL);
    for (int i = 0; i < 30000; i++) {
        uint64_t r = next_random(&s);
        char name[32];
        int n = snprintf(name, sizeof name, "p%x-%d", (unsigned)(r >> 40), i % 97);
        sqlite3_bind_text(insert, 1, name, n, SQLITE_TRANSIENT);
        sqlite3_bind_int(insert, 2, (int)(r % 50));
        sqlite3_bind_int(insert, 3, (int)(1900 + (r >> 8) % 120));
        sqlite3_step(insert);
        sqlite3_reset(insert);
    }
    sqlite3_finalize(insert);
    run(db,
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i<49)"
        "INSERT INTO city SELECT i, 'city ' || i FROM n; COMMIT;"
        "CREATE INDEX by_city ON person(city, born);"
        "SELECT c.name, count(*), avg(p.born), max(p.name) FROM person p JOIN city c ON c.id = p.city "
        "GROUP BY c.id ORDER BY 2 DESC, 1;"
        "SELECT count(*) FROM person WHERE name LIKE '%7-4%';"
        "SELECT sum(length(replace(name, '-', '+++'))) FROM person WHERE born BETWEEN 1950 AND 1980;"
        "UPDATE person SET born = born + 1 WHERE city % 3 = 1;"
        "DELETE FROM person WHERE id % 7 = 3;"
        "SELECT a.city, count(*) FROM person a JOIN person b ON a.city = b.city AND a.born = b.born AND a.id < b.id "
        "GROUP BY a.city ORDER BY 1;"
        "SELECT name FROM person ORDER BY born DESC, name LIMIT 500;");
    sqlite3_close(db);
    return h;
}
BENCH("sqlite")
