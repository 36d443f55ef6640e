#!/bin/bash
. "$(dirname "$0")/lib.sh"
need_keep; need openssl openssl
attack "the host ends the tenant's channel itself and relays a true keep's evidence from a channel of its own"
make_app; start_agent
works deploy "$host"
start_evil relay
refused "report data|must answer|binding|report_data" deploy "$evil"
nothing_lost
