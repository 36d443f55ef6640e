/* What libcrypto would use of the C library and a keep has not: shared objects, names of hosts, files of time zones.
 * Defined here, these keep the C library's dynamic loader, resolver and zone reader out of the program. All but the
 * last fail. */
#define _GNU_SOURCE
#include <cbor.h>
#include <dlfcn.h>
#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

void *dlopen(const char *file, int mode) {
    (void)file, (void)mode;
    return NULL;
}

void *dlsym(void *restrict handle, const char *restrict name) {
    (void)handle, (void)name;
    return NULL;
}

int dlclose(void *handle) {
    (void)handle;
    return -1;
}

char *dlerror(void) {
    static char text[] = "there are no shared objects in a keep";
    return text;
}

int dladdr(const void *address, Dl_info *info) {
    (void)address, (void)info;
    return 0;
}

int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict result) {
    (void)node, (void)service, (void)hints, (void)result;
    return EAI_FAIL;
}

void freeaddrinfo(struct addrinfo *list) {
    (void)list;
}

const char *gai_strerror(int error) {
    (void)error;
    return "there are no names in a keep";
}

int getnameinfo(const struct sockaddr *restrict address, socklen_t size, char *restrict host, socklen_t host_size,
                char *restrict service, socklen_t service_size, int flags) {
    (void)address, (void)size, (void)host, (void)host_size, (void)service, (void)service_size, (void)flags;
    return EAI_FAIL;
}

struct hostent *gethostbyname(const char *name) {
    (void)name;
    return NULL;
}

struct cbor_decoder_result cbor_stream_decode(cbor_data source, size_t size, const struct cbor_callbacks *callbacks,
                                              void *context) {
    (void)source, (void)size, (void)callbacks, (void)context;
    return (struct cbor_decoder_result){.status = CBOR_DECODER_ERROR};
}

size_t cbor_encode_bytestring_start(size_t length, unsigned char *buffer, size_t size) {
    (void)length, (void)buffer, (void)size;
    return 0; /* no room */
}

/* The C library's would open /etc/localtime first. Days since 0000-03-01 fall into cycles of 400 years (146097 days),
 * and a year that begins in March has its leap day last. */
struct tm *gmtime_r(const time_t *restrict at, struct tm *restrict out) {
    enum { DAY = 86400, CYCLE = 146097, EPOCH = 719468 /* 1970-01-01 */, THURSDAY = 4 };
    const int64_t most = INT64_C(67767976233532799); /* the last second of the year that fits an int */
    if (*at > most || *at < -most) return NULL;
    int64_t days = *at / DAY - (*at % DAY < 0), second = *at - days * DAY, shifted = days + EPOCH;
    int64_t cycle = shifted / CYCLE - (shifted % CYCLE < 0), day = shifted - cycle * CYCLE;
    int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    int64_t in_year = day - (365 * year + year / 4 - year / 100), month = (5 * in_year + 2) / 153; /* 0: March */
    bool late = month >= 10; /* January, February */
    year += cycle * 400 + late;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    *out = (struct tm){.tm_sec = (int)(second % 60),
                       .tm_min = (int)(second / 60 % 60),
                       .tm_hour = (int)(second / 3600),
                       .tm_mday = (int)(in_year - (153 * month + 2) / 5 + 1),
                       .tm_mon = (int)(late ? month - 10 : month + 2),
                       .tm_year = (int)(year - 1900),
                       .tm_wday = (int)(((days + THURSDAY) % 7 + 7) % 7),
                       .tm_yday = (int)(late ? in_year - 306 : in_year + 59 + leap),
                       .tm_zone = "UTC"};
    return out;
}

/* The other way; as the C library's, it puts the fields into their ranges. */
time_t timegm(struct tm *at) {
    int64_t month = at->tm_mon, year = (int64_t)at->tm_year + 1900 + month / 12 - (month % 12 < 0);
    month = (month % 12 + 12) % 12;
    int64_t shifted = (month + 10) % 12, march = year - (month < 2); /* years that begin in March */
    int64_t cycle = march / 400 - (march % 400 < 0), in_cycle = march - cycle * 400;
    int64_t days = cycle * 146097 + in_cycle * 365 + in_cycle / 4 - in_cycle / 100 + (153 * shifted + 2) / 5 +
                   at->tm_mday - 1 - 719468;
    time_t seconds = (time_t)(((days * 24 + at->tm_hour) * 60 + at->tm_min) * 60 + at->tm_sec);
    return gmtime_r(&seconds, at) ? seconds : (time_t)-1;
}
