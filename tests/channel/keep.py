"""Keeps held by donjon-keep, as the agent would hold them, and tenants of all kinds: keep.py BACKEND [CASE...]"""
import json, os, pathlib, re, select, shutil, socket, ssl, subprocess, sys, tempfile, threading, time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from backends import backends  # noqa: E402

BIN, SOURCE = pathlib.Path(os.environ["DONJON_BIN"]), pathlib.Path(os.environ["DONJON_SOURCE"])
BACKEND = sys.argv[1]
SECRET = "correct-horse-battery-staple-" + os.urandom(8).hex()
TMP = pathlib.Path(tempfile.mkdtemp(prefix="donjon-channel-"))
WAIT = 60


def skip(why):
    print("SKIP:", why)
    shutil.rmtree(TMP)
    sys.exit(77)


def build_program(source):
    clang = next((c for c in ("clang", "clang-14") if shutil.which(c)), None)
    out = TMP / (pathlib.Path(source).stem + ".wasm")
    command = [clang, "--target=wasm32-wasi", "-O1", str(SOURCE / source), "-o", str(out)]
    if not clang or subprocess.run(command, capture_output=True).returncode:
        skip("no clang that makes WASI programs (clang, lld, wasi-libc, libclang-rt-dev-wasm32)")
    return out


class Keep:
    def __init__(self, *options):
        self.dir = pathlib.Path(tempfile.mkdtemp(dir=TMP))
        r, w = os.pipe()
        self.err = open(self.dir / "err", "wb")
        self.token, (token, token_in) = "0123456789abcdef" * 4, os.pipe()
        os.write(token_in, self.token.encode())
        os.close(token_in)
        self.process = subprocess.Popen(
            [BIN / "donjon-keep", "--dir", self.dir, "--status-fd", str(w), "--backend", BACKEND, "--signer", SIGNER,
             "--token-fd", str(token), *options], pass_fds=[w, token], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.err, start_new_session=True)
        os.close(w), os.close(token)
        with open(r) as f:
            self.status = json.loads(f.readline())
        self.control = None

    def __enter__(self):
        assert self.status["ok"], self.status
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.err.close()
        assert b"ERROR: " not in (self.dir / "err").read_bytes(), (self.dir / "err").read_text()

    def ask(self, **message):
        if not self.control:
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(WAIT)
            s.connect(str(self.dir / "control"))
            self.control = s.makefile("rw")
            self.control.write(json.dumps({"op": "hello", "token": self.token}) + "\n")
        self.control.write(json.dumps(message) + "\n")
        self.control.flush()
        while True:
            answer = json.loads(self.control.readline())
            if answer.get("op") == message["op"]:
                return answer

    def wait_state(self, state):
        end = time.time() + WAIT
        while self.ask(op="status")["state"] != state:
            assert time.time() < end, f"never {state}"
            time.sleep(0.02)

    def ended(self):
        code = self.process.wait(WAIT)
        assert code == 0, f"donjon-keep ended with {code}: " + (self.dir / "err").read_text()
        return json.loads((self.dir / "end.json").read_text())["exit"]

    def tenant(self, verb, *options, stdin=b"", socket_path=None, measurement=None, family=None, **kw):
        command = [BIN / "channel_tenant", verb, socket_path or self.dir / "socket", "--root", ROOT, "--measurement",
                   measurement or MEASUREMENT, "--family", family or BACKEND, "--owner", "me", *options]
        return subprocess.run(command, input=stdin, capture_output=True, timeout=WAIT, **kw)

    def start(self, verb, *options, **kw):
        command = [BIN / "channel_tenant", verb, self.dir / "socket", "--root", ROOT, "--owner", "me", *options]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)


def config(*words, more=""):
    path = TMP / f"{len(list(TMP.iterdir()))}.toml"
    path.write_text(f"args = {json.dumps(list(words))}\n{more}")
    return ["--wasm", PROGRAM, "--config", path]


def said(run, text):
    assert text in run.stderr.decode(), run.stderr.decode()


SECRETS = '[[secrets]]\nname = "db"\nenv = "DB"\n[[secrets]]\nname = "key.pem"\n'


def weigh(text):
    total = 0
    for b in text.encode():
        total = (total * 31 + b) & 0xffffffff
    return f"{len(text)} bytes, {total}"


# ---- cases ----

