"""Machines that QEMU emulates (TCG: slow, and true in what privileged instructions do), with Debian's kernel and an initramfs made by the test."""
import ctypes, fcntl, glob, os, re, shutil, signal, stat, subprocess, sys, tempfile


def skip(why):
    print("SKIP:", why)
    sys.exit(77)


def qemu():
    return shutil.which("qemu-system-x86_64") or skip("no qemu-system-x86_64 (Debian: qemu-system-x86)")


def die_with_parent():
    """In the child that becomes QEMU: however this test ends, its machine does too."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def kernel(cache):
    """Debian's cloud kernel, unpacked without being installed: (vmlinuz, root of its modules)."""
    os.makedirs(cache, exist_ok=True)
    root = os.path.join(cache, "kernel")
    with open(os.path.join(cache, "lock"), "w") as lock:  # tests may run side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not glob.glob(os.path.join(root, "boot", "vmlinuz-*")):
            for tool in ("apt-cache", "apt-get", "dpkg-deb"):
                if not shutil.which(tool):
                    skip(f"no {tool}: the kernel comes from Debian")
            depends = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
            names = re.findall(r"Depends: (linux-image-\S+)", depends)
            if not names:
                skip("apt knows no linux-image-cloud-amd64")
            with tempfile.TemporaryDirectory(dir=cache) as tmp:
                got = subprocess.run(["apt-get", "download", names[0]], cwd=tmp, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                debs = glob.glob(os.path.join(tmp, "*.deb"))
                if got.returncode or not debs:
                    skip(f"cannot download {names[0]}: {got.stderr.decode(errors='replace').strip()[:200]}")
                subprocess.run(["dpkg-deb", "-x", debs[0], os.path.join(tmp, "root")], check=True)
                shutil.rmtree(root, ignore_errors=True)
                os.rename(os.path.join(tmp, "root"), root)
    return glob.glob(os.path.join(root, "boot", "vmlinuz-*"))[0], root


def modules(root, name, seen):
    """A module and all that it needs, in the order to load them in."""
    if name in seen:
        return []
    seen.add(name)
    found = [p for p in glob.glob(os.path.join(root, "lib/modules/**/*.ko"), recursive=True) if os.path.basename(p)[:-3].replace("-", "_") == name]
    if not found:
        return []  # built in
    with open(found[0], "rb") as f:
        needs = re.search(rb"\0depends=([^\0]*)\0", f.read())
    first = [m for n in needs.group(1).decode().split(",") if n for m in modules(root, n.replace("-", "_"), seen)] if needs else []
    return first + [found[0]]


class Archive:
    """An initramfs: cpio in the "newc" form."""

    def __init__(self):
        self.parts, self.dirs, self.names, self.ino = [], set(), set(), 0

    def entry(self, name, mode, data=b""):
        self.ino += 1
        n = name.encode() + b"\0"
        head = b"070701" + b"".join(b"%08X" % v for v in (self.ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(n), 0))
        self.parts += [head + n, b"\0" * (-(len(head) + len(n)) % 4), data, b"\0" * (-len(data) % 4)]

    def add_folder(self, name):
        """And those above it."""
        parts = name.split("/")
        for i in range(1, len(parts) + 1):
            d = "/".join(parts[:i])
            if d and d not in self.dirs:
                self.dirs.add(d)
                self.entry(d, stat.S_IFDIR | 0o755)

    def add(self, name, data, mode=0o755):
        if name in self.names:
            return
        self.names.add(name)
        if isinstance(data, str):
            data = data.encode()
        if "/" in name:
            self.add_folder(name.rsplit("/", 1)[0])
        self.entry(name, stat.S_IFREG | mode, data)

    def add_file(self, name, path):
        with open(path, "rb") as f:
            self.add(name, f.read(), stat.S_IMODE(os.stat(path).st_mode) & 0o755 | 0o444)

    def link(self, name, to):
        if name not in self.names:
            self.names.add(name)
            if "/" in name:
                self.add_folder(name.rsplit("/", 1)[0])
            self.entry(name, stat.S_IFLNK | 0o777, to.encode())

    def copy(self, path, top=""):
        """A file of this machine, where it is here, below `top`; its symbolic links too, and for a program what it is linked with."""
        whole = ""
        for part in path.strip("/").split("/"):
            whole += "/" + part
            if os.path.islink(whole):
                to = os.readlink(whole)
                self.link(top + whole, to)
                return self.copy(os.path.normpath(os.path.join(os.path.dirname(whole), to) + path[len(whole):]), top)
        name = (top + path).lstrip("/")
        if name in self.names:
            return
        self.add_file(name, path)
        if os.access(path, os.X_OK) or ".so" in path:
            for library in libraries(path):
                self.copy(library, top)

    def add_modules(self, root, *names):
        """Modules, and the list of them in /modules, in the order to load them in."""
        seen = set()
        mods = [m for n in names for m in modules(root, n, seen)]
        for i, path in enumerate(mods):
            self.add_file(f"m/{i}-{os.path.basename(path)}", path)
        self.add("modules", "".join(f"/m/{i}-{os.path.basename(p)}\n" for i, p in enumerate(mods)))

    def bytes(self):
        self.entry("TRAILER!!!", 0)
        return b"".join(self.parts)


def libraries(program):
    text = subprocess.run(["ldd", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    return sorted(set(re.findall(r"(/\S+) \(0x", text)))
