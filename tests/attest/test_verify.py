#!/usr/bin/env python3
"""donjon verify, inspect, measure and collateral fetch from outside, against the vectors, a local server that plays AMD's
KDS and Intel's PCS, and a local TLS server with evidence in its certificate."""
import http.server, json, os, pathlib, re, ssl, subprocess, sys, tempfile, threading, unittest, urllib.parse

BIN = pathlib.Path(os.environ.get("DONJON_BIN", "build/bin")) / "donjon"
V = pathlib.Path(os.environ.get("DONJON_SHARED", "../shared")) / "vectors"
if not V.exists():
    print(f"SKIP: no {V}")
    sys.exit(77)


def donjon(*args, env=None, **more):
    return subprocess.run([str(BIN), *map(str, args)], capture_output=True, text=True, timeout=120,
                          env={**os.environ, **(env or {}), "NO_COLOR": "1"}, **more)


class Verify(unittest.TestCase):
    def rejected(self, run, *words):
        self.assertEqual(run.returncode, 1, run.stdout + run.stderr)
        for word in words:
            self.assertIn(word, run.stdout + run.stderr)

    def accepted(self, run):
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        self.assertIn("ACCEPTED", run.stdout)

    def test_snp(self):
        case = V / "snp/milan-v3-aci"
        self.accepted(donjon("verify", "--at", "2026-01-28T11:25:58Z", "--collateral", case, case / "report.bin"))
        run = donjon("verify", "--at", "2026-01-28T11:25:58Z", "--collateral", case / "vcek.der", "--set", "snp.measurements=" + "00" * 48, case / "report.bin")
        self.rejected(run, "policy.measurement", "expected  " + "00" * 48, "found     5feee30d", "to do")
        run = donjon("verify", "--at", "2033-01-01T00:00:00Z", "--collateral", case, case / "report.bin")
        self.rejected(run, "chain.validity", "SEV-VCEK expired 2032-12-29T11:25:58Z")
        with tempfile.TemporaryDirectory() as home:
            run = donjon("verify", "--at", "2026-01-28T11:25:58Z", case / "report.bin", env={"XDG_CACHE_HOME": home})
            self.rejected(run, "chain.endorsement", "donjon collateral fetch")

    def test_json(self):
        case = V / "sgx/icx-oasis"
        run = donjon("verify", "--json", "--at", "2025-08-30T00:00:00Z", "-c", case, case / "quote.bin")
        self.assertEqual(run.returncode, 1)
        result = json.loads(run.stdout)
        self.assertEqual((result["verdict"], result["genuine"], result["reason"], result["tcb_status"]), ("rejected", True, "intel.tcb_status", "OutOfDate"))
        failed = [c for c in result["checks"] if c["outcome"] == "fail"]
        self.assertEqual([c["rule"] for c in failed], ["intel.tcb_status"])
        self.assertIn("remedy", failed[0])

    def test_policy_file(self):
        with tempfile.TemporaryDirectory() as tmp:
            policy = pathlib.Path(tmp) / "policy.toml"
            case = V / "sgx/icx-automata-b"
            policy.write_text('name = "app"\n[intel]\ntcb_statuses = ["UpToDate", "SWHardeningNeeded"]\n')
            self.accepted(donjon("verify", "-p", policy, "--at", "2025-08-30T00:00:00Z", "-c", case, case / "quote.bin"))
            policy.write_text('[intel]\ntcb_status = ["UpToDate"]\n')
            run = donjon("verify", "-p", policy, "--at", "2025-08-30T00:00:00Z", "-c", case, case / "quote.bin")
            self.assertEqual(run.returncode, 125)
            self.assertIn("line 2: intel.tcb_status: unknown key", run.stderr)

    def test_quiet_is_one_line(self):
        case = V / "snp/turin-v5-aci"
        run = donjon("verify", "-q", "--at", "2026-03-07T01:04:33Z", "-c", case, case / "report.bin")
        self.assertEqual(run.stdout.count("\n"), 1)
        self.accepted(run)

    def test_event_log(self):
        case = V / "tdx/v4-gcp-cos113"
        args = ["verify", "--at", "2025-06-11T00:00:00Z", "-c", case / "collateral", "--event-log"]
        self.accepted(donjon(*args, V / "tdx-eventlog/gcp-cos113/ccel_data.bin", case / "quote.bin"))
        self.rejected(donjon(*args, V / "tdx-eventlog/dstack/event_log.json", case / "quote.bin"), "eventlog.replay")

    def test_corim(self):
        corim, report = V / "results/corim/sevsnp/corim-sevsnp-valid.cbor", V / "results/corim/sevsnp/sevsnp-tsm-report.cbor"
        run = donjon("verify", "--corim", corim, "--at", "2025-05-20T18:31:36Z", report)
        self.accepted(run)
        self.assertNotIn("nothing says", run.stdout)
        run = donjon("verify", "--corim", V / "results/corim/unsigned-good-corim.cbor", report)
        self.assertEqual(run.returncode, 125)

    def test_usage(self):
        for args in (["verify"], ["verify", "a", "b"], ["verify", "--at", "yesterday", "x"], ["verify", "--policy", "/nonexistent", "x"],
                     ["verify", "--set", "snp.colour=blue", "x"], ["verify", "/nonexistent"], ["verify", "--ear", "-", "x"]):
            run = donjon(*args)
            self.assertEqual(run.returncode, 125, args)
            self.assertTrue(run.stderr.startswith("donjon verify: "), run.stderr)
        self.rejected(donjon("verify", V / "INDEX.md"), "REJECTED", "no evidence recognised")
        self.assertEqual(donjon("verify", "--help").returncode, 0)

    def test_inspect(self):
        run = donjon("inspect", V / "snp/turin-v5-aci/report.bin")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("fmc 1, bootloader 1, tee 1, snp 4, microcode 81", run.stdout)
        for group, name in (("sgx", "quote.bin"), ("tdx", "quote.bin"), ("nitro", "attestation.cbor"), ("keystone", "report.bin"), ("snp", "report.bin"), ("snp-parse-only", "report.bin")):
            for file in sorted((V / group).glob("*/" + name)):
                run = donjon("inspect", "--json", file)
                self.assertEqual(run.returncode, 0, f"{file}: {run.stderr}")
                self.assertTrue(json.loads(run.stdout)["claims"])
        self.assertEqual(donjon("inspect", V / "INDEX.md").returncode, 1)

    def test_ear(self):
        with tempfile.TemporaryDirectory() as tmp:
            key = pathlib.Path(tmp) / "key.pem"
            subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key], check=True)
            case = V / "snp/milan-v3-aci"
            out = pathlib.Path(tmp) / "ear.jwt"
            run = donjon("verify", "-q", "--at", "2026-01-28T11:25:58Z", "-c", case, "--ear", out, "--ear-key", key, case / "report.bin")
            self.accepted(run)
            self.assertEqual(out.read_text().count("."), 2)

    def test_measure(self):
        run = donjon("measure", "--kind", "ovmf", "--guest-features", "0x21", V / "snp-launch/ovmf-suffix/ovmf_AmdSev_suffix.bin")
        self.assertEqual(run.stdout.strip(), "snp.measurements: e1e1ca029dd7973ab9513295be68198472dcd4fc834bd9af9b63f6e8a1674dbf281a9278a4a2ebe0eed9f22adbcd0e2b")
        run = donjon("measure", "--json", V / "sgx-enclave/intel-pce/sigstruct.bin")
        self.assertEqual(json.loads(run.stdout)["sgx.minimum_svn"], 16)
        run = donjon("measure", V / "sgx-enclave/fortanix-test-enclave/enclave.sgxs")
        self.assertIn("784acfd7d5096a8f", run.stdout)
        run = donjon("measure", "--auth", V / "snp-idblock/virtee/id_auth.bin", V / "snp-idblock/virtee/id_block.bin")
        self.assertIn("snp.id_keys: 59fb2c686dfa4fef", run.stdout)


