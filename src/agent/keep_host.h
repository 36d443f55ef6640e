/* donjon-keep: what its parts share. The main thread holds the keep (loader.h: the keep's process dies with it);
 * another serves the agent on the control socket. */
#ifndef DONJON_AGENT_KEEP_HOST_H
#define DONJON_AGENT_KEEP_HOST_H

#include "../gate/gate.h"
#include "../loader/loader.h"
#include "keep.h"
#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct keep_signer; /* keep_signer.c */

/* What is known of the keep. Everything under `lock`. */
struct keep_host {
    pthread_mutex_t lock;
    struct keep_control control;
    struct keep_signer *signer;
    char token[KEEP_TOKEN + 1]; /* the agent's */
    int status_fd;              /* until the one line has been said; then -1 */
    unsigned idle;              /* seconds; 0: never */

    const char *backend, *protects;
    char measurement[2 * 48 + 1];
    enum keep_phase phase;
    const char *outcome; /* NULL: it has not ended */
    int code;
    bool stopped; /* by the agent */
    uint16_t ports[256];
    unsigned n_ports, tenants;
    uint64_t idle_since_ns;

    bool agent; /* somebody is on the control socket */
};

/* keep_signer.c: the software signer. NULL with the reason: the file is missing, or is not a signer's. */
struct keep_signer *keep_signer_new(const char *path, char *error, size_t size);
void keep_signer_free(struct keep_signer *s);
/* Computes the measurement of keeps made of the shim and the warden beside this program. */
bool keep_signer_measure(struct keep_signer *s, const char *backend, char *error, size_t size);
const uint8_t *keep_signer_measurement(const struct keep_signer *s); /* 48 bytes */
/* struct keep_services' evidence, with a signer as its first argument. */
bool keep_signer_evidence(struct keep_signer *s, const uint8_t report_data[64], uint8_t *out, uint32_t room,
                          uint32_t *n, uint32_t *size);

/* keep_control.c: serves the control socket (listening) in a thread of its own, until the process ends. */
bool keep_control_start(struct keep_host *h, int listener);
/* Something has changed: tells the agent. With the lock held. */
void keep_control_event(struct keep_host *h);
/* Gives what was said time to leave. */
void keep_control_drain(void);
/* struct keep_services' steward, steward_answer, steward_end. */
int keep_control_steward(void *host, const char *url, unsigned which, const uint8_t *body, uint32_t body_size);
bool keep_control_answer(void *host, int fd, uint8_t *out, uint32_t room, uint32_t *status, uint32_t *size);
void keep_control_forget(void *host, int fd);

/* keep_main.c: the fields of status, with the lock held. */
json_t *keep_status_json(const struct keep_host *h);

#endif
