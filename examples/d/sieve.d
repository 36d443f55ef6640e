/// Primes below a bound, with D as a better C (no garbage collector, no runtime).
extern (C):
int printf(const char*, ...);
int atoi(const char*);
void* calloc(size_t, size_t);

int main(int argc, char** argv) {
    int n = argc > 1 ? atoi(argv[1]) : 1000;
    auto composite = cast(ubyte*) calloc(n + 1, 1);
    int count = 0, last = 0;
    foreach (int i; 2 .. n + 1) {
        if (composite[i]) continue;
        count++;
        last = i;
        for (long j = cast(long) i * i; j <= n; j += i) composite[cast(size_t) j] = 1;
    }
    printf("%d primes up to %d, the last is %d\n", count, n, last);
    return 0;
}
