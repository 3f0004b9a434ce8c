"""What the tests of the command line share: the binary, a folder for their files, and one way to call it."""
import os
import shutil
import subprocess
import tempfile
import unittest

import checkpoint

BINARY = os.environ["BOLIDE"]
SOURCE_DIR = os.environ["BOLIDE_SOURCE_DIR"]
TIMEOUT = 120


def environment(**changes):
    """The test's environment without what would change the program's behaviour."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BOLIDE") and k not in ("NO_COLOR", "TERM")}
    clean["TERM"] = "xterm"
    clean.update(changes)
    return clean


class CliCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="bolide-cli-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.model = checkpoint.write_checkpoint(cls.path("model"))
        cls.bare = checkpoint.write_checkpoint(cls.path("bare"), tokenizer=False)

    @classmethod
    def path(cls, *names):
        return os.path.join(cls.folder, *names)

    @staticmethod
    def write(path, content):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return path

    def call(self, *arguments, stdin=b"", env=None, **popen):
        """Runs the program to its end; stdout and stderr are bytes."""
        return subprocess.run([popen.pop("program", BINARY), *arguments], input=stdin, stdout=popen.pop("stdout", subprocess.PIPE), stderr=subprocess.PIPE,
                              env=env or environment(), timeout=TIMEOUT, check=False, **popen)

    def ok(self, *arguments, **options):
        done = self.call(*arguments, **options)
        self.assertEqual(done.returncode, 0, done.stderr.decode(errors="replace"))
        return done

    def fails(self, code, *arguments, says=(), **options):
        """Expects this exit code, nothing on stdout and exactly one `error:` line that holds all of `says`."""
        done = self.call(*arguments, **options)
        text = done.stderr.decode(errors="replace")
        self.assertEqual(done.returncode, code, text)
        if done.stdout is not None:
            self.assertEqual(done.stdout, b"")
        lines = [line for line in text.splitlines() if line.startswith("error: ")]
        self.assertEqual(len(lines), 1, text)
        for part in [says] if isinstance(says, str) else says:
            self.assertIn(part, lines[0])
        return lines[0]

    def generate(self, *arguments, **options):
        """Greedy text after the prompt "a"."""
        return self.ok("generate", "-m", self.model, "-p", "a", "--temperature", "0", *arguments, **options)


main = unittest.main
