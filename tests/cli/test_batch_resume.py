"""bolide batch: interruptions of every kind. After them, and a run to the end, the output is that of a run that nothing disturbed."""
import json
import os
import pty
import random
import re
import select
import signal
import subprocess
import time

import checkpoint
from batch_case import BatchCase, masked
from cli_case import BINARY, TIMEOUT, environment, main

SAMPLED = ("--temperature", "90", "-s", "11")


def requests(count):
    """Lines of many lengths, some of them bad, some with a seed of their own."""
    rng = random.Random(4)
    lines = []
    for i in range(count):
        line = {"prompt": "".join(rng.choice("abcdefgh ") for _ in range(rng.randint(1, 60))), "max_tokens": rng.randint(1, 80), "ignore_eos": True}
        if i % 10 == 3:
            line["seed"] = i
        if i % 17 == 5:
            line["n"] = 2
        if i % 50 == 30:
            line["temperature"] = -1
        lines.append(line)
    return lines


class TimedCase(BatchCase):
    """Runs that must last some time on any machine and in any build: a sanitizer's is some 30 times as slow as an optimised one."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        lines = 4
        while True:
            cls.write(cls.path("speed.jsonl"), '{"prompt": "a", "max_tokens": 400, "ignore_eos": true}\n' * lines)
            done = subprocess.run([BINARY, "batch", "-m", cls.model, "-i", cls.path("speed.jsonl"), "-o", cls.path("speed.out"), "-t", "1",
                                   "--overwrite"], stderr=subprocess.PIPE, env=environment(), timeout=TIMEOUT, check=True, text=True)
            seconds, rate = re.search(r"([0-9.]+) s, ([0-9,]+) output tok/s", done.stderr).groups()
            if float(seconds) >= 0.2:
                break
            lines *= 4
        cls.tokens_per_second = int(rate.replace(",", ""))

    @classmethod
    def lines_for(cls, seconds, tokens, least, most):
        """How many lines of so many output tokens keep one thread busy for so long."""
        return min(max(int(cls.tokens_per_second * seconds / tokens), least), most)


class Interrupted(TimedCase):
    def start(self, command, **popen):
        process = subprocess.Popen([BINARY, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   env=environment(), **popen)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stderr.close)
        return process

    def size(self):
        return os.path.getsize(self.out) if os.path.exists(self.out) else 0

    def wait_for_output(self, process, size):
        """Until the output is longer than `size`, or the process has ended."""
        end = time.monotonic() + TIMEOUT
        while process.poll() is None and self.size() <= size:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.002)

    def wait_for_load(self, process):
        for line in process.stderr:
            if line.startswith(b"KV cache"):
                return
        self.fail("ended before the model was loaded")

    def finished(self, *flags, code=3, lines=None):
        done = self.call(*self.command(lines or self.lines, *SAMPLED, *flags))
        self.assertEqual(done.returncode, code, done.stderr.decode())
        return done, self.content(self.out)

    def run_with_kills(self, kills, *flags):
        rng = random.Random(9)
        survived = 0
        for _ in range(kills):
            before = self.size()
            process = self.start(self.command(self.lines, *SAMPLED, "-t", "1", "--max-num-seqs", "8", "--resume", *flags))
            self.wait_for_output(process, before)
            time.sleep(rng.uniform(0, 0.05))
            survived += process.poll() is None
            process.kill()
            process.wait(TIMEOUT)
            after = self.content(self.out)
            self.assertGreaterEqual(len(after), before)
        self.assertGreater(survived, kills // 2, "too fast a machine: give the test more lines")
        return self.finished("--resume", *flags)[1]

    def test_kills_at_random_moments(self):
        count = self.lines_for(2.0, 42, 100, 4000)
        self.lines = requests(count)
        whole = masked([json.loads(line) for line in self.finished()[1].splitlines()])
        self.assertEqual([r["line"] for r in whole], list(range(1, count + 1)))
        for flags in ((), ("--unordered",)):
            os.remove(self.out)
            records = [json.loads(line) for line in self.run_with_kills(6, *flags).splitlines()]
            self.assertEqual(len(records), count, "every line once")
            if flags:
                records.sort(key=lambda r: r["line"])
            self.assertEqual(masked(records), whole)

    def test_torn_tails(self):
        self.lines = requests(60)
        done, content = self.finished()
        whole = masked([json.loads(line) for line in content.splitlines()])
        starts = [0] + [m.end() for m in re.finditer(b"\n", content)]
        rng = random.Random(2)
        for cut in [1, starts[1] - 1, starts[1], starts[20] + 5, starts[59] + 40, len(content) - 1, *(rng.randrange(len(content)) for _ in range(4))]:
            self.write(self.out, content[:cut])
            done, now = self.finished("--resume")
            self.assertEqual(masked([json.loads(line) for line in now.splitlines()]), whole, cut)
            torn = cut - max(s for s in starts if s <= cut)
            self.assertEqual(torn > 0, b"bytes of a record that was not written to its end are dropped" in done.stderr, cut)
            # What was whole stays as it was, its time included.
            self.assertEqual(now[:cut - torn], content[:cut - torn])
        self.write(self.out, content[:starts[20]] + bytes(500))  # a file system after a power cut
        self.assertEqual(masked([json.loads(line) for line in self.finished("--resume")[1].splitlines()]), whole)

    def test_nothing_is_repeated(self):
        self.lines = requests(40)
        _, content = self.finished()
        for _ in range(2):
            done, again = self.finished("--resume")
            self.assertEqual(again, content)
            self.assertIn(b"40 lines are done already, 0 are left", done.stderr)
            self.assertNotIn(b"KV cache", done.stderr)  # no need to load the model
        done, _ = self.finished("--resume", "--unordered")
        self.assertRegex(done.stderr.decode(), r"batch: 39 ok, 1 failed \(line 31\), 40 of them from before")

    def test_the_seed_of_the_first_run_goes_on(self):
        lines = requests(20)
        self.ok(*self.command(lines, "--temperature", "90"))
        content = self.content(self.out)
        records = self.read(self.out)
        self.write(self.out, b"".join(content.splitlines(keepends=True)[:7]))
        _, again = self.batch(lines, "--temperature", "90", "--resume", keep=True)
        self.assertEqual(masked(again), masked(records))
        self.fails(2, *self.command(lines, "--temperature", "90", "--resume", "-s", "5"), says="--seed")

    def test_changes_are_refused(self):
        self.lines = requests(20)
        _, records = self.batch(self.lines, *SAMPLED)
        content = b"".join(self.content(self.out).splitlines(keepends=True)[:9])
        self.write(self.out, content)
        other = checkpoint.write_checkpoint(self.path("other"), named=checkpoint.tensors(seed=8))
        changed = [dict(line) for line in self.lines]
        changed[15]["prompt"] += "x"
        for lines in (changed, self.lines + [{"prompt": "a"}], self.lines[:-1], self.lines[1:] + self.lines[:1], self.lines[:5]):
            self.fails(2, *self.command(lines, *SAMPLED, "--resume"), says=(self.input, "has changed", "--overwrite"))
        for flags in (("-n", "7"), ("--top-k", "5"), ("-c", "100"), ("--stop", "x"), ("--logit-bias", "5:1"), ("--n", "2")):
            self.fails(2, *self.command(self.lines, *SAMPLED, *flags, "--resume"), says=("other flags", "--overwrite"))
        self.fails(2, *self.command(self.lines, *SAMPLED, "--resume", model=other), says="another model")
        self.assertEqual(self.content(self.out), content, "a refusal changes nothing")
        # The last line's feed is no part of a request, and what only decides how fast it goes may change.
        self.write(self.input, b"\n".join(json.dumps(line).encode() for line in self.lines))
        moved = checkpoint.write_checkpoint(self.path("moved"))
        done = self.call("batch", "-m", moved, "-i", self.input, "-o", self.out, *SAMPLED, "--resume", "-t", "1", "--max-num-seqs", "3")
        self.assertEqual(done.returncode, 0, done.stderr)
        now = masked(self.read(self.out))
        for record in now + records:
            record["response"]["body"]["model"] = ""
        self.assertEqual(now, masked(records))

    def test_records_of_others_are_refused(self):
        self.lines = requests(6)
        _, content = self.finished(code=0)
        first, rest = content.split(b"\n", 1)
        foreign = json.loads(first)
        foreign["run"]["seed"] += 1
        for bad in (b'{"a": 1}\n' + content, first + b"\nx\n" + rest, content + b"[]\n", content + json.dumps(foreign).encode() + b"\n"):
            self.write(self.out, bad)
            self.fails(2, *self.command(self.lines, *SAMPLED, "--resume"), says=(self.out, "--overwrite"))
            self.assertEqual(self.content(self.out), bad)

    def test_two_at_once(self):
        endless = checkpoint.write_checkpoint(self.path("endless"), max_position_embeddings=1 << 17)
        lines = [{"prompt": "a", "max_tokens": 1}, {"prompt": "a", "ignore_eos": True}]
        process = self.start(self.command(lines, model=endless))
        self.wait_for_output(process, 0)
        self.fails(2, *self.command(lines, "--resume", model=endless), says="another batch")
        self.fails(2, *self.command(lines, "--overwrite", model=endless), says="another batch")

    def test_signals(self):
        endless = checkpoint.write_checkpoint(self.path("endless"), max_position_embeddings=1 << 17)
        lines = [{"prompt": "a", "max_tokens": 2}] * 20 + [{"prompt": "a", "max_tokens": 100000, "ignore_eos": True}] * 3 + [{"prompt": "a"}] * 4
        for number, code, flags, done in ((signal.SIGINT, 130, (), 20), (signal.SIGTERM, 143, ("--resume",), 20),
                                          (signal.SIGINT, 130, ("--resume", "--unordered"), 24)):
            before = self.size()
            process = self.start(self.command(lines, "--temperature", "0", *flags, model=endless))
            self.wait_for_load(process)  # with --resume there is output before
            self.wait_for_output(process, before if done == 24 else 0)
            time.sleep(0.3)
            begin = time.monotonic()
            process.send_signal(number)
            error = process.stderr.read().decode()
            self.assertEqual(process.wait(TIMEOUT), code, error)
            self.assertGreater(time.monotonic() - begin, 0.8, "what is in flight has a second to finish")
            self.assertEqual(len(self.read(self.out)), done, error)
            self.assertRegex(error, rf"interrupted: {done} of 27 lines are done.*\. The same command with --resume goes on from '.*out\.jsonl'")
            self.assertEqual("4 more had to wait for an earlier line" in error, done == 20, error)

    def test_second_signal_ends_at_once(self):
        endless = checkpoint.write_checkpoint(self.path("endless"), max_position_embeddings=1 << 17)
        process = self.start(self.command([{"prompt": "a", "max_tokens": 1}, {"prompt": "a", "ignore_eos": True}], model=endless))
        self.wait_for_output(process, 0)
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(TIMEOUT), 130)
        self.assertNotIn("batch:", process.stderr.read().decode())

    def test_timeout_ends_it_once(self):
        """timeout(1) sends its signal to the program and to the program's group."""
        endless = checkpoint.write_checkpoint(self.path("endless"), max_position_embeddings=1 << 17)
        process = self.start(self.command([{"prompt": "a", "max_tokens": 1}, {"prompt": "a", "ignore_eos": True}], model=endless))
        self.wait_for_output(process, 0)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        error = process.stderr.read().decode()
        self.assertEqual(process.wait(TIMEOUT), 143, error)
        self.assertIn("--resume goes on", error)



