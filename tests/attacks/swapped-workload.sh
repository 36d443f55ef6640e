#!/bin/bash
. "$(dirname "$0")/lib.sh"
need_keep; need openssl openssl
attack "the host puts a workload of its own into a keep, and brings the tenant to it"
make_app; start_agent
cat >"$tmp/other.wat" <<'WAT'
(module (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const 60000000000))
    (drop (call $poll (i32.const 0) (i32.const 128) (i32.const 1) (i32.const 256)))))
WAT
wat2wasm "$tmp/other.wat" -o "$tmp/other.wasm"
theirs() { "$donjon" deploy --host "$host" --allow-no-tee --detach "$tmp/other.wasm" 2>/dev/null; }
start_evil other "$(theirs)"
refused "has a workload already|another keep|names no keep" deploy "$evil"
nothing_lost
attack "later the host brings a tenant who looks for his own keep to another one"
start_evil other "$(theirs)"
mine="$("$donjon" deploy --host "$host" --allow-no-tee --detach --secret "key=$tmp/secret" "$tmp/app" 2>/dev/null)"
sed -i "s/\"port\": \"$port\"/\"port\": \"${evil#*:}\"/; s/\"agent_key\": \"[0-9a-f]*\"/\"agent_key\": null/" \
  "$XDG_STATE_HOME/donjon/deployments/$mine.json"
refused "another workload" "$donjon" logs "$mine"
nothing_lost
