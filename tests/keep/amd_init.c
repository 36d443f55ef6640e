/* The first program of a small machine in an emulator (kvm_amd.py): loads the modules of /modules in their order, runs
 * each line of /runs (words separated by spaces, after DONJON_* variables), says how each ended, and switches off. */
#define _GNU_SOURCE
#include "../emulated.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS = 64, LINE = 4096 };

static void child(char *line) {
    char *words[WORDS + 1];
    int n = 0;
    for (char *w = strtok(line, " \n"); w && n < WORDS; w = strtok(NULL, " \n")) {
        if (n == 0 && strchr(w, '='))
            putenv(w);
        else
            words[n++] = w;
    }
    words[n] = NULL;
    int null = open("/dev/null", O_RDONLY);
    if (n == 0 || dup2(null, 0) != 0) _exit(127);
    execv(words[0], words);
    printf("init: %s: %m\n", words[0]);
    fflush(stdout);
    _exit(127);
}

static void run_all(void) {
    char line[LINE];
    FILE *f = fopen("/runs", "r");
    for (int i = 1; f && fgets(line, sizeof line, f); i++) {
        int status = 0;
        printf("=== %d begins: %s", i, line);
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) child(line);
        waitpid(pid, &status, 0);
        printf("=== %d ended with %d\n", i, WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status));
        fflush(stdout);
    }
}

int main(void) {
    if (getpid() != 1) return 1;
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mkdir("/dev", 0755);
    mkdir("/tmp", 0777);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    setenv("HOME", "/tmp", 1);
    load_modules();
    keep_a_virtual_machine();
    run_all();
    printf("=== all done\n");
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
    for (;;)
        pause();
}
