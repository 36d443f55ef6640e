#!/usr/bin/env python3
"""An HTTPS program in a keep beside nginx serving the same bytes natively: requests a second, and CPU time of the server's
side for each, by where it goes.

    bench/https.py [BIN [SECONDS [CASE]]]      BIN: the build's bin directory (build/bin); CASE: a part of its name

One worker and one client thread each; TLS 1.3, P-256, the same cipher. Every contender in turn, three rounds, medians.
Exits 77 where something is missing."""
import os, re, shutil, socket, statistics, subprocess, sys, tempfile, time

BIN = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "build/bin")
SECONDS = int(sys.argv[2]) if len(sys.argv) > 2 else 3
ROUNDS = 3
HERE = os.path.dirname(os.path.abspath(__file__))
ONLY = sys.argv[3] if len(sys.argv) > 3 else ""
TICK = os.sysconf("SC_CLK_TCK")
CASES = [  # name, page's bytes, connections, wrk's extra arguments
    ("64 B, kept alive", 64, 64, []),
    ("10 KB, kept alive", 10000, 64, []),
    ("1 MB, kept alive", 1000000, 16, []),
    ("64 B, a connection each", 64, 16, ["-H", "Connection: close"]),
]


def missing(why):
    print("missing:", why)
    sys.exit(77)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def tree(pid):
    """The process and all below it."""
    found = [pid]
    for p in found:
        try:
            for task in os.listdir(f"/proc/{p}/task"):
                with open(f"/proc/{p}/task/{task}/children") as f:
                    found += [int(c) for c in f.read().split()]
        except OSError:
            pass
    return found


def cpu(pid):
    """Seconds by thread: (program, thread's place) -> (user, system, guest)."""
    times = {}
    for p in tree(pid):
        try:
            for i, task in enumerate(sorted(os.listdir(f"/proc/{p}/task"), key=int)):
                with open(f"/proc/{p}/task/{task}/stat") as f:
                    text = f.read()
                fields = text[text.rindex(")") + 2:].split()
                name = text[text.index("(") + 1:text.rindex(")")]
                times[(p, name, i)] = (int(fields[11]) / TICK, int(fields[12]) / TICK, int(fields[40]) / TICK)
        except OSError:
            pass
    return times


class Server:
    def __init__(self, command, port, tls):
        self.port, self.tls = port, tls
        self.p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise SystemExit(f"{command[0]} does not listen")

    def load(self, connections, extra):
        url = f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/"
        before = cpu(self.p.pid)
        out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", *extra, url], capture_output=True, text=True).stdout
        after = cpu(self.p.pid)
        n = int(re.search(r"(\d+) requests in", out)[1])
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
        spent = {k: tuple(a - b for a, b in zip(after[k], before.get(k, (0, 0, 0)))) for k in after}
        bad = re.search(r"Socket errors: (.*)|Non-2xx.*", out)
        return rate, n, spent, bad[0] if bad else ""

    def stop(self):
        self.p.terminate()
        self.p.wait()


def nginx(tmp, page, tls):
    port = free_port()
    directory = os.path.join(tmp, f"nginx{port}")
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "index.html"), "wb") as f:
        f.write(page)
    listen = f"listen 127.0.0.1:{port}{' ssl' if tls else ''};"
    cert = f"ssl_certificate {tmp}/cert.pem; ssl_certificate_key {tmp}/key.pem; ssl_protocols TLSv1.3; ssl_session_cache off;" if tls else ""
    with open(os.path.join(directory, "nginx.conf"), "w") as f:
        f.write(f"""daemon off; worker_processes 1; pid {directory}/pid; error_log /dev/null; user root;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; types {{ }} default_type text/plain; tcp_nodelay on; sendfile on;
server {{ {listen} {cert} root {directory}; }} }}
""")
    return Server(["nginx", "-p", directory, "-e", "/dev/null", "-c", os.path.join(directory, "nginx.conf")], port, tls)


