#!/usr/bin/env python3
"""kvm_amd.py BIN INIT CACHE: the kvm keep on a genuine kvm_amd, which runs on a processor that QEMU emulates. BIN has the build's programs, INIT is
amd_init, CACHE a directory for Debian's kernel package. Semantics only: it is slow. This is where the shim's true ring 0 meets an ordinary KVM.
Exits 77, saying why, where QEMU, the kernel or its package manager are not to be had."""
import os, re, subprocess, sys, tempfile

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import emulated  # noqa: E402

BIN, INIT, CACHE = (os.path.abspath(p) for p in sys.argv[1:4])
PROGRAMS = os.path.join(os.environ.get("DONJON_SHARED", "../shared"), "programs", "wasm")
NOTHING = bytes.fromhex("0061736d0100000001040160000003020100070a01065f737461727400000a040102000b")
OUT_OF_BOUNDS = bytes.fromhex("0061736d01000000010401600000030201000503010001071302066d656d6f72790200065f737461727400000a0e010c0041ffffffff072802001a0b")


def runs():
    """(command line in the machine, exit code, words that must be said)"""
    donjon = "/bin/donjon run --backend kvm"
    yield "/bin/donjon platform info", 0, [r"kvm"]
    yield f"DONJON_KVM_MODE=0 {donjon} --debug /wasm/nothing.wasm", 0, [r"warden at [0-9a-f]+"]
    yield f"{donjon} /wasm/out-of-bounds.wasm", 134, ["out of bounds memory access"]
    yield f"DONJON_KVM_MODE=3 {donjon} /wasm/nothing.wasm", 0, []  # the wrong mode finds out, and the other is used
    for name, words in (("c-echo", ["hello from C"]), ("fs-ops", ["readlink 5 a.txt"]), ("simd-dot", ["dot 508.2454"])):
        if os.path.exists(os.path.join(PROGRAMS, name + ".wasm")):
            yield f"{donjon} /wasm/{name}.wasm", 3 if name == "c-echo" else 0, words
    yield "DONJON_LIES=2000 /bin/keep-liar /bin/donjon-shim /bin/keep-calls", 0, ["2000 answers"]
    yield f"DONJON_WARDEN=/bin/keep-inside-ring0 {donjon} --debug /wasm/nothing.wasm", 125, ["inside: all holds"]
    yield "DONJON_CPUS=2 DONJON_LIES=2000 /bin/keep-liar /bin/donjon-shim /bin/keep-calls", 0, [r"\b([2-9]|\d\d+)\d{3} answers"]  # 2,000, and what the second CPU asks meanwhile
    yield f"{donjon} --limit cpus=2 /wasm/nothing.wasm", 0, []
    yield f"DONJON_WARDEN=/bin/keep-threads {donjon} --debug --limit cpus=2 /wasm/nothing.wasm", 125, ["threads: all holds"]
    yield f"DONJON_WARDEN=/bin/keep-smp-little {donjon} --debug --limit cpus=2 /wasm/nothing.wasm", 125, ["smp: 2 CPUs", "smp: all holds"]
    yield f"DONJON_WARDEN=/bin/keep-threads {donjon} --debug /wasm/nothing.wasm", 125, ["threads: all holds"]


def main():
    qemu = emulated.qemu()
    vmlinuz, root = emulated.kernel(CACHE)
    a, wanted = emulated.Archive(), [*runs()]
    a.add_file("init", INIT)
    for name in ("donjon", "donjon-warden", "donjon-warden.digests", "donjon-shim", "keep-inside-ring0", "keep-threads", "keep-smp-little", "keep-liar", "keep-calls"):
        a.add_file("bin/" + name, os.path.join(BIN, name))
    for path in sorted({*emulated.libraries(os.path.join(BIN, "donjon")), *emulated.libraries(os.path.join(BIN, "keep-liar"))}):
        a.add_file(path.lstrip("/"), path)
    a.add("wasm/nothing.wasm", NOTHING)
    a.add("wasm/out-of-bounds.wasm", OUT_OF_BOUNDS)
    for command, _, _ in wanted:
        m = re.search(r"/wasm/(\S+)", command)
        if m and os.path.exists(os.path.join(PROGRAMS, m.group(1))):
            a.add_file("wasm/" + m.group(1), os.path.join(PROGRAMS, m.group(1)))
    a.add_modules(root, "kvm_amd")
    a.add("runs", "".join(c + "\n" for c, _, _ in wanted).encode())
    with tempfile.NamedTemporaryFile(suffix=".cpio", dir=CACHE) as initrd:
        initrd.write(a.bytes())
        initrd.flush()
        command = [qemu, "-machine", "q35", "-cpu", "max,+svm,+npt", "-accel", "tcg", "-m", "5120", "-smp", "2", "-display", "none", "-no-reboot", "-nodefaults",
                   "-serial", "stdio", "-kernel", vmlinuz, "-initrd", initrd.name, "-append", "console=ttyS0 panic=-1 quiet loglevel=3 mitigations=off no_timer_check tsc=reliable"]
        try:
            out = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=emulated.die_with_parent, timeout=float(os.environ.get("DONJON_EMULATED_S", 1500))).stdout
        except subprocess.TimeoutExpired as e:
            out = e.stdout or b""
            print("the machine did not end in time")
    text = out.decode(errors="replace").replace("\r", "")
    if os.environ.get("DONJON_SHOW"):
        print(text)
    ok = True
    for i, (command, code, words) in enumerate(wanted, 1):
        m = re.search(rf"=== {i} begins: .*?\n(.*?)=== {i} ended with (\d+)", text, re.S)
        said, ended = m.groups() if m else ("", None)
        good = ended == str(code) and all(re.search(w, said) for w in words)
        print("ok  " if good else "FAIL", command, "" if good else f"ended with {ended}, expected {code} and {words}:\n{said or text[-3000:]}", flush=True)
        ok = ok and good
        if not m:
            break
    return 0 if ok else 1


sys.exit(main())
