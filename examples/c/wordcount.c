/* Counts lines, words and bytes of files, or of standard input: ordinary C, no knowledge of where it runs. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int count(FILE *f, const char *name) {
    unsigned long lines = 0, words = 0, bytes = 0;
    int c, in_word = 0;
    while ((c = getc(f)) != EOF) {
        bytes++;
        if (c == '\n') lines++;
        if (isspace(c))
            in_word = 0;
        else if (!in_word)
            in_word = 1, words++;
    }
    printf("%7lu %7lu %7lu %s\n", lines, words, bytes, name);
    return ferror(f) != 0;
}

int main(int argc, char **argv) {
    if (argc < 2) return count(stdin, "-");
    int bad = 0;
    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "r");
        if (!f) {
            fprintf(stderr, "wordcount: %s: %s\n", argv[i], strerror(errno));
            bad = 1;
            continue;
        }
        bad |= count(f, argv[i]);
        fclose(f);
    }
    return bad;
}
