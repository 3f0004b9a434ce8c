"""bolide generate with a chat template: what the model is asked, and what is shown of its answer."""
import json
import os
import subprocess

import checkpoint
from checkpoint import BOS, BOS_ID, CHAIN, EOS, EOS_ID, ids_of
from cli_case import CliCase, environment, main

# The prompt ends with "a", behind which the model goes through CHAIN.
SOURCE = ("{{ bos_token }}{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}"
          "{% if enable_thinking is defined %}{{ 'T' if enable_thinking else 'F' }}{% endif %}{% if add_generation_prompt %}a{% endif %}")


class Chat(CliCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.chat = checkpoint.write_checkpoint(cls.path("chat"), chat_template=SOURCE, add_bos=True)

    def ask(self, *arguments, model=None, **options):
        return self.ok("generate", "-m", model or self.chat, "--temperature", "0", *arguments, **options)

    def ids(self, *arguments, **options):
        return json.loads(self.ask("-n", "1", "--output-format", "json", *arguments, **options).stdout)["prompt_ids"]

    def test_the_template_is_applied(self):
        self.assertEqual(self.ask("-p", "Q").stdout.decode(), CHAIN)
        self.assertEqual(self.ids("-p", "Q"), [BOS_ID, *ids_of("u:Q;a")])  # one BOS: the template's
        self.assertEqual(self.ids("-p", "Q", "--system", "S"), [BOS_ID, *ids_of("s:S;u:Q;a")])
        self.assertEqual(self.ids(stdin=b"Q\n"), [BOS_ID, *ids_of("u:Q\n;a")])
        file = self.write(self.path("system.txt"), "S\n")
        self.assertEqual(self.ids("-p", "Q", "--system-file", file), [BOS_ID, *ids_of("s:S\n;u:Q;a")])
        self.assertEqual(self.ids("-p", "Q", "-sys", "S"), self.ids("-p", "Q", "--system_prompt", "S"))
        shown = self.ask("-p", "Q", "-n", "1", "--print-prompt").stderr.decode()
        self.assertIn(f'prompt text: "{BOS}u:Q;a"', shown)
        self.assertEqual(self.ask("-p", "Q", "-n", "2", "--echo").stdout.decode(), f"{BOS}u:Q;abc")

    def test_plain_completion(self):
        for flag in ("--raw", "--no-chat-template", "-no-cnv"):
            self.assertEqual(self.ids("-p", "Qa", flag), [BOS_ID, *ids_of("Qa")])
        self.assertEqual(self.ids("-p", "Qa", "--raw", "--no-add-special"), ids_of("Qa"))
        self.assertEqual(self.ids("--prompt-ids", "1,2"), [1, 2])
        self.assertEqual(self.ids("-p", "Qa", model=self.model), ids_of("Qa"))  # a model without a template
        self.assertEqual(self.ids("-p", "Qa", env=environment(BOLIDE_RAW="1")), [BOS_ID, *ids_of("Qa")])

    def test_own_templates_and_variables(self):
        template = "{{ messages[0].content }}|{{ word }}|{{ bos_token }}a"
        file = self.write(self.path("own.jinja"), template + "\n")
        for given in (template, file):
            ids = self.ids("-p", "Q", "--chat-template", given, "--chat-template-kwargs", '{"word": "W"}')
            self.assertEqual(ids, [*ids_of("Q|W|"), BOS_ID, *ids_of("a")])
        self.assertEqual(self.ids("-p", "Q", "--chat-template", file, model=self.model), [*ids_of("Q||"), BOS_ID, *ids_of("a")])
        self.assertEqual(self.ids("-p", "Q", "--think"), [BOS_ID, *ids_of("u:Q;Ta")])
        self.assertEqual(self.ids("-p", "Q", "--no-think"), [BOS_ID, *ids_of("u:Q;Fa")])
        self.assertEqual(self.ids("-p", "Q", "--no_thinking"), self.ids("-p", "Q", "--thinking", "--no-think"))
        self.assertEqual(self.ids("-p", "Q", "--chat-template-kwargs", '{"add_generation_prompt": false}'), [BOS_ID, *ids_of("u:Q;")])
        jinja = checkpoint.write_checkpoint(self.path("jinja"), chat_template=SOURCE)
        self.write(os.path.join(jinja, "chat_template.jinja"), "{{ messages[0].content }}!a")
        self.assertEqual(self.ids("-p", "Q", model=jinja), ids_of("Q!a"))

    def test_think_where_the_template_knows_nothing_of_it(self):
        done = self.ask("-p", "Q", "-n", "1", "--no-think", "--chat-template", "{{ messages[0].content }}a")
        self.assertIn(b"warning: --no-think: the chat template does not read enable_thinking", done.stderr)
        self.assertNotIn(b"enable_thinking", self.ask("-p", "Q", "-n", "1", "--no-think").stderr)

    def test_markers_that_somebody_typed_are_text(self):
        done = self.ask("-p", f"x{EOS}y", "-n", "1", "--output-format", "json")
        self.assertEqual(json.loads(done.stdout)["prompt_ids"], [BOS_ID, *ids_of(f"u:x{EOS}y;a")])
        self.assertIn(f"warning: the prompt contains {EOS}, which counts as text; --allow-special".encode(), done.stderr)
        done = self.ask("-p", f"x{EOS}y", "-n", "1", "--output-format", "json", "--allow-special")
        self.assertEqual(json.loads(done.stdout)["prompt_ids"], [BOS_ID, *ids_of("u:x"), EOS_ID, *ids_of("y;a")])
        self.assertIn(b"which counts as a special token", done.stderr)
        self.assertEqual(self.ids("-p", f"x{EOS}y", "--allow-special", "--no-special-in-messages"), [BOS_ID, *ids_of(f"u:x{EOS}y;a")])
        self.assertEqual(self.ids("-p", "Q", "--system", f"{BOS}{BOS}"), [BOS_ID, *ids_of(f"s:{BOS}{BOS};u:Q;a")])
        # Plain completion parses them, as it always did.
        self.assertEqual(self.ids("-p", f"x{EOS}", "--raw"), [BOS_ID, *ids_of("x"), EOS_ID])
        looks = "{% if messages[0].content == '" + EOS + "' %}yes{% else %}{{ messages[0].content }}{% endif %}a"
        self.fails(1, "generate", "-m", self.chat, "-p", EOS, "--chat-template", looks, says=(f"looks at '{EOS}'", "--allow-special"))

    def test_a_template_that_fails_stops_the_program(self):
        for source, place in (("{% if x y %}{% endif %}", "line 1, column 9: expected the end of the tag"),
                              ("\n{{ raise_exception('Roles must alternate') }}", "line 2, column 19: Roles must alternate")):
            broken = checkpoint.write_checkpoint(self.path("broken" + str(len(source))), chat_template=source)
            line = self.fails(4, "generate", "-m", broken, "-p", "a", says=("tokenizer_config.json", place, "--raw", "--chat-template"))
            self.assertIn("chat_template of", line)
            self.assertEqual(self.ids("-p", "a", "--raw", model=broken), ids_of("a"))
        self.fails(4, "generate", "-m", self.chat, "-p", "a", "--chat-template", "{{ x.y }}", says=("line 1, column 5: 'x' is undefined", "--raw"))

    def test_flags_that_contradict(self):
        self.fails(2, "generate", "-m", self.chat, "-p", "a", "--raw", "--system", "x", says=("--system needs a chat template", "--raw"))
        self.fails(2, "generate", "-m", self.chat, "--prompt-ids", "1", "--no-think", says=("--no-think needs a chat template", "--prompt-ids"))
        self.fails(2, "generate", "-m", self.model, "-p", "a", "--system", "x", says=("--system needs a chat template", "has none", "--chat-template"))
        self.fails(2, "generate", "-m", self.chat, "-p", "", says="the prompt is empty")

    def test_truncate_keeps_what_the_template_writes(self):
        text = "".join(chr(ord("A") + i % 26) for i in range(60))
        flags = ("-p", text, "-c", "32", "-n", "4")
        whole = 1 + len("u:;a") + len(text)
        for side, kept in (("left", text[-23:]), ("right", text[:23])):
            done = self.ask(*flags, "--truncate", side, "--output-format", "json")
            self.assertEqual(json.loads(done.stdout)["prompt_ids"], [BOS_ID, *ids_of(f"u:{kept};a")])
            self.assertIn(f"prompt cut on the {side} from {whole} to 28 tokens".encode(), done.stderr)
        self.fails(1, "generate", "-m", self.chat, *flags, says=(f"{whole} tokens", "32", "--truncate"))

    def test_greedy_thinking_is_warned_of(self):
        subprocess.run(["tar", "-xJf", os.path.join(os.environ["BOLIDE_TEST_DATA"], "reference", "tiny-qwen3-text-bf16.tar.xz"), "-C", self.folder],
                       check=True)
        qwen3 = self.path("tiny-qwen3-text-bf16")
        warning = b"warning: greedy decoding with thinking on; the Qwen3 model card warns of endless repetition. --no-think or --temperature 0.6"
        flags = ("-p", "Q", "-n", "1", "--chat-template", SOURCE)
        self.assertIn(warning, self.ask(*flags, model=qwen3).stderr)
        self.assertNotIn(warning, self.ask(*flags, "--no-think", model=qwen3).stderr)
        self.assertNotIn(warning, self.ask(*flags, "--temperature", "0.6", model=qwen3).stderr)
        self.assertNotIn(warning, self.ask(*flags).stderr)  # another family


class Thinking(CliCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.thinker = checkpoint.write_checkpoint(cls.path("thinker"))
        # The tokens of c and f are called <think> and </think>: the model says b <think> d e </think> g h ...
        tokenizer = checkpoint.tokenizer_json()
        for piece, name in (("c", "<think>"), ("f", "</think>")):
            tokenizer["added_tokens"].append({"id": ids_of(piece)[0], "content": name, "single_word": False, "lstrip": False, "rstrip": False,
                                              "normalized": False, "special": False})
            tokenizer["model"]["vocab"][name] = tokenizer["model"]["vocab"].pop(piece)
        checkpoint.write_json(cls.thinker, "tokenizer.json", tokenizer)

    def say(self, *arguments):
        return self.ok("generate", "-m", self.thinker, "-p", "a", "--temperature", "0", "-n", "7", *arguments).stdout

    def test_hide_thinking(self):
        self.assertEqual(self.say(), b"b<think>de</think>gh")
        self.assertEqual(self.say("--hide-thinking"), b"bgh")
        whole = json.loads(self.say("--hide-thinking", "--output-format", "json"))
        self.assertEqual((whole["text"], len(whole["token_ids"])), ("bgh", 7))
        self.assertEqual(self.say("--hide-thinking", "--n", "2"), b"bgh\nbgh\n")
        self.assertEqual(self.say("--hide-thinking", "-n", "3"), b"b")  # thinking that does not end stays hidden
        opened = ("--chat-template", "{{ messages[0].content }}<think>\n", "--logit-bias", f"{ids_of('d')[0]}:900")
        self.assertEqual(self.say(*opened), b"d" * 7)
        self.assertEqual(self.say(*opened, "--hide-thinking"), b"")  # the prompt has opened the block


if __name__ == "__main__":
    main()
