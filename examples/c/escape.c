/* Tries to look outside: what a program in a keep sees of the machine around it. Exits 0 when every door is shut. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int open_doors;

static void try_open(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd < 0) {
        printf("  shut: %-40s %s\n", path, strerror(errno));
        return;
    }
    printf("  OPEN: %s\n", path);
    open_doors++;
    close(fd);
}

int main(void) {
    puts("Trying the doors from inside:");
    try_open("/etc/passwd");
    try_open("/proc/self/mem");
    try_open("../../../../etc/shadow");
    symlink("/etc/passwd", "link");
    symlink("../../../../../../etc/passwd", "up");
    try_open("link");
    try_open("up");
    printf("%d open door(s)\n", open_doors);
    return open_doors != 0;
}
