#!/usr/bin/env python3
"""The kvm keep beside the process keep, in one run: start, gate, compute, density, starts a second.

    bench/kvm.py [BIN [PART...]]      BIN: the build's bin directory (build/bin); PART: starts gate calls compute density (all), cpus

Prints a table. Exits 77 where there are no kvm keeps."""
import json, os, statistics, subprocess, sys, tempfile, time

BIN = sys.argv[1] if len(sys.argv) > 1 else "build/bin"
SHARED = os.path.join(os.environ.get("DONJON_SHARED", "../shared"), "programs")
DONJON = os.path.join(BIN, "donjon")
BACKENDS = ("process", "kvm")
NOTHING = bytes.fromhex("0061736d0100000001040160000003020100070a01065f737461727400000a040102000b")


def show(what, *values):
    print(f"{what:46}" + "".join(f"{v:>14}" for v in values), flush=True)


def json_run(backend, module, *args):
    p = subprocess.run([DONJON, "run", "--json", "--backend", backend, module, "--", *args], stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return json.loads(p.stderr.decode().strip().splitlines()[-1])


def starts(module, n=60):
    ready = {b: [] for b in BACKENDS}
    total = {b: [] for b in BACKENDS}
    for _ in range(n):
        for b in BACKENDS:
            t = json_run(b, module)["times"]
            ready[b].append(t["ready_ms"])
            total[b].append(t["total_ms"])
    for what, times in (("first wasm instruction, ms", ready), ("whole run, ms", total)):
        show(f"{what}: median", *(f"{statistics.median(times[b]):.2f}" for b in BACKENDS))
        show(f"{what}: least", *(f"{min(times[b]):.2f}" for b in BACKENDS))


def gate():
    rows = {}
    for b in BACKENDS:
        p = subprocess.run([os.path.join(BIN, "bench-keep"), "20", b], stdout=subprocess.PIPE)
        for line in p.stdout.decode().splitlines():
            if line.startswith("fd_"):
                rows.setdefault(line[:44].strip(), []).append(line[44:].strip())
    for what, values in rows.items():
        show(what, *values)


def inside():
    program = os.path.join(BIN, "bench-inside")
    native = subprocess.run([program], stderr=subprocess.PIPE).stderr.decode()
    env = {**os.environ, "DONJON_WARDEN": program, "DONJON_SHIM": os.path.join(BIN, "donjon-shim")}
    with tempfile.NamedTemporaryFile(suffix=".wasm") as f:
        f.write(NOTHING)
        f.flush()
        keep = subprocess.run([DONJON, "run", "--backend", "kvm", "--debug", f.name], env=env, stderr=subprocess.PIPE).stderr.decode()
    pick = lambda text: {l[7:35].strip(): l[35:].strip() for l in text.splitlines() if l.startswith("bench: ")}
    a, b = pick(native), pick(keep)
    for what in a:
        show(what, a[what], b.get(what, "-"))



def compile_to(source, out):
    flags = ["--target=wasm32-wasi", "-mbulk-memory", "-msign-ext", "-mnontrapping-fptoint", "-O2", "-w"]
    simd = ["-msimd128"] if os.path.basename(source).startswith("simd-") else []
    try:
        subprocess.run(["clang-14", *flags, *simd, "-c", source, "-o", out + ".o"], check=True, stderr=subprocess.PIPE)
        subprocess.run(["clang-14", flags[0], "-Wl,-z,stack-size=8388608", out + ".o", "-o", out], check=True, stderr=subprocess.PIPE)
        return True
    except (OSError, subprocess.CalledProcessError):
        return False


def cpu_ms(*command):
    """CPU time of a command and all its children: other programs on the machine disturb it less."""
    before = os.times()
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    after = os.times()
    return (after.children_user + after.children_system - before.children_user - before.children_system) * 1000


def compute(rounds=5, reps="30"):
    """CPU time of whole runs, the best of some rounds in turn."""
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "src")
    ratios = []
    with tempfile.TemporaryDirectory() as tmp:
        for name in ("2mm", "bulk", "calls", "floyd-warshall", "gemm", "growth", "indirect", "jacobi-2d", "lisp", "nussinov", "simd-gemm"):
            module = os.path.join(tmp, name + ".wasm")
            if not compile_to(os.path.join(here, name + ".c"), module):
                continue
            best = {b: float("inf") for b in BACKENDS}
            for _ in range(rounds):
                for b in BACKENDS:
                    best[b] = min(best[b], cpu_ms(DONJON, "run", "--backend", b, module, reps))
            ratios.append(best["kvm"] / best["process"])
            show(name + ", ms", *(f"{best[b]:.0f}" for b in BACKENDS))
    if ratios:
        show("geometric mean of the ratios", "1", f"{statistics.geometric_mean(ratios):.3f}")
    else:
        print("no clang-14 for wasm32-wasi here")


