/* What libcrypto would use of the C library and a keep has not: shared objects and names of hosts. Defined here, these
 * keep the C library's dynamic loader and resolver out of the program. All of them fail. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stddef.h>

void *dlopen(const char *file, int mode) {
    (void)file, (void)mode;
    return NULL;
}

void *dlsym(void *restrict handle, const char *restrict name) {
    (void)handle, (void)name;
    return NULL;
}

int dlclose(void *handle) {
    (void)handle;
    return -1;
}

char *dlerror(void) {
    static char text[] = "there are no shared objects in a keep";
    return text;
}

int dladdr(const void *address, Dl_info *info) {
    (void)address, (void)info;
    return 0;
}

int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict result) {
    (void)node, (void)service, (void)hints, (void)result;
    return EAI_FAIL;
}

void freeaddrinfo(struct addrinfo *list) {
    (void)list;
}

const char *gai_strerror(int error) {
    (void)error;
    return "there are no names in a keep";
}

int getnameinfo(const struct sockaddr *restrict address, socklen_t size, char *restrict host, socklen_t host_size,
                char *restrict service, socklen_t service_size, int flags) {
    (void)address, (void)size, (void)host, (void)host_size, (void)service, (void)service_size, (void)flags;
    return EAI_FAIL;
}

struct hostent *gethostbyname(const char *name) {
    (void)name;
    return NULL;
}
