#!/usr/bin/env python3
"""What `./dev test` says at its end: report.py LABEL=JUNIT.xml...   (ctest --output-junit)

Per configuration the counts and the slowest tests; what failed; what was skipped and why, parts of tests included; the
conformance suites' own counts; last the totals. Exit 1 when something failed or nothing ran."""
import re
import sys
import xml.etree.ElementTree as xml

SLOWEST = 4
ANSI = re.compile(r"\x1b\[[0-9;]*m")
WHY = re.compile(r"^SKIP: *(.*)", re.M)
PART = re.compile(r"^\[ +SKIPPED +\] (\w+)$", re.M)  # one test of a cmocka program
SUITE = re.compile(r"^(wasm-spec-\S+)( interpreted| image)?: \d+ scripts, \d+ assertions: (\d+) passed, (\d+) failed, (\d+) skipped", re.M)


def read(path):
    """[(name, "passed" | "failed" | "skipped", seconds, output)] of one run of ctest."""
    for case in xml.parse(path).getroot().iter("testcase"):
        skipped = case.find("skipped")
        # Status "notrun" is a skip only with a SKIP_RETURN_CODE; a program that is missing failed.
        state = {"run": "passed", "notrun": "skipped"}.get(case.get("status"), "failed")
        if skipped is not None and skipped.get("message") != "SKIP_RETURN_CODE=77":
            state = "failed"
        yield case.get("name"), state, float(case.get("time") or 0), ANSI.sub("", case.findtext("system-out") or "")


def reasons(name, state, output):
    why = WHY.findall(output)
    if state == "skipped":
        return [(name, "; ".join(why) or "it gave no reason")]
    if parts := list(dict.fromkeys(PART.findall(output))):
        return [(f"{name}, {part}", "; ".join(why) or "it gave no reason") for part in parts]
    return [(name + ", a part", w) for w in why]


def main():
    totals = dict(passed=0, failed=0, skipped=0)
    skips, failures, suites = {}, [], {}
    print()
    for argument in sys.argv[1:]:
        label, path = argument.split("=", 1)
        cases = list(read(path))
        states = [state for _, state, _, _ in cases]
        for state in totals:
            totals[state] += states.count(state)
        slowest = sorted(cases, key=lambda c: -c[2])[:SLOWEST]
        print(f"{label}: {', '.join(f'{states.count(s)} {s}' for s in totals)}; slowest:",
              ", ".join(f"{name} {seconds:.0f} s" for name, _, seconds, _ in slowest))
        for name, state, _, output in cases:
            if state == "failed":
                failures.append(f"{name} ({label})")
            for what, why in reasons(name, state, output):
                skips.setdefault((what, why), []).append(label)
            for suite, tier, *counts in SUITE.findall(output):
                tier = tier.strip() or "native"
                suites.setdefault(suite, {}).setdefault(tier, list(map(int, counts)))
    if suites:
        print("\nConformance: assertions passed, failed, skipped (why: tests/wasm/spec-skip.txt)")
        sums = {}
        for suite, tiers in sorted(suites.items()):
            print(f"  {suite:<32}", ";  ".join(f"{tier} {p}, {f}, {s}" for tier, (p, f, s) in sorted(tiers.items())))
            for tier, counts in tiers.items():
                sums[tier] = [a + b for a, b in zip(sums.get(tier, [0, 0, 0]), counts)]
        print(f"  {'all':<32}", ";  ".join(f"{tier} {p}, {f}, {s}" for tier, (p, f, s) in sorted(sums.items())))
    if skips:
        print("\nSkipped, and why:")
        for (what, why), labels in skips.items():
            print(f"  {what}: {why}  [{', '.join(labels)}]")
    if failures:
        print("\nFailed:")
        print("\n".join("  " + f for f in failures))
    print("\n{passed} passed, {failed} failed, {skipped} skipped".format(**totals))
    return 1 if totals["failed"] or not totals["passed"] else 0


sys.exit(main())
