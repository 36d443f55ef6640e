#!/usr/bin/env python3
"""A hostile host: stands between a tenant and an honest agent, and does one thing that it should not.

    evil.py MODE AGENT-PORT DIR [ARGS]     prints its own port, then serves until it is ended

  relay       ends the tenant's channel itself, opens one of its own to a true keep, and carries messages between them
  replay      as relay, but answers with the evidence that the keep gave to the first tenant, recorded in DIR
  nonce       as relay, but asks the keep with a nonce of its own
  downgrade   builds a "process" keep, whatever was asked for, and says it is what was asked for
  record      does all that an honest host does, and keeps every byte in DIR/seen
  other ID    brings every tenant to the keep ID, whichever was asked for
"""
import json, os, socket, ssl, subprocess, sys, threading

mode, port, where = sys.argv[1], int(sys.argv[2]), sys.argv[3]
HELLO, EVIDENCE, ALPN = 1, 65, "donjon-channel/1"
cert, key = f"{where}/evil.pem", f"{where}/evil.key"
subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                "-out", cert, "-subj", "/CN=agent", "-days", "2"], check=True, capture_output=True)
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(cert, key)
server.minimum_version = ssl.TLSVersion.TLSv1_3
server.num_tickets = 0
channel_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
channel_server.load_cert_chain(cert, key)
channel_server.minimum_version = ssl.TLSVersion.TLSv1_3
channel_server.num_tickets = 0
channel_server.set_alpn_protocols([ALPN])
client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
channel_client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
channel_client.check_hostname, channel_client.verify_mode = False, ssl.CERT_NONE
channel_client.set_alpn_protocols([ALPN])


class Inner:
    """TLS inside the bytes of another connection."""

    def __init__(self, outer, context, is_server):
        self.outer, self.incoming, self.outgoing = outer, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=is_server)

    def _do(self, call, *args):
        while True:
            try:
                result = call(*args)
                self._flush()
                return result
            except ssl.SSLWantReadError:
                self._flush()
                data = self.outer.recv(65536)
                if not data:
                    raise EOFError
                self.incoming.write(data)

    def _flush(self):
        data = self.outgoing.read()
        if data:
            self.outer.sendall(data)

    def handshake(self):
        self._do(self.tls.do_handshake)

    def read_exactly(self, n):
        data = b""
        while len(data) < n:
            more = self._do(self.tls.read, n - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def write(self, data):
        self._do(self.tls.write, data)

    def frame(self):
        head = self.read_exactly(5)
        return head + self.read_exactly(int.from_bytes(head[:4], "little"))


def line(s):
    data = b""
    while not data.endswith(b"\n"):
        d = s.recv(1)
        if not d:
            raise EOFError
        data += d
    return data


def to_agent():
    s = socket.create_connection(("127.0.0.1", port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client.wrap_socket(s)


def pump(a, b):
    try:
        while True:
            d = a.recv(65536)
            if not d:
                break
            if mode == "record":
                with open(f"{where}/seen", "ab") as f:
                    f.write(d)
            b.sendall(d)
    except OSError:
        pass


def carry(a, b):
    """Bytes as they come, as an honest agent."""
    t = threading.Thread(target=pump, args=(a, b), daemon=True)
    t.start()
    pump(b, a)


def between(tenant, keep):
    """Both channels end here."""
    outer, inner = Inner(tenant, channel_server, True), Inner(keep, channel_client, False)
    inner.handshake()
    outer.handshake()
    hello = outer.frame()
    if mode == "nonce":
        hello = hello[:7] + bytes(32)
    inner.write(hello)
    evidence = inner.frame()
    recorded = f"{where}/recorded"
    if mode == "replay":
        if os.path.exists(recorded):
            with open(recorded, "rb") as f:
                evidence = f.read()
        else:
            with open(recorded, "wb") as f:
                f.write(evidence)
    outer.write(evidence)
    while True:  # whatever the tenant sends now would be ours to read
        got = outer.frame()
        with open(f"{where}/loot", "ab") as f:
            f.write(got)


def serve(raw):
    try:
        tenant = server.wrap_socket(raw, server_side=True)
        ask = json.loads(line(tenant))
        asked = ask.get("backend")
        if mode == "downgrade" and ask["op"] == "create":
            ask["backend"] = "process"
        if mode == "other" and ask["op"] in ("create", "channel"):
            ask = {"v": 1, "op": "channel", "id": sys.argv[4]}
        agent = to_agent()
        agent.sendall(json.dumps(ask).encode() + b"\n")
        answer = json.loads(line(agent))
        if mode == "downgrade" and asked and "keep" in answer:
            answer["keep"].update(backend=asked, protects="everything", tee=False)
        tenant.sendall(json.dumps(answer).encode() + b"\n")
        if ask["op"] not in ("create", "channel") or not answer["ok"]:
            tenant.close()
        elif mode in ("relay", "replay", "nonce"):
            between(tenant, agent)
        else:
            carry(tenant, agent)
    except (OSError, EOFError, ValueError):
        pass
    finally:
        try:
            raw.close()
        except OSError:
            pass


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
