"""A steward for tests: certificates of a few seconds by `openssl ca`, and every way of not answering in time."""
import http.server, os, subprocess, threading, time

CONFIG = """
[ca]
default_ca = c
[c]
database = index.txt
serial = serial
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
default_md = sha256
policy = any
copy_extensions = copyall
unique_subject = no
x509_extensions = leaf
[any]
commonName = optional
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
"""


class SlowSteward:
    """`how` is what it does from now on: "well", a number of seconds that each answer takes, "hangs", "cuts" (closes without a
    word), "huge", "twice" (two answers in one), or an HTTP status."""

    def __init__(self, directory, life):
        self.dir, self.life, self.how = directory, life, "well"
        self.asked = []  # (time, path)
        self.lock = threading.Lock()
        os.makedirs(directory)
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj",
                     "/CN=slow steward", "-days", "2", "-addext", "basicConstraints=critical,CA:TRUE")
        for name, text in (("ca.cnf", CONFIG), ("index.txt", ""), ("serial", "1000")):
            with open(f"{directory}/{name}", "w") as f:
                f.write(text)
        steward = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                self.serve()

            def do_POST(self):
                self.serve()

            def serve(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                steward.asked.append((time.time(), self.path))
                how = steward.how
                if isinstance(how, float):
                    time.sleep(how)
                if how == "hangs":
                    steward.over.wait()
                if how in ("hangs", "cuts"):
                    return
                status, answer = 200, os.urandom(32)
                if isinstance(how, int):
                    status, answer = how, b"not now"
                elif how == "huge":
                    answer = b"x" * (1 << 20)
                elif self.path == "/v1/certify":
                    answer = steward.certify(body)
                if how == "twice":
                    answer = answer * 2
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)
                except OSError:
                    pass

        self.over = threading.Event()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def openssl(self, *args, **kw):
        return subprocess.run(["openssl", *args], check=True, capture_output=True, cwd=self.dir, **kw).stdout

    def certify(self, csr):
        stamp = lambda t: time.strftime("%Y%m%d%H%M%SZ", time.gmtime(t))
        with self.lock:
            with open(f"{self.dir}/r.der", "wb") as f:
                f.write(csr)
            now = time.time()
            return self.openssl("ca", "-batch", "-config", "ca.cnf", "-inform", "DER", "-in", "r.der", "-notext", "-startdate", stamp(now - 60),
                                "-enddate", stamp(now + self.life), "-subj", "/CN=localhost")

    def count(self, path="/v1/nonce"):
        return sum(p == path for _, p in self.asked)

    def wait_asked(self, more, path="/v1/nonce", within=20):
        end = time.time() + within
        while self.count(path) < more and time.time() < end:
            time.sleep(0.02)
        return self.count(path) >= more

    def close(self):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()
