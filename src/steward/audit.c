/* The audit log: append-only JSON lines, each with the digest of the one before. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/evp.h>

#include "steward.h"

void steward_hex(const uint8_t *bytes, size_t size, char *out) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 15];
    }
    *out = 0;
}

static bool digest_of(const void *data, size_t size, uint8_t out[32]) {
    return EVP_Digest(data, size, out, NULL, EVP_sha256(), NULL) == 1;
}

/* ---- Checking ---- */

struct checking {
    struct steward_audit_report *report;
    const uint8_t *wanted;
    char *error;
};

static bool wrong(struct checking *c, const char *what) {
    snprintf(c->error, SETTINGS_ERROR, "line %llu: %s", (unsigned long long)c->report->entries + 1, what);
    return false;
}

/* One line without its newline: seq and prev as they must be. */
static bool check_line(struct checking *c, const char *line, size_t size) {
    struct steward_audit_report *r = c->report;
    char prev[65];
    steward_hex(r->head, sizeof r->head, prev);
    json_t *entry = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
    if (!entry) return wrong(c, "not a JSON object");
    const json_t *seq = json_object_get(entry, "seq");
    const char *found = json_string_value(json_object_get(entry, "prev")),
               *time = json_string_value(json_object_get(entry, "time"));
    bool ok = true;
    if (!json_is_integer(seq) || (uint64_t)json_integer_value(seq) != r->entries)
        ok = wrong(c, r->entries ? "seq is not one more than the line before: a line was removed or put in"
                                 : "expected seq 0: lines before this one were removed, or this is no log's beginning");
    else if (!found || strcmp(found, prev))
        ok = wrong(c, "prev is not the digest of the line before: a line was changed, removed or put in");
    else if (!time || strlen(time) != 20)
        ok = wrong(c, "time is missing");
    else {
        if (!r->entries) snprintf(r->first, sizeof r->first, "%s", time);
        snprintf(r->last, sizeof r->last, "%s", time);
        const char *before = json_string_value(json_object_get(entry, "before"));
        if (!r->entries && before && strlen(before) == 64) snprintf(r->before, sizeof r->before, "%s", before);
    }
    json_decref(entry);
    if (!ok) return false;
    if (!digest_of(line, size, r->head)) return wrong(c, "no digest");
    if (c->wanted && !memcmp(c->wanted, r->head, sizeof r->head)) r->found = true;
    r->entries++;
    return true;
}

