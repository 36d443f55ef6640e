#!/usr/bin/env python3
"""Runs the preview 1 programs of WebAssembly/wasi-testsuite with the expectations of shared/suites/wasi-testsuite.tsv.

    testsuite.py wasi_run    in one process, directories copied into the in-memory file system
    testsuite.py donjon      `donjon run`: a keep, host directories through the gate

DONJON_WASI_TESTSUITE is a checkout of the suite (its `tests` directory holds the programs); without it the test is skipped (77).
Each program gets a fresh copy of the directories it names.
"""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

TIMEOUT = 60


def skip(why):
    print("SKIP:", why)
    sys.exit(77)


def cases(table):
    lines = table.read_text().splitlines()
    names = lines[0].split("\t")
    for line in lines[1:]:
        case = dict(zip(names, line.split("\t")))
        if not case["path_under_tests"].startswith("proposals/"):  # wasi-threads: not preview 1
            yield case


def command(runner, binary, wasm, case, work):
    dirs, env, args = json.loads(case["dirs"]), json.loads(case["env"]), json.loads(case["args"])
    argv = [str(binary)] + (["run"] if runner == "donjon" else [])
    for d in dirs:
        shutil.copytree(wasm.parent / d, work / d)
        argv += ["--dir", f"{work / d}::{d}"]
    for key, value in env.items():
        argv += ["--env", f"{key}={value}"]
    return argv + [str(wasm)] + (["--"] if runner == "donjon" and args else []) + args


def fault(runner, binary, wasm, case):
    """None, or what went wrong."""
    if hashlib.sha256(wasm.read_bytes()).hexdigest() != case["sha256"]:
        return "is not the program of the table (sha256)"
    with tempfile.TemporaryDirectory(prefix="donjon-wasi-") as work:
        argv = command(runner, binary, wasm, case, pathlib.Path(work))
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            return f"did not end within {TIMEOUT} s"
    if done.returncode != int(case["exit_code"]):
        tail = done.stderr.decode(errors="replace").strip().splitlines()[-6:]
        return f"exit code {done.returncode}, expected {case['exit_code']}\n      " + "\n      ".join(tail)
    stdout = json.loads(case["stdout"])
    if stdout is not None and done.stdout.decode(errors="replace") != stdout:
        return f"printed {done.stdout!r}, expected {stdout!r}"
    return None


def main():
    runner = sys.argv[1]
    binary = pathlib.Path(os.environ.get("DONJON_BIN", "build/bin")) / runner
    suite = os.environ.get("DONJON_WASI_TESTSUITE")
    table = pathlib.Path(os.environ.get("DONJON_SHARED", "../shared")) / "suites/wasi-testsuite.tsv"
    if not suite or not pathlib.Path(suite, "tests").is_dir():
        skip("DONJON_WASI_TESTSUITE does not name a checkout of WebAssembly/wasi-testsuite")
    if not table.exists():
        skip(f"no {table}")
    passed = failed = 0
    for case in cases(table):
        name = case["path_under_tests"]
        wasm = pathlib.Path(suite, "tests", name)
        why = fault(runner, binary, wasm, case) if wasm.exists() else "is missing"
        if why:
            failed += 1
            print(f"FAIL {name}: {why}")
        else:
            passed += 1
    print(f"wasi-testsuite with {runner}: {passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


main()
