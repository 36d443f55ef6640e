#!/usr/bin/env python3
"""The agent from outside, with a double of donjon-keep: protocol, tenants and quotas, relay, crashes, adoption."""
import base64, hashlib, http.server, json, os, resource, select, signal, socket, subprocess, sys, threading, time, unittest
from agent import Agent, BIN, FAKE, exchange, read_exactly, read_line

TOKENS = {"acme": "a" * 32, "zeta": "z" * 40}


def tenants(**more):
    text = ""
    for name, token in TOKENS.items():
        text += f'[[tenants]]\nname = "{name}"\ntoken-sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"\n'
        text += more.get(name, "") + "\n"
    return text


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_dead(pid, timeout=10):
    end = time.monotonic() + timeout
    while alive(pid):
        assert time.monotonic() < end, f"process {pid} lives on"
        time.sleep(0.02)


class Protocol(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.agent = Agent()

    @classmethod
    def tearDownClass(cls):
        cls.agent.close()

    def test_relay(self):
        keep, s = self.agent.create(name="web")
        self.assertEqual(len(keep["id"]), 32)
        self.assertEqual(keep["state"], "waiting")
        s.sendall(b"hello")
        self.assertEqual(read_exactly(s, 5), b"HELLO")
        answer, second = self.agent.ask("channel", keep_open=True, id=keep["id"])
        self.assertTrue(answer["ok"])
        data = bytes(range(97, 123)) * 40000  # a megabyte, both ways at once
        self.assertEqual(exchange(second, data), data.upper())
        self.assertEqual(self.agent.keep(keep["id"])["name"], "web")
        self.assertTrue(self.agent.ask("stop", id=keep["id"])["ok"])
        self.agent.wait_state(keep["id"], "ended")
        self.assertEqual(s.recv(1), b"")  # a proper end
        s.close(), second.close()
        self.assertFalse(self.agent.ask("channel", id=keep["id"])["ok"])

    def test_slow_reader(self):
        """A tenant that does not read holds up his own relay only."""
        keep, s = self.agent.create()
        size = 8 << 20
        s.sendall(b"flood %d" % size)
        time.sleep(0.2)
        began = time.monotonic()
        self.assertTrue(self.agent.ask("info")["ok"])
        self.assertLess(time.monotonic() - began, 2)
        self.assertEqual(len(read_exactly(s, size)), size)
        s.close()
        self.agent.ask("stop", id=keep["id"])

    def test_info(self):
        answer = self.agent.ask("info")
        self.assertEqual(answer["tenant"], "local")
        self.assertIn("BEGIN CERTIFICATE", answer["development_root"])

    def test_bad_requests(self):
        nested = "[" * 100000
        for line in [b"", b"{}", b"[]", b"null", b"{", nested.encode()[:60000], b'{"v":1}', b'{"v":2,"op":"list"}',
                     b'{"v":1,"op":"steal"}', b'{"v":1,"op":"list","op":"list"}', b'{"v":1,"op":"list","more":1}',
                     b'{"v":1,"op":"stop"}', b'{"v":1,"op":"stop","id":"../../etc/passwd"}',
                     b'{"v":1,"op":"stop","id":"' + b"A" * 32 + b'"}', b'{"v":1,"op":"create","memory":-1}',
                     b'{"v":1,"op":"create","memory":1e300}', b'{"v":1,"op":"create","name":"a/b"}',
                     b'{"v":1,"op":"create","name":"a\\u0000b"}', b'{"v":1,"op":"create","backend":7}',
                     b'{"v":1,"op":"list","token":"short"}', b'{"v":1,"op":"list","token":"\xff\xff"}',
                     b'{"v":1,"op":"list"}\n{"v":1,"op":"list"}']:
            s = self.agent.connect()
            s.sendall(line + b"\n")
            answer = read_line(s)
            self.assertFalse(answer["ok"], line)
            self.assertTrue(answer["error"], line)
            s.close()

    def test_endless_request(self):
        s = self.agent.connect()
        s.sendall(b"x" * 65537)
        self.assertIn("64 KiB", read_line(s)["error"])
        s.close()

    def test_not_tls(self):
        with socket.create_connection(("127.0.0.1", self.agent.port), 10) as s:
            s.sendall(b'{"v":1,"op":"list"}\n')
            try:
                self.assertNotIn(b"keeps", s.recv(100))
            except ConnectionResetError:
                pass

    def test_tls_1_2_is_refused(self):
        import ssl
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection(("127.0.0.1", self.agent.port), 10) as s:
            self.assertRaises((ssl.SSLError, ConnectionError), context.wrap_socket, s)

    def test_keep_is_killed(self):
        keep, s = self.agent.create()
        pid = next(r["pid"] for r in self.agent.records() if r["id"] == keep["id"])
        os.kill(pid, signal.SIGKILL)
        self.assertEqual(self.agent.wait_state(keep["id"], "ended")["exit"]["outcome"], "killed")
        self.assertFalse(os.path.exists(f"{self.agent.state}/keeps/{keep['id']}"))
        self.assertEqual(s.recv(1), b"")
        s.close()

    def test_keep_ends_by_itself(self):
        keep, s = self.agent.create()
        s.sendall(b"state exited 3")
        got = self.agent.wait_state(keep["id"], "exited")
        self.assertEqual(got["exit"], {"outcome": "exited", "code": 3})
        self.agent.ask("stop", id=keep["id"])
        self.assertEqual(self.agent.wait_state(keep["id"], "ended")["exit"]["outcome"], "exited")
        s.close()

    def test_restart(self):
        keep, s = self.agent.create(restart=True)
        s.sendall(b"state running")
        self.agent.wait_state(keep["id"], "running")
        s.close()
        _, s = self.agent.ask("channel", keep_open=True, id=keep["id"])
        s.sendall(b"die")
        self.agent.wait("keep built anew", keep=keep["id"])
        got = self.agent.wait_state(keep["id"], "waiting")
        self.assertEqual(got["restarts"], 1)
        s.close()
        _, s = self.agent.ask("channel", keep_open=True, id=keep["id"])
        s.sendall(b"again")
        self.assertEqual(read_exactly(s, 5), b"AGAIN")
        s.close()
        self.agent.ask("stop", id=keep["id"])
        self.agent.wait_state(keep["id"], "ended")

    def test_steward_upcall(self):
        class Steward(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(403)
                self.end_headers()
                self.wfile.write(answers.pop(0) + body)

            log_message = lambda *_: None

        server = http.server.HTTPServer(("127.0.0.1", 0), Steward)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        keep, s = self.agent.create()
        body = base64.b64encode(b"csr").decode()
        problem = json.dumps({"title": "re\x1bfused", "reasons": [{"rule": "a.b", "text": "no\nway"}, {"rule": "c", "text": "x" * 900}]})
        answers = [b"no: ", problem.encode() + b" " * 3]
        s.sendall(b"upcall http://127.0.0.1:%d/v1/certify %s" % (server.server_port, body.encode()))
        answer = read_line(s)
        self.assertEqual((answer["id"], answer["status"]), (7, 403))
        self.assertEqual(base64.b64decode(answer["body"]), b"no: csr")
        s.close()
        _, s = self.agent.ask("channel", keep_open=True, id=keep["id"])
        s.sendall(b"upcall http://127.0.0.1:%d/v1/certify %s" % (server.server_port, base64.b64encode(b" ")))
        said = base64.b64decode(read_line(s)["body"])  # in words, which can be shown
        self.assertTrue(said.startswith(b"re fused: no way (a.b); xxx") and len(said) == 650, said)
        s.close()
        _, s = self.agent.ask("channel", keep_open=True, id=keep["id"])
        s.sendall(b"upcall file:///etc/passwd " + body.encode())
        self.assertIn("URL", read_line(s)["error"])
        s.close()
        self.agent.ask("stop", id=keep["id"])
        server.shutdown(), server.server_close()


class Tenants(unittest.TestCase):
    def test_reach(self):
        """A tenant from elsewhere gets nowhere in the host's network through the agent's requests to stewards."""
        listener = socket.create_server(("127.0.0.1", 0))
        port, url = listener.getsockname()[1], "http://127.0.0.1:%d" % listener.getsockname()[1]
        threading.Thread(target=lambda: [c.sendall(b"HTTP/1.1 204 No\r\n\r\n") or c.close() for c in
                                         iter(lambda: listener.accept()[0], None)], daemon=True).start()
        for more, stewards, reached in (("", "", False), ('connect = "none"', "", False), ('connect = "any"', "", True),
                                        ("", f'stewards = ["{url}/"]\n', True),
                                        ("", f'stewards = ["http://127.0.0.1:{port // 10}"]\n', False)):
            with Agent(config=stewards + tenants(acme=more)) as agent:
                keep, s = agent.create(token=TOKENS["acme"])
                s.sendall(b"upcall %s/v1/nonce " % url.encode() + b"QUJD")
                self.assertEqual("status" in read_line(s), reached, (more, stewards))
                s.close()
                agent.ask("stop", token=TOKENS["acme"], id=keep["id"])

    def test_reach_of_requests(self):
        """What one request may reach, another does not get through its connection, nor around its path."""
        class Inside(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                paths.append(self.path)
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"in")

            log_message = lambda *_: None

        paths = []
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Inside)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url, acme, zeta = "http://127.0.0.1:%d" % server.server_port, TOKENS["acme"], TOKENS["zeta"]
        with Agent(config=f'stewards = ["{url}/steward"]\n' + tenants(zeta='connect = "any"')) as agent:
            mine, other = agent.create(token=acme)[0], agent.create(token=zeta)[0]
            for token, keep, path, reached in ((zeta, other, "/any", True), (acme, mine, "/steward/v1/nonce", True),
                                               (acme, mine, "/secret", False), (acme, mine, "/steward", True),
                                               (acme, mine, "/steward/../secret", False),
                                               (acme, mine, "/steward/%2e%2e/secret", False),
                                               (acme, mine, "/steward/./../secret?x", False)):
                _, s = agent.ask("channel", keep_open=True, token=token, id=keep["id"])
                s.sendall(f"upcall {url}{path} QUJD".encode())
                self.assertEqual("status" in read_line(s), reached, path)
                s.close()
            self.assertEqual(paths, ["/any", "/steward/v1/nonce", "/steward"])
            for token, keep in ((acme, mine), (zeta, other)):
                agent.ask("stop", token=token, id=keep["id"])
        server.shutdown(), server.server_close()

    def test_reach_of_former_tenants(self):
        """A keep whose tenant is configured no more does not get the rights of the machine's own."""
        listener = socket.create_server(("127.0.0.1", 0))
        url = "http://127.0.0.1:%d" % listener.getsockname()[1]
        with Agent(config=tenants()) as agent:
            keep, s = agent.create(token=TOKENS["acme"])
            s.close()
            agent.kill()
            with open(f"{agent.state}/agent.toml", "w"):
                pass
            agent.start()
            agent.wait("keep adopted", keep=keep["id"])
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(f"{agent.state}/keeps/{keep['id']}/socket")
                s.settimeout(20)
                s.sendall(b"upcall %s/v1/nonce QUJD" % url.encode())
                self.assertIn("error", json.loads(s.makefile().readline()))
        listener.settimeout(0)
        with self.assertRaises(BlockingIOError):
            listener.accept()
        listener.close()

    def test_tokens_and_quotas(self):
        with Agent(config=tenants(acme='keeps = 2\nmemory = "3 GiB"\nkeep-memory = "1 GiB"')) as agent:
            acme, zeta = TOKENS["acme"], TOKENS["zeta"]
            for wrong in ({}, {"token": "b" * 32}, {"token": acme[:-1] + "b"}):
                answer = agent.ask("list", **wrong)
                self.assertFalse(answer["ok"])
                self.assertIn("token", answer["error"])
            first, a = agent.create(token=acme)
            self.assertEqual(agent.ask("list", token=zeta)["keeps"], [])
            for op in ("channel", "stop"):  # another's keep is no keep
                self.assertEqual(agent.ask(op, token=zeta, id=first["id"])["error"], "no such keep")
            answer = agent.ask("create", token=acme, memory=(2 << 30) + 1)
            self.assertIn("quota", answer["error"])
            second, b = agent.create(token=acme, memory=2 << 30)
            self.assertIn("2 keeps", agent.ask("create", token=acme)["error"])
            self.assertEqual(agent.ask("info", token=acme)["quota"]["keeps_used"], 2)
            agent.ask("stop", token=acme, id=first["id"])
            a.recv(1)
            agent.wait("keep ended", keep=first["id"])
            third, c = agent.create(token=acme)
            log = json.dumps(agent.log)
            self.assertNotIn(acme, log)
            self.assertNotIn(zeta, log)
            for s in (a, b, c):
                s.close()
            for k in (second, third):
                agent.ask("stop", token=acme, id=k["id"])

    def test_shares(self):
        """One tenant does not take all connections, nor one address before it says whose it is."""
        acme, zeta = TOKENS["acme"], TOKENS["zeta"]
        with Agent(config="connections = 32\n" + tenants()) as agent:
            keep, first = agent.create(token=acme)
            held, answer = [first], {"ok": True}
            while answer["ok"] and len(held) < 32:
                answer, s = agent.ask("channel", keep_open=True, token=acme, id=keep["id"])
                held.append(s)
            self.assertIn("connections", answer["error"])
            self.assertEqual(len(held), 25)
            other, s = agent.create(token=zeta)
            held.append(s)
            for s in held:
                s.close()
            for token, k in ((acme, keep), (zeta, other)):
                agent.ask("stop", token=token, id=k["id"])

    def hold(self, agent, n, addresses):
        """Connections that say nothing."""
        return [socket.create_connection(("127.0.0.1", agent.port), source_address=(addresses[i % len(addresses)], 0)) for i in range(n)]

    def closed(self, s):
        return bool(select.select([s], [], [], 0)[0])

    def test_silent_connections(self):
        """Who holds connections without saying who he is is in nobody's way, from however many addresses."""
        acme, many = TOKENS["acme"], [f"127.0.1.{i}" for i in range(1, 100)]
        with Agent(config="connections = 64\n" + tenants()) as agent:
            patient = self.hold(agent, 1, ["127.0.0.9"])
            for addresses in (["127.0.0.2"], many):
                silent = self.hold(agent, 99, addresses)
                began = time.monotonic()
                for _ in range(5):
                    self.assertTrue(agent.ask("list", token=acme)["ok"])
                self.assertLess(time.monotonic() - began, 5)
                self.assertGreaterEqual(sum(map(self.closed, silent)), 99 - 16)
                self.assertEqual(self.closed(patient[0]), len(addresses) > 1)  # who has one is not closed for who has many
                for s in silent:
                    s.close()
            patient[0].close()

    def test_silent_connections_while_full(self):
        """Also when relays have all that they may have; those go on."""
        acme = TOKENS["acme"]
        with Agent(config="connections = 32\n" + tenants().split("[[tenants]]\nname = \"zeta")[0]) as agent:
            keep, first = agent.create(token=acme)
            held, answer = [first], {"ok": True}
            while answer["ok"]:
                answer, s = agent.ask("channel", keep_open=True, token=acme, id=keep["id"])
                held.append(s)
            self.assertIn("connections", answer["error"])
            self.assertEqual(len(held), 30)
            silent = self.hold(agent, 60, [f"127.0.1.{i}" for i in range(1, 50)])
            for _ in range(5):
                self.assertTrue(agent.ask("list", token=acme)["ok"])
            self.assertEqual(sum(map(self.closed, held[:-1])), 0)
            held[5].sendall(b"still")
            self.assertEqual(read_exactly(held[5], 5), b"STILL")
            self.assertTrue(agent.ask("stop", token=acme, id=keep["id"])["ok"])
            for s in held + silent:
                s.close()

    def test_no_descriptors(self):
        """An agent without descriptors serves again once it has some, also where nobody's connection has to end first."""
        with Agent(config=tenants()) as agent:
            old = resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, (5, old[1]))
            s = socket.create_connection(("127.0.0.1", agent.port))
            agent.wait("as many connections as may be: the next waits")
            resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, old)
            self.assertTrue(agent.ask("list", token=TOKENS["acme"])["ok"])
            s.close()

    def test_backends(self):
        with Agent(config='backends = ["kvm", "process"]\n') as agent:
            self.assertIn("not offered", agent.ask("create", backend="fake")["error"])
            keep, s = agent.create()
            self.assertEqual(keep["backend"], "kvm")
            s.close()
            agent.ask("stop", id=keep["id"])

    def test_configuration(self):
        for text, says in [("x = 1", "unknown key"), ("[[tenants]]\nname='a'", "token-sha256"),
                           ("[[tenants]]\nname='../a'\ntoken-sha256='" + "0" * 64 + "'", "name"), ("= 1", "line 1"),
                           ("connections = 1", "from 8"), ("listen = []", "list"),
                           ("[[tenants]]\nmemory='x'", "size"),
                           ("[[tenants]]\nlisten='x'", "ports"), ("[[tenants]]\nconnect='some'", "public")]:
            p = subprocess.run([f"{BIN}/donjon-agent", "--config", "/dev/stdin", "--state", "/nowhere"], input=text,
                               capture_output=True, text=True)
            self.assertEqual(p.returncode, 125, text)
            self.assertIn(says, p.stderr, text)

    def test_new_token(self):
        p = subprocess.run([f"{BIN}/donjon", "agent", "--new-token", "acme"], capture_output=True, text=True)
        self.assertEqual(p.returncode, 0)
        token = p.stdout.strip().split("\n")[-1].removeprefix("# ")
        self.assertIn(hashlib.sha256(token.encode()).hexdigest(), p.stdout)
        with Agent(config=p.stdout) as agent:
            self.assertEqual(agent.ask("info", token=token)["tenant"], "acme")


