#!/bin/sh
# Makes modules.h from the sources here. Needs wat2wasm (wabt) and clang with lld; the result is kept in the tree so that the
# tests need neither.
set -e
cd "$(dirname "$0")"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
array() { # NAME FILE
    printf 'static const uint8_t %s_wasm[] = {' "$1"
    od -An -v -tx1 "$2" | sed 's/ \(..\)/0x\1,/g' | tr -d '\n'
    printf '};\n'
}
{
    echo '/* Made by generate.sh from the files beside it. */'
    echo '// clang-format off'
    echo '#include <stdint.h>'
    for wat in *.wat; do
        name=${wat%.wat}
        wat2wasm --enable-all --debug-names "$wat" -o "$tmp/$name.wasm"
        array "$name" "$tmp/$name.wasm"
    done
    for dwarf in 4 5; do
        clang --target=wasm32 -nostdlib -O1 -g -gdwarf-$dwarf -fdebug-compilation-dir=. -Wl,--no-entry,--export=run \
            crash.c -o "$tmp/crash.wasm"
        array crash_dwarf$dwarf "$tmp/crash.wasm"
    done
} > modules.h
