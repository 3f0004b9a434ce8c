"""bolide perplexity, against numbers made by transformers: tests/data/perplexity/expected.json is what tools/perplexity_reference.py prints
for the checkpoint tiny-qwen3-text-bf16 and text.txt beside it."""
import json
import math
import os
import re
import signal
import subprocess

import checkpoint
from checkpoint import CHAIN
from cli_case import BINARY, CliCase, environment, main
from terminal import Terminal

DATA = os.environ["BOLIDE_TEST_DATA"]
TEXT = os.path.join(DATA, "perplexity", "text.txt")


class Perplexity(CliCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        subprocess.run(["tar", "-xJf", os.path.join(DATA, "reference", "tiny-qwen3-text-bf16.tar.xz"), "-C", cls.folder], check=True)
        cls.qwen3 = cls.path("tiny-qwen3-text-bf16")
        with open(os.path.join(DATA, "perplexity", "expected.json"), encoding="utf-8") as file:
            cls.expected = json.load(file)

    def rate(self, *arguments, model=None, text=TEXT, **options):
        done = self.ok("perplexity", "-m", model or self.qwen3, "-f", text, "--output-format", "json", *arguments, **options)
        return json.loads(done.stdout)

    def test_equals_transformers(self):
        self.assertEqual(len({(r["ctx_size"], r["stride"]) for r in self.expected["results"]}), 4)
        for reference in self.expected["results"]:
            got = self.rate("--ctx-size", str(reference["ctx_size"]), "--stride", str(reference["stride"]))
            self.assertEqual(got["text_tokens"], self.expected["text_tokens"])
            self.assertEqual((got["rated_tokens"], got["transformers_recipe"]["tokens"]), (reference["exact"]["tokens"], reference["recipe"]["tokens"]))
            for mine, theirs in ((got, reference["exact"]), (got["transformers_recipe"], reference["recipe"])):
                self.assertLess(abs(mine["nll"] - theirs["nll"]), 2e-5)
                self.assertLess(abs(mine["perplexity"] / theirs["perplexity"] - 1), 2e-5)
            bits = got["nll"] * got["rated_tokens"] / math.log(2)
            self.assertAlmostEqual(got["bits_per_byte"], bits / os.path.getsize(TEXT), places=9)

    def test_pieces_change_nothing(self):
        whole = self.rate("--ctx-size", "128", "--stride", "64")
        pieces = self.rate("--ctx-size", "128", "--stride", "64", "--max-num-batched-tokens", "7", "-t", "1")
        self.assertLess(abs(whole["nll"] - pieces["nll"]), 1e-6)

    def test_a_text_that_the_model_knows(self):
        # The chain model is nearly certain of every byte of its chain.
        got = self.rate("--stride", "16", model=self.model, text=self.write(self.path("chain.txt"), "a" + CHAIN))
        self.assertEqual((got["rated_tokens"], got["windows"]), (len(CHAIN.encode()), 1))
        self.assertLess(got["perplexity"], 1.05)
        other = self.rate("--stride", "16", model=self.model, text=self.write(self.path("other.txt"), ("a" + CHAIN)[::-1]))
        self.assertGreater(other["perplexity"], 20)

    def test_output(self):
        done = self.ok("perplexity", "-m", self.qwen3, "-f", TEXT, "-c", "128", "--stride", "64")
        exact, recipe = (self.expected["results"][1][name]["perplexity"] for name in ("exact", "recipe"))
        shown = re.fullmatch(r"perplexity ([\d.]+) over 923 tokens, 14 windows of 128, stride 64\ntransformers' recipe: ([\d.]+)\n", done.stdout.decode())
        self.assertLess(abs(float(shown.group(1)) / exact - 1), 2e-5)
        self.assertLess(abs(float(shown.group(2)) / recipe - 1), 2e-5)
        self.assertIn(b"tok/s through the model", done.stderr)
        self.assertNotIn(b"window 1 of", done.stderr)  # progress is for terminals
        with open(TEXT, "rb") as file:
            piped = self.ok("perplexity", "-m", self.qwen3, "-c", "128", "--stride", "64", "-q", stdin=file.read())
        self.assertEqual((piped.stdout, piped.stderr), (done.stdout, b""))
        terminal = Terminal(self, "perplexity", "-m", self.qwen3, "-f", TEXT, "-c", "128", "--stride", "64", apart=True)
        self.assertEqual(terminal.exit_code(), 0)
        self.assertIn(b"window 1 of", terminal.shown)
        self.assertEqual(terminal.answers.replace(b"\r\n", b"\n"), done.stdout)

    def test_special_tokens_as_the_tokenizer_says(self):
        bos = checkpoint.write_checkpoint(self.path("bos"), add_bos=True)
        text = self.write(self.path("abc.txt"), "abc")
        self.assertEqual(self.rate("--stride", "1", model=bos, text=text)["text_tokens"], 4)
        self.assertEqual(self.rate("--stride", "1", "--no-add-special", model=bos, text=text)["text_tokens"], 3)

    def test_mistakes(self):
        def fails(code, says, *arguments, text=TEXT, model=None):
            self.fails(code, "perplexity", "-m", model or self.qwen3, "-f", text, *arguments, says=says)
        fails(2, ("--stride 513", "512 tokens"), "--stride", "513")
        fails(2, "--stride", "--stride", "0")
        fails(2, "--ctx-size 1", "--ctx-size", "1", "--stride", "1")
        fails(1, "the text has 0 tokens", text=self.write(self.path("empty.txt"), ""))
        fails(1, "the text has 1 tokens", text=self.write(self.path("one.txt"), "a"), model=self.model)
        fails(1, "not valid UTF-8: byte 1 of 2", text=self.write(self.path("bad.txt"), b"a\xff"))
        fails(1, "No such file", text=self.path("nothing.txt"))
        fails(2, "has no tokenizer", model=self.bare)
        fails(4, "nowhere", model=self.path("nowhere"))
        self.fails(1, "perplexity", "-m", self.qwen3, says="the text has 0 tokens")  # an empty standard input

    def test_interrupted(self):
        long_text = self.write(self.path("long.txt"), "The boat drifts along the coast. " * 40000)
        process = subprocess.Popen([BINARY, "perplexity", "-m", self.qwen3, "-f", long_text, "--stride", "8"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        self.addCleanup(process.kill)
        while b"windows of 512 tokens" not in (line := process.stderr.readline()):
            self.assertTrue(line)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=120)
        self.assertEqual((process.returncode, out), (130, b""))
        self.assertRegex(error.decode(), r"interrupted after \d+ of \d+ windows")


if __name__ == "__main__":
    main()