class Crashes(unittest.TestCase):
    def test_agent_is_killed(self):
        with Agent() as agent:
            keep, s = agent.create(name="survivor")
            s.sendall(b"state running")
            agent.wait_state(keep["id"], "running")
            dead, s2 = agent.create()
            pids = {r["id"]: r["pid"] for r in agent.records()}
            agent.kill()
            self.assertTrue(alive(pids[keep["id"]]))
            os.kill(pids[dead["id"]], signal.SIGKILL)
            wait_dead(pids[dead["id"]])
            key, since = agent.key, len(agent.log)
            agent.start()
            self.assertEqual(agent.key, key)
            agent.wait("keep adopted", since, keep=keep["id"])
            self.assertEqual(agent.wait_state(keep["id"], "running")["name"], "survivor")
            self.assertEqual(agent.keep(dead["id"])["exit"]["outcome"], "killed")
            self.assertEqual(os.listdir(f"{agent.state}/keeps"), [keep["id"]])
            _, again = agent.ask("channel", keep_open=True, id=keep["id"])
            again.sendall(b"still there")
            self.assertEqual(read_exactly(again, 11), b"STILL THERE")
            agent.ask("stop", id=keep["id"])
            wait_dead(pids[keep["id"]])
            for x in (s, s2, again):
                x.close()

    def test_another_boot(self):
        """After a loss of power the numbers in a record name other processes: nobody is killed by them."""
        with Agent() as agent:
            keep, s = agent.create(name="lost")
            pid = agent.records()[0]["pid"]
            agent.kill()
            os.kill(pid, signal.SIGKILL)
            innocent = subprocess.Popen(["sleep", "60"])
            with open(f"/proc/{innocent.pid}/stat") as f:
                started = int(f.read().rsplit(")", 1)[1].split()[19])
            path = f"{agent.state}/records/{keep['id']}.json"
            with open(path) as f:
                record = json.load(f)
            with open(path, "w") as f:
                json.dump(dict(record, boot="0" * 36, pid=innocent.pid, started=started), f)
            for name in (keep["id"] + ".json.new", "f" * 32 + ".json", "f" * 32 + ".json.new"):  # what a crash may leave
                with open(f"{agent.state}/records/{name}", "x") as f:
                    f.write("{")
            agent.start()
            there = agent.keep(keep["id"])
            self.assertEqual((there["name"], there["state"], there["exit"]["outcome"]), ("lost", "ended", "killed"))
            self.assertIsNone(innocent.poll())
            self.assertEqual((os.listdir(f"{agent.state}/records"), os.listdir(f"{agent.state}/keeps")), ([], []))
            innocent.kill(), innocent.wait()
            s.close()

    def test_killed_while_building(self):
        """What was never acknowledged is ended and leaves nothing."""
        with Agent(env={"FAKE_KEEP": "slow"}) as agent:
            s = agent.connect()
            s.sendall(b'{"v":1,"op":"create"}\n')
            end = time.monotonic() + 10
            while not agent.records():
                self.assertLess(time.monotonic(), end)
                time.sleep(0.01)
            pid = agent.records()[0]["pid"]
            agent.kill()
            agent.start()
            wait_dead(pid)
            self.assertEqual(os.listdir(f"{agent.state}/keeps"), [])
            self.assertEqual(agent.ask("list")["keeps"], [])
            s.close()

    def test_tenant_leaves_while_building(self):
        with Agent(env={"FAKE_KEEP": "slow"}) as agent:
            s = agent.connect()
            s.sendall(b'{"v":1,"op":"create"}\n')
            while not agent.records():
                time.sleep(0.01)
            pid = agent.records()[0]["pid"]
            s.close()
            wait_dead(pid)
            end = time.monotonic() + 5
            while os.listdir(f"{agent.state}/keeps") and time.monotonic() < end:
                time.sleep(0.02)
            self.assertEqual(os.listdir(f"{agent.state}/keeps"), [])

    def test_keep_cannot_be_built(self):
        for keep, mode, says in ((FAKE, "refuse", "no such backend"), ("/bin/false", "", "ended while"),
                                 ("/bin/sleep", "", "ended while")):
            with Agent(env={"FAKE_KEEP": mode}, keep=keep) as agent:
                answer = agent.ask("create")
                self.assertIn(says, answer["error"])
                self.assertEqual(os.listdir(f"{agent.state}/keeps"), [])

    def test_keep_cannot_be_built_again(self):
        with Agent(env={"FAKE_KEEP": "once"}) as agent:
            keep, s = agent.create(restart=True)
            s.sendall(b"die")
            self.assertEqual(agent.wait_state(keep["id"], "ended")["restarts"], 1)
            s.close()

    def test_rude_keep(self):
        with Agent(env={"FAKE_KEEP": "rude"}) as agent:
            keep, s = agent.create()
            self.assertEqual(agent.wait_state(keep["id"], "ended")["exit"]["outcome"], "killed")
            self.assertEqual(os.listdir(f"{agent.state}/keeps"), [])
            s.close()

    def test_sigterm(self):
        """Keeps stay, connections finish; with --end-keeps they go."""
        with Agent("--drain", "1") as agent:
            keep, s = agent.create()
            pid = agent.records()[0]["pid"]
            self.assertEqual(agent.kill(signal.SIGTERM), 0)
            self.assertTrue(alive(pid))
            agent.options.append("--end-keeps")
            agent.start()
            agent.wait("keep adopted", keep=keep["id"])
            self.assertEqual(agent.kill(signal.SIGTERM), 0)
            wait_dead(pid)
            self.assertEqual(os.listdir(f"{agent.state}/keeps"), [])
            s.close()

    def test_relay_goes_on_while_draining(self):
        with Agent("--drain", "10") as agent:
            keep, s = agent.create()
            agent.process.send_signal(signal.SIGTERM)
            agent.wait("stopping: no new connections")
            s.sendall(b"goes on")
            self.assertEqual(read_exactly(s, 7), b"GOES ON")
            self.assertRaises(OSError, agent.connect)
            s.close()
            self.assertEqual(agent.process.wait(5), 0)

    def test_two_agents(self):
        with Agent() as agent:
            p = subprocess.run([f"{BIN}/donjon-agent", "--state", agent.state, "--keep", "/bin/true"],
                               capture_output=True, text=True)
            self.assertEqual(p.returncode, 125)
            self.assertIn("another agent", p.stderr)

    def test_socket_activation(self):
        listener = socket.create_server(("127.0.0.1", 0))
        os.set_inheritable(listener.fileno(), True)
        code = (f"import os, sys; os.dup2({listener.fileno()}, 3); os.environ['LISTEN_PID'] = str(os.getpid()); "
                "os.environ['LISTEN_FDS'] = '1'; os.execv(sys.argv[1], sys.argv[1:])")
        agent = Agent.__new__(Agent)
        agent.own, agent.log, agent.env = True, [], dict(os.environ)
        import tempfile
        agent.state = tempfile.mkdtemp(prefix="dj")
        agent.options = [sys.executable, "-c", code, f"{BIN}/donjon-agent", "--state", agent.state, "--json", "--keep",
                         "/bin/true"]
        agent.start(pass_fds=[listener.fileno(), 3] if listener.fileno() != 3 else [3])
        with agent:
            self.assertEqual(agent.port, listener.getsockname()[1])
            self.assertTrue(agent.ask("info")["ok"])
        listener.close()


