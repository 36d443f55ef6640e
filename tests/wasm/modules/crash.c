static int __attribute__((noinline)) divide(int a, int b) {
    return a / b;
}

int run(int n) {
    int sum = 0;
    for (int i = 3; i >= n; i--)
        sum += divide(100, i);
    return sum;
}
