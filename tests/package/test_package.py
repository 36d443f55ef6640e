#!/usr/bin/env python3
"""Packages: pack, sign, push, pull; a real registry on loopback; layouts and registries that lie."""
import base64, hashlib, http.server, json, os, re, shutil, subprocess, tempfile, threading, unittest

DONJON = os.environ["DONJON_BIN"] + "/donjon"
MODULE = b"\0asm\1\0\0\0" + b"\0\x05\x04name" * 3
CONFIG = "application/vnd.wasm.config.v0+json"
WASM = "application/wasm"
IMAGE = "application/vnd.oci.image.manifest.v1+json"


def donjon(*args, env=None):
    p = subprocess.run([DONJON, *map(str, args)], capture_output=True, timeout=60, env={**os.environ, "HOME": "/nonexistent", **(env or {})})
    return p.returncode, p.stdout.decode(), p.stderr.decode()


def sha(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Base(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="package-")
        self.addCleanup(shutil.rmtree, self.dir)

    def path(self, *parts, data=None):
        path = os.path.join(self.dir, *parts)
        if data is not None:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as f:
                f.write(data)
        return path

    def app(self, name="shop", config=b'[[mounts]]\nhost = "static"\nguest = "/static"\n'):
        self.path(name, "main.wasm", data=MODULE)
        self.path(name, "static", "a", "index.html", data=b"<p>hello\n")
        self.path(name, "static", "empty", data=b"")
        self.path(name, "unrelated", data=b"not in the package")
        if config is not None:
            self.path(name, "Donjon.toml", data=config)
        return self.path(name)

    def good(self, *args, **kw):
        code, out, err = donjon(*args, **kw)
        self.assertEqual(code, 0, err)
        return out.strip()

    def bad(self, what, *args, **kw):
        code, out, err = donjon(*args, **kw)
        self.assertEqual((code, out), (125, ""), out + err)
        self.assertRegex(err, what)

    def packed(self, *extra, **kw):
        digest = self.good("pack", "-q", "-o", self.path("oci"), *extra, self.app(**kw))
        return digest

    def blob(self, digest):
        return self.path("oci", "blobs", "sha256", digest[7:])

    def key(self, name="key"):
        self.good("sign", "-q", "--new-key", self.path(name))
        return self.path(name), self.path(name + ".pub")


class Layout(Base):
    def test_json(self):
        app, key = self.app(), self.path("k")
        self.assertEqual(json.loads(self.good("sign", "--json", "--new-key", key)), {"key": key})
        packed = json.loads(self.good("pack", "--json", "-o", self.path("oci"), app))
        self.assertEqual(packed["reference"], f"oci:{self.path('oci')}@{packed['digest']}")
        self.assertEqual(json.loads(self.good("sign", "--json", "--key", key, packed["reference"])), packed)
        self.assertEqual(json.loads(self.good("pull", "--json", packed["reference"])), packed)
        pushed = json.loads(self.good("push", "--json", packed["reference"], "oci:" + self.path("other")))
        self.assertEqual(pushed["digest"], packed["digest"])
        code, out, err = donjon("pull", "--json", "oci:" + self.path("none"))
        self.assertEqual((code, json.loads(out)["exit_code"]), (125, 125))
        self.assertIn(json.loads(out)["error"], err)

    def test_layout(self):
        digest = self.packed()
        manifest = open(self.blob(digest), "rb").read()
        self.assertEqual(sha(manifest), digest)
        m = json.loads(manifest)
        self.assertEqual((m["schemaVersion"], m["mediaType"], m["config"]["mediaType"]), (2, IMAGE, CONFIG))
        self.assertEqual(m["layers"][0]["mediaType"], WASM)
        self.assertEqual(m["layers"][0]["digest"], sha(MODULE))
        self.assertEqual([l["annotations"]["org.opencontainers.image.title"] for l in m["layers"]],
                         ["main.wasm", "static/a/index.html", "static/empty"])
        config = json.load(open(self.blob(m["config"]["digest"])))
        self.assertEqual(config["layerDigests"], [l["digest"] for l in m["layers"]])
        self.assertEqual((config["architecture"], config["os"]), ("wasm", "wasip1"))
        self.assertEqual(self.packed(), digest)  # the same again
        self.good("pull", "-u", self.path("out"), f"oci:{self.path('oci')}@{digest}")
        same = subprocess.run(["diff", "-r", "-x", "unrelated", self.path("shop"), self.path("out")], capture_output=True)
        self.assertEqual(same.returncode, 0, same.stdout)

    def test_module_alone(self):
        self.path("m.wasm", data=MODULE)
        digest = self.good("pack", "-q", "-o", self.path("oci"), "--tag", "x", self.path("m.wasm"))
        m = json.load(open(self.blob(digest)))
        self.assertEqual((len(m["layers"]), "annotations" in m), (1, False))
        self.good("pull", "-u", self.path("out"), self.path("oci"))  # the only one there is
        self.assertEqual(os.listdir(self.path("out")), ["main.wasm"])

    def test_tags(self):
        first = self.packed("--tag", "1")
        second = self.packed("--tag", "2", config=b"")
        self.assertNotEqual(first, second)
        self.assertEqual(self.good("pull", "-q", f"oci:{self.path('oci')}:1"), first)
        self.assertEqual(self.good("pull", "-q", f"oci:{self.path('oci')}:2"), second)
        self.bad("2 packages", "pull", self.path("oci"))
        self.bad(rf"no package has the tag 3; it has 1 \({first}\), 2 \({second}\)", "pull", f"oci:{self.path('oci')}:3")
        self.bad(rf"no package sha256:0+ in it; it has 1 \({first}\)", "pull", f"oci:{self.path('oci')}@sha256:{'0' * 64}")
        self.packed("--tag", "1", config=b"")
        self.assertEqual(self.good("pull", "-q", f"oci:{self.path('oci')}:1"), second)  # moved
        self.assertEqual(self.good("pull", "-q", f"oci:{self.path('oci')}@{first}"), first)  # still there

    def test_configuration(self):
        """What `deploy` would refuse is not packed, and said in the same words."""
        for config, why in ((b'[[secret]]\nname = "x"\n', r"Donjon.toml:1:3: .*did you mean \"secrets\""), (b"[[files]\n", r"Donjon.toml:1"),
                            (b'[limits]\nmemori = "1 GiB"\n', r'did you mean "memory"'),
                            (b'[[files]]\nkind = "listen"\nname = "x"\ntrust = ["none.pem"]\n', "none.pem: No such file")):
            self.bad(why, "pack", "-o", self.path("oci"), self.app(config=config))
            self.assertFalse(os.path.exists(self.path("oci")))

    def test_all_that_it_names(self):
        """Certificates and policies come along, whatever the key is that names them."""
        pem = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                              os.devnull, "-subj", "/CN=x"], capture_output=True, check=True).stdout
        for name in "steward.pem", "root.pem", "ca.pem":
            self.path("shop", name, data=pem)
        self.path("shop", "peers.toml", data=b"allow_software = true\n")
        digest = self.packed(config=b"""steward = "https://steward.example/"
[tls]
steward-ca = "steward.pem"
[[files]]
kind = "connect"
host = "h.example"
trust = ["ca.pem"]
peer-policy = "peers.toml"
peer-development-root = "root.pem"
""")
        titles = [l["annotations"]["org.opencontainers.image.title"] for l in json.load(open(self.blob(digest)))["layers"][1:]]
        self.assertEqual(titles, ["ca.pem", "peers.toml", "root.pem", "steward.pem"])
        self.bad("outside the package|below its directory", "pack", "-o", self.path("oci"),
                 self.app(config=f'steward = "https://s.example/"\ntls.steward-ca = "{self.path("shop", "ca.pem")}"\n'.encode()))

    def test_directories_that_are_there(self):
        digest = self.packed()
        self.path("full", "x", data=b"mine")
        for option in "-u", "-o":
            self.bad("is there.*name a new directory", "pull", option, self.path("full"), self.path("oci"))
        self.assertEqual(os.listdir(self.path("full")), ["x"])
        self.bad("no directory", "pull", "-u", self.path("full", "x"), self.path("oci"))
        os.mkdir(self.path("empty"))
        self.good("pull", "-u", self.path("empty"), self.path("oci"))
        self.good("pull", "-o", self.path("other"), self.path("oci"))
        self.assertEqual(self.good("pull", "-q", "-o", self.path("other"), self.path("oci")), digest)  # a layout takes more

    def test_nothing_outside(self):
        """Neither pack nor pull reaches beyond the application's directory."""
        for config in (b'[[mounts]]\nhost = "/etc"\nguest = "/x"\n', b'[[mounts]]\nhost = "../other"\nguest = "/x"\n',
                       b'[[files]]\nkind = "connect"\nhost = "h"\nport = 1\ntrust = ["/etc/ssl/certs/ca-certificates.crt"]\n',
                       b'[[files]]\nkind = "listen"\nname = "x"\nclient-auth = "require"\npeer-policy = "../secret.toml"\n'):
            self.path("secret.toml", data=b"")
            self.bad("below its directory", "pack", "-o", self.path("oci"), self.app(config=config))
            # The same in a package that somebody made by hand.
            self.hand_made({"annotations": {"org.donjon.config.toml": config.decode()}})
            self.bad("outside the package", "pull", "-u", self.path("out"), self.path("hand"))
            self.assertFalse(os.path.exists(self.path("out")))
            shutil.rmtree(self.path("hand"))
        shutil.rmtree(self.path("shop"))
        app = self.app()
        os.symlink("/etc/passwd", self.path("shop", "static", "link"))
        self.bad("files and directories only", "pack", "-o", self.path("oci"), app)

    def hand_made(self, more, layers=None):
        """A layout with a manifest of our own making."""
        blobs = [MODULE, b"{}", b"content"]
        for b in blobs:
            self.path("hand", "blobs", "sha256", sha(b)[7:], data=b)
        layers = layers or [{"mediaType": WASM, "digest": sha(MODULE), "size": len(MODULE)}]
        text = json.dumps({"schemaVersion": 2, "mediaType": IMAGE,
                           "config": {"mediaType": CONFIG, "digest": sha(b"{}"), "size": 2}, "layers": layers, **more}).encode()
        self.path("hand", "blobs", "sha256", sha(text)[7:], data=text)
        self.path("hand", "oci-layout", data=b'{"imageLayoutVersion":"1.0.0"}')
        self.path("hand", "index.json", data=json.dumps({"schemaVersion": 2, "manifests": [
            {"mediaType": IMAGE, "digest": sha(text), "size": len(text)}]}).encode())

    def test_hostile_manifests(self):
        wasm = {"mediaType": WASM, "digest": sha(MODULE), "size": len(MODULE)}
        def file(title, **more):
            return {"mediaType": "application/vnd.donjon.file.v1", "digest": sha(b"content"), "size": 7,
                    "annotations": {"org.opencontainers.image.title": title}, **more}
        for layers, why in [([wasm, file("../evil")], "plain parts"), ([wasm, file("/etc/evil")], "plain parts"),
                            ([wasm, file("a/../../evil")], "plain parts"), ([wasm, file("x"), file("x")], "there twice"),
                            ([wasm, file("main.wasm")], "File exists"), ([wasm, file("a"), file("a/b")], "Not a directory"),
                            ([wasm, file("x", size=8)], "truncated or replaced"), ([wasm, file("x", size=6)], "at most 6 bytes"),
                            ([file("x")], "expected application/wasm"), ([wasm] * 2000, "at most"),
                            ([{**wasm, "size": 1 << 40}], "more than"), ([{**wasm, "digest": "sha256:" + "0" * 64}], "layout is not whole"),
                            ([{**wasm, "digest": sha(b"content"), "size": 7}], "no WebAssembly module")]:
            self.hand_made({}, layers)
            self.bad(why, "pull", "-u", self.path("out"), self.path("hand"))
            self.assertFalse(os.path.exists(self.path("evil")))
            shutil.rmtree(self.path("hand"))
            shutil.rmtree(self.path("out"), ignore_errors=True)
        self.hand_made({"schemaVersion": 1})
        self.bad("schemaVersion", "pull", self.path("hand"))

    def test_damage(self):
        """Every blob: cut off, changed, replaced by a link, gone."""
        digest = self.packed()
        m = json.load(open(self.blob(digest)))
        for d in [digest, m["config"]["digest"]] + [l["digest"] for l in m["layers"] if l["size"]]:
            path = self.blob(d)
            data = open(path, "rb").read()
            changed = bytes([data[0] ^ 1]) + data[1:]
            for bad in (data[:-1], data + b"x", changed, b""):
                open(path, "wb").write(bad)
                self.bad(r"truncated|other bytes|at most|not a JSON", "pull", self.path("oci"))
            os.unlink(path)
            self.bad("layout is not whole|no package " + d, "pull", f"oci:{self.path('oci')}@{digest}")
            self.path("elsewhere", data=data)
            os.symlink(self.path("elsewhere"), path)
            self.bad("symbolic links", "pull", self.path("oci"))
            os.unlink(path)
            open(path, "wb").write(data)
        self.assertEqual(self.good("pull", "-q", self.path("oci")), digest)


