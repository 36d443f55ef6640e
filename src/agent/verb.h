/* `donjon agent`: its table is in `donjon` too, which only starts donjon-agent. */
#ifndef DONJON_AGENT_VERB_H
#define DONJON_AGENT_VERB_H

#include "cli/cli.h"

enum agent_option {
    AGENT_LISTEN = 1,
    AGENT_STATE,
    AGENT_CONFIG,
    AGENT_JSON,
    AGENT_DRAIN,
    AGENT_END_KEEPS,
    AGENT_CGROUP,
    AGENT_KEEP,
    AGENT_NEW_TOKEN,
    AGENT_DEBUG
};
extern const struct cli_verb verb_agent;
int main_agent(struct cli_args *);

#endif
