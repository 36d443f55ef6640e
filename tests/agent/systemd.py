#!/usr/bin/env python3
"""systemd.py BIN INIT GREEDY UNITS CACHE: the agent under the real systemd, in cgroups, in a machine that QEMU emulates: this machine's systemd (its
files, as installed here) and Debian's kernel. BIN has the build's programs, INIT is machine_init, GREEDY greedy_keep, UNITS src/agent, CACHE a directory
for the kernel. Exits 77, saying why, where QEMU, the kernel or systemd are not to be had."""
import glob, hashlib, os, re, shutil, signal, socket, ssl, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path += [os.path.dirname(HERE), HERE, os.path.join(os.path.dirname(HERE), "deploy")]
import emulated  # noqa: E402

BIN, INIT, GREEDY, UNITS, CACHE = (os.path.abspath(p) for p in sys.argv[1:6])
os.environ["DONJON_BIN"] = BIN
import host  # noqa: E402
from agent import Agent, read_exactly  # noqa: E402

MACHINE = "x86_64-linux-gnu"
TOKENS = {"acme": "a" * 32, "greedy": "g" * 32}
GREEDY_PORT, OWN_PORT, KEEPS = 7471, 7472, "/sys/fs/cgroup/donjon.slice/donjon-keeps.service"
SLOW = float(os.environ.get("DONJON_EMULATED_FACTOR", 1))  # all waiting times by it
PROGRAMS = ["/bin/bash", "/bin/sh", "/usr/bin/systemctl", "/usr/bin/journalctl", "/usr/bin/systemd-analyze", "/lib/systemd/systemd",
            "/lib/systemd/systemd-journald", "/lib/systemd/systemd-shutdown",
            *("/usr/bin/" + p for p in ("cat chown chmod false grep head id ls sed sleep stat stty sync tail true uname rmdir mkdir".split()))]
SHELL = """exec 3<>/dev/ttyS1
stty raw -echo <&3
printf '=== ready\\n' >&3
while IFS= read -r line <&3; do
    out=$(eval "$line" 2>&1 </dev/null)
    code=$?
    printf '%s\\n=== %d\\n' "$out" "$code" >&3
done
"""
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\ndonjon:x:900:900::/var/lib/donjon:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nkvm:x:36:donjon\nsystemd-journal:x:101:\ndonjon:x:900:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/hostname": "keephost\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/os-release": 'NAME="test"\nID=test\n',
    "etc/systemd/system/shell.service": "[Service]\nExecStart=/bin/bash /shell\n",
    "etc/systemd/system/test.target": "[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n"
                                      "Wants=shell.service donjon-agent.socket\n",
    "etc/systemd/journald.conf": "[Journal]\nStorage=volatile\n",
    "shell": SHELL,
}


def settings():
    text = ""
    for name, token in TOKENS.items():
        text += f'[[tenants]]\nname = "{name}"\ntoken-sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"\nkeep-memory = "512 MiB"\n'
    return text + "cpu = 30\n"  # greedy's


def tree(archive):
    """The machine's files, below tree/."""
    top = "tree"
    for d in ("dev", "proc", "sys", "run", "tmp", "root", "home", "var/lib", "var/tmp", "var/log", "usr/lib", "usr/bin", "usr/sbin"):
        archive.add_folder(f"{top}/{d}")
    for path in PROGRAMS:
        if not os.path.exists(path):
            emulated.skip(f"no {path}: systemd and its friends come from this machine")
        archive.copy(path, top)
    for path in glob.glob("/lib/systemd/system/*.target") + [f"/lib/systemd/system/systemd-journald{s}" for s in
                                                             (".service", ".socket", "-dev-log.socket")]:
        archive.copy(path, top)
    archive.link(f"{top}/usr/lib/systemd/system/sysinit.target.wants/systemd-journald.service", "../systemd-journald.service")
    archive.copy("/usr/sbin/nologin", top)
    archive.link(f"{top}/var/run", "../run")
    for name in ("donjon", "donjon-agent", "donjon-keep", "donjon-warden-tls", "donjon-warden-tls.digests", "donjon-shim"):
        path = os.path.join(BIN, name)
        archive.add_file(f"{top}/usr/bin/{name}", path)
        for library in emulated.libraries(path):
            archive.copy(library, top)
    archive.add_file(f"{top}/usr/bin/greedy-keep", GREEDY)
    for name, text in FILES.items():
        archive.add(f"{top}/{name}", text, 0o644)
    archive.add(f"{top}/etc/donjon/agent.toml", settings(), 0o644)
    units = {}
    for name in ("donjon-agent.service", "donjon-agent.socket", "donjon-keeps.service"):
        with open(os.path.join(UNITS, name)) as f:
            units[name] = f.read()
        archive.add(f"{top}/etc/systemd/system/{name}", units[name], 0o644)
    greedy = other_unit(units["donjon-agent.service"], "greedy", f"--keep /usr/bin/greedy-keep --listen 0.0.0.0:{GREEDY_PORT}")
    own = other_unit(units["donjon-agent.service"], "own", f"--keep /usr/bin/greedy-keep --listen 0.0.0.0:{OWN_PORT}")
    own = re.sub(" --cgroup [^ ]*", "", own).replace("KillMode=process", "Delegate=yes")
    archive.add(f"{top}/etc/systemd/system/donjon-greedy.service", greedy, 0o644)
    archive.add(f"{top}/etc/systemd/system/donjon-own.service", own, 0o644)


