"""Tests of the fuzz driver on a target with planted bugs: each is found, its input is kept, and the finding can be repeated."""
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

PROGRAM = os.environ["FUZZ_PLANTED_BUG"]


class DriverTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "seeds").mkdir()

    def seed(self, name, text):
        (self.folder / "seeds" / name).write_bytes(text)

    def drive(self, *arguments, inputs=None):
        command = [PROGRAM, *map(str, arguments), "--artifacts", str(self.folder), str(inputs or self.folder / "seeds")]
        # A planted abort is no reason to write a core file.
        environment = {**os.environ, "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":disable_coredump=1"}
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=120, env=environment)

    def assert_found(self, seed, what, trigger, *arguments):
        self.seed("only", seed)
        run = self.drive("--seed", 3, "--runs", 200000, *arguments)
        self.assertNotEqual(run.returncode, 0, run.stdout)
        self.assertIn(f"fuzz: {what} with a mutant", run.stderr)
        finding = re.search(r"repeated by --seed 3 --runs 1 --first (\d+); the input is in (\S+)", run.stderr)
        self.assertIsNotNone(finding, run.stderr)
        self.assertIn(trigger, Path(finding[2]).read_bytes())
        again = self.drive("--seed", 3, "--runs", 1, "--first", finding[1], *arguments)
        self.assertIn(f"fuzz: {what} with a mutant", again.stderr)
        kept = self.drive("--runs", 0, *arguments, inputs=finding[2])
        self.assertIn(f"fuzz: {what} with seed file", kept.stderr)

    def test_abort(self):
        self.assert_found(b"abort [1]", "a crash", b"[[")

    def test_exception_that_leaves_the_target(self):
        self.assert_found(b'throw {"a": 12}', "a crash", b"4294967296")

    def test_hang(self):
        self.assert_found(b'hang {"a": 12}', "time limit", b"null", "--timeout", 2)

    def test_memory(self):
        self.assert_found(b"memory [1]", "memory limit", b"}", "--max-rss-mib", 400)

    def test_sound_input(self):
        self.seed("a", b"fine [[ null }")
        run = self.drive("--runs", 100)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("fuzz: 101 inputs from 1 seeds", run.stdout)

    def test_same_seed_same_inputs(self):
        self.seed("a", b'{"shape": [2, 3], "data_offsets": [0, 24]}')
        self.seed("b", b"")
        runs = [self.drive("--seed", seed, "--runs", 3000).stdout for seed in (1, 1, 2)]
        self.assertEqual(runs[0], runs[1])
        self.assertNotEqual(runs[0], runs[2])

    def test_usage_errors(self):
        for arguments in (["--runs"], ["--runs", "-1", "x"], ["--runs", "many", "x"], ["--colour", "1", "x"], [], ["/absent/seed"]):
            run = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=60)
            self.assertEqual(run.returncode, 2, arguments)
            self.assertIn("error: ", run.stderr)
        self.assertIn("no seeds", self.drive().stderr)


if __name__ == "__main__":
    unittest.main()
