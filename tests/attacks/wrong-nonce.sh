#!/bin/bash
. "$(dirname "$0")/lib.sh"
need_keep; need openssl openssl
attack "the host asks the keep with a nonce of its own choice"
make_app; start_agent; start_evil nonce
refused "report data|must answer|binding|report_data" deploy "$evil"
nothing_lost
