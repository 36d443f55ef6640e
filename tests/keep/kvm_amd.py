#!/usr/bin/env python3
"""kvm_amd.py BIN INIT CACHE: the kvm keep on a genuine kvm_amd, which runs on a processor that QEMU emulates. BIN has the build's programs, INIT is
amd_init, CACHE a directory for Debian's kernel package. Semantics only: it is slow. This is where the shim's true ring 0 meets an ordinary KVM.
Exits 77, saying why, where QEMU, the kernel or its package manager are not to be had."""
import glob, os, re, shutil, stat, subprocess, sys, tempfile

BIN, INIT, CACHE = (os.path.abspath(p) for p in sys.argv[1:4])
PROGRAMS = os.path.join(os.environ.get("DONJON_SHARED", "../shared"), "programs", "wasm")
NOTHING = bytes.fromhex("0061736d0100000001040160000003020100070a01065f737461727400000a040102000b")
OUT_OF_BOUNDS = bytes.fromhex("0061736d01000000010401600000030201000503010001071302066d656d6f72790200065f737461727400000a0e010c0041ffffffff072802001a0b")


def skip(why):
    print("SKIP:", why)
    sys.exit(77)


def kernel():
    """Debian's cloud kernel, unpacked without being installed: (vmlinuz, root of its modules)."""
    root = os.path.join(CACHE, "kernel")
    if not glob.glob(os.path.join(root, "boot", "vmlinuz-*")):
        for tool in ("apt-cache", "apt-get", "dpkg-deb"):
            if not shutil.which(tool):
                skip(f"no {tool}: the kernel comes from Debian")
        depends = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
        names = re.findall(r"Depends: (linux-image-\S+)", depends)
        if not names:
            skip("apt knows no linux-image-cloud-amd64")
        with tempfile.TemporaryDirectory(dir=CACHE) as tmp:
            got = subprocess.run(["apt-get", "download", names[0]], cwd=tmp, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            debs = glob.glob(os.path.join(tmp, "*.deb"))
            if got.returncode or not debs:
                skip(f"cannot download {names[0]}: {got.stderr.decode(errors='replace').strip()[:200]}")
            subprocess.run(["dpkg-deb", "-x", debs[0], os.path.join(tmp, "root")], check=True)
            shutil.rmtree(root, ignore_errors=True)
            os.rename(os.path.join(tmp, "root"), root)
    return glob.glob(os.path.join(root, "boot", "vmlinuz-*"))[0], root


def modules(root, name, seen):
    """A module and all that it needs, in the order to load them in."""
    if name in seen:
        return []
    seen.add(name)
    found = [p for p in glob.glob(os.path.join(root, "lib/modules/**/*.ko"), recursive=True) if os.path.basename(p)[:-3].replace("-", "_") == name]
    if not found:
        return []  # built in
    with open(found[0], "rb") as f:
        needs = re.search(rb"\0depends=([^\0]*)\0", f.read())
    first = [m for n in needs.group(1).decode().split(",") if n for m in modules(root, n.replace("-", "_"), seen)] if needs else []
    return first + [found[0]]


class Archive:
    """An initramfs: cpio in the "newc" form."""

    def __init__(self):
        self.parts, self.dirs, self.ino = [], set(), 0

    def entry(self, name, mode, data=b""):
        self.ino += 1
        n = name.encode() + b"\0"
        head = b"070701" + b"".join(b"%08X" % v for v in (self.ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(n), 0))
        self.parts += [head + n, b"\0" * (-(len(head) + len(n)) % 4), data, b"\0" * (-len(data) % 4)]

    def add(self, name, data):
        parts = name.split("/")[:-1]
        for i in range(1, len(parts) + 1):
            d = "/".join(parts[:i])
            if d and d not in self.dirs:
                self.dirs.add(d)
                self.entry(d, stat.S_IFDIR | 0o755)
        self.entry(name, stat.S_IFREG | 0o755, data)

    def add_file(self, name, path):
        with open(path, "rb") as f:
            self.add(name, f.read())

    def bytes(self):
        self.entry("TRAILER!!!", 0)
        return b"".join(self.parts)


def libraries(program):
    text = subprocess.run(["ldd", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    return sorted(set(re.findall(r"(/\S+) \(0x", text)))


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
    yield f"DONJON_WARDEN=/bin/keep-threads {donjon} --debug /wasm/nothing.wasm", 125, ["threads: all holds"]


def main():
    qemu = shutil.which("qemu-system-x86_64")
    if not qemu:
        skip("no qemu-system-x86_64 (Debian: qemu-system-x86)")
    os.makedirs(CACHE, exist_ok=True)
    vmlinuz, root = kernel()
    a, wanted = Archive(), [*runs()]
    a.add_file("init", INIT)
    for name in ("donjon", "donjon-warden", "donjon-warden.digests", "donjon-shim", "keep-inside-ring0", "keep-threads", "keep-liar", "keep-calls"):
        a.add_file("bin/" + name, os.path.join(BIN, name))
    for path in sorted({*libraries(os.path.join(BIN, "donjon")), *libraries(os.path.join(BIN, "keep-liar"))}):
        a.add_file(path.lstrip("/"), path)
    a.add("wasm/nothing.wasm", NOTHING)
    a.add("wasm/out-of-bounds.wasm", OUT_OF_BOUNDS)
    for command, _, _ in wanted:
        m = re.search(r"/wasm/(\S+)", command)
        if m and os.path.exists(os.path.join(PROGRAMS, m.group(1))):
            a.add_file("wasm/" + m.group(1), os.path.join(PROGRAMS, m.group(1)))
    mods = modules(root, "kvm_amd", set())
    for i, path in enumerate(mods):
        a.add_file(f"m/{i}-{os.path.basename(path)}", path)
    a.add("modules", "".join(f"/m/{i}-{os.path.basename(p)}\n" for i, p in enumerate(mods)).encode())
    a.add("runs", "".join(c + "\n" for c, _, _ in wanted).encode())
    with tempfile.NamedTemporaryFile(suffix=".cpio", dir=CACHE) as initrd:
        initrd.write(a.bytes())
        initrd.flush()
        command = [qemu, "-machine", "q35", "-cpu", "max,+svm,+npt", "-accel", "tcg", "-m", "5120", "-smp", "1", "-display", "none", "-no-reboot", "-nodefaults",
                   "-serial", "stdio", "-kernel", vmlinuz, "-initrd", initrd.name, "-append", "console=ttyS0 panic=-1 quiet loglevel=3 mitigations=off no_timer_check tsc=reliable"]
        try:
            out = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=float(os.environ.get("DONJON_EMULATED_S", 1500))).stdout
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
