#!/usr/bin/env python3
"""Renewal by a steward that is slow, dead, or answers nonsense: the program answers its clients meanwhile, with the
certificate it had."""
import os, ssl, sys, time, unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import test_tls as base
from slow_steward import SlowSteward
from test_evidence import command, path

LIFE = 4  # seconds: renewed after two and a half
SLOW = 2.5  # what each of the steward's two answers takes then
PROMPT = 2  # what a client may wait on a machine that is busy with other tests


def serial(s):
    return ssl.DER_cert_to_PEM_cert(s.getpeercert(True))


class Renewal(unittest.TestCase):
    def setUp(self):
        self.steward = SlowSteward(path("slow" + self.id()), LIFE)
        self.addCleanup(self.steward.close)

    def keep(self, program="web", **kw):
        return base.Keep(program, base.LISTEN, before=f'steward = "{self.steward.url}"\n',
                         more=f'[tls]\nsteward-ca = "{self.steward.dir}/ca.pem"\n', command=command, **kw)

    def connect(self, k):
        """The chain alone is checked: at LIFE's end the old one is still shown."""
        c = ssl.create_default_context(cafile=f"{self.steward.dir}/ca.pem")
        return base.connect(k, c)

    def talk(self, k, until, fresh=False):
        """Asks again and again on one connection (or on a new one each time); the longest that an answer took."""
        longest, s, unchecked = 0, None, base.context()
        while not until():
            began = time.time()
            if fresh or not s:
                if s:
                    s.close()
                s = base.connect(k, unchecked)
            self.assertEqual(base.get(s, "/echo?x"), b"x")
            longest = max(longest, time.time() - began)
            time.sleep(0.01)
        s.close()
        return longest

    def test_slow(self):
        """Five seconds in all."""
        with self.keep() as k:
            with self.connect(k) as s:
                first = serial(s)
            self.steward.how = SLOW
            shown = set()

            def renewed():
                shown.add(serial_now())
                return "the certificate was renewed" in k.said()

            def serial_now():
                with base.connect(k, base.context()) as s:
                    return serial(s)
            longest = self.talk(k, renewed, fresh=True)
            self.assertLess(longest, PROMPT)
            self.assertIn(first, shown)  # it served until the end
            asked = [at for at, p in self.steward.asked if p == "/v1/nonce"]
            self.assertLess(abs(asked[1] - asked[0] - LIFE * 2 / 3), 2)
            with self.connect(k) as s:  # within its own life, by the ordinary CA
                self.assertNotEqual(serial(s), first)
            print(f"slow steward: longest answer {longest * 1000:.0f} ms")

    def test_nobody_comes(self):
        """Renewed while the program waits: in poll (web) and in a blocking accept (echo)."""
        for program in ("web", "echo"):
            with self.keep(program) as k:
                before = self.steward.count("/v1/certify")
                self.assertTrue(before > 0 or self.steward.wait_asked(1, "/v1/certify"))
                before = self.steward.count("/v1/certify")
                self.assertTrue(self.steward.wait_asked(before + 2, "/v1/certify"), k.said())

    def test_busy_without_waiting(self):
        """A program that never waits, but makes calls."""
        with self.keep("busy", wait=False) as k:
            self.assertTrue(self.steward.wait_asked(2, "/v1/certify"), k.said())

    def test_dead(self):
        with self.keep() as k:
            with self.connect(k) as s:
                first = serial(s)
            at = self.steward.count()
            self.steward.how = "hangs"
            self.assertTrue(self.steward.wait_asked(at + 1))
            end = time.time() + LIFE / 2  # also beyond the certificate's own end
            self.assertLess(self.talk(k, lambda: time.time() > end, fresh=True), PROMPT)
            with base.connect(k, base.context()) as s:
                self.assertEqual(serial(s), first)
            self.assertEqual(self.steward.count(), at + 1)  # one request, not one for each connection

    @unittest.skipUnless(os.environ.get("DONJON_SLOW"), "takes a while: later and later")
    def test_nonsense(self):
        """Later and later: five seconds, then ten."""
        with self.keep() as k:
            with self.connect(k) as s:
                first = serial(s)
            for how, said in (("huge", "the steward's nonce has|cannot be reached"), (503, "the steward answers 503"), ("cuts", "cannot be reached")):
                at = self.steward.count()
                self.steward.how = how
                self.assertTrue(self.steward.wait_asked(at + 1, within=30), how)
                end = time.time() + 1
                self.assertLess(self.talk(k, lambda: time.time() > end), PROMPT)
                self.assertRegex(k.said(), said)
                if how == "huge":
                    began = time.time()
                elif how == 503:
                    self.assertGreater(time.time() - began, 5)
            self.steward.how = "well"
            with base.connect(k, base.context()) as s:
                self.assertEqual(serial(s), first)

    def test_twice(self):
        """Of what comes twice, once is enough: two certificates are a chain that is not one."""
        with self.keep() as k:
            self.steward.how = "twice"
            at = self.steward.count("/v1/certify")
            self.steward.wait_asked(at + 1, within=8)
            end = time.time() + 1
            self.assertLess(self.talk(k, lambda: time.time() > end), PROMPT)

    def test_first_is_waited_for(self):
        """The program begins when there is one: a steward that starts later than its keeps is asked again."""
        self.steward.how = 503
        with self.keep(wait=False) as k:
            self.assertTrue(self.steward.wait_asked(1))
            self.steward.how = "well"
            self.assertTrue(self.steward.wait_asked(1, "/v1/certify"), k.said())
        self.steward.how = 403
        with self.keep(wait=False) as k:
            self.assertEqual(k.p.wait(5), 125, k.said())  # that is an answer
            self.assertIn("the steward answers 403: not now", k.said())


BUSY = r"""
#include <unistd.h>
int main(void) { /* calls, and waits for nothing */
    for (;;) {
        volatile unsigned x = 0;
        for (unsigned i = 0; i < 100000; i++) x += i;
        (void)!write(1, "", 0);
        (void)!lseek(1, 0, SEEK_CUR);
        (void)!isatty(1);
    }
}
"""

if __name__ == "__main__":
    base.main(sys.modules["__main__"], {"busy": BUSY})
