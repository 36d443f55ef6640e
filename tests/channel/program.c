/* The program that tests deploy. One word per thing to do. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void show_file(const char *path) {
    char line[4096];
    FILE *f = fopen(path, "r");
    if (!f) {
        printf("%s: %s\n", path, strerror(errno));
        return;
    }
    size_t n = fread(line, 1, sizeof line, f);
    printf("%s: %.*s\n", path, (int)n, line);
    fclose(f);
}

/* Only how long it is and the sum of its bytes: what it is stays in here. */
static void weigh(const char *what, const char *s) {
    unsigned sum = 0, n = 0;
    for (; s && *s; s++, n++)
        sum = sum * 31 + (unsigned char)*s;
    printf("%s: %u bytes, %u\n", what, n, sum);
}

static void weigh_file(const char *path) {
    char text[4096] = "";
    FILE *f = fopen(path, "r");
    if (f) (void)!fread(text, 1, sizeof text - 1, f);
    if (f) fclose(f);
    weigh(path, f ? text : NULL);
}

static void cat(void) {
    char bytes[65536];
    for (ssize_t n; (n = read(0, bytes, sizeof bytes)) > 0;)
        for (ssize_t done = 0, k; done < n; done += k)
            if ((k = write(1, bytes + done, (size_t)(n - done))) <= 0) exit(3);
}

/* Computing without a call to anybody, long (seconds) or for ever. */
static unsigned long long nest(unsigned long long rounds) {
    unsigned long long a = 1, b = 2;
    double x = 0.5, y = 1;
    for (unsigned long long i = 0; i != rounds; i++)
        for (unsigned j = 0; j < 1000; j++) {
            a = a * 6364136223846793005u + i;
            b ^= (a >> 13) + j;
            x = x * 0.75 + (double)(b & 0xffff);
            y = y / 1.0001 + x;
        }
    return a ^ b ^ (unsigned long long)(x + y);
}

static unsigned long long fib(unsigned n) {
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static unsigned long long copy(unsigned long long rounds) {
    static char from[1 << 20], to[1 << 20];
    for (unsigned long long i = 0; i != rounds; i++) {
        memset(from, (int)i, sizeof from);
        memmove(to, from, sizeof to);
        __asm__ volatile("" ::: "memory");
    }
    return (unsigned long long)to[77];
}

static void compute(const char *what, unsigned long long n) {
    unsigned long long r = 0;
    if (!strcmp(what, "nest")) r = nest(n);
    if (!strcmp(what, "fib")) r = fib((unsigned)n);
    if (!strcmp(what, "copy")) r = copy(n);
    printf("%s %llu\n", what, r);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(a, "say")) i++, printf("%s\n", v);
        if (!strcmp(a, "err")) i++, fprintf(stderr, "%s\n", v);
        if (!strcmp(a, "file")) i++, show_file(v);
        if (!strcmp(a, "env")) i++, printf("%s=%s\n", v, getenv(v) ? getenv(v) : "");
        if (!strcmp(a, "weigh-env")) i++, weigh(v, getenv(v));
        if (!strcmp(a, "weigh-file")) i++, weigh_file(v);
        if (!strcmp(a, "cat")) cat();
        if (!strcmp(a, "fill"))
            i++, ({
                for (int k = 0; k < atoi(v); k++)
                    printf("%063d\n", k);
            });
        if (!strcmp(a, "tick"))
            i++, ({
                for (int k = 0; k < atoi(v); k++) {
                    printf("tick %d\n", k);
                    usleep(20000);
                }
            });
        if (!strcmp(a, "work"))
            i++, ({ /* computes, and looks at the clock now and then */
                    time_t end = time(NULL) + atoi(v);
                    volatile unsigned long x = 0;
                    while (time(NULL) < end)
                        for (int k = 0; k < 1000000; k++)
                            x += (unsigned long)k;
            });
        if (!strcmp(a, "spin"))
            for (volatile int x = 0;; x++) {
            }
        if (!strcmp(a, "compute") && i + 2 < argc) i += 2, compute(argv[i - 1], strtoull(argv[i], NULL, 0));
        if (!strcmp(a, "trap")) __builtin_trap();
        if (!strcmp(a, "exit")) return atoi(v);
    }
    return 0;
}
