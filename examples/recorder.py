#!/usr/bin/env python3
"""For the demo: what a host can see.

    recorder.py PORT FILE                       carries connections to PORT, keeps all bytes in FILE; prints its own port
    recorder.py --search TEXT PATH... [--memory PID]   looks for TEXT in files and in a process; fails when it is there
"""
import os, re, socket, sys, threading


def record(port, path):
    out, lock = open(path, "wb", 0), threading.Lock()

    def pump(a, b):
        try:
            while data := a.recv(65536):
                with lock:
                    out.write(data)
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        tenant = listener.accept()[0]
        agent = socket.create_connection(("127.0.0.1", port))
        for s in (tenant, agent):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for a, b in ((tenant, agent), (agent, tenant)):
            threading.Thread(target=pump, args=(a, b), daemon=True).start()


def memory(pid, needle):
    """How often it is in a process's memory, and how much of that could be read."""
    found = size = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) r.*", line)
            if not m or "[v" in line:
                continue
            start, end = (int(x, 16) for x in m.groups())
            try:
                mem.seek(start)
                data = mem.read(min(end - start, 256 << 20))
            except (OSError, OverflowError):
                continue
            size += len(data)
            found += data.count(needle)
    return found, size


def search(args):
    needle, paths, pid = args[0].encode(), args[1:], None
    if "--memory" in paths:
        pid = int(paths[paths.index("--memory") + 1])
        paths = paths[:paths.index("--memory")]
    total = 0
    for top in paths:
        files = [os.path.join(d, n) for d, _, names in os.walk(top) for n in names]
        files = [f for f in files if os.path.isfile(f)]
        found = size = 0
        for f in files:
            with open(f, "rb") as x:
                data = x.read()
            size += len(data)
            found += data.count(needle)
        print(f"  {os.path.basename(top)}: {size} bytes in {len(files)} files, found {found} times")
        total += found
    if pid:
        try:
            found, size = memory(pid, needle)
            print(f"  the agent's memory: {size >> 10} KiB, found {found} times")
            total += found
        except OSError as e:
            print(f"  the agent's memory: not to be read by this user ({e.strerror}); root could")
    sys.exit(total != 0)


if sys.argv[1] == "--search":
    search(sys.argv[2:])
else:
    record(int(sys.argv[1]), sys.argv[2])
