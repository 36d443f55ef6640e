/* A program in the warden's place that dies by a bad pointer, a few calls deep. */
#include <stdlib.h>

__attribute__((noinline)) static int dies_inside(volatile int *p, int depth) {
    return depth ? dies_inside(p, depth - 1) + *p : *p + 1;
}
__attribute__((noinline)) static int calls_it(volatile int *p) {
    return dies_inside(p, 2) + 1;
}

int main(void) {
    return calls_it((volatile int *)0x123450);
}
