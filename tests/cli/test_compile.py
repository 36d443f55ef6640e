#!/usr/bin/env python3
"""donjon compile, files it made, and the cache, from outside."""
import os, re, shutil, stat, subprocess, sys, time, unittest

from modules import module
from test_cli import Base, DONJON, FAILED, TRAP, donjon

DIGEST, HEAD, MAC = 120, 152, 32  # src/cli/code_file.h
BIG = 5 << 20        # a module of this size is looked for in the cache


def leb(n):
    out = b""
    while True:
        out += bytes([n & 0x7f | (0x80 if n > 0x7f else 0)])
        n >>= 7
        if not n:
            return out


def bigger(wasm, size=BIG):
    """The same module with a custom section, so that it is worth caching."""
    content = b"\x04fill" + bytes(size)
    return wasm + b"\0" + leb(len(content)) + content


class Own(Base):
    """With a key and a cache of its own."""

    def setUp(self):
        super().setUp()
        self.env = dict(os.environ, XDG_DATA_HOME=self.path("data"), XDG_CACHE_HOME=self.path("cache"), DONJON_CODE_CACHE="on")

    def donjon(self, *args, **kw):
        return donjon(*args, **dict(dict(env=self.env), **kw))

    def compiled(self, name, out=None):
        out = out or self.path(name + ".donjon")
        self.gives(self.donjon("compile", module(name), "-o", out), "")
        return out

    def read(self, path):
        with open(path, "rb") as f:
            return f.read()


