#!/usr/bin/env python3
"""Packages in other hands: skopeo, which knows OCI layouts and registries and nothing of Donjon, copies them about."""
import json, os, shutil, subprocess, sys, unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path += [HERE, os.path.join(HERE, "..", "deploy")]
from test_package import Base, Registry, REGISTRY, sha  # noqa: E402

SKOPEO = shutil.which("skopeo")
if not SKOPEO or not REGISTRY:
    print("SKIP: needs", "skopeo" if not SKOPEO else "docker-registry", "(Debian package of that name)")
    sys.exit(77)
import host  # noqa: E402


class Skopeo(Base):
    start = Registry.start

    def skopeo(self, *args):
        p = subprocess.run([SKOPEO, "--insecure-policy", "--registries.d", self.path("registries.d"), *args], capture_output=True, timeout=60,
                           env={**os.environ, "HOME": self.dir, "TMPDIR": self.dir})
        self.assertEqual(p.returncode, 0, p.stderr)
        return p.stdout

    def copy(self, source, target):
        tls = [f"--{side}-tls-verify=false" for side, name in (("src", source), ("dest", target)) if name.startswith("docker:")]
        self.skopeo("copy", "-q", *tls, source, target)

    def setUp(self):
        super().setUp()
        os.mkdir(self.path("registries.d"))
        self.registry = self.start()

    def workload(self, reference, *options):
        return self.good("deploy", "--dry-run", *options, reference).split()[1]

    def there_and_back(self, digest, *options):
        """From the layout into a registry and into another layout: the same package, by digest and by workload."""
        layout = f"oci:{self.path('oci')}"
        self.assertEqual(sha(self.skopeo("inspect", "--raw", f"{layout}:latest")), digest)
        wanted = self.workload(f"{layout}@{digest}", *options)
        self.copy(f"{layout}:latest", f"docker://{self.registry}/team/shop:1")
        self.assertEqual(self.workload(f"{self.registry}/team/shop@{digest}", *options), wanted)
        self.copy(f"docker://{self.registry}/team/shop:1", f"oci:{self.path('back')}:1")
        self.assertEqual(self.workload(f"oci:{self.path('back')}@{digest}", *options), wanted)
        self.good("push", self.path("back"), f"{self.registry}/team/again:1")  # what skopeo has made, donjon takes
        raw = self.skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{self.registry}/team/again:1")
        self.assertEqual(sha(raw), digest)

    def test_plain(self):
        self.there_and_back(self.packed())

    def test_encrypted(self):
        self.there_and_back(self.packed("--encrypt", self.path("content.key")), "--decrypt-key", self.path("content.key"))

    def test_signatures(self):
        """Signatures are images under tags of their own: copied by name, or along with the package, as cosign's are."""
        digest, (key, public) = self.packed(), self.key()
        self.good("sign", "--key", key, self.path("oci"))
        tag = f"sha256-{digest[7:]}.sig"
        for name in "latest", tag:
            self.copy(f"oci:{self.path('oci')}:{name}", f"docker://{self.registry}/team/shop:{name}")
        self.good("pull", "--verify-key", public, f"{self.registry}/team/shop@{digest}")
        tags = json.loads(self.skopeo("list-tags", "--tls-verify=false", f"docker://{self.registry}/team/shop"))["Tags"]
        self.assertEqual(sorted(tags), ["latest", tag])
        self.path("registries.d", "here.yaml", data=f"docker: {{'{self.registry}': {{use-sigstore-attachments: true}}}}\n".encode())
        self.copy(f"docker://{self.registry}/team/shop:latest", f"docker://{self.registry}/team/other:1")
        self.assertEqual(self.good("pull", "-q", "--verify-key", public, f"{self.registry}/team/other:1"), digest)

    def test_deployed(self):
        """An encrypted package that skopeo has brought to a registry, deployed from there."""
        if not os.path.exists(f"{host.BIN}/donjon-keep") or not shutil.which("wat2wasm"):
            self.skipTest("needs donjon-keep and wat2wasm")
        os.mkdir(self.path("app"))
        shutil.copy(host.module("hello"), self.path("app", "main.wasm"))
        digest = self.good("pack", "-q", "-o", self.path("oci"), "--encrypt", self.path("content.key"), self.path("app"))
        self.copy(f"oci:{self.path('oci')}:latest", f"docker://{self.registry}/team/hello:1")
        with host.Agent(keep=None) as agent:
            p = host.Tenant(agent).deploy("--backend", "process", "--decrypt-key", self.path("content.key"), f"{self.registry}/team/hello@{digest}")
        self.assertEqual((p.returncode, p.stdout), (0, b"hello\n"), p.stderr)


if __name__ == "__main__":
    unittest.main()
