#!/usr/bin/env python3
"""debug.py DIES: what debugging a kvm keep gives: --gdb, by the protocol itself and, where there is one, by gdb; and the backtrace of a keep that
dies (DIES: a warden that does). Exits 77 where there are no such keeps."""
import json, os, re, shutil, signal, socket, struct, subprocess, sys, tempfile, time

BIN = os.environ.get("DONJON_BIN", "build/bin")
DONJON, WARDEN = os.path.join(BIN, "donjon"), os.path.join(BIN, "donjon-warden")
NOTHING = bytes.fromhex("0061736d0100000001040160000003020100070a01065f737461727400000a040102000b")
LOOP = bytes.fromhex("0061736d01000000010401600000030201000503010001070a01065f737461727400000a0901070003400c000b0b")
results = []


def check(name, ok, found=""):
    print("ok  " if ok else "FAIL", name, "" if ok else found, flush=True)
    results.append(ok)


def symbol(path, name):
    """Where a function is in an ELF file, by its symbol table."""
    data = open(path, "rb").read()
    shoff, = struct.unpack_from("<Q", data, 40)
    shentsize, shnum = struct.unpack_from("<HH", data, 58)
    heads = [struct.unpack_from("<IIQQQQIIQQ", data, shoff + i * shentsize) for i in range(shnum)]
    for h in heads:
        if h[1] != 2:  # SHT_SYMTAB
            continue
        strings = heads[h[6]][4]
        for at in range(h[4], h[4] + h[5], 24):
            n, _, _, _, value, _ = struct.unpack_from("<IBBHQQ", data, at)
            end = data.index(b"\0", strings + n)
            if data[strings + n:end] == name.encode():
                return value
    raise KeyError(name)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Remote:
    """The debugger's end of the GDB Remote Serial Protocol."""

    def __init__(self, port):
        for _ in range(200):
            try:
                self.s = socket.create_connection(("127.0.0.1", port), timeout=60)
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        self.f = self.s.makefile("rb")

    def send(self, text):
        self.s.sendall(b"$%s#%02x" % (text.encode(), sum(text.encode()) & 255))

    def answer(self):
        while self.f.read(1) not in (b"$", b""):
            pass
        data = b""
        while (c := self.f.read(1)) not in (b"#", b""):
            data += c
        self.f.read(2)
        self.s.sendall(b"+")
        return data.decode()

    def ask(self, text):
        self.send(text)
        return self.answer()

    def register(self, n):
        text = self.ask("g")
        return int.from_bytes(bytes.fromhex(text[16 * n:16 * n + 16]), "little")

    def memory(self, at, size):
        return bytes.fromhex(self.ask(f"m{at:x},{size:x}"))


RIP, RSP = 16, 7


def start(module, f, *options):
    port = free_port()
    f.write(module)
    f.flush()
    p = subprocess.Popen([DONJON, "run", "--backend", "kvm", "--gdb", str(port), *options, f.name], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE)
    return p, port