class Files(Own):
    def test_round_trip(self):
        self.gives(self.donjon("run", self.compiled("hello")), "hello\n")
        self.assertEqual(self.donjon("run", self.compiled("exit7"))[0], 7)
        code, out, err = self.donjon("run", self.compiled("divide"))
        self.assertEqual((code, out), (TRAP, ""))
        self.assertEqual(err.replace("divide.donjon", "divide.wasm").replace(self.tmp, ""),
                         self.donjon("run", module("divide"))[2].replace(os.path.dirname(module("divide")), ""))

    def test_where_to(self):
        shutil.copy(module("hello"), self.path("here.wasm"))
        self.gives(self.donjon("compile", "here.wasm", cwd=self.tmp), "")
        self.gives(self.donjon("run", "here.donjon", cwd=self.tmp), "hello\n")
        self.gives(self.donjon("compile", "here.donjon", cwd=self.tmp), "")  # anew, in place
        self.gives(self.donjon("run", "here.donjon", cwd=self.tmp), "hello\n")
        self.assertEqual(sorted(f for f in os.listdir(self.tmp) if f.startswith("here")), ["here.donjon", "here.wasm"])

    def test_same_whatever_the_threads(self):
        files = [self.path(f"{n}.donjon") for n in (1, 2, 7)]
        for n, f in zip((1, 2, 7), files):
            self.gives(self.donjon("compile", "--threads", str(n), module("cat"), "-o", f), "")
        self.assertEqual(len({self.read(f) for f in files}), 1)

    def test_the_key_is_private_and_kept(self):
        self.compiled("hello")
        key = self.path("data/donjon/key")
        first = self.read(key)
        self.assertEqual(len(first), 32)
        self.assertEqual(stat.S_IMODE(os.stat(key).st_mode), 0o600)
        self.compiled("hello")
        self.assertEqual(self.read(key), first)
        self.assertEqual(os.listdir(self.path("data/donjon")), ["key"])

    def refused(self, f, *words):
        self.says(self.donjon("run", f), FAILED, "donjon run: ", "donjon compile", *words)

    def test_altered(self):
        f = self.compiled("hello")
        good = self.read(f)
        for at in [*range(0, HEAD + MAC, 7), *range(HEAD, len(good), 61), len(good) - 1]:
            bad = bytearray(good)
            bad[at] ^= 0x40
            self.path("bad.donjon", bytes(bad))
            code, out, err = self.donjon("run", self.path("bad.donjon"))
            self.assertEqual((code, out), (FAILED, ""), at)
        self.path("bad.donjon", good[:HEAD + 300] + bytes([good[HEAD + 300] ^ 1]) + good[HEAD + 301:])
        self.refused(self.path("bad.donjon"), "has been altered since it was compiled")

    def test_cut_short_or_longer(self):
        good = self.read(self.compiled("hello"))
        for n in (8, 9, 100, HEAD, HEAD + MAC, len(good) - 1):
            self.refused(self.path("cut.donjon", good[:n]), "is cut short")
        self.refused(self.path("long.donjon", good + b"x"), "more bytes than it was made with")

    def test_foreign(self):
        f = self.compiled("hello")
        other = dict(self.env, XDG_DATA_HOME=self.path("other"))
        self.says(self.donjon("run", f, env=other), FAILED, "cannot be authenticated", "no key")
        self.gives(self.donjon("compile", module("hello"), "-o", self.path("x.donjon"), env=other), "")
        self.says(self.donjon("run", f, env=other), FAILED, "was compiled under another key", "donjon compile")
        self.gives(self.donjon("compile", f, "-o", self.path("mine.donjon"), env=other), "")  # its module needs no trust
        self.gives(self.donjon("run", self.path("mine.donjon"), env=other), "hello\n")

    def authentic(self, name, at, value):
        """A file as another build would have made it under the same key: with the digest of its code."""
        import hashlib, hmac
        body = bytearray(self.read(self.compiled("hello"))[:-MAC])
        body[at] ^= value
        if at >= HEAD:
            body[DIGEST:HEAD] = hashlib.sha256(body[HEAD + os.path.getsize(module("hello")):]).digest()
        key = self.read(self.path("data/donjon/key"))
        return self.path(name, bytes(body) + hmac.new(key, bytes(body), hashlib.sha256).digest())

    def test_stale(self):
        self.gives(self.donjon("run", self.authentic("same.donjon", 0, 0)), "hello\n")
        self.refused(self.authentic("build.donjon", 16, 1), "compiled by another build of donjon")
        self.refused(self.authentic("cpu.donjon", 48, 1), "compiled for another kind of CPU")
        self.refused(self.authentic("version.donjon", 8, 2), "another file format")

    def test_authentic_nonsense_is_not_run(self):
        """Code that its own checks refuse is compiled instead: the engine looks again at what the file said."""
        f = self.authentic("inner.donjon", HEAD + os.path.getsize(module("hello")) + 8, 1)  # the image's own version
        self.gives(self.donjon("run", f), "hello\n")
        self.assertIn("not used: compiled code in another version's format", self.donjon("run", "--debug", f)[2])

    def test_keep_checks_its_code(self):
        """In a virtual machine the code is hashed before use; what is not the code that was announced ends the keep."""
        f = self.compiled("hello")
        code, _, err = self.donjon("run", "--backend", "kvm", "--debug", f)
        if "cannot run here" in err:
            self.skipTest("no kvm keep here")
        self.assertEqual(code, 0)
        self.assertRegex(err, "compiled code of [0-9]+ bytes used")
        lied = self.authentic("lied.donjon", DIGEST, 1)
        self.says(self.donjon("run", "--backend", "kvm", lied), FAILED, "the compiled code is not what was measured")

    def test_unsafe_keys(self):
        f = self.compiled("hello")
        key = self.path("data/donjon/key")
        os.chmod(key, 0o644)
        self.says(self.donjon("run", f), FAILED, "nobody else can read")
        os.chmod(key, 0o600)
        with open(key, "ab") as k:
            k.write(b"x")
        self.says(self.donjon("run", f), FAILED, "expected 32 bytes")
        os.remove(key)
        os.symlink("/dev/null", key)
        self.says(self.donjon("run", f), FAILED, "cannot be authenticated")

    def test_fuel(self):
        f = self.path("f.donjon")
        self.gives(self.donjon("compile", "--fuel", module("hello"), "-o", f), "")
        self.gives(self.donjon("run", "-W", "fuel=100000", f), "hello\n")
        self.gives(self.donjon("run", f), "hello\n")  # compiled as it goes
        self.assertEqual(self.donjon("run", "-W", "fuel=1", f)[0], TRAP)

    def test_explicit_checks(self):
        f = self.path("f.donjon")
        self.gives(self.donjon("compile", "--explicit-checks", module("hello"), "-o", f), "")
        self.gives(self.donjon("run", "-W", "explicit-checks", f), "hello\n")
        self.gives(self.donjon("run", f), "hello\n")  # compiled as it goes
        self.says(self.donjon("run", "-W", "explicit-checks", module("oob")), TRAP, "out of bounds memory access", lines=0)
        plain = self.donjon("compile", "--dump", "asm", module("oob"))[1]
        checked = self.donjon("compile", "--dump", "asm", "--explicit-checks", module("oob"))[1]
        self.assertLess(plain.count("cmp "), checked.count("cmp "))

    def test_wrong_words(self):
        self.says(self.donjon("compile"), FAILED, "which module?")
        self.says(self.donjon("compile", "/none.wasm"), FAILED, "cannot read /none.wasm")
        self.says(self.donjon("compile", self.path("t", "text")), FAILED, "is not a WebAssembly module")
        self.says(self.donjon("compile", "--cache", "-o", "x", module("hello")), FAILED, "one of -o, --cache and --dump")
        self.says(self.donjon("compile", "--threads", "0", module("hello")), FAILED, "--threads")
        self.says(self.donjon("compile", module("hello"), "-o", "/none/x"), FAILED, "cannot write /none/x")


