#!/usr/bin/env python3
"""Modules with one big function each: how does compiling grow with a function's size?

usage: shapes.py SHAPE KIB OUT.wasm        shapes.py --list

Only what the function's body costs to compile matters; it does nothing sensible. The same shape and size give the same bytes."""
import random, sys

I32, I64, F64 = 0x7F, 0x7E, 0x7C
GET, SET, TEE = 0x20, 0x21, 0x22
END, ELSE, VOID = b"\x0b", b"\x05", b"\x40"


def leb(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def sleb(n):
    out = bytearray()
    while not -64 <= n < 64:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n & 0x7F)
    return bytes(out)


def get(x):
    return b"\x20" + leb(x)


def put(x):
    return b"\x21" + leb(x)


def const(n):
    return b"\x41" + sleb(n)


def br_if(depth):
    return b"\x0d" + leb(depth)


class Shape:
    """Locals: 0 and 1 are the parameters, `locals` more are i32. `until` says when there is enough."""

    def __init__(self, size):
        self.size, self.body, self.random = size, bytearray(), random.Random(1)
        self.locals = 30

    def full(self, share=1.0):
        return len(self.body) >= self.size * share

    def any(self):
        return self.random.randrange(2 + self.locals)

    def statement(self):
        """A few instructions on locals and memory."""
        r = self.random.randrange(5)
        if r == 0:
            return get(self.any()) + b"\x28\x02" + leb(4 * self.random.randrange(64)) + put(self.any())
        if r == 1:
            return get(self.any()) + get(self.any()) + b"\x36\x02" + leb(4 * self.random.randrange(64))
        if r == 2:
            return get(self.any()) + const(self.random.randrange(-5000, 5000)) + b"\x6a" + put(self.any())
        op = self.random.choice((0x6A, 0x6B, 0x6C, 0x71, 0x72, 0x73, 0x74, 0x77))
        return get(self.any()) + get(self.any()) + bytes([op]) + put(self.any())

    def straight(self):
        """Straight-line arithmetic, loads and stores on 32 locals."""
        while not self.full():
            self.body += self.statement()

    def locals_(self):
        """The same on as many locals as a function may have, some with branches between."""
        self.locals = min(self.size // 16, 49000)
        while not self.full():
            self.body += b"\x02" + VOID + self.statement() + get(self.any()) + br_if(0) + self.statement() + END

    def diamonds(self):
        """if/else, one after the other, each assigning two locals."""
        while not self.full():
            self.body += get(self.any()) + b"\x04" + VOID + self.statement() + ELSE + self.statement() + END

    def nested(self):
        """Blocks nested as deep as the size allows, which branches leave by any number of levels."""
        depth = self.size // 32
        self.body += (b"\x02" + VOID) * depth
        while depth:
            self.body += self.statement() + get(self.any()) + br_if(self.random.randrange(depth))
            self.body += self.statement() + get(self.any()) + b"\x45" + br_if(0) + self.statement() + END
            depth -= 1

    def loops(self):
        """Loops nested eight deep, one nest after the other."""
        while not self.full():
            for _ in range(8):
                self.body += b"\x03" + VOID + self.statement()
            for _ in range(8):
                self.body += self.statement() + get(self.any()) + br_if(0) + END

    def deep_loops(self):
        """One nest of loops as deep as the size allows."""
        depth = self.size // 32
        for _ in range(depth):
            self.body += b"\x03" + VOID + self.statement()
        for _ in range(depth):
            self.body += self.statement() + get(self.any()) + br_if(0) + END

    def unrolled(self):
        """One loop around everything."""
        self.body += b"\x03" + VOID
        while not self.full():
            self.body += self.statement()
        self.body += get(1) + br_if(0) + END

    def interpreter(self):
        """A loop around a br_table with a case for every 64 bytes of it."""
        n = max(1, self.size // 64)
        self.body += b"\x03" + VOID + (b"\x02" + VOID) * (n + 1)
        self.body += get(0) + b"\x0e" + leb(n) + b"".join(leb(k) for k in range(n + 1))
        self.body += END
        for k in range(n):
            for _ in range(6):
                self.body += self.statement()
            self.body += b"\x0c" + leb(n - k) + END
        self.body += END

    def threaded(self):
        """An interpreter whose every case has a br_table of its own, of 64 cases."""
        while not self.full():
            self.body += b"\x03" + VOID + (b"\x02" + VOID) * 65
            table = lambda k: get(self.any()) + b"\x0e" + leb(64) + b"".join(leb(max(d, 0) if d >= k else 64 - k) for d in range(65))
            self.body += get(0) + b"\x0e" + leb(64) + b"".join(leb(k) for k in range(65)) + END
            for k in range(64):
                for _ in range(4):
                    self.body += self.statement()
                self.body += get(self.any()) + br_if(63 - k + 1) + END
            self.body += END

    def live(self):
        """Thousands of values made, then used in another order."""
        self.locals = min(self.size // 12, 49000)
        order = list(range(2, 2 + self.locals))
        while not self.full():
            for x in order:
                self.body += get(0) + b"\x28\x02" + leb(4 * (x % 1000)) + put(x)
                if self.full(): break
            self.random.shuffle(order)
            for x in order:
                self.body += get(1) + get(x) + b"\x6a" + put(1)
                if self.full(): break

    def calls(self):
        """Calls with thirty locals alive over them."""
        while not self.full():
            self.body += self.statement() + get(self.any()) + get(self.any()) + b"\x10\x00" + put(self.any())

    def unwinding(self):
        """Calls, and behind each a branch to one block that wants every local: what asyncify makes."""
        self.locals = min(self.size // 512, 2000)
        self.body += b"\x02" + VOID
        while not self.full():
            self.body += self.statement() + get(0) + get(self.any()) + b"\x10\x00" + put(self.any()) + get(1) + br_if(0)
        self.body += END
        for x in range(2, 2 + self.locals):
            self.body += get(0) + get(x) + b"\x36\x02" + leb(4 * x)

    def float(self):
        """Straight-line arithmetic of doubles."""
        while not self.full():
            f = lambda: 2 + self.locals + self.random.randrange(30)
            self.body += get(f()) + get(f()) + bytes([self.random.choice((0xA0, 0xA1, 0xA2))]) + put(f())
            if self.random.randrange(4) == 0:
                self.body += get(self.any()) + get(f()) + b"\x39\x03\x00"


NAMES = {"straight": Shape.straight, "float": Shape.float, "locals": Shape.locals_, "diamonds": Shape.diamonds,
         "nested": Shape.nested, "loops": Shape.loops, "deep-loops": Shape.deep_loops, "unrolled": Shape.unrolled,
         "interpreter": Shape.interpreter, "threaded": Shape.threaded, "live": Shape.live, "calls": Shape.calls,
         "unwinding": Shape.unwinding}


def section(number, content):
    return bytes([number]) + leb(len(content)) + content


def module(name, size):
    shape = Shape(size)
    NAMES[name](shape)
    groups = b"\x02" + leb(shape.locals) + bytes([I32]) + leb(30) + bytes([F64])
    big = groups + bytes(shape.body) + get(0) + END
    small = b"\x00" + get(0) + END
    codes = leb(2) + leb(len(small)) + small + leb(len(big)) + big
    return (b"\0asm\1\0\0\0" + section(1, b"\x01\x60\x02" + bytes([I32, I32]) + b"\x01" + bytes([I32])) +
            section(3, b"\x02\x00\x00") + section(5, b"\x01\x00\x01") + section(7, b"\x01\x03big\x00\x01") + section(10, codes))


def main():
    if sys.argv[1:] == ["--list"]:
        print(*NAMES)
        return
    name, kib, out = sys.argv[1:]
    with open(out, "wb") as f:
        f.write(module(name, int(kib) * 1024))


if __name__ == "__main__":
    main()
