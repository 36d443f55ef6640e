#!/bin/bash
# An encrypted package is opened in the keep and nowhere else; whoever stores or carries it cannot change it.
. "$(dirname "$0")/lib.sh"
need_keep
need openssl openssl
[ -x "$bin/donjon-package" ] || { echo "SKIP: donjon-package is not built"; exit 77; }
make_app; start_agent
# A program of more bytes than the tenant's process may write to any file, and two files, all with a word to look for.
needle="needle-in-$(openssl rand -hex 8)"
for i in 1 2; do { printf '%s\n' "$needle-$i"; openssl rand -hex 20000; } >"$tmp/file$i"; done
mkdir -p "$tmp/app/data"; cp "$tmp/file1" "$tmp/app/data/one"; cp "$tmp/file2" "$tmp/app/data/two"
{ sed 's/(memory (export "memory") 1)/(memory (export "memory") 2)/; $d' "$tmp/app.wat"
  printf '(drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))\n(data (i32.const 1024) "%s %s"))\n' \
    "$needle-module" "$(openssl rand -hex 30000)"; } >"$tmp/big.wat"
wat2wasm "$tmp/big.wat" -o "$tmp/app/main.wasm"
printf '[[mounts]]\nhost = "data"\nguest = "/data"\n' >>"$tmp/app/Donjon.toml"
"$donjon" pack -q --encrypt "$tmp/content.key" -o "$tmp/oci" "$tmp/app" >"$tmp/digest"
rm -r "$tmp/app" "$tmp/big.wat" "$tmp/file1" "$tmp/file2" # from here on the tenant has the key, and nothing that it opens

export TMPDIR="$tmp/temporary" XDG_RUNTIME_DIR="$tmp/runtime"
mkdir "$TMPDIR" "$XDG_RUNTIME_DIR"
key="$tmp/content.key"
deploy_package() { # deploy_package HOST PACKAGE: the tenant's process cannot write a file of 32 KiB
  (ulimit -f 32; exec "$donjon" deploy --host "$1" --allow-no-tee --secret "key=$tmp/secret" --decrypt-key "$key" "$2")
}
nowhere() { # nowhere WORD FILE-OR-DIRECTORY...
  ! grep -rqa -e "$1" "${@:2}" 2>/dev/null || { grep -rla -e "$1" "${@:2}"; echo "THE PLAINTEXT IS THERE"; exit 1; }
}

# The search finds what is there, and whoever opens the package on this machine must write more than deploying may.
"$donjon" pull -q --decrypt-key "$key" -u "$tmp/opened" "$tmp/oci" >/dev/null
grep -rqa -e "$needle" "$tmp/opened"; rm -r "$tmp/opened"
! (ulimit -f 32; "$donjon" pull -q --decrypt-key "$key" -u "$tmp/opened" "$tmp/oci" >/dev/null 2>&1); rm -rf "$tmp/opened"
"$donjon" deploy --dry-run --secret "key=$tmp/secret" --decrypt-key "$key" "$tmp/oci" >/dev/null # the digest is known without opening it
start_evil record
works deploy_package "$evil" "$tmp/oci"
grep -q "the tenant's program" "$tmp/out"
[ -s "$tmp/evil/seen" ]
nowhere "$needle" "$tmp" # all of the tenant's disk and the host's: what is stored, and what was relayed
[ -z "$(find "$TMPDIR" "$XDG_RUNTIME_DIR" -mindepth 1)" ] || { echo "something was left in the temporary directories"; exit 1; }
python3 - "$key" "$needle" "${pids[0]}" "$tmp/evil" "$tmp/host" "$tmp/agent.log" <<'PY'
import os, re, sys
key, needle, pid = open(sys.argv[1], "rb").read(), sys.argv[2].encode(), sys.argv[3]
for top in sys.argv[4:]:
    for d, _, files in os.walk(top) if os.path.isdir(top) else [(os.path.dirname(top), [], [os.path.basename(top)])]:
        for f in files:
            path = os.path.join(d, f)
            assert not os.path.isfile(path) or key not in open(path, "rb").read(), f"the key is in {path}"
try:
    maps, mem = open(f"/proc/{pid}/maps"), open(f"/proc/{pid}/mem", "rb", 0)
except PermissionError:
    sys.exit()
for line in maps:
    start, end = (int(x, 16) for x in re.match("([0-9a-f]+)-([0-9a-f]+)", line).groups())
    try:
        mem.seek(start)
        data = mem.read(min(end - start, 64 << 20)) or b""
    except (OSError, ValueError, OverflowError):
        continue
    assert key not in data and needle not in data, "in the agent's memory"
PY
printf 'Neither content nor key are on the disks of tenant and host, in what was relayed, or in the agent.\n'

cat >"$tmp/forge.py" <<'PY'
import hashlib, json, os, shutil, sys
# forge.py FROM TO WHAT: a layout in which everything fits together, as a registry can make it that a tag is asked of.
source, target, what = sys.argv[1:4]
shutil.rmtree(target, ignore_errors=True)
shutil.copytree(source, target)
blobs = target + "/blobs/sha256/"
index = json.load(open(target + "/index.json"))
manifest = json.load(open(blobs + index["manifests"][0]["digest"][7:]))
layers = manifest["layers"]

def put(data):
    digest = hashlib.sha256(data).hexdigest()
    with open(blobs + digest, "wb") as f:
        f.write(data)
    return {"digest": "sha256:" + digest, "size": len(data)}

def get(layer):
    return open(blobs + layer["digest"][7:], "rb").read()

