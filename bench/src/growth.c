/* Memory that grows: a pool allocator that asks for more all the time, blocks of many sizes made and freed, and lists
 * walked through fresh memory. In later repetitions the same memory is used again. */
#include "bench.h"
struct node {
    struct node *next;
    uint32_t size, payload[];
};
static uint64_t kernel(void) {
    uint64_t s = 88172645463325252u, h = 0;
    struct node *lists[64] = {0};
    for (uint32_t i = 0; i < 2000000; i++) {
        uint64_t r = next_random(&s);
        struct node **list = &lists[r & 63];
        uint32_t words = (uint32_t)(r >> 8 & 31);
        if (r >> 16 & 1 || !*list) {
            struct node *n = malloc(sizeof *n + words * 4);
            if (!n) return 0;
            *n = (struct node){*list, words};
            for (uint32_t k = 0; k < words; k++)
                n->payload[k] = (uint32_t)r + k;
            *list = n;
        } else {
            struct node *n = *list;
            *list = n->next;
            free(n);
        }
    }
    uint32_t *grown = NULL, size = 0;
    for (uint32_t n = 1024; n <= 1u << 21; n = n * 3 / 2) {
        uint32_t *p = realloc(grown, n * 4);
        if (!p) return 0;
        grown = p;
        for (; size < n; size++)
            grown[size] = size * 2654435761u;
        h = mix(h, grown[n / 2]);
    }
    free(grown);
    for (int l = 0; l < 64; l++)
        for (struct node *n = lists[l], *next; n; n = next) {
            next = n->next;
            for (uint32_t k = 0; k < n->size; k++)
                h += n->payload[k];
            free(n);
        }
    return h;
}
BENCH("growth")