class Signing(Base):
    def test_signatures(self):
        digest, (key, public), (other, other_public) = self.packed(), self.key(), self.key("other")
        oci = self.path("oci")
        self.bad("not signed", "pull", "--verify-key", public, oci)
        self.assertEqual(os.stat(key).st_mode & 0o777, 0o600)
        self.good("sign", "--key", key, oci)
        self.assertEqual(self.good("pull", "-q", "--verify-key", public, oci), digest)
        self.bad("by a key you trust", "pull", "--verify-key", other_public, oci)
        self.good("pull", "--verify-key", other_public, "--verify-key", public, oci)
        self.good("sign", "--key", other, oci)  # both stay
        self.good("pull", "--verify-key", public, oci)
        self.good("pull", "--verify-key", other_public, oci)
        # As cosign has it: payload, annotation, Ed25519 over the payload itself.
        index = json.load(open(self.path("oci", "index.json")))
        entry = next(e for e in index["manifests"] if e["annotations"]["org.opencontainers.image.ref.name"] == f"sha256-{digest[7:]}.sig")
        layer = json.load(open(self.blob(entry["digest"])))["layers"][0]
        self.assertEqual(layer["mediaType"], "application/vnd.dev.cosign.simplesigning.v1+json")
        payload = self.blob(layer["digest"])
        self.assertEqual(json.load(open(payload))["critical"]["image"]["docker-manifest-digest"], digest)
        self.path("signature", data=base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"]))
        ok = subprocess.run(["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", payload, "-sigfile",
                             self.path("signature")], capture_output=True)
        self.assertEqual(ok.returncode, 0, ok.stderr + ok.stdout)

    def test_stolen_signature(self):
        """The signature of one package under the tag of another."""
        first, (key, public) = self.packed("--tag", "1"), self.key()
        self.good("sign", "--key", key, f"oci:{self.path('oci')}:1")
        second = self.packed("--tag", "2", config=b"")
        path = self.path("oci", "index.json")
        text = open(path).read()
        open(path, "w").write(text.replace(f"sha256-{first[7:]}.sig", f"sha256-{second[7:]}.sig"))
        self.bad("by a key you trust", "pull", "--verify-key", public, f"oci:{self.path('oci')}:2")

    def test_p256(self):
        self.packed()
        private, public = self.path("p256"), self.path("p256.pub")
        subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private], check=True)
        subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
        self.good("sign", "--key", private, self.path("oci"))
        self.good("pull", "--verify-key", public, self.path("oci"))
        self.bad("private key", "sign", "--key", public, self.path("oci"))