class Dump(Own):
    def test_stages(self):
        code, out, err = self.donjon("compile", "--dump", "ir,ra,asm", "--func", "_start", module("hello"))
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, r"^function \d+, ")
        for stage in ("ir:", "ra:", "asm:"):
            self.assertEqual(out.count("\n" + stage + "\n"), 1)
        self.assertRegex(out, r"\n +0: ")
        self.assertIn("call", out)

    def test_all_functions(self):
        code, out, err = self.donjon("compile", "--dump", "ir", module("hello"))
        self.assertEqual((code, err), (0, ""))
        self.assertGreaterEqual(len(re.findall(r"^function \d+", out, re.M)), 2)
        self.assertNotIn("asm:", out)

    def test_without_objdump_there_are_bytes(self):
        env = dict(self.env, PATH="/nonexistent")
        code, out, err = donjon("compile", "--dump", "asm", "--func", "_start", module("hello"), env=env)
        self.assertEqual(code, 0)
        self.assertRegex(out, r"\n +0:( [0-9a-f]{2})+\n")

    def test_wrong_words(self):
        self.says(self.donjon("compile", "--dump", "x", module("hello")), FAILED, "expected ir, ra or asm")
        self.says(self.donjon("compile", "--dump", "ir", "--func", "nobody", module("hello")), FAILED, "no function of that name")
        self.says(self.donjon("compile", "--dump", "ir", "--func", "0", module("hello")), FAILED, "are imported")