class Load(unittest.TestCase):
    """1,000 connections at once; nothing grows."""

    def usage(self, agent):
        with open(f"/proc/{agent.process.pid}/status") as f:
            rss = next(int(l.split()[1]) for l in f if l.startswith("VmRSS"))
        return len(os.listdir(f"/proc/{agent.process.pid}/fd")), rss

    def test_thousand_connections(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 4096:
            self.skipTest("needs 4,096 descriptors")
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        with Agent() as agent:
            keep, first = agent.create()
            before = self.usage(agent)
            held = []
            for _ in range(1000):
                answer, s = agent.ask("channel", keep_open=True, id=keep["id"])
                self.assertTrue(answer["ok"], answer)
                held.append(s)
            for i, s in enumerate(held):
                s.sendall(b"n%d " % i)
            for i, s in enumerate(held):
                expected = b"N%d " % i
                self.assertEqual(read_exactly(s, len(expected)), expected)
            full = self.usage(agent)
            for s in held:
                s.close()
            end = time.monotonic() + 10
            while self.usage(agent)[0] > before[0] and time.monotonic() < end:
                time.sleep(0.05)
            self.assertEqual(self.usage(agent)[0], before[0])
            print(f"1,000 relays: {full[0]} descriptors, {full[1] - before[1]} KiB more memory", file=sys.stderr)
            first.close()
            agent.ask("stop", id=keep["id"])
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


if __name__ == "__main__":
    unittest.main(verbosity=1)