class Docs(unittest.TestCase):
    def test_every_rule_and_key_is_documented(self):
        source = pathlib.Path(os.environ.get("DONJON_SOURCE", "."))
        text = (source / "docs/attestation.md").read_text()
        rules = re.findall(r'ATTEST_RULE\(\w+, \w+, "([^"]+)"', (source / "include/donjon/attest-rules.h").read_text())
        keys = re.findall(r'^    [FS]\("([^"]+)"', (source / "src/attest/policy.c").read_text(), re.M)
        self.assertGreater(len(rules), 80)
        self.assertGreater(len(keys), 50)
        for name in rules:
            self.assertTrue(f"`{name}`" in text, name)
        for key in keys:
            if not key.startswith(("tdx.rtmr", "snp.minimum_tcb.")):
                self.assertTrue(f"`{key}`" in text, key)


# ---- A server that plays the vendors ----

class Vendor(http.server.BaseHTTPRequestHandler):
    asked = []
    broken = None
    intel = V / "sgx/icx-automata-b/collateral"  # what Intel serves

    def log_message(self, *_):
        pass

    def answer(self, body, headers=()):
        self.send_response(200)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        query = urllib.parse.parse_qs(url.query)
        Vendor.asked.append(self.path)
        if Vendor.broken == "429":
            self.send_response(429)
            self.send_header("Retry-After", "7")
            self.end_headers()
            return
        if Vendor.broken == "html":
            return self.answer(b"<html>maintenance</html>")
        case, tee = Vendor.intel, "tdx" if "tdx/" in str(Vendor.intel) else "sgx"
        fmspc = json.loads((case / "tcb_info.json").read_text())["tcbInfo"]["fmspc"].lower()
        chain = lambda name: urllib.parse.quote((case / name).read_text())
        if url.path.startswith("/vcek/v1/"):
            product, rest = url.path.split("/")[3:5]
            if rest == "cert_chain":
                return self.answer((V / f"roots/amd/{product.lower()}/vcek_cert_chain.pem").read_bytes())
            if rest == "crl":
                return self.answer((V / "roots/amd/crl/milan_ark_crl_20220509.der").read_bytes())
            for report in V.glob("snp/*/report.bin"):  # the certificate for exactly this chip and TCB
                raw = report.read_bytes()
                turin = product == "Turin"
                chip = raw[0x1A0:0x1A8] if turin else raw[0x1A0:0x1E0]
                tcb = raw[0x180:0x188]
                want = {"blSPL": tcb[1], "teeSPL": tcb[2], "snpSPL": tcb[3], "ucodeSPL": tcb[7], "fmcSPL": tcb[0]} if turin else {"blSPL": tcb[0], "teeSPL": tcb[1], "snpSPL": tcb[6], "ucodeSPL": tcb[7]}
                if chip.hex() == rest and {k: int(v[0]) for k, v in query.items()} == want and (report.parent / "vcek.der").exists():
                    return self.answer((report.parent / "vcek.der").read_bytes())
        if url.path == f"/{tee}/certification/v4/tcb" and query["fmspc"] == [fmspc]:
            return self.answer((case / "tcb_info.json").read_bytes(), [("TCB-Info-Issuer-Chain", chain("tcb_signing_chain.pem"))])
        if url.path == f"/{tee}/certification/v4/qe/identity":
            return self.answer((case / "qe_identity.json").read_bytes(), [("SGX-Enclave-Identity-Issuer-Chain", chain("tcb_signing_chain.pem"))])
        if url.path == "/sgx/certification/v4/pckcrl" and query == {"ca": ["platform"], "encoding": ["der"]}:
            return self.answer((case / "pck_crl.der").read_bytes(), [("SGX-PCK-CRL-Issuer-Chain", chain("pck_crl_issuer_chain.pem"))])
        if url.path == "/IntelSGXRootCA.der":
            return self.answer((case / "root_ca_crl.der").read_bytes())
        self.send_error(404)


