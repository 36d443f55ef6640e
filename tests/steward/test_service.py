#!/usr/bin/env python3
"""The steward as a service: what curl and a keep see; tampered logs; keys in a token; kill -9 while it issues."""
import base64, http.client, json, os, re, shutil, signal, socket, ssl, subprocess, sys, tempfile, threading, time, unittest

BIN = os.environ["DONJON_BIN"]
DONJON, KEEP = f"{BIN}/donjon", f"{BIN}/steward-keep"


def run(*args, **kw):
    return subprocess.run([str(a) for a in args], capture_output=True, timeout=60, **kw)


class Steward:
    """A steward in a directory of its own, over TLS with a certificate of its own authority."""

    def __init__(self, extra="", tls=True, init=(), listen="127.0.0.1:0", **env):
        self.dir = tempfile.mkdtemp(prefix="steward-")
        self.ca = f"{self.dir}/ca.pem"
        made = run(DONJON, "steward", "init", *init, self.dir, env={**os.environ, **env})
        assert made.returncode == 0, made.stderr
        os.unlink(f"{self.dir}/policy.toml")
        assert run(KEEP, "init", self.dir).returncode == 0
        text = open(f"{self.dir}/steward.toml").read()
        text = text.replace("127.0.0.1:7475", listen).replace("# development-root", "development-root")
        self.tls = tls
        if tls:
            text = text.replace("# [tls]\n# names", "[tls]\nnames").replace("steward.example", "127.0.0.1")
        open(f"{self.dir}/steward.toml", "w").write(text + extra)
        self.env = {**os.environ, **env}
        self.process = None

    def start(self):
        self.process = subprocess.Popen([DONJON, "steward", "--config", f"{self.dir}/steward.toml"], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env=self.env)
        line = self.process.stdout.readline()
        found = re.search(r"listening on (https?)://(?:127\.0\.0\.1|\[::\]):(\d+)", line)
        assert found, line + self.process.stderr.read()
        self.port = int(found[2])
        return self

    def connect(self):
        if not self.tls:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        context = ssl.create_default_context(cafile=self.ca)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=context)

    def ask(self, method, path, body=None, **headers):
        c = self.connect()
        c.request(method, path, body, headers)
        r = c.getresponse()
        data = r.read()
        c.close()
        return r.status, r.headers, data

    def nonce(self):
        return json.loads(self.ask("GET", "/v1/nonce")[2])["nonce"]

    def request(self, nonce, name="localhost", *how):
        made = run(KEEP, "request", self.dir, nonce, name, *how)
        assert made.returncode == 0, made.stderr
        return made.stdout

    def audit(self):
        return [json.loads(line) for line in open(f"{self.dir}/audit.jsonl")]

    def end(self, how=signal.SIGTERM):
        if self.process:
            self.process.send_signal(how)
            code = self.process.wait(timeout=20)
            self.process.stdout.close()
            self.process.stderr.close()
            self.process = None
            return code

    def close(self):
        self.end(signal.SIGKILL)
        shutil.rmtree(self.dir)


