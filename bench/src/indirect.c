/* Indirect calls: a table of small operations in a fixed and in a random order, a sort by callback, objects with
 * virtual functions. */
#include "bench.h"
typedef uint32_t operation(uint32_t, uint32_t);
NOINLINE static uint32_t op_add(uint32_t a, uint32_t b) {
    return a + b;
}
NOINLINE static uint32_t op_xor(uint32_t a, uint32_t b) {
    return a ^ b;
}
NOINLINE static uint32_t op_mul(uint32_t a, uint32_t b) {
    return a * (b | 1);
}
NOINLINE static uint32_t op_rot(uint32_t a, uint32_t b) {
    return a << (b & 31) | a >> (-b & 31);
}
static operation *const table[4] = {op_add, op_xor, op_mul, op_rot};

struct shape {
    const struct shape_class *class;
    uint32_t w, h;
};
struct shape_class {
    uint32_t (*area)(const struct shape *);
    void (*grow)(struct shape *, uint32_t);
};
static uint32_t box_area(const struct shape *s) {
    return s->w * s->h;
}
static uint32_t tri_area(const struct shape *s) {
    return s->w * s->h / 2;
}
static void box_grow(struct shape *s, uint32_t n) {
    s->w += n & 3, s->h ^= n & 7;
}
static void tri_grow(struct shape *s, uint32_t n) {
    s->h += n & 1, s->w ^= n & 15;
}
static const struct shape_class classes[2] = {{box_area, box_grow}, {tri_area, tri_grow}};
static struct shape shapes[1024];

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}
static uint32_t items[60000];
NOINLINE static void heap_sort(uint32_t *v, int n, int (*less)(const void *, const void *)) {
    for (int end = n, start = n / 2; end > 1;) {
        if (start)
            start--;
        else {
            uint32_t t = v[--end];
            v[end] = v[0];
            v[0] = t;
        }
        for (int root = start, child; (child = 2 * root + 1) < end; root = child) {
            if (child + 1 < end && less(&v[child], &v[child + 1]) < 0) child++;
            if (less(&v[root], &v[child]) >= 0) break;
            uint32_t t = v[root];
            v[root] = v[child];
            v[child] = t;
        }
    }
}

static uint64_t kernel(void) {
    uint64_t s = 88172645463325252u;
    uint32_t x = 1;
    for (uint32_t i = 0; i < 20000000; i++)
        x = table[i & 3](x, i);
    for (uint32_t i = 0; i < 2000000; i++)
        x = table[next_random(&s) >> 20 & 3](x, i);
    for (int i = 0; i < 1024; i++)
        shapes[i] = (struct shape){&classes[next_random(&s) & 1], (uint32_t)i, 7};
    for (uint32_t r = 0; r < 1000; r++)
        for (int i = 0; i < 1024; i++) {
            shapes[i].class->grow(&shapes[i], r);
            x += shapes[i].class->area(&shapes[i]);
        }
    for (int i = 0; i < 60000; i++)
        items[i] = (uint32_t)next_random(&s);
    heap_sort(items, 60000, ascending);
    for (int i = 0; i < 60000; i += 100)
        x = x * 31 + items[i];
    return x;
}
BENCH("indirect")
