/* What a keep asks of its host besides files: evidence, sockets of a deployed workload, the way to a steward. Answers
 * were checked by gate_call and copied once; what evidence and a steward say is believed by nobody because of it. */
#ifndef DONJON_WARDEN_GATECALL_H
#define DONJON_WARDEN_GATECALL_H

#include "gatefile.h"

/* Evidence over `report_data`: the first *n bytes of `out`, which has room for GATE_ANSWER_SIZE; endorsements (PEM)
 * behind it up to *size. GATE_OK, or a gate error (GATE_ENOTSUP: this host makes no evidence). */
uint32_t gate_evidence(struct gate *g, const uint8_t report_data[GATE_REPORT_DATA], uint8_t *out, uint32_t *n,
                       uint32_t *size);

/* Sockets for a new handle. The port is the one that the host says it is. */
uint32_t gate_listen(struct gate_files *files, const char *address, uint16_t port, uint32_t *handle, uint16_t *at);
uint32_t gate_connect(struct gate_files *files, const char *host, uint16_t port, uint32_t *handle);

/* Begins a request to the steward, under a new handle that is readable once the answer is there; to be closed with
 * gate_handle_close, whatever comes of it. Together with the URL the body has GATE_ANSWER_SIZE bytes at most
 * (GATE_EINVAL). */
uint32_t gate_steward(struct gate_files *files, const char *url, enum gate_steward which, const uint8_t *body,
                      size_t body_size, uint32_t *handle);
/* Its answer, into `out` (GATE_ANSWER_SIZE). GATE_EAGAIN: not there so far. */
uint32_t gate_answer(struct gate *g, uint32_t handle, uint8_t *out, uint32_t *status, uint32_t *size);

#endif