class Encryption(Base):
    def test_encrypted(self):
        digest = self.packed("--encrypt", self.path("content.key"))
        self.assertEqual(os.stat(self.path("content.key")).st_size, 32)
        for name in os.listdir(self.path("oci", "blobs", "sha256")):
            data = open(self.path("oci", "blobs", "sha256", name), "rb").read()
            self.assertFalse(MODULE in data or b"hello" in data)
        self.assertEqual(self.good("pull", "-q", self.path("oci")), digest)  # checked, as far as that goes without the key
        self.bad("no key was given", "pull", "-u", self.path("out"), self.path("oci"))
        self.bad("no key was given", "deploy", "--dry-run", self.path("oci"))
        self.path("wrong.key", data=bytes(32))
        self.bad("another key", "pull", "--decrypt-key", self.path("wrong.key"), self.path("oci"))
        self.path("short.key", data=bytes(31))
        self.bad("expected 32 bytes", "pull", "--decrypt-key", self.path("short.key"), self.path("oci"))
        self.assertEqual(self.good("pull", "-q", "--decrypt-key", self.path("content.key"), "-u", self.path("out"), self.path("oci")), digest)
        self.assertEqual(open(self.path("out", "main.wasm"), "rb").read(), MODULE)
        self.assertEqual(self.good("pull", "-q", "-o", self.path("copy"), self.path("oci")), digest)  # copied without the key


    def test_what_the_configuration_reads(self):
        """Certificates and policies are part of the configuration, and as plain; all else is encrypted."""
        pem = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                              os.devnull, "-subj", "/CN=x"], capture_output=True, check=True).stdout
        self.path("shop", "static", "ca.pem", data=pem)  # mounted and trusted
        digest = self.packed("--encrypt", self.path("key"), config=b"""[[mounts]]
host = "static"
guest = "/static"
[[files]]
kind = "connect"
host = "h.example"
trust = ["./static/ca.pem"]
""")
        m = json.load(open(self.blob(digest)))
        kinds = {l["annotations"].get("org.opencontainers.image.title"): l["mediaType"].partition("+")[2] for l in m["layers"]}
        self.assertEqual(kinds, {None: "aes256gcm", "static/a/index.html": "aes256gcm", "static/ca.pem": "", "static/empty": "aes256gcm"})
        out = self.good("deploy", "--dry-run", "--decrypt-key", self.path("key"), self.path("oci"))
        self.assertEqual(out.split()[:2], self.good("deploy", "--dry-run", self.path("shop")).split()[:2])
        self.good("pull", "-q", "--decrypt-key", self.path("key"), "-u", self.path("out"), self.path("oci"))
        self.assertEqual(open(self.path("out", "static", "ca.pem"), "rb").read(), pem)
        self.assertEqual(open(self.path("out", "static", "a", "index.html"), "rb").read(), b"<p>hello\n")

    def test_key_for_what_is_plain(self):
        self.packed()
        self.path("key", data=bytes(32))
        self.bad("not encrypted, though a key", "pull", "--decrypt-key", self.path("key"), self.path("oci"))


