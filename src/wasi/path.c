/* Paths: what is acceptable as one, and resolution beneath a directory. */
#include "path.h"
#include <string.h>

wasi_errno wasi_path_check(struct wasi_path p) {
    if (p.len == 0) return WASI_ENOENT;
    if (p.len > WASI_PATH_MAX) return WASI_ENAMETOOLONG;
    if (memchr(p.bytes, 0, p.len)) return WASI_EINVAL;
    if (p.bytes[0] == '/') return WASI_ENOTCAPABLE;
    uint32_t name = 0;
    for (uint32_t i = 0; i < p.len; i++) {
        name = p.bytes[i] == '/' ? 0 : name + 1;
        if (name > WASI_NAME_MAX) return WASI_ENAMETOOLONG;
    }
    return WASI_SUCCESS;
}

static bool only_slashes(struct wasi_path p) {
    for (uint32_t i = 0; i < p.len; i++)
        if (p.bytes[i] != '/') return false;
    return true;
}

/* Splits the first component off `rest`; an empty one when only slashes are left. */
static struct wasi_path next_component(struct wasi_path *rest) {
    while (rest->len && rest->bytes[0] == '/')
        rest->bytes++, rest->len--;
    struct wasi_path c = {rest->bytes, 0};
    while (rest->len && rest->bytes[0] != '/')
        rest->bytes++, rest->len--, c.len++;
    return c;
}

/* What is still to be walked: the path, and above it the targets of the links met on the way. */
struct todo {
    struct wasi_path rest[WASI_LINK_MAX + 1];
    int top;
};

static bool nothing_left(const struct todo *t, bool *slash) {
    *slash = false;
    for (int i = t->top; i >= 0; i--) {
        if (!only_slashes(t->rest[i])) return false;
        if (t->rest[i].len) *slash = true;
    }
    return true;
}

static wasi_errno end_at(struct path_end *out, enum path_last last, void *node, bool slash) {
    *out = (struct path_end){.node = node, .last = last, .slash = slash};
    return WASI_SUCCESS;
}

wasi_errno path_resolve(const struct path_tree *t, void *base, struct wasi_path p, enum path_follow follow,
                        struct path_end *out) {
    struct todo todo = {.rest = {p}};
    void *cur = base;
    int links = 0;
    for (;;) {
        struct wasi_path c = next_component(&todo.rest[todo.top]);
        if (c.len == 0) { /* only behind a link's target: every path has a last component, which ends the walk */
            if (todo.top == 0) return WASI_ENOENT;
            todo.top--;
            continue;
        }
        bool slash;
        bool last = nothing_left(&todo, &slash);
        if (c.len == 1 && c.bytes[0] == '.') {
            if (last) return end_at(out, LAST_DOT, cur, slash);
            continue;
        }
        if (c.len == 2 && c.bytes[0] == '.' && c.bytes[1] == '.') {
            if (cur == base) return WASI_ENOTCAPABLE;
            cur = t->parent(t->ctx, cur);
            if (last) return end_at(out, LAST_DOTDOT, cur, slash);
            continue;
        }
        if (c.len > WASI_NAME_MAX) return WASI_ENAMETOOLONG;
        void *node = t->lookup(t->ctx, cur, c);
        if (!node && !last) return WASI_ENOENT;

        struct wasi_path target;
        bool go_through = !last || follow == FOLLOW_ALWAYS || (follow == FOLLOW_SLASH && slash);
        if (node && go_through && t->link_target(t->ctx, node, &target)) {
            if (++links > WASI_LINK_MAX) return WASI_ELOOP;
            if (target.len == 0) return WASI_ENOENT;
            if (target.bytes[0] == '/') return WASI_ENOTCAPABLE;
            todo.rest[++todo.top] = target;
            continue;
        }
        if (last) {
            *out = (struct path_end){.parent = cur, .node = node, .last = LAST_NAME, .name = c, .slash = slash};
            return WASI_SUCCESS;
        }
        if (!t->is_dir(t->ctx, node)) return WASI_ENOTDIR;
        cur = node;
    }
}