def case_deploy():
    words = ["say", "hello", "env", "A", "file", "/etc/app/x.conf", "err", "oops", "cat", "exit", "7"]
    with Keep() as k:
        assert k.status["backend"] == BACKEND and k.status["measurement"] == MEASUREMENT
        assert k.ask(op="status")["state"] == "waiting"
        run = k.tenant("deploy", *config(*words, more='[env]\nA = "b"\n'), "--file", "etc/app/x.conf=content", stdin=b"in\n")
        assert run.stdout == b"hello\nA=b\n/etc/app/x.conf: content\nin\n", run
        assert run.returncode == 7
        said(run, "oops\n")
        assert k.ended() == {"outcome": "exited", "code": 7, "text": None}


def case_secrets():
    """A secret reaches the program, and is nowhere else: not in what the host relays, stores, logs, nor in its memory."""
    words = ["weigh-env", "DB", "weigh-file", "/run/secrets/key.pem", "tick", "25"]
    with Keep("--debug") as k:
        traffic, path = bytearray(), k.dir / "tap"
        tap = socket.socket(socket.AF_UNIX)
        tap.bind(str(path))
        tap.listen()

        def relay():
            a = tap.accept()[0]
            b = socket.socket(socket.AF_UNIX)
            b.connect(str(k.dir / "socket"))
            while True:
                for s in select.select([a, b], [], [])[0]:
                    data = s.recv(65536)
                    if not data:
                        return
                    traffic.extend(data)
                    (b if s is a else a).sendall(data)

        threading.Thread(target=relay, daemon=True).start()
        arguments = [*config(*words, more=SECRETS), "--secret", "db=" + SECRET, "--secret", "key.pem=" + SECRET * 2]
        result = []
        thread = threading.Thread(target=lambda: result.append(k.tenant("deploy", *arguments, socket_path=path)))
        thread.start()
        k.wait_state("running")
        needle = SECRET.encode()
        if BACKEND == "process":  # a kvm keep's memory is in this process: only a TEE changes that
            assert needle not in memory_of(k.process.pid)
        thread.join()
        run = result[0]
        assert f"DB: {weigh(SECRET)}" in run.stdout.decode() and f"key.pem: {weigh(SECRET * 2)}" in run.stdout.decode(), run
        assert len(traffic) > 1000 and needle not in traffic
        k.ended()
        for f in k.dir.iterdir():
            assert not f.is_file() or needle not in f.read_bytes(), f


def memory_of(pid):
    """All that can be read of it; nothing where this user may not look."""
    found = bytearray()
    try:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
            for line in maps:
                low, high = (int(x, 16) for x in line.split()[0].split("-"))
                if "r" in line.split()[1] and high - low < 1 << 28 and "[v" not in line:
                    try:
                        mem.seek(low)
                        found += mem.read(high - low)
                    except OSError:
                        pass
    except PermissionError:
        pass
    return found


def case_secrets_refused():
    with Keep() as k:
        files = config("say", "x", more=SECRETS)
        run = k.tenant("deploy", *files, "--secret", "db=x")
        assert run.returncode == 120
        said(run, 'the secret "key.pem" is missing')
        run = k.tenant("deploy", *files, "--secret", "db=x", "--secret", "key.pem=y", "--secret", "other=z")
        said(run, "a secret that the configuration does not name")
        run = k.tenant("deploy", *config("say", "x", more='[env]\nDB = "1"\n' + SECRETS), "--secret", "db=x")
        said(run, "has the name of a secret's")
        run = k.tenant("deploy", *config("say", "x", more='[[mounts]]\nhost = "/"\nguest = "/data"\n'))
        said(run, "a deployed keep has none")
        assert k.tenant("deploy", *files, "--secret", "db=x", "--secret", "key.pem=y").stdout == b"x\n"  # and is still good