if what == "bit":
    data = bytearray(get(layers[0]))
    data[len(data) // 2] ^= 1
    layers[0].update(put(bytes(data)))
elif what == "short":
    layers[1].update(put(get(layers[1])[:-100]))
elif what == "tiny":
    layers[0].update(put(get(layers[0])[:20]))
elif what == "swap":
    a, b = ({k: l[k] for k in ("digest", "size")} for l in layers[1:3])
    layers[1].update(b)
    layers[2].update(a)
elif what == "plain":
    layers[0] = {"mediaType": "application/wasm", **put(open(sys.argv[4], "rb").read())}
    del layers[1:]
elif what == "file":
    layers[2] = {"mediaType": "application/vnd.donjon.file.v1", "annotations": {"org.opencontainers.image.title": "data/two"}, **put(b"x")}
elif what in ("older", "foreign"):  # another package's layer of the same name
    other = json.load(open(sys.argv[4] + "/index.json"))["manifests"][0]["digest"][7:]
    theirs = json.load(open(f"{sys.argv[4]}/blobs/sha256/{other}"))["layers"][0]
    with open(f"{sys.argv[4]}/blobs/sha256/{theirs['digest'][7:]}", "rb") as f:
        layers[0].update(put(f.read()))
    if what == "foreign":  # with its sealed digest too
        layers[0]["annotations"] = {**theirs["annotations"], "org.donjon.key-id": layers[0]["annotations"]["org.donjon.key-id"]}
elif what == "nokeyid":
    for l in layers:
        l["annotations"].pop("org.donjon.key-id", None)
elif what == "config":
    notes = manifest["annotations"]
    notes["org.donjon.config.toml"] += "\n# changed\n"
elif what == "fewer":
    del layers[2]
elif what == "mixed":  # all of another layer, under the same key
    other = json.load(open(sys.argv[4] + "/index.json"))["manifests"][0]["digest"][7:]
    layers[0] = json.load(open(f"{sys.argv[4]}/blobs/sha256/{other}"))["layers"][0]
    with open(f"{sys.argv[4]}/blobs/sha256/{layers[0]['digest'][7:]}", "rb") as f:
        put(f.read())
elif what == "nopackage":
    del manifest["annotations"]["org.donjon.sealed-package"]
elif what == "nodigest":
    del layers[0]["annotations"]["org.donjon.sealed-digest"]
index["manifests"][0].update(put(json.dumps(manifest).encode()))
json.dump(index, open(target + "/index.json", "w"))
PY
forge() { python3 "$tmp/forge.py" "$tmp/oci" "$tmp/forged" "$@"; }

attack "a registry changes one bit of the encrypted program, and all digests with it"; forge bit
refused "the module does not decrypt" deploy_package "$host" "$tmp/forged"
attack "a registry cuts an encrypted file, and says so in the manifest"; forge short
refused "file data/one does not decrypt" deploy_package "$host" "$tmp/forged"
attack "a layer too short to be one"; forge tiny
refused "too short for an encrypted layer" deploy_package "$host" "$tmp/forged"
attack "two encrypted files change places"; forge swap
refused "does not decrypt|not this layer's" deploy_package "$host" "$tmp/forged"
mkdir "$tmp/older"; wat2wasm "$tmp/app.wat" -o "$tmp/older/main.wasm"
attack "a plain program in place of the encrypted one"; forge plain "$tmp/older/main.wasm"
refused "not encrypted, though a key" deploy_package "$host" "$tmp/forged"
attack "one plain file among the encrypted ones"; forge file
refused "data/two is not encrypted" deploy_package "$host" "$tmp/forged"
"$donjon" pack -q --encrypt "$key" -o "$tmp/older.oci" "$tmp/older" >/dev/null
attack "the program of an older package, encrypted with the same key"; forge older "$tmp/older.oci"
refused "does not have the digest" deploy_package "$host" "$tmp/forged"
"$donjon" pack -q --encrypt "$tmp/foreign.key" -o "$tmp/foreign.oci" "$tmp/older" >/dev/null
attack "a program that somebody without the key has encrypted"; forge foreign "$tmp/foreign.oci"
refused "not of this key" deploy_package "$host" "$tmp/forged"
attack "the sealed digest is taken away"; forge nodigest
refused "does not say .*what its encrypted layers hold" deploy_package "$host" "$tmp/forged"
attack "a registry changes the configuration, which is plain"; forge config
refused "configuration or its list of files was changed" deploy_package "$host" "$tmp/forged"
attack "a registry leaves out an encrypted file"; forge fewer
refused "configuration or its list of files was changed" deploy_package "$host" "$tmp/forged"
attack "an older package's program with all that belongs to it, under the same key"; forge mixed "$tmp/older.oci"
refused "configuration or its list of files was changed" deploy_package "$host" "$tmp/forged"
attack "what holds the package together is taken away"; forge nopackage
refused "does not say .*what belongs together" deploy_package "$host" "$tmp/forged"
nowhere "$needle" "$tmp/host" "$tmp/forged"

attack "the wrong key"
key="$tmp/foreign.key"; refused "encrypted with another key" deploy_package "$host" "$tmp/oci"
attack "the wrong key, and a package that does not tell keys apart"; forge nokeyid
refused "not of this key" deploy_package "$host" "$tmp/forged"
key="$tmp/content.key"
attack "a host in the middle of the channel waits for the key"; start_evil relay
refused "policy.report_data" deploy_package "$evil" "$tmp/oci"
[ ! -s "$tmp/evil/loot" ] || { echo "THE HOST HAS BEEN TOLD SOMETHING"; exit 1; }
