#!/usr/bin/env python3
"""donjon verify, inspect, measure and collateral fetch from outside, against the vectors, a local server that plays AMD's
KDS and Intel's PCS, and a local TLS server with evidence in its certificate."""
import base64, gzip, http.server, json, os, pathlib, re, ssl, subprocess, sys, tempfile, threading, unittest, urllib.parse

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


class Explanations(unittest.TestCase):
    """A rejection read as by someone who has to repair it: the cause in the first line and in the last, and what to do."""

    def reads(self, run, first, *words, code=1):
        self.assertEqual(run.returncode, code, run.stdout + run.stderr)
        lines = run.stdout.splitlines()
        self.assertIn(" \u2717 " + first + ": ", lines[0])
        self.assertTrue(lines[-1].startswith("REJECTED at "), lines[-1])
        self.assertIn(first.split(" ")[0] + ": expected ", lines[-1])
        self.assertIn(". To do: ", lines[-1])
        for word in words:
            self.assertIn(word, run.stdout)

    def test_what_is_no_evidence(self):
        report = (V / "snp/milan-v3-aci/report.bin").read_bytes()
        quote = (V / "sgx/icx-oasis/quote.bin").read_bytes()
        document = (V / "nitro/veracruz-2022/attestation.cbor").read_bytes()
        files = {
            "picture": (b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(999), "a JPEG picture"),
            "empty": (b"", "nothing: 0 bytes", "the file is empty"),
            "gzip": (gzip.compress(report), "gzip-compressed data", "unpack it first"),
            "page": (b"<html><body>404</body></html>", "an HTML page", "the server answered with a page"),
            "token": (b"eyJhbGciOiJFUzI1NiJ9.eyJhIjoxfQ.AAAA", "a JSON Web Token", "a verifier's word about evidence"),
            "error": (b'{"error": "not attested"}', "JSON without evidence, with a member"),
            "json": (b'{"status": "ok"}', "JSON in which nothing is a report, quote or document"),
            "broken": (b'{"status": "ok",\n "quote', "damaged JSON: line 2"),
            "dump": (b"00000000: 0300 0000 0200 0000 1f00 0300  ....\n", "a hex dump with addresses", "xxd -r"),
            "hex": (report[:500].hex().encode(), "hexadecimal text (1000 digits): the first 500 bytes of an SNP report of 1184"),
            "base64": (base64.encodebytes(report[:500]), "base64 text", "the first 500 bytes of an SNP report of 1184"),
            "short": (report[:500], "the first 500 bytes of an SNP report of 1184", "fetch it again, all of it"),
            "zeros": (bytes(5000), "5000 zeros", "made and never written to"),
            "local": (quote[48:432], "the size of a local SGX report", "quoting enclave"),
            "document": (b"\x83" + document[1:], "a Nitro document whose outer structure (COSE_Sign1) is damaged"),
            "certificate": ((V / "roots/amd/milan/ask.der").read_bytes(), "a certificate (SEV-Milan) that carries no evidence", "--collateral"),
            "list": ((V / "roots/amd/crl/milan_ark_crl_20220509.der").read_bytes(), "a certificate revocation list (of ARK-Milan)", "--collateral"),
            # Evidence in what this verifier does not open.
            "pem": (b"-----BEGIN REPORT-----\n" + base64.encodebytes(report) + b"-----END REPORT-----\n", "PEM of a kind of its own (REPORT), which holds evidence (snp)", "BEGIN and END lines"),
            "other-pem": (b"-----BEGIN POEM-----\nAAAA\n-----END POEM-----\n", "PEM of another kind (POEM)"),
            "in-report": (b"\x0a\xa0\x09" + report + b"\x12\x00", "an SNP report at byte 3 of 1189", "tail -c +4 FILE | head -c 1184"),
            "in-quote": (b"\x0a\x80" + quote, f"a quote at byte 2 of {len(quote) + 2}", "tail -c +3 FILE"),
            "in-document": (b"\x0a\x80" + document + b"\0\0", f"a Nitro document at byte 2 of {len(document) + 4}", f"tail -c +3 FILE | head -c {len(document)}"),
            "in-text": (base64.b64encode(b"\x0a\xa0\x09" + report), "base64 text (1584 characters): an SNP report at byte 3 of 1187", "give that part alone"),
            "tpm": (document.replace(b"\x64pcrs", b"\x6dnitrotpm_pcrs"), "a NitroTPM document", "an EC2 instance, not an enclave"),
            "hcl": ((V / "snp/milan-v3-azure-cvm/hcl_report.bin").read_bytes()[:1300], "an HCL report of Azure, damaged or cut off: Azure HCL report: ends early", "tpm2_nvread"),
            "cca": (b"\xd9\x01\x8f\xa0", "confidential compute architecture (CCA)"),
            "tcb": ((V / "sgx/icx-automata-b/collateral/tcb_info.json").read_bytes(), "Intel's TCB info", "--collateral"),
        }
        with tempfile.TemporaryDirectory() as tmp:
            tmp = pathlib.Path(tmp)
            subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", tmp / "private"], check=True)
            subprocess.run(["openssl", "ec", "-in", tmp / "private", "-pubout", "-out", tmp / "public"], check=True, capture_output=True)
            files["private"] = ((tmp / "private").read_bytes(), "a private key in PEM", "keep it secret")
            files["public"] = ((tmp / "public").read_bytes(), "a public key in PEM", "--key")
            for name, (content, *words) in files.items():
                (tmp / name).write_bytes(content)
                self.reads(donjon("verify", tmp / name), "format.evidence", *words)
                result = json.loads(donjon("verify", "--json", tmp / name).stdout)
                self.assertEqual((result["verdict"], result["genuine"], result["reason"]), ("rejected", False, "format.evidence"))
                self.assertIn(words[0], result["checks"][0]["found"])
            run = donjon("verify", tmp)
            self.assertEqual((run.returncode, run.stderr), (125, f"donjon verify: cannot read {tmp}: Is a directory\n"))
            with open(tmp / "big", "wb") as big:
                big.truncate(20 << 20)
            self.assertIn("more than 16 MiB", donjon("verify", tmp / "big").stderr)
            # As xxd -p writes it, in lines.
            (tmp / "lines").write_text("\n".join(report.hex()[i:i + 60] for i in range(0, 2368, 60)) + "\n")
            run = donjon("verify", "--at", "2026-01-28T11:25:58Z", "-c", V / "snp/milan-v3-aci", tmp / "lines")
            self.assertEqual(run.returncode, 0, run.stdout)
            # Text as other tools write it: base64url padded and not, JSON strings, white space around.
            url = base64.urlsafe_b64encode(report).decode()
            for text in (url, url.rstrip("=") + "\n", json.dumps(url), f'  "{report.hex()}"\n', "\n" + base64.b64encode(report).decode() + " \n", json.dumps(list(report))):
                (tmp / "text").write_text(text)
                run = donjon("verify", "--at", "2026-01-28T11:25:58Z", "-c", V / "snp/milan-v3-aci", tmp / "text")
                self.assertEqual(run.returncode, 0, text[:40] + run.stdout)

    def test_cut_off(self):
        with tempfile.TemporaryDirectory() as tmp:
            cut = pathlib.Path(tmp) / "cut"
            for file, size, *words in (("snp/milan-v3-aci/report.bin", 1000, "1000 bytes", "cut off"),
                                       ("sgx/icx-oasis/quote.bin", 40, "ends within the header: 40 bytes"),
                                       ("sgx/icx-oasis/quote.bin", 2000, "2000 bytes of 4730"),
                                       ("nitro/veracruz-2022/attestation.cbor", 300, "it ends early (of 300 bytes)")):
                cut.write_bytes((V / file).read_bytes()[:size])
                run = donjon("verify", cut)
                self.reads(run, "format.evidence", *words)
                self.assertEqual(run.stdout.count("\u2717") - 2, 1, run.stdout)  # one failure, and no consequence of it

    def test_snp(self):
        case, at = V / "snp/milan-v3-aci", ("--at", "2026-01-28T11:25:58Z")
        with tempfile.TemporaryDirectory() as home:
            env = {"XDG_CACHE_HOME": home}
            run = donjon("verify", *at, case / "report.bin", env=env)
            self.reads(run, "chain.endorsement", "https://kdsintf.amd.com/vcek/v1/Milan/4ffb5cb4fd594f3f", "blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219")
            vlek = V / "snp/milan-v3-vlek-aws-vmpl1/report.bin"
            self.reads(donjon("verify", *at, vlek, env=env), "chain.endorsement", "AMD gives VLEKs to cloud providers only")
            # Of version 2, the product is not known, whatever other certificates are of.
            for given in ((), ("-c", V / "snp/milan-v3-azure-cvm/vcek.der")):
                run = donjon("verify", "--at", "2023-06-01T00:00:00Z", *given, V / "snp/milan-v2-coco/report.bin", env=env)
                self.reads(run, "chain.endorsement", "https://kdsintf.amd.com/vcek/v1/Milan/", "with Genoa in the place of Milan")
            run = donjon("collateral", "fetch", "--dry-run", vlek)
            self.assertIn("AMD gives those to cloud providers only", run.stderr)
            # Another chip's certificate is the cause; that it does not verify the signature is not.
            run = donjon("verify", *at, "-c", V / "snp/milan-v3-azure-cvm/vcek.der", case / "report.bin", env=env)
            self.reads(run, "chain.endorsement", "one of chip 66a5a7b4403a3006..", "this is not the certificate of the key that signed: see chain.endorsement")
            # A certificate nobody trusts is worse than one that does not fit.
            run = donjon("verify", "--at", "2023-06-01T00:00:00Z", "-c", V / "negative/snp-vcek-invalid-new/vcek.der", V / "snp/milan-v2-coco/report.bin", env=env)
            self.reads(run, "chain.path", "SEV-VCEK was not signed by SEV-Milan", "not checked: there is no trusted key to do it with")
            altered = pathlib.Path(home) / "altered"
            for offset, rule, word in ((0x90, "snp.signature", "the certificate is the right one (chip and TCB agree), so the report was altered"),
                                       (0x330, "snp.reserved", "byte 0x330 is 0x01"), (0x4c, "snp.reserved", "byte 0x4c is 0x01")):
                raw = bytearray((case / "report.bin").read_bytes())
                raw[offset] ^= 1
                altered.write_bytes(raw)
                self.reads(donjon("verify", *at, "-c", case, altered), rule, word)
            vlek, raw = vlek.parent, bytearray(vlek.read_bytes())
            raw[0x90] ^= 1
            altered.write_bytes(raw)
            self.reads(donjon("verify", "--at", "2025-01-09T22:14:21Z", "-c", vlek, altered), "snp.signature", "providers have several VLEKs")
        self.reads(donjon("verify", "--at", "2019-01-01T00:00:00Z", "-c", case, case / "report.bin"), "chain.validity", "check --at, or the clock of this machine")
        self.reads(donjon("verify", "--at", "2040-01-01T00:00:00Z", "-c", case, case / "report.bin"), "chain.validity", "between 2025-12-29T11:25:58Z and 2032-12-29T11:25:58Z")

    def test_intel(self):
        case, at = V / "sgx/icx-automata-b", "2025-08-30T00:00:00Z"
        with tempfile.TemporaryDirectory() as tmp:
            def without(missing, *, quote=case / "quote.bin", at=at):
                given = [x for f in (case / "collateral").iterdir() if f.name not in missing for x in ("-c", f)]
                return donjon("verify", "--at", at, *given, quote, env={"XDG_CACHE_HOME": tmp})

            self.reads(without({"tcb_info.json"}), "intel.tcb_info", "sgx/certification/v4/tcb?fmspc=00606a000000")
            self.reads(without({"qe_identity.json"}), "intel.qe_identity", "sgx/certification/v4/qe/identity", "get the quoting enclave's identity first")
            self.reads(without({"pck_crl.der"}), "chain.crl", "no revocation list of Intel SGX PCK Platform CA", "pckcrl?ca=platform")
            self.reads(without({"pck_crl.der", "root_ca_crl.der"}), "chain.crl", "PCK Platform CA; no revocation list of Intel SGX Root CA", "IntelSGXRootCA.der")
            self.reads(without({}, at="2026-05-01T00:00:00Z"), "chain.crl", "the lists have run out", "this edition covers 2025-08-15T04:36:46Z to 2025-09-14T04:36:46Z")
            self.reads(without({}, at="2025-05-01T00:00:00Z"), "chain.crl", "the lists are younger than the time appraised for")
            altered = pathlib.Path(tmp) / "altered"
            raw = bytearray((case / "quote.bin").read_bytes())
            raw[48 + 64] ^= 1  # MRENCLAVE
            altered.write_bytes(raw)
            self.reads(without({}, quote=altered), "quote.signature", "the signature does not verify", "the quote was altered after it was made")
            # The same quote without lists: the signature decides, not what could be fetched.
            self.reads(without({"pck_crl.der", "tcb_info.json"}, quote=altered), "quote.signature")
            raw = (case / "quote.bin").read_bytes()
            altered.write_bytes(raw.replace(b"-----BEGIN CERTIFICATE-----\nMIIE", b"-----BEGIN CERTIFICATE-----\nMIIF", 1))
            self.reads(without({}, quote=altered), "quote.certification_data", "the certificates in the quote were damaged", "repair the certificates first")
        old = V / "sgx/icx-oasis"
        self.reads(donjon("verify", "--at", at, "-c", old, old / "quote.bin"), "intel.tcb_status",
                   "SGX component 1 (BIOS: Early Microcode Update) is 7, needs 14", 'add "OutOfDate" to intel.tcb_statuses', "who operates the host")
        low = V / "tdx/v4-notsupported-phala"
        self.reads(donjon("verify", "--at", "2025-07-04T00:00:00Z", "-c", low, low / "quote.bin"), "intel.tcb_level", "no policy can accept this", "SEAMLDR ACM")

    def test_nitro(self):
        file = V / "nitro/veracruz-2022/attestation.cbor"
        self.reads(donjon("verify", file), "chain.validity", "good for three hours", "--at 2022-11-09T22:51:57Z")
        self.assertEqual(donjon("verify", "--at", "2022-11-09T22:51:57Z", file).returncode, 0)
        self.reads(donjon("verify", V / "negative/nitro-tampered-certificate/attestation.cbor"), "chain.path", "carries its whole chain")

    def test_debug(self):
        for file, collateral, at, word in (("snp/milan-v2-debug-gosevguest/report.bin", "snp/milan-v2-debug-gosevguest", "2022-07-18T00:00:00Z", "a policy without DEBUG (bit 19, 0x80000)"),
                                           ("sgx/cfl-debug-oe-2022/quote.bin", "sgx/cfl-debug-oe-2022", "2022-07-18T00:00:00Z", "create it without the debug flag")):
            run = donjon("verify", "--at", at, "-c", V / collateral, V / file)
            self.assertIn("policy.debug", run.stdout)
            self.assertIn(word, run.stdout)

    def test_policy(self):
        case, at = V / "tdx/v5-td15-uptodate", ("--at", "2026-03-05T00:00:00Z")
        args = ("verify", *at, "-c", case / "collateral", case / "quote.bin", "--set")
        for key, rule in (("tdx.rtmr0", "tdx.rtmr (tdx.rtmr0)"), ("tdx.rtmr3", "tdx.rtmr (tdx.rtmr3)"), ("tdx.mrtds", "policy.measurement (tdx.mrtds)"),
                          ("tdx.mrownerconfigs", "tdx.mrowner (tdx.mrownerconfigs)")):
            run = donjon(*args, key + "=" + "11" * 48)
            self.reads(run, rule)
            self.assertIn("all zeros" if key in ("tdx.rtmr3", "tdx.mrownerconfigs") else "add the value found to " + key, run.stdout)
        mrtd = "7348651a34b2d2d3462822e3a750ec6110125f36757c78480bbfc69cc0d21fb001a1ced3ee19747dda8f750c3bc8f8"
        self.reads(donjon(*args, f"tdx.mrtds={mrtd}77"), "policy.measurement (tdx.mrtds)", "The first 47 of 48 bytes agree")
        self.assertEqual(donjon(*args, f"tdx.mrtds={mrtd}76").returncode, 0)
        # A policy that names code for another TEE only does not accept any code in this one.
        run = donjon(*args, "nitro.pcr0=" + "11" * 48)
        self.reads(run, "policy.tee", "nitro: the policy names code for no other TEE", 'list "tdx" in tees')
        self.assertEqual(donjon(*args, "nitro.pcr0=" + "11" * 48, "--set", "tees=tdx").returncode, 0)
        # What cannot be known is not taken for granted.
        self.reads(donjon(*args, "max_age=1h"), "policy.max_age", "no time in this evidence", "--nonce")
        # --set says what is accepted; it does not add to what nobody asked for.
        sgx = V / "sgx/icx-automata-b"
        run = donjon("verify", "--at", "2025-08-30T00:00:00Z", "-c", sgx, sgx / "quote.bin", "--set", "intel.tcb_statuses=UpToDate")
        self.reads(run, "intel.tcb_status", "found     SWHardeningNeeded", "hardened in software")
        vlek = V / "snp/milan-v3-vlek-aws-vmpl1"
        run = donjon("verify", "--at", "2025-01-09T22:14:21Z", "-c", vlek, vlek / "report.bin", "--set", "snp.vmpl=0")
        self.reads(run, "snp.vmpl", "found     VMPL 1", "snp.vmpl = 1")
        self.assertEqual(donjon("verify", "--at", "2026-02-31T00:00:00Z", vlek / "report.bin").returncode, 125)

    def test_collateral_that_is_none(self):
        quote = V / "sgx/icx-automata-b/quote.bin"
        for file, words in ((V / "snp/milan-v3-aci/report.bin", "found evidence: give that as FILE"), (V / "INDEX.md", "found text"),
                            (V / "negative/json-tcbinfo-oe/tcbInfoNegativeCompSvn.json", "malformed collateral: sgxtcbcomp01svn: expected an integer 0..255")):
            run = donjon("verify", "-c", file, quote)
            self.assertEqual(run.returncode, 125)
            self.assertIn(words, run.stderr)
        run = donjon("measure", V / "snp/milan-v3-aci/report.bin")
        self.assertIn("found 1184 bytes", run.stderr)
        self.assertEqual(donjon("measure", "--vcpus", "many", V / "snp-launch/ovmf-suffix/ovmf_AmdSev_suffix.bin").returncode, 125)


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
    unknown = None  # a product of which AMD knows no chip
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
            if product == Vendor.unknown:
                return self.send_error(404)
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

    def test_amd_product_unknown(self):
        """A report of version 2 may be of either product: one has the chip, and that the other has not is no trouble."""
        file = V / "snp/milan-v2-coco/report.bin"
        try:
            for unknown in ("Milan", "Genoa"):
                Vendor.unknown, Vendor.asked = unknown, []
                with tempfile.TemporaryDirectory() as out:
                    run = donjon("collateral", "fetch", "--from", self.url, "-o", out, file)
                    self.assertEqual((run.returncode, run.stderr), (0, ""))
                    run = donjon("verify", "-q", "--at", "2023-02-23T17:58:26Z", "-c", out, file)
                    self.assertEqual(run.returncode, 0, run.stdout)
                self.assertEqual(len([x for x in Vendor.asked if "SPL" in x]), 2 if unknown == "Milan" else 1)
            with tempfile.TemporaryDirectory() as out:
                raw = bytearray(file.read_bytes())
                raw[0x1a0] ^= 1
                stranger = pathlib.Path(out) / "stranger"
                stranger.write_bytes(raw)
                run = donjon("collateral", "fetch", "--from", self.url, "-o", out, stranger)
                self.assertEqual(run.returncode, 1)
                self.assertEqual(run.stderr.count("AMD knows no such chip and TCB"), 1)
        finally:
            Vendor.unknown = None

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
        run = self.ask("cmw", "--verbose", "-c", self.dir / "chain.pem")
        self.assertRegex(run.stdout, "policy.software: not known")  # and not "hardware"
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
