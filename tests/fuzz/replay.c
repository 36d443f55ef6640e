/* Runs a fuzz target over files and directories given as arguments, without libFuzzer: how the kept corpora become
 * ordinary tests of every build. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned inputs;

static int one(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return perror(path), 1;
    uint8_t *data = NULL;
    size_t size = 0, room = 0;
    do {
        room += 65536;
        data = realloc(data, room);
        if (!data) abort();
        size += fread(data + size, 1, room - size, f);
    } while (size == room);
    fclose(f);
    uint8_t *exact = malloc(size ? size : 1); /* so that a sanitiser sees the first byte too many */
    if (!exact) abort();
    memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    free(data);
    inputs++;
    return 0;
}

int main(int argc, char **argv) {
    int bad = 0;
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (!dir) {
            bad |= one(argv[i]);
            continue;
        }
        for (struct dirent *e; (e = readdir(dir));) {
            char path[4096];
            if (e->d_name[0] == '.') continue;
            snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
            bad |= one(path);
        }
        closedir(dir);
    }
    printf("%u inputs\n", inputs);
    return bad || !inputs;
}