def other_unit(text, state, options):
    """The same unit for another agent."""
    text = text.replace("Requires=donjon-agent.socket\n", "").replace("donjon-agent.socket ", "").replace("StateDirectory=donjon", f"StateDirectory={state}")
    return re.sub("(ExecStart=.*)", rf"\1 {options}", text)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


class Machine:
    def __init__(self, vmlinuz, initrd, disk, work):
        self.work, self.ports, self.buffer = work, {p: free_port() for p in (7470, GREEDY_PORT, OWN_PORT)}, b""
        line = os.path.join(work, "line")
        if os.path.exists(line):
            os.unlink(line)
        forward = "".join(f",hostfwd=tcp:127.0.0.1:{h}-:{g}" for g, h in self.ports.items())
        self.process = subprocess.Popen(
            [emulated.qemu(), "-machine", "q35", "-cpu", "max,+svm,+npt", "-accel", "tcg,thread=multi", "-m", "3072", "-smp", "2", "-display", "none",
             "-no-reboot", "-nodefaults", "-serial", f"file:{work}/console", "-serial", f"unix:{line},server=on,wait=off", "-netdev", f"user,id=n{forward}",
             "-device", "virtio-net-pci,netdev=n,romfile=", "-drive", f"file={disk},format=raw,if=none,id=d", "-device", "virtio-blk-pci,drive=d",
             "-kernel", vmlinuz, "-initrd", initrd, "-append",
             "console=ttyS0 panic=-1 quiet loglevel=3 mitigations=off no_timer_check clocksource=acpi_pm rdinit=/init systemd.unit=test.target"],
            stdin=subprocess.DEVNULL, preexec_fn=emulated.die_with_parent)
        end = time.monotonic() + 30
        self.line = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.line.connect(line)
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
        self.until(b"=== ready\n", 600)

    def until(self, mark, timeout):
        end = time.monotonic() + timeout * SLOW
        while mark not in self.buffer and not re.search(mark, self.buffer):
            self.line.settimeout(max(0.1, end - time.monotonic()))
            try:
                got = self.line.recv(65536)
            except TimeoutError:
                got = b""
            if not got:
                raise AssertionError(f"the machine does not answer: {self.buffer[-300:]}\n{self.console()}")
            self.buffer += got
        before, self.buffer = re.split(mark, self.buffer, maxsplit=1)[0], b""
        return before.decode(errors="replace").replace("\r", "")

    def run(self, command, timeout=120):
        self.line.sendall(command.encode() + b"\n")
        text = self.until(rb"=== \d+\n", timeout)
        return text

    def __call__(self, command, timeout=120):
        """What a command in the machine writes; it must succeed."""
        self.line.sendall(command.encode() + b"; printf '\\n<%d>' $?\n")
        text = self.until(rb"=== \d+\n", timeout)
        text, code = re.fullmatch(r"(.*)\n<(\d+)>\n?", text, re.S).groups()
        assert code == "0", f"{command}: {code}: {text}"
        return text.strip()

    def console(self):
        with open(os.path.join(self.work, "console"), errors="replace") as f:
            return f.read()[-4000:]

    def cut(self):
        """Power off, at once."""
        self.process.kill()
        self.process.wait()
        self.line.close()


class Remote(Agent):
    """agent.py's tenant, for an agent in the machine."""

    def __init__(self, port, token):
        self.port, self.token = port, token

    def ask(self, op, keep_open=False, **members):
        return super().ask(op, keep_open, token=self.token, **members)

    def connect(self, timeout=60):
        return super().connect(timeout)


