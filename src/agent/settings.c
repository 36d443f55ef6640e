#include "settings.h"

#include "config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void settings_init(struct settings *s) {
    *s = (struct settings){.connections = 1100};
}

void settings_free(struct settings *s) {
    free(s->tenants);
    *s = (struct settings){0};
}

void tenant_defaults(struct tenant *t, const char *name) {
    *t = (struct tenant){.keeps = 64, .memory = 64 * CONFIG_GIB, .keep_memory = 2 * CONFIG_GIB, .cpu = 0};
    snprintf(t->name, sizeof t->name, "%s", name);
    strcpy(t->listen, "1024-65535");
    strcpy(t->connect, "public");
}

const struct tenant *settings_tenant(const struct settings *s, const char *name) {
    for (uint32_t i = 0; i < s->n_tenants; i++)
        if (!strcmp(s->tenants[i].name, name)) return &s->tenants[i];
    return NULL;
}

/* Nothing that would lead out of the steward's part of its host, however it is written: dots, escapes, queries. */
static bool plain_path(const char *s) {
    return !strstr(s, "..") && !strstr(s, "/./") &&
           !s[strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/-_.~")];
}

bool settings_steward(const struct settings *s, const char *url) {
    for (uint32_t i = 0; i < s->n_stewards; i++) {
        size_t n = strlen(s->stewards[i]);
        while (n && s->stewards[i][n - 1] == '/')
            n--;
        if (!strncmp(url, s->stewards[i], n) && (url[n] == '/' || !url[n])) return plain_path(url + n);
    }
    return false;
}

bool tenant_name_fine(const char *s, size_t n) {
    if (n == 0 || n > TENANT_NAME_MAX || *s == '.' || *s == '-') return false;
    for (size_t i = 0; i < n; i++) {
        char ch = s[i];
        bool fine = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') || ch == '-' ||
                    ch == '_' || ch == '.';
        if (!fine) return false;
    }
    return true;
}
