"""Small WASI programs as WebAssembly text. module(name) gives the path of the assembled one."""
import atexit, os, shutil, subprocess, tempfile

WASI = "wasi_snapshot_preview1"
IMPORTS = {
    "proc_exit": "(param i32)",
    "fd_write": "(param i32 i32 i32 i32) (result i32)",
    "fd_read": "(param i32 i32 i32 i32) (result i32)",
    "args_sizes_get": "(param i32 i32) (result i32)",
    "args_get": "(param i32 i32) (result i32)",
    "environ_sizes_get": "(param i32 i32) (result i32)",
    "environ_get": "(param i32 i32) (result i32)",
    "fd_prestat_get": "(param i32 i32) (result i32)",
    "fd_prestat_dir_name": "(param i32 i32 i32) (result i32)",
    "path_open": "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)",
    "sock_accept": "(param i32 i32 i32) (result i32)",
    "fd_fdstat_get": "(param i32 i32) (result i32)",
}

# (call $put (i32.const address) (i32.const length)): writes to stdout all of it, or traps.
PUT = """
  (func $put (param $at i32) (param $n i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $n))
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))
"""


def program(body, *imports, data=""):
    uses = "".join(f'(import "{WASI}" "{i}" (func ${i} {IMPORTS[i]}))' for i in imports)
    put = PUT if "fd_write" in imports else ""
    return f'(module {uses} (memory (export "memory") 4) {data} {put} {body})'


