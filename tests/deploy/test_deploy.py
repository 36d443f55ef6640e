#!/usr/bin/env python3
"""donjon deploy end to end on loopback: agent, donjon-keep, warden, channel, tenant. test_deploy.py BACKEND [TEST...]"""
import hashlib, json, os, random, re, shutil, signal, socket, subprocess, sys, tempfile, time, unittest
import host
from host import Agent, BIN, DONJON, Tenant, module

BACKEND = sys.argv.pop(1) if len(sys.argv) > 1 and sys.argv[1] in ("process", "kvm") else "process"


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(p) for p in f.read().split()]
    except OSError:
        return []


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def wait(what, timeout=20):
    end = time.monotonic() + timeout
    while not what():
        if time.monotonic() > end:
            raise AssertionError("waited in vain")
        time.sleep(0.03)


class Deploy(unittest.TestCase):
    def setUp(self):
        self.agent = Agent(keep=None)
        self.addCleanup(self.agent.close)
        self.tenant = Tenant(self.agent)

    def deploy(self, *args, **kw):
        return self.tenant.deploy("--backend", BACKEND, *args, **kw)

    def detach(self, *args, **kw):
        p = self.deploy("--detach", *args, **kw)
        self.assertEqual(p.returncode, 0, p.stderr)
        return p.stdout.decode().strip()

    def nothing_left(self):
        wait(lambda: not os.listdir(f"{self.agent.state}/keeps"))
        self.assertEqual(self.tenant.remembered(), [])

    # ---- programs ----

    def test_streams(self):
        data = os.urandom(300000)
        p = self.deploy(module("cat"), input=data)
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertEqual(p.stdout, data)
        self.assertIn(b"NOT PROTECTED", p.stderr)
        self.nothing_left()

    def test_arguments_and_environment(self):
        p = self.deploy("--argv0", "me", module("args"), "--", "--host", "x y")
        self.assertEqual(p.stdout, b"me\0--host\0x y\0", p.stderr)
        p = self.deploy("--env", "A=b", module("env"))
        self.assertIn(b"A=b\0", p.stdout)

    def test_exit_codes(self):
        for name, code in (("empty", 0), ("exit7", 7), ("exit255", 255)):
            self.assertEqual(self.deploy(module(name)).returncode, code, name)
        p = self.deploy(module("trap"))
        self.assertEqual(p.returncode, 134)
        self.assertIn(b"unreachable", p.stderr)
        self.assertIn(b"inner", p.stderr)
        p = self.deploy("--limit", "time=300ms", module("spin"))
        self.assertEqual(p.returncode, 124, p.stderr)
        p = self.deploy(module("unknown"))
        self.assertEqual(p.returncode, 125)
        self.assertIn(b"missing", p.stderr)
        self.nothing_left()

    def test_json(self):
        p = self.deploy("--json", module("hello"))
        lines = [json.loads(l) for l in p.stderr.decode().splitlines()]
        steps = [l["step"] for l in lines if "step" in l]
        for expected in ("connect", "keep", "evidence", "appraisal.signatures", "no-tee", "deliver", "start"):
            self.assertIn(expected, steps)
        self.assertEqual((lines[-1]["outcome"], lines[-1]["exit_code"]), ("exited", 0))
        self.assertEqual(p.stdout, b"hello\n")
        p = self.deploy("--json", "/nonexistent.wasm")
        end = json.loads(p.stderr.decode().splitlines()[-1])
        self.assertEqual((p.returncode, end["outcome"], end["exit_code"]), (125, "failed", 125))

    def test_files(self):
        d = tempfile.mkdtemp(dir=self.tenant.home)
        with open(f"{d}/file", "w") as f:
            f.write("delivered\n")
        for option in (f"{d}::/", f"{d}/file::file"):
            p = self.deploy("--file", option, module("show_file"))
            self.assertEqual((p.returncode, p.stdout), (0, b"delivered\n"), p.stderr)
        app = f"{d}/app"
        os.mkdir(app)
        shutil.copy(module("show_file"), f"{app}/main.wasm")
        os.mkdir(f"{app}/data")
        shutil.copy(f"{d}/file", f"{app}/data/file")
        with open(f"{app}/Donjon.toml", "w") as f:
            f.write('[[mounts]]\nhost = "data"\nguest = "/"\n')
        p = self.deploy(app)
        self.assertEqual((p.returncode, p.stdout), (0, b"delivered\n"), p.stderr)

    def test_dry_run(self):
        p = self.tenant.run("deploy", "--dry-run", module("hello"))
        self.assertEqual(p.returncode, 0, p.stderr)
        workload, measurement = re.search(r"workload +([0-9a-f]{64})\nmeasurement +([0-9a-f]{96})\n", p.stdout.decode()).groups()
        measured = self.tenant.run("measure", "--warden", f"{BIN}/donjon-warden-tls", f"{BIN}/donjon-shim")
        self.assertIn(measurement, measured.stdout.decode(), measured.stderr)
        policy = f"{self.tenant.home}/policy.toml"
        for digest, code in ((workload, 0), ("0" * 64, 125)):
            with open(policy, "w") as f:
                f.write(f'tees = ["software"]\nallow_software = true\nworkloads = ["{digest}"]\n[snp]\n'
                        f'measurements = ["{measurement}"]\nallow_smt = true\n')
            p = self.deploy("--policy", policy, module("hello"))
            self.assertEqual(p.returncode, code, p.stderr)

    def test_package(self):
        app, oci = f"{self.tenant.home}/app", f"{self.tenant.home}/oci"
        os.mkdir(app)
        shutil.copy(module("hello"), f"{app}/main.wasm")
        p = self.tenant.run("pack", "-q", "-o", oci, app)
        digest = p.stdout.decode().strip()
        self.assertRegex(digest, "^sha256:", p.stderr)
        for reference in (f"oci:{oci}", f"oci:{oci}@{digest}"):
            p = self.deploy("--json", reference)
            self.assertEqual((p.returncode, p.stdout), (0, b"hello\n"), p.stderr)
            self.assertIn(digest, p.stderr.decode())
        p = self.deploy(f"oci:{oci}@sha256:" + "0" * 64)
        self.assertEqual(p.returncode, 125)
        self.tenant.run("sign", "-q", "--new-key", f"{self.tenant.home}/key")
        p = self.deploy("--verify-key", f"{self.tenant.home}/key.pub", f"oci:{oci}")
        self.assertEqual(p.returncode, 125)
        self.assertIn(b"sign", p.stderr)

    def test_processors(self):
        p = self.deploy("--limit", "cpus=2", module("hello"))
        self.assertEqual((p.returncode, p.stdout), (0, b"hello\n"), p.stderr)

    def test_interrupt(self):
        p = self.tenant.start("deploy", "--host", self.tenant.host, "--allow-no-tee", "--backend", BACKEND,
                              module("ticker"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(p.stdout.readline(), b"tick\n")
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(20), -signal.SIGINT)
        p.stdout.close(), p.stderr.close()
        self.nothing_left()

    def test_interrupt_at_any_time(self):
        """Whatever it was doing: nothing is remembered of what does not run."""
        for delay in (0.02, 0.06, 0.1, 0.15, 0.2, 0.3):
            p = self.tenant.start("deploy", "--host", self.tenant.host, "--allow-no-tee", "--backend", BACKEND,
                                  module("ticker"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(delay)
            p.send_signal(signal.SIGTERM)
            self.assertIn(p.wait(20), (-signal.SIGTERM, 125))
            self.assertEqual(self.tenant.remembered(), [])

    def test_reader_goes(self):
        p = self.tenant.start("deploy", "--host", self.tenant.host, "--allow-no-tee", "--backend", BACKEND,
                              module("yes"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        p.stdout.read(1000)
        p.stdout.close()
        self.assertEqual(p.wait(20), -signal.SIGPIPE)
        p.stderr.close()
        self.nothing_left()

    # ---- trust ----

    def refused(self, p, *words):
        self.assertEqual(p.returncode, 125)
        text = p.stderr.decode()
        for w in words:
            self.assertIn(w, text)
        self.assertNotIn("delivered ", text.replace("nothing was delivered", ""))
        self.nothing_left()

    def test_refused_without_hardware(self):
        self.refused(self.deploy(module("hello"), allow=False), "no hardware", "--allow-no-tee", "nothing was delivered")

    def test_policy_alone_does_not_allow_it(self):
        policy = f"{self.tenant.home}/policy.toml"
        with open(policy, "w") as f:
            f.write("allow_software = true\n")
        self.refused(self.deploy("--policy", policy, module("hello"), allow=False), "nothing was delivered")

    def test_tampered_warden(self):
        d = tempfile.mkdtemp(dir=self.tenant.home)
        shutil.copy(f"{BIN}/donjon-shim", d)
        with open(f"{BIN}/donjon-warden-tls", "rb") as f, open(f"{d}/donjon-warden-tls", "wb") as g:
            data = bytearray(f.read())
            at = data.find(b"donjon channel v1")
            data[at] ^= 1
            g.write(data)
        self.refused(self.deploy("--reference", d, module("hello")), "measurement", "nothing was delivered")

    def test_other_development_root(self):
        other = Agent(keep="/bin/true")
        root = f"{other.state}/dev-root.pem"
        self.refused(self.deploy("--development-root", root, module("hello")), "nothing was delivered")
        other.close()
        p = self.deploy("--development-root", f"{self.agent.state}/dev-root.pem", module("hello"))
        self.assertEqual(p.returncode, 0, p.stderr)

    def test_agent_key(self):
        p = self.deploy("--agent-key", self.agent.key, module("hello"))
        self.assertEqual(p.returncode, 0, p.stderr)
        self.refused(self.deploy("--agent-key", "0" * 64, module("hello")), "another")
        p = self.deploy("--agent-ca", f"{self.agent.state}/agent-cert.pem", module("hello"))
        self.assertEqual(p.returncode, 0, p.stderr)

    # ---- secrets ----

    def app_with_secrets(self, name="env"):
        d = tempfile.mkdtemp(dir=self.tenant.home)
        shutil.copy(module(name), f"{d}/main.wasm")
        with open(f"{d}/Donjon.toml", "w") as f:
            f.write('[[secrets]]\nname = "db"\nenv = "DB_PASSWORD"\n')
        return d

    def test_secrets(self):
        app, secret = self.app_with_secrets(), "correct-horse-" + os.urandom(8).hex()
        path = f"{self.tenant.home}/pw"
        with open(path, "w") as f:
            f.write(secret)
        p = self.deploy("--secret", f"db={path}", app)
        self.assertIn(f"DB_PASSWORD={secret}\0".encode(), p.stdout, p.stderr)
        p = self.deploy("--secret", "db=-", app, input=secret.encode())
        self.assertIn(f"DB_PASSWORD={secret}\0".encode(), p.stdout, p.stderr)
        for args, says in (((), "--secret db="), (("--secret", f"db={path}", "--secret", f"x={path}"), "no [[secrets]]"),
                           (("--secret", "db=/nowhere"), "No such file"), (("--secret", "=x"), "NAME=FILE")):
            p = self.deploy(*args, app)
            self.assertEqual(p.returncode, 125)
            self.assertIn(says, p.stderr.decode())
        with open(f"{app}/Donjon.toml", "a") as f:
            f.write('[[secrets]]\nname = "one"\n[[secrets]]\nname = "two"\n')
        self.assertIn('2 secrets that are not given: "one", "two"', self.deploy("--secret", f"db={path}", app).stderr.decode())
        self.assertIn('did you mean "db"', self.deploy("--secret", f"bd={path}", app).stderr.decode())
        self.nothing_left()

    def test_refusals_say_what_there_is(self):
        p = self.tenant.run("deploy", "--host", self.tenant.host, "--allow-no-tee", "--backend", "foo", module("hello"))
        self.assertEqual(p.returncode, 125)
        self.assertRegex(p.stderr.decode(), r'unknown backend "foo"; there are .*process \(works here\)')
        app = self.app_with_secrets("hello")
        with open(f"{app}/Donjon.toml", "w") as f:
            f.write('[[files]]\nkind = "listen"\nname = "web"\nprot = "tcp"\nport = 80\n')
        with open(f"{self.tenant.home}/token", "w") as f:
            f.write("t" * 32)
        sha = hashlib.sha256(b"t" * 32).hexdigest()
        with Agent(keep=None, config=f'[[tenants]]\nname = "acme"\ntoken-sha256 = "{sha}"\n') as agent:
            p = self.tenant.run("deploy", "--host", f"127.0.0.1:{agent.port}", "--token-file", f"{self.tenant.home}/token",
                                "--allow-no-tee", "--backend", BACKEND, app)
        self.assertEqual(p.returncode, 125)
        self.assertNotIn(b"delivered", p.stderr)
        self.assertRegex(p.stderr.decode(), r'"web" listens on port 80; .* ports 1024-65535\. .*`listen` of your')
        p = self.tenant.run("ps", "--host", "127.0.0.1:1")
        self.assertEqual((p.returncode, p.stdout), (125, b""), p.stderr)
        self.nothing_left()

    def test_secret_is_nowhere(self):
        """The host's disk, the agent's memory and log, and the deployment's file."""
        app, secret = self.app_with_secrets("ticker"), "needle-" + os.urandom(12).hex()
        id = self.detach("--secret", "db=-", app, input=secret.encode())
        needle = secret.encode()
        for top in (self.agent.state, f"{self.tenant.home}/donjon"):
            for d, _, files in os.walk(top):
                for name in (n for n in files if os.path.isfile(os.path.join(d, n))):
                    with open(os.path.join(d, name), "rb") as f:
                        self.assertNotIn(needle, f.read(), name)
        self.assertNotIn(secret, json.dumps(self.agent.log))
        self.assertEqual(self.search_memory(self.agent.process.pid, needle), 0)
        self.assertEqual(self.tenant.run("stop", id).returncode, 0)

    def test_encrypted_package(self):
        """What is encrypted in a package is in the keep, and in no other process's memory, disk or temporary directory."""
        if not os.path.exists(f"{BIN}/donjon-package"):
            self.skipTest("donjon-package is not built")
        needle = "needle-" + os.urandom(12).hex()
        d = tempfile.mkdtemp(dir=self.tenant.home)
        os.makedirs(f"{d}/app/data")
        shutil.copy(module("ticker"), f"{d}/app/main.wasm")
        with open(f"{d}/app/data/file", "w") as f:
            f.write(needle)
        with open(f"{d}/app/Donjon.toml", "w") as f:
            f.write('[[mounts]]\nhost = "data"\nguest = "/srv"\n')
        plain = self.tenant.run("deploy", "--dry-run", f"{d}/app").stdout
        p = self.tenant.run("pack", "-q", "--encrypt", f"{d}/key", "-o", f"{d}/oci", f"{d}/app")
        self.assertEqual(p.returncode, 0, p.stderr)
        shutil.rmtree(f"{d}/app")
        p = self.tenant.run("deploy", "--dry-run", "--decrypt-key", f"{d}/key", f"{d}/oci")
        self.assertEqual(p.stdout.splitlines()[:2], plain.splitlines()[:2], p.stderr)  # the same workload, known without opening it
        self.assertIn(b"no key was given", self.deploy(f"{d}/oci").stderr)
        with open(f"{d}/key", "rb") as f:
            key = f.read()
        id = self.detach("--decrypt-key", "-", f"{d}/oci", input=key)  # from a program that has it, without a file
        wait(lambda: b"tick\n" in self.tenant.run("logs", id).stdout)
        self.assertEqual(self.tenant.run("stop", id).returncode, 0)
        tenant = self.tenant.start("deploy", "--host", self.tenant.host, "--allow-no-tee", "--backend", BACKEND, "--decrypt-key",
                                   f"{d}/key", f"{d}/oci", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.assertEqual(tenant.stdout.readline(), b"tick\n")
        self.assertEqual(self.search_memory(tenant.pid, needle.encode()), 0)
        self.assertEqual(self.search_memory(self.agent.process.pid, needle.encode()), 0)
        if BACKEND == "process":  # elsewhere the keep's memory is donjon-keep's
            (keep,) = (k["pid"] for k in self.agent.records())
            self.assertEqual(self.search_memory(keep, needle.encode()), 0)
            self.assertGreater(sum(self.search_memory(p, needle.encode()) for p in children(keep)), 0)  # the search finds it
        tenant.send_signal(signal.SIGINT)
        tenant.wait(20)
        tenant.stdout.close()
        self.nothing_left()

    def search_memory(self, pid, needle):
        found = 0
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
            for line in maps:
                m = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
                if not m:
                    continue
                start, end = (int(x, 16) for x in m.groups())
                try:
                    mem.seek(start)
                    found += mem.read(min(end - start, 64 << 20)).count(needle)
                except (OSError, ValueError, OverflowError):
                    pass
        return found

    # ---- detached ----

    def test_detached(self):
        id = self.detach("--name", "web", module("ticker"))
        self.assertRegex(id, "^[0-9a-f]{32}$")
        wait(lambda: self.tenant.ps()[0]["state"] == "running")  # the agent learns it beside the tenant
        row = self.tenant.ps()[0]
        self.assertEqual((row["id"], row["name"], row["state"], row["backend"]), (id, "web", "running", BACKEND))
        self.assertIn("running", self.tenant.run("ps").stdout.decode())
        wait(lambda: self.tenant.run("logs", "web").stdout.count(b"tick\n") > 2)
        follow = self.tenant.start("logs", "--follow", id[:8], stdout=subprocess.PIPE)
        for _ in range(5):
            self.assertEqual(follow.stdout.readline(), b"tick\n")
        follow.send_signal(signal.SIGINT)
        self.assertEqual(follow.wait(20), 0)
        follow.stdout.close()
        self.assertIn(b'"running"', self.tenant.run("logs", "--json", "web").stderr)
        p = self.tenant.run("stop", "--json", "web", "none")
        self.assertEqual(p.returncode, 125, p.stderr)
        web, none = json.loads(p.stdout)
        self.assertEqual(web, {"deployment": "web", "id": id, "stopped": True, "error": None})
        self.assertEqual((none["id"], none["stopped"], "no deployment" in none["error"]), (None, False, True))
        self.nothing_left()

    def test_detached_in_vain(self):
        """Whether a program starts at all is said before we leave."""
        config = f"{self.tenant.home}/listen.toml"
        with socket.create_server(("127.0.0.1", 0)) as taken, open(config, "w") as f:
            f.write(f'[[files]]\nkind = "listen"\nname = "web"\naddr = "127.0.0.1"\nport = {taken.getsockname()[1]}\n')
            f.flush()
            p = self.deploy("--detach", "--restart=on-failure", "--config", config, module("hello"))
            self.assertEqual((p.returncode, p.stdout), (125, b""), p.stderr)
            self.assertIn(b"in use", p.stderr)
        p = self.deploy("--detach", "--json", module("unknown"))
        end = json.loads(p.stderr.decode().splitlines()[-1])
        self.assertEqual((p.returncode, end["outcome"], end["exit_code"]), (125, "refused", 125))
        self.assertIn("missing", end["text"])
        self.nothing_left()

    def test_attach(self):
        id = self.detach(module("ticker"))
        p = self.tenant.start("attach", id, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.assertEqual(p.stdout.readline(), b"tick\n")
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(20), 0)
        p.stdout.close()
        self.assertEqual(self.tenant.ps()[0]["state"], "running")
        self.tenant.run("stop", id)

    def fill(self, pipe, most):
        """Writes as much as is taken, at most so much."""
        os.set_blocking(pipe, False)
        sent, last = 0, time.time()
        while sent < most and time.time() < last + (20 if sent < 200000 else 0.5):
            try:
                sent, last = sent + os.write(pipe, bytes(65536)), time.time()
            except BlockingIOError:
                time.sleep(0.02)
        return sent

    def test_computes(self):
        """Its tenant reaches a program that computes without a call, whatever else he has sent to it."""
        id = self.detach(module("computes"))
        wait(lambda: self.tenant.run("logs", id).stdout == b"tick\n")
        self.assertEqual(self.tenant.run("evidence", id, "-o", f"{self.tenant.home}/evidence").returncode, 0)
        p = self.tenant.start("attach", id, stdin=subprocess.PIPE)
        self.assertGreaterEqual(self.fill(p.stdin.fileno(), 2 << 20), 2 << 20)  # to an input that is at its end
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(20), 0)
        p.stdin.close()
        follow = self.tenant.start("logs", "--follow", id, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(follow.stdout.readline(), b"tick\n")
        p = self.tenant.run("stop", id)
        self.assertEqual(p.returncode, 0, p.stderr)
        follow.communicate(timeout=20)
        p = self.tenant.start("deploy", "--host", self.tenant.host, "--allow-no-tee", "--backend", BACKEND, module("computes"),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.assertEqual(p.stdout.readline(), b"tick\n")
        sent = self.fill(p.stdin.fileno(), 2 << 20)  # nobody reads it
        self.assertTrue(200000 < sent < 1 << 20, sent)
        p.send_signal(signal.SIGINT)  # which ends the program
        self.assertEqual(p.wait(20), -signal.SIGINT)
        p.stdin.close(), p.stdout.close()
        self.nothing_left()

    def ended(self, name, *args):
        id = self.detach(*args, module(name))
        wait(lambda: self.tenant.ps()[0]["state"] == "exited")
        return id

    def test_log_after_the_end(self):
        id = self.ended("fails")
        self.assertEqual(self.tenant.ps()[0]["exit"], {"outcome": "exited", "code": 3})
        p = self.tenant.run("logs", id)
        self.assertEqual((p.returncode, p.stdout), (0, b"done\n"), p.stderr)
        self.assertIn(b"exit code 3", p.stderr)
        wait(lambda: self.tenant.ps()[0]["state"] == "ended")  # it has told its tenant
        p = self.tenant.run("logs", id)
        self.assertEqual(p.returncode, 125)
        self.assertIn(b"exited with code 3", p.stderr)
        self.tenant.run("stop", id)
        id = self.ended("fails")
        p = self.tenant.run("logs", "--json", id)
        end = json.loads(p.stderr.decode().splitlines()[-1])
        self.assertEqual((p.returncode, p.stdout, end["outcome"], end["exit_code"]), (0, b"done\n", "exited", 3))
        self.tenant.run("stop", id)
        self.nothing_left()

    def test_attach_after_the_end(self):
        """The exit code is the program's, and what went wrong is said."""
        for name, code, says, out in (("fails", 3, b"exit code 3", b"done\n"), ("empty", 0, b"exit code 0", b""),
                                      ("trap", 134, b"unreachable", b"")):
            for args in ((), ("--json",)):
                id = self.ended(name)
                p = self.tenant.run("attach", *args, id)
                self.assertEqual((p.returncode, p.stdout), (code, out), p.stderr)
                if args:
                    self.assertEqual(json.loads(p.stderr.decode().splitlines()[-1])["exit_code"], code)
                else:
                    self.assertIn(says, p.stderr)
                self.tenant.run("stop", id)
        self.nothing_left()

    def test_port_is_free_after_the_end(self):
        """The keep stays for its log; the program's connections and ports are gone when it is."""
        with socket.create_server(("127.0.0.1", 0)) as s:
            port = s.getsockname()[1]
        config = f"{self.tenant.home}/listen.toml"
        with open(config, "w") as f:
            f.write('[[files]]\nkind = "stdin"\n[[files]]\nkind = "stdout"\n[[files]]\nkind = "stderr"\n'
                    f'[[files]]\nkind = "listen"\nname = "in"\nprot = "tcp"\naddr = "127.0.0.1"\nport = {port}\n')
        ids = []
        of = lambda id: next(k for k in self.tenant.ps() if k["id"] == id)
        for _ in range(2):
            ids.append(self.detach("--config", config, module("server")))
            wait(lambda: of(ids[-1])["ports"] == [port])
            with socket.create_connection(("127.0.0.1", port), 10) as s:
                got = b""
                while d := s.recv(100):  # to the connection's end
                    got += d
                self.assertEqual(got, b"hello\n")
            wait(lambda: of(ids[-1])["state"] == "exited")
            self.assertEqual(of(ids[-1])["ports"], [])
            self.assertRaises(OSError, socket.create_connection, ("127.0.0.1", port), 10)
        self.assertEqual([k["state"] for k in self.tenant.ps()], ["exited"] * 2)
        for id in ids:
            self.tenant.run("stop", id)
        self.nothing_left()

    def test_owner(self):
        """Only who has the owner's secret reads the log."""
        id = self.detach(module("ticker"))
        path = f"{self.tenant.home}/donjon/deployments/{id}.json"
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        with open(path) as f:
            d = json.load(f)
        with open(path, "w") as f:
            json.dump(dict(d, owner="0" * 64), f)
        p = self.tenant.run("logs", id)
        self.assertEqual(p.returncode, 125)
        self.assertNotIn(b"tick", p.stdout)
        with open(path, "w") as f:
            json.dump(dict(d, workload="0" * 64), f)
        self.assertIn(b"another workload", self.tenant.run("logs", id).stderr)
        with open(path, "w") as f:
            json.dump(d, f)
        self.assertIn(b"tick", self.tenant.run("logs", id).stdout)
        self.tenant.run("stop", id)

    def test_evidence(self):
        id = self.detach(module("ticker"))
        out, nonce = f"{self.tenant.home}/e.bin", "ab" * 32
        p = self.tenant.run("evidence", id, "--nonce", nonce, "-o", out, "--json")
        self.assertEqual(p.returncode, 0, p.stderr)
        e = json.loads(p.stdout)
        self.assertEqual((e["nonce"], e["accepted"]), (nonce, True))
        verify = ["verify", "--collateral", e["endorsements"], "--dev-root", f"{self.agent.state}/dev-root.pem", "--set",
                  "allow_software=true", "--set"]
        good = self.tenant.run(*verify, f"report_data={e['report_data']}", out)
        self.assertEqual(good.returncode, 0, good.stdout)
        other = self.tenant.run(*verify, "report_data=" + "0" * 128, out)
        self.assertEqual(other.returncode, 1)
        again = json.loads(self.tenant.run("evidence", id, "--nonce", nonce, "-o", out, "--json").stdout)
        self.assertNotEqual(again["report_data"], e["report_data"])  # another connection
        self.tenant.run("stop", id)

    # ---- crashes ----

    def pid_of(self, id):
        return next(r["pid"] for r in self.agent.records() if r["id"] == id)

    def test_agent_is_killed(self):
        id = self.detach(module("ticker"))
        wait(lambda: b"tick" in self.tenant.run("logs", id).stdout)
        pid, since, port = self.pid_of(id), len(self.agent.log), self.agent.port
        self.agent.kill()
        self.assertEqual(self.tenant.ps()[0]["state"], "unreachable")
        at = self.agent.options.index("--listen") + 1
        self.agent.options[at] = f"127.0.0.1:{port}"
        self.agent.start()
        self.agent.wait("keep adopted", since, keep=id)
        wait(lambda: self.tenant.ps()[0]["state"] == "running")
        self.assertIn(b"tick", self.tenant.run("logs", id).stdout)
        self.assertEqual(self.pid_of(id), pid)
        self.tenant.run("stop", id)
        wait(lambda: gone(pid))
        self.nothing_left()

    def test_keep_is_killed(self):
        id = self.detach(module("ticker"))
        pid = self.pid_of(id)
        wardens = children(pid)
        os.kill(pid, signal.SIGKILL)
        wait(lambda: self.tenant.ps()[0]["state"] == "ended")
        self.assertEqual(self.tenant.ps()[0]["exit"]["outcome"], "killed")
        self.assertIn("killed", self.tenant.run("ps").stdout.decode())
        wait(lambda: all(gone(p) for p in wardens))
        self.assertEqual(self.tenant.run("stop", id).returncode, 0)
        self.nothing_left()

    def test_keep_is_killed_while_attached(self):
        p = self.tenant.start("deploy", "--host", self.tenant.host, "--allow-no-tee", "--backend", BACKEND,
                              module("ticker"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        p.stdout.readline()
        os.kill(self.pid_of(self.tenant.ps()[0]["id"]), signal.SIGKILL)
        _, err = p.communicate(timeout=20)
        self.assertEqual(p.returncode, 125)
        self.assertTrue(err)

    def test_restart(self):
        id = self.detach("--restart", "on-failure", module("fails"))
        wait(lambda: self.tenant.ps()[0]["state"] != "waiting")  # the agent learns beside the tenant that it runs
        wait(lambda: self.tenant.ps()[0]["state"] == "waiting")
        self.assertIn("waiting for its tenant", self.tenant.run("ps").stdout.decode())
        p = self.tenant.run("deploy", "--into", id[:8], "--allow-no-tee", module("hello"))
        self.assertEqual((p.returncode, p.stdout), (0, b"hello\n"), p.stderr)
        self.nothing_left()

    def test_restart_attached(self):
        p = self.tenant.start("deploy", "--host", self.tenant.host, "--allow-no-tee", "--backend", BACKEND, "--restart",
                              "on-failure", module("fails"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2):
            self.assertEqual(p.stdout.readline(), b"done\n")
        p.send_signal(signal.SIGINT)
        _, err = p.communicate(timeout=20)
        self.assertEqual(p.returncode, -signal.SIGINT)
        self.assertIn(b"deployed again in 1 s", err)
        p = self.tenant.start("deploy", "--host", self.tenant.host, "--allow-no-tee", "--backend", BACKEND, "--restart",
                              "on-failure", module("fails"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while b"deployed again" not in p.stderr.readline():
            pass
        p.send_signal(signal.SIGTERM)
        _, err = p.communicate(timeout=20)
        self.assertEqual((p.returncode, b"interrupted: it is not" in err), (-signal.SIGTERM, True), err)
        self.nothing_left()

    # ---- the command line ----

    def test_options(self):
        for args, says in ((["x.wasm"], "where?"), (["--host", "h:99999", "x"], "HOST[:PORT]"), (["--host", "h"], "which program"),
                           (["--host", "127.0.0.1:1", module("hello")], "cannot connect"),
                           (["--host", "h", "--agent-key", "12", "x"], "64 hexadecimal"),
                           (["--host", "h", "--memory", "much", "x"], "size"),
                           (["--host", "h", "--memory", "31MiB", "x"], "32MiB at least"),
                           (["--host", "h", "--file", "/nowhere::x", "x"], "--file /nowhere: No such"),
                           (["--host", "h", "--secret", "a=/nowhere", "x"], "--secret a: /nowhere: No such"),
                           (["--host", self.tenant.host, "--token-file", "/nowhere", module("hello")], "--token-file /nowhere: No such"),
                           (["--host", "h", "--restart", "always", "x"], "on-failure"),
                           (["--host", "h", "--development-root", "/dev/null", "x"], "--allow-no-tee"),
                           (["--into", "h", "--host", "h", "x"], "no --host")):
            p = self.tenant.run("deploy", *args)
            self.assertEqual(p.returncode, 125, args)
            self.assertIn(says, p.stderr.decode(), args)
        for verb in ("deploy", "ps", "logs", "attach", "stop", "evidence", "agent"):
            p = self.tenant.run(verb, "--help")
            self.assertEqual(p.returncode, 0)
            self.assertIn(f"donjon {verb}", p.stdout.decode())


class RandomKills(unittest.TestCase):
    """kill -9 of agent and keep at random points: what was acknowledged is there, or is said to be dead; nothing else is.
    KILLS=N rounds; the seed is printed."""

    def keeps_running(self, agent):
        """Processes of donjon-keep that belong to this agent's state."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"donjon-keep") and agent.state.encode() in b" ".join(words):
                found[words[words.index(b"--dir") + 1].decode().rsplit("/", 1)[1]] = int(pid)
        return found

    def test_random_kills(self):
        seed = int(os.environ.get("SEED", time.time_ns() & 0xffffff))
        chance, lost = random.Random(seed), set()
        print(f"seed {seed}", file=sys.stderr)
        agent = Agent(keep=None)
        self.addCleanup(agent.close)
        agent.options[agent.options.index("--listen") + 1] = f"127.0.0.1:{agent.port}"  # the same after each start
        tenant, acknowledged = Tenant(agent), set()
        for round_ in range(int(os.environ.get("KILLS", 12))):
            starting = [tenant.start("deploy", "--host", tenant.host, "--allow-no-tee", "--backend", BACKEND, "--detach",
                                     module("ticker"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)]
            time.sleep(chance.uniform(0, 0.6))
            if chance.random() < 0.3 and acknowledged - lost:
                victim = chance.choice(sorted(acknowledged - lost))
                os.kill(self.keeps_running(agent)[victim], signal.SIGKILL)
                lost.add(victim)
            agent.kill()
            for p in starting:
                out, _ = p.communicate(timeout=60)
                if p.returncode == 0:
                    acknowledged.add(out.decode().strip())
            agent.start()
            wait(lambda: set(os.listdir(f"{agent.state}/keeps")) == set(self.keeps_running(agent)), 80)
            there = {k["id"]: k for k in agent.ask("list")["keeps"]}
            for id in acknowledged - lost:
                self.assertEqual(there[id]["state"], "running", (round_, id))
            running = set(self.keeps_running(agent))
            self.assertLessEqual(acknowledged - lost, running)
            self.assertFalse(lost & running)
            for id in running - acknowledged:  # delivered, but its tenant was not told: it is his to stop
                self.assertIn(there[id]["state"], ("running", "waiting"))
        for id in list(acknowledged - lost)[:3]:
            self.assertIn(b"tick", tenant.run("logs", id).stdout)
        for id in self.keeps_running(agent):
            agent.ask("stop", id=id)
        wait(lambda: not self.keeps_running(agent) and not os.listdir(f"{agent.state}/keeps"))
        print(f"{len(acknowledged)} acknowledged, {len(lost)} killed", file=sys.stderr)


class Many(unittest.TestCase):
    """Deploys in a row: nothing grows. DEPLOYS=1000 for the whole."""

    def usage(self, agent):
        with open(f"/proc/{agent.process.pid}/status") as f:
            rss = next(int(l.split()[1]) for l in f if l.startswith("VmRSS"))
        disk = sum(os.stat(os.path.join(d, n)).st_size for d, _, names in os.walk(agent.state) for n in names)
        return len(os.listdir(f"/proc/{agent.process.pid}/fd")), rss, disk

    def test_many(self):
        n = int(os.environ.get("DEPLOYS", 200))
        with Agent(keep=None) as agent:
            tenant = Tenant(agent)
            args = ("--backend", BACKEND, module("hello"))
            for _ in range(300 if n > 600 else n // 2):  # what is remembered of ended keeps fills up first
                self.assertEqual(tenant.deploy(*args).returncode, 0)
            settled = lambda: not os.listdir(f"{agent.state}/keeps")
            wait(settled)
            before, began = self.usage(agent), time.monotonic()
            for _ in range(n):
                p = tenant.deploy(*args)
                self.assertEqual((p.returncode, p.stdout), (0, b"hello\n"), p.stderr)
            took = time.monotonic() - began
            wait(settled)
            after = self.usage(agent)
            print(f"{n} deploys: {took / n * 1000:.0f} ms each; descriptors {before[0]} to {after[0]}, memory "
                  f"{before[1]} to {after[1]} KiB, disk {before[2]} to {after[2]} bytes", file=sys.stderr)
            self.assertLessEqual(after[0], before[0])
            self.assertLess(after[1], before[1] + 2048)
            self.assertLessEqual(after[2], before[2])
            self.assertEqual(tenant.remembered(), [])


if __name__ == "__main__":
    host.needs()
    if BACKEND not in host.backends():
        host.skip(f"no {BACKEND} keep can be built here (see donjon platform info)")
    unittest.main(verbosity=1)
