#!/bin/bash
# run.sh BUILD [SECONDS] [TARGET...]: runs every fuzz target (or those named) from its kept corpus for SECONDS (60) of processor time
# each, so that a busy machine does not make a run worth less. New inputs go to BUILD/fuzz-corpus, findings to BUILD/fuzz-findings.
# Fails when one of them finds anything.
set -euo pipefail
build="$(realpath "$1")" seconds="${2:-60}"
shift $(($# > 2 ? 2 : $#))
here="$(cd "$(dirname "$0")" && pwd)"
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=($(cd "$here" && ls fuzz_*.c | sed 's/^fuzz_//; s/\.c$//'))

# The processor time that process $1 has used, in whole seconds; nothing when it is gone.
cpu_seconds() {
  local stat
  stat="$(cat "/proc/$1/stat" 2>/dev/null)" || return 0
  set -- ${stat##*) }
  echo $(((${12} + ${13}) / $(getconf CLK_TCK)))
}

# Runs "$@" until it has used $seconds of processor time, then interrupts it: libFuzzer ends that with status 72. Sets $used.
run_for() {
  local now pid
  "$@" &
  pid=$! used=0
  trap 'kill "$pid" 2>/dev/null' EXIT
  while now="$(cpu_seconds "$pid")" && [ -n "$now" ]; do
    used="$now"
    [ "$used" -lt "$seconds" ] || kill -INT "$pid" 2>/dev/null || true
    sleep 1
  done
  trap - EXIT
  wait "$pid" || [ $? = 72 ]
}

bad=0
for t in "${targets[@]}"; do
  mkdir -p "$build/fuzz-corpus/$t" "$build/fuzz-findings"
  dict=(); [ ! -f "$here/$t.dict" ] || dict=(-dict="$here/$t.dict")
  log="$build/fuzz-$t.log"
  if run_for "$build/bin/fuzz_$t" "${dict[@]}" -rss_limit_mb=2048 -malloc_limit_mb=1024 -timeout=20 \
       -artifact_prefix="$build/fuzz-findings/$t-" "$build/fuzz-corpus/$t" "$here/corpus/$t" >"$log" 2>&1; then
    echo "fuzz $t: clean ($(grep -oE '^#[0-9]+' "$log" | tail -1 | tr -d '#') runs in $used s of processor time)"
  else
    bad=1
    echo "fuzz $t: FOUND something, see $log"
    tail -30 "$log"
  fi
done
exit $bad