class Tests:
    def __init__(self, machine, home):
        self.machine, self.home = machine, home
        self.agent = Remote(machine.ports[7470], TOKENS["acme"])
        self.tenant = host.Tenant(self.agent)
        self.token = os.path.join(home, "token")
        with open(self.token, "w") as f:
            f.write(TOKENS["acme"])
        self.key = None

    def deploy(self, name, *args, backend="process", timeout=240):
        key = ["--agent-key", self.key] if self.key else []
        return self.tenant.deploy("--token-file", self.token, *key, "--backend", backend, *args, host.module(name), timeout=timeout * SLOW)

    def detach(self, name):
        p = self.deploy(name, "--detach")
        assert p.returncode == 0, p.stderr.decode()
        return p.stdout.decode().strip()

    def pid(self, id):
        """Of a keep's process, in the machine."""
        return int(self.machine(f"head -n1 {KEEPS}/keep-{id}/box/host/cgroup.procs"))

    def journal(self, unit="donjon-agent"):
        return self.machine.run(f"journalctl -q -o cat --no-pager -u {unit} | tail -n 40")

    def wait(self, what, timeout=90):
        end = time.monotonic() + timeout * SLOW
        while not (got := what()):
            assert time.monotonic() < end, f"waited in vain\n{self.journal()}"
            time.sleep(0.3)
        return got

    def state(self, id, agent=None):
        k = (agent or self.agent).keep(id)
        return k and k["state"]

    # ---- systemd ----

    def units(self):
        """The units are what systemd understands, and leave the agent few rights."""
        m = self.machine
        said = m("systemd-analyze verify --man=no /etc/systemd/system/donjon-agent.service /etc/systemd/system/donjon-agent.socket /etc/systemd/system/donjon-keeps.service")
        assert not said, said
        security = m("systemd-analyze security --offline=true --no-pager /etc/systemd/system/donjon-agent.service | tail -n 1")
        print("    " + security.strip())
        assert float(re.search(r": ([\d.]+)", security).group(1)) < 5, security

    def activation(self):
        """Nothing runs before somebody comes; then it does, as its own user, without capabilities."""
        m = self.machine
        assert m("systemctl is-active donjon-agent.socket") == "active"
        assert m.run("systemctl is-active donjon-agent.service").startswith("inactive")
        assert self.agent.ask("info")["ok"]
        assert m("systemctl is-active donjon-agent.service") == "active"
        status = m("cat /proc/$(systemctl show -P MainPID donjon-agent.service)/status")
        assert re.search(r"^Uid:\t900\t900\t900\t900$", status, re.M), status
        assert re.search(r"^Cap(Prm|Eff|Bnd):\t0+$", status, re.M) and "NoNewPrivs:\t1" in status, status
        serving = re.search(r'"event":"serving".*', self.journal()).group(0)
        assert '"limits":"cgroup"' in serving, serving
        self.key = re.search(r'"key":"([0-9a-f]{64})"', serving).group(1)

    def deploys(self):
        """Both kinds of keep work under the unit's restrictions."""
        p = self.deploy("hello")
        assert (p.returncode, p.stdout) == (0, b"hello\n"), p.stderr.decode()
        began = time.monotonic()
        p = self.deploy("exit7", backend="kvm", timeout=500)
        assert p.returncode == 7, p.stderr.decode()
        print(f"    a kvm keep in the emulated machine: {time.monotonic() - began:.0f} s")

    def groups(self):
        """A keep is in a group of its own, with its limits."""
        self.id = self.detach("ticker")
        path = f"{KEEPS}/keep-{self.id}"
        got = self.machine(f"cd {path}; cat memory.max memory.oom.group pids.max cpu.max").split("\n")
        assert got == [str((512 << 20) + (512 << 20) // 64 + (64 << 20)), "1", "64", "max 100000"], got
        pid = self.pid(self.id)
        assert self.machine(f"cat /proc/{pid}/cgroup") == f"0::/donjon.slice/donjon-keeps.service/keep-{self.id}/box/host"
        assert self.machine(f"ls -d {path}/box/donjon-*"), "the warden has a group"

    def stop(self):
        """`systemctl stop` drains: relays go on for a while, keeps live on; who comes next is served by the next agent."""
        m, pid = self.machine, self.pid(self.id)
        follow = self.tenant.start("logs", "--follow", self.id, stdout=subprocess.PIPE)
        assert follow.stdout.readline() == b"tick\n"
        m("systemctl stop --no-block donjon-agent.service")
        self.wait(lambda: "no new connections" in self.journal())
        for _ in range(3):
            assert follow.stdout.readline() == b"tick\n"
        follow.send_signal(signal.SIGINT)
        follow.wait(60)
        follow.stdout.close()
        self.wait(lambda: m.run("systemctl is-active donjon-agent.service").startswith("inactive"))
        m(f"stat /proc/{pid}/exe || stat /proc/{pid}")
        assert self.state(self.id) == "running"  # started by this very connection
        assert self.pid(self.id) == pid
        assert m("systemctl is-active donjon-agent.service") == "active"

    def kill(self):
        """Killed, it is started again and finds its keeps, with their limits."""
        m, pid = self.machine, self.pid(self.id)
        before = m("systemctl show -P MainPID donjon-agent.service")
        m("systemctl kill -s KILL donjon-agent.service")
        self.wait(lambda: m.run("systemctl show -P MainPID donjon-agent.service").split()[0] not in ("0", before))
        assert self.state(self.id) == "running"
        assert self.pid(self.id) == pid
        assert m(f"cat {KEEPS}/keep-{self.id}/pids.max") == "64"
        p = self.tenant.run("logs", self.id, timeout=120)
        assert b"tick\n" in p.stdout, p.stderr.decode()
        p = self.deploy("hello")
        assert p.stdout == b"hello\n", p.stderr.decode()
        assert "Failed" not in self.journal(), self.journal()

    # ---- limits ----

    def greedy(self):
        """A second agent by the same unit, with doubles of keeps that take what they can get."""
        self.machine("systemctl start donjon-greedy.service")
        self.other = Remote(self.machine.ports[GREEDY_PORT], TOKENS["greedy"])
        self.quiet, s = self.other.create(backend="quiet")
        s.close()

    def take(self, what, **members):
        keep, s = self.other.create(backend=what, **members)
        s.close()
        return keep["id"]

    def others_live(self):
        assert self.state(self.quiet["id"], self.other) == "waiting"
        assert self.state(self.id) == "running"

    def gone(self, id):
        self.other.ask("stop", id=id)
        self.wait(lambda: self.state(id, self.other) == "ended")
        self.wait(lambda: f"keep-{id}" not in self.machine(f"ls {KEEPS}"))

    def memory(self):
        """A keep that takes more memory than it has ends, and is said to; the others, and the agent, do not."""
        id = self.take("memory", memory=32 << 20)
        self.wait(lambda: self.state(id, self.other) == "ended", 180)
        keep = self.other.keep(id)
        assert keep["exit"]["outcome"] == "killed" and keep["why"] == "used more than its 32 MiB of memory", keep
        self.wait(lambda: f"keep-{id}" not in self.machine(f"ls {KEEPS}"))
        self.others_live()

    def processes(self):
        """A keep that forks without end gets as many processes as it may have."""
        id = self.take("processes")
        path = f"{KEEPS}/keep-{id}"
        self.wait(lambda: re.search("max [1-9]", self.machine(f"cat {path}/pids.events {path}/box/host/pids.events")))  # which, depends on the kernel
        assert self.machine(f"cat {path}/pids.current") == "64"
        self.others_live()
        self.gone(id)

    def cpu(self):
        """A keep that computes gets its share of a CPU and no more."""
        id = self.take("cpu")
        used = lambda: [int(n) for n in self.machine(f"cat /proc/uptime; cat {KEEPS}/keep-{id}/cpu.stat").replace(".", "").split() if n.isdigit()]
        a = used()
        time.sleep(8 * SLOW)
        b = used()
        share = (b[2] - a[2]) / ((b[0] - a[0]) * 10000)  # microseconds, hundredths of a second
        print(f"    two processes that compute have {share * 100:.0f} % of a CPU of 30 %")
        assert 0.15 < share < 0.36, share
        self.others_live()
        self.gone(id)

    def own_limits(self):
        """A keep's process that was taken over does not raise its own limits, nor leave its group, nor draws others into it."""
        id = self.take("limits")
        assert self.state(id, self.other) == "waiting"
        self.gone(id)
        self.other.ask("stop", id=self.quiet["id"])
        self.machine("systemctl stop donjon-greedy.service")

    def own_group(self):
        """An agent that is named no group makes its keeps' in its own, where that is delegated to it."""
        self.machine("systemctl start donjon-own.service")
        agent = Remote(self.machine.ports[OWN_PORT], TOKENS["greedy"])
        keep, s = agent.create(backend="quiet", memory=64 << 20)
        s.close()
        path = f"/sys/fs/cgroup/donjon.slice/donjon-own.service/keep-{keep['id']}"
        assert self.machine(f"cd {path}; cat pids.max memory.max cpu.max box/host/pids.current").split() == ["64", str(129 << 20), "30000", "100000", "1"]
        agent.ask("stop", id=keep["id"])
        self.wait(lambda: self.machine(f"test ! -e {path} && echo gone || true") == "gone")
        self.machine("systemctl stop donjon-own.service")

    def keeps_stopped(self):
        """The operator ends all keeps by stopping their unit; without it none is built, with it they are again."""
        self.machine("systemctl stop donjon-keeps.service")
        self.wait(lambda: self.state(self.id) == "ended")
        p = self.deploy("hello")
        assert p.returncode == 125 and b"control group" in p.stderr, p.stderr.decode()
        self.machine("systemctl start donjon-keeps.service")
        p = self.deploy("hello")
        assert p.stdout == b"hello\n", p.stderr.decode()

    # ---- power ----

    def before_power_loss(self):
        """An acknowledged keep, and then nothing any more, at once."""
        self.lost, s = self.agent.create(name="lost")
        self.machine.cut()
        s.close()

    def after_power_loss(self, machine):
        """What was acknowledged is known, and known to have ended; the agent is who it was."""
        self.machine, self.agent.port = machine, machine.ports[7470]
        keep = self.agent.keep(self.lost["id"])
        assert keep and (keep["name"], keep["state"], keep["exit"]["outcome"]) == ("lost", "ended", "killed"), keep
        assert f'"key":"{self.key}"' in self.journal()
        assert self.machine("ls /var/lib/donjon/keeps /var/lib/donjon/records 2>&1 | grep -c '^[0-9a-f]' || true") == "0"

    def all(self):
        steps = [self.units, self.activation, self.deploys, self.groups, self.stop, self.kill, self.greedy, self.memory, self.processes, self.cpu,
                 self.own_limits, self.own_group, self.keeps_stopped, self.before_power_loss]
        return steps


def attempt(step, *args):
    began = time.monotonic()
    step(*args)
    print(f"ok   {step.__name__} ({time.monotonic() - began:.0f} s): {(step.__doc__ or '').strip()}", flush=True)


def main():
    host.needs()
    for tool in ("mkfs.ext4", "systemd-analyze"):
        if not (shutil.which(tool) or os.path.exists("/usr/sbin/" + tool)):
            emulated.skip(f"no {tool}")
    emulated.qemu()
    vmlinuz, root = emulated.kernel(CACHE)
    archive = emulated.Archive()
    archive.add_file("init", INIT)
    archive.add_modules(root, "virtio_pci", "virtio_net", "virtio_blk", "ext4", "kvm_amd")
    tree(archive)
    work = tempfile.mkdtemp(prefix="machine", dir=CACHE)
    initrd, disk, machine = os.path.join(work, "initrd"), os.path.join(work, "disk"), None
    try:
        with open(initrd, "wb") as f:
            f.write(archive.bytes())
        with open(disk, "wb") as f:
            f.truncate(64 << 20)
        env = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
        subprocess.run(["mkfs.ext4", "-q", "-E", "root_owner=0:0", disk], check=True, env=env)
        began = time.monotonic()
        machine = Machine(vmlinuz, initrd, disk, work)
        print(f"     booted in {time.monotonic() - began:.0f} s", flush=True)
        tests = Tests(machine, work)
        only = os.environ.get("DONJON_STEPS", "")
        for step in tests.all():
            if not only or re.search(only, step.__name__):
                attempt(step)
        if machine.process.poll() is not None:
            machine = Machine(vmlinuz, initrd, disk, work)
            attempt(tests.after_power_loss, machine)
    except BaseException:
        if machine:
            print(machine.console())
            if os.environ.get("DONJON_SHELL"):  # what does it look like now? A line of shell a time
                while command := sys.stdin.readline():
                    print(machine.run(command.strip()), flush=True)
        raise
    finally:
        if machine:
            machine.cut()
        if not os.environ.get("DONJON_KEEP_WORK"):
            shutil.rmtree(work, ignore_errors=True)
    return 0


sys.exit(main())
