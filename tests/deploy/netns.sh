#!/bin/bash
# Tenant, host, steward and client in network namespaces of their own, on one wire: what they have of each other is what
# real machines would have. An HTTPS service with a secret is deployed, gets its certificate, is used, and outlives its agent.
. "$(dirname "$0")/../attacks/lib.sh"
need_keep
need ip iproute2; need curl curl; need openssl openssl
[ -x "$bin/donjon-steward" ] || { echo "SKIP: donjon-steward is not built"; exit 77; }
need clang-14 clang
[ -d /usr/include/wasm32-wasi ] || { echo "SKIP: needs wasi-libc"; exit 77; }
tag="dj$$"
all=(tenant host steward client)
in_() { local n="$1"; shift; ip netns exec "$tag-$n" "$@"; }
finish() {
  local n
  cleanup
  for n in "${all[@]}"; do
    ip link del "$tag-${n:0:1}" 2>/dev/null || true
    ip netns del "$tag-$n" 2>/dev/null || true
  done
  ip netns del "$tag-probe" 2>/dev/null || true
  ip link del "$tag" 2>/dev/null || true
}
trap finish EXIT
{ ip link add "$tag" type bridge && ip link set "$tag" up && ip netns add "$tag-probe" && ip netns exec "$tag-probe" true && ip netns del "$tag-probe"; } 2>"$tmp/why" ||
  { echo "SKIP: network namespaces cannot be made here: $(head -1 "$tmp/why")"; exit 77; }
address() { case "$1" in tenant) echo 10.98.7.1 ;; host) echo 10.98.7.2 ;; steward) echo 10.98.7.3 ;; client) echo 10.98.7.4 ;; esac; }
for n in "${all[@]}"; do
  ip netns add "$tag-$n"
  ip link add "$tag-${n:0:1}" type veth peer name eth0 netns "$tag-$n"
  ip link set "$tag-${n:0:1}" master "$tag" up
  in_ "$n" ip link set lo up
  in_ "$n" ip link set eth0 up
  in_ "$n" ip address add "$(address "$n")/24" dev eth0
done
host="$(address host)" steward="$(address steward)"

# The workload: examples/c/vault.c.
mkdir "$tmp/vault"
clang-14 --target=wasm32-wasi -O2 -c "$here/../../examples/c/vault.c" -o "$tmp/vault.o"
clang-14 --target=wasm32-wasi "$tmp/vault.o" -o "$tmp/vault/main.wasm"
secret="sesame-$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')"; printf %s "$secret" >"$tmp/code"
"$donjon" steward init "$tmp/steward" >/dev/null
cp "$tmp/steward/ca.pem" "$tmp/vault/"
sed -e 's/127.0.0.1"$/::"/' -e 's/^addr = .*/addr = "0.0.0.0"/' -e "s/^names = .*/names = [\"vault.keep.example\"]/" \
  -e "s|^\[tls\]|[tls]\nsteward-ca = \"ca.pem\"|" -e "1i steward = \"https://$steward:7475\"" "$here/../../examples/c/vault.toml" >"$tmp/vault/Donjon.toml"
"$donjon" deploy --dry-run --secret "code=$tmp/code" "$tmp/vault" >"$tmp/digests"
workload="$(sed -n 's/^workload *//p' "$tmp/digests")" measurement="$(sed -n 's/^measurement *//p' "$tmp/digests")"

# The host: an agent with one tenant, who may reach the steward although its network is a private one.
"$donjon" agent --new-token acme >"$tmp/token.toml"
sed -n '$s/^# //p' "$tmp/token.toml" >"$tmp/token"
{ echo "stewards = [\"https://$steward:7475/\"]"; cat "$tmp/token.toml"; } >"$tmp/agent.toml"
start() {
  : >"$tmp/agent.log"
  ip netns exec "$tag-host" "$bin/donjon-agent" --state "$tmp/host" --config "$tmp/agent.toml" --listen 0.0.0.0 2>"$tmp/agent.log" & agent=$!; pids+=($agent)
  for _ in $(seq 200); do grep -q serving "$tmp/agent.log" && break; sleep 0.05; done
  key="$(sed -n 's/.*serving.* key=\([0-9a-f]*\).*/\1/p' "$tmp/agent.log")"
}
start

