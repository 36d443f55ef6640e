#!/bin/bash
# The second half of ./dev demo: a program with a secret on a machine that shall not see it.  deployed.sh DONJON EXAMPLES
# Host, steward, tenant and client are all this machine; what each of them has is in a directory of its own.
set -euo pipefail
bin="$(dirname "$(realpath "$1")")" donjon="$(realpath "$1")" ex="$(realpath "$2")" here="$(cd "$(dirname "$0")" && pwd)"
if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else bold= dim= plain=; fi
step() { printf '\n%s\n' "$bold$*$plain"; }
shown() { local t="$*"; t="${t//$donjon/donjon}"; printf '%s\n' "${dim}\$ ${t//$w\//}${plain}"; } # as one would type it
show() { shown "$@"; "$@"; }
die() { echo "demo: $*" >&2; exit 1; }
refused() { # refused WORDS COMMAND...: shown, and it must fail for this reason
  local words="$1" out code=0; shift
  shown "$@"
  out="$("$@" 2>&1)" || code=$?
  printf '%s\n' "$out"
  [ $code != 0 ] && grep -q -- "$words" <<<"$out" || die "expected a refusal that says \"$words\""
  printf '%s\n' "${dim}(exit code $code)${plain}"
}
w="$(mktemp -d /tmp/djdemo.XXXXXX)"
mkdir "$w"/{host,steward,tenant,tenant/vault,seen}
pids=()
cleanup() {
  local p
  [ ! -e "$w/id" ] || XDG_STATE_HOME="$w/tenant" "$donjon" stop "$(cat "$w/id")" >/dev/null 2>&1 || true
  for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$w"
}
trap cleanup EXIT
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
backend=kvm
"$donjon" run --backend kvm "$ex/wordcount.wasm" </dev/null >/dev/null 2>&1 || { backend=process; echo "(no kvm keep can be built here: the process keep instead)"; }
export XDG_STATE_HOME="$w/tenant" XDG_CACHE_HOME="$w/tenant/cache"

step "The tenant's: a web service, and a secret for it."
port="$(free_port)" stewards="$(free_port)"
cp "$ex/vault.wasm" "$w/tenant/vault/main.wasm"
secret="sesame-$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')"
printf %s "$secret" >"$w/tenant/code"
"$donjon" steward init "$w/steward" >/dev/null
sed -e "s/port = 8443/port = $port/" -e "s|^\[tls\]|steward = \"http://127.0.0.1:$stewards\"\n\n[tls]\nsteward-ca = \"ca.pem\"|" "$here/c/vault.toml" |
  awk '/^steward = /{held = $0; next} {lines[++n] = $0} END {print held; for (i = 1; i <= n; i++) print lines[i]}' >"$w/tenant/vault/Donjon.toml"
cp "$w/steward/ca.pem" "$w/tenant/vault/ca.pem"
shown "$donjon" deploy --dry-run --secret "code=$w/tenant/code" "$w/tenant/vault"
"$donjon" deploy --dry-run --secret "code=$w/tenant/code" "$w/tenant/vault" | tee "$w/digests"
workload="$(sed -n 's/^workload *//p' "$w/digests")" measurement="$(sed -n 's/^measurement *//p' "$w/digests")"

step "The host's: an agent. A recorder between tenant and host keeps every byte that passes, as the host could."
"$bin/donjon-agent" --state "$w/host" --listen 127.0.0.1:0 2>"$w/seen/agent.log" & agent=$!; pids+=($agent)
for _ in $(seq 100); do grep -q serving "$w/seen/agent.log" && break; sleep 0.05; done
agent_port="$(sed -n 's/.*serving port=\([0-9]*\).*/\1/p' "$w/seen/agent.log")"
python3 "$here/recorder.py" "$agent_port" "$w/seen/traffic" >"$w/recorder" & pids+=($!)
for _ in $(seq 100); do [ -s "$w/recorder" ] && break; sleep 0.05; done
host="127.0.0.1:$(cat "$w/recorder")"
cat "$w/seen/agent.log"