def case_detached():
    with Keep() as k:
        assert k.tenant("logs").returncode == 120
        run = k.tenant("deploy", *config("cat", "say", "begin", "tick", "200", "exit", "3"), "--detach")
        assert run.returncode == 0 and run.stdout == b"", run
        digest = re.search("workload (.*)", run.stderr.decode()).group(1)
        said(k.tenant("deploy", *config("say", "x")), "has a workload already")
        for verb in ("attach", "logs", "stop", "identify"):
            said(k.tenant(verb, "--owner", "another"), "belongs to somebody else")
        assert k.tenant("evidence", "--digest", digest).returncode == 0
        assert k.tenant("evidence", "--digest", "00" * 32).returncode == 120
        assert k.tenant("identify").returncode == 0
        assert k.tenant("logs").stdout.startswith(b"begin\n")
        followers = [k.start("logs", "--follow") for _ in range(3)] + [k.start("attach", "--replay")]
        whole = b"begin\n" + b"".join(b"tick %d\n" % i for i in range(200))
        for f in followers:
            out, err = f.communicate(timeout=WAIT)
            assert out == whole and f.returncode == 3, (out, err)
        assert k.ended() == {"outcome": "exited", "code": 3, "text": None}


def case_lingers():
    """The log of a detached program outlives it, for its owner."""
    with Keep() as k:
        assert k.tenant("deploy", *config("say", "bye", "trap"), "--detach").returncode == 0
        k.wait_state("exited")
        assert k.ask(op="status")["exit"] == {"outcome": "trapped", "code": 134, "text": None}
        assert k.process.poll() is None
        run = k.tenant("logs")
        assert run.stdout == b"bye\n"
        said(run, "unreachable")
        assert k.ended()["outcome"] == "trapped"
        assert b"unreachable" not in (k.dir / "end.json").read_bytes() + (k.dir / "err").read_bytes()


def case_cut():
    """A lost connection is a detach."""
    with Keep() as k:
        k.tenant("deploy", *config("say", "one", "tick", "30", "cat"), "--cut")
        attached = k.start("attach", "--replay")
        out, _ = attached.communicate(b"typed\n", timeout=WAIT)
        assert out.startswith(b"one\ntick 0\n") and out.endswith(b"typed\n"), out
        assert k.ended()["code"] == 0


def case_stop():
    with Keep() as k:
        run = k.start("deploy", *config("say", "x", "cat"))
        assert run.stdout.readline() == b"x\n"
        assert k.tenant("stop").returncode == 106
        out, err = run.communicate(timeout=WAIT)
        assert run.returncode == 106, err
        assert k.ended() == {"outcome": "stopped", "code": 143, "text": None}
    with Keep() as k:  # by the agent, and although the program listens to nobody
        k.tenant("deploy", *config("spin"), "--detach")
        k.wait_state("running")
        k.ask(op="stop")
        assert k.ended() == {"outcome": "stopped", "code": 143, "text": None}


def case_much():
    """Bytes in both directions, more than any buffer; and what is remembered of them."""
    data = os.urandom(3 << 20)
    with Keep() as k:
        run = k.tenant("deploy", *config("cat"), stdin=data)
        assert run.stdout == data, (len(run.stdout), run.stderr)
    with Keep() as k:
        k.tenant("deploy", *config("fill", "20000", "tick", "1"), "--detach")
        k.wait_state("exited")
        run = k.tenant("logs")
        lost = int(re.search(r"lost (\d+)", run.stderr.decode()).group(1))
        assert lost + len(run.stdout) == 20000 * 64 + len("tick 0\n") and len(run.stdout) >= 256 << 10
        assert run.stdout.endswith(b"19999\ntick 0\n")


def case_busy():
    """A program that computes answers at its calls."""
    with Keep() as k:
        k.tenant("deploy", *config("say", "begin", "work", "4"), "--detach")
        k.wait_state("running")
        begin = time.time()
        assert k.tenant("logs").stdout == b"begin\n"
        assert time.time() - begin < 2.5, "the log came only when the program ended"


# Computing for ever, in each of the ways that code can be interrupted in.
FOREVER = (("nest", "0xffffffffffffffff", ""), ("fib", "100", ""), ("copy", "0xffffffffffffffff", ""),
           ("nest", "0xffffffffffffffff", "[wasm]\ninterpret = true\n"), ("fib", "100", "[wasm]\nexplicit-checks = true\n"))


def soon(begin, what):
    took = time.time() - begin
    print(f"{BACKEND}: {what} after {took * 1000:.0f} ms")
    assert took < 10, what