# The steward.
cp "$tmp/host/dev-root.pem" "$tmp/steward/"
printf 'tees = ["software"]\nallow_software = true\n[snp]\nmeasurements = ["%s"]\nallow_smt = true\n' "$measurement" >"$tmp/steward/policy.toml"
sed -i -e "s/127.0.0.1:7475/0.0.0.0:7475/" -e 's/^# development-root/development-root/' -e "s/\"any\"/\"$workload\"/" \
  -e "s/^# \[tls\]/[tls]/; s/^# names = \[\"steward.example\"\]/names = [\"$steward\"]/" "$tmp/steward/steward.toml"
ip netns exec "$tag-steward" "$donjon" steward --config "$tmp/steward/steward.toml" >"$tmp/steward.log" 2>&1 & pids+=($!)
for _ in $(seq 100); do grep -q listening "$tmp/steward.log" && break; sleep 0.05; done

tenant() { in_ tenant "$donjon" "$@"; }
who=(--host "$host" --token-file "$tmp/token")
echo "Without the agent's key, and with a wrong token, nothing is done:"
refused "nothing says that this is the agent" tenant deploy "${who[@]}" --allow-no-tee --secret "code=$tmp/code" "$tmp/vault"
echo "0123456789abcdef0123" >"$tmp/wrong"
refused "no tenant has this token" tenant deploy --host "$host" --agent-key "$key" --token-file "$tmp/wrong" --allow-no-tee --secret "code=$tmp/code" "$tmp/vault"
who+=(--agent-key "$key")
tenant deploy "${who[@]}" --allow-no-tee --detach --name vault --secret "code=$tmp/code" "$tmp/vault" >"$tmp/id" 2>"$tmp/out" || { cat "$tmp/out" "$tmp/agent.log"; exit 1; }

open_vault() {
  in_ client curl -s --max-time 5 --resolve "vault.keep.example:8443:$host" --cacert "$tmp/steward/ca.pem" "https://vault.keep.example:8443/open?$1"
}
for _ in $(seq 100); do open_vault x >/dev/null && break; sleep 0.1; done
[ "$(open_vault guess)" = "Wrong code." ] && [ "$(open_vault "$secret")" = "The vault is open." ] ||
  { in_ client curl -sv --cacert "$tmp/steward/ca.pem" --resolve "vault.keep.example:8443:$host" https://vault.keep.example:8443/ ; cat "$tmp/agent.log"; echo "the client cannot use it"; exit 1; }
echo "The client uses it, trusting the steward's CA."
in_ client "$donjon" verify --quiet --url "https://$host:8443" --dev-root "$tmp/host/dev-root.pem" --set allow_software=true \
  --set "snp.measurements=$measurement" --set "workloads=$workload" || { echo "the client cannot verify it"; exit 1; }
tenant logs vault | grep -q opened || { echo "no log"; exit 1; }

[ "$(tr '\0' ' ' <"/proc/$agent/cmdline" | cut -d' ' -f1)" = "$bin/donjon-agent" ] # not a shell around it
kill -9 "$agent"; wait "$agent" 2>/dev/null || true
[ "$(open_vault "$secret")" = "The vault is open." ] || { echo "the keep did not outlive its agent"; exit 1; }
start
grep -q "keep adopted" "$tmp/agent.log" || { cat "$tmp/agent.log"; echo "the next agent does not have it"; exit 1; }
for _ in $(seq 50); do tenant ps | grep -q running && break; sleep 0.1; done
tenant ps | tee "$tmp/ps"; grep -q running "$tmp/ps"
tenant logs vault >"$tmp/log"; [ "$(grep -c opened "$tmp/log")" -ge 2 ] || { cat "$tmp/log"; echo "the log ended with the agent"; exit 1; }
echo "The keep outlived its agent; the next one has it."
! grep -rqa "$secret" "$tmp/host" "$tmp/agent.log" "$tmp/steward" || { echo "THE SECRET IS ON A DISK"; exit 1; }
tenant stop vault
for _ in $(seq 50); do [ -z "$(ls "$tmp/host/keeps")" ] && break; sleep 0.1; done
[ -z "$(ls "$tmp/host/keeps")" ] || { echo "something is left"; exit 1; }
