#!/usr/bin/env python3
"""A double of donjon-keep (src/agent/keep.h) without a keep in it: its socket gives every byte back, in capitals.

What a connection's first line says it does beyond that: "state running|exited CODE" changes what it reports, "flood N"
sends N bytes, "die" kills it. FAKE_KEEP in the environment: "refuse" reports that it cannot be built, "slow" takes two
seconds, "silent" never speaks, "rude" writes what is no JSON to the agent, "once" is built once and dies the next time."""
import argparse, json, os, select, signal, socket, sys, time

p = argparse.ArgumentParser()
p.add_argument("--dir", required=True)
p.add_argument("--status-fd", type=int, required=True)
p.add_argument("--backend", default="fake")
p.add_argument("--memory", type=int)
p.add_argument("--signer", required=True)
p.add_argument("--idle", type=float, default=60)
p.add_argument("--listen")
p.add_argument("--connect")
p.add_argument("--token-fd", type=int, required=True)
o = p.parse_args()
with os.fdopen(o.token_fd) as f:
    token = f.read(64)
assert len(token) == 64
signal.signal(signal.SIGHUP, signal.SIG_IGN)
mode = os.environ.get("FAKE_KEEP", "")
status = {"op": "status", "state": "waiting", "backend": o.backend, "measurement": "ab" * 48, "ports": [], "exit": None}


def listen(name):
    s = socket.socket(socket.AF_UNIX)
    s.bind(f"{o.dir}/{name}")
    os.chmod(f"{o.dir}/{name}", 0o600)
    s.listen(128)
    return s


if mode == "slow":
    time.sleep(2)
if mode == "once":
    mark = os.path.join(os.path.dirname(o.signer), "once-" + os.path.basename(o.dir))
    if os.path.exists(mark):
        os.kill(os.getpid(), signal.SIGKILL)
    open(mark, "w").close()
if mode == "silent":
    time.sleep(600)
if mode == "refuse":
    os.write(o.status_fd, json.dumps({"ok": False, "error": "no such backend here"}).encode() + b"\n")
    sys.exit(1)
tenants, control = listen("socket"), listen("control")
os.write(o.status_fd, json.dumps({"ok": True, "backend": o.backend, "protects": "nothing: it is a double",
                                  "measurement": "ab" * 48, "tee": False}).encode() + b"\n")
os.close(o.status_fd)
agent, lines, relays, born = None, b"", {}, time.monotonic()


def say(m):
    if agent:
        try:
            agent.sendall(json.dumps(m).encode() + b"\n")
        except OSError:
            pass


def command(c, words):
    if words[0] == b"die":
        os.kill(os.getpid(), signal.SIGKILL)
    if words[0] == b"flood":
        c.setblocking(True)
        c.sendall(b"x" * int(words[1]))
        return True
    if words[0] == b"upcall":
        say({"upcall": "steward", "id": 7, "which": "nonce", "url": words[1].decode(), "body": words[2].decode()})
        relays[c][1] = "answer"
        return True
    if words[0] == b"state":
        status["state"] = words[1].decode()
        if len(words) > 2:
            status["exit"] = {"outcome": "exited", "code": int(words[2])}
        say(dict(status, event="state"))
        return True
    return False


while True:
    if status["state"] == "waiting" and o.idle and time.monotonic() - born > o.idle:
        sys.exit(0)
    ready, _, _ = select.select([tenants, control] + ([agent] if agent else []) + list(relays), [], [], 1)
    for s in ready:
        if s is tenants:
            relays[s.accept()[0]] = [False, None]
        elif s is control:
            if agent:
                agent.close()
            agent, lines = s.accept()[0], b""
            if mode == "rude":
                agent.sendall(b"no JSON\n")
        elif s is agent:
            try:
                d = s.recv(65536)
            except OSError:  # killed before it had read what we said
                d = b""
            if not d:
                agent = None
                continue
            lines += d
            while b"\n" in lines:
                line, lines = lines.split(b"\n", 1)
                m = json.loads(line)
                if m.get("op") == "hello":
                    assert m["token"] == token
                elif m.get("op") == "status":
                    say(status)
                elif m.get("op") == "stop":
                    say({"op": "stop"})
                    sys.exit(0)
                elif m.get("answer"):
                    for c, r in relays.items():
                        if r[1] == "answer":
                            c.sendall(json.dumps(m).encode() + b"\n")
        elif s in relays:
            try:
                d = s.recv(65536)
            except OSError:
                d = b""
            if not d:
                del relays[s]
                s.close()
                continue
            first, relays[s][0] = not relays[s][0], True
            if first and command(s, d.split()):
                continue
            s.setblocking(True)
            s.sendall(d.upper())
