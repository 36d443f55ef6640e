/* sock_*: on the sockets that the program was given. */
#include "context.h"

/* A directory is no candidate for a socket at all (WASI_EBADF, which is also what a program sees that has no such
 * descriptor); anything else that is none is WASI_ENOTSOCK, before rights are looked at. */
static wasi_errno get_socket(struct call *c, uint64_t rights, struct descriptor **out) {
    struct descriptor *d;
    wasi_errno e = fd_get(c->w, arg32(c, 0), 0, &d);
    if (e) return e;
    if (d->file->filetype == WASI_FILETYPE_DIRECTORY) return WASI_EBADF;
    if (d->file->filetype != WASI_FILETYPE_SOCKET_STREAM && d->file->filetype != WASI_FILETYPE_SOCKET_DGRAM)
        return WASI_ENOTSOCK;
    *out = d;
    return (d->rights & rights) == rights ? WASI_SUCCESS : WASI_ENOTCAPABLE;
}

wasi_errno call_sock_accept(struct call *c) {
    struct descriptor *d;
    wasi_errno e = get_socket(c, WASI_RIGHT_SOCK_ACCEPT, &d);
    if (e) return e;
    uint32_t flags = arg32(c, 1);
    if (flags & ~(uint32_t)WASI_FDFLAG_NONBLOCK) return WASI_EINVAL;
    uint8_t *result = guest(c, arg32(c, 2), 4);
    if (!result) return WASI_EFAULT;
    if (!d->file->ops->accept) return WASI_EINVAL; /* accept(2): not listening */
    uint32_t fd;
    e = fd_reserve(c->w, &fd);
    if (e) return e;
    d = &c->w->fds[arg32(c, 0)]; /* the table may have moved */
    struct wasi_file *file;
    e = d->file->ops->accept(d->file, d->fdflags, (uint16_t)flags, &file);
    if (e) return e;
    fd_install(c->w, fd, file, d->inheriting, 0, (uint16_t)flags);
    store32(result, fd);
    return WASI_SUCCESS;
}

wasi_errno call_sock_recv(struct call *c) {
    struct descriptor *d;
    wasi_errno e = get_socket(c, WASI_RIGHT_FD_READ, &d);
    if (e) return e;
    uint32_t flags = arg32(c, 3), n;
    if (flags & ~(uint32_t)WASI_RI_ALL) return WASI_EINVAL;
    uint8_t *result = guest(c, arg32(c, 4), 4), *roflags_result = guest(c, arg32(c, 5), 2);
    if (!result || !roflags_result) return WASI_EFAULT;
    e = guest_iov(c, arg32(c, 1), arg32(c, 2), &n);
    if (e) return e;
    if (!d->file->ops->recv) return WASI_ENOTSOCK;
    size_t done = 0;
    uint16_t roflags = 0;
    if (n) e = d->file->ops->recv(d->file, c->w->iov, n, (uint16_t)flags, d->fdflags, &done, &roflags);
    if (e) return e;
    store32(result, (uint32_t)done);
    store16(roflags_result, roflags);
    return WASI_SUCCESS;
}

wasi_errno call_sock_send(struct call *c) {
    struct descriptor *d;
    wasi_errno e = get_socket(c, WASI_RIGHT_FD_WRITE, &d);
    if (e) return e;
    if (arg32(c, 3)) return WASI_EINVAL; /* siflags: none are defined */
    uint32_t n;
    uint8_t *result = guest(c, arg32(c, 4), 4);
    if (!result) return WASI_EFAULT;
    e = guest_iov(c, arg32(c, 1), arg32(c, 2), &n);
    if (e) return e;
    if (!d->file->ops->send) return WASI_ENOTSOCK;
    size_t done = 0;
    if (n) e = d->file->ops->send(d->file, c->w->iov, n, d->fdflags, &done);
    if (!e) store32(result, (uint32_t)done);
    return e;
}

wasi_errno call_sock_shutdown(struct call *c) {
    struct descriptor *d;
    wasi_errno e = get_socket(c, WASI_RIGHT_SOCK_SHUTDOWN, &d);
    if (e) return e;
    uint32_t how = arg32(c, 1);
    if (how == 0 || how & ~(uint32_t)WASI_SHUT_ALL) return WASI_EINVAL;
    return d->file->ops->shutdown ? d->file->ops->shutdown(d->file, (uint8_t)how) : WASI_ENOTSOCK;
}
