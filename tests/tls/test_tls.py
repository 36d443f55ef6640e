#!/usr/bin/env python3
"""TLS files from end to end: an HTTPS server in a keep (examples/c/web.c), and everything that can come to its port."""
import os, re, shutil, socket, ssl, subprocess, sys, tempfile, threading, time, unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from backends import backends  # noqa: E402

BIN = os.environ["DONJON_BIN"]
SOURCE = os.environ.get("DONJON_SOURCE", ".")
BACKEND = os.environ.get("DONJON_BACKEND", "process")
DONJON = os.path.join(BIN, "donjon")
tmp = None
programs = {}

CLIENT = r"""
#include <stdio.h>
#include <string.h>
#include <errno.h>
#include <unistd.h>
int main(void) { /* descriptor 3 is the connection: sends its standard input's first line, prints what comes back */
    char text[4096];
    ssize_t n = read(0, text, sizeof text);
    if (n > 0 && write(3, text, (size_t)n) != n) return printf("write: %s\n", strerror(errno)), 2;
    while ((n = read(3, text, sizeof text)) > 0) fwrite(text, 1, (size_t)n, stdout);
    if (n < 0) return printf("read: %s\n", strerror(errno)), 3;
    return 0;
}
"""
# Answers the first half-closed connection with all that came, then ends. Blocking, on descriptor 3.
ECHO = r"""
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    static char text[1 << 20];
    for (;;) {
        size_t got = 0;
        ssize_t n;
        int fd = accept(3, NULL, NULL);
        if (fd < 0) return 1;
        while ((n = read(fd, text + got, sizeof text - got)) > 0) got += (size_t)n;
        printf("got %zu, end %s\n", got, n < 0 ? strerror(errno) : "clean");
        fflush(stdout);
        for (size_t at = 0; n == 0 && at < got; at += (size_t)n)
            if ((n = write(fd, text + at, got - at)) <= 0) break;
        close(fd);
        if (got >= 3 && !memcmp(text, "end", 3)) return 0;
    }
}
"""


def skip(why):
    print("SKIP:", why)
    sys.exit(77)


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def build(name, source):
    path, out = os.path.join(tmp, name + ".c"), os.path.join(tmp, name + ".wasm")
    if source is None:
        path = os.path.join(SOURCE, "examples/c", name + ".c")
    else:
        write(path, source)
    cc = ["clang-14", "--target=wasm32-wasi", "-O2"]
    subprocess.run(cc + ["-c", path, "-o", out + ".o"], check=True)
    subprocess.run(cc + ["-Wl,-z,stack-size=1048576", out + ".o", "-o", out], check=True)
    programs[name] = out


def openssl(*args, **kw):
    return subprocess.run(["openssl", *args], check=True, capture_output=True, cwd=tmp, **kw).stdout


