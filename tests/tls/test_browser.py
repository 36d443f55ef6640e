#!/usr/bin/env python3
"""Browsers load a page from a keep: with a steward's CA among their authorities, and no switch that makes them careless.
Chromium and Firefox, whichever are here (Debian: chromium, firefox-esr, libnss3-tools)."""
import json, os, shutil, signal, socket, subprocess, sys, time, unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import test_tls as base
from test_evidence import Steward

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
CERTUTIL = shutil.which("certutil")
PATIENCE = 60  # for a browser to begin, on a busy machine


def trust(database, ca):
    """A new NSS database; with the CA as one for servers, if there is one."""
    os.makedirs(database)
    subprocess.run([CERTUTIL, "-d", f"sql:{database}", "-N", "--empty-password"], check=True, capture_output=True)
    if ca:
        subprocess.run([CERTUTIL, "-d", f"sql:{database}", "-A", "-t", "C,,", "-n", "steward", "-i", ca], check=True, capture_output=True)


def end(p):
    """The browser with its own processes: they are a group."""
    try:
        os.killpg(p.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    p.wait()
    for f in filter(None, (p.stdout, p.stderr)):
        f.close()


class Chromium:
    def __init__(self, home, ca):
        self.home = home
        trust(f"{home}/.pki/nssdb", ca)

    def page(self, url):
        # No sandbox of its own: it refuses to have one as root. Nothing here has to do with certificates.
        p = subprocess.Popen([CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                              "--disable-background-networking", f"--user-data-dir={self.home}/profile", "--dump-dom", url],
                             env={"PATH": os.environ["PATH"], "HOME": self.home, "XDG_RUNTIME_DIR": self.home}, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            page, said = p.communicate(timeout=PATIENCE)
            return page or said  # of a page that was refused it prints nothing
        finally:
            end(p)

    def close(self):
        pass


class Firefox:
    """Over Marionette, its remote control: lines of JSON behind their lengths."""

    def __init__(self, home, ca):
        profile, port = f"{home}/profile", base.free_port()
        trust(profile, ca)
        base.write(f"{profile}/user.js", f'user_pref("marionette.port", {port});\nuser_pref("network.proxy.type", 0);\n'
                   'user_pref("app.update.auto", false);\nuser_pref("datareporting.policy.dataSubmissionEnabled", false);\n'
                   'user_pref("network.captive-portal-service.enabled", false);\nuser_pref("network.connectivity-service.enabled", false);\n')
        self.p = subprocess.Popen([FIREFOX, "--headless", "--marionette", "--no-remote", "--profile", profile],
                                  env={"PATH": os.environ["PATH"], "HOME": home, "XDG_RUNTIME_DIR": home, "MOZ_HEADLESS": "1"},
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        self.buffer, self.number, until = b"", 0, time.time() + PATIENCE
        while True:
            try:
                self.s = socket.create_connection(("127.0.0.1", port), PATIENCE)
                break
            except OSError:
                if time.time() > until or self.p.poll() is not None:
                    end(self.p)
                    raise
                time.sleep(0.1)
        self.s.settimeout(PATIENCE)
        self.message()  # it says what it is
        self.ask("WebDriver:NewSession", acceptInsecureCerts=False)

    def message(self):
        while b":" not in self.buffer or len(self.buffer.split(b":", 1)[1]) < int(self.buffer.split(b":", 1)[0]):
            piece = self.s.recv(65536)
            if not piece:
                raise EOFError("Firefox has gone")
            self.buffer += piece
        size, rest = self.buffer.split(b":", 1)
        self.buffer = rest[int(size):]
        return json.loads(rest[:int(size)])

    def ask(self, command, **parameters):
        self.number += 1
        text = json.dumps([0, self.number, command, parameters]).encode()
        self.s.sendall(str(len(text)).encode() + b":" + text)
        _, _, error, result = self.message()
        return f"{error['error']}: {error['message']}" if error else result

    def page(self, url):
        error = self.ask("WebDriver:Navigate", url=url)
        return error if isinstance(error, str) else self.ask("WebDriver:GetPageSource")["value"]

    def close(self):
        self.s.close()
        end(self.p)


class Browser:
    """What is the same for both."""

    def browser(self, ca):
        self.count = getattr(self, "count", 0) + 1
        home = os.path.join(base.tmp, f"home{self.count}" + self.id())
        os.makedirs(home)
        b = self.kind(home, ca)
        self.addCleanup(b.close)
        return b

    def test_page(self):
        with self.keep() as k:
            b = self.browser(f"{self.dir}/ca.pem")
            for name in ("localhost", "127.0.0.1"):
                page = b.page(f"https://{name}:{k.port}/echo?Ardath-{name}")
                self.assertIn(f"Ardath-{name}", page, k.said())
                self.assertNotRegex(page, "(?i)err_cert|insecure")
            self.assertIn("certificate: the steward's, with evidence", k.said())

    def test_refused(self):
        """Without that CA; and a keep that signs for itself. The browsers do look."""
        b = self.browser(None)
        with self.keep() as k:
            page = b.page(f"https://localhost:{k.port}/echo?Ardath")
            self.assertNotIn("<pre>Ardath", page)
            self.assertRegex(page, self.refusal)
        b = self.browser(f"{self.dir}/ca.pem")
        with base.Keep("web", base.LISTEN) as k:
            page = b.page(f"https://localhost:{k.port}/echo?Ardath")
            self.assertRegex(page, self.refusal)


@unittest.skipUnless(CHROMIUM, "no Chromium here")
class WithChromium(Browser, Steward):
    kind, refusal = Chromium, "net_error -202"  # ERR_CERT_AUTHORITY_INVALID


@unittest.skipUnless(FIREFOX, "no Firefox here")
class WithFirefox(Browser, Steward):
    kind, refusal = Firefox, "insecure certificate"


# Steward's own tests are test_evidence.py's.
for name in [n for n in dir(Steward) if n.startswith("test_")]:
    setattr(Browser, name, None)
del Steward

if __name__ == "__main__":
    if not CERTUTIL:
        base.skip("no certutil here (libnss3-tools)")
    if not CHROMIUM and not FIREFOX:
        base.skip("no browser here (chromium, firefox-esr)")
    base.main(sys.modules["__main__"])
