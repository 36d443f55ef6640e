/* The first program of an emulated machine (systemd.py): loads the modules of /modules, sets up the network card, puts
 * the disk at /tree/var/lib, and lets systemd begin in /tree. */
#define _GNU_SOURCE
#include "../emulated.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KVM_GROUP = 36 };

static void set_address(struct ifreq *r, int fd, unsigned long what, const char *address) {
    struct sockaddr_in a = {.sin_family = AF_INET};
    inet_pton(AF_INET, address, &a.sin_addr);
    memcpy(&r->ifr_addr, &a, sizeof a);
    if (ioctl(fd, what, r)) printf("init: eth0: %m\n");
}

static void up(const char *name, const char *address, const char *mask) {
    struct ifreq r = {.ifr_flags = 0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    if (address) set_address(&r, fd, SIOCSIFADDR, address);
    if (mask) set_address(&r, fd, SIOCSIFNETMASK, mask);
    if (ioctl(fd, SIOCGIFFLAGS, &r) == 0) {
        r.ifr_flags |= IFF_UP;
        ioctl(fd, SIOCSIFFLAGS, &r);
    }
    close(fd);
}

static void give_up(const char *what) {
    printf("init: %s: %m\n", what);
    fflush(stdout);
    reboot(RB_POWER_OFF);
}

int main(void) {
    if (getpid() != 1) return 1;
    mkdir("/dev", 0755);
    if (mount("/tree", "/tree", NULL, MS_BIND, NULL)) give_up("/tree");
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    load_modules();
    keep_a_virtual_machine();
    up("lo", NULL, NULL);
    up("eth0", "10.0.2.15", "255.255.255.0");
    if (mount("devtmpfs", "/tree/dev", "devtmpfs", 0, NULL)) give_up("/tree/dev");
    if (chmod("/dev/kvm", 0660) || chown("/dev/kvm", 0, KVM_GROUP)) printf("init: /dev/kvm: %m\n");
    if (mount("/dev/vda", "/tree/var/lib", "ext4", 0, NULL)) give_up("/tree/var/lib");
    if (chdir("/tree") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/")) give_up("the new root");
    fflush(stdout);
    execl("/lib/systemd/systemd", "systemd", "--log-target=console", NULL);
    give_up("systemd");
    return 1;
}
