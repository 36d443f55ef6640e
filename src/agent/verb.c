#include "verb.h"

#include <stddef.h>

static const struct cli_option options[] = {
    {AGENT_LISTEN, 'l', "listen", "ADDRESS[:PORT]",
     "Where to serve tenants; port 7470 by default, this machine only (localhost) by default. May be repeated."},
    {AGENT_CONFIG, 0, "config", "FILE", "Read agent.toml: tenants, their tokens and quotas (docs/deploy.md)."},
    {AGENT_STATE, 0, "state", "DIR",
     "Where the agent's key and its keeps' records are. Default: /var/lib/donjon for root, else "
     "$XDG_STATE_HOME/donjon/agent."},
    {AGENT_JSON, 0, "json", NULL, "Log as JSON, one object a line, on standard error."},
    {AGENT_DRAIN, 0, "drain", "SECONDS",
     "How long connections may go on after SIGTERM; 10 by default. Keeps live on, and the next agent takes them up."},
    {AGENT_END_KEEPS, 0, "end-keeps", NULL, "End all keeps when the agent stops."},
    {AGENT_CGROUP, 0, "cgroup", "DIR",
     "A control group (version 2) that is this user's, without processes: each keep gets one in it. Default: in the "
     "agent's own, where that may be."},
    {AGENT_KEEP, 0, "keep", "FILE", "The program that holds a keep. Default: donjon-keep beside this program."},
    {AGENT_NEW_TOKEN, 0, "new-token", "NAME",
     "Print a fresh token for a tenant, and the lines about it for agent.toml; then end."},
    {AGENT_DEBUG, 0, "debug", NULL, "Let the keeps' processes write to standard error as well."},
    {0},
};
static const struct cli_example examples[] = {
    {"donjon agent", "For this machine's own tenants"},
    {"donjon agent --new-token acme >>agent.toml", "A tenant; cut the token from the file's end and send it"},
    {"donjon agent --listen '[::]' --config /etc/donjon/agent.toml --json", "For everybody in agent.toml"},
    {0},
};
const struct cli_verb verb_agent = {
    .name = "agent",
    .operands = "",
    .summary = "Serve tenants: build keeps on this machine and carry bytes to them",
    .text = "Builds keeps for tenants over one TLS port and relays bytes between the two. The agent is not trusted by "
            "tenants: their "
            "channel ends in the keep, and what they deliver is never seen here, nor on this machine's disk.\n\n"
            "Keeps are processes of their own. They survive the agent, and the next one takes them up. With "
            "LISTEN_FDS (systemd socket "
            "activation) it serves the sockets it is given. SIGTERM drains; a second one ends at once.\n\n"
            "Exit code 0: ended by a signal. 125: it could not start.",
    .options = options,
    .examples = examples,
    .main = main_agent,
};
