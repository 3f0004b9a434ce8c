"""Texts that are pasted into bolide chat, by terminals that mark them."""
import json
import os
import signal

from checkpoint import CHAIN
from cli_case import main
from terminal import CTRL_C, UP
from test_conversation import ChatCase


class Paste(ChatCase):
    def setUp(self):
        super().setUp()
        if not self.edits_lines():
            self.skipTest("built without libedit: lines are taken as the terminal gives them")

    def saved_by(self, chat, name):
        """The messages so far: [content, ...]."""
        chat.say(f"/save -f {self.file(name)}")
        with open(self.file(name), encoding="utf-8") as file:
            return [m["content"] for m in json.load(file)["messages"]]

    def test_a_pasted_text_is_one_message(self):
        chat = self.start()
        code = '# "a"\n\tif é:\n\n        b()'
        questions = [code, "/help\nme", "//one\ntwo", '"""three\nfour', "a typed and a pasted word"]
        for text in questions[:4]:
            chat.paste(text + "\n")  # the line feed behind the last line is none of the text's
            self.assertIn(CHAIN, chat.say(""))
        chat.type("a typed and")
        chat.paste(" a pasted")
        self.assertIn(CHAIN, chat.say(" word"))
        expected = [text for question in questions for text in (question, CHAIN)]
        self.assertEqual(self.saved_by(chat, "pasted.json"), expected)
        # Behind something typed it belongs to that: to a command, and to a text of several lines.
        chat.type("/system ")
        chat.paste("Be\nbrief.")
        self.assertIn("system message: Be", chat.say(""))
        chat.say("/clear")
        chat.type('"""\r')
        chat.more()
        chat.paste("five\nsix\n")
        chat.say('"""')
        # What is typed before the paste is shown comes behind it; carriage returns and line feeds are line feeds.
        chat.type(b"\x1b[200~seven\reight\nnine\x1b[201~ ten\r")
        chat.expect(CHAIN)
        chat.prompt()
        self.assertEqual(self.saved_by(chat, "pasted.json"), ["Be\nbrief.", "five\nsix", CHAIN, "seven\neight\nnine ten", CHAIN])
        self.leave(chat)

    def test_pasted_texts_are_recalled_and_dropped_as_a_whole(self):
        chat = self.start()
        chat.paste("//one\ntwo")
        self.assertIn(CHAIN, chat.say(""))
        chat.paste("three\nfour")
        chat.type(CTRL_C)
        self.assertNotIn("once more", chat.prompt())
        chat.type(UP)
        chat.expect("two")
        self.assertIn(CHAIN, chat.say(" again"))
        chat.paste("")
        long_text = "\n".join(f"line {i} of many" for i in range(300))
        chat.paste(long_text)
        self.assertIn("the context is full", chat.say(""))
        bad = b"\x1b[200~a\xff\xc3\nb\x00c\x1b[201~\r"  # no UTF-8, and what would end a text
        chat.type(bad)
        chat.expect(CHAIN)
        chat.prompt()
        self.assertEqual(self.saved_by(chat, "pasted.json"), ["//one\ntwo", CHAIN, "//one\ntwo again", CHAIN, "a\ufffd\ufffd\nb\ufffdc", CHAIN])
        self.leave(chat)
        with open(os.path.join(self.home, ".local", "state", "bolide", "chat_history"), encoding="utf-8") as file:
            self.assertEqual(file.read().splitlines(), [f"/save -f {self.file('pasted.json')}"])

    def test_pastes_are_marked_at_the_prompt_alone(self):
        chat = self.endless_chat()
        self.assertTrue(chat.takes_pastes())
        chat.type("Hey\r")
        chat.expect(CHAIN[:10])
        self.assertFalse(chat.takes_pastes())
        chat.type(CTRL_C)
        chat.prompt()
        self.assertTrue(chat.takes_pastes())
        chat.process.send_signal(signal.SIGTSTP)
        os.waitpid(chat.process.pid, os.WUNTRACED)
        while chat.pump(0.1):
            pass
        self.assertFalse(chat.takes_pastes())
        chat.process.send_signal(signal.SIGCONT)
        chat.prompt()
        self.assertTrue(chat.takes_pastes())
        chat.type(b"\x1b[200~a paste that does not end")
        chat.process.send_signal(signal.SIGTERM)
        self.assertEqual(chat.exit_code(), 143)
        self.assertTrue(chat.is_as_before())


if __name__ == "__main__":
    main()