REGISTRY = shutil.which("docker-registry")


@unittest.skipUnless(REGISTRY, "no docker-registry")
class Registry(Base):
    def start(self, more=""):
        self.path("registry.yml", data=f"""version: 0.1
storage: {{filesystem: {{rootdirectory: {self.path('registry')}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:0"}}
{more}""".encode())
        p = subprocess.Popen([REGISTRY, "serve", self.path("registry.yml")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (p.kill(), p.wait(), p.stderr.close()))
        for line in p.stderr:
            found = re.search(r"listening on 127\.0\.0\.1:(\d+)", line)
            if found:
                threading.Thread(target=lambda: [None for _ in p.stderr], daemon=True).start()
                return f"127.0.0.1:{found[1]}"
        self.fail("docker-registry did not start")

    def test_registry(self):
        host, digest, (key, public) = self.start(), self.packed(), self.key()
        self.good("sign", "--key", key, self.path("oci"))
        ref = f"{host}/team/shop"
        self.assertEqual(self.good("push", self.path("oci"), f"{ref}:1.0"), f"{ref}@{digest}")
        self.assertEqual(self.good("push", self.path("oci"), f"{ref}:1.0"), f"{ref}@{digest}")  # everything is there
        self.assertEqual(self.good("pull", "--verify-key", public, "-u", self.path("out"), f"{ref}:1.0"), f"{ref}@{digest}")
        self.assertEqual(open(self.path("out", "main.wasm"), "rb").read(), MODULE)
        self.assertEqual(self.good("pull", "-q", "-o", self.path("back"), f"{ref}@{digest}"), digest)
        self.assertEqual(self.good("pull", "-q", "--verify-key", public, self.path("back")), digest)
        # Signed where it is; a tag that moves is resolved anew, a digest is not.
        other, other_public = self.key("other")
        self.good("sign", "--key", other, f"{ref}:1.0")
        self.good("pull", "--verify-key", other_public, f"{ref}@{digest}")
        self.good("pull", "--verify-key", public, f"{ref}@{digest}")
        second = self.packed("--tag", "2", config=b"")
        self.good("push", f"oci:{self.path('oci')}:2", f"{ref}:1.0")
        self.assertEqual(self.good("pull", "-q", f"{ref}:1.0"), second)
        self.assertEqual(self.good("pull", "-q", f"{ref}@{digest}"), digest)
        self.bad("not signed", "pull", "--verify-key", public, f"{ref}:1.0")
        self.bad("status 404", "pull", f"{ref}:none")
        self.bad("status 404", "pull", f"{host}/team/none:1")
        # Registry to registry.
        self.assertEqual(self.good("push", "-q", f"{ref}@{digest}", f"{host}/other:x"), digest)

    def test_credentials(self):
        import warnings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import crypt
        hashed = crypt.crypt("secret", "$2b$05$" + "abcdefghijklmnopqrstuu")
        if not hashed or not hashed.startswith("$2b$"):
            self.skipTest("no bcrypt in crypt(3)")
        self.path("htpasswd", data=f"user:{hashed}\n".encode())
        host = self.start(f"auth: {{htpasswd: {{realm: test, path: {self.path('htpasswd')}}}}}\n")
        digest, ref = self.packed(), f"{host}/shop:1"
        self.bad("wants credentials", "push", self.path("oci"), ref)
        self.path("user", data=b"user:secret\n")
        self.path("nobody", data=b"user:wrong\n")
        self.bad("other than the ones given|status 401", "push", "--user-file", self.path("nobody"), self.path("oci"), ref)
        self.assertEqual(self.good("push", "-q", "--user-file", self.path("user"), self.path("oci"), ref), digest)
        auth = base64.b64encode(b"user:secret").decode()
        self.path("docker", "config.json", data=json.dumps({"auths": {host: {"auth": auth}}}).encode())
        self.assertEqual(self.good("pull", "-q", ref, env={"DOCKER_CONFIG": self.path("docker")}), digest)


class Liar(http.server.BaseHTTPRequestHandler):
    """A registry that serves whatever the test says."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.seen.append((self.path, self.headers.get("Authorization")))
        status, headers, body = self.server.answer(self)
        self.send_response(status)
        for k, v in headers.items():
            self.send_header(k, v)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass
        self.close_connection = True
    do_HEAD = do_POST = do_PUT = do_GET


class Lies(Base):
    def setUp(self):
        super().setUp()
        self.digest = self.packed()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
        self.server.seen, self.server.answer = [], self.honest
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(lambda: (self.server.shutdown(), self.server.server_close()))
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.ref = f"{self.host}/shop@{self.digest}"
        self.replace = {}

    def honest(self, r):
        name = r.path.rsplit("/", 1)[1]
        if name == "latest":
            name = self.digest
        if name in self.replace:
            return 200, {}, self.replace[name]
        try:
            return 200, {}, open(self.blob(name), "rb").read()
        except OSError:
            return 404, {}, b"{}"

    def test_other_bytes(self):
        self.assertEqual(self.good("pull", "-q", self.ref), self.digest)
        data = open(self.blob(self.digest), "rb").read()
        # Another manifest than asked for, even a good one.
        self.replace = {self.digest: data.replace(b"static", b"statIc")}
        self.bad("not the one asked for", "pull", "-u", self.path("out"), self.ref)
        wasm = sha(MODULE)
        for bad, why in ((MODULE[:-1] + b"x", "other bytes"), (MODULE[:-1], "truncated"), (MODULE + b"x", "more than"),
                         (b"", "truncated"), (b"\0" * (64 << 20), "more than")):
            self.replace = {wasm: bad}
            self.bad(why, "pull", "-u", self.path("out"), self.ref)
            self.assertFalse(os.path.exists(self.path("out")))
        self.replace = {self.digest: b"{" * (5 << 20)}
        self.bad("more than", "pull", self.ref)

    def test_truncated_transfer(self):
        def cut(r):
            status, headers, body = self.honest(r)
            return status, {"Content-Length": str(len(body))}, body[:-3] if "blobs" in r.path else body
        self.server.answer = cut
        self.bad("pull: ", "pull", "-u", self.path("out"), self.ref)
        self.assertFalse(os.path.exists(self.path("out")))

    def test_tag_is_pinned(self):
        """Between two requests the tag moves: what was resolved first is what is read, signature and all."""
        key, public = self.key()
        self.good("sign", "--key", key, self.path("oci"))
        index = json.load(open(self.path("oci", "index.json")))
        signature = next(e["digest"] for e in index["manifests"] if e["annotations"]["org.opencontainers.image.ref.name"].endswith(".sig"))
        other = json.loads(open(self.blob(self.digest), "rb").read())
        other["layers"][0]["digest"] = sha(b"evil")
        other = json.dumps(other).encode()
        asked = []

        def moving(r):
            name = r.path.rsplit("/", 1)[1]
            if name == "latest":
                asked.append(name)
                return (200, {}, other) if len(asked) > 1 else (200, {}, open(self.blob(self.digest), "rb").read())
            if name.endswith(".sig"):
                return 200, {}, open(self.blob(signature), "rb").read()
            return self.honest(r)
        self.server.answer = moving
        out = self.good("pull", "--verify-key", public, "-u", self.path("out"), f"{self.host}/shop")
        self.assertEqual((out, len(asked)), (self.ref, 1))
        self.assertEqual(open(self.path("out", "main.wasm"), "rb").read(), MODULE)
        self.bad("not signed|key you trust", "pull", "--verify-key", public, f"{self.host}/shop")

    def test_redirects(self):
        hops = []

        def away(r):
            if "/blobs/" in r.path and not r.path.startswith("/else"):
                hops.append(r.path)
                return 307, {"Location": "/elsewhere" + r.path}, b""
            return self.honest(r)
        self.server.answer = away
        self.assertEqual(self.good("pull", "-q", self.ref), self.digest)
        self.assertTrue(hops)
        self.server.answer = lambda r: (307, {"Location": r.path + "x"}, b"")
        self.bad("redirects", "pull", self.ref)
        self.server.answer = lambda r: (307, {"Location": "file:///etc/passwd"}, b"")
        self.bad("rotocol", "pull", self.ref)

    def test_tokens(self):
        def guarded(r):
            if r.path.startswith("/token"):
                good = r.headers.get("Authorization") == "Basic " + base64.b64encode(b"user:secret").decode()
                return (200, {}, b'{"token":"open-sesame"}') if good else (401, {}, b"{}")
            if r.headers.get("Authorization") != "Bearer open-sesame":
                return 401, {"WWW-Authenticate": f'Bearer realm="http://{self.host}/token",service="liar",scope="everything"'}, b"{}"
            return self.honest(r)
        self.server.answer = guarded
        self.bad("no token", "pull", self.ref)
        self.path("user", data=b"user:secret")
        self.assertEqual(self.good("pull", "-q", "--user-file", self.path("user"), self.ref), self.digest)
        asked = [p for p, _ in self.server.seen if p.startswith("/token")]
        self.assertTrue(all("repository%3Ashop%3Apull" in p and "everything" not in p for p in asked), asked)
        # A token is not sent to where a blob was moved.
        second = http.server.ThreadingHTTPServer(("127.0.0.2", 0), Liar)
        second.seen, second.answer = [], lambda r: self.honest(r)
        threading.Thread(target=second.serve_forever, daemon=True).start()
        self.addCleanup(lambda: (second.shutdown(), second.server_close()))

        def moved(r):
            if "/blobs/" in r.path and r.headers.get("Authorization") == "Bearer open-sesame":
                return 307, {"Location": f"http://127.0.0.2:{second.server_port}{r.path}"}, b""
            return guarded(r)
        self.server.answer = moved
        self.assertEqual(self.good("pull", "-q", "--user-file", self.path("user"), self.ref), self.digest)
        self.assertTrue(second.seen)
        self.assertEqual({a for _, a in second.seen}, {None})
        # Nor are credentials to a token service that is not on https.
        self.server.answer = lambda r: (401, {"WWW-Authenticate": 'Bearer realm="ftp://evil.example/token"'}, b"{}")
        self.bad("not on https", "pull", "--user-file", self.path("user"), self.ref)

    def test_https_by_default(self):
        self.bad("donjon pull: https://", "pull", self.ref.replace("127.0.0.1", "registry.invalid"))


if __name__ == "__main__":
    unittest.main(verbosity=1)
