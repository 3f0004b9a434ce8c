"""bolide chat, driven through pseudo-terminals."""
import json
import os
import re
import signal
import stat
import subprocess

import checkpoint
from checkpoint import BYTE_IDS, CHAIN, EOS, EOS_ID, ids_of
from cli_case import CliCase, main
from terminal import CTRL_C, CTRL_D, UP, Terminal

# What an answer leaves behind is what the next prompt begins with; the model goes on behind "a" with CHAIN.
TEMPLATE = ("{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content }}{{ eos_token }}{% else %}{{ m.role[0] }}:{{ m.content }};"
            "{% if m.role == 'user' %}{{ 'T' if enable_thinking is defined and enable_thinking else '' }}a{% endif %}{% endif %}{% endfor %}")
STATS = re.compile(r"\[prompt (\d+) tokens: (\d+) known, (\d+) computed.* \| answer (\d+) tokens.* \| context ([\d,]+) of ([\d,]+) \| stopped: (.*?)\]")
ANSWER_IDS = len(CHAIN.encode())


class ChatCase(CliCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.chat_model = checkpoint.write_checkpoint(cls.path("chat"), chat_template=TEMPLATE)
        cls.endless = checkpoint.write_checkpoint(cls.path("endless"), chat_template=TEMPLATE, max_position_embeddings=1 << 17)

    def edits_lines(self):
        """Whether this build has libedit; without it nobody knows what stands on an unfinished line, and nothing is recalled."""
        return b"line editing in chat: libedit" in self.ok("--version").stdout

    def setUp(self):
        self.home = self.path(self.id().split(".")[-1])
        os.makedirs(self.home)

    def start(self, *arguments, model=None, **options):
        chat = Terminal(self, "chat", "-m", model or self.chat_model, "--temperature", "0", *arguments, HOME=self.home, XDG_STATE_HOME="",
                        **options)
        self.greeting = chat.prompt()
        return chat

    def endless_chat(self, *arguments):
        # Without its end-of-text token the chain goes on for ever.
        return self.start("--stats", "--logit-bias", f"{EOS_ID}:-inf", *arguments, model=self.endless)

    def leave(self, chat, code=0):
        chat.type(CTRL_D)
        self.assertEqual(chat.exit_code(), code)
        self.assertTrue(chat.is_as_before())

    def file(self, name):
        return os.path.join(self.home, name)


class Talk(ChatCase):
    def test_turns_compute_only_what_is_new(self):
        chat = self.start("--stats")
        self.assertIn("context 512 tokens", self.greeting)
        first = chat.say("Hey")
        self.assertIn("\n" + CHAIN + "\r\n", first)
        prompt, known, computed, answer, context, size, why = STATS.search(first).groups()
        self.assertEqual((int(prompt), int(known), int(computed)), (len("u:Hey;a"), 0, len("u:Hey;a")))
        self.assertEqual((int(answer), context, size, why), (ANSWER_IDS, str(len("u:Hey;a") + ANSWER_IDS), "512", "end of the answer"))
        said = int(prompt) + ANSWER_IDS
        for _ in range(3):
            prompt, known, computed, answer, *_ = map(str, STATS.search(chat.say("You")).groups())
            own = 1 + len("u:You;a")  # the end-of-text token of the answer, and the question
            self.assertEqual(int(prompt), said + own)
            self.assertEqual((int(known), int(computed)), (said, own))
            said = int(prompt) + int(answer)
        self.leave(chat)

    def test_only_answers_reach_standard_output(self):
        chat = self.start("--stats", apart=True)
        chat.say("Hey")
        chat.say("/show")
        chat.say("/nothing")
        chat.say('"""one"""')
        self.leave(chat)
        self.assertEqual(chat.answers.decode(), 2 * (CHAIN + "\r\n"))

    def test_several_lines(self):
        chat = self.start()
        chat.type('"""\r')
        chat.more()
        chat.type("one\r")
        chat.more()
        chat.type('two"""\r')
        self.assertIn(CHAIN, chat.prompt())
        chat.say('"""three"""')
        chat.say("//four")
        chat.say("  ")
        chat.type('/system """five\r')
        chat.more()
        chat.type('six\r')
        chat.more()
        chat.type('"""\r')
        chat.prompt()
        chat.say(f"/save {self.file('talk.json')}")
        self.leave(chat)
        with open(self.file("talk.json"), encoding="utf-8") as file:
            saved = json.load(file)
        self.assertEqual([m["content"] for m in saved["messages"]], ["five\nsix", "one\ntwo", CHAIN, "three", CHAIN, "/four", CHAIN])

    def test_regenerate_draws_anew(self):
        chat = self.start("--temperature", "30", "-s", "5", "-n", "12", "--stats")
        texts = [chat.say("Hey")] + [chat.say("/regen") for _ in range(2)]
        self.assertEqual(len({STATS.sub("", text) for text in texts}), 3)
        self.assertIn("1 turns", chat.say("/show"))
        self.assertIn("/regen: there is no answer yet", chat.say("/clear") + chat.say("/regen"))
        self.leave(chat)
        again = self.start("--temperature", "30", "-s", "5", "-n", "12", "--stats")
        self.assertEqual(STATS.sub("", again.say("Hey")), STATS.sub("", texts[0]))
        self.leave(again)

    def test_a_full_context_is_said_and_changes_nothing(self):
        chat = self.start("-c", "80", "--stats")
        self.assertIn("stopped: end of the answer", chat.say("Hey"))
        self.assertIn("stopped: the context of 80 tokens is full. /clear begins", chat.say("You"))
        tokens = 80 + 1 + len("u:Moe;a")
        self.assertIn(f"error: \x1b[0mthe context is full: with this message the conversation has {tokens} tokens, and the context holds 80. "
                      "The message was not sent. /save keeps the conversation, /clear begins a new one", chat.say("Moe"))
        self.assertIn("2 turns, 81 of 80 tokens", chat.say("/show"))  # with the end-of-text token that the template writes
        self.assertIn("2 turns", chat.say(f"/save {self.file('full.json')}"))
        self.assertIn("the conversation has 81 tokens, and the context holds 80", chat.say(f"/load {self.file('full.json')}"))
        chat.say("/clear")
        self.assertIn(CHAIN, chat.say("Hey"))
        self.leave(chat)

    def test_typed_markers_and_control_characters(self):
        chat = self.start("-n", "3", "--logit-bias", f"{BYTE_IDS[0x1b]}:900")
        shown = chat.say(f"x{EOS}y")
        self.assertIn(f"the conversation contains {EOS}, which counts as text; --allow-special", shown)
        self.assertIn("\\x1b\\x1b\\x1b", shown)
        self.assertNotIn("which counts as text", chat.say("again"))
        chat.say(f"/save {self.file('exact.json')}")
        self.leave(chat)
        with open(self.file("exact.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["messages"][1]["content"], "\x1b\x1b\x1b")


class Thinking(ChatCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.thinker = checkpoint.write_checkpoint(cls.path("thinker"), chat_template=TEMPLATE)
        tokenizer = checkpoint.tokenizer_json()  # the tokens of c and f are called <think> and </think>: b <think> d e </think> g h ...
        for piece, name in (("c", "<think>"), ("f", "</think>")):
            tokenizer["added_tokens"].append({"id": ids_of(piece)[0], "content": name, "single_word": False, "lstrip": False, "rstrip": False,
                                              "normalized": False, "special": False})
            tokenizer["model"]["vocab"][name] = tokenizer["model"]["vocab"].pop(piece)
        checkpoint.write_json(cls.thinker, "tokenizer.json", tokenizer)

    def test_dimmed_plain_or_hidden(self):
        chat = self.start("-n", "7", model=self.thinker)
        self.assertIn("\x1b[2m<think>\x1b[0m\x1b[2md\x1b[0m\x1b[2me\x1b[0m\x1b[2m</think>\x1b[0mgh", chat.say("Q"))
        chat.say("/think hide")
        self.assertIn("\nbgh\r\n", chat.say("Q"))
        chat.say("/think show")
        self.assertIn("</think>", chat.say("Q"))
        self.leave(chat)
        plain = self.start("-n", "7", "--color", "never", model=self.thinker)
        self.assertIn("\nb<think>de</think>gh\r\n", plain.say("Q"))
        self.leave(plain)
        hidden = self.start("-n", "7", "--hide-thinking", "--stats", model=self.thinker)
        self.assertIn("\nbgh\r\n", hidden.say("Q"))
        # What the model thought is part of the conversation: the next prompt begins with it, token by token.
        prompt, known, *_ = map(int, STATS.search(hidden.say("Q")).groups()[:3])
        self.assertEqual((prompt, known), (2 * len("u:Q;a") + 7 + 1, len("u:Q;a") + 7 - 1))  # -n 7 ended it: the last token was never computed
        self.leave(hidden)

    def test_asked_for_or_not(self):
        chat = self.start("--stats", "-n", "1")
        plain = int(STATS.search(chat.say("Q")).group(1))
        chat.say("/clear")
        chat.say("/think on")
        self.assertEqual(int(STATS.search(chat.say("Q")).group(1)), plain + 1)
        self.assertIn("thinking on, shown", chat.say("/show"))
        chat.say("/think auto")
        self.assertIn("thinking auto", chat.say("/show"))
        self.assertIn("on, off, auto, show or hide", chat.say("/think much"))
        self.leave(chat)


class Signals(ChatCase):
    def test_interrupt_stops_the_answer_and_keeps_it(self):
        chat = self.endless_chat()
        chat.type("Hey\r")
        chat.expect(CHAIN[:10])
        chat.type(CTRL_C)
        stopped = chat.prompt()
        count = int(STATS.search(stopped).group(4))
        self.assertEqual(STATS.search(stopped).group(7), "interrupted")
        chat.say(f"/save {self.file('kept.json')}")
        with open(self.file("kept.json"), encoding="utf-8") as file:
            answer = json.load(file)["messages"][1]["content"]
        self.assertTrue(answer.startswith(CHAIN[:10]))
        self.assertGreaterEqual(count, 10)
        chat.type("You\r")  # and the conversation goes on
        chat.expect(CHAIN[:10])
        chat.type(CTRL_C)
        self.assertGreater(int(STATS.search(chat.prompt()).group(2)), 0)
        self.leave(chat)

    def test_interrupt_at_the_prompt(self):
        chat = self.start()
        if self.edits_lines():
            chat.type("half a line")
            chat.expect("half a line")
            chat.type(CTRL_C)
            self.assertNotIn("once more", chat.prompt())  # the line is dropped, nothing else
        chat.type(CTRL_C)
        self.assertIn("Ctrl-C once more leaves; so do Ctrl-D and /exit", chat.prompt())
        self.assertIn(CHAIN, chat.say("Hey"))
        chat.type(CTRL_C)
        self.assertIn("once more", chat.prompt())  # it asks anew
        chat.type(CTRL_C)
        self.assertEqual(chat.exit_code(), 130)
        self.assertTrue(chat.is_as_before())

    def test_ways_to_leave(self):
        for line in ("/exit", "/bye", "/quit"):
            chat = self.start()
            chat.type(line + "\r")
            self.assertEqual(chat.exit_code(), 0)
        for model, before in ((self.chat_model, b""), (self.chat_model, b"half")):
            chat = self.start(model=model)
            chat.type(before)
            chat.process.send_signal(signal.SIGTERM)
            self.assertEqual(chat.exit_code(), 143)
            self.assertTrue(chat.is_as_before())
        chat = self.endless_chat()
        chat.type("Hey\r")
        chat.expect(CHAIN[:10])
        chat.process.send_signal(signal.SIGTERM)
        self.assertEqual(chat.exit_code(), 143)

    def test_a_terminal_that_goes_away(self):
        chat = self.start()
        os.close(os.dup(chat.master))
        chat.process.send_signal(signal.SIGHUP)
        self.assertEqual(chat.exit_code(), -signal.SIGHUP)


class Files(ChatCase):
    def test_saved_and_loaded(self):
        talk = self.file("talk.json")
        chat = self.start("--system", "Be é")
        chat.say("Hey")
        self.assertIn("/save needs the name of a file", chat.say("/save"))
        self.assertIn(f"saved 1 turns to {talk}", chat.say(f"/save {talk}"))
        chat.say("You")
        self.assertIn("saved 2 turns", chat.say("/save"))
        self.leave(chat)
        with open(talk, encoding="utf-8") as file:
            saved = json.load(file)
        self.assertEqual((saved["format"], saved["version"], saved["model"]), ("bolide-conversation", 1, self.chat_model))
        self.assertEqual([(m["role"], m["content"]) for m in saved["messages"]],
                         [("system", "Be é"), ("user", "Hey"), ("assistant", CHAIN), ("user", "You"), ("assistant", CHAIN)])
        self.assertEqual(stat.S_IMODE(os.stat(talk).st_mode), 0o600)
        self.assertEqual(os.listdir(self.home).count("talk.json"), 1)
        self.assertFalse([name for name in os.listdir(self.home) if name.startswith("talk.json.")])

        other = self.start("--stats")
        other.say("Else")
        self.assertIn("is there already. /save -f", other.say(f"/save {talk}"))
        self.assertIn("loaded 2 turns", other.say(f"/load {talk}"))
        prompt = int(STATS.search(other.say("Moe")).group(1))
        self.assertEqual(prompt, len("s:Be é;".encode()) + 2 * (len("u:Hey;a") + ANSWER_IDS + 1) + len("u:Moe;a"))
        self.assertIn("saved 3 turns", other.say("/save"))
        other.say("/clear")
        self.assertIn("saved 0 turns", other.say(f"/save -f {talk}"))
        self.assertIn("loaded 0 turns", other.say(f"/load {talk}"))
        self.leave(other)

    def test_files_that_are_no_conversation(self):
        message = {"role": "user", "content": "x"}
        reply = {"role": "assistant", "content": "y"}
        good = {"format": "bolide-conversation", "version": 1, "model": "m", "messages": [message, reply]}
        bad = [("", "not valid JSON"), ("[1]", "it is not a JSON object"), ({"messages": []}, 'it is no saved conversation: "format"'),
               ({**good, "version": 2}, "was saved in version 2 of the format"), ({**good, "version": "1"}, "version"),
               ({**good, "more": 1}, "it holds 'more', which version 1 does not know"), ({**good, "messages": {}}, '"messages" is not a list'),
               ({**good, "messages": [1]}, "message 1 is not an object"), ({**good, "messages": [{"role": "user"}]}, 'message 1 has no "content"'),
               ({**good, "messages": [message, message]}, "message 2 has the role 'user', where \"assistant\" is due"),
               ({**good, "messages": [message, reply, {"role": "system", "content": "s"}]}, "message 3 has the role 'system'"),
               ({**good, "messages": [message]}, "the last question has no answer"), ({**good, "messages": [{**message, "name": "z"}, reply]}, "message 1 holds 'name'"),
               ({**good, "messages": [{**message, "content": 7}, reply]}, "content"),
               ({**good, "messages": [{**message, "content": "x" * 600}, reply]}, "the conversation has 606 tokens, and the context holds 512"),
               ("{" * 100000, "not valid JSON"), (b'{"format": "\xff"}', "not valid JSON")]
        chat = self.start()
        chat.say("Hey")
        for number, (content, says) in enumerate(bad):
            path = self.write(self.file(f"bad{number}.json"), content if isinstance(content, (str, bytes)) else json.dumps(content))
            self.assertIn(says, chat.say(f"/load {path}"), content)
        self.assertIn("No such file", chat.say(f"/load {self.file('nothing')}"))
        self.assertIn("Is a directory", chat.say(f"/load {self.home}"))
        self.assertIn("is not a file", chat.say("/load /dev/zero"))
        self.assertIn("cannot write", chat.say("/save /proc/talk.json"))
        self.assertIn("1 turns", chat.say("/show"))  # none of them touched the conversation
        chat.say(f"/load {self.write(self.file('good.json'), json.dumps(good))}")
        self.assertIn("[assistant] y", chat.say("/show messages"))
        self.leave(chat)

    def test_history(self):
        history = self.file(".local/state/bolide/chat_history")
        chat = self.start()
        for line in ("/set", "héllo wörld", "/show"):
            chat.say(line)
        self.leave(chat)
        with open(history, encoding="utf-8") as file:
            self.assertEqual(file.read().splitlines(), ["/set", "héllo wörld", "/show"])
        self.assertEqual(stat.S_IMODE(os.stat(history).st_mode), 0o600)
        if self.edits_lines():
            again = self.start()
            again.type(UP + UP)
            again.expect("héllo wörld")
            again.type("!\r")
            self.assertIn(CHAIN, again.prompt())
            self.leave(again)
            with open(history, encoding="utf-8") as file:
                self.assertEqual(file.read().splitlines()[-1], "héllo wörld!")
        silent = self.start("--no-history")
        silent.say("secret")
        self.leave(silent)
        with open(history, encoding="utf-8") as file:
            self.assertNotIn("secret", file.read())

    def test_history_that_cannot_be_kept(self):
        self.write(self.file(".local"), "no folder")
        chat = self.start()
        self.assertIn("lines typed now are not kept for later sessions", chat.say("/set"))
        self.assertIn(CHAIN, chat.say("Hey"))
        self.leave(chat)

    def test_a_long_history_is_cut(self):
        history = self.write(self.file(".local/state/bolide/chat_history"), "".join(f"/line{i}\n" for i in range(2500)))
        self.leave(self.start())
        with open(history, encoding="utf-8") as file:
            self.assertEqual(file.read().splitlines(), [f"/line{i}" for i in range(1500, 2500)])


class Commands(ChatCase):
    def test_settings(self):
        chat = self.start()
        for command, shown in (("/set temperature 0.5", "temperature 0.5"), ("/set top_k 7", "top-k 7"), ("/set temp 0.25", "temperature 0.25"),
                               ("/set max-tokens 3", "max-tokens 3"), ("/set max-tokens -1", "max-tokens -1"), ("/set seed 9", "seed 9"),
                               ("/set repeat-penalty 1.5", "repeat-penalty 1.5"), ("/set stats on", "stats on")):
            chat.say(command)
            self.assertIn(f"  {shown}\r\n", chat.say("/set"), command)
        for command, says in (("/set temperature hot", "/set temperature: 'hot' is not a number"), ("/set temperature -1", "temperature"),
                              ("/set top-p 2", "top-p"), ("/set temperature nan", "finite"), ("/set tempature 1", "Did you mean temperature?"),
                              ("/set stats maybe", "on or off"), ("/set top-k", "needs a value"), ("/set max-tokens 0", "max-tokens"),
                              ("/clea", "there is no command '/clea'. Did you mean /clear?"), ("/clear now", "/clear takes nothing after it"),
                              ("/show all", "only 'messages' may follow")):
            before = chat.say("/set")
            self.assertIn(says, chat.say(command), command)
            self.assertEqual(chat.say("/set"), before)
        help_text = chat.say("/help")
        for name in ("/help", "/clear", "/regen", "/system", "/set", "/show", "/think", "/save", "/load", "/exit", "/bye"):
            self.assertIn(name, help_text)
        self.assertEqual(chat.say("/?").split("\r\n", 1)[1], help_text.split("\r\n", 1)[1])
        self.leave(chat)

    def test_system_message(self):
        chat = self.start("--system", "Be brief", "--stats", "-n", "1")
        self.assertIn("system message: Be brief", chat.say("/system"))
        self.assertEqual(int(STATS.search(chat.say("Q")).group(1)), len("s:Be brief;u:Q;a"))
        self.assertIn("system message: Be long", chat.say("/system Be long"))
        chat.say("/clear")
        self.assertEqual(int(STATS.search(chat.say("Q")).group(1)), len("s:Be long;u:Q;a"))
        self.assertIn("no system message", chat.say('/system ""'))
        self.leave(chat)


class Surroundings(ChatCase):
    def test_greedy_thinking_is_warned_of(self):
        subprocess.run(["tar", "-xJf", os.path.join(os.environ["BOLIDE_TEST_DATA"], "reference", "tiny-qwen3-text-bf16.tar.xz"), "-C", self.home],
                       check=True)
        qwen3 = self.file("tiny-qwen3-text-bf16")
        warning = "greedy decoding with thinking on; the Qwen3 model card warns of endless repetition. --no-think or --temperature 0.6"
        for flags, warned in (((), True), (("--no-think",), False), (("--temperature", "0.6"), False)):
            chat = self.start("--chat-template", TEMPLATE, *flags, model=qwen3)
            self.assertEqual(warning in self.greeting, warned)
            self.leave(chat)

    def test_needs_a_terminal(self):
        self.fails(2, "chat", "-m", self.chat_model, says=("chat is a conversation at a terminal, and standard input is none", "bolide generate"))
        self.fails(2, "chat", "-m", self.chat_model, stdin=None, preexec_fn=lambda: os.close(0), says="standard input is none")
        chat = Terminal(self, "chat", "-m", self.model, HOME=self.home)
        self.assertEqual(chat.exit_code(), 2)
        self.assertIn(b"the model has no chat template", chat.shown)
        missing = Terminal(self, "chat", "-m", self.path("nowhere"), HOME=self.home)
        self.assertEqual(missing.exit_code(), 4)

    def test_standard_output_to_a_file(self):
        master, slave = os.openpty()
        self.addCleanup(os.close, master)
        done = self.call("chat", "-m", self.chat_model, stdin=None, preexec_fn=lambda: os.dup2(slave, 0))
        os.close(slave)
        self.assertEqual((done.returncode, done.stdout), (2, b""))
        self.assertIn(b"standard output is none", done.stderr)

    def test_colours(self):
        for changes in ({"NO_COLOR": "1"}, {}):
            arguments = () if changes else ("--color", "never")
            chat = self.start("--stats", *arguments, **changes)
            shown = self.greeting + chat.say("Hey") + chat.say("/nothing")
            self.assertNotRegex(shown, "\x1b\\[[0-9;]*m")
            self.leave(chat)

    def test_dumb_terminal(self):
        chat = self.start("--stats", TERM="dumb")
        shown = self.greeting + chat.say("Hey")
        chat.type(CTRL_C)
        shown += chat.prompt()
        self.assertIn("once more", shown)
        shown += chat.say("/show")
        self.assertIn(CHAIN, shown)
        self.assertNotIn("\x1b", shown)
        self.assertEqual(chat.modes, b"")
        self.leave(chat)

    def test_version_names_the_line_editing(self):
        self.assertIn(b"line editing in chat: ", self.ok("--version").stdout)


if __name__ == "__main__":
    main()