def keep(tmp, backend, size, tls):
    port = free_port()
    toml = os.path.join(tmp, f"{port}.toml")
    with open(toml, "w") as f:
        f.write('[[files]]\nkind = "null"\n[[files]]\nkind = "null"\n[[files]]\nkind = "stderr"\n[[files]]\nkind = "listen"\nname = "web"\n'
                f'addr = "127.0.0.1"\nport = {port}\nprot = "{"tls" if tls else "tcp"}"\n')
    return Server([os.path.join(BIN, "donjon"), "run", "--backend", backend, "--config", toml, os.path.join(tmp, "web.wasm"), "--", str(size)],
                  port, tls)


def where(spent, n):
    """Microseconds of CPU for each request, summed by who spent them."""
    sums = {}
    for (_, name, i), (user, system, guest) in spent.items():
        if name == "donjon" and guest > 0.01:
            sums["keep"] = sums.get("keep", 0) + guest
            sums["entering and leaving it"] = sums.get("entering and leaving it", 0) + user + system - guest
        elif name == "donjon":
            sums["loader"] = sums.get("loader", 0) + user + system
        else:
            kind = "keep" if name.startswith("donjon-w") else name
            sums[kind] = sums.get(kind, 0) + user
            sums[kind + ", kernel"] = sums.get(kind + ", kernel", 0) + system
    return {k: v / max(n, 1) * 1e6 for k, v in sums.items() if v > 0.005}


def main():
    for program in ("wrk", "nginx", "openssl", "clang-14"):
        if not shutil.which(program):
            missing(program)
    kvm = os.access("/dev/kvm", os.R_OK | os.W_OK)
    with tempfile.TemporaryDirectory() as tmp:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{tmp}/key.pem",
                        "-out", f"{tmp}/cert.pem", "-subj", "/CN=localhost", "-days", "2"], check=True, capture_output=True)
        cc = ["clang-14", "--target=wasm32-wasi", "-O2"]
        subprocess.run(cc + ["-c", os.path.join(HERE, "../examples/c/web.c"), "-o", f"{tmp}/web.o"], check=True)
        subprocess.run(cc + ["-Wl,-z,stack-size=1048576", f"{tmp}/web.o", "-o", f"{tmp}/web.wasm"], check=True)
        for name, size, connections, extra in CASES:
            if ONLY not in name:
                continue
            page = bytes(10 if i % 64 == 63 else ord("a") + i % 26 for i in range(size))
            makers = {"nginx": lambda: nginx(tmp, page, True)}
            if kvm:
                makers["kvm keep"] = lambda: keep(tmp, "kvm", size, True)
            makers["process keep"] = lambda: keep(tmp, "process", size, True)
            if kvm:
                makers["kvm keep, no TLS"] = lambda: keep(tmp, "kvm", size, False)
            makers["nginx, no TLS"] = lambda: nginx(tmp, page, False)
            rates, costs, errors = {m: [] for m in makers}, {m: [] for m in makers}, {}
            for _ in range(ROUNDS):
                for m, make in makers.items():
                    s = make()
                    rate, n, spent, bad = s.load(connections, extra)
                    s.stop()
                    rates[m].append(rate)
                    costs[m].append(where(spent, n))
                    if bad:
                        errors[m] = bad
            print(f"\n{name}, {connections} connections")
            base = statistics.median(rates["nginx"])
            for m in makers:
                rate = statistics.median(rates[m])
                cost = costs[m][rates[m].index(rate)]
                split = ", ".join(f"{k} {v:.0f}" for k, v in sorted(cost.items(), key=lambda kv: -kv[1]))
                print(f"  {m:18} {rate:9.0f} /s  {rate / base:5.2f} of nginx   {sum(cost.values()):6.0f} us CPU each: {split}  {errors.get(m, '')}",
                      flush=True)


if __name__ == "__main__":
    main()
