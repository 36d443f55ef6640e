#!/bin/bash
. "$(dirname "$0")/lib.sh"
need_keep; need openssl openssl; need curl curl
attack "a server shows the evidence out of a keep's certificate in a certificate of its own"
start_agent
cat >"$tmp/serve.wat" <<'WAT'
(module (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (loop $more
    (if (call $accept (i32.const 3) (i32.const 0) (i32.const 16)) (then return))
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 4096))
    (drop (call $read (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))
    (drop (call $close (i32.load (i32.const 16)))) (br $more))))
WAT
mkdir "$tmp/serve"; wat2wasm "$tmp/serve.wat" -o "$tmp/serve/main.wasm"
listen="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
printf '[[files]]\nkind = "stdin"\n[[files]]\nkind = "stdout"\n[[files]]\nkind = "stderr"\n[[files]]\nkind = "listen"\nname = "https"\naddr = "127.0.0.1"\nport = %s\n' "$listen" >"$tmp/serve/Donjon.toml"
"$donjon" deploy --host "$host" --allow-no-tee --detach "$tmp/serve" >"$tmp/out" 2>&1 || { cat "$tmp/out"; exit 1; }
trust=(--dev-root "$tmp/host/dev-root.pem" --set allow_software=true --set "snp.measurements=$("$donjon" deploy --dry-run "$tmp/serve" | sed -n 's/^measurement *//p')")
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$listen") 2>/dev/null && break; sleep 0.05; done
works "$donjon" verify --url "https://localhost:$listen" "${trust[@]}"
openssl s_client -connect "localhost:$listen" -tls1_3 </dev/null 2>/dev/null | openssl x509 >"$tmp/stolen.pem"
# Every extension of the keep's own (evidence, workload, ...) goes into the thief's certificate as it is.
openssl asn1parse -in "$tmp/stolen.pem" >"$tmp/asn1"
python3 - "$tmp/asn1" >"$tmp/extensions" <<'PY'
import re, sys
lines = open(sys.argv[1]).read().splitlines()
print("[x]\nsubjectAltName=DNS:localhost")
known = ("X509v3", "basicConstraints")
for i, l in enumerate(lines):
    m = re.search(r"OBJECT\s+:([\d.]+)$", l)
    if not m or not m[1].startswith(("1.3.6.1.5.5.7.1.35", "2.23.133.5.4.9", "1.3.6.1.4.1")):
        continue
    value = next((re.search(r"\[HEX DUMP\]:([0-9A-F]+)$", n) for n in lines[i + 1:i + 3] if "[HEX DUMP]" in n), None)
    if value:
        print(f"{m[1]}=DER:{value[1]}")
PY
grep -q "1.3.6.1.5.5.7.1.35" "$tmp/extensions" || { cat "$tmp/asn1"; echo "no evidence in the keep's certificate"; exit 1; }
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$tmp/thief.key" -out "$tmp/thief.pem" -subj /CN=localhost -days 1 \
  -extensions x -config <(printf '[req]\ndistinguished_name=d\n[d]\n'; cat "$tmp/extensions") 2>/dev/null
openssl s_server -accept 127.0.0.1:0 -cert "$tmp/thief.pem" -key "$tmp/thief.key" -tls1_3 -www >"$tmp/thief.log" 2>&1 & pids+=($!)
for _ in $(seq 100); do grep -q ACCEPT "$tmp/thief.log" && break; sleep 0.05; done
thief="$(sed -n 's/^ACCEPT .*:\([0-9]*\).*/\1/p' "$tmp/thief.log")"
refused "REJECTED|public key|wrapper" "$donjon" verify --quiet --url "https://127.0.0.1:$thief" "${trust[@]}"
attack "the thief serves the keep's certificate itself, without its key"
refused "key values mismatch|does not match|mismatch" openssl s_server -accept 127.0.0.1:0 -cert "$tmp/stolen.pem" -key "$tmp/thief.key"