def case_computes():
    """A program that computes, and calls nobody, is reached by its tenants all the same."""
    for what, n, more in FOREVER:
        with Keep() as k:
            k.tenant("deploy", *config("say", "begin", "compute", what, n, more=more), "--detach")
            k.wait_state("running")
            begin = time.time()
            assert k.tenant("logs").stdout == b"begin\n"
            soon(begin, f"logs of {what}")
            begin = time.time()
            assert k.tenant("evidence").returncode == 0 and k.tenant("identify").returncode == 0
            soon(begin, f"evidence and identify of {what}")
            attached, follower = k.start("attach", "--replay"), k.start("logs", "--follow")
            assert attached.stdout.readline() == follower.stdout.readline() == b"begin\n"
            begin = time.time()
            assert k.tenant("stop").returncode == 106
            soon(begin, f"stop of {what}")
            for tenant in (attached, follower):
                tenant.communicate(timeout=WAIT)
                assert tenant.returncode == 106
            assert k.ended() == {"outcome": "stopped", "code": 143, "text": None}


def case_computes_the_same():
    """... and finds what it would have found without."""
    work = ["compute", "nest", "30000", "compute", "fib", "33", "compute", "copy", "1500"]
    with Keep() as k:
        alone = k.tenant("deploy", *config(*work)).stdout
    assert alone.count(b"\n") == 3
    for more in ("", "[wasm]\nexplicit-checks = true\n"):
        with Keep() as k:
            k.tenant("deploy", *config("say", "begin", *work * 3, "trap", more=more), "--detach")
            k.wait_state("running")
            attached, served = k.start("attach", "--replay"), 0
            while attached.poll() is None:
                served += k.tenant("identify").returncode == 0
            assert served > 2
            out, err = attached.communicate(timeout=WAIT)
            assert out == b"begin\n" + alone * 3, out
            assert attached.returncode == 102 and b"unreachable" in err, err
            k.ended()


def case_computes_for_too_long():
    """The time's end reaches those who are attached, whatever they are doing."""
    with Keep() as k:
        k.tenant("deploy", *config("say", "begin", "compute", *FOREVER[0][:2], more='[limits]\ntime = "3s"\n'), "--detach")
        k.wait_state("running")
        attached, served = k.start("attach", "--replay"), 0
        while attached.poll() is None:
            served += k.tenant("identify").returncode == 0
        assert served > 1
        out, err = attached.communicate(timeout=WAIT)
        assert out == b"begin\n" and attached.returncode == 103, err
        assert b"wall time limit of 3s exceeded" in err, err
        assert k.ended() == {"outcome": "timeout", "code": 124, "text": None}


def case_unread_input():
    """What a tenant says does not wait behind input that the program does not read."""
    forever = config("say", "begin", "compute", *FOREVER[0][:2])
    with Keep() as k:
        run = k.tenant("deploy", *forever, "--then", "detach", stdin=bytes(4 << 20))
        assert run.returncode == 0 and run.stdout == b"begin\n", run
        run = k.tenant("attach", "--then", "more", stdin=bytes(4 << 20))
        assert run.returncode == 120, run
        said(run, "more input than there was credit for")
        others = [k.start("attach") for _ in range(6)]
        assert k.tenant("identify").returncode == 0
        run = k.tenant("attach", "--then", "stop", stdin=bytes(4 << 20))
        assert run.returncode == 106, run
        for other in others:
            other.communicate(timeout=WAIT)
            assert other.returncode == 106
        assert k.ended()["outcome"] == "stopped"
    with Keep() as k:  # nothing is lost, and it comes in order, however late it is read
        data = os.urandom(1 << 20)
        run = k.start("deploy", *config("say", "begin", "tick", "50", "cat"))
        assert run.stdout.readline() == b"begin\n"
        out, _ = run.communicate(data, timeout=WAIT)
        assert out.endswith(data) and run.returncode == 0, len(out)


def case_relay():
    """A host that ends TLS itself has evidence for another connection."""
    with Keep() as k:
        path = k.dir / "middle"
        middle = subprocess.Popen([BIN / "channel_tenant", "relay", path, k.dir / "socket"], stdout=subprocess.PIPE)
        assert middle.stdout.readline() == b"ready\n"
        run = k.tenant("deploy", *config("say", "x"), socket_path=path)
        middle.kill()
        middle.wait()
        assert run.returncode == 120
        said(run, "policy.report_data")
        assert k.ask(op="status")["state"] == "waiting"


