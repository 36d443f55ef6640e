#!/usr/bin/env python3
"""Evidence in the certificates of keeps, on a host that makes some (keep_with_evidence): `donjon verify --url`, what the
program sees of itself, and connections from keep to keep."""
import os, re, signal, ssl, subprocess, sys, time, unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import test_tls as base

HOST = os.path.join(base.BIN, "keep_with_evidence")


def path(name):
    return os.path.join(base.tmp, name)


def verify(*args):
    return subprocess.run([base.DONJON, "verify", *args], capture_output=True, text=True)


def command(self, program, args):
    return [HOST, path("signer.pem"), base.BACKEND, self.toml, base.programs[program], *args]


class Certificates(unittest.TestCase):
    SOFT = ["--set", "allow_software=true"]

    def root(self):
        return ["--dev-root", path("signer.pem.root")]

    def test_verify_url(self):
        with base.Keep("web", base.LISTEN, command=command) as k:
            url = f"https://127.0.0.1:{k.port}"
            r = verify("--url", url, *self.root(), *self.SOFT)
            self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
            self.assertNotEqual(verify("--url", url, *self.SOFT).returncode, 0)  # nobody's root
            self.assertNotEqual(verify("--url", url, *self.root()).returncode, 0)  # software evidence is not asked for
            r = verify("--url", url, *self.root(), *self.SOFT, "--set", "workloads=" + "00" * 32)
            self.assertNotEqual(r.returncode, 0)
            self.assertIn("with evidence", k.said())

    def test_of_another_key(self):
        """A certificate whose evidence is another keep's: the whole extension copied under a key of one's own."""
        with base.Keep("web", base.LISTEN, command=command) as k:
            stolen = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", k.port)))
            with open(path("stolen.der"), "wb") as f:
                f.write(stolen)
        text = base.openssl("asn1parse", "-inform", "DER", "-in", "stolen.der").decode()
        found = {}
        for name in ("1.3.6.1.5.5.7.1.35", "1.3.6.1.4.1.32473.2026.1.1"):
            hexed = re.search(re.escape(name) + r"\s.*?\[HEX DUMP\]:([0-9A-F]+)", text, re.S)
            self.assertTrue(hexed, text)
            found[name] = "DER:" + ":".join(re.findall("..", hexed[1]))
        args = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "x.key", "-out", "thief.pem",
                "-subj", "/CN=thief", "-days", "1"]
        for name, value in found.items():
            args += ["-addext", f"{name}={value}"]
        base.openssl(*args)
        r = verify(path("thief.pem"), *self.root(), *self.SOFT)
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("key", r.stdout + r.stderr)
        self.assertEqual(verify(path("stolen.der"), *self.root(), *self.SOFT).returncode, 0)

    def test_what_the_program_sees(self):
        with base.Keep("web", base.LISTEN, command=command) as k:
            with base.connect(k) as s:
                evidence, pem = base.get(s, "/evidence"), base.get(s, "/identity")
            self.assertEqual(pem.decode(), ssl.get_server_certificate(("127.0.0.1", k.port)))
            with open(path("evidence.cbor"), "wb") as f:
                f.write(evidence)
            r = verify(path("evidence.cbor"), *self.root(), *self.SOFT)
            self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        with base.Keep("evidence", base.LISTEN.replace("PORT", "0"), ["hello"], command=command, binary=True) as k:
            out, _ = k.p.communicate(timeout=30)
            self.assertEqual(k.p.returncode, 0, k.said())
            with open(path("own.cbor"), "wb") as f:
                f.write(out)
            r = verify(path("own.cbor"), *self.root(), *self.SOFT)
            self.assertEqual(r.returncode, 0, r.stdout + r.stderr)