def resident(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(l.split()[1]) for l in f if l.startswith("Pss:"))


def alive(backend, n=200):
    """n keeps that wait for their input, at once."""
    module = os.path.join(SHARED, "wasm", "c-echo.wasm")
    if not os.path.exists(module):
        return "-", "-"
    keeps = []
    try:
        for _ in range(n):
            p = subprocess.Popen([DONJON, "run", "--backend", backend, module], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL)
            p.stdout.readline()  # its first line: it runs, and waits
            keeps.append(p)
        pids = [k.pid for k in keeps[:20]]
        if backend == "process":
            pids += [int(c) for k in keeps[:20] for c in open(f"/proc/{k.pid}/task/{k.pid}/children").read().split()]
        size = sum(map(resident, pids)) / 20 / 1024
        return f"{sum(k.poll() is None for k in keeps)}", f"{size:.1f} MiB"
    finally:
        for k in keeps:
            k.stdin.close()
        for k in keeps:
            k.wait()


def rate(backend, module, seconds=5, at_once=4):
    running, done, end = [], 0, time.monotonic() + seconds
    while time.monotonic() < end:
        while len(running) < at_once:
            running.append(subprocess.Popen([DONJON, "run", "--backend", backend, module], stdin=subprocess.DEVNULL))
        running.pop(0).wait()
        done += 1
    for p in running:
        p.wait()
    return f"{done / seconds:.0f}"


def main():
    info = json.loads(subprocess.run([DONJON, "platform", "info", "--json"], stdout=subprocess.PIPE).stdout)
    state = next(b for b in info["backends"] if b["name"] == "kvm")
    if not state["available"]:
        print("SKIP: no kvm keep here:", state["missing"])
        return 77
    print(f"{info['cpu']}, {info['kernel']}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    parts = sys.argv[2:] or ["starts", "gate", "calls", "compute", "density"]
    show("", *BACKENDS)
    for part in parts:
        PARTS[part]()
    return 0


def part_starts():
    with tempfile.NamedTemporaryFile(suffix=".wasm") as f:
        f.write(NOTHING)
        f.flush()
        starts(f.name)
        spent = {b: sum(cpu_ms(DONJON, "run", "--backend", b, f.name) for _ in range(100)) / 100 for b in BACKENDS}
        show("CPU time of a whole run, ms", *(f"{spent[b]:.2f}" for b in BACKENDS))
        show("starts a second, 4 at a time", *(rate(b, f.name) for b in BACKENDS))


def part_calls():
    print("-- system calls: an ordinary process, and the shim")
    inside()


def part_compute():
    print("-- compute")
    compute()


def part_density():
    print("-- density")
    both = [alive(b) for b in BACKENDS]
    show("keeps alive of 200", *(b[0] for b in both))
    show("memory of each (proportional set size)", *(b[1] for b in both))


def part_cpus(rounds=6):
    """Whole runs with one processor and with two, without compiled code."""
    cache = os.environ.get("DONJON_CACHE", os.path.expanduser("~/.cache/donjon-tests"))
    programs = {"ruby -e 'puts 1'": (os.path.join(cache, "ruby-3.2", "ruby-3.2.0.wasm"), "-e", "puts 1"),
                "esbuild --version": (os.path.join(cache, "esbuild", "esbuild.wasm"), "--version"),
                "sqlite3 'select 1'": (os.path.join(SHARED, "wasm", "sqlite3.wasm"), ":memory:", "select 1;")}
    print("-- wall time of whole runs, ms: median and least, with `cpus` 1 | 2")
    for name, (module, *args) in programs.items():
        if not os.path.exists(module):
            continue
        times = {(b, n): [] for b in BACKENDS for n in (1, 2)}
        for _ in range(rounds):
            for (b, n), found in times.items():
                begin = time.monotonic()
                subprocess.run([DONJON, "run", "--no-cache", "--backend", b, "--limit", f"cpus={n}", module, "--", *args], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
                found.append((time.monotonic() - begin) * 1000)
        for what, of in (("median", statistics.median), ("least", min)):
            show(f"{name}: {what}", *(f"{of(times[b, 1]):.0f} | {of(times[b, 2]):.0f}" for b in BACKENDS))


PARTS = {"cpus": part_cpus, "starts": part_starts, "gate": gate, "calls": part_calls, "compute": part_compute, "density": part_density}
sys.exit(main())
