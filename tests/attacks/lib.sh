# What the attack scripts share: a host with an agent, a tenant with a secret, and what is expected of a refusal.
# An attack script: says what is tried, tries it, and insists that it is refused for the right reason.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
bin="${DONJON_BIN:-$here/../../build/bin}"
donjon="$bin/donjon"
tmp="$(mktemp -d /tmp/dja.XXXXXX)"
export HOME="$tmp" XDG_STATE_HOME="$tmp/state" XDG_CACHE_HOME="$tmp/cache"
pids=()
cleanup() {
  local p
  for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
  for p in "$tmp"/host/records/*.json; do
    [ -e "$p" ] && kill -9 "$(sed -n 's/.*"pid": \([0-9]*\).*/\1/p' "$p")" 2>/dev/null || true
  done
  wait 2>/dev/null || true
  rm -rf "$tmp"
}
trap cleanup EXIT

need() { # need PROGRAM PACKAGE
  command -v "$1" >/dev/null || { echo "SKIP: needs $1 (Debian package $2)"; exit 77; }
}
need_keep() {
  [ -x "$bin/donjon-keep" ] || { echo "SKIP: donjon-keep is not built"; exit 77; }
  need wat2wasm wabt
  need python3 python3
}
attack() { printf 'Attack: %s\n' "$*"; }

# start_agent [OPTIONS...]: sets port and host
start_agent() {
  : >"$tmp/agent.log" # sed may be faster than the agent's shell
  "${agent_bin:-$bin}/donjon-agent" --state "$tmp/host" --listen 127.0.0.1:0 "$@" 2>"$tmp/agent.log" &
  pids+=($!)
  local i
  for i in $(seq 200); do
    port="$(sed -n 's/.*serving port=\([0-9]*\).*/\1/p' "$tmp/agent.log")"
    [ -z "$port" ] || break
    sleep 0.05
  done
  [ -n "$port" ] || { cat "$tmp/agent.log" >&2; exit 1; }
  host="127.0.0.1:$port"
}

# start_evil MODE [ARGS...]: a hostile host before the agent; sets evil
start_evil() {
  mkdir -p "$tmp/evil"
  rm -f "$tmp/evil/port"
  python3 "$here/evil.py" "$1" "$port" "$tmp/evil" "${@:2}" >"$tmp/evil/port" &
  pids+=($!)
  local i
  for i in $(seq 200); do [ -s "$tmp/evil/port" ] && break; sleep 0.05; done
  evil="127.0.0.1:$(cat "$tmp/evil/port")"
}

# An application with a secret: makes app/ and secret.
make_app() {
  mkdir -p "$tmp/app"
  cat >"$tmp/app.wat" <<'WAT'
(module (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 64) "the tenant's program\n")
  (func (export "_start") (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 21))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
WAT
  wat2wasm "$tmp/app.wat" -o "$tmp/app/main.wasm"
  printf '[[secrets]]\nname = "key"\nenv = "KEY"\n' >"$tmp/app/Donjon.toml"
  secret="needle-$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')"
  printf %s "$secret" >"$tmp/secret"
}
# deploy HOST [OPTIONS...]: as the tenant would
deploy() { "$donjon" deploy --host "$1" --allow-no-tee --secret "key=$tmp/secret" "${@:2}" "$tmp/app"; }

# refused WORDS COMMAND...: it must fail, saying WORDS
refused() {
  local words="$1" code=0; shift
  "$@" >"$tmp/out" 2>&1 || code=$?
  if [ "$code" = 0 ]; then cat "$tmp/out"; echo "NOT REFUSED"; exit 1; fi
  grep -qiE -- "$words" "$tmp/out" || { cat "$tmp/out"; echo "refused (exit code $code), but not for the expected reason: $words"; exit 1; }
  printf 'Refused, exit code %s: %s\n' "$code" "$(grep -iE -m1 -- "$words" "$tmp/out")"
}
# works COMMAND...: the same without the attack
works() {
  "$@" >"$tmp/out" 2>&1 || { cat "$tmp/out"; echo "the honest case does not work"; exit 1; }
  printf 'Without the attack it works.\n'
}
# nothing_lost: the hostile host has not seen the secret, nor any of the program
nothing_lost() {
  ! grep -rqa -e "$secret" -e "the tenant's program" "$tmp/evil" "$tmp/host" "$tmp/agent.log" 2>/dev/null ||
    { echo "THE HOST HAS SEEN WHAT IT SHOULD NOT"; exit 1; }
  printf 'The host has seen neither secret nor program.\n'
}
