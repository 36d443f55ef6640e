#!/usr/bin/env python3
"""reproducible.py SOURCE CC CXX: builds shim and warden in two directories of different names, and compares them byte by byte; then what
`donjon measure` says of them, which must be the same too."""
import filecmp, os, shutil, subprocess, sys, tempfile

source, cc, cxx = sys.argv[1:4]
files = ("donjon-shim", "donjon-warden", "donjon-warden.digests")
if not shutil.which("ninja"):
    print("SKIP: ninja is not installed")
    sys.exit(77)


def build(at):
    tree = os.path.join(at, "source")
    os.makedirs(tree)
    for name in ("CMakeLists.txt", "src", "include", "tests", "bench", "docs", "examples", "dev"):
        path = os.path.join(source, name)
        if os.path.isdir(path):
            shutil.copytree(path, os.path.join(tree, name), symlinks=True)
        elif os.path.exists(path):
            shutil.copy(path, tree)
    out = os.path.join(at, "out")
    env = {k: v for k, v in os.environ.items() if not k.startswith("CCACHE")}
    env["CCACHE_DISABLE"] = "1"
    for command in (["cmake", "-S", tree, "-B", out, "-G", "Ninja", f"-DCMAKE_C_COMPILER={cc}", f"-DCMAKE_CXX_COMPILER={cxx}"],
                    ["ninja", "-C", out, "-j2", "donjon-shim", "donjon-warden", "donjon-warden-digests"]):
        p = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if p.returncode:
            print(p.stdout.decode()[-3000:])
            sys.exit(1)
    return os.path.join(out, "bin")


with tempfile.TemporaryDirectory(prefix="a-") as one, tempfile.TemporaryDirectory(prefix="another-name-") as two:
    a, b = build(os.path.join(one, "x")), build(os.path.join(two, "deeper/and/elsewhere"))
    wrong = [f for f in files if not filecmp.cmp(os.path.join(a, f), os.path.join(b, f), shallow=False)]
print("differ:" if wrong else "the same, byte by byte:", *(wrong or files))
sys.exit(1 if wrong else 0)
