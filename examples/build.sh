#!/bin/bash
# Builds every example whose compiler is on this machine:  examples/build.sh OUT [LANGUAGE...]
# Each function is the whole recipe for one language; copy it into a shell to build by hand. A missing compiler is said
# and skipped. Debian 12 packages: clang lld wasi-libc libclang-rt-14-dev-wasm32 (C), libc++-14-dev-wasm32 libc++abi-14-dev-wasm32 (C++),
# rustc libstd-rust-dev-wasm32 (Rust), ldc (D), nim (Nim), valac (Vala), f2c (Fortran); npm (AssemblyScript).
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
out="${1:?usage: build.sh OUT [LANGUAGE...]}"; shift
mkdir -p "$out"; out="$(cd "$out" && pwd)"
tmp="$(mktemp -d)"; trap 'rm -rf "$tmp"' EXIT

# Compile and link apart: clang's driver would run wasm-opt at link time where it is installed.
# A stack of 1 MiB: poll(2) of wasi-libc needs 80 bytes of it for each descriptor, the linker's 64 KiB end at some 500.
wasm_cc() { local o="$1"; shift; clang-14 --target=wasm32-wasi -O2 -g -c "$@" -o "$tmp/o.o" && clang-14 --target=wasm32-wasi -Wl,-z,stack-size=1048576 "$tmp/o.o" -o "$o"; }

build_c() {
  for f in wordcount escape crash spin http web evidence vault; do wasm_cc "$out/$f.wasm" "$here/c/$f.c"; done
}
build_cxx() {
  clang++-14 --target=wasm32-wasi -std=c++17 -O2 -fno-exceptions -I/usr/include/wasm32-wasi/c++/v1 -c "$here/cxx/frequency.cc" -o "$tmp/cxx.o"
  clang++-14 --target=wasm32-wasi -nostdlib++ "$tmp/cxx.o" -lc++ -lc++abi -o "$out/frequency.wasm"
}
build_rust() {
  /usr/bin/rustc --target wasm32-wasi -O -C linker=wasm-ld "$here/rust/tree.rs" -o "$out/tree.wasm"
}
build_d() {
  ldc2 -betterC -mtriple=wasm32-unknown-wasi -O2 -c "$here/d/sieve.d" -of="$tmp/d.o"
  clang-14 --target=wasm32-wasi "$tmp/d.o" -o "$out/sieve.wasm"
}
build_nim() {
  nim c --compileOnly --hints:off --cpu:wasm32 --os:linux --mm:arc -d:useMalloc -d:noSignalHandler -d:danger --opt:speed \
    --nimcache:"$tmp/nim" "$here/nim/collatz.nim" >/dev/null
  # Nim's main has a third parameter, which wasi-libc's start-up code does not call.
  sed -i 's/int main(int argc, char\*\* args, char\*\* env)/int main(int argc, char** args)/; s/gEnv = env;/gEnv = 0;/' "$tmp"/nim/*.c
  clang-14 --target=wasm32-wasi -O2 -w -D_WASI_EMULATED_SIGNAL '-Dflockfile(f)=' '-Dfunlockfile(f)=' -I"$(dirname "$(nim --hints:off dump 2>&1 | grep '/lib$' | head -1)")/lib" \
    "$tmp"/nim/*.c -lwasi-emulated-signal -o "$out/collatz.wasm"
}
build_vala() {
  (cd "$tmp" && valac --profile=posix -C "$here/vala/roman.vala" -d "$tmp")
  clang-14 --target=wasm32-wasi -O2 -w "$(find "$tmp" -name roman.c)" -o "$out/roman.wasm"
}
build_fortran() {
  f2c -d"$tmp" "$here/fortran/simpson.f" 2>/dev/null
  cp /usr/include/f2c.h "$tmp"
  clang-14 --target=wasm32-wasi -O2 -w -I"$tmp" -c "$tmp/simpson.c" -o "$tmp/simpson.o"
  clang-14 --target=wasm32-wasi -O2 -c "$here/fortran/main.c" -o "$tmp/main.o"
  clang-14 --target=wasm32-wasi "$tmp/main.o" "$tmp/simpson.o" -lm -o "$out/simpson.wasm"
}
build_assemblyscript() {
  local as="${DONJON_CACHE:-$HOME/.cache/donjon}/assemblyscript"
  mkdir -p "$as"
  [ -x "$as/node_modules/.bin/asc" ] || (cd "$as" && npm install --silent --no-audit --no-fund assemblyscript@0.28 @assemblyscript/wasi-shim@0.1 >/dev/null)
  cp "$here/assemblyscript/fib.ts" "$as/fib.ts"
  (cd "$as" && node_modules/.bin/asc fib.ts --config node_modules/@assemblyscript/wasi-shim/asconfig.json -O -o "$out/fib.wasm")
}
needs() { case "$1" in c) echo clang-14 ;; cxx) echo clang++-14 ;; rust) echo /usr/bin/rustc ;; d) echo ldc2 ;; nim) echo nim ;; vala) echo valac ;; fortran) echo f2c ;; assemblyscript) echo npm ;; esac; }

[ $# -gt 0 ] || set -- c cxx rust d nim vala fortran assemblyscript
for language in "$@"; do
  if ! command -v "$(needs "$language")" >/dev/null; then echo "skipped $language: no $(needs "$language") on this machine"; continue; fi
  "build_$language" && echo "built $language"
done
