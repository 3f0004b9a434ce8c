#!/usr/bin/env python3
"""Adds up the outcomes of ctest runs, test case by test case.

    summarize_tests.py NAME=REPORT.xml...

A report is what `ctest --output-junit` writes: one entry per test program with its output. The outcomes of the cases within are read
from the closing lines of Catch2 (versions 2 and 3) and of Python's unittest; a program without such lines counts as one case. A case
that cannot run on this machine prints a line "skipped: CASE (reason)"; Catch2 2 has no other way to say so, and counts it as passed.

Prints a table, every failed program and every skipped case by name, and as its last line
    tests: N passed, N failed, N skipped
Exit status: 0 if no case failed and at least one passed, otherwise 1; 2 if a report cannot be read.
"""
import re
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field

CATCH_ALL_PASSED = re.compile(r"^All tests passed \(.* in (\d+) test cases?\)", re.MULTILINE)
CATCH_SUMMARY = re.compile(r"^test cases:(.*)$", re.MULTILINE)
CATCH_NONE = re.compile(r"^No tests ran", re.MULTILINE)
UNITTEST_RAN = re.compile(r"^Ran (\d+) tests? in ", re.MULTILINE)
UNITTEST_RESULT = re.compile(r"^(?:OK|FAILED|NO TESTS RAN)(?: \((.*)\))?\s*$", re.MULTILINE)
SKIPPED_LINE = re.compile(r"^skipped: (.+)$", re.MULTILINE)
# python3 test.py -v: "test_name (module.Class) ... skipped 'reason'"
SKIPPED_UNITTEST = re.compile(r"^(\S+ \(.*\)).* \.\.\. skipped ['\"](.*)['\"]$", re.MULTILINE)


@dataclass
class Outcome:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    skipped_names: list = field(default_factory=list)

    def __iadd__(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.skipped_names += other.skipped_names
        return self


def catch_counts(output):
    """(passed, failed, skipped) of a Catch2 program's closing lines, or None."""
    match = CATCH_ALL_PASSED.search(output)
    if match:
        return int(match[1]), 0, 0
    match = CATCH_SUMMARY.search(output)
    if match:
        counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped)", match[1])}
        # "failed as expected" is a case marked so by its author; it counts as passed.
        expected = re.search(r"(\d+) failed as expected", match[1])
        failed = counts.get("failed", 0)
        passed = counts.get("passed", 0)
        if expected:
            failed = sum(int(n) for n in re.findall(r"(\d+) failed(?! as expected)", match[1]))
            passed += int(expected[1])
        return passed, failed, counts.get("skipped", 0)
    return (0, 0, 0) if CATCH_NONE.search(output) else None


def unittest_counts(output):
    """(passed, failed, skipped) of a Python unittest program's closing lines, or None."""
    ran = UNITTEST_RAN.findall(output)
    results = UNITTEST_RESULT.findall(output)
    if not ran or not results:
        return None
    details = dict(item.split("=") for item in results[-1].split(", ") if "=" in item)
    failed = sum(int(details.get(key, 0)) for key in ("failures", "errors", "unexpected successes"))
    skipped = int(details.get("skipped", 0))
    return max(int(ran[-1]) - failed - skipped, 0), failed, skipped


def outcome_of(status, output):
    """The Outcome of one program, from a verdict ("run": it succeeded, "fail", "skip") and what the program printed."""
    if status == "skip":
        return Outcome(skipped=1, skipped_names=["the whole program"])
    succeeded = status == "run"
    names = SKIPPED_LINE.findall(output)
    skipped_lines = len(names)
    names += [f"{case}: {reason}" for case, reason in SKIPPED_UNITTEST.findall(output)]
    counts = catch_counts(output) or unittest_counts(output)
    if counts is None:
        counts = (1, 0, 0) if succeeded else (0, 1, 0)
    passed, failed, skipped = counts
    moved = min(skipped_lines, passed)  # cases that said "skipped:" and then counted as passed
    passed, skipped = passed - moved, skipped + moved
    if not succeeded and failed == 0:
        failed = 1  # crashed, timed out or failed after its closing line
    return Outcome(passed, failed, skipped, names)


def verdict_of(case):
    """"run", "fail" or "skip". ctest also says "notrun" of a program that could not be started, which is a failure."""
    status = case.get("status", "fail")
    if status == "notrun":
        reason = case.find("skipped")
        return "skip" if reason is not None and reason.get("message", "").startswith("SKIP_") else "fail"
    return {"run": "run", "disabled": "skip"}.get(status, "fail")


def read_report(path):
    """[(program, verdict, output)] of a JUnit report of ctest."""
    root = ElementTree.parse(path).getroot()
    suite = root if root.tag == "testsuite" else root.find("testsuite")
    if suite is None:
        raise ValueError("no <testsuite> in it")
    return [(case.get("name", "?"), verdict_of(case), case.findtext("system-out") or "") for case in suite.iter("testcase")]


def main(arguments):
    total, lines, failures = Outcome(), [], []
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    for argument in arguments:
        name, _, path = argument.partition("=")
        try:
            programs = read_report(path)
        except (OSError, ValueError, ElementTree.ParseError) as error:
            print(f"error: cannot read the test report {path}: {error}. Did ctest run?", file=sys.stderr)
            return 2
        run = Outcome()
        for program, status, output in programs:
            outcome = outcome_of(status, output)
            run += outcome
            if outcome.failed:
                failures.append(f"failed: {name}/{program} ({outcome.failed} of {outcome.failed + outcome.passed})")
            lines += [f"skipped: {name}/{program}: {case}" for case in outcome.skipped_names]
        print(f"{name}: {len(programs)} programs, {run.passed} cases passed, {run.failed} failed, {run.skipped} skipped")
        total += run
    for line in lines + failures:
        print(line)
    print(f"tests: {total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    return 0 if total.failed == 0 and total.passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