step "The steward: gives certificates to this program in this keep, and to nobody else."
cp "$w/host/dev-root.pem" "$w/steward/"
cat >"$w/steward/policy.toml" <<POLICY
name = "vault"
tees = ["software"]   # this machine has no TEE: with one, "snp"
allow_software = true
[snp]
measurements = ["$measurement"]
allow_smt = true
POLICY
sed -i -e "s/127.0.0.1:7475/127.0.0.1:$stewards/" -e 's/^# development-root/development-root/' -e "s/workloads = \[\"any\"\]/workloads = [\"$workload\"]/" "$w/steward/steward.toml"
"$donjon" steward --config "$w/steward/steward.toml" & pids+=($!)
for _ in $(seq 100); do curl -sf "http://127.0.0.1:$stewards/healthz" >/dev/null && break; sleep 0.05; done

step "Deployment is refused where no hardware keeps the host out ..."
refused "no hardware" "$donjon" deploy --host "$host" --secret "code=$w/tenant/code" "$w/tenant/vault"
step "... unless the tenant says so. (On a machine with a TEE this flag is not needed, and the red line not there.)"
deploy=("$donjon" deploy --host "$host" --backend "$backend" --allow-no-tee --name vault --secret "code=$w/tenant/code" --detach "$w/tenant/vault")
shown "${deploy[@]}"
"${deploy[@]:0:2}" --json "${deploy[@]:2}" >"$w/id" 2>"$w/steps" || { cat "$w/steps"; die "the deployment failed"; }
if [ -t 1 ]; then red=$'\e[1;31m'; else red=; fi
sed -n 's/^{"step":"\([^"]*\)","ok":\([a-z]*\),"text":"\(.*\)"}$/  \2  \3/p' "$w/steps" | sed -e 's/^  true /  ok   /' -e "s/^  false\(.*\)/  ${red}NO   NOT PROTECTED:\1$plain/"

step "A client, who trusts the steward's CA and nothing else."
for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break; sleep 0.05; done # the certificate is fetched first
show curl --silent --show-error --cacert "$w/steward/ca.pem" "https://localhost:$port/open?guess"
shown curl --silent --show-error --cacert "$w/steward/ca.pem" "https://localhost:$port/open?$secret"
curl --silent --show-error --cacert "$w/steward/ca.pem" "https://localhost:$port/open?$secret" | tee "$w/answer"
grep -q "is open" "$w/answer" || die "the vault did not open"

step "A client who wants to see the evidence himself."
printf '[snp]\nmeasurements = ["%s"]\nallow_smt = true\n' "$measurement" >"$w/policy"
sed -i "1i tees = [\"software\"]\nallow_software = true\nworkloads = [\"$workload\"]" "$w/policy"
show "$donjon" verify --url "https://localhost:$port" --policy "$w/policy" --dev-root "$w/host/dev-root.pem" --quiet

step "What the program wrote comes through the channel to the tenant; the host has no log of it."
show "$donjon" ps
show "$donjon" logs vault

step "What did the host see? The secret is looked for in everything that passed, on its disk, in its logs, and in the agent's memory."
python3 "$here/recorder.py" --search "$secret" "$w/tenant" && die "the search finds nothing, not even where the secret is"
python3 "$here/recorder.py" --search "$secret" "$w/seen" "$w/host" --memory "$agent" || die "the host has seen the secret"
echo "  (It is in the memory of the keep itself. Hardware would hide that from the host; this machine has none, which is what the red line says.)"

step "A host that changes one byte of the warden is refused: the measurement is another."
mkdir "$w/evil"; cp "$bin"/donjon-* "$w/evil/"
LC_ALL=C sed -i 's/donjon workload v1/donjon workload v2/' "$w/evil/donjon-warden-tls"
"$w/evil/donjon-digests" "$w/evil/donjon-warden-tls" "$w/evil/donjon-warden-tls.digests"
"$w/evil/donjon-agent" --state "$w/evil/state" --listen 127.0.0.1:0 2>"$w/evil/log" & pids+=($!)
for _ in $(seq 100); do grep -q serving "$w/evil/log" && break; sleep 0.05; done
refused "measurement" "$donjon" deploy --host "127.0.0.1:$(sed -n 's/.*serving port=\([0-9]*\).*/\1/p' "$w/evil/log")" --allow-no-tee --secret "code=$w/tenant/code" "$w/tenant/vault"

show "$donjon" stop vault
rm -f "$w/id"
