#!/bin/bash
. "$(dirname "$0")/lib.sh"
need_keep
attack "evidence is shown again when the certificates behind it have ended"
make_app; start_agent
id="$("$donjon" deploy --host "$host" --allow-no-tee --detach --secret "key=$tmp/secret" "$tmp/app" 2>/dev/null)"
"$donjon" evidence "$id" -o "$tmp/evidence" --json >"$tmp/saved" 2>/dev/null || { echo "no evidence"; exit 1; }
report="$(sed -n 's/.*"report_data": "\([0-9a-f]*\)".*/\1/p' "$tmp/saved")"
verify=("$donjon" verify --quiet --collateral "$tmp/evidence.pem" --dev-root "$tmp/host/dev-root.pem" --set allow_software=true --set "report_data=$report")
works "${verify[@]}" "$tmp/evidence"
refused "REJECTED" "${verify[@]}" --at 2049-01-01T00:00:00Z "$tmp/evidence"
attack "a real quote of SGX's, with the collateral of its time, a year later"
case="${DONJON_SHARED:-/nowhere}/vectors/sgx/icx-automata-b"
if [ -d "$case" ]; then
  works "$donjon" verify --quiet --at 2025-08-30T00:00:00Z --set intel.tcb_statuses=SWHardeningNeeded --collateral "$case" "$case/quote.bin"
  refused "REJECTED" "$donjon" verify --quiet --at 2026-08-30T00:00:00Z --set intel.tcb_statuses=SWHardeningNeeded --collateral "$case" "$case/quote.bin"
else
  echo "(left out: no vectors here)"
fi