def by_protocol():
    with tempfile.NamedTemporaryFile(suffix=".wasm") as f:
        p, port = start(NOTHING, f)
        r = Remote(port)
        r.ask("qSupported:multiprocess+")
        check("stopped at the start", r.ask("?").startswith("T05"))
        base = int(re.match(r"TextSeg=([0-9a-f]+)", r.ask("qOffsets")).group(1), 16)
        entry, = struct.unpack_from("<Q", open(WARDEN, "rb").read(32), 24)
        pc = r.register(RIP)
        check("at the entry point", pc == base + entry, (hex(pc), hex(base)))
        check("memory is the file's", r.memory(base, 4) == b"\x7fELF" and len(r.memory(base + 4090, 20)) == 20)
        check("no memory where there is none", r.ask("m1000,8").startswith("E"))
        check("a single step", r.ask("s").startswith("T05") and 0 < r.register(RIP) - pc < 16)
        at = base + symbol(WARDEN, "report_exit")
        old = r.memory(at, 1)
        check("a breakpoint is written", r.ask(f"M{at:x},1:cc") == "OK" and r.memory(at, 1) == b"\xcc")
        stop = r.ask("c")
        check("and hit", stop.startswith("T05") and r.register(RIP) == at + 1, (stop, hex(r.register(RIP)), hex(at)))
        stack = r.memory(r.register(RSP), 64)
        back = int.from_bytes(stack[:8], "little")
        check("the stack says where from", base < back < base + (64 << 20), hex(back))
        r.ask(f"M{at:x},1:{old.hex()}")
        check("a register is written", r.ask(f"P{RIP:x}={at.to_bytes(8, 'little').hex()}") == "OK" and r.register(RIP) == at)
        r.send("c")
        check("to the program's end", p.wait(60) == 0, p.stderr.read())
    with tempfile.NamedTemporaryFile(suffix=".wasm") as f:
        p, port = start(LOOP, f)
        r = Remote(port)
        r.ask("?")
        r.send("c")
        time.sleep(0.5)
        r.s.sendall(b"\x03")
        check("interrupted in a loop", r.answer().startswith("T02"))
        r.send("k")
        err = p.stderr.read().decode(errors="replace")
        check("killed", p.wait(60) == 125 and "killed by the debugger" in err, err)
    with tempfile.NamedTemporaryFile(suffix=".wasm") as f:
        p, port = start(NOTHING, f)
        r = Remote(port)
        r.s.sendall(b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 8\r\n\r\n+$?#3f$k#6b")
        try:
            said = r.f.read()
        except ConnectionResetError:  # what it had not read
            said = b""
        check("a browser is no debugger", said == b"" and p.wait(60) == 0, said)


def by_gdb():
    gdb = shutil.which("gdb")
    if not gdb:
        print("     no gdb here: its own test is left out")
        return
    with tempfile.NamedTemporaryFile(suffix=".wasm") as f:
        p, port = start(NOTHING, f)
        script = [f"target remote 127.0.0.1:{port}", "break report_exit", "continue", "bt", "kill"]
        out = subprocess.run([gdb, "-q", "-batch", "-nx", WARDEN, *(x for s in script for x in ("-ex", s))], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             stdin=subprocess.DEVNULL, timeout=120).stdout.decode(errors="replace")
        check("gdb: breakpoint and backtrace", re.search(r"Breakpoint 1.*report_exit", out) and re.search(r"#\d+ .* main \(", out), out)
        p.wait(60)


def refusals():
    with tempfile.NamedTemporaryFile(suffix=".wasm") as f:
        f.write(NOTHING)
        f.flush()
        run = lambda *o: subprocess.run([DONJON, "run", *o, f.name], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        p = run("--backend", "process", "--gdb", "1234")
        check("a process is told of gdb -p", p.returncode == 125 and b"gdb -p" in p.stderr, p.stderr)
        p = run("--backend", "kvm", "--gdb", "no")
        check("a port must be one", p.returncode != 0 and b"expected a port" in p.stderr, p.stderr)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen(1)
            p = run("--backend", "kvm", "--gdb", str(s.getsockname()[1]))
            check("a port that is taken", p.returncode == 125 and b"cannot listen for a debugger" in p.stderr, p.stderr)


def death():
    with tempfile.NamedTemporaryFile(suffix=".wasm") as f:
        f.write(NOTHING)
        f.flush()
        env = {**os.environ, "DONJON_WARDEN": sys.argv[1], "DONJON_SHIM": os.path.join(BIN, "donjon-shim")}
        run = lambda *o: subprocess.run([DONJON, "run", "--backend", "kvm", *o, f.name], env=env, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        p = run("--debug")
        err = p.stderr.decode(errors="replace")
        check("why it died", p.returncode == 125 and "SIGSEGV" in err, err)
        check("its registers", "cr2 0000000000123450" in err, err)
        check("its functions", re.search(r"#0 .*dies_inside(.*\n)*.*#\d+ .*calls_it(.*\n)*.*#\d+ .*main", err), err)
        err = run().stderr.decode(errors="replace")
        check("without --debug no more than why", "Segmentation fault" in err and "rip" not in err and "dies_inside" not in err, err)


info = json.loads(subprocess.run([DONJON, "platform", "info", "--json"], stdout=subprocess.PIPE).stdout)
state = next(b for b in info["backends"] if b["name"] == "kvm")
if not state["available"]:
    print("SKIP: no kvm keep here:", state["missing"])
    sys.exit(77)
by_protocol()
by_gdb()
refusals()
death()
sys.exit(0 if all(results) else 1)