class Cache(Own):
    def entries(self):
        d = self.path("cache/donjon")
        return sorted(f for f in os.listdir(d) if f.endswith(".code")) if os.path.isdir(d) else []

    def wait_for_entry(self):
        end = time.time() + 300  # in the background, with a priority that waits for everybody
        while not self.entries() and time.time() < end:
            time.sleep(0.05)
        return self.entries()

    def used(self, *args):
        code, out, err = self.donjon("run", "--debug", *args)
        self.assertEqual(code, 0, err)
        return "compiled code of" in err

    def setUp(self):
        super().setUp()
        self.app = self.path("big.wasm", bigger(self.read(module("hello"))))

    def test_filled_explicitly(self):
        self.gives(self.donjon("compile", "--cache", self.app), "")
        self.assertEqual(len(self.entries()), 1)
        self.assertTrue(self.used(self.app))
        self.assertFalse(self.used("--no-cache", self.app))
        self.assertFalse(self.used("-W", "fuel=100000", self.app))
        shutil.copy(self.app, self.path("elsewhere.wasm"))
        self.assertTrue(self.used(self.path("elsewhere.wasm")))  # by contents, not by name

    def test_filled_after_a_run(self):
        self.gives(self.donjon("run", self.app), "hello\n")
        self.assertEqual(len(self.wait_for_entry()), 1)
        self.assertTrue(self.used(self.app))

    def test_small_ones_are_left_alone(self):
        self.gives(self.donjon("run", module("hello")), "hello\n")
        time.sleep(0.3)
        self.assertFalse(os.path.exists(self.path("cache")))

    def test_off(self):
        for args, env in ((["--no-cache"], self.env), ([], dict(self.env, DONJON_CODE_CACHE="off"))):
            self.gives(self.donjon("run", *args, self.app, env=env), "hello\n")
        time.sleep(0.3)
        self.assertFalse(os.path.exists(self.path("cache")))

    def test_changed_module(self):
        self.gives(self.donjon("compile", "--cache", self.app), "")
        changed = bytearray(self.read(self.app))
        changed[-1] ^= 1
        self.assertFalse(self.used("--no-cache", self.path("changed.wasm", bytes(changed))))
        code, out, err = self.donjon("run", "--debug", self.path("changed.wasm"))
        self.assertEqual(out, "hello\n")
        self.assertNotIn("compiled code of", err)

    def test_altered_entries_go(self):
        self.gives(self.donjon("compile", "--cache", self.app), "")
        entry = self.path("cache/donjon/" + self.entries()[0])
        for change in (lambda b: b[:200] + bytes([b[200] ^ 1]) + b[201:], lambda b: b[:100], lambda b: b"", lambda b: b + b"x"):
            good = self.read(entry)
            self.path("cache/donjon/" + os.path.basename(entry), change(good))
            os.chmod(entry, 0o600)
            env = dict(self.env)
            code, out, err = self.donjon("run", "--debug", self.app)
            self.assertEqual((code, out), (0, "hello\n"))
            self.assertNotIn("compiled code of", err)
            self.assertTrue(self.wait_for_entry())
            time.sleep(0.2)
            self.gives(self.donjon("compile", "--cache", self.app), "")

    def test_entries_of_others_are_not_read(self):
        self.gives(self.donjon("compile", "--cache", self.app), "")
        entry = self.path("cache/donjon/" + self.entries()[0])
        os.chmod(entry, 0o622)
        self.assertFalse(self.used(self.app))
        os.chmod(entry, 0o600)
        os.chmod(self.path("cache/donjon"), 0o777)
        self.assertFalse(self.used(self.app))
        os.chmod(self.path("cache/donjon"), 0o700)
        self.assertTrue(self.used(self.app))

    def test_the_least_recently_used_go_first(self):
        """Files stand in for gigabytes: sparse, with the entries' suffix."""
        os.makedirs(self.path("cache/donjon"), mode=0o700)
        now = time.time()
        for n in range(5):
            old = self.path(f"cache/donjon/{n}.code", b"")
            os.truncate(old, 300 << 20)
            os.utime(old, (now - 1000 + n, now - 1000 + n))
        left = self.path("cache/donjon/x.code.tmp-1", b"half")
        os.utime(left, (now - 7200, now - 7200))
        self.gives(self.donjon("compile", "--cache", self.app), "")
        kept = self.entries()
        self.assertEqual([f for f in kept if len(f) < 10], ["2.code", "3.code", "4.code"])
        self.assertEqual(len(kept), 4)
        self.assertFalse(os.path.exists(left))


class Profile(Own):
    def test_map(self):
        with subprocess.Popen([DONJON, "run", "--backend", "process", "--profile", module("cat")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              env=self.env) as p:
            p.stdin.write(b"x")
            p.stdin.flush()
            self.assertEqual(p.stdout.read(1), b"x")
            children = self.read(f"/proc/{p.pid}/task/{p.pid}/children").decode().split()
            self.assertEqual(len(children), 1)
            path = f"/tmp/perf-{children[0]}.map"
            self.addCleanup(lambda: os.path.exists(path) and os.remove(path))
            p.stdin.close()
            p.wait(60)
        text = self.read(path).decode()
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.assertRegex(text, r"^([0-9a-f]+ [0-9a-f]+ \S.*\n)+$")

    def test_only_when_asked(self):
        before = set(os.listdir("/tmp"))
        self.gives(self.donjon("run", module("hello")), "hello\n")
        self.assertFalse([f for f in set(os.listdir("/tmp")) - before if f.startswith("perf-")])


if __name__ == "__main__":
    if not shutil.which("wat2wasm"):
        print("SKIP: wat2wasm (wabt) is not installed")
        sys.exit(77)
    unittest.main()
