#!/bin/sh
# usage: spec.sh RUNNER WORKDIR ARCHIVE [OPTION...]
# Unpacks one conformance archive into WORKDIR (once; its digest is checked) and runs it.
set -eu
runner=$1 work=$2 name=$3
shift 3
here=$(dirname "$0")
suites=$DONJON_SHARED/suites
[ -f "$suites/$name.tar.xz" ] || { echo "SKIP: no $suites/$name.tar.xz"; exit 77; }
command -v wat2wasm >/dev/null || { echo "SKIP: wat2wasm is missing (Debian package wabt)"; exit 77; }
mkdir -p "$work"
exec 9>"$work/$name.lock"
flock 9 # the tests of the other tiers want it, too, at the same time
if [ ! -e "$work/$name/.complete" ]; then
    (cd "$suites" && grep " $name.tar.xz\$" SHA256SUMS | sha256sum --check --quiet)
    tar -C "$work" -xJf "$suites/$name.tar.xz"
    touch "$work/$name/.complete"
fi
exec 9>&-
exec "$runner" "$@" --skip "$here/spec-skip.txt" --counts "$suites/COUNTS.tsv" "$work/$name"
