"""Standard streams, terminals and signals: nothing but the result on stdout, no hang, the exit codes scripts rely on."""
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import checkpoint
from checkpoint import BOS_ID, CHAIN, ids_of
from cli_case import BINARY, TIMEOUT, CliCase, environment, main

F_SETPIPE_SZ = 1031  # named in the fcntl module since Python 3.10 only


def read_all(fd):
    out = b""
    while True:
        try:
            block = os.read(fd, 65536)
        except OSError:  # a pseudo-terminal whose other end is closed
            return out
        if not block:
            return out
        out += block


class Purity(CliCase):
    def test_pipe_gets_exactly_the_text(self):
        done = self.generate()
        self.assertEqual(done.stdout.decode(), CHAIN)
        self.assertIn(b"stopped: eos", done.stderr)
        self.assertNotIn(b"\x1b", done.stderr)

    def test_quiet(self):
        done = self.generate("-q")
        self.assertEqual((done.stdout.decode(), done.stderr), (CHAIN, b""))

    def test_statistics(self):
        text = self.generate("-n", "5", "-s", "3").stderr.decode()
        for part in ("prompt 1 tokens", "first token after", "load ", "prefill ", "output 5 tokens", "tok/s",
                     "stopped: length (5 of --max-tokens 5)", "seed 3", "cpu", "KV cache "):
            self.assertIn(part, text)
        self.assertIn('stopped: stop string "de"', self.generate("--stop", "de").stderr.decode())
        self.assertIn("stopped: length (the context of 16 tokens is full)", self.generate("-c", "16").stderr.decode())

    def run_on_terminal(self, *arguments, **changes):
        """stdout and stderr on a pseudo-terminal each, stdin on a third that stays open."""
        ends = [pty.openpty() for _ in range(3)]
        process = subprocess.Popen([BINARY, *arguments], stdin=ends[0][1], stdout=ends[1][1], stderr=ends[2][1], env=environment(**changes))
        for _, slave in ends:
            os.close(slave)
        try:
            code = process.wait(TIMEOUT)
            return code, read_all(ends[1][0]), read_all(ends[2][0])
        finally:
            process.kill()
            for master, _ in ends:
                os.close(master)

    def test_terminal_gets_one_newline_more(self):
        code, out, _ = self.run_on_terminal("generate", "-m", self.model, "-p", "a", "--temperature", "0", "-n", "4")
        self.assertEqual((code, out), (0, b"bcde\r\n"))

    def test_colours_only_on_a_capable_terminal(self):
        bad = ("generate", "-m", self.path("nowhere"), "-p", "a")
        self.assertIn(b"\x1b[31merror: \x1b[0m", self.run_on_terminal(*bad)[2])
        for changes in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            self.assertNotIn(b"\x1b", self.run_on_terminal(*bad, **changes)[2])
        self.assertNotIn(b"\x1b", self.run_on_terminal(*bad, "--no-color")[2])
        self.assertNotIn(b"\x1b", self.call(*bad).stderr)
        self.assertIn(b"\x1b[31m", self.call(*bad, "--color", "always").stderr)

    def test_terminal_stdin_without_a_prompt_is_a_usage_error(self):
        code, out, error = self.run_on_terminal("generate", "-m", self.model)
        self.assertEqual((code, out), (2, b""))
        self.assertIn(b"no prompt", error)

    def test_log_file(self):
        log = self.path("log.txt")
        self.generate("--log-file", log)
        with open(log, encoding="utf-8") as file:
            self.assertIn("stopped: eos", file.read())
        self.fails(2, "generate", "-m", self.model, "-p", "a", "--log-file", self.path("model", "config.json", "log"), says="--log-file")


