#!/usr/bin/env python3
"""The command line from outside.   test_cli.py [Options|Run|Config|Other]..."""
import json, os, pty, shutil, signal, socket, subprocess, sys, tempfile, time, unittest

from modules import module

DONJON = os.path.abspath(os.path.join(os.environ.get("DONJON_BIN", "build/bin"), "donjon"))
FAILED, TRAP, TIMED_OUT = 125, 134, 124
LIMIT = 60  # seconds for anything; generous for sanitised builds


def donjon(*args, stdin=b"", cwd=None, env=None):
    p = subprocess.run([DONJON, *args], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT, cwd=cwd,
                       env=env)
    return p.returncode, p.stdout.decode(errors="replace"), p.stderr.decode(errors="replace")


def start(*args, **kw):
    return subprocess.Popen([DONJON, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            start_new_session=True, **kw)


def session_members(sid):
    """Processes, zombies aside, of a session."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == sid and fields[0] not in "ZX":
            found.append(int(pid))
    return found


class Base(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.tmp = tempfile.mkdtemp(prefix="donjon-test-")
        self.addCleanup(shutil.rmtree, self.tmp, ignore_errors=True)

    def path(self, name, content=None):
        p = os.path.join(self.tmp, name)
        if content is not None:
            os.makedirs(os.path.dirname(p), exist_ok=True)
            with open(p, "wb") as f:
                f.write(content if isinstance(content, bytes) else content.encode())
        return p

    def says(self, result, code, *words, lines=1):
        """Exit code, nothing on stdout, and `lines` lines on stderr that have all the words."""
        got, out, err = result
        for w in words:
            self.assertIn(w, err)
        self.assertEqual((got, out), (code, ""), err)
        if lines:
            self.assertEqual(len(err.rstrip("\n").split("\n")), lines, err)

    def gives(self, result, out, code=0):
        self.assertEqual(result, (code, out, ""))


class Options(Base):
    """Words on the command line, without running anything."""

    def test_nothing(self):
        code, out, err = donjon()
        self.assertEqual((code, out), (FAILED, ""))
        self.assertIn("Usage: donjon VERB", err)

    def test_help(self):
        for args in (["--help"], ["-h"], ["help"]):
            code, out, err = donjon(*args)
            self.assertEqual((code, err), (0, ""))
            for verb in ("run", "config init", "config check", "platform info", "inspect", "version"):
                self.assertIn(f"\n  {verb} ", out)

    def test_help_of_verbs(self):
        for verb in (["run"], ["config", "init"], ["config", "check"], ["platform", "info"], ["inspect"], ["version"], ["man"]):
            by_option, by_verb = donjon(*verb, "--help"), donjon("help", *verb)
            self.assertEqual(by_option, by_verb)
            self.assertEqual((by_option[0], by_option[2]), (0, ""))
            self.assertIn("Usage: donjon " + " ".join(verb), by_option[1])
            self.assertTrue(all(len(line) <= 80 for line in by_option[1].split("\n")), by_option[1])
            self.assertNotIn("\033", by_option[1])
        self.assertIn("config init", donjon("config", "--help")[1])
        self.assertIn("fuel", donjon("run", "-W", "help")[1])

    def test_help_is_coloured_only_on_a_terminal(self):
        def on_terminal(env):
            pid, fd = pty.fork()
            if pid == 0:
                os.environ.update(env)
                os.execv(DONJON, [DONJON, "help"])
            text = b""
            try:
                while chunk := os.read(fd, 65536):
                    text += chunk
            except OSError:
                pass
            os.waitpid(pid, 0)
            os.close(fd)
            return text
        self.assertIn(b"\033[1m", on_terminal({"TERM": "xterm", "NO_COLOR": ""}))
        self.assertNotIn(b"\033", on_terminal({"TERM": "xterm", "NO_COLOR": "1"}))
        self.assertNotIn(b"\033", on_terminal({"TERM": "dumb", "NO_COLOR": ""}))

    def test_version(self):
        for args in (["version"], ["--version"], ["-V"]):
            code, out, err = donjon(*args)
            self.assertEqual((code, err), (0, ""))
            self.assertRegex(out, r"^donjon \d+\.\d+\.\d+\n$")
        self.assertEqual("donjon " + json.loads(donjon("version", "--json")[1])["version"] + "\n", out)

    def test_man_pages(self):
        self.assertIn(".TH \"DONJON\" 1", donjon("man")[1])
        page = donjon("man", "run")[1]
        for word in (".TH \"DONJON-RUN\" 1", ".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS", ".SH EXAMPLES", "\\-\\-dir", "\\-W fuel=N",
                     ".SH EXIT STATUS"):
            self.assertIn(word, page)
        self.says(donjon("man", "rnu"), FAILED, "did you mean `donjon run`?")

    @unittest.skipUnless(shutil.which("man"), "no man(1)")
    def test_man_pages_are_clean(self):
        for verb in ([], ["run"], ["config", "init"], ["inspect"]):
            page = self.path("page.1", donjon("man", *verb)[1])
            p = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", page], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               env={**os.environ, "MANWIDTH": "120"})
            self.assertEqual(p.stderr, b"")

    def test_mistyped_verbs(self):
        self.says(donjon("rnu", "x"), FAILED, 'unknown verb "rnu", did you mean `donjon run`?')
        self.says(donjon("config", "chekc"), FAILED, "did you mean `donjon config check`?")
        self.says(donjon("config"), FAILED, "config: expected init or check")
        self.says(donjon("platform", "xxxxxx"), FAILED, 'unknown verb "xxxxxx", expected info')
        self.says(donjon("frobnicate"), FAILED, 'unknown verb "frobnicate"; see `donjon help`')
        self.says(donjon("--frobnicate"), FAILED, 'unknown option "--frobnicate"')
        self.says(donjon(module("hello")), FAILED, f"to run it: `donjon run {module('hello')}`")
        self.says(donjon("help", "rum"), FAILED, "did you mean `donjon run`?")
        self.says(donjon("\033[31mx"), FAILED, "?[31mx")
        self.says(donjon("\x9b31mx"), FAILED, '"??31mx"')  # ESC [ in one character
        self.says(donjon(b"\x9b31m\xc3"), FAILED, '"?31m?"')
        self.says(donjon("d\u00e9j\u00e0 \u20ac \U0001f3f0"), FAILED, '"d\u00e9j\u00e0 \u20ac \U0001f3f0"')

    def test_mistyped_options(self):
        m = module("hello")
        self.says(donjon("run", "--dri", "x", m), FAILED, "unknown option --dri, did you mean --dir? See `donjon run --help`")
        self.says(donjon("run", "--zzzzzz", m), FAILED, "unknown option --zzzzzz")
        self.says(donjon("run", "-x", m), FAILED, "unknown option -x")
        self.says(donjon("run", "-W", "fule=3", m), FAILED, "unknown option -W fule, did you mean -W fuel?")
        self.says(donjon("run", "-W", "fuel", m), FAILED, "-W fuel needs a value, -W fuel=N")
        self.says(donjon("run", "-W", "fuel=", m), FAILED, "-W fuel: expected a number")
        self.says(donjon("run", "-W", "", m), FAILED, "unknown option -W")
        self.says(donjon("run", "-W"), FAILED, "-W needs a value")
        self.says(donjon("run", "-W", "timeout=soon", m), FAILED, '-W timeout: expected a time such as 30s, found "soon"')
        self.says(donjon("run", "-W", "max-memory-size=1", m), FAILED, "limits.memory: expected 64 KiB to 1 TiB, found 1 B")
        self.says(donjon("run", "-W", "unknown-imports-trap=maybe", m), FAILED, "expected y or n")
        self.says(donjon("run", "-S", "inherit-nev", m), FAILED, "did you mean -S inherit-env?")
        self.says(donjon("run", "--json=1", m), FAILED, "--json takes no value")
        self.says(donjon("run", "--dir"), FAILED, "--dir needs a value, HOST")
        self.says(donjon("run"), FAILED, "which program?")
        self.says(donjon("run", "--limit", "memroy=1", m), FAILED, "a key of memory, tables")
        self.says(donjon("run", "--limit", "memory", m), FAILED, "expected KEY=VALUE")
        self.says(donjon("version", "x"), FAILED, "expected no arguments")
        self.says(donjon("platform", "info", "x"), FAILED, "expected no arguments")
        self.says(donjon("inspect"), FAILED, "which file?")
        self.says(donjon("inspect", "a", "b"), FAILED, 'expected one file, found "b" too')
        self.says(donjon("config", "check", "a", "b"), FAILED, 'expected one file, found "b" too')

    def test_wrong_values(self):
        m = module("hello")
        self.says(donjon("run", "--dir", self.path("none"), m), FAILED, "cannot open the directory", "No such file or directory")
        self.says(donjon("run", "--dir", m, m), FAILED, "is not a directory")
        self.says(donjon("run", "--dir", "::/x", m), FAILED, "expected HOST[::GUEST][:ro]")
        self.says(donjon("run", "--dir", "/tmp::/a/../b", m), FAILED, 'must not contain ".."')
        self.says(donjon("run", "--dir", "..", m, ), FAILED, "say where the program finds it, --dir ..::/GUEST")
        self.says(donjon("run", "--env", "=x", m), FAILED, "must not be empty")
        self.says(donjon("run", "--env", "SURELY_NOT_SET_HERE", m), FAILED, "no such variable here; expected KEY=VALUE")
        for bad in ("x", "1.2.3.4", "1:2:3", "127.0.0.1:", ":80", "[::1]", "127.0.0.1:65536", "127.0.0.1:-1"):
            self.says(donjon("run", "--tcplisten", bad, m), FAILED, "expected ADDRESS:PORT or PORT")
        self.says(donjon("run", "--backend", "nope", m), FAILED, 'backend "nope"')
        self.says(donjon("run", "--require", "tee", m), FAILED, "no keep in a TEE can be built here")
        self.says(donjon("run", "--require", "vm", "--backend", "process", m), FAILED, "no keep in a virtual machine")
        self.says(donjon("run", "--config", self.path("no.toml"), m), FAILED, "cannot read the configuration", "No such file")

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w") as full:
            p = subprocess.run([DONJON, "help"], stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(p.returncode, FAILED)
        self.assertIn(b"cannot write to standard output: No space left", p.stderr)


class Run(Base):
    """Programs, from start to end."""

    def test_exit_codes(self):
        self.gives(donjon("run", module("empty")), "")
        self.gives(donjon("run", module("exit7")), "", 7)
        self.gives(donjon("run", module("exit255")), "", 255)
        self.gives(donjon("run", module("exit300")), "", 300 & 255)

    def test_output(self):
        self.gives(donjon("run", module("hello")), "hello\n")

    def test_arguments(self):
        m = module("args")

        def argv(*args):
            code, out, err = donjon("run", *args)
            self.assertEqual((code, err), (0, ""))
            return out.split("\0")[:-1]
        self.assertEqual(argv(m), ["args.wasm"])
        self.assertEqual(argv(m, "--", "a", "", "b c", "é"), ["args.wasm", "a", "", "b c", "é"])
        self.assertEqual(argv(m, "a", "--dir", "x", "--help"), ["args.wasm", "a", "--dir", "x", "--help"])
        self.assertEqual(argv(m, "--", "--", "x"), ["args.wasm", "--", "x"])
        self.assertEqual(argv("--argv0", "me", m, "x"), ["me", "x"])
        self.assertEqual(argv("--", m, "x"), ["args.wasm", "x"])
        many = [str(n) for n in range(5000)]
        self.assertEqual(argv(m, *many), ["args.wasm", *many])

    def test_environment(self):
        m = module("env")
        self.gives(donjon("run", m), "")
        self.gives(donjon("run", "--env", "A=1", "--env=B=x=y", "--env", "A=2", m), "A=2\0B=x=y\0")
        self.gives(donjon("run", "--env", "FROM_HERE", m, env={"FROM_HERE": "yes", "OTHER": "no"}), "FROM_HERE=yes\0")
        self.gives(donjon("run", "-S", "inherit-env", m, env={"X": "1"}), "X=1\0")
        self.gives(donjon("run", "-Sinherit-env=n", m, env={"X": "1"}), "")

    def test_directories(self):
        self.path("d/file", "inside\n")
        d = self.path("d")
        self.gives(donjon("run", "--dir", f"{d}::/data", module("preopens")), "/data\n/\n")
        self.gives(donjon("run", "--dir", f"{d}::/", module("preopens")), "/\n")
        self.gives(donjon("run", "--dir", "d", module("preopens"), cwd=self.tmp), "d\n/\n")
        self.gives(donjon("run", "--dir", ".", module("preopens"), cwd=d), ".\n")
        self.gives(donjon("run", module("preopens")), "/\n")
        self.gives(donjon("run", "--dir", d, module("show_file")), "inside\n")
        self.assertEqual(donjon("run", module("show_file"))[0], 44)  # noent: the in-memory root is empty
        self.gives(donjon("run", "--dir", d, module("make_file")), "")
        self.assertEqual(open(d + "/new").read(), "hello\n")
        os.unlink(d + "/new")
        for spec in (f"{d}:ro", f"{d}::/x:ro"):
            code = donjon("run", "--dir", spec, module("make_file"))[0]
            self.assertIn(code, (69, 76))  # rofs or notcapable
            self.assertFalse(os.path.exists(d + "/new"))
            self.gives(donjon("run", "--dir", spec, module("show_file")), "inside\n")
        os.symlink("/etc/passwd", d + "/link")
        os.rename(d + "/link", d + "/file")
        self.assertNotEqual(donjon("run", "--dir", d, module("show_file"))[0], 0)

    def test_traps(self):
        self.says(donjon("run", module("trap")), TRAP, f"{module('trap')}: ", "unreachable", "inner", "outer", lines=0)
        self.says(donjon("run", module("divide")), TRAP, "integer divide by zero", "divide", lines=0)
        self.says(donjon("run", module("oob")), TRAP, "out of bounds memory access", lines=0)
        self.says(donjon("run", module("recurse")), TRAP, "call stack exhausted", lines=0)
        self.says(donjon("run", "-W", "unknown-imports-trap", module("unknown_called")), TRAP, "env", "missing", lines=0)

    def test_limits(self):
        began = time.monotonic()
        self.says(donjon("run", "-W", "timeout=300ms", module("spin")), TIMED_OUT, "time", lines=0)
        self.assertLess(time.monotonic() - began, 20)
        self.says(donjon("run", "-W", "fuel=100000", module("spin")), TRAP, "all fuel consumed", lines=0)
        self.gives(donjon("run", "-W", "fuel=100000,timeout=30s", module("hello")), "hello\n")
        self.gives(donjon("run", module("grow")), "")
        self.gives(donjon("run", "-W", "max-memory-size=8MiB", module("grow")), "", 1)
        self.gives(donjon("run", "--limit", "memory=8 MiB", module("grow")), "", 1)
        self.says(donjon("run", "-W", "max-memory-size=64MiB", module("big_memory")), FAILED, "memory", lines=0)
        self.says(donjon("run", "--limit", "call-depth=100", module("recurse")), TRAP, "call stack exhausted", lines=0)
        self.says(donjon("run", "--limit", "filesystem=2 B", module("hello")), FAILED, "expected 64 KiB to 1 TiB, found 2 B")
        self.assertEqual(donjon("run", "--limit", "filesystem=1MiB", module("fill"))[0], 51)  # fd_write: nospc
        self.assertEqual(donjon("run", "--limit", "filesystem-entries=1", module("make_file"))[0], 51)  # path_open: nospc
        self.gives(donjon("run", "--limit", "filesystem=1MiB", "--limit", "filesystem-entries=2", module("make_file")), "")

    def test_unknown_imports(self):
        self.says(donjon("run", module("unknown")), FAILED, "env", "missing", "other", "thing", lines=0)
        self.gives(donjon("run", "-W", "unknown-imports-trap", module("unknown")), "")
        self.gives(donjon("run", "-W", "unknown-imports-trap=y", module("unknown")), "")
        self.gives(donjon("run", "-W", "unknown-imports-trap,interpret", module("unknown")), "")
        self.says(donjon("run", "-W", "unknown-imports-trap=n", module("unknown")), FAILED, "missing", lines=0)

    def test_unknown_imports_that_return(self):
        default = "unknown-imports-default"
        for more in ("", ",interpret"):
            self.gives(donjon("run", "-W", default + more, module("unknown_results")), "")
        self.says(donjon("run", "-W", f"{default},unknown-imports-trap", module("unknown_results")), TRAP, "env", lines=0)
        self.gives(donjon("run", "-W", f"unknown-imports-trap,{default}", module("unknown_results")), "")
        self.says(donjon("run", "-W", f"{default}=n", module("unknown_results")), FAILED, "is not provided", lines=0)

    def test_no_start(self):
        self.says(donjon("run", module("no_start")), FAILED, "_start", lines=0)

    def test_wrong_files(self):
        self.says(donjon("run", self.path("none.wasm")), FAILED, "cannot read", "none.wasm: No such file or directory")
        self.says(donjon("run", self.tmp), FAILED, "is a directory without a main.wasm")
        self.says(donjon("run", self.path("e.wasm", "")), FAILED, "is empty; expected a WebAssembly module")
        self.says(donjon("run", self.path("t.wasm", b"\0as")), FAILED, "cut off")
        self.says(donjon("run", self.path("v.wasm", b"\0asm\2\0\0\0")), FAILED, "unknown version", "byte 4")
        self.says(donjon("run", self.path("c.wasm", b"\0asm\x0d\0\1\0\0\0")), FAILED, "is a WebAssembly component", "wasm32-wasip1")
        self.says(donjon("run", self.path("x.wat", "(module)")), FAILED, "WebAssembly text", "wat2wasm")
        self.says(donjon("run", DONJON), FAILED, "native ELF program")
        self.says(donjon("run", self.path("x.gz", b"\x1f\x8b\x08\0\0\0\0\0")), FAILED, "gzip")
        self.says(donjon("run", self.path("s.sh", "#!/bin/sh\n")), FAILED, "script")
        self.says(donjon("run", self.path("r", os.urandom(1000).replace(b"\0", b"x", 1))), FAILED, "not a WebAssembly module")
        unreadable = self.path("u.wasm", "x")
        os.chmod(unreadable, 0)
        if os.geteuid():
            self.says(donjon("run", unreadable), FAILED, "Permission denied")
        huge = self.path("huge.wasm", b"\0asm\1\0\0\0")
        os.truncate(huge, 3 << 30)
        self.says(donjon("run", huge), FAILED, "more than the 1024 MiB")

    def test_every_truncation(self):
        whole = open(module("cat"), "rb").read()
        for n in range(8, len(whole), 7):
            code, out, err = donjon("run", self.path("cut.wasm", whole[:n]))
            if code == 0:  # cut at a section's end: what is left may be a module, but one without _start or bodies is none
                self.fail(f"{n} bytes ran")
            if code != FAILED and n < len(whole) - 120:  # the last bytes are the name section, which may be broken
                self.fail(f"{n} bytes: exit code {code}, {err}")

    def test_module_from_standard_input(self):
        self.gives(donjon("run", "-", stdin=open(module("hello"), "rb").read()), "hello\n")
        self.says(donjon("run", "-", stdin=b"junk"), FAILED, "standard input is not a WebAssembly module")

    def test_streaming(self):
        p = start("run", module("cat"))
        for line in (b"one\n", b"two\n", b"three"):
            p.stdin.write(line)
            p.stdin.flush()
            self.assertEqual(os.read(p.stdout.fileno(), 100), line)
        p.stdin.close()
        self.assertEqual((p.stdout.read(), p.stderr.read(), p.wait(LIMIT)), (b"", b"", 0))
        p.stdout.close(), p.stderr.close()

    def test_bulk(self):
        data = os.urandom(1 << 20) * 8
        p = subprocess.run([DONJON, "run", module("cat")], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT)
        self.assertEqual((p.returncode, p.stderr), (0, b""))
        self.assertTrue(p.stdout == data)

    def test_closed_standard_descriptors(self):
        p = subprocess.run(["sh", "-c", f"exec '{DONJON}' run '{module('cat')}' <&- >&- 2>&-"], timeout=LIMIT)
        self.assertGreaterEqual(p.returncode, 0)

    def ends_by(self, how, number, *, session):
        """A spinning program, ended from outside: donjon shows the signal, and nothing is left."""
        p = start("run", module("spin"))
        time.sleep(0.5)
        self.assertIsNone(p.poll())
        (os.killpg if session else os.kill)(p.pid, number)
        out, err = p.communicate(timeout=LIMIT)
        self.assertEqual(out, b"")
        self.assertIn(p.returncode, (-number, 128 + number), (how, err))
        for _ in range(100):
            if not session_members(p.pid):
                return
            time.sleep(0.05)
        self.fail(f"left after {how}: {session_members(p.pid)}")

    def test_signals(self):
        self.ends_by("Ctrl-C", signal.SIGINT, session=True)
        self.ends_by("terminal hang-up", signal.SIGHUP, session=True)
        self.ends_by("kill", signal.SIGTERM, session=False)
        self.ends_by("kill -9", signal.SIGKILL, session=False)

    def test_broken_pipe_is_quiet(self):
        p = start("run", module("yes"))
        self.assertEqual(p.stdout.read(2), b"y\n")
        p.stdout.close()
        self.assertEqual(p.wait(LIMIT), -signal.SIGPIPE)
        self.assertEqual(p.stderr.read(), b"")
        p.stderr.close(), p.stdin.close()
        self.assertEqual(session_members(p.pid), [])

    def report(self, *args, code):
        got, out, err = donjon("run", "--json", *args)
        self.assertEqual(got, code, err)
        self.assertEqual(err.count("\n"), 1, err)
        return out, json.loads(err)

    def test_json(self):
        out, r = self.report(module("hello"), code=0)
        self.assertEqual(out, "hello\n")
        self.assertEqual((r["outcome"], r["exit"], r["trap"], r["error"], r["signal"]), ("exited", 0, None, None, None))
        self.assertEqual((r["backend"] in ("kvm", "process"), r["module"]), (True, module("hello")))
        self.assertGreater(r["times"]["ready_ms"], 0)
        self.assertGreaterEqual(r["times"]["total_ms"], r["times"]["ready_ms"])
        self.assertEqual(self.report(module("exit7"), code=7)[1]["exit"], 7)
        _, r = self.report(module("trap"), code=TRAP)
        self.assertEqual((r["outcome"], r["trap"]["kind"], r["trap"]["message"]), ("trapped", "unreachable", "unreachable"))
        self.assertEqual(len(r["trap"]["frames"]), 3)
        self.assertIn("inner", r["trap"]["frames"][0])
        self.assertEqual(self.report(module("divide"), code=TRAP)[1]["trap"]["kind"], "divide-by-zero")
        _, r = self.report("-W", "timeout=200ms", module("spin"), code=TIMED_OUT)
        self.assertEqual((r["outcome"], r["trap"]["kind"], len(r["trap"]["frames"])), ("timeout", "timeout", 1))
        self.assertEqual(self.report("-W", "fuel=1000", module("spin"), code=TRAP)[1]["trap"]["kind"], "fuel-exhausted")
        _, r = self.report(module("unknown"), code=FAILED)
        self.assertEqual((r["outcome"], r["exit"]), ("refused", FAILED))
        self.assertIn("missing", r["error"])
        for args, word in (["none.wasm"], "No such file"), (["--dir", "none", module("hello")], "none"), ([DONJON], "ELF"):
            code, out, err = donjon("run", "--json", *args, cwd=self.tmp)
            r = json.loads(err.splitlines()[-1])
            self.assertEqual((code, out, r["outcome"], r["exit"]), (FAILED, "", "failed", FAILED))
            self.assertIn(word, r["error"])

    def test_listen(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        toml = self.path("Donjon.toml", '[[files]]\nkind = "stdin"\n[[files]]\nkind = "stdout"\n[[files]]\nkind = "stderr"\n[[files]]\n'
                         f'kind = "listen"\nname = "L"\nprot = "tcp"\naddr = "127.0.0.1"\nport = {port}\n')
        for options in (["--tcplisten", f"127.0.0.1:{port}"], ["-S", f"tcplisten=127.0.0.1:{port}"], ["--config", toml]):
            p = start("run", *options, module("server"))
            for _ in range(200):
                try:
                    c = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
            with c:
                self.assertEqual(c.recv(100), b"hello\n")
            _, err = p.communicate(timeout=LIMIT)
            self.assertEqual((p.returncode, err), (0, b""))
        with socket.socket() as busy:
            busy.bind(("127.0.0.1", 0))
            busy.listen()
            self.says(donjon("run", "--tcplisten", "127.0.0.1:%d" % busy.getsockname()[1], module("server")), FAILED, "in use")

    def test_connect(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen()
            port = s.getsockname()[1]
            toml = self.path("c.toml", '[[files]]\nkind = "null"\n[[files]]\nkind = "stdout"\n[[files]]\nkind = "stderr"\n[[files]]\n'
                             f'kind = "connect"\nprot = "tcp"\nhost = "127.0.0.1"\nport = {port}\n')
            p = start("run", "--config", toml, module("client"))
            s.settimeout(LIMIT)
            c, _ = s.accept()
            c.sendall(b"from outside\n")
            c.close()
            out, err = p.communicate(timeout=LIMIT)
            self.assertEqual((p.returncode, out, err), (0, b"from outside\n", b""))
        self.says(donjon("run", "--config", toml, module("client")), FAILED, "127.0.0.1", "refused")


class Config(Base):
    def run_with(self, toml, name, *args):
        return donjon("run", "--config", self.path("x.toml", toml), module(name), *args)

    def test_args(self):
        toml = 'args = ["one", "two words"]\n'
        self.gives(self.run_with(toml, "args"), "args.wasm\0one\0two words\0")
        self.gives(self.run_with(toml, "args", "--", "other"), "args.wasm\0other\0")
        self.gives(self.run_with(toml, "args", "--"), "args.wasm\0")

    def test_env_and_descriptors(self):
        self.gives(self.run_with('[env]\nA = "1"\n', "env"), "FD_COUNT=3\0FD_NAMES=stdin:stdout:stderr\0A=1\0")
        self.gives(self.run_with('[[files]]\nkind = "null"\n[[files]]\nkind = "stdout"\nname = "out"\n', "env"),
                   "FD_COUNT=2\0FD_NAMES=null:out\0")
        code, out, err = donjon("run", "--config", self.path("x.toml", '[env]\nA = "1"\n'), "--env", "A=2", module("env"))
        self.assertEqual((code, err), (0, ""))
        self.assertIn("A=2\0", out)
        self.assertNotIn("A=1\0", out)

    def test_null_files(self):
        self.gives(donjon("run", "--config", self.path("x.toml", '[[files]]\nkind = "null"\n[[files]]\nkind = "stdout"\n'),
                          module("cat"), stdin=b"not seen"), "")
        self.gives(self.run_with('[[files]]\nkind = "null"\n[[files]]\nkind = "null"\n', "hello"), "")

    def test_stdio_anywhere(self):
        swapped = '[[files]]\nkind = "stdin"\n[[files]]\nkind = "stderr"\n'
        self.assertEqual(self.run_with(swapped, "hello"), (0, "", "hello\n"))

    def test_mounts_are_relative_to_the_file(self):
        self.path("app/data/file", "mounted\n")
        toml = self.path("app/Donjon.toml", '[[mounts]]\nhost = "data"\nguest = "/data"\n')
        self.gives(donjon("run", "--config", toml, module("show_file"), cwd="/"), "mounted\n")
        self.assertIn(donjon("run", "--config", toml, module("make_file"), cwd="/")[0], (69, 76))
        toml = self.path("app/W.toml", '[[mounts]]\nhost = "data"\nguest = "/data"\nwritable = true\n')
        self.gives(donjon("run", "--config", toml, module("make_file"), cwd="/"), "")
        toml = self.path("app/N.toml", '[[mounts]]\nhost = "nowhere"\nguest = "/data"\n')
        self.says(donjon("run", "--config", toml, module("hello")), FAILED, "nowhere", "No such file or directory")

    def test_limits(self):
        self.says(self.run_with('[limits]\ntime = "300ms"\n', "spin"), TIMED_OUT, "time", lines=0)
        self.gives(self.run_with('[limits]\nmemory = "8 MiB"\n', "grow"), "", 1)
        self.gives(self.run_with("[wasm]\nunknown-imports-trap = true\n", "unknown"), "")

    def test_directory(self):
        shutil.copy(module("args"), self.path("main.wasm"))
        self.gives(donjon("run", self.tmp), "main.wasm\0")
        self.path("Enarx.toml", 'args = ["enarx"]\n')
        self.gives(donjon("run", self.tmp), "main.wasm\0enarx\0")
        self.path("Donjon.toml", 'args = ["donjon"]\n')
        self.gives(donjon("run", self.tmp), "main.wasm\0donjon\0")
        self.gives(donjon("run", "main.wasm", cwd=self.tmp), "main.wasm\0")  # nothing is looked for implicitly

    def test_tls_without_trust_is_a_clear_error(self):
        for prot in ("", 'prot = "tls"\n'):
            toml = self.path("Enarx.toml", f'[[files]]\nkind = "connect"\nhost = "h.example"\n{prot}')
            self.says(donjon("run", "--config", toml, module("hello")), FAILED, f"{toml}:", "nothing is trusted by itself", "`trust`")
            self.says(donjon("config", "check", toml), 1, "nothing is trusted by itself")

    def test_files_of_tls(self):
        """Certificates and policies that a configuration names become part of it."""
        begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
        self.path("ca.pem", f"a comment\n{begin}\nAAAA\n{end}\n-----BEGIN PRIVATE KEY-----\nBBBB\n-----END PRIVATE KEY-----\n")
        self.path("policy.toml", "tees = ['snp']\n")
        head = '[[files]]\nkind = "listen"\nname = "L"\nport = 0\nclient-auth = "require"\n'
        for keys in ('trust = ["ca.pem"]', 'peer-policy = "policy.toml"', 'trust = ["ca.pem"]\npeer-policy = "policy.toml"'):
            self.assertIn("is fine", donjon("config", "check", self.path("x.toml", head + keys))[1])
        self.path("none.pem", "nothing")
        self.path("half.pem", begin)
        self.path("crl.pem", f"{begin}\nAAAA\n{end}\n-----BEGIN X509 CRL-----\nBBBB\n-----END X509 CRL-----\n")
        for keys, message in (('trust = ["no.pem"]', "No such file"), ('trust = ["crl.pem"]', "a revocation list in it"), ('trust = ["none.pem"]', "no certificate (PEM) in it"),
                              ('trust = ["half.pem"]', "has no end"), ('peer-policy = "ca.pem"', "peer-policy: line 1")):
            self.says(donjon("config", "check", self.path("x.toml", head + keys)), 1, message)

    def test_errors_name_the_place(self):
        toml = self.path("bad.toml", 'argz = []\n\n[limits]\nmemory = "lots"\n')
        for args in (["run", "--config", toml, module("hello")], ["config", "check", toml]):
            self.says(donjon(*args), FAILED if args[0] == "run" else 1, f'{toml}:1:1: unknown key "argz"; did you mean "args"?',
                      f'{toml}:4:10: limits.memory: expected a size such as "64 MiB", found the string "lots"', lines=2)
        self.says(donjon("config", "check", self.path("b.toml", "args = [\n")), 1, "b.toml:")
        self.says(donjon("config", "check", self.path("none.toml")), FAILED, "cannot read", "No such file")
        self.says(donjon("config", "check", self.tmp), 1, "Is a directory")
        self.says(donjon("config", "check", self.path("ctl.toml", 'x = "\x1b[2J"')), 1)

    def test_check(self):
        toml = self.path("ok.toml", 'args = ["a"]\n[env]\nA = "b"\nC = "d"\n[limits]\nfuel = 5\n')
        self.gives(donjon("config", "check", toml), f"{toml} is fine: 1 argument, 2 variables, 3 descriptors, 0 mounts, 1 limit set\n")
        self.path("Enarx.toml", "")
        self.assertIn("Enarx.toml is fine", donjon("config", "check", cwd=self.tmp)[1])
        self.path("Donjon.toml", "")
        self.assertIn("Donjon.toml is fine", donjon("config", "check", cwd=self.tmp)[1])
        code, out, err = donjon("config", "check", "--json", toml)
        self.assertEqual((code, err, json.loads(out)), (0, "", {"file": toml, "ok": True, "reports": []}))
        bad = self.path("bad.toml", "x = 1\n[network]\n")
        code, out, err = donjon("config", "check", "--json", bad)
        reports = json.loads(out)["reports"]
        self.assertEqual((code, err, [r["severity"] for r in reports]), (1, "", ["error", "warning"]))
        self.assertEqual((reports[0]["line"], reports[0]["column"]), (1, 1))

    def test_enarx_files_of_others(self):
        """As they stand in public repositories: enarx/steward, juhanurmi/paperback, rjzak/enarx_vfs_test, enarx/cryptle."""
        stdio = "".join(f'[[files]]\nkind = "{k}"\n\n' for k in ("stdin", "stdout", "stderr"))
        steward = 'args = ["steward.wasm", "--crt", "certs/test/crt.der"]\n\n' + stdio + \
            '[[files]]\nkind = "listen"\nprot = "tcp"\nport = 0\nname = "TEST_TCP_LISTEN"\n'
        self.gives(self.run_with(steward, "env"), "FD_COUNT=4\0FD_NAMES=stdin:stdout:stderr:TEST_TCP_LISTEN\0")
        self.gives(self.run_with(steward, "args"), "args.wasm\0steward.wasm\0--crt\0certs/test/crt.der\0")
        paperback = "".join(f'[[files]]\nkind = "{k}"\n\n' for k in ("null", "stdout", "stdin", "stderr"))
        self.gives(self.run_with(paperback, "env"), "FD_COUNT=4\0FD_NAMES=null:stdout:stdin:stderr\0")
        self.gives(self.run_with("".join(f'[{k}]\nkind = "host"\n' for k in ("stdin", "stdout", "stderr")), "hello"), "hello\n")
        self.gives(self.run_with(stdio + '[[files]]\nkind = "listen"\nprot = "tls"\nport = 0\nname = "T"\n', "hello"), "hello\n")

    def test_second_generation_of_enarx(self):
        toml = self.path("Enarx.toml", 'args = ["x"]\n[stdin]\nkind = "null"\n[stdout]\nkind = "host"\n[network.incoming.9000]\nprot = "tcp"\n')
        code, out, err = donjon("run", "--config", toml, module("args"))
        self.assertEqual((code, out), (0, "args.wasm\0x\0"))
        self.assertIn("warning", err)

    def test_init(self):
        code, out, err = donjon("config", "init", cwd=self.tmp)
        self.assertEqual((code, err), (0, ""))
        text = open(self.path("Donjon.toml")).read()
        self.gives(donjon("config", "init", "-"), text)
        self.assertEqual(donjon("config", "check", cwd=self.tmp)[0], 0)
        # Every key that is shown as a comment is right, too.
        full = "".join(l[2:] if l.startswith("# ") and (" = " in l or l.startswith("# [[")) and not l.startswith("# Every") else l
                       for l in text.splitlines(keepends=True))
        self.assertEqual(donjon("config", "check", self.path("full.toml", full))[2], "")
        self.says(donjon("config", "init", cwd=self.tmp), FAILED, "Donjon.toml is there already; --force replaces it")
        self.assertEqual(donjon("config", "init", "--force", cwd=self.tmp)[0], 0)
        self.says(donjon("config", "init", self.path("no/such/dir")), FAILED, "cannot write", "No such file")


class Other(Base):
    def test_platform_info(self):
        code, out, err = donjon("platform", "info")
        self.assertEqual((code, err), (0, ""))
        for name in ("snp", "tdx", "sgx", "sanctum", "kvm", "process"):
            self.assertRegex(out, rf"(?m)^{name} +(yes|no)")
        info = json.loads(donjon("platform", "info", "--json")[1])
        self.assertEqual([b["name"] for b in info["backends"]], ["snp", "tdx", "sgx", "sanctum", "kvm", "process"])
        for b in info["backends"]:
            self.assertEqual(b["available"], b["missing"] is None)
            self.assertFalse(b["available"] and not b["in_release"])
        self.assertTrue(any(b["name"] == "process" and b["available"] for b in info["backends"]))

    def test_inspect(self):
        code, out, err = donjon("inspect", module("cat"))
        self.assertEqual((code, err), (0, ""))
        for word in ("a valid WebAssembly module", "a program for WASI preview 1", "wasi_snapshot_preview1.fd_read", "_start", "memory"):
            self.assertIn(word, out)
        info = json.loads(donjon("inspect", "--json", module("unknown"))[1])
        self.assertEqual([(i["module"], i["name"], i["kind"]) for i in info["imports"]],
                         [("env", "missing", "function"), ("other", "thing", "function")])
        self.assertEqual([e["name"] for e in info["exports"]], ["memory", "_start"])
        self.assertIn("a library", donjon("inspect", module("no_start"))[1])

    def test_inspect_bad(self):
        whole = open(module("cat"), "rb").read()
        self.says(donjon("inspect", self.path("cut.wasm", whole[:60])), 1, "module, byte")
        self.says(donjon("inspect", self.path("e.wasm", "")), 1, "is empty")
        for name, wanted, word in (("cut.wasm", 1, "module, byte"), ("e.wasm", 1, "is empty"), ('no"ne.wasm', FAILED, 'no"ne')):
            code, out, _ = donjon("inspect", "--json", self.path(name))
            self.assertEqual((code, json.loads(out)["exit_code"]), (wanted, wanted))
            self.assertIn(word, json.loads(out)["error"])
        self.says(donjon("inspect", self.path("none.wasm")), FAILED, "No such file")
        # An i64 where an i32 belongs: invalid, with the function.
        bad = b"\0asm\1\0\0\0" b"\1\5\1\x60\0\1\x7f" b"\3\2\1\0" b"\x0a\6\1\4\0\x42\0\x0b"
        self.says(donjon("inspect", self.path("bad.wasm", bad)), 1, "invalid module, byte", "function 0")


if __name__ == "__main__":
    if not shutil.which("wat2wasm"):
        print("SKIP: wat2wasm (wabt) is not installed")
        sys.exit(77)
    names = [a for a in sys.argv[1:] if a in ("Options", "Run", "Config", "Other")]
    unittest.main(argv=[sys.argv[0], *sys.argv[1:]], defaultTest=names or None, verbosity=1)
