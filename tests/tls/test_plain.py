#!/usr/bin/env python3
"""Plain sockets of a program in a keep (prot = "tcp"), which share waiting and sending with those that have TLS: what a
network and a program can do to each other must come out as on any machine."""
import os, random, socket, threading, time, unittest

import test_tls as base
from test_tls import Keep, get

LISTEN = base.LISTEN + 'prot = "tcp"\n'

# A server with poll and blocking descriptors, one connection after the other: reads exactly eight bytes (MSG_WAITALL is not
# known to wasi-libc's read, so piece by piece), answers with them backwards.
BLOCKING = r"""
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    for (;;) {
        char in[8], out[8];
        int fd = accept(3, 0, 0);
        if (fd < 0) return 1;
        for (;;) {
            struct pollfd p = {.fd = fd, .events = POLLIN};
            size_t got = 0;
            ssize_t n = 1;
            if (poll(&p, 1, -1) != 1) return 2;
            while (got < 8 && (n = read(fd, in + got, 8 - got)) > 0) got += (size_t)n;
            if (n <= 0) break;
            for (int i = 0; i < 8; i++) out[i] = in[7 - i];
            if (write(fd, out, 8) != 8) break;
        }
        close(fd);
    }
}
"""

# Takes twenty connections, and when all have said something answers each with that, and ends at once.
LEAVES = r"""
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
enum { N = 20 };
int main(void) {
    static char text[N][4096];
    struct pollfd p[N];
    ssize_t n[N];
    for (int i = 0; i < N; i++) {
        p[i] = (struct pollfd){.fd = accept(3, 0, 0), .events = POLLIN};
        if (p[i].fd < 0 || fcntl(p[i].fd, F_SETFL, O_NONBLOCK) != 0) return 1;
    }
    for (int left = N; left > 0;) {
        if (poll(p, N, -1) < 0) return 2;
        left = 0;
        for (int i = 0; i < N; i++) left += !p[i].revents;
    }
    for (int i = 0; i < N; i++)
        if ((n[i] = read(p[i].fd, text[i], sizeof text[i])) <= 0) return 3;
    for (int i = 0; i < N; i++)
        if (write(p[i].fd, text[i], (size_t)n[i]) != n[i]) return 4;
    return 0;
}
"""


def connect(keep):
    return socket.create_connection(("127.0.0.1", keep.port), 10)


def connect_when_there(test, keep):
    deadline = time.time() + 20
    while True:
        try:
            return connect(keep)
        except OSError:
            test.assertLess(time.time(), deadline)
            time.sleep(0.02)


class Plain(unittest.TestCase):
    def test_many_at_once(self):
        """Forty connections, each with its own questions: every answer is its own, in order, however they are mixed."""
        with Keep("web", LISTEN, ["3000"]) as k:
            socks = [connect(k) for _ in range(40)]
            random.seed(1)
            for turn in range(30):
                asked = random.sample(range(40), random.randint(1, 40))
                for i in asked:  # two requests in one piece, now and then; or one in two
                    text = f"GET /echo?{i}-{turn} HTTP/1.1\r\n\r\n"
                    if random.random() < 0.2:
                        socks[i].sendall(text[:9].encode())
                        text = text[9:]
                    socks[i].sendall(text.encode())
                for i in asked:
                    want = f"\r\n\r\n{i}-{turn}".encode()
                    data = b""
                    while not data.endswith(want):
                        piece = socks[i].recv(4096)
                        self.assertTrue(piece, data)
                        data += piece
            for s in socks:
                s.close()

    def test_large_pages_and_slow_readers(self):
        size = 5000000
        with Keep("web", LISTEN, [str(size)]) as k:
            slow = [connect(k) for _ in range(3)]
            for s in slow:
                s.sendall(b"GET / HTTP/1.1\r\n\r\n")
            time.sleep(0.2)
            for _ in range(3):
                with connect(k) as s:
                    self.assertEqual(get(s, "/echo?quick"), b"quick")
            page = bytes(10 if i % 64 == 63 else ord("a") + i % 26 for i in range(size))
            with connect(k) as s:
                self.assertEqual(get(s), page)
            for s in slow:
                data = b""
                while len(data) < size:
                    piece = s.recv(1 << 16)
                    self.assertTrue(piece)
                    data += piece
                self.assertTrue(page.startswith(data[data.index(b"\r\n\r\n") + 4:]))
                s.close()

    def test_ends(self):
        """The server's end after `Connection: close`; a client that sends no more; one that goes; one that breaks off."""
        with Keep("web", LISTEN) as k:
            for _ in range(20):
                with connect(k) as a, connect(k) as b:
                    for s in (a, b):
                        s.sendall(b"GET /echo?bye HTTP/1.1\r\nConnection: close\r\n\r\n")
                    for s in (a, b):
                        data = b""
                        while piece := s.recv(100):
                            data += piece
                        self.assertTrue(data.endswith(b"\r\n\r\nbye"), data)
            with connect(k) as s:
                s.sendall(b"GET /echo?last HTTP/1.1\r\n\r\n")
                s.shutdown(socket.SHUT_WR)
                self.assertIn(b"last", s.recv(1000))
            s = connect(k)
            s.sendall(b"GET / HT")
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            s.close()
            with connect(k) as s:
                self.assertEqual(get(s, "/echo?on"), b"on")

    def test_what_a_program_leaves_unsent(self):
        """It ends right after its last answers: they arrive."""
        with Keep("leaves", LISTEN, wait=False) as k:
            socks = [connect_when_there(self, k) for _ in range(20)]
            for i, s in enumerate(socks):
                s.sendall(f"{i};".encode() * 500)
            self.assertEqual(k.p.wait(20), 0)
            for i, s in enumerate(socks):
                data = b""
                while piece := s.recv(10000):
                    data += piece
                self.assertEqual(data, f"{i};".encode() * 500)
                s.close()

    def test_blocking_programs(self):
        with Keep("echo", LISTEN, wait=False) as k:
            s = connect_when_there(self, k)
            data = b"end" + os.urandom(700000)
            got = []

            def reader():
                while piece := s.recv(65536):
                    got.append(piece)

            thread = threading.Thread(target=reader)
            thread.start()
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            thread.join(20)
            self.assertEqual(b"".join(got), data)
            s.close()
        with Keep("blocking", LISTEN) as k:
            with connect(k) as s:
                s.sendall(b"abcdefgh12")
                self.assertEqual(s.recv(8), b"hgfedcba")
                time.sleep(0.05)
                s.sendall(b"345678")
                self.assertEqual(s.recv(8), b"87654321")

    def test_thousand_connections(self):
        with Keep("web", LISTEN) as k:
            idle = [connect(k) for _ in range(1000)]
            for i in range(0, 1000, 37):
                self.assertEqual(get(idle[i], f"/echo?{i}"), str(i).encode())
            for s in idle:
                s.close()


if __name__ == "__main__":
    base.main("__main__", {"blocking": BLOCKING, "leaves": LEAVES})
