#!/bin/bash
. "$(dirname "$0")/lib.sh"
need_keep
attack "the host runs a warden that it has changed: one byte of its text"
make_app
mkdir "$tmp/bin"; cp "$bin"/donjon-* "$tmp/bin/"
LC_ALL=C sed -i 's/donjon workload v1/donjon workload v2/' "$tmp/bin/donjon-warden-tls"
rm -f "$tmp/bin/donjon-warden-tls.digests"
[ ! -x "$bin/donjon-digests" ] || "$bin/donjon-digests" "$tmp/bin/donjon-warden-tls" "$tmp/bin/donjon-warden-tls.digests"
agent_bin="$tmp/bin" start_agent
refused "measurement" deploy "$host"
nothing_lost