class Progress(TimedCase):
    def lines(self):
        """Enough of them for several drawings of the line, of which there are five a second at most; some are done while others wait."""
        return [{"prompt": "a", "max_tokens": 40, "ignore_eos": True}] * self.lines_for(1.5, 40, 40, 20000)

    def on_terminal(self, *flags, **changes):
        """What the program writes to a standard error that is a terminal."""
        master, slave = pty.openpty()
        command = self.command(self.lines(), "-t", "1", "--max-num-seqs", "8", "--overwrite", *flags)
        process = subprocess.Popen([BINARY, *command], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=slave, env=environment(**changes))
        os.close(slave)
        written = b""
        with process.stdout:
            while process.poll() is None or select.select([master], [], [], 0)[0]:
                if select.select([master], [], [], 0.1)[0]:
                    try:
                        written += os.read(master, 65536)
                    except OSError:
                        break
            self.assertEqual(process.stdout.read(), b"")
        os.close(master)
        self.assertEqual(process.wait(TIMEOUT), 0)
        return written

    def test_only_on_a_terminal(self):
        written = self.on_terminal().decode()
        drawn = re.findall(r"\r\x1b\[K([0-9,]+) of ([0-9,]+) \(([0-9]+) %\) \| ([0-9,]+) tok/s( \| ETA [0-9:]+)?", written)
        self.assertTrue(drawn, written)
        self.assertEqual({int(total.replace(",", "")) for _, total, *_ in drawn}, {len(self.lines())}, written)
        self.assertTrue(any(eta for *_, eta in drawn), written)
        self.assertRegex(written, r"\r\x1b\[Kbatch: [0-9,]+ ok", "the line is taken away before anything else is printed")
        for flags, changes in ((("--no-progress",), {}), (("-q",), {}), ((), {"TERM": "dumb"})):
            self.assertNotIn(b"ETA", self.on_terminal(*flags, **changes))
        done, _ = self.batch(self.lines(), "-t", "1")
        self.assertNotIn(b"\r", done.stderr)
        self.assertNotIn(b"ETA", done.stderr)


if __name__ == "__main__":
    main()
