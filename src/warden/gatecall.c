#include "gatecall.h"
#include <string.h>

uint32_t gate_evidence(struct gate *g, const uint8_t report_data[GATE_REPORT_DATA], uint8_t *out, uint32_t *n,
                       uint32_t *size) {
    struct gate_request q = {.op = GATE_EVIDENCE, .len = GATE_REPORT_DATA, .room = GATE_ANSWER_SIZE};
    struct gate_reply r;
    memcpy(g->block->data, report_data, GATE_REPORT_DATA);
    uint32_t error = gate_call(g, &q, &r);
    if (error != GATE_OK) return error;
    memcpy(out, g->block->data, r.len);
    *n = (uint32_t)r.values[0];
    *size = r.len;
    return GATE_OK;
}

static uint32_t open_socket(struct gate_files *files, uint32_t op, const char *name, uint16_t port, uint32_t *handle,
                            struct gate_reply *r) {
    size_t n = strlen(name);
    if (n == 0 || n > GATE_MAX_HOST) return GATE_EINVAL;
    if (!gate_handle_take(files, handle)) return GATE_EMFILE;
    struct gate_request q = {.op = op, .len = (uint32_t)n, .args = {*handle, port}};
    memcpy(files->gate->block->data, name, n);
    uint32_t error = gate_call(files->gate, &q, r);
    if (error != GATE_OK) gate_handle_drop(files, *handle);
    return error;
}

uint32_t gate_listen(struct gate_files *files, const char *address, uint16_t port, uint32_t *handle, uint16_t *at) {
    struct gate_reply r;
    uint32_t error = open_socket(files, GATE_LISTEN, address, port, handle, &r);
    if (error == GATE_OK) *at = (uint16_t)r.values[0];
    return error;
}

uint32_t gate_connect(struct gate_files *files, const char *host, uint16_t port, uint32_t *handle) {
    struct gate_reply r;
    if (port == 0) return GATE_EINVAL;
    return open_socket(files, GATE_CONNECT, host, port, handle, &r);
}

uint32_t gate_steward(struct gate_files *files, const char *url, enum gate_steward which, const uint8_t *body,
                      size_t body_size, uint32_t *handle) {
    size_t n = strlen(url);
    if (n == 0 || n > GATE_MAX_PATH || body_size > GATE_ANSWER_SIZE - n) return GATE_EINVAL;
    if (!gate_handle_take(files, handle)) return GATE_EMFILE;
    struct gate_request q = {.op = GATE_STEWARD, .len = (uint32_t)(n + body_size), .args = {*handle, which, n}};
    struct gate_reply r;
    memcpy(files->gate->block->data, url, n);
    if (body_size) memcpy(files->gate->block->data + n, body, body_size);
    uint32_t error = gate_call(files->gate, &q, &r);
    if (error != GATE_OK) gate_handle_drop(files, *handle);
    return error;
}

uint32_t gate_answer(struct gate *g, uint32_t handle, uint8_t *out, uint32_t *status, uint32_t *size) {
    struct gate_request q = {.op = GATE_ANSWER, .handle = handle, .room = GATE_ANSWER_SIZE};
    struct gate_reply r;
    uint32_t error = gate_call(g, &q, &r);
    if (error != GATE_OK) return error;
    memcpy(out, g->block->data, r.len);
    *status = (uint32_t)r.values[0];
    *size = r.len;
    return GATE_OK;
}
