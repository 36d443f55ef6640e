/* openapi.yaml, in the program. */
#ifndef DONJON_STEWARD_OPENAPI_H
#define DONJON_STEWARD_OPENAPI_H

#include <stddef.h>
#include <stdint.h>

extern const uint8_t steward_openapi[];
extern const size_t steward_openapi_size;

#endif
