#!/bin/bash
. "$(dirname "$0")/lib.sh"
need curl curl; need openssl openssl; need python3 python3
keep="$bin/steward-keep"
[ -x "$keep" ] && [ -x "$bin/donjon-steward" ] || { echo "SKIP: the steward and its test double are not built"; exit 77; }
"$donjon" steward init "$tmp/steward" >/dev/null
rm "$tmp/steward/policy.toml"; "$keep" init "$tmp/steward"
sed -i -e 's/127.0.0.1:7475/127.0.0.1:0/' -e 's/^# development-root/development-root/' "$tmp/steward/steward.toml"
"$donjon" steward --config "$tmp/steward/steward.toml" >"$tmp/steward.log" 2>&1 & pids+=($!)
for _ in $(seq 100); do grep -q listening "$tmp/steward.log" && break; sleep 0.05; done
url="$(sed -n 's/.*\(http:[^ ]*\).*/\1/p' "$tmp/steward.log" | head -1)"
nonce() { curl -sf "$url/v1/nonce" | python3 -c 'import json, sys; print(json.load(sys.stdin)["nonce"])'; }
certify() { # certify NAME [HOW]: fails when the steward issues nothing
  "$keep" request "$tmp/steward" "$(nonce)" "$@" >"$tmp/csr"
  curl -s -o "$tmp/reply" -w '%{http_code}' --data-binary @"$tmp/csr" "$url/v1/certify" >"$tmp/code"
  cat "$tmp/reply"
  [ "$(cat "$tmp/code")" = 200 ]
}
attack "a certificate authority is asked for"; works certify localhost
refused "request.ca" certify localhost ca
attack "the evidence vouches for another key"; refused "wrapper.key" certify localhost key
attack "the request names another workload than the evidence"; refused "wrapper.key" certify localhost workload
attack "another program is measured"; refused "measurement" certify localhost measurement
attack "somebody else's name"; refused "names" certify bank.example
attack "the request is not signed by its key"; refused "signature" certify localhost signature
