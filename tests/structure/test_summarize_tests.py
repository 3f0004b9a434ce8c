"""Tests of scripts/summarize_tests.py: outcomes are read from what Catch2 2, Catch2 3 and unittest print, and no failure is lost."""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from summarize_tests import outcome_of  # noqa: E402

CATCH_OK = "===============\nAll tests passed (123 assertions in 7 test cases)\n"
CATCH_BAD = "test cases:  5 |  3 passed | 2 failed\nassertions: 90 | 88 passed | 2 failed\n"
CATCH3_SKIP = "test cases: 6 | 4 passed | 2 skipped\nassertions: 90 | 90 passed\n"
CATCH_EXPECTED = "test cases: 4 | 2 passed | 1 failed | 1 failed as expected\n"
UNITTEST_OK = "test_a (m.T.test_a) ... ok\n\nRan 3 tests in 0.1s\n\nOK\n"
UNITTEST_BAD = ("test_b (m.T.test_b) ... skipped 'no terminal'\n\nRan 9 tests in 0.1s\n\n"
                "FAILED (failures=1, errors=2, skipped=1, expected failures=1)\n")


def counts(status, output):
    outcome = outcome_of(status, output)
    return outcome.passed, outcome.failed, outcome.skipped


class OutcomeTest(unittest.TestCase):
    def test_catch2(self):
        self.assertEqual(counts("run", CATCH_OK), (7, 0, 0))
        self.assertEqual(counts("run", "All tests passed (1 assertion in 1 test case)\n"), (1, 0, 0))
        self.assertEqual(counts("fail", CATCH_BAD), (3, 2, 0))
        self.assertEqual(counts("run", CATCH3_SKIP), (4, 0, 2))
        self.assertEqual(counts("fail", CATCH_EXPECTED), (3, 1, 0))
        self.assertEqual(counts("run", "No tests ran\n"), (0, 0, 0))

    def test_unittest(self):
        self.assertEqual(counts("run", UNITTEST_OK), (3, 0, 0))
        self.assertEqual(counts("fail", UNITTEST_BAD), (5, 3, 1))
        self.assertEqual(outcome_of("fail", UNITTEST_BAD).skipped_names, ["test_b (m.T.test_b): no terminal"])

    def test_skipped_lines_are_taken_from_the_passed(self):
        outcome = outcome_of("run", "skipped: attention on cuda (no device)\n" + CATCH_OK)
        self.assertEqual((outcome.passed, outcome.skipped), (6, 1))
        self.assertEqual(outcome.skipped_names, ["attention on cuda (no device)"])

    def test_other_programs_count_as_one(self):
        self.assertEqual(counts("run", "fuzz: done\n"), (1, 0, 0))
        self.assertEqual(counts("fail", ""), (0, 1, 0))

    def test_a_crash_after_the_closing_line_is_a_failure(self):
        self.assertEqual(counts("fail", CATCH_OK), (7, 1, 0))


class ReportTest(unittest.TestCase):
    def summarize(self, *cases):
        """Exit status and output lines for a report of (name, status and further XML, output)."""
        body = "".join(f'<testcase name="{n}" status="{s}<system-out>{escape(o)}</system-out></testcase>'
                       for n, s, o in ((n, s if '"' in s else s + '">', o) for n, s, o in cases))
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "tests.xml")
            report.write_text(f'<?xml version="1.0"?><testsuite name="x">{body}</testsuite>')
            run = subprocess.run([sys.executable, ROOT / "scripts" / "summarize_tests.py", f"release={report}", f"asan={report}"],
                                 capture_output=True, text=True, check=False)
        return run.returncode, run.stdout.splitlines()

    def test_sum_of_two_runs(self):
        status, lines = self.summarize(("core", "run", CATCH_OK), ("cli", "run", UNITTEST_OK))
        self.assertEqual((status, lines[-1]), (0, "tests: 20 passed, 0 failed, 0 skipped"))

    def test_failures_are_named(self):
        status, lines = self.summarize(("core", "fail", CATCH_BAD), ("cli", "run", UNITTEST_OK))
        self.assertEqual((status, lines[-1]), (1, "tests: 12 passed, 4 failed, 0 skipped"))
        self.assertIn("failed: release/core (2 of 5)", lines)
        self.assertIn("failed: asan/core (2 of 5)", lines)

    def test_a_program_that_could_not_start_is_a_failure(self):
        status, lines = self.summarize(("core", "run", CATCH_OK), ("io", 'notrun"><skipped message="Unable to find executable"/>', ""))
        self.assertEqual((status, lines[-1]), (1, "tests: 14 passed, 2 failed, 0 skipped"))

    def test_a_program_that_skips_itself(self):
        status, lines = self.summarize(("core", "run", CATCH_OK), ("io", 'notrun"><skipped message="SKIP_RETURN_CODE=77"/>', ""),
                                       ("cli", "disabled", ""))
        self.assertEqual((status, lines[-1]), (0, "tests: 14 passed, 0 failed, 4 skipped"))

    def test_no_tests_at_all_is_a_failure(self):
        self.assertEqual(self.summarize()[0], 1)

    def test_missing_report(self):
        run = subprocess.run([sys.executable, ROOT / "scripts" / "summarize_tests.py", "release=/absent.xml"],
                             capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 2)
        self.assertIn("/absent.xml", run.stderr)


if __name__ == "__main__":
    unittest.main()