def case_wrong_keep():
    with Keep() as k:
        said(k.tenant("deploy", *config("say", "x"), measurement="00" * 48), "policy.measurement")
        other = "kvm" if BACKEND == "process" else "process"
        said(k.tenant("deploy", *config("say", "x"), family=other), "snp.family_id")
        assert k.ask(op="status")["state"] == "waiting"


def case_rubbish():
    """Whatever comes through the socket, the next tenant is served."""
    with Keep() as k:
        for data in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(70000), b"\x16\x03\x01\x02\x00\x01", b"\x16\x03\x01\xff\xff" * 9):
            s = socket.socket(socket.AF_UNIX)
            s.connect(str(k.dir / "socket"))
            try:
                s.sendall(data)
            except OSError:
                pass
            s.close()
        idle = []
        for _ in range(40):  # more than the keep has places: the oldest make room
            s = socket.socket(socket.AF_UNIX)
            s.connect(str(k.dir / "socket"))
            idle.append(s)
        assert k.tenant("deploy", *config("say", "x")).stdout == b"x\n"


def case_refused_module():
    with Keep() as k:
        (TMP / "bad.wasm").write_bytes(b"\0asm\1\0\0\0\x0a\x01")
        files = config("say", "x")
        files[1] = TMP / "bad.wasm"
        run = k.tenant("deploy", *files)
        assert run.returncode == 104, run
        said(run, "malformed module")
        assert k.ended() == {"outcome": "refused", "code": 125, "text": None}


def case_ports():
    listen = '[[files]]\nkind = "stdout"\n[[files]]\nkind = "listen"\nname = "www"\nprot = "tcp"\naddr = "127.0.0.1"\nport = 0\n'
    with Keep() as k:
        k.tenant("deploy", *config("work", "3", more=listen), "--detach")
        k.wait_state("running")
        (port,) = k.ask(op="status")["ports"]
        socket.create_connection(("127.0.0.1", port), 5).close()
        k.ask(op="stop")


def case_reach():
    """A keep listens and connects where its host lets it."""
    listen = '[[files]]\nkind = "stdout"\n[[files]]\nkind = "listen"\nname = "x"\nprot = "tcp"\naddr = "127.0.0.1"\nport = %d\n'
    connect = '[[files]]\nkind = "null"\n[[files]]\nkind = "stdout"\n[[files]]\nkind = "connect"\nhost = "localhost"\nprot = "tcp"\nport = %d\n'
    with Keep("--listen", "47000-47999") as k:
        k.tenant("deploy", *config("work", "3", more=listen % 0), "--detach")
        k.wait_state("running")
        assert 47000 <= k.ask(op="status")["ports"][0] <= 47999
        k.ask(op="stop")
    for options in (["--listen", "47000-47999"], ["--listen", "none"]):
        with Keep(*options) as k:
            run = k.tenant("deploy", *config("say", "x", more=listen % 46999))
            assert run.returncode == 104 and run.stdout == b"", run
            said(run, "cannot listen on 127.0.0.1 port 46999: not allowed (EACCES)")
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
        for options, answer in ((["--connect", "any"], b"x\n"), (["--connect", "public"], b""), (["--connect", "none"], b"")):
            with Keep(*options) as k:
                run = k.tenant("deploy", *config("say", "x", more=connect % port))
                assert run.stdout == answer, run
                assert answer or b"EACCES" in run.stderr, run


def case_locked():
    """All threads of donjon-keep are locked in, once the keep is built."""
    with Keep() as k:
        threads = list(pathlib.Path(f"/proc/{k.process.pid}/task").iterdir())
        assert len(threads) >= 3
        for thread in threads:
            status = dict(line.split(":\t", 1) for line in (thread / "status").read_text().splitlines() if ":\t" in line)
            assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", status


def case_stuck_connection():
    """A peer that never answers keeps nobody from ending the keep."""
    connect = '[[files]]\nkind = "null"\n[[files]]\nkind = "connect"\nhost = "127.0.0.1"\nprot = "tcp"\nport = %d\n'
    with socket.socket() as server, Keep() as k:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        waiting = []
        for _ in range(4):  # fill its queue: the next one gets no answer
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(server.getsockname())
            waiting.append(s)
        time.sleep(0.2)
        tenant = k.start("deploy", *config("say", "x", more=connect % server.getsockname()[1]), "--detach")
        time.sleep(0.5)
        assert k.ask(op="status")["state"] == "waiting"
        begin = time.time()
        k.ask(op="stop")
        assert k.ended()["outcome"] == "stopped" and time.time() - begin < 10
        tenant.communicate(timeout=WAIT)


