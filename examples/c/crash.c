/* Ends in a trap: what a bug looks like from outside (a wasm backtrace, exit code 134). */
#include <stdio.h>
#include <stdlib.h>

struct account {
    const char *owner;
    long balance;
};

static long average(const struct account *a, long n) {
    long sum = 0;
    for (long i = 0; i < n; i++)
        sum += a[i].balance;
    return sum / n;
}

int main(int argc, char **argv) {
    (void)argv;
    struct account accounts[] = {{"ada", 120}, {"grace", 80}};
    printf("average: %ld\n", average(accounts, 2));
    printf("average of none: %ld\n", average(accounts, argc - 1));
    return 0;
}
