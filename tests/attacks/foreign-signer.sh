#!/bin/bash
. "$(dirname "$0")/lib.sh"
need_keep
attack "evidence signed by a development root that the tenant does not know"
make_app; start_agent
works deploy "$host" --development-root "$tmp/host/dev-root.pem"
"$bin/donjon-agent" --state "$tmp/elsewhere" --listen 127.0.0.1:0 2>/dev/null & other=$!
for i in $(seq 100); do [ -s "$tmp/elsewhere/dev-root.pem" ] && break; sleep 0.05; done
kill "$other"; wait "$other" 2>/dev/null || true
refused "trusted root" deploy "$host" --development-root "$tmp/elsewhere/dev-root.pem"
nothing_lost