class Stdin(CliCase):
    def test_forms_of_a_prompt(self):
        file = self.write(self.path("prompt.txt"), b"a\n")
        common = ("generate", "-m", self.model, "-n", "1", "--output-format", "json", "--temperature", "0")
        def ids(*arguments, **options):
            return json.loads(self.ok(*common, *arguments, **options).stdout)["prompt_ids"]
        newline = ids_of("a\n")
        self.assertEqual(ids(stdin=b"a\n"), newline)
        self.assertEqual(ids("-p", "-", stdin=b"a\n"), newline)
        self.assertEqual(ids("--prompt=a\n"), newline)
        self.assertEqual(ids("-f", file, stdin=b"unread"), newline)
        self.assertEqual(ids("-f", "-", stdin=b"a\n"), newline)
        self.assertEqual(ids("--prompt-ids", "-", stdin=b"5, 6\n7\n"), [5, 6, 7])
        self.assertEqual(ids("-p", "--temp"), ids_of("--temp"), "a value may look like a flag")

    def test_nothing_to_read(self):
        self.fails(2, "generate", "-m", self.model, says="the prompt is empty")
        self.fails(2, "generate", "-m", self.model, "--prompt-ids", "", says="--prompt-ids")
        self.fails(2, "generate", "-m", self.model, "-p", "a", "-f", "x", says="--file")
        self.fails(1, "generate", "-m", self.model, "-f", self.path("nothing"), says=("cannot read", "No such file"))
        self.fails(1, "generate", "-m", self.model, "-f", self.folder, says="Is a directory")

    def test_closed_descriptors(self):
        closed_in = self.call("generate", "-m", self.model, "-p", "a", "-n", "3", "--temp", "0", stdin=None, preexec_fn=lambda: os.close(0))
        self.assertEqual((closed_in.returncode, closed_in.stdout), (0, b"bcd"))
        no_prompt = self.call("generate", "-m", self.model, stdin=None, preexec_fn=lambda: os.close(0))
        self.assertEqual(no_prompt.returncode, 2)
        closed_error = self.call("generate", "-m", self.model, "-p", "a", "-n", "3", "--temp", "0", preexec_fn=lambda: os.close(2))
        self.assertEqual((closed_error.returncode, closed_error.stdout), (0, b"bcd"))

    def test_closed_stdout(self):
        self.fails(1, "generate", "-m", self.model, "-p", "a", says="standard output is closed", stdout=None, preexec_fn=lambda: os.close(1))

    def test_full_disk(self):
        with open("/dev/full", "wb") as full:
            self.fails(1, "generate", "-m", self.model, "-p", "a", "-q", says=("standard output", "No space left"), stdout=full)


class Signals(CliCase):
    """Sequences that would run for minutes on a context of 131,072 tokens."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.endless = checkpoint.write_checkpoint(cls.path("endless"), max_position_embeddings=1 << 17)

    def start(self, *arguments, **popen):
        command = [BINARY, "generate", "-m", self.endless, "-p", "a", "--ignore-eos", "--temperature", "0", *arguments]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), **popen)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.stdout.close)
        return process

    def first_bytes(self, process):
        self.assertTrue(select.select([process.stdout], [], [], TIMEOUT)[0], "no output")
        return os.read(process.stdout.fileno(), 8)

    def finish(self, process):
        """Reads both pipes to their ends."""
        out, error = process.communicate(timeout=TIMEOUT)
        return process.returncode, out, error.decode()

    def test_interrupt_prints_partial_statistics(self):
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            process = self.start()
            head = self.first_bytes(process)
            self.assertTrue(CHAIN.encode().startswith(head[:3]))
            process.send_signal(number)
            returned, _, error = self.finish(process)
            self.assertEqual(returned, code)
            self.assertIn("stopped: interrupted", error)
            self.assertIn("tok/s", error)

    def test_interrupted_json_is_whole(self):
        process = self.start("--output-format", "json")
        self.assertIn(b"KV cache", process.stderr.readline())  # the model is loaded
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        code, out, _ = self.finish(process)
        self.assertEqual(code, 130)
        # On a very slow machine the signal may still come before generation began; then there is nothing to report.
        if out:
            result = json.loads(out)
            self.assertEqual(result["finish_reason"], "cancelled")
            self.assertEqual(len(result["token_ids"]), result["usage"]["completion_tokens"])

    def test_second_interrupt_ends_at_once(self):
        process = self.start("--logit-bias", f"{BOS_ID}:900", "--keep-special")  # seven bytes a token
        self.first_bytes(process)
        fcntl.fcntl(process.stdout, F_SETPIPE_SZ, 4096)
        waiting = -1
        while (now := self.bytes_in_pipe(process)) != waiting:  # until the pipe is full and the program waits for its reader
            waiting = now
            time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        with self.assertRaises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(TIMEOUT), 130)

    @staticmethod
    def bytes_in_pipe(process):
        return struct.unpack("i", fcntl.ioctl(process.stdout, termios.FIONREAD, bytes(4)))[0]

    def test_reader_that_goes_away(self):
        process = self.start()
        self.first_bytes(process)
        process.stdout.close()
        error = process.stderr.read().decode()
        self.assertEqual(process.wait(TIMEOUT), 0)
        self.assertNotIn("error", error)
        for command in ("--help", "generate --help"):
            piped = subprocess.run(f'{BINARY} {command} | head -1; exit "${{PIPESTATUS[0]}}"', shell=True, executable="/bin/bash",
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), timeout=TIMEOUT, check=False)
            self.assertEqual((piped.returncode, piped.stderr), (0, b""))

    def test_ignored_interrupt_stays_ignored(self):
        process = self.start("-n", "500", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
        self.first_bytes(process)
        process.send_signal(signal.SIGINT)
        code, _, error = self.finish(process)
        self.assertEqual(code, 0)
        self.assertIn("500 of --max-tokens 500", error)


if __name__ == "__main__":
    main()
