#!/usr/bin/env python3
"""A deployed HTTPS service: agent, donjon-keep, warden, tenant; its certificate by itself and by a steward. To curl it is
an ordinary server of that steward's CA. What the host saw and wrote does not hold what was said."""
import concurrent.futures, json, os, re, shutil, subprocess, sys, time, unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "deploy")]
import host
import test_tls as base
from slow_steward import SlowSteward

WORD = "ArdathBay"
SPIN = """
int main(void) { /* calls nothing */
    for (volatile unsigned x = 0;; x++)
        ;
}
"""


class Deployed(unittest.TestCase):
    def setUp(self):
        self.agent = host.Agent(keep=None)
        self.addCleanup(self.agent.close)
        self.tenant = host.Tenant(self.agent)
        self.port = base.free_port()
        self.soft = ["--dev-root", f"{self.agent.state}/dev-root.pem", "--set", "allow_software=true"]

    def deploy(self, head="", tls=""):
        app = os.path.join(base.tmp, f"app{self.port}")
        os.makedirs(app, exist_ok=True)
        shutil.copy(base.programs["web"], f"{app}/main.wasm")
        base.write(f"{app}/Donjon.toml", head + base.LISTEN.replace("PORT", str(self.port)) + tls)
        return self.tenant.deploy("--backend", base.BACKEND, "--detach", app)

    def started(self, p):
        self.assertEqual(p.returncode, 0, p.stderr)
        for _ in range(200):
            r = self.curl("/echo?up", "-k")
            if r.stdout == "up":
                return
            time.sleep(0.05)
        self.fail(r.stderr)

    def curl(self, path, *args):
        return subprocess.run(["curl", "-sS", *args, f"https://localhost:{self.port}{path}"], capture_output=True, text=True)

    def verify(self, *args):
        return subprocess.run([base.DONJON, "verify", *args], capture_output=True, text=True)

    def test_by_itself(self):
        self.started(self.deploy())
        url = f"https://127.0.0.1:{self.port}"
        r = self.verify("--url", url, *self.soft)
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        self.assertNotEqual(self.verify("--url", url).returncode, 0)
        with open(os.path.join(base.tmp, "e.cbor"), "wb") as f:
            f.write(subprocess.run(["curl", "-sSk", url + "/evidence"], capture_output=True).stdout)
        r = self.verify(f.name, *self.soft)
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)

    def test_slow_steward(self):
        """Through the agent: clients are answered while the certificate is renewed, and the tenant before there is one."""
        steward = SlowSteward(os.path.join(base.tmp, "slow" + self.id()), 5)
        self.addCleanup(steward.close)
        steward.how = 2.5
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            deploying = pool.submit(self.deploy, f'steward = "{steward.url}"\n', f'[tls]\nsteward-ca = "{steward.dir}/ca.pem"\n')
            while not (self.tenant.remembered() and self.tenant.run("logs", self.tenant.remembered()[0][:32]).returncode == 0):
                self.assertFalse(deploying.done())
                time.sleep(0.05)
            self.assertFalse(deploying.done())  # the certificate takes five seconds, and it runs only then
            p = deploying.result()
        self.started(p)
        before, longest = steward.count("/v1/certify"), 0
        while steward.count("/v1/certify") < before + 2:
            began = time.time()
            r = self.curl("/echo?up", "-k")
            self.assertEqual(r.stdout, "up", r.stderr)
            longest = max(longest, time.time() - began)
        self.assertLess(longest, 2)
        steward.how = "well"
        for _ in range(100):
            r = self.curl("/echo?up", "--cacert", f"{steward.dir}/ca.pem")
            if r.stdout == "up":
                break
            time.sleep(0.1)  # the last one has ended while the steward took its time
        self.assertEqual(r.stdout, "up", r.stderr)

    def test_renewed_while_it_computes(self):
        steward = SlowSteward(os.path.join(base.tmp, "slow" + self.id()), 4)
        self.addCleanup(steward.close)
        app = os.path.join(base.tmp, f"spin{self.port}")
        os.makedirs(app)
        shutil.copy(base.programs["spin"], f"{app}/main.wasm")
        base.write(f"{app}/Donjon.toml", f'steward = "{steward.url}"\n' + base.LISTEN.replace("PORT", str(self.port)) +
                   f'[tls]\nsteward-ca = "{steward.dir}/ca.pem"\n')
        p = self.tenant.deploy("--backend", base.BACKEND, "--detach", app)
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertTrue(steward.wait_asked(3, "/v1/certify"))
        self.assertEqual(self.tenant.run("stop", p.stdout.split()[-1]).returncode, 0)

    def test_by_a_steward(self):
        directory = os.path.join(base.tmp, "steward" + self.id())
        subprocess.run([base.DONJON, "steward", "init", directory], check=True, capture_output=True)
        self.started(self.deploy())  # once without, for its measurement
        report = json.loads(self.verify("--url", f"https://127.0.0.1:{self.port}", "--json", *self.soft).stdout)
        text = json.dumps(report)
        measurement = re.search(r'"measurement": ?"([0-9a-f]{96})"', text) or re.search(r'"measurement"[^{}]*?([0-9a-f]{96})', text)
        self.assertTrue(measurement, text)
        self.port = base.free_port()
        base.write(f"{directory}/policy.toml",
                   f'allow_software = true\ntees = ["software"]\n[snp]\nmeasurements = ["{measurement[1]}"]\n')
        with open(f"{directory}/steward.toml") as f:
            settings = f.read()
        base.write(f"{directory}/steward.toml", settings.replace("127.0.0.1:7475", "127.0.0.1:0").replace(
            '# development-root = "dev-root.pem"', f'development-root = "{self.agent.state}/dev-root.pem"'))
        steward = subprocess.Popen([base.DONJON, "steward", "--config", f"{directory}/steward.toml"], stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True)
        try:
            url = re.search(r"listening on (https?://127.0.0.1:\d+)", steward.stdout.readline())[1]
            shutil.copy(f"{directory}/ca.pem", os.path.join(base.tmp, "steward-ca.pem"))
            self.started(self.deploy(f'steward = "{url}"\n', '[tls]\nsteward-ca = "../steward-ca.pem"\n'))
            r = self.curl(f"/echo?{WORD}", "--cacert", f"{directory}/ca.pem")
            self.assertEqual(r.stdout, WORD, r.stderr)
            r = self.verify("--url", f"https://127.0.0.1:{self.port}", *self.soft)
            self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        finally:
            steward.kill()
            steward.wait()
            steward.stdout.close()
        for place, _, files in os.walk(self.agent.state):
            for name in filter(lambda n: os.path.isfile(os.path.join(place, n)), files):
                with open(os.path.join(place, name), "rb") as f:
                    self.assertNotIn(WORD.encode(), f.read(), name)


if __name__ == "__main__":
    host.needs()
    base.main(sys.modules["__main__"], {"spin": SPIN})
