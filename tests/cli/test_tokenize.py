"""bolide tokenize and detokenize: JSON lines for scripts, text for people."""
import json

import checkpoint
from checkpoint import BOS, BOS_ID, EOS_ID, ids_of
from cli_case import CliCase, main

HELLO = 256 + 3  # "hello" in checkpoint.MERGES
TEXTS = ["hello", "abc", "", "naïve 😀\n", "x" + BOS, "tab\tand \"quotes\" \\", "\u0000"]


class Tokenize(CliCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.only = cls.path("tokenizer-only")
        cls.write(cls.path("tokenizer-only", "tokenizer.json"), json.dumps(checkpoint.tokenizer_json(add_bos=True)))

    def lines(self, done):
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_jsonl_both_ways(self):
        cases = self.write(self.path("cases.jsonl"), "".join(json.dumps({"text": t, "extra": 1}) + "\n" for t in TEXTS))
        flags = ("--model", self.only, "--input-file", cases, "--output-format", "jsonl")
        plain = self.lines(self.ok("tokenize", *flags))
        self.assertEqual([set(line) for line in plain], [{"ids"}] * len(TEXTS))
        self.assertEqual(plain[0]["ids"], [HELLO])
        self.assertEqual(plain[2]["ids"], [])
        self.assertEqual(plain[4]["ids"], [*ids_of("x"), BOS_ID])
        special = self.lines(self.ok("tokenize", *flags, "--add-special"))
        self.assertEqual([line["ids"] for line in special], [[BOS_ID, *line["ids"]] for line in plain])
        ids = self.write(self.path("ids.jsonl"), "".join(json.dumps(line) + "\n" for line in special))
        back = ("detokenize", "--model", self.only, "--input-file", ids, "--output-format", "jsonl")
        self.assertEqual([line["text"] for line in self.lines(self.ok(*back))], [BOS + t for t in TEXTS])
        self.assertEqual([line["text"] for line in self.lines(self.ok(*back, "--skip-special"))], [t.replace(BOS, "") for t in TEXTS])

    def test_standard_input(self):
        done = self.ok("tokenize", "-m", self.only, "--input-file", "-", stdin=b'{"text": "hello"}\r\n\n{"text": "abc"}')
        self.assertEqual([line["ids"] for line in self.lines(done)], [[HELLO], ids_of("abc")])
        self.assertEqual(self.ok("tokenize", "-m", self.only, stdin=b"abc").stdout, b" ".join(b"%d" % i for i in ids_of("abc")) + b"\n")
        self.assertEqual(self.ok("tokenize", "-m", self.only, "-p", "-", stdin=b"hello").stdout, b"%d\n" % HELLO)
        self.assertEqual(self.ok("detokenize", "-m", self.only, stdin=b"%d\n" % HELLO).stdout, b"hello")

    def test_forms_for_people(self):
        self.assertEqual(self.ok("tokenize", "-m", self.only, "-p", "hello", "--show-tokens").stdout, b'%d\t"hello"\n' % HELLO)
        shown = json.loads(self.ok("tokenize", "-m", self.only, "-p", "hello\n", "--show-tokens", "--output-format", "json").stdout)
        self.assertEqual(shown, {"ids": [HELLO, *ids_of("\n")], "tokens": ["hello", "Ċ"]})
        bare = json.loads(self.ok("tokenize", "-m", self.only, "-p", BOS, "--no-parse-special", "--output-format", "json").stdout)
        self.assertNotIn(BOS_ID, bare["ids"])
        self.assertEqual(self.ok("detokenize", "-m", self.only, str(HELLO), *map(str, ids_of("!"))).stdout, b"hello!")
        self.assertEqual(self.ok("detokenize", "-m", self.only, "--ids", f"[{HELLO}, {EOS_ID}]", "--skip-special").stdout, b"hello")

    def test_bad_lines_are_named(self):
        def fails(command, content, *says):
            path = self.write(self.path("bad.jsonl"), content)
            done = self.call(command, "-m", self.only, "--input-file", path)
            self.assertEqual(done.returncode, 1, done.stderr)
            for part in ("error: ", "bad.jsonl line 2: ", *says):
                self.assertIn(part, done.stderr.decode())
            self.assertEqual(done.stdout.count(b"\n"), 1, "the line before is written")

        good = '{"text": "a"}\n'
        fails("tokenize", good + '{"text": "a"\n', "not valid JSON")
        fails("tokenize", good + "[1]\n", "not a JSON object")
        fails("tokenize", good + "{}\n", 'no "text"')
        fails("tokenize", good + '{"text": 5}\n', "not a string")
        fails("tokenize", good.encode() + b'{"text": "\xff"}\n', "not valid JSON")
        fails("tokenize", good + "[" * 100000 + "\n", "not valid JSON")
        good = '{"ids": [1]}\n'
        fails("detokenize", good + '{"ids": [1, -1]}\n', "no token id")
        fails("detokenize", good + '{"ids": [99999]}\n', "99999")
        fails("detokenize", good + '{"ids": ["1"]}\n', "no token id")
        fails("detokenize", good + '{"ids": 1}\n', "not a list")

    def test_other_mistakes(self):
        self.fails(1, "tokenize", "-m", self.only, "--input-file", self.path("none.jsonl"), says="No such file")
        self.fails(1, "tokenize", "-m", self.only, "-p", b"a\xff", says="byte 1")
        self.fails(2, "detokenize", "-m", self.only, "5x", says="token ids")
        self.fails(2, "detokenize", "-m", self.only, "5", "--ids", "6", says="choose one")
        self.fails(1, "detokenize", "-m", self.only, "99999", says="99999")


if __name__ == "__main__":
    main()
