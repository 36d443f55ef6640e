#!/bin/sh
# Makes modules.h, and gc.h if wasm-as (binaryen) is there, from the sources here. Needs wat2wasm (wabt) and clang with lld; the
# results are kept in the tree so that the tests need none of them.
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
        [ "$wat" != gc.wat ] || continue # which wabt does not know
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
if command -v wasm-as >/dev/null; then
    wasm-as -all gc.wat -o "$tmp/gc.wasm"
    {
        echo '/* Made by generate.sh from gc.wat. */'
        echo '// clang-format off'
        echo '#include <stdint.h>'
        array gc "$tmp/gc.wasm"
    } > gc.h
fi
