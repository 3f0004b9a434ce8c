"""What generate and batch write where, on a terminal and without one: nothing but the result on standard output. (chat: test_conversation.)"""
import json
import subprocess

import checkpoint
from batch_case import BatchCase, masked
from checkpoint import CHAIN
from cli_case import BINARY, TIMEOUT, CliCase, environment, main
from terminal import Terminal

PLACES = ({}, {"NO_COLOR": "1"}, {"TERM": "dumb"})
GREEDY = ("--temperature", "0")


def shell(command, **changes):
    return subprocess.run(command, shell=True, executable="/bin/bash", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=environment(**changes), timeout=TIMEOUT, check=False)


class Generate(CliCase):
    def test_on_a_terminal(self):
        for place in PLACES:
            run = Terminal(self, "generate", "-m", self.model, "-p", "a", *GREEDY, apart=True, **place)
            self.assertEqual((run.exit_code(), run.answers.decode()), (0, CHAIN + "\r\n"), place)
            self.assertIn(b"stopped: eos", run.shown)
            if place:
                self.assertNotIn(b"\x1b", run.shown)
            warned = Terminal(self, "generate", "-m", self.path("nowhere"), "-p", "a", apart=True, **place)
            self.assertEqual((warned.exit_code(), warned.answers), (4, b""))
            self.assertEqual(b"\x1b[31m" in warned.shown, not place)

    def test_json_on_a_terminal(self):
        run = Terminal(self, "generate", "-m", self.model, "-p", "a", *GREEDY, "--output-format", "json", apart=True, columns=20)
        self.assertEqual(run.exit_code(), 0)
        self.assertEqual(json.loads(run.answers)["text"], CHAIN)
        self.assertEqual(run.answers.count(b"\n"), 1)

    def test_without_a_terminal(self):
        for place in PLACES:
            done = self.generate(env=environment(**place))
            self.assertEqual(done.stdout.decode(), CHAIN)
            self.assertNotIn(b"\x1b", done.stderr)
            self.assertNotIn(b"\r", done.stderr)

    def test_closed_standard_input(self):
        done = shell(f"{BINARY} generate -m {self.model} -p a --temperature 0 -q <&-")
        self.assertEqual((done.returncode, done.stdout.decode(), done.stderr), (0, CHAIN, b""))
        none = shell(f"{BINARY} generate -m {self.model} -q <&-")
        self.assertEqual((none.returncode, none.stdout), (2, b""))

    def test_head(self):
        piped = shell(f'{BINARY} generate -m {self.model} -p a --temperature 0 --n 50 -q | head -1; exit "${{PIPESTATUS[0]}}"')
        self.assertEqual((piped.returncode, piped.stdout.decode(), piped.stderr), (0, CHAIN + "\n", b""))

    def test_timeout(self):
        endless = checkpoint.write_checkpoint(self.path("endless"), max_position_embeddings=1 << 17)
        done = shell(f"timeout 2 {BINARY} generate -m {endless} -p a --ignore-eos --temperature 0")
        self.assertEqual(done.returncode, 124)  # what timeout says of a program that it ended
        self.assertTrue(done.stdout.decode(errors="replace").startswith(CHAIN))
        self.assertIn(b"stopped: interrupted", done.stderr)
        self.assertNotIn(b"error", done.stderr)


class Batch(BatchCase):
    LINES = [{"prompt": "a"}] * 3

    def records(self, text):
        return masked([json.loads(line) for line in text.splitlines()])

    def test_on_a_terminal(self):
        for place in PLACES:
            command = self.command(self.LINES, "-s", "1", *GREEDY)
            whole = Terminal(self, *command, "--overwrite", apart=True, **place)
            self.assertEqual((whole.exit_code(), whole.answers), (0, b""))
            self.assertIn("batch: 3 ok, 0 failed".encode(), whole.shown)
            written = self.records(self.content(self.out))
            shown = Terminal(self, "batch", "-m", self.model, "-i", self.input, "-o", "-", "-s", "1", *GREEDY, apart=True, **place)
            self.assertEqual(shown.exit_code(), 0)
            self.assertEqual([record["response"]["body"]["choices"] for record in self.records(shown.answers)],
                             [record["response"]["body"]["choices"] for record in written])
            if place.get("TERM"):
                self.assertNotIn(b"\x1b", whole.shown + shown.shown)
            self.assertNotIn(b"\x1b[3", (whole.shown + shown.shown) if place else b"")

    def test_without_a_terminal(self):
        for place in PLACES:
            self.write_lines(self.LINES)
            done = self.ok("batch", "-m", self.model, "-i", self.input, "-o", "-", "-s", "1", *GREEDY, env=environment(**place))
            self.assertEqual([self.texts(record) for record in self.records(done.stdout)], [[CHAIN]] * 3)
            self.assertNotIn(b"\x1b", done.stderr)
            self.assertNotIn(b"\r", done.stderr)

    def test_timeout_leaves_whole_records(self):
        endless = checkpoint.write_checkpoint(self.path("endless"), max_position_embeddings=1 << 17)
        lines = [{"prompt": "a", "max_tokens": 5}] * 4 + [{"prompt": "a", "max_tokens": 100000}]
        self.write_lines(lines)
        # On a busy machine three seconds may pass before the first line is begun: then a longer time shows the same.
        for seconds in (3, 9, 27):
            done = shell(f"timeout {seconds} {BINARY} batch -m {endless} -i {self.input} -o {self.out} --overwrite --ignore-eos --temperature 0 -s 1")
            self.assertEqual((done.returncode, done.stdout), (124, b""), done.stderr)
            if b"--resume" in done.stderr:
                break
        self.assertIn(b"--resume", done.stderr)
        content = self.content(self.out)
        self.assertTrue(content.endswith(b"\n"))
        self.assertEqual([self.texts(record) for record in self.records(content)], [["bcdef"]] * 4)


if __name__ == "__main__":
    main()
