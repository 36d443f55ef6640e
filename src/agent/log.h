/* What the agent did, one line an event, on standard error: for people, or as JSON. Never a tenant's bytes: what is
 * logged are ids, names of tenants, numbers and our own errors. */
#ifndef DONJON_AGENT_LOG_H
#define DONJON_AGENT_LOG_H

#include <stdbool.h>

enum log_level { LOG_INFO, LOG_WARN, LOG_FAIL };
void log_as_json(bool on);
/* log_event(LOG_INFO, "keep built", "keep", id, "backend", name, NULL): pairs of name and text; a NULL text leaves the
 * pair out only as the last. */
void log_event(enum log_level, const char *event, ...) __attribute__((sentinel));

#endif
