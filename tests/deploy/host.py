"""A host and a tenant on this machine: an agent with true keeps, and `donjon deploy` with a home of its own."""
import atexit, json, os, shutil, subprocess, sys, tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path += [ROOT, os.path.join(ROOT, "agent"), os.path.join(ROOT, "cli")]
from agent import Agent, BIN  # noqa: E402
from backends import backends  # noqa: E402
import modules  # noqa: E402

DONJON = f"{BIN}/donjon"
# Writes "tick\n" every 50 ms, for ever; after what it has on its environment.
modules.IMPORTS["poll_oneoff"] = "(param i32 i32 i32 i32) (result i32)"
modules.SOURCES["ticker"] = modules.program("""(func (export "_start") (loop $more
    (call $put (i32.const 64) (i32.const 5))
    (i32.store (i32.const 256) (i32.const 0)) (i32.store8 (i32.const 264) (i32.const 0)) (i32.store (i32.const 272) (i32.const 1))
    (i64.store (i32.const 280) (i64.const 50000000)) (i64.store (i32.const 288) (i64.const 0)) (i32.store16 (i32.const 296) (i32.const 0))
    (drop (call $poll_oneoff (i32.const 256) (i32.const 512) (i32.const 1) (i32.const 1024)))
    (br $more)))""", "poll_oneoff", "fd_write", data=r'(data (i32.const 64) "tick\n")')
# Writes "tick\n" once, then computes for ever.
modules.SOURCES["computes"] = modules.program(
    '(func (export "_start") (call $put (i32.const 64) (i32.const 5)) (loop $more (br $more)))', "fd_write",
    data=r'(data (i32.const 64) "tick\n")')
# A line, then the end with exit code 3.
modules.SOURCES["fails"] = modules.program(
    '(func (export "_start") (call $put (i32.const 64) (i32.const 5)) (call $proc_exit (i32.const 3)))', "fd_write",
    "proc_exit", data=r'(data (i32.const 64) "done\n")')
module = modules.module


def skip(why):
    print("SKIP:", why)
    sys.exit(77)


def needs():
    """Leaves with a reason where a deployment cannot be tried at all."""
    if not os.path.exists(f"{BIN}/donjon-keep"):
        skip("donjon-keep is not built")
    if not shutil.which("wat2wasm"):
        skip("needs wat2wasm (Debian package wabt)")


class Tenant:
    """Runs donjon's verbs against one agent."""

    def __init__(self, agent):
        self.agent = agent
        self.home = tempfile.mkdtemp(prefix="djt")
        atexit.register(shutil.rmtree, self.home, ignore_errors=True)
        self.env = dict(os.environ, HOME=self.home, XDG_STATE_HOME=self.home, XDG_CACHE_HOME=self.home + "/cache")

    @property
    def host(self):
        return f"127.0.0.1:{self.agent.port}"

    def start(self, verb, *args, **popen):
        return subprocess.Popen([DONJON, verb, *args], env=self.env, **popen)

    def run(self, verb, *args, input=None, timeout=60):
        return subprocess.run([DONJON, verb, *args], env=self.env, input=input, capture_output=True, timeout=timeout)

    def deploy(self, *args, allow=True, **kw):
        return self.run("deploy", "--host", self.host, *(["--allow-no-tee"] if allow else []), *args, **kw)

    def ps(self):
        p = self.run("ps", "--json")
        assert p.returncode == 0, p.stderr
        return json.loads(p.stdout)

    def remembered(self):
        d = os.path.join(self.home, "donjon", "deployments")
        return os.listdir(d) if os.path.isdir(d) else []