class Collateral(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Vendor)
        cls.url = f"http://127.0.0.1:{cls.server.server_port}"
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()

    def fetch_and_verify(self, file, at):
        with tempfile.TemporaryDirectory() as cache:
            env = {"XDG_CACHE_HOME": cache}
            run = donjon("verify", "-q", "--at", at, file, env=env)
            self.assertEqual(run.returncode, 1)
            run = donjon("collateral", "fetch", "--from", self.url, file, env=env)
            self.assertEqual(run.returncode, 0, run.stderr)
            run = donjon("verify", "-q", "--at", at, file, env=env)
            self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
            # What lies in the cache is not trusted: altered, it does not verify.
            for path in pathlib.Path(cache).rglob("*"):
                if path.is_file() and ("tcb" in path.name or "SPL" in path.name) and not path.name.endswith(".pem"):
                    raw = bytearray(path.read_bytes())
                    raw[len(raw) // 2] ^= 1
                    path.write_bytes(raw)
            self.assertEqual(donjon("verify", "-q", "--at", at, file, env=env).returncode, 1)

    def test_amd(self):
        self.fetch_and_verify(V / "snp/milan-v3-aci/report.bin", "2026-01-28T11:25:58Z")
        self.fetch_and_verify(V / "snp/genoa-v5-yaxi/report.bin", "2025-12-11T10:49:48Z")
        self.fetch_and_verify(V / "snp/turin-v5-aci/report.bin", "2026-03-07T01:04:33Z")
        self.fetch_and_verify(V / "snp/milan-v2-coco/report.bin", "2023-02-23T17:58:26Z")

    def test_intel(self):
        self.fetch_and_verify(V / "sgx/icx-automata-b/quote.bin", "2025-08-30T00:00:00Z")

    def test_intel_tdx(self):
        sgx, Vendor.intel = Vendor.intel, V / "tdx/v5-td15-uptodate/collateral"
        try:
            self.fetch_and_verify(V / "tdx/v5-td15-uptodate/quote.bin", "2026-03-05T00:00:00Z")
        finally:
            Vendor.intel = sgx

    def test_urls(self):
        run = donjon("collateral", "fetch", "--dry-run", V / "tdx/v5-td15-uptodate/quote.bin")
        self.assertIn("https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=90c06f000000\n", run.stdout)
        self.assertIn("https://api.trustedservices.intel.com/tdx/certification/v4/qe/identity\n", run.stdout)
        run = donjon("collateral", "fetch", "--dry-run", V / "snp/turin-v5-aci/report.bin")
        self.assertIn("https://kdsintf.amd.com/vcek/v1/Turin/59790fb1c39f35c1?fmcSPL=01&blSPL=01&teeSPL=01&snpSPL=04&ucodeSPL=81\n", run.stdout)

    def test_trouble(self):
        with tempfile.TemporaryDirectory() as out:
            file = V / "snp/milan-v3-aci/report.bin"
            for broken, words in (("429", "asks to wait 7 s"), ("html", "found something else")):
                Vendor.broken = broken
                run = donjon("collateral", "fetch", "--from", self.url, "-o", out, file)
                Vendor.broken = None
                self.assertEqual(run.returncode, 1)
                self.assertIn(words, run.stderr)
            self.assertEqual(os.listdir(out), [])
            run = donjon("collateral", "fetch", "--from", "http://127.0.0.1:1", "-o", out, file)
            self.assertEqual(run.returncode, 1)
            self.assertIn("connect", run.stderr.lower())


class Url(unittest.TestCase):
    def test_url(self):
        """A TLS server whose certificate has the evidence; another whose certificate has none."""
        with tempfile.TemporaryDirectory() as tmp:
            tmp = pathlib.Path(tmp)
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=keep", "-days", "1",
                            "-keyout", tmp / "key.pem", "-out", tmp / "plain.pem"], check=True, capture_output=True)
            # Somebody else's real evidence in a certificate of ours: genuine, but made for another key.
            report = (V / "snp/milan-v3-aci/report.bin").read_bytes()
            cmw = b"\x83\x63a/b\x59\x04\xa0" + report + b"\x04"
            der = b"\x04\x82" + len(cmw).to_bytes(2, "big") + cmw
            config = f"[req]\ndistinguished_name=dn\nprompt=no\nx509_extensions=v3\n[dn]\nCN=keep\n[v3]\n1.3.6.1.5.5.7.1.35=DER:{der.hex()}\n"
            (tmp / "c.cnf").write_text(config)
            subprocess.run(["openssl", "req", "-x509", "-new", "-key", tmp / "key.pem", "-config", tmp / "c.cnf", "-days", "1", "-out", tmp / "stolen.pem"], check=True, capture_output=True)
            for cert, words in (("plain.pem", "carries no evidence"), ("stolen.pem", "wrapper.key")):
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(tmp / cert, tmp / "key.pem")
                server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
                server.socket = context.wrap_socket(server.socket, server_side=True)
                threading.Thread(target=server.handle_request, daemon=True).start()
                run = donjon("verify", "--at", "2026-01-28T11:25:58Z", "-c", V / "snp/milan-v3-aci", "--url", f"https://127.0.0.1:{server.server_port}/")
                self.assertEqual(run.returncode, 1, run.stderr)
                self.assertIn(words, run.stdout + run.stderr)
                server.server_close()
            run = donjon("verify", "--url", "http://example.com")
            self.assertEqual(run.returncode, 125)
            run = donjon("verify", "--url", "https://127.0.0.1:1")
            self.assertEqual(run.returncode, 125)
            self.assertIn("no connection", run.stderr)
            server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)  # no TLS
            threading.Thread(target=server.handle_request, daemon=True).start()
            run = donjon("verify", "--url", f"https://127.0.0.1:{server.server_port}")
            self.assertEqual(run.returncode, 125)
            self.assertIn("the TLS handshake failed", run.stderr)
            server.server_close()


