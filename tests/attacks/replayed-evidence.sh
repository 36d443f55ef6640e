#!/bin/bash
. "$(dirname "$0")/lib.sh"
need_keep; need openssl openssl
attack "the host answers with evidence that the same keep gave before"
make_app; start_agent; start_evil replay
deploy "$evil" >/dev/null 2>&1 || true # recorded now
[ -s "$tmp/evil/recorded" ] || { echo "nothing was recorded"; exit 1; }
refused "report data|must answer|binding|report_data" deploy "$evil"
nothing_lost