class Steward(unittest.TestCase):
    """A real steward: its certificate, or none at all."""

    def setUp(self):
        self.dir = path("steward" + self.id())
        subprocess.run([base.DONJON, "steward", "init", self.dir], check=True, capture_output=True)
        if not os.path.exists(path("signer.pem.root")):
            with base.Keep("web", base.LISTEN, command=command):
                pass
        base.write(f"{self.dir}/policy.toml", 'allow_software = true\ntees = ["software"]\n[snp]\nmeasurements = ["d027' + "00" * 46 + '"]\n')
        with open(f"{self.dir}/steward.toml") as f:
            text = f.read()
        text = text.replace("127.0.0.1:7475", "127.0.0.1:0").replace('# development-root = "dev-root.pem"', f'development-root = "{path("signer.pem.root")}"')
        base.write(f"{self.dir}/steward.toml", text)
        self.p = subprocess.Popen([base.DONJON, "steward", "--config", f"{self.dir}/steward.toml"], stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, text=True)
        line = self.p.stdout.readline()
        self.url = re.search(r"listening on (https?://127.0.0.1:\d+)", line)[1]

    def tearDown(self):
        self.p.kill()
        self.p.wait()
        self.p.stdout.close()

    def keep(self, names="", ca=None, steward=None, **kw):
        more = f'[tls]\nsteward-ca = "{ca or self.dir + "/ca.pem"}"\n{names}'
        return base.Keep("web", base.LISTEN, before=f'steward = "{steward or self.url}"\n', more=more, command=command, **kw)

    def test_an_ordinary_ca(self):
        """curl with the steward's CA, as with any other; and `donjon verify --url` finds the evidence in it."""
        with self.keep() as k:
            r = subprocess.run(["curl", "-sS", "--cacert", f"{self.dir}/ca.pem", f"https://localhost:{k.port}/echo?issued"], capture_output=True,
                               text=True)
            self.assertEqual(r.stdout, "issued", r.stderr + k.said())
            r = verify("--url", f"https://127.0.0.1:{k.port}", "--dev-root", path("signer.pem.root"), "--set", "allow_software=true")
            self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
            self.assertIn("certificate: the steward's, with evidence", k.said())

    def refused(self, said, env=None, **kw):
        old = dict(os.environ)
        os.environ.update(env or {})
        try:
            with self.keep(wait=False, **kw) as k:
                self.assertEqual(k.p.wait(30), 125, k.said())
                self.assertRegex(k.said(), said)
        finally:
            os.environ.clear()
            os.environ.update(old)

    def test_nothing_else_will_do(self):
        self.refused("(?s)the steward answers 403.*policy.names", names='names = ["elsewhere.example"]\n')
        self.refused("the steward's certificate is refused", ca=path("ca.pem"))
        self.refused("the steward's certificate is refused", env={"FLIP": "300"})
        self.refused("cannot be reached|the steward answers", steward="http://127.0.0.1:1")
        base.write(f"{self.dir}/policy.toml", 'allow_software = true\ntees = ["software"]\n[snp]\nmeasurements = ["' + "11" * 48 + '"]\n')
        self.p.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        self.refused("the steward answers 403")


class KeepToKeep(unittest.TestCase):
    POLICY = 'peer-policy = "policy.toml"\npeer-development-root = "signer.pem.root"\n'

    def talk(self, server_policy, client_policy, client_command=command):
        base.write(path("policy.toml"), "allow_software = true\n")
        base.write(path("strict.toml"), "")
        base.write(path("elsewhere.toml"), 'allow_software = true\nworkloads = ["' + "11" * 32 + '"]\n')
        server = base.LISTEN + ('client-auth = "require"\n' + server_policy if server_policy else "")
        with base.Keep("web", server, command=command) as k:
            client = f'[[files]]\nkind = "connect"\nhost = "127.0.0.1"\nport = {k.port}\n' + client_policy
            with base.Keep("client", client, command=client_command, wait=False) as c:
                try:
                    out, _ = c.p.communicate("GET /echo?hello HTTP/1.0\r\n\r\n", timeout=30)
                except subprocess.TimeoutExpired:
                    out = "nothing"
                return out, c.p.returncode, c.said(), k.said()

    def setUp(self):
        if not os.path.exists(path("signer.pem.root")):
            with base.Keep("web", base.LISTEN, command=command):
                pass

    def test_both_ways(self):
        for server in ("", self.POLICY):
            out, code, client, _ = self.talk(server, self.POLICY)
            self.assertEqual(code, 0, client)
            self.assertTrue(out.startswith("HTTP/1.1 200 OK") and out.endswith("hello"), out)

    def test_refused(self):
        for policy, said in (('peer-policy = "strict.toml"\npeer-development-root = "signer.pem.root"\n', "not accepted"),
                             ('peer-policy = "policy.toml"\n', "not accepted"),
                             ('peer-policy = "elsewhere.toml"\npeer-development-root = "signer.pem.root"\n', "another workload")):
            out, code, client, _ = self.talk("", policy)
            self.assertEqual((out, code), ("write: Permission denied\n", 2), client)
            self.assertIn(said, client)

    def test_client_without_evidence(self):
        """An ordinary keep of `donjon run`, whose certificate carries none."""
        plain = lambda self, program, args: [base.DONJON, "run", "--debug", "--backend", base.BACKEND, "--config", self.toml,
                                             base.programs[program], "--", *args]
        out, code, _, server = self.talk(self.POLICY, self.POLICY, plain)
        self.assertNotEqual(code, 0)
        self.assertIn("its certificate carries no evidence", server)


if __name__ == "__main__":
    base.main(sys.modules["__main__"])