SOURCES = {
    "empty": program('(func (export "_start"))'),
    "exit7": program('(func (export "_start") (call $proc_exit (i32.const 7)))', "proc_exit"),
    "exit255": program('(func (export "_start") (call $proc_exit (i32.const 255)))', "proc_exit"),
    "exit300": program('(func (export "_start") (call $proc_exit (i32.const 300)))', "proc_exit"),
    "hello": program('(func (export "_start") (call $put (i32.const 64) (i32.const 6)))', "fd_write",
                     data=r'(data (i32.const 64) "hello\n")'),
    "trap": program('(func $inner (export "inner") unreachable) (func $outer call $inner) (func (export "_start") call $outer)'),
    "divide": program('(func $divide (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0)))'
                      '(func (export "_start") (drop (call $divide (i32.const 0))))'),
    "recurse": program('(func $f (export "_start") call $f)'),
    "oob": program('(func (export "_start") (drop (i32.load (i32.const -1))))'),
    "spin": program('(func (export "_start") (loop $l (br $l)))'),
    "yes": program('(func (export "_start") (loop $l (call $put (i32.const 64) (i32.const 2)) (br $l)))', "fd_write",
                   data=r'(data (i32.const 64) "y\n")'),
    # A program that ignores write errors and spins: it must still end when its reader goes.
    "cat": program("""(func (export "_start") (loop $more
        (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 65536))
        (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
        (if (i32.load (i32.const 8)) (then (call $put (i32.const 64) (i32.load (i32.const 8))) (br $more)))))""", "fd_read", "fd_write"),
    "args": program("""(func (export "_start")
        (drop (call $args_sizes_get (i32.const 16) (i32.const 20)))
        (drop (call $args_get (i32.const 1024) (i32.const 65536)))
        (call $put (i32.const 65536) (i32.load (i32.const 20))))""", "args_sizes_get", "args_get", "fd_write"),
    "env": program("""(func (export "_start")
        (drop (call $environ_sizes_get (i32.const 16) (i32.const 20)))
        (drop (call $environ_get (i32.const 1024) (i32.const 65536)))
        (call $put (i32.const 65536) (i32.load (i32.const 20))))""", "environ_sizes_get", "environ_get", "fd_write"),
    # The names of all preopens, a line each.
    "preopens": program("""(func (export "_start") (local $fd i32) (local $e i32)
        (local.set $fd (i32.const 3))
        (block $end (loop $next
          (local.set $e (call $fd_prestat_get (local.get $fd) (i32.const 16)))
          (br_if $end (i32.eq (local.get $e) (i32.const 8)))
          (if (i32.and (i32.eqz (local.get $e)) (i32.eqz (i32.load8_u (i32.const 16)))) (then
            (if (call $fd_prestat_dir_name (local.get $fd) (i32.const 1024) (i32.load (i32.const 20))) (then unreachable))
            (i32.store8 (i32.add (i32.const 1024) (i32.load (i32.const 20))) (i32.const 10))
            (call $put (i32.const 1024) (i32.add (i32.load (i32.const 20)) (i32.const 1)))))
          (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
          (br $next))))""", "fd_prestat_get", "fd_prestat_dir_name", "fd_write"),
    # Opens "file" in the first preopen and copies it to stdout; exits with the error of path_open.
    "show_file": program("""(func (export "_start") (local $e i32)
        (local.set $e (call $path_open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 0)
                         (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)))
        (if (local.get $e) (then (call $proc_exit (local.get $e))))
        (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 4096))
        (if (call $fd_read (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
        (call $put (i32.const 1024) (i32.load (i32.const 8))))""", "path_open", "proc_exit", "fd_read", "fd_write",
                         data='(data (i32.const 64) "file")'),
    # Creates "new" in the first preopen with "hello\n" in it; exits with the error of path_open.
    "make_file": program("""(func (export "_start") (local $e i32)
        (local.set $e (call $path_open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 3) (i32.const 9)
                         (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 16)))
        (if (local.get $e) (then (call $proc_exit (local.get $e))))
        (i32.store (i32.const 0) (i32.const 72)) (i32.store (i32.const 4) (i32.const 6))
        (if (call $fd_write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))""",
                         "path_open", "proc_exit", "fd_write", data=r'(data (i32.const 64) "new") (data (i32.const 72) "hello\n")'),
    # Writes to "new" in the first preopen, 64 KiB at a time, until that fails; exits with the error.
    "fill": program("""(func (export "_start") (local $e i32)
        (local.set $e (call $path_open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 3) (i32.const 9)
                         (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 16)))
        (i32.store (i32.const 4) (i32.const 65536))
        (loop $more (local.set $e (call $fd_write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))
          (br_if $more (i32.eqz (local.get $e))))
        (call $proc_exit (local.get $e)))""", "path_open", "proc_exit", "fd_write", data='(data (i32.const 64) "new")'),
    "unknown": '(module (import "env" "missing" (func $m)) (import "other" "thing" (func $t (param i32) (result i32)))'
               '(memory (export "memory") 1) (func (export "_start")))',
    "unknown_called": '(module (import "env" "missing" (func $m)) (memory (export "memory") 1) (func (export "_start") call $m))',
    # Traps unless the results, which follow arguments on the stack, are all zero.
    "unknown_results": '(module (import "env" "missing" (func $m (param i64 i64) (result i64 f64)))'
                       '(func (export "_start") (local i64 f64) i64.const -1 i64.const -1 call $m local.set 1 local.set 0'
                       ' local.get 0 i64.eqz local.get 1 i64.reinterpret_f64 i64.eqz i32.and if else unreachable end))',
    "no_start": '(module (memory (export "memory") 1) (func (export "other")))',
    "big_memory": '(module (memory (export "memory") 4096) (func (export "_start")))',
    # Exits with 1 when memory.grow by 16 MiB fails, 0 when it works.
    "grow": program('(func (export "_start") (if (i32.eq (memory.grow (i32.const 256)) (i32.const -1)) (then (call $proc_exit (i32.const 1)))))',
                    "proc_exit"),
    # Accepts one connection on descriptor 3, sends "hello\n" on it.
    "server": program("""(func (export "_start")
        (if (call $sock_accept (i32.const 3) (i32.const 0) (i32.const 16)) (then (call $proc_exit (i32.const 1))))
        (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 6))
        (if (call $fd_write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)) (then (call $proc_exit (i32.const 2)))))""",
                      "sock_accept", "proc_exit", "fd_write", data=r'(data (i32.const 64) "hello\n")'),
    # Copies what comes from descriptor 3 to stdout.
    "client": program("""(func (export "_start") (loop $more
        (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 65536))
        (if (call $fd_read (i32.const 3) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
        (if (i32.load (i32.const 8)) (then (call $put (i32.const 64) (i32.load (i32.const 8))) (br $more)))))""", "fd_read", "fd_write"),
}

_dir = None


def module(name):
    global _dir
    if _dir is None:
        _dir = tempfile.mkdtemp(prefix="donjon-cli-")
        atexit.register(shutil.rmtree, _dir, ignore_errors=True)
    path = os.path.join(_dir, name + ".wasm")
    if not os.path.exists(path):
        text = os.path.join(_dir, name + ".wat")
        with open(text, "w") as f:
            f.write(SOURCES[name])
        subprocess.run(["wat2wasm", "--debug-names", text, "-o", path], check=True)
    return path


if __name__ == "__main__":
    for n in SOURCES:
        print(n, module(n), os.path.getsize(module(n)))
