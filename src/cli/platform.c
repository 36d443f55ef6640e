/* donjon platform info: which keeps can be built on this machine, and what each needs. */
#define _GNU_SOURCE
#include "cli.h"
#include "loader/loader.h"
#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { OPT_JSON = 1 };

/* All backends, strongest first, with what stands for their hardware on this machine. What this release can build, it
 * asks the loader; the rest is told as it is. */
static const struct known {
    const char *name, *what, *protects, *device, *cpu_flag;
    bool tee;
} known[] = {
    {"snp", "AMD SEV-SNP", "the program from the machine and its owner", "/dev/sev", "sev_snp", true},
    {"tdx", "Intel TDX", "the program from the machine and its owner", "/dev/kvm", "tdx_host_platform", true},
    {"sgx", "Intel SGX", "the program from the machine and its owner", "/dev/sgx_enclave", "sgx", true},
    {"sanctum", "RISC-V security monitor", "the program from the machine and its owner", NULL, NULL, true},
    {"kvm", "a virtual machine with no kernel but the shim",
     "the machine from the program, twice; programs from each other", "/dev/kvm", NULL, false},
    {"process", "a sealed process", "the machine from the program, and programs from each other", NULL, NULL, false},
};
enum { KNOWN = sizeof known / sizeof *known };

struct backend_state {
    bool built, available; /* this release has it; it can run here */
    char missing[512];
};

static bool cpu_has(const char *flags, const char *flag) {
    size_t n = strlen(flag);
    for (const char *p = flags; (p = strstr(p, flag)); p += n)
        if ((p == flags || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\n' || !p[n])) return true;
    return false;
}

/* The first "flags" line of /proc/cpuinfo. */
static void read_cpu(char *flags, size_t flags_size, char *model, size_t model_size) {
    char line[8192];
    FILE *f = fopen("/proc/cpuinfo", "re");
    flags[0] = model[0] = 0;
    while (f && fgets(line, sizeof line, f) && !(flags[0] && model[0])) {
        char *colon = strchr(line, ':');
        if (!colon) continue;
        colon[strcspn(colon, "\n")] = 0;
        if (!strncmp(line, "flags", 5) && !flags[0]) snprintf(flags, flags_size, "%s", colon + 1);
        if (!strncmp(line, "model name", 10) && !model[0]) snprintf(model, model_size, "%s", colon + 2);
    }
    if (f) fclose(f);
}

/* What this machine has of a backend's hardware, as the end of a sentence. */
static void describe_hardware(const struct known *k, const char *flags, char *out, size_t size) {
    struct stat st;
    out[0] = 0;
    if (k->cpu_flag && !cpu_has(flags, k->cpu_flag))
        snprintf(out, size, "; this processor does not offer %s", k->what);
    else if (k->device && stat(k->device, &st))
        snprintf(out, size, "; there is no %s", k->device);
    else if (k->device && access(k->device, R_OK | W_OK))
        snprintf(out, size, "; %s is not accessible to this user", k->device);
    else if (k->device)
        snprintf(out, size, "; the hardware is there (%s)", k->device);
}

static void ask(const struct known *k, const char *flags, struct backend_state *s) {
    char missing[256] = "", hardware[256];
    *s = (struct backend_state){0};
    const char *name;
    for (unsigned n = 0; (name = keep_backend(n, missing)); n++) {
        if (strcmp(name, k->name) != 0) continue;
        s->built = true;
        s->available = !missing[0];
        snprintf(s->missing, sizeof s->missing, "%s", missing);
        return;
    }
    describe_hardware(k, flags, hardware, sizeof hardware);
    snprintf(s->missing, sizeof s->missing, "not in this release%s", hardware);
}

static int info_json(const struct backend_state *states, const struct utsname *u, const char *model) {
    json_t *root = json_object(), *list = json_array();
    const char *chosen = NULL;
    for (int i = 0; i < KNOWN; i++) {
        json_t *b = json_object();
        json_object_set_new(b, "name", json_string(known[i].name));
        json_object_set_new(b, "what", json_string(known[i].what));
        json_object_set_new(b, "tee", json_boolean(known[i].tee));
        json_object_set_new(b, "protects", json_string(known[i].protects));
        json_object_set_new(b, "in_release", json_boolean(states[i].built));
        json_object_set_new(b, "available", json_boolean(states[i].available));
        json_object_set_new(b, "missing", states[i].available ? json_null() : json_string(states[i].missing));
        json_array_append_new(list, b);
        if (!chosen && states[i].available) chosen = known[i].name;
    }
    json_object_set_new(root, "version", json_string(DONJON_VERSION));
    json_object_set_new(root, "machine", json_string(u->machine));
    json_object_set_new(root, "kernel", json_sprintf("%s %s", u->sysname, u->release));
    json_object_set_new(root, "cpu", *model ? json_string(model) : json_null());
    json_object_set_new(root, "default", chosen ? json_string(chosen) : json_null());
    json_object_set_new(root, "backends", list);
    json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
    return chosen ? CLI_YES : CLI_NO;
}

static int info_text(const struct backend_state *states, const struct utsname *u, const char *model) {
    bool colours = cli_colours(STDOUT_FILENO);
    const char *green = colours ? "\033[32m" : "", *bold = colours ? "\033[1m" : "", *plain = colours ? "\033[0m" : "";
    const char *chosen = NULL;
    bool tee = false;
    printf("%s %s, %s%s%s\n\n", u->sysname, u->release, u->machine, *model ? ", " : "", model);
    for (int i = 0; i < KNOWN; i++) {
        const struct backend_state *s = &states[i];
        if (s->available && !chosen) chosen = known[i].name;
        tee |= s->available && known[i].tee;
        printf("%s%-8s%s  %s%-4s%s %s\n", bold, known[i].name, plain, s->available ? green : "",
               s->available ? "yes" : "no", plain, known[i].what);
        if (s->available)
            printf("               protects %s\n", known[i].protects);
        else
            printf("               %s\n", s->missing);
    }
    if (!chosen) {
        printf("\nNo keep can be built on this machine.\n");
        return CLI_NO;
    }
    printf("\n`donjon run` uses %s here.\n", chosen);
    if (!tee) printf("It protects this machine from the program. It does not protect the program from this machine.\n");
    return CLI_YES;
}

static int main_platform_info(struct cli_args *a) {
    const char *value;
    bool json = false;
    for (int id; (id = cli_next(a, &value)) != CLI_END;) {
        if (id == CLI_STOP) return a->exit_code;
        if (id == CLI_OPERAND) return cli_usage_error(a, "expected no arguments, found \"%s\"", value);
        json = true;
    }
    static char flags[8192];
    char model[256];
    struct utsname u;
    struct backend_state states[KNOWN];
    uname(&u);
    read_cpu(flags, sizeof flags, model, sizeof model);
    for (int i = 0; i < KNOWN; i++)
        ask(&known[i], flags, &states[i]);
    return json ? info_json(states, &u, model) : info_text(states, &u, model);
}

static const struct cli_option options[] = {
    {OPT_JSON, 0, "json", NULL, "Write it as JSON to standard output."},
    {0},
};

const struct cli_verb verb_platform_info = {
    .name = "platform info",
    .operands = "",
    .summary = "Show which keeps this machine can build, and what is missing",
    .text = "Shows every backend, strongest first: whether a keep of that kind can be built here by this release, what "
            "it protects, "
            "or what is missing.\n\n"
            "Exit code 0: some keep can be built. 1: none.",
    .options = options,
    .main = main_platform_info,
};