def case_web():
    """HTTPS from the keep, with evidence in its certificate, while its tenant reads the log."""
    listen = '[[files]]\nkind = "null"\n[[files]]\nkind = "stdout"\n[[files]]\nkind = "stderr"\n' \
             '[[files]]\nkind = "listen"\nname = "web"\naddr = "127.0.0.1"\nport = 0\n'
    with Keep() as k:
        files = config(more=listen)
        files[1] = WEB
        k.tenant("deploy", *files, "--detach")
        k.wait_state("running")
        (port,) = k.ask(op="status")["ports"]
        follower = k.start("logs", "--follow")
        any_certificate = ssl.create_default_context()
        any_certificate.check_hostname, any_certificate.verify_mode = False, ssl.CERT_NONE
        for i in range(20):
            with any_certificate.wrap_socket(socket.create_connection(("127.0.0.1", port), WAIT)) as s:
                s.sendall(b"GET /echo?%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % i)
                assert s.makefile("rb").read().endswith(b"%d" % i)
            if i % 5 == 0:
                assert k.tenant("identify").returncode == 0
        verify = subprocess.run([BIN / "donjon-attest", "verify", "--dev-root", ROOT, "--url", f"https://127.0.0.1:{port}"],
                                capture_output=True, text=True)
        assert "wrapper.key" in verify.stdout and "policy.software" in verify.stdout.splitlines()[-1], verify.stdout
        assert k.tenant("stop").returncode == 106
        assert follower.communicate(timeout=WAIT) and follower.returncode == 106


def case_time_limit():
    with Keep() as k:
        run = k.tenant("deploy", *config("say", "x", "spin", more='[limits]\ntime = "500ms"\n'))
        assert run.stdout == b"x\n" and run.returncode == 103
        said(run, "wall time limit of 500ms exceeded")
        assert k.ended() == {"outcome": "timeout", "code": 124, "text": None}


def case_control():
    """Only who knows the token is heard on the control socket; who does not is not even in the way."""
    with Keep() as k:
        assert k.ask(op="status")["state"] == "waiting"

        def stranger(said):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(WAIT)
            s.connect(str(k.dir / "control"))
            s.sendall(said)
            return s

        stop, hello = b'{"op":"stop"}\n', '{"op":"hello","token":"%s"}\n'
        for said in (stop, b"\n", b"no JSON\n", b"x" * 300, b'{"op":"hello"}\n' + stop, b'{"op":"hello","token":7}\n' + stop,
                     (hello % ("0" * 64)).encode() + stop, (hello % k.token[:-1]).encode() + stop, (hello % (k.token[:-1] + "0")).encode() + stop,
                     (hello % (k.token + "0")).encode() + stop, ('{"op":"status","token":"%s"}\n' % k.token).encode() + stop):
            with stranger(said) as s:
                try:
                    assert s.recv(100) == b"", said
                except ConnectionResetError:
                    pass
        silent = [stranger(b"") for _ in range(12)]
        assert k.ask(op="status")["state"] == "waiting"  # over the connection that was there all the time
        old, k.control = k.control, None
        assert k.ask(op="status")["state"] == "waiting"  # the next agent
        old.close()
        for s in silent:
            s.close()
        arguments = pathlib.Path(f"/proc/{k.process.pid}/cmdline").read_bytes() + pathlib.Path(f"/proc/{k.process.pid}/environ").read_bytes()
        assert k.token.encode() not in arguments
        k.ask(op="stop")
        k.ended()


def case_steward():
    """The keep asks its steward through the agent; without an answer there is no certificate, and no program."""
    ca = TMP / "ca.pem"
    ca.write_text(ROOT.read_text())
    # What may pass is asked for three times, what is an answer once. Answers to other questions are nobody's, nor is a second.
    for times, answer in ((3, {"error": "cannot be reached"}), (3, {"status": 200, "body": "!"}), (3, {"status": 503, "body": "bm8="}),
                          (3, {"status": 200, "body": "A" * 90000}), (1, {"status": 403, "body": "bm8="}), (1, {"status": 200, "body": "AAAA"})):
        with Keep() as k:
            control = socket.socket(socket.AF_UNIX)
            control.settimeout(WAIT)
            control.connect(str(k.dir / "control"))
            lines = control.makefile("rw")
            lines.write(json.dumps({"op": "hello", "token": k.token}) + "\n")
            lines.flush()
            run = k.start("deploy", *config("say", "x", more=f'steward = "https://steward.example"\n[tls]\nsteward-ca = "{ca}"\n'))
            control.settimeout(5)
            for _ in range(times):
                while "upcall" not in (m := json.loads(lines.readline())):
                    pass
                assert m["upcall"] == "steward" and m["url"].startswith("https://steward.example") and m["which"] == "nonce", m
                for at in (0, m["id"] + 1, m["id"], m["id"]):
                    lines.write(json.dumps({"answer": "steward", "id": at, **answer}) + "\n")
                lines.flush()
            out, err = run.communicate(timeout=WAIT)
            assert run.returncode == 104 and out == b"" and b"steward" in err, err
            assert k.ended()["outcome"] == "refused"


def case_steward_and_agent():
    """An agent that dies with the question is not waited for: the next one is asked anew."""
    ca = TMP / "ca.pem"
    ca.write_text(ROOT.read_text())

    def agent(k):
        control = socket.socket(socket.AF_UNIX)
        control.settimeout(WAIT)
        control.connect(str(k.dir / "control"))
        lines = control.makefile("rw")
        lines.write(json.dumps({"op": "hello", "token": k.token}) + "\n")
        lines.flush()
        return control, lines

    def question(lines):
        while "upcall" not in (m := json.loads(lines.readline())):
            pass
        return m
    with Keep() as k:
        control, lines = agent(k)
        run = k.start("deploy", *config("say", "x", more=f'steward = "https://steward.example"\n[tls]\nsteward-ca = "{ca}"\n'))
        first = question(lines)
        lines.close()
        control.close()
        time.sleep(1.5)  # the keep asks again meanwhile, and nobody is there
        control, lines = agent(k)
        second = question(lines)
        assert second["id"] != first["id"], (first, second)
        lines.write(json.dumps({"answer": "steward", "id": first["id"], "status": 200, "body": ""}) + "\n")
        lines.write(json.dumps({"answer": "steward", "id": second["id"], "status": 403, "body": "bm8="}) + "\n")
        lines.flush()
        out, err = run.communicate(timeout=WAIT)
        assert run.returncode == 104 and out == b"" and b"403" in err, err


def case_unfed():
    with Keep("--idle", "1") as k:
        assert k.ended()["outcome"] == "unfed"


def case_broken():
    k = Keep("--warden", "/nonexistent")
    assert not k.status["ok"] and "/nonexistent" in k.status["error"], k.status
    k.process.wait(WAIT)


cases = [c for n, c in list(globals().items()) if n.startswith("case_")]
if BACKEND not in backends():
    skip(f"no {BACKEND} keep can be built here (see donjon platform info)")
missing = [p for p in ("donjon-keep", "donjon-warden-tls", "donjon-shim", "donjon-attest") if not (BIN / p).exists()]
if missing:
    skip("not built: " + ", ".join(missing))
PROGRAM = build_program("tests/channel/program.c")
WEB = build_program("examples/c/web.c")
SIGNER, ROOT = TMP / "signer.pem", TMP / "root.pem"
subprocess.run([BIN / "channel_tenant", "signer", SIGNER, ROOT], check=True)
measured = subprocess.run([BIN / "donjon-attest", "measure", "--warden", BIN / "donjon-warden-tls", BIN / "donjon-shim"],
                          capture_output=True, text=True, check=True).stdout
MEASUREMENT = re.search("snp.measurements: (.*)", measured).group(1)
failed = 0
for c in cases:
    if len(sys.argv) > 2 and c.__name__ not in ["case_" + a for a in sys.argv[2:]]:
        continue
    begin = time.time()
    try:
        c()
        print(f"ok {c.__name__} {time.time() - begin:.1f} s")
    except Exception as e:  # also subprocess.TimeoutExpired
        failed += 1
        import traceback
        traceback.print_exc()
        print(f"FAILED {c.__name__}: {e!r}")
shutil.rmtree(TMP, ignore_errors=True)
sys.exit(failed != 0)