class Service(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.s = Steward().start()

    @classmethod
    def tearDownClass(cls):
        code = cls.s.end()
        cls.s.close()
        assert code == 0, code

    def refused(self, body, rule, status=403):
        got, headers, data = self.s.ask("POST", "/v1/certify", body)
        self.assertEqual(got, status, data)
        self.assertEqual(headers["Content-Type"], "application/problem+json")
        self.assertEqual(json.loads(data)["reasons"][0]["rule"], rule, data)

    def test_certificate(self):
        status, headers, pem = self.s.ask("POST", "/v1/certify", self.s.request(self.s.nonce()))
        self.assertEqual(status, 200, pem)
        self.assertEqual(headers["Content-Type"], "application/pem-certificate-chain")
        leaf = f"{self.s.dir}/leaf.pem"
        open(leaf, "wb").write(pem)
        ok = run("openssl", "verify", "-CAfile", self.s.ca, "-purpose", "sslserver", "-verify_hostname", "localhost", leaf)
        self.assertEqual(ok.returncode, 0, ok.stderr)
        text = run("openssl", "x509", "-in", leaf, "-noout", "-text").stdout.decode()
        self.assertIn("1.3.6.1.4.1.32473.2026.1.1", text)
        self.assertIn("CA:FALSE", text)
        # The evidence in it still stands up to appraisal.
        ok = run(DONJON, "verify", "--dev-root", f"{self.s.dir}/dev-root.pem", "--policy", f"{self.s.dir}/policy.toml", leaf)
        self.assertEqual(ok.returncode, 0, ok.stdout)
        last = self.s.audit()[-1]
        self.assertEqual(last["event"], "issued")
        digest = run("openssl", "x509", "-in", leaf, "-noout", "-fingerprint", "-sha256").stdout.decode()
        self.assertEqual(last["certificate"], digest.strip().split("=")[1].replace(":", "").lower())

    def test_rogue(self):
        for how, rule in [("ca", "request.ca"), ("key", "evidence.wrapper.key"), ("workload", "evidence.wrapper.key"),
                          ("measurement", "evidence.policy.measurement"), ("signature", "request.signature"),
                          ("name-none", "request.names")]:
            self.refused(self.s.request(self.s.nonce(), "localhost", how), rule)
        self.refused(self.s.request(self.s.nonce(), "bank.example"), "policy.names")
        self.refused(self.s.request("00" * 32), "nonce.foreign")
        self.refused(b"not a request", "request.malformed")
        self.refused(b"", "request.size")

    def test_replay(self):
        body = self.s.request(self.s.nonce())
        self.assertEqual(self.s.ask("POST", "/v1/certify", body)[0], 200)
        self.refused(body, "nonce.used")

    def test_resources(self):
        status, _, data = self.s.ask("GET", "/v1/nonce", Accept="application/octet-stream")
        self.assertEqual((status, len(data)), (200, 32))
        status, _, data = self.s.ask("GET", "/v1/ca")
        self.assertEqual((status, data), (200, open(self.s.ca, "rb").read()))
        status, headers, data = self.s.ask("GET", "/v1/openapi.yaml")
        source = open(os.environ["DONJON_SOURCE"] + "/src/steward/openapi.yaml", "rb").read()
        self.assertEqual((status, headers["Content-Type"], data), (200, "application/yaml", source))
        for path in re.findall(rb"^  (/\S+):$", source, re.M):
            self.assertIn(self.s.ask("GET", path.decode())[0], (200, 405), path)
        status, _, data = self.s.ask("GET", "/healthz")
        self.assertEqual((status, json.loads(data)["status"]), (200, "ok"))
        for method, path, wanted in [("GET", "/", 404), ("GET", "/v1/certify", 405), ("POST", "/v1/nonce", 405),
                                     ("DELETE", "/v1/ca", 405), ("GET", "/v1/../etc/passwd", 404)]:
            self.assertEqual(self.s.ask(method, path)[0], wanted, path)

    def test_appraise(self):
        leaf = self.s.ask("POST", "/v1/certify", self.s.request(self.s.nonce()))[2]
        # What is in the certificate is what it answered; the token says so of that nonce, and of no other.
        nonce = self.s.nonce()
        request = self.s.request(nonce)
        for asked, good in ((nonce, True), ("ab" * 16, False), ("", True)):
            status, headers, token = self.s.ask("POST", "/v1/appraise" + (asked and "?nonce=" + asked), request)
            self.assertEqual((status, headers["Content-Type"]), (200, "application/eat+jwt"))
            claims = json.loads(base64.urlsafe_b64decode(token.split(b".")[1] + b"=="))
            self.assertEqual("affirming" in json.dumps(claims), good)
            found = claims.get("eat_nonce")
            self.assertEqual(found and base64.urlsafe_b64decode(found + "==").hex(), nonce if asked == nonce else None)
        status, headers, token = self.s.ask("POST", "/v1/appraise", leaf, Accept="application/eat+cwt")
        self.assertEqual((status, headers["Content-Type"]), (200, "application/eat+cwt"))
        self.assertEqual(self.s.ask("POST", "/v1/appraise?nonce=xy", leaf)[0], 400)
        self.assertEqual(self.s.ask("POST", "/v1/appraise?report-data=00", leaf)[0], 400)
        self.assertEqual(self.s.ask("POST", "/v1/appraise?rule=other", leaf)[0], 403)
        self.assertEqual(self.s.ask("POST", "/v1/appraise", b"nothing")[0], 403)

    def test_limits(self):
        status, _, data = self.s.ask("POST", "/v1/certify", b"x" * 300000)
        self.assertEqual(status, 413, data)
        # A client that says nothing does not keep others from being served.
        silent = [socket.create_connection(("127.0.0.1", self.s.port)) for _ in range(20)]
        self.assertEqual(self.s.ask("GET", "/healthz")[0], 200)
        for c in silent:
            c.close()
        # More connections from one address than it may have are not served, and leave nothing behind.
        many = []
        for _ in range(60):
            try:
                many.append(socket.create_connection(("127.0.0.1", self.s.port), timeout=5))
            except OSError:
                break
        for c in many:
            c.close()
        time.sleep(0.2)
        self.assertEqual(self.s.ask("GET", "/healthz")[0], 200)

    def test_tls(self):
        context = ssl.create_default_context(cafile=self.s.ca)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with self.assertRaises(ssl.SSLError):
            with socket.create_connection(("127.0.0.1", self.s.port)) as c:
                context.wrap_socket(c, server_hostname="127.0.0.1")

    def test_reload(self):
        policy = f"{self.s.dir}/policy.toml"
        text = open(policy).read()
        open(policy, "w").write("nonsense = 1\n")
        self.s.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)  # the old one stays
        self.assertEqual(self.s.ask("POST", "/v1/certify", self.s.request(self.s.nonce()))[0], 200)
        open(policy, "w").write(text.replace("1111", "2222"))
        self.s.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        self.refused(self.s.request(self.s.nonce()), "evidence.policy.measurement")
        open(policy, "w").write(text)
        self.s.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        self.assertEqual(self.s.ask("POST", "/v1/certify", self.s.request(self.s.nonce()))[0], 200)