bool steward_audit_check(int fd, const uint8_t wanted[32], struct steward_audit_report *report,
                         char error[SETTINGS_ERROR]) {
    static char buffer[2 * AUDIT_LINE_MAX];
    struct checking c = {report, wanted, error};
    size_t have = 0;
    off_t at = 0;
    memset(report, 0, sizeof *report);
    for (;;) {
        ssize_t got = pread(fd, buffer + have, sizeof buffer - have, at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return wrong(&c, strerror(errno));
        at += got;
        have += (size_t)got;
        size_t from = 0;
        for (char *end; (end = memchr(buffer + from, '\n', have - from)); from = (size_t)(end - buffer) + 1) {
            size_t size = (size_t)(end - buffer) - from;
            if (size >= AUDIT_LINE_MAX) return wrong(&c, "longer than any entry");
            if (!check_line(&c, buffer + from, size)) return false;
            report->end += size + 1;
        }
        memmove(buffer, buffer + from, have - from);
        have -= from;
        if (have >= AUDIT_LINE_MAX) return wrong(&c, "longer than any entry");
        if (got == 0) break;
    }
    report->torn = have > 0;
    return true;
}

/* ---- Appending ---- */

static bool broken(struct steward_audit *a, const char *what) {
    snprintf(a->broken, sizeof a->broken, "%s: %s", what, strerror(errno));
    return false;
}

/* A write that fails half-way would leave a line nobody can read: it is taken back, and if even that fails the next
 * start will. Either way this log is at its end: a disk that failed once is not trusted to hold the rest. */
static bool append(struct steward_audit *a, const char *line, size_t size) {
    struct stat st;
    if (fstat(a->fd, &st)) return broken(a, "audit log");
    ssize_t put = write(a->fd, line, size);
    if (put == (ssize_t)size && !fsync(a->fd)) return true;
    if (put >= 0 && put < (ssize_t)size) errno = ENOSPC;
    broken(a, "audit log");
    if (put > 0 && ftruncate(a->fd, st.st_size)) return false; /* the file stays torn; the next start repairs it */
    return false;
}

static void time_text(int64_t now, char out[24]) {
    struct tm tm;
    time_t t = (time_t)now;
    if (!gmtime_r(&t, &tm) || !strftime(out, 24, "%Y-%m-%dT%H:%M:%SZ", &tm)) snprintf(out, 24, "?");
}

/* The fields every line has stand first and last, so that a person finds them. */
static json_t *complete(const struct steward_audit *a, int64_t now, json_t *entry) {
    char time[24], prev[65];
    time_text(now, time);
    steward_hex(a->head, sizeof a->head, prev);
    json_t *line = json_pack("{s:I, s:s}", "seq", (json_int_t)a->entries, "time", time);
    if (!line || json_object_update(line, entry) || json_object_set_new(line, "prev", json_string(prev))) {
        json_decref(line);
        return NULL;
    }
    return line;
}

bool steward_audit_append(struct steward_audit *a, int64_t now, json_t *entry) {
    json_t *line = entry && !*a->broken ? complete(a, now, entry) : NULL;
    char *text = line ? json_dumps(line, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    size_t size = text ? strlen(text) : 0;
    json_decref(entry);
    json_decref(line);
    uint8_t head[32];
    bool ok = text && size < AUDIT_LINE_MAX && digest_of(text, size, head);
    if (ok) {
        text[size] = '\n'; /* over the terminator: one write, one line */
        ok = append(a, text, size + 1);
    } else if (!*a->broken)
        snprintf(a->broken, sizeof a->broken, "audit log: an entry could not be made");
    free(text);
    if (!ok) return false;
    memcpy(a->head, head, sizeof head);
    a->entries++;
    return true;
}

/* ---- Opening ---- */

/* A crash between write and answer leaves a part of a line. Its certificate was never given out. */
static bool cut(struct steward_audit *a, const struct steward_audit_report *report, int64_t now,
                char error[SETTINGS_ERROR]) {
    char part[512];
    ssize_t got = pread(a->fd, part, sizeof part - 1, (off_t)report->end);
    if (got < 0 || ftruncate(a->fd, (off_t)report->end)) {
        snprintf(error, SETTINGS_ERROR, "cannot cut off its unfinished last line: %s", strerror(errno));
        return false;
    }
    for (ssize_t i = 0; i < got; i++)
        if (part[i] < 0x20 || part[i] > 0x7e) part[i] = '?';
    part[got] = 0;
    if (steward_audit_append(a, now, json_pack("{s:s, s:s}", "event", "recovered", "unfinished", part))) return true;
    snprintf(error, SETTINGS_ERROR, "%s", a->broken);
    return false;
}

/* The name of a new file must survive a crash, too. */
static bool sync_directory(const char *path) {
    char *copy = strdup(path), *slash = copy ? strrchr(copy, '/') : NULL;
    if (slash) slash[slash == copy] = 0;
    int fd = copy ? open(slash ? copy : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    bool ok = fd >= 0 && !fsync(fd);
    if (fd >= 0) close(fd);
    free(copy);
    return ok;
}

bool steward_audit_open(struct steward_audit *a, const char *path, int64_t now, char error[SETTINGS_ERROR]) {
    struct steward_audit_report report;
    struct stat st;
    memset(a, 0, sizeof *a);
    a->fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (a->fd < 0 || fstat(a->fd, &st)) {
        snprintf(error, SETTINGS_ERROR, "%s: %s", path, strerror(errno));
        return false;
    }
    char why[SETTINGS_ERROR] = "";
    bool ok = false;
    if (!S_ISREG(st.st_mode))
        snprintf(why, sizeof why, "expected a file");
    else if (flock(a->fd, LOCK_EX | LOCK_NB))
        snprintf(why, sizeof why, "another steward writes to it");
    else if (!sync_directory(path))
        snprintf(why, sizeof why, "cannot flush its directory: %s", strerror(errno));
    else
        ok = steward_audit_check(a->fd, NULL, &report, why);
    if (ok) {
        a->entries = report.entries;
        memcpy(a->head, report.head, sizeof a->head);
        ok = !report.torn || cut(a, &report, now, why);
    }
    if (ok) return true;
    snprintf(error, SETTINGS_ERROR, "%s: %.400s", path, why);
    steward_audit_close(a);
    return false;
}

/* Whether the file that is open is still the one of that name. */
static bool still_there(const struct steward_audit *a, const char *path) {
    struct stat open, named;
    return !fstat(a->fd, &open) && !lstat(path, &named) && open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

bool steward_audit_reopen(struct steward_audit *a, const char *path, int64_t now, char error[SETTINGS_ERROR]) {
    struct steward_audit next;
    char head[65];
    if (*a->broken || still_there(a, path)) return true;
    if (!steward_audit_open(&next, path, now, error)) return false;
    steward_hex(a->head, sizeof a->head, head);
    bool ok = next.entries == 0;
    if (!ok)
        snprintf(error, SETTINGS_ERROR, "%.300s: another log; the audit log is not gone on with there", path);
    else if (!steward_audit_append(&next, now,
                                   json_pack("{s:s, s:I, s:s}", "event", "continued", "entries", (json_int_t)a->entries,
                                             "before", head))) {
        snprintf(error, SETTINGS_ERROR, "%.300s: %.190s", path, next.broken);
        ok = false;
    }
    steward_audit_close(ok ? a : &next);
    if (ok) *a = next;
    return ok;
}

void steward_audit_close(struct steward_audit *a) {
    if (a->fd >= 0) close(a->fd);
    a->fd = -1;
}
