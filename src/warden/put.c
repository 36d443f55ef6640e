/* Files for the program, put into its in-memory file system. */
#include "warden.h"
#include <string.h>

static wasi_errno make_directories(struct wasi_file *root, const char *path) {
    for (size_t i = 1; path[i]; i++) {
        if (path[i] != '/') continue;
        wasi_errno error = root->ops->create_directory(root, (struct wasi_path){path, (uint32_t)i});
        if (error != WASI_SUCCESS && error != WASI_EEXIST) return error;
    }
    return WASI_SUCCESS;
}

wasi_errno put_file(struct wasi_file *root, const char *path, const void *content, size_t size) {
    struct wasi_open how = {.oflags = WASI_OFLAG_CREAT | WASI_OFLAG_TRUNC, .access = WASI_ACCESS_WRITE};
    struct wasi_path at = {path, (uint32_t)strlen(path)};
    struct wasi_file *f = NULL;
    uint64_t offset = 0;
    wasi_errno error = make_directories(root, path);
    if (error == WASI_SUCCESS) error = root->ops->open(root, at, &how, &f);
    if (error != WASI_SUCCESS) return error;
    for (size_t done = 0, piece; error == WASI_SUCCESS && done < size; done += piece) {
        struct wasi_iov iov = {(uint8_t *)(uintptr_t)content + done, size - done};
        error = f->ops->write_at(f, &iov, 1, &offset, 0, &piece);
        if (error == WASI_SUCCESS && piece == 0) error = WASI_ENOSPC;
    }
    wasi_file_unref(f);
    return error;
}