class Rate(unittest.TestCase):
    def test_rate(self):
        s = Steward("[limits]\nrequests-per-minute = 5\n", tls=False).start()
        try:
            statuses = [s.ask("GET", "/healthz")[0] for _ in range(8)]
            self.assertEqual(statuses[:5], [200] * 5)
            self.assertEqual(statuses[-1], 429)
        finally:
            s.close()


    def test_mapped(self):
        """Where one socket serves both families, IPv4's addresses are not all one."""
        try:
            socket.create_server(("::", 0), family=socket.AF_INET6).close()
        except OSError:
            self.skipTest("no IPv6 here")
        s = Steward("[limits]\nrequests-per-minute = 5\n", listen="[::]:0")

        def ask(source):
            context = ssl.create_default_context(cafile=s.ca)
            c = http.client.HTTPSConnection("127.0.0.1", s.port, timeout=10, context=context, source_address=(source, 0))
            c.request("GET", "/healthz")
            status = c.getresponse().status
            c.close()
            return status

        try:
            s.start()
            self.assertEqual([ask("127.0.0.2") for _ in range(8)][-1], 429)
            self.assertEqual(ask("127.0.0.3"), 200)
        finally:
            s.close()


class Log(unittest.TestCase):
    def test_audit(self):
        s = Steward(tls=False).start()
        try:
            for _ in range(3):
                self.assertEqual(s.ask("POST", "/v1/certify", s.request(s.nonce()))[0], 200)
            head = json.loads(s.ask("GET", "/healthz")[2])["audit"]["head"]
            log = f"{s.dir}/audit.jsonl"
            self.assertEqual(run(DONJON, "steward", "audit", "--head", head, log).returncode, 0)
            second = run(DONJON, "steward", "--config", f"{s.dir}/steward.toml")
            self.assertEqual(second.returncode, 125)
            self.assertIn(b"another steward", second.stderr)
            before = open(log, "rb").read()
            check = run(DONJON, "steward", "--config", f"{s.dir}/steward.toml", "--check")
            self.assertEqual((check.returncode, b"is fine" in check.stdout), (0, True), check)
            self.assertEqual(open(log, "rb").read(), before)  # it only reads, also beside the one that runs
            s.end()
            lines = open(log).read().splitlines(True)
            # Cut at the end: only the head tells. Changed, without a line, in another order: the chain does.
            open(log, "w").write("".join(lines[:-1]))
            self.assertEqual(run(DONJON, "steward", "audit", log).returncode, 0)
            cut = run(DONJON, "steward", "audit", "--head", head, log)
            self.assertEqual((cut.returncode, cut.stdout[:6]), (1, b"BROKEN"))
            for bad in ([lines[0], lines[1].replace("localhost", "elsewhere"), *lines[2:]], [lines[0], *lines[2:]],
                        [lines[0], lines[2], lines[1], lines[3]], [lines[0], lines[1], lines[1], *lines[2:]]):
                open(log, "w").write("".join(bad))
                got = run(DONJON, "steward", "audit", log)
                self.assertEqual((got.returncode, got.stdout[:6]), (1, b"BROKEN"), got)
                refused = run(DONJON, "steward", "--config", f"{s.dir}/steward.toml", "--check")
                self.assertEqual(refused.returncode, 125)
            open(log, "w").write("".join(lines))
            self.assertEqual(run(DONJON, "steward", "audit", "--quiet", log).returncode, 0)
        finally:
            s.close()

    def test_rotation(self):
        s = Steward(tls=False).start()
        log, old = f"{s.dir}/audit.jsonl", f"{s.dir}/audit.jsonl.1"
        try:
            for i in range(3):
                self.assertEqual(s.ask("POST", "/v1/certify", s.request(s.nonce()))[0], 200)
                if i == 0:
                    os.rename(log, old)  # nobody is told so far
                if i == 1:
                    s.process.send_signal(signal.SIGHUP)
                    while not os.path.exists(log) or not os.path.getsize(log):
                        time.sleep(0.01)
            self.assertEqual([e["event"] for e in s.audit()], ["continued", "issued"])
            self.assertEqual(run(DONJON, "steward", "audit", old, log).returncode, 0)
            for wrong in ((log, old), (old, old), (log, log)):
                got = run(DONJON, "steward", "audit", *wrong)
                self.assertEqual((got.returncode, b"does not go on where" in got.stdout), (1, True), got.stdout)
            with open(old) as f:  # the end of the old one is cut off: now it shows
                lines = f.readlines()
            with open(old, "w") as f:
                f.writelines(lines[:-1])
            self.assertEqual(run(DONJON, "steward", "audit", old).returncode, 0)
            self.assertEqual(run(DONJON, "steward", "audit", old, log).returncode, 1)
        finally:
            s.close()

    def test_full_disk(self):
        s = Steward(tls=False)
        try:
            os.symlink("/dev/full", f"{s.dir}/audit.jsonl")
            self.assertEqual(run(DONJON, "steward", "--config", f"{s.dir}/steward.toml", "--check").returncode, 125)
            os.unlink(f"{s.dir}/audit.jsonl")
            # The file may grow by two certificates' worth, then nothing is issued, and it says so.
            limit = 3000
            s.process = subprocess.Popen(["bash", "-c", f"ulimit -f {limit // 1024 + 1}; exec {DONJON} steward --config "
                                          f"{s.dir}/steward.toml"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            s.port = int(re.search(r":(\d+)\n", s.process.stdout.readline())[1])
            statuses = []
            while 503 not in statuses and len(statuses) < 20:
                statuses.append(s.ask("POST", "/v1/certify", s.request(s.nonce()))[0])
            issued = statuses.count(200)
            self.assertEqual(statuses, [200] * issued + [503])
            self.assertEqual(s.ask("GET", "/v1/nonce")[0], 503)
            self.assertEqual(s.ask("GET", "/healthz")[0], 503)
            s.end()
            self.assertEqual(sum(e["event"] == "issued" for e in s.audit()), issued)
            self.assertEqual(run(DONJON, "steward", "audit", f"{s.dir}/audit.jsonl").returncode, 0)
        finally:
            s.close()

    def test_kill(self):
        """No certificate anybody received is missing from the log, wherever the steward is killed."""
        s = Steward("[limits]\nrequests-per-minute = 100000\n", tls=False)
        received, lock = set(), threading.Lock()

        def certify(n):
            for _ in range(n):
                try:
                    status, _, pem = s.ask("POST", "/v1/certify", s.request(s.nonce()))
                except (OSError, http.client.HTTPException, ValueError):
                    return
                if status == 200:
                    der = ssl.PEM_cert_to_DER_cert(pem.decode().split("-----END CERTIFICATE-----")[0] +
                                                   "-----END CERTIFICATE-----\n")
                    with lock:
                        received.add(__import__("hashlib").sha256(der).hexdigest())
        try:
            for turn in range(int(os.environ.get("DONJON_KILLS", 6))):
                s.start()
                before = len(received)
                threads = [threading.Thread(target=certify, args=(50,)) for _ in range(2)]
                for t in threads:
                    t.start()
                # Killed while it answers, not before: on a busy machine the first answer takes its time.
                end = time.monotonic() + 30
                while len(received) == before and time.monotonic() < end and any(t.is_alive() for t in threads):
                    time.sleep(0.01)
                time.sleep(0.037 * turn)
                s.end(signal.SIGKILL)
                for t in threads:
                    t.join()
            s.start()
            s.end()
            self.assertEqual(run(DONJON, "steward", "audit", f"{s.dir}/audit.jsonl").returncode, 0)
            recorded = {e["certificate"] for e in s.audit() if e["event"] == "issued"}
            self.assertGreater(len(received), 0)
            self.assertEqual(received - recorded, set())
        finally:
            s.close()


class Token(unittest.TestCase):
    MODULE = next((p for p in ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so")
                   if os.path.exists(p)), None)

    @unittest.skipUnless(MODULE and shutil.which("softhsm2-util") and shutil.which("pkcs11-tool"), "no SoftHSM or pkcs11-tool")
    def test_pkcs11(self):
        with tempfile.TemporaryDirectory() as tokens:
            conf = f"{tokens}/softhsm2.conf"
            os.mkdir(f"{tokens}/tokens")
            open(conf, "w").write(f"directories.tokendir = {tokens}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
            env = {"SOFTHSM2_CONF": conf}
            full = {**os.environ, **env}
            made = run("softhsm2-util", "--init-token", "--free", "--label", "donjon", "--pin", "1234", "--so-pin", "1234", env=full)
            self.assertEqual(made.returncode, 0, made.stderr)
            made = run("pkcs11-tool", "--module", self.MODULE, "--token-label", "donjon", "--login", "--pin", "1234", "--keypairgen",
                       "--key-type", "EC:prime256v1", "--label", "steward", "--id", "01", env=full)
            self.assertEqual(made.returncode, 0, made.stderr)
            if not any(os.path.exists(f"/usr/lib/{d}/engines-3/pkcs11.so") for d in os.listdir("/usr/lib")):
                self.skipTest("no pkcs11 engine")
            uri = "pkcs11:token=donjon;object=steward;type=private?pin-value=1234"
            s = Steward(init=("--key", uri, "--pkcs11-module", self.MODULE), **env)
            try:
                self.assertFalse(os.path.exists(f"{s.dir}/ca-key.pem"))
                s.start()
                status, _, pem = s.ask("POST", "/v1/certify", s.request(s.nonce()))
                self.assertEqual(status, 200, pem)
                leaf = f"{s.dir}/leaf.pem"
                open(leaf, "wb").write(pem)
                self.assertEqual(run("openssl", "verify", "-CAfile", s.ca, leaf).returncode, 0)
                status, _, token = s.ask("POST", "/v1/appraise", pem)
                self.assertEqual((status, token.count(b".")), (200, 2))
                self.assertEqual(s.end(), 0)
            finally:
                s.close()


if __name__ == "__main__":
    unittest.main(verbosity=1)