def make_pki():
    """Two CAs; a server's and a client's certificate from each."""
    for ca in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{ca}.key", "-out",
                f"{ca}.pem", "-subj", f"/CN={ca}", "-days", "2", "-addext", "basicConstraints=critical,CA:TRUE")
        for who in ("server", "client"):
            openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{ca}-{who}.key", "-out",
                    "r.csr", "-subj", f"/CN={who}")
            write(os.path.join(tmp, "x"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
            openssl("x509", "-req", "-in", "r.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-out", f"{ca}-{who}.pem", "-days", "2",
                    "-extfile", "x")


def free_port():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
    s.close()
    return port


def stdio(files):
    return '[[files]]\nkind = "stdin"\n[[files]]\nkind = "stdout"\n[[files]]\nkind = "stderr"\n' + files


class Keep:
    """A program in a keep, listening (or not) as the configuration says; its standard error is kept."""

    def __init__(self, program, files, args=(), more="", port=0, command=None, wait=True, binary=False, before=""):
        self.wait = wait and "PORT" in files
        self.port = port or free_port()
        self.toml = os.path.join(tmp, f"{self.port}.toml")
        write(self.toml, before + stdio(files.replace("PORT", str(self.port))) + more)
        self.log = open(os.path.join(tmp, f"{self.port}.log"), "w+")
        run = [DONJON, "run", "--debug", "--backend", BACKEND, "--config", self.toml, programs[program], "--", *args]
        self.p = subprocess.Popen(command(self, program, args) if command else run, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=self.log, text=not binary)

    def __enter__(self):
        end = time.time() + 20
        while self.wait and time.time() < end and self.p.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                time.sleep(0.02)
        return self

    def __exit__(self, *_):
        self.p.kill()
        self.p.wait()
        for f in (self.p.stdin, self.p.stdout, self.log):
            f.close()

    def said(self):
        self.log.flush()
        with open(self.log.name) as f:
            return f.read()


LISTEN = '[[files]]\nkind = "listen"\nname = "web"\naddr = "127.0.0.1"\nport = PORT\n'


def context(**kw):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    c.suppress_ragged_eofs = False
    for k, v in kw.items():
        setattr(c, k, v)
    return c


def connect(keep, c=None):
    return (c or context()).wrap_socket(socket.create_connection(("127.0.0.1", keep.port), 10), server_hostname="localhost")


def get(s, path="/", close=False):
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{'Connection: close' + chr(13) + chr(10) if close else ''}\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        piece = s.recv(65536)
        if not piece:
            raise EOFError(data)
        data += piece
    head, body = data.split(b"\r\n\r\n", 1)
    size = int(re.search(rb"Content-Length: (\d+)", head)[1])
    while len(body) < size:
        piece = s.recv(65536)
        if not piece:
            raise EOFError(len(body))
        body += piece
    return body


class Server(unittest.TestCase):
    def test_curl_believes_the_certificate_it_was_given(self):
        with Keep("web", LISTEN, more='[tls]\nnames = ["keep.example", "127.0.0.1"]\n') as k:
            pem = ssl.get_server_certificate(("127.0.0.1", k.port))
            write(os.path.join(tmp, "keep.pem"), pem)
            url = f"https://keep.example:{k.port}/echo?hello"
            base = ["curl", "-sS", "--resolve", f"keep.example:{k.port}:127.0.0.1", "--cacert", os.path.join(tmp, "keep.pem")]
            self.assertEqual(subprocess.run(base + [url], capture_output=True, text=True).stdout, "hello")
            bad = subprocess.run(base[:-1] + [os.path.join(tmp, "ca.pem"), url], capture_output=True, text=True)
            self.assertEqual(bad.returncode, 60, bad.stderr)
            other = subprocess.run(["curl", "-sS", "--resolve", f"other.example:{k.port}:127.0.0.1", "--cacert",
                                    os.path.join(tmp, "keep.pem"), f"https://other.example:{k.port}/"], capture_output=True, text=True)
            self.assertEqual(other.returncode, 60, other.stderr)

    def test_only_tls_13(self):
        with Keep("web", LISTEN) as k:
            c = context(maximum_version=ssl.TLSVersion.TLSv1_2)
            with self.assertRaisesRegex(ssl.SSLError, "alert protocol version"):
                connect(k, c)
            with connect(k) as s:
                self.assertEqual(s.version(), "TLSv1.3")
                self.assertEqual(get(s, "/echo?still"), b"still")
            self.assertIn("TLS server: no handshake", k.said())

    def test_what_is_no_greeting(self):
        """Garbage, half a greeting, a plain request, silence: none keeps the server from serving others."""
        with Keep("web", LISTEN) as k:
            others = [socket.create_connection(("127.0.0.1", k.port), 10) for _ in range(4)]
            others[0].sendall(os.urandom(5000))
            others[1].sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            others[2].sendall(b"GET / HTTP/1.1\r\n\r\n")
            for _ in range(3):
                with connect(k) as s:
                    self.assertEqual(len(get(s)), 64)
            try:
                while others[2].recv(100):
                    pass
            except ConnectionResetError:
                pass
            for o in others:
                o.close()
            with connect(k) as s:
                self.assertEqual(len(get(s)), 64)

    def test_large_pages_and_many_requests(self):
        with Keep("web", LISTEN, ["3000000"]) as k:
            with connect(k) as s:
                first = get(s)
                self.assertEqual(len(first), 3000000)
                self.assertEqual(get(s), first)
        with Keep("web", LISTEN, ["10"]) as k:
            with connect(k) as s:
                for i in range(300):
                    self.assertEqual(get(s, f"/echo?{i}"), str(i).encode())

    def test_peer_that_stops_reading(self):
        """Its connection waits; the others do not."""
        with Keep("web", LISTEN, ["20000000"]) as k:
            with connect(k) as slow:
                slow.sendall(b"GET / HTTP/1.1\r\n\r\n")
                time.sleep(0.3)
                for _ in range(3):
                    with connect(k) as s:
                        self.assertEqual(get(s, "/echo?quick"), b"quick")
                data = slow.recv(1 << 16)
                total = 0
                while total < 20000000:
                    total += len(data)
                    data = slow.recv(1 << 16) if total < 20000000 else b""
                self.assertGreaterEqual(total, 20000000)

    def test_thousand_idle_connections(self):
        with Keep("web", LISTEN) as k:
            idle = []
            c = context()
            try:
                for i in range(1000):
                    idle.append(connect(k, c))
                self.assertEqual(get(idle[0], "/echo?first"), b"first")
                self.assertEqual(get(idle[999], "/echo?last"), b"last")
                for i in range(0, 1000, 50):
                    self.assertEqual(get(idle[i], f"/echo?{i}"), str(i).encode())
            finally:
                for s in idle:
                    s.close()
            with connect(k) as s:
                self.assertEqual(get(s, "/echo?after"), b"after")

    def test_written_before_the_end_arrives(self):
        """What a program wrote and left is sent although the connection is closed and the program at its end."""
        with Keep("web", LISTEN, ["2000000", "1"]) as k:
            with connect(k) as s:
                self.assertEqual(len(get(s, close=True)), 2000000)
                self.assertEqual(s.recv(10), b"")  # close_notify: with ragged ends not suppressed, anything else raises
            self.assertEqual(k.p.wait(20), 0)

    def test_resumption(self):
        with Keep("web", LISTEN) as k:
            c = context()
            with connect(k, c) as s:
                get(s)
                session = s.session
            with c.wrap_socket(socket.create_connection(("127.0.0.1", k.port)), server_hostname="localhost", session=session) as s:
                self.assertEqual(get(s, "/echo?again"), b"again")
                self.assertTrue(s.session_reused)

    def test_certificate(self):
        with Keep("web", LISTEN) as k:
            text = openssl("x509", "-noout", "-text", input=ssl.get_server_certificate(("127.0.0.1", k.port)).encode()).decode()
            for part in ("DNS:localhost, IP Address:127.0.0.1", "CA:FALSE", "prime256v1",
                         "TLS Web Server Authentication, TLS Web Client Authentication"):
                self.assertIn(part, text)


class Blocking(unittest.TestCase):
    """A program that knows of nothing but read and write, one connection at a time."""

    def test_half_closed(self):
        """close_notify one way; the answer comes the other. OpenSSL's s_client closes its side at the end of its input."""
        with Keep("echo", LISTEN) as k:
            for text in (b"a" * 10, b"b" * 500000):
                p = subprocess.Popen(["openssl", "s_client", "-quiet", "-no_ign_eof", "-connect", f"127.0.0.1:{k.port}"], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
                p.stdin.write(text)
                p.stdin.close()
                p.wait(20)
                p.stdout.close()
                line = k.p.stdout.readline()
                while line == "got 0, end Connection aborted\n" or line.startswith("got 0, end Software"):
                    line = k.p.stdout.readline()  # Keep.__enter__'s knock
                self.assertEqual(line, f"got {len(text)}, end clean\n")

    def test_cut_connection_is_an_error(self):
        with Keep("echo", LISTEN) as k:
            s = connect(k)
            s.sendall(b"half of it")
            raw = socket.socket(fileno=os.dup(s.fileno()))
            raw.shutdown(socket.SHUT_WR)
            line = k.p.stdout.readline()
            while line.startswith("got 0"):
                line = k.p.stdout.readline()
            self.assertRegex(line, "got 10, end .*reset")
            self.assertIn("the connection was cut", k.said())
            raw.close()
            s.close()


@unittest.skipUnless(os.environ.get("DONJON_SLOW"), "takes two thirds of the shortest life, a minute")
class Renewal(unittest.TestCase):
    def test_new_certificate_old_connection(self):
        with Keep("web", LISTEN, more='[tls]\nlifetime = "60s"\n') as k:
            with connect(k) as old:
                before = old.getpeercert(True)
                self.assertEqual(get(old, "/echo?before"), b"before")
                time.sleep(42)
                self.assertIn("the certificate was renewed", (connect(k).close(), k.said())[1])
                with connect(k) as new:
                    self.assertNotEqual(new.getpeercert(True), before)
                    self.assertEqual(get(new, "/identity"), ssl.DER_cert_to_PEM_cert(new.getpeercert(True)).encode())
                self.assertEqual(get(old, "/echo?after"), b"after")


class SelfView(unittest.TestCase):
    """/run/donjon and the import, on a host that makes no evidence."""

    def test_without_evidence(self):
        for files, size in (("", "-1"), (LISTEN.replace("PORT", "0"), r"\d{3,4}")):
            toml = os.path.join(tmp, "self.toml")
            write(toml, stdio(files))
            r = subprocess.run([DONJON, "run", "--backend", BACKEND, "--config", toml, programs["evidence"]], capture_output=True, text=True)
            self.assertEqual((r.returncode, r.stdout), (1, ""), r.stderr)
            self.assertRegex(r.stderr, f"identity.pem: {size} bytes\n.*evidence: -1 bytes\ndonjon.evidence: this keep has none")

    def test_steward_that_cannot_be_had(self):
        """No falling back to a certificate of the keep's own."""
        toml = os.path.join(tmp, "steward.toml")
        write(toml, 'steward = "https://steward.example"\n' + stdio(LISTEN.replace("PORT", "0")) + '[tls]\nsteward-ca = "ca.pem"\n')
        r = subprocess.run([DONJON, "run", "--backend", BACKEND, "--config", toml, programs["evidence"]], capture_output=True, text=True)
        self.assertEqual((r.returncode, r.stdout), (125, ""), r.stderr)
        self.assertIn("no way to the steward https://steward.example/v1/nonce", r.stderr)


class MutualTLS(unittest.TestCase):
    FILES = LISTEN + 'client-auth = "require"\ntrust = ["ca.pem"]\n'

    def test_who_is_let_in(self):
        with Keep("web", self.FILES) as k:
            good = context()
            good.load_cert_chain(os.path.join(tmp, "ca-client.pem"), os.path.join(tmp, "ca-client.key"))
            for _ in range(2):
                with connect(k, good) as s:
                    self.assertEqual(get(s, "/echo?in"), b"in")
                    self.assertFalse(s.session_reused)
            bad = context()
            bad.load_cert_chain(os.path.join(tmp, "other-client.pem"), os.path.join(tmp, "other-client.key"))
            for c in (bad, context()):
                with self.assertRaises((ssl.SSLError, ConnectionResetError, EOFError)):
                    with connect(k, c) as s:
                        get(s)
            self.assertIn("unable to get local issuer certificate", k.said())
            self.assertIn("peer did not return a certificate", k.said())
            with connect(k, good) as s:
                self.assertEqual(get(s, "/echo?in"), b"in")


class Client(unittest.TestCase):
    """connect files: this script is the server."""

    def serve(self, cert, version=None, client_ca=None, talk=True):
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        c.load_cert_chain(os.path.join(tmp, cert + ".pem"), os.path.join(tmp, cert + ".key"))
        if version:
            c.maximum_version = version
        if client_ca:
            c.verify_mode = ssl.CERT_REQUIRED
            c.load_verify_locations(client_ca)
        listener = socket.create_server(("127.0.0.1", 0))
        seen = {}

        def one():
            try:
                raw, _ = listener.accept()
                if not talk:
                    seen["raw"] = raw
                    return
                with c.wrap_socket(raw, server_side=True) as s:
                    seen["peer"] = s.getpeercert(True)
                    text = s.recv(1000)
                    s.sendall(b"you said: " + text)
                    s.unwrap()
            except (ssl.SSLError, OSError) as e:
                seen["error"] = str(e)
            finally:
                listener.close()
        thread = threading.Thread(target=one)
        thread.start()
        return listener.getsockname()[1], thread, seen

    def run_client(self, port, keys):
        toml = os.path.join(tmp, f"c{port}.toml")
        write(toml, stdio(f'[[files]]\nkind = "connect"\nhost = "127.0.0.1"\nport = {port}\n{keys}'))
        return subprocess.run([DONJON, "run", "--debug", "--backend", BACKEND, "--config", toml, programs["client"]], input="hello\n",
                              capture_output=True, text=True, timeout=60)

    def test_good(self):
        for keys in ('trust = ["ca.pem"]\n', 'trust = ["other.pem", "ca.pem"]\nserver-name = "localhost"\n'):
            port, thread, seen = self.serve("ca-server")
            r = self.run_client(port, keys)
            thread.join()
            self.assertEqual((r.returncode, r.stdout), (0, "you said: hello\n"), r.stderr)

    def test_refused(self):
        for cert, keys, said in (("other-server", 'trust = ["ca.pem"]\n', "unable to get local issuer certificate"),
                                 ("ca-server", 'trust = ["ca.pem"]\nserver-name = "elsewhere.example"\n', "Hostname mismatch|hostname mismatch"),
                                 ("ca-server", 'trust = ["ca.pem"]\nserver-name = "127.0.0.2"\n', "IP address mismatch")):
            port, thread, seen = self.serve(cert)
            r = self.run_client(port, keys)
            thread.join()
            self.assertEqual((r.returncode, r.stdout), (2, "write: Permission denied\n"), r.stderr)
            self.assertRegex(r.stderr, said)
            self.assertNotIn("peer", seen)

    def test_old_server(self):
        port, thread, seen = self.serve("ca-server", version=ssl.TLSVersion.TLSv1_2)
        r = self.run_client(port, 'trust = ["ca.pem"]\n')
        thread.join()
        self.assertEqual((r.returncode, r.stdout), (2, "write: Protocol error\n"), r.stderr)

    def test_shows_the_keeps_certificate(self):
        """A server that asks for one sees the keep's; that nobody has issued it is the server's to judge."""
        port, thread, seen = self.serve("ca-server", client_ca=os.path.join(tmp, "ca.pem"))
        r = self.run_client(port, 'trust = ["ca.pem"]\n')
        thread.join()
        self.assertIn("self-signed certificate", seen["error"].replace("self signed", "self-signed"))
        self.assertNotEqual(r.returncode, 0)


def main(module="__main__", more={}):
    global tmp
    for program in ("clang-14", "openssl", "curl"):
        if not shutil.which(program):
            skip(f"no {program} on this machine")
    if BACKEND not in backends():
        skip(f"no {BACKEND} keep can be built here (see donjon platform info)")
    tmp = tempfile.mkdtemp(prefix="donjon-tls-")
    try:
        try:
            build("web", None)
            build("evidence", None)
        except subprocess.CalledProcessError:
            skip("clang has no wasi-libc")
        build("client", CLIENT)
        build("echo", ECHO)
        for name, source in more.items():
            build(name, source)
        make_pki()
        result = unittest.main(module, exit=False, verbosity=1).result
    finally:
        shutil.rmtree(tmp)
    sys.exit(not result.wasSuccessful())


if __name__ == "__main__":
    main()
