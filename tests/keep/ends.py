#!/usr/bin/env python3
"""How a keep ends: exit codes, traps that are faults of native code, the time limit, kill -9, and what it says when it cannot begin.
$DONJON_BACKEND names the kind of keep; exits 77 where it cannot be built."""
import json, os, random, shutil, signal, subprocess, sys, tempfile, time

BIN = os.environ.get("DONJON_BIN", "build/bin")
BACKEND = os.environ.get("DONJON_BACKEND", "kvm")
CPUS = ["--limit", "cpus=" + os.environ.get("DONJON_CPUS", "1")]
DONJON = os.path.join(BIN, "donjon")

# (module (memory (export "memory") 1) (func (export "_start") (drop (i32.load (i32.const 0x7fffffff)))))
OUT_OF_BOUNDS = bytes.fromhex("0061736d01000000010401600000030201000503010001071302066d656d6f72790200065f737461727400000a0e010c0041ffffffff072802001a0b")
# (module (func $f (export "_start") (call $f) (drop (memory.size))) (memory 1))
NO_END = bytes.fromhex("0061736d01000000010401600000030201000503010001070a01065f737461727400000a0901070010003f001a0b")
# (module (memory 1) (func (export "_start") (loop $l (br $l))))
LOOP = bytes.fromhex("0061736d01000000010401600000030201000503010001070a01065f737461727400000a0901070003400c000b0b")
# (module (func (export "_start")))
NOTHING = bytes.fromhex("0061736d01000000010401600000030201000" "70a01065f737461727400000a040102000b")


def run(module, *options, env=None, **kw):
    with tempfile.NamedTemporaryFile(suffix=".wasm") as f:
        f.write(module)
        f.flush()
        p = subprocess.run([DONJON, "run", "--backend", BACKEND, *CPUS, *options, f.name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=120, env={**os.environ, **(env or {})}, **kw)
    return p.returncode, p.stderr.decode(errors="replace")


def check(name, ok, found=""):
    print("ok  " if ok else "FAIL", name, "" if ok else found, flush=True)
    return ok


def ends():
    yield check("a program that does nothing", run(NOTHING) == (0, ""), run(NOTHING))
    code, err = run(OUT_OF_BOUNDS)
    yield check("out of bounds is a trap", code == 134 and "out of bounds memory access" in err, (code, err))
    code, err = run(NO_END)
    yield check("endless recursion is a trap", code == 134 and "call stack exhausted" in err, (code, err[:300]))
    began = time.monotonic()
    emulated = os.environ.get("DONJON_KVM_MODE") == "0"  # where true rings are, a keep takes seconds to begin
    code, err = run(LOOP, "-W", "timeout=4s" if emulated else "timeout=1500ms")
    took = time.monotonic() - began
    yield check("the time limit, said by the keep itself", code == 124 and "interrupted" in err and took < (40 if emulated else 10), (code, err, took))


def deaths():
    """kill -9 at any moment leaves no process and no descriptor's other end."""
    with tempfile.NamedTemporaryFile(suffix=".wasm") as f:
        f.write(LOOP)
        f.flush()
        for _ in range(12):
            p = subprocess.Popen([DONJON, "run", "--backend", BACKEND, *CPUS, f.name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                 start_new_session=True)
            time.sleep(random.uniform(0, 0.03))
            os.kill(p.pid, signal.SIGKILL)
            p.wait()
            p.stdout.read()  # ends when nobody holds the pipe any more
            left = subprocess.run(["ps", "-o", "pid=", "-s", str(p.pid)], stdout=subprocess.PIPE).stdout.split()
            yield check("killed", not left, left)


def refusals():
    """A warden that is not the measured one is not started."""
    with tempfile.TemporaryDirectory() as tmp:
        for name in ("donjon-warden", "donjon-warden.digests", "donjon-shim"):
            shutil.copy(os.path.join(BIN, name), tmp)
        warden = os.path.join(tmp, "donjon-warden")
        env = {"DONJON_WARDEN": warden}
        yield check("a copy runs", run(NOTHING, env=env) == (0, ""))
        with open(warden, "r+b") as f:
            f.seek(100000)
            byte = f.read(1)
            f.seek(100000)
            f.write(bytes([byte[0] ^ 1]))
        code, err = run(NOTHING, env=env)
        yield check("one changed bit in the warden", code == 125 and "not the one that was measured" in err, (code, err))
        with open(os.path.join(tmp, "donjon-shim"), "r+b") as f:
            f.truncate(20000)
        code, err = run(NOTHING, env=env)
        yield check("half a shim", code == 125 and "damaged" in err, (code, err))
        os.remove(os.path.join(tmp, "donjon-shim"))
        code, err = run(NOTHING, env=env)
        yield check("no shim", code == 125 and "donjon-shim" in err, (code, err))


def main():
    info = json.loads(subprocess.run([DONJON, "platform", "info", "--json"], stdout=subprocess.PIPE).stdout)
    state = next((b for b in info["backends"] if b["name"] == BACKEND), None)
    if not state or not state["available"]:
        print(f"SKIP: no {BACKEND} keep here: {state and state['missing']}")
        return 77
    results = [*ends(), *deaths()]
    if BACKEND == "kvm":
        results += [*refusals()]
    return 0 if all(results) else 1


sys.exit(main())
