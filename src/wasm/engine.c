#include "store.h"
#include "donjon/platform.h"

struct engine *engine_new(const struct donjon_platform *p) {
    struct engine *e = p->realloc(p->ctx, NULL, sizeof *e);
    if (!e) return NULL;
    e->platform = p;
    e->types = type_registry_new(p);
    if (e->types) return e;
    p->realloc(p->ctx, e, 0);
    return NULL;
}

void engine_delete(struct engine *e) {
    if (!e) return;
    type_registry_delete(e->platform, e->types);
    e->platform->realloc(e->platform->ctx, e, 0);
}
