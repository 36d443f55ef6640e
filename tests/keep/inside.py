#!/usr/bin/env python3
"""inside.py PROGRAM [WORDS]: runs PROGRAM in the warden's place in a kvm keep, shows what it says, and expects WORDS in it ("all holds").
DONJON_CPUS: how many virtual CPUs the keep may have (1).
Exits 77 where there are no such keeps."""
import json, os, subprocess, sys, tempfile

BIN = os.environ.get("DONJON_BIN", "build/bin")
DONJON = os.path.join(BIN, "donjon")
NOTHING = bytes.fromhex("0061736d0100000001040160000003020100070a01065f737461727400000a040102000b")

info = json.loads(subprocess.run([DONJON, "platform", "info", "--json"], stdout=subprocess.PIPE).stdout)
state = next(b for b in info["backends"] if b["name"] == "kvm")
if not state["available"]:
    print("SKIP: no kvm keep here:", state["missing"])
    sys.exit(77)
env = {**os.environ, "DONJON_WARDEN": sys.argv[1], "DONJON_SHIM": os.path.join(BIN, "donjon-shim")}
with tempfile.NamedTemporaryFile(suffix=".wasm") as f:
    f.write(NOTHING)
    f.flush()
    p = subprocess.run([DONJON, "run", "--backend", "kvm", "--debug", "--limit", "cpus=" + os.environ.get("DONJON_CPUS", "1"), f.name], env=env, stderr=subprocess.PIPE, timeout=570)
text = p.stderr.decode(errors="replace")
print(text)
words = sys.argv[2] if len(sys.argv) > 2 else "all holds"
sys.exit(0 if words in text and "status 0" in text else 1)
