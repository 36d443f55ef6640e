#!/bin/bash
# The demo behind ./dev demo:  demo.sh DONJON EXAMPLES
set -euo pipefail
donjon="$1" ex="$2"
if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else bold= dim= plain=; fi
step() { printf '\n%s\n' "$bold$*$plain"; }
show() { printf '%s\n' "${dim}\$ $*${plain}"; "$@"; }
expect() { # expect CODE COMMAND...: runs it and insists on its exit code
  local want="$1" got=0; shift
  show "$@" || got=$?
  [ "$got" = "$want" ] || { echo "demo: expected exit code $want, got $got" >&2; exit 1; }
  printf '%s\n' "${dim}(exit code $got)${plain}"
}

step "1. An ordinary C program, compiled to WebAssembly, in a keep. It sees one directory, read-only, because we name it."
expect 0 "$donjon" run --dir docs::docs:ro "$ex/wordcount.wasm" docs/config.md docs/architecture.md

step "2. The same program without --dir: nothing of this machine's disk exists in the keep."
expect 1 "$donjon" run "$ex/wordcount.wasm" docs/config.md

step "3. A program that tries to get out: absolute paths, '..', symbolic links."
expect 0 "$donjon" run "$ex/escape.wasm"

step "4. A bug in a program: the sandbox stops it and says where."
expect 134 "$donjon" run "$ex/crash.wasm"

step "5. A program that would never end, stopped by a limit."
expect 124 "$donjon" run -W timeout=1s "$ex/spin.wasm"

step "6. A web server: the socket is opened outside and handed in; the program only accepts on it."
port=$((20000 + RANDOM % 20000))
sed "s/port = 8080/port = $port/" examples/c/http.toml >"$ex/http.toml"
printf '%s\n' "${dim}\$ $donjon run --config http.toml http.wasm &${plain}"
"$donjon" run --config "$ex/http.toml" "$ex/http.wasm" & server=$!
trap 'kill $server 2>/dev/null || true' EXIT
show curl --silent --show-error --retry 20 --retry-connrefused --retry-delay 1 "http://127.0.0.1:$port/"
wait $server
trap - EXIT

step "7. What this machine can offer:"
show "$donjon" platform info

printf '\n%s\n' "${bold}So far the keep protected this machine from the program. Next: the program from a machine that is not its owner's.${plain}"
