#!/bin/bash
# run.sh BUILD [SECONDS] [TARGET...]: runs every fuzz target (or those named) for SECONDS each (60) from its kept corpus. New inputs
# go to BUILD/fuzz-corpus, findings to BUILD/fuzz-findings. Fails when one of them finds anything.
set -euo pipefail
build="$(realpath "$1")" seconds="${2:-60}"
shift $(($# > 2 ? 2 : $#))
here="$(cd "$(dirname "$0")" && pwd)"
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=($(cd "$here" && ls fuzz_*.c | sed 's/^fuzz_//; s/\.c$//'))
bad=0
for t in "${targets[@]}"; do
  mkdir -p "$build/fuzz-corpus/$t" "$build/fuzz-findings"
  dict=(); [ ! -f "$here/$t.dict" ] || dict=(-dict="$here/$t.dict")
  log="$build/fuzz-$t.log"
  if "$build/bin/fuzz_$t" "${dict[@]}" -max_total_time="$seconds" -rss_limit_mb=2048 -malloc_limit_mb=1024 -timeout=20 \
       -artifact_prefix="$build/fuzz-findings/$t-" "$build/fuzz-corpus/$t" "$here/corpus/$t" >"$log" 2>&1; then
    echo "fuzz $t: clean ($(grep -oE 'Done [0-9]+ runs' "$log" || echo 'no count') in $seconds s)"
  else
    bad=1
    echo "fuzz $t: FOUND something, see $log"
    tail -30 "$log"
  fi
done
exit $bad
