"""bolide template: conversations to prompts, for scripts and for people."""
import json
import os

import checkpoint
from checkpoint import BOS, EOS
from cli_case import CliCase, main

SOURCE = ("{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}"
          "{% if add_generation_prompt %}<assistant>{% if enable_thinking is defined and not enable_thinking %}<no>{% endif %}{% endif %}")
RULES = "{% for m in messages %}{% if m.role == 'system' %}\n{{ raise_exception('System role not supported') }}{% endif %}{{ m.content }}{% endfor %}"


class Template(CliCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.only = cls.path("template-only")
        cls.write(cls.path("template-only", "tokenizer_config.json"),
                  json.dumps({"bos_token": {"content": BOS}, "eos_token": EOS, "chat_template": SOURCE}))
        cls.rules = cls.write(cls.path("rules.jinja"), RULES)

    def test_lines(self):
        user, system = {"role": "user", "content": "é\n\"x\""}, {"role": "system", "content": "s"}
        cases = [
            ({"messages": [user], "kwargs": {"add_generation_prompt": True}}, f"{BOS}<user>é\n\"x\"<assistant>"),
            ({"messages": [system, user], "kwargs": {}}, f"{BOS}<system>s<user>é\n\"x\""),
            ({"messages": [user]}, f"{BOS}<user>é\n\"x\""),
            ({"messages": [], "kwargs": {"tools": [{"b": 1, "a": "<é>"}]}}, BOS + '[{"b": 1, "a": "<é>"}]'),
            ({"messages": [user], "kwargs": {"add_generation_prompt": True, "enable_thinking": False}}, f"{BOS}<user>é\n\"x\"<assistant><no>"),
            ({"messages": [user], "kwargs": {"bos_token": "!"}}, "!<user>é\n\"x\""),
        ]
        path = self.write(self.path("cases.jsonl"), "".join(json.dumps(case) + "\n" for case, _ in cases))
        for flags in (("--output-format", "jsonl"), ()):
            done = self.ok("template", "--model", self.only, "--input-file", path, *flags)
            self.assertEqual([json.loads(line) for line in done.stdout.splitlines()], [{"text": text} for _, text in cases])
            self.assertEqual(done.stderr, b"")
        plain = self.ok("template", "-m", self.only, "--input-file", "-", "--output-format", "text", stdin=json.dumps(cases[1][0]).encode())
        self.assertEqual(plain.stdout.decode(), cases[1][1] + "\n")

    def test_errors_are_lines_too(self):
        lines = [{"messages": [{"role": "user", "content": "a"}]}, {"messages": [{"role": "system", "content": "a"}]}, {"messages": 5}, {"kwargs": {}},
                 {"messages": [], "kwargs": []}, {"messages": [3]}, {"messages": [{"role": "user", "content": "b"}]}]
        path = self.write(self.path("errors.jsonl"), "".join(json.dumps(line) + "\n" for line in lines))
        done = self.ok("template", "--chat-template", self.rules, "--input-file", path)
        got = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual((got[0], got[-1]), ({"text": "a"}, {"text": "b"}))
        self.assertEqual(got[1], {"error": f"{self.rules} line 2, column 19: System role not supported"})
        for answer, part in zip(got[2:-1], ("not a list", 'no "messages"', '"kwargs" is not an object', "message 1 is not an object")):
            self.assertIn(part, answer["error"])
        broken = self.write(self.path("broken.jsonl"), json.dumps(lines[0]) + "\n{\n")
        stopped = self.call("template", "--chat-template", self.rules, "--input-file", broken)
        self.assertEqual((stopped.returncode, stopped.stdout), (1, b'{"text":"a"}\n'))
        self.assertIn(b"broken.jsonl line 2: not valid JSON", stopped.stderr)

    def test_one_conversation(self):
        run = ("template", "-m", self.only)
        self.assertEqual(self.ok(*run, "-p", "hi").stdout.decode(), f"{BOS}<user>hi<assistant>")
        self.assertEqual(self.ok(*run, "-p", "hi", "--system", "be", "--no-think").stdout.decode(), f"{BOS}<system>be<user>hi<assistant><no>")
        self.assertEqual(self.ok(*run, stdin=b"hi", ).stdout.decode(), f"{BOS}<user>hi<assistant>")
        self.assertEqual(self.ok(*run, "-p", "hi", "--no-generation-prompt").stdout.decode(), f"{BOS}<user>hi")
        self.assertEqual(json.loads(self.ok(*run, "-p", "hi", "--output-format", "json").stdout), {"text": f"{BOS}<user>hi<assistant>"})
        kwargs = ("--chat-template-kwargs", '{"enable_thinking": false, "tools": [1]}')
        self.assertEqual(self.ok(*run, "-p", "hi", *kwargs).stdout.decode(), f"{BOS}<user>hi[1]<assistant><no>")
        conversation = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        listed = self.write(self.path("list.json"), json.dumps(conversation))
        whole = self.write(self.path("object.json"), json.dumps({"messages": conversation, "kwargs": {"add_generation_prompt": True}}))
        self.assertEqual(self.ok(*run, "-f", listed).stdout.decode(), f"{BOS}<user>a<assistant>b")
        self.assertEqual(self.ok(*run, "-f", listed, "--generation-prompt").stdout.decode(), f"{BOS}<user>a<assistant>b<assistant>")
        self.assertEqual(self.ok(*run, "-f", whole).stdout.decode(), f"{BOS}<user>a<assistant>b<assistant>")
        self.assertEqual(self.ok("template", "--chat-template", "{{ messages[0].content }}", "-p", "alone").stdout, b"alone")
        self.assertEqual(self.ok(*run, "--chat-template", "{{ eos_token }}", "-p", "x").stdout.decode(), EOS)

    def test_mistakes(self):
        self.fails(4, "template", "-m", self.path("nowhere"), "-p", "a", says="is not a folder")
        self.fails(4, "template", "-m", self.model, "-p", "a", says=("holds no chat template", "chat_template.jinja", "--chat-template FILE"))
        self.fails(4, "template", "--chat-template", "{% if %}", "-p", "a", says="--chat-template line 1, column 7: expected an expression")
        self.fails(4, "template", "--chat-template", "\n{{ x.y }}", "-p", "a", says="line 2, column 5: 'x' is undefined")
        self.fails(2, "template", "--chat-template", "no-such-file", "-p", "a", says=("'no-such-file'", "neither a file nor a template"))
        self.fails(2, "template", "-m", self.only, "-p", "a", "--chat-template-kwargs", "{", says="--chat-template-kwargs: not valid JSON")
        self.fails(2, "template", "-m", self.only, "-p", "a", "--chat-template-kwargs", "[]", says="not a JSON object")
        self.fails(2, "template", "-m", self.only, "-f", "x", "--system", "y", says="--system goes with --prompt")
        self.fails(1, "template", "-m", self.only, "-f", self.path("nothing.json"), says="cannot read")
        self.fails(1, "template", "-m", self.only, "-p", b"\xff", says="not valid UTF-8 at byte 0")
        broken = self.path("broken")
        os.makedirs(broken)
        self.write(self.path("broken", "chat_template.jinja"), "a\n{% for x in y %}")
        self.fails(4, "template", "-m", broken, "-p", "a", says=("chat_template.jinja line 2, column 4", "not closed", "endfor"))
        deep = self.write(self.path("deep.jsonl"), '{"messages": [{"role": "user", "content": ' + "[" * 3000 + "]" * 3000 + "}]}\n")
        self.assertIn("deeper than", json.loads(self.ok("template", "-m", self.only, "--input-file", deep).stdout)["error"])


if __name__ == "__main__":
    main()
