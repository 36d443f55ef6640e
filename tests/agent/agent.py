"""A running agent on loopback, and a tenant who speaks its protocol: for the tests of agent and deploy."""
import json, os, select, shutil, signal, socket, ssl, subprocess, tempfile, threading, time

BIN = os.environ.get("DONJON_BIN", "build/bin")
HERE = os.path.dirname(os.path.abspath(__file__))
FAKE = os.path.join(HERE, "fake_keep.py")


class Agent:
    """Its log is JSON, read by a thread; `port` and `key` are those of its first "serving"."""

    def __init__(self, *options, keep=FAKE, env=None, state=None, config=None):
        self.own = state is None
        self.state = state or tempfile.mkdtemp(prefix="dj", dir="/tmp")
        self.options = [f"{BIN}/donjon-agent", "--state", self.state, "--json", *options]
        if keep:
            self.options += ["--keep", keep]
        if config is not None:
            path = os.path.join(self.state, "agent.toml")
            with open(path, "w") as f:
                f.write(config)
            self.options += ["--config", path]
        if "--listen" not in options:
            self.options += ["--listen", "127.0.0.1:0"]
        self.env = dict(os.environ, **(env or {}))
        self.log, self.port = [], None
        self.start()

    def start(self, **popen):
        self.process = subprocess.Popen(self.options, stderr=subprocess.PIPE, env=self.env, **popen)
        seen = len(self.log)
        self.reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self.reader.start()
        self.serving = self.wait("serving", seen)
        self.port, self.key = int(self.serving["port"]), self.serving["key"]

    def _read(self, pipe):
        for line in pipe:
            try:
                self.log.append(json.loads(line))
            except ValueError:
                self.log.append({"event": "not JSON", "line": line.decode(errors="replace")})
        pipe.close()

    def wait(self, event, since=0, timeout=20, **fields):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for l in self.log[since:]:
                if l["event"] == event and all(l.get(k) == v for k, v in fields.items()):
                    return l
            if self.process.poll() is not None and not self.reader.is_alive():
                break
            time.sleep(0.01)
        raise AssertionError(f"the agent never said \"{event}\" {fields}: {self.log[since:]}")

    def kill(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        code = self.process.wait(30)
        self.reader.join(5)
        return code

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # drain; the second signal ends it at once
            self.kill(signal.SIGTERM)
        for k in self.records():
            try:
                os.kill(k["pid"], signal.SIGKILL)
            except OSError:
                pass
        if self.own:
            shutil.rmtree(self.state, ignore_errors=True)
        self.reader.join(5)
        wrong = [l["line"] for l in self.log if l["event"] == "not JSON"]
        assert not any("Sanitizer" in l or "runtime error" in l for l in wrong), "".join(wrong)

    __enter__ = lambda self: self
    __exit__ = lambda self, *_: self.close()

    def records(self):
        found = []
        folder = os.path.join(self.state, "records")
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            try:
                with open(os.path.join(folder, name)) as f:
                    found.append(json.load(f))
            except (OSError, ValueError):
                pass
        return found

    # ---- a tenant ----

    def connect(self, timeout=20):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        s = socket.create_connection(("127.0.0.1", self.port), timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(s)

    def ask(self, op, keep_open=False, **members):
        s = self.connect()
        s.sendall(json.dumps(dict({"v": 1, "op": op}, **members)).encode() + b"\n")
        answer = read_line(s)
        if keep_open:
            return answer, s
        s.close()
        return answer

    def create(self, **members):
        answer, s = self.ask("create", keep_open=True, **members)
        assert answer["ok"], answer
        return answer["keep"], s

    def keep(self, id, **members):
        return next((k for k in self.ask("list", **members)["keeps"] if k["id"] == id), None)

    def wait_state(self, id, state, timeout=20):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            k = self.keep(id)
            if k and k["state"] == state:
                return k
            time.sleep(0.02)
        raise AssertionError(f"keep {id} is {k}, expected {state}")


def read_line(s):
    data = b""
    while not data.endswith(b"\n"):
        d = s.recv(1)
        if not d:
            raise EOFError(f"closed after {data!r}")
        data += d
    return json.loads(data)


def exchange(s, data):
    """Sends `data` and receives as many bytes meanwhile. In one thread: an SSLSocket is not for two."""
    s.setblocking(False)
    got, sent, end = bytearray(), 0, time.monotonic() + 60
    while len(got) < len(data):
        assert time.monotonic() < end, f"{sent} sent, {len(got)} received"
        before = sent, len(got)
        try:
            if sent < len(data):
                sent += s.send(data[sent:sent + 16384])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        try:
            d = s.recv(65536)
            if not d:
                raise EOFError(f"closed after {len(got)} of {len(data)} bytes")
            got += d
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        if (sent, len(got)) == before:
            select.select([s], [s] if sent < len(data) else [], [], 1)
    s.setblocking(True)
    return bytes(got)


def read_exactly(s, n):
    data = b""
    while len(data) < n:
        d = s.recv(min(65536, n - len(data)))
        if not d:
            raise EOFError(f"closed after {len(data)} of {n} bytes")
        data += d
    return data