class KeepUrl(unittest.TestCase):
    """TLS servers whose certificates carry evidence of the software signer, in every shape: appraised over the wire."""

    @classmethod
    def setUpClass(cls):
        cls.made = tempfile.TemporaryDirectory()
        cls.dir = pathlib.Path(cls.made.name)
        subprocess.run([str(BIN.parent / "keep_certificates"), cls.dir], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.made.cleanup()

    def ask(self, name, *args):
        """donjon verify --url against a server that shows NAME.pem, in TLS 1.3."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.dir / f"{name}.pem")
        server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.handle_request, daemon=True)
        thread.start()
        run = donjon("verify", "--url", f"https://localhost:{server.server_port}/", *args)
        thread.join(10)
        server.server_close()
        return run

    def test_shapes(self):
        software = ["--dev-root", self.dir / "root.pem", "--set", "allow_software=true"]
        measured = ["--set", "snp.measurements=d0110e" + "00" * 45]
        for name, given in (("cmw", True), ("cmw-json", True), ("cmw-collection", False), ("dice", True), ("ratls", True)):
            collateral = ["-c", self.dir / "chain.pem"] if given else []
            run = self.ask(name, *software, *measured, *collateral)
            self.assertEqual(run.returncode, 0, name + run.stdout + run.stderr)
            self.assertIn("Software (development) report", run.stdout)
            self.assertIn("wrapper.key", run.stdout)
            # The root alone is not permission, and permission is not the root.
            run = self.ask(name, *software[:2], *collateral)
            self.assertEqual(run.returncode, 1, name)
            self.assertIn("REJECTED", run.stdout)
            self.assertIn("by policy (the evidence is genuine): policy.software", run.stdout)
            run = self.ask(name, *software[2:], *collateral)
            self.assertEqual(run.returncode, 1, name)
            self.assertIn("chain.path", run.stdout)
        run = self.ask("cmw", *software, "--set", "snp.measurements=" + "00" * 48, "-c", self.dir / "chain.pem")
        self.assertEqual(run.returncode, 1)
        self.assertIn("by policy (the evidence is genuine): policy.measurement", run.stdout)

    def test_nonce_in_claims(self):
        args = ["--dev-root", self.dir / "root.pem", "--set", "allow_software=true", "-c", self.dir / "chain.pem", "--nonce"]
        self.assertEqual(self.ask("ratls", *args, b"ratls nonce".hex()).returncode, 0)
        run = self.ask("ratls", *args, b"other nonce".hex())
        self.assertEqual(run.returncode, 1)
        self.assertIn("by policy (the evidence is genuine): policy.nonce", run.stdout)

    def test_not_believed(self):
        args = ["--dev-root", self.dir / "root.pem", "--set", "allow_software=true", "-c", self.dir / "chain.pem"]
        old = ["--dev-root", self.dir / "old-root.pem", "--set", "allow_software=true", "-c", self.dir / "old-chain.pem"]
        for name, options, words in (
                ("stolen", args, ["wrapper.key", "the evidence was made for another key", "expected  SHA-256, SHA-384 or SHA-512 of the public key"]),
                ("ratls-stolen", args, ["wrapper.key", "a pubkey-hash claim that is this key's"]),
                ("ratls-claims", args, ["wrapper.claims", "the claims were altered or belong to other evidence"]),
                ("expired", args, ["wrapper.validity", "get a fresh certificate from the peer"]),
                ("old-signer", old, ["chain.validity", "expired", "--at"]),
                ("old-signer", args, ["REJECTED", "snp.signature"]),
                ("plain", args, ["REJECTED", "carries no evidence"])):
            run = self.ask(name, *options)
            self.assertEqual(run.returncode, 1, name + run.stdout + run.stderr)
            self.assertNotIn("ACCEPTED", run.stdout)
            for word in words:
                self.assertIn(word, run.stdout + run.stderr, name)


if __name__ == "__main__":
    unittest.main(verbosity=0)
