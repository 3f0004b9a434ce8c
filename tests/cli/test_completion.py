"""Completion scripts: each shell that is installed reads its script and proposes commands, flags and values."""
import json
import os
import shutil
import subprocess
import unittest

from cli_case import BINARY, SOURCE_DIR, TIMEOUT, CliCase, environment, main

with open(os.path.join(SOURCE_DIR, "tests", "cli", "golden_flags.json"), encoding="utf-8") as golden:
    FLAGS = json.load(golden)

BASH = """
source "$1"
COMP_WORDS=("${@:2}")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_bolide
printf '%s\\n' "${COMPREPLY[@]}"
"""
# compadd and its kin work inside a line editor only: here they print what they are given.
ZSH = """
compdef() { }
compset() { }
compadd() { shift; print -rl -- "$@" }
_files() { print -r -- FILES }
_describe() { print -rl -- ${${(P)2}%%:*} }
source "$1"
words=("${@:2}")
CURRENT=$#words
_bolide
"""


class Scripts(CliCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.scripts = {}
        for shell in ("bash", "zsh", "fish"):
            done = subprocess.run([BINARY, "completion", shell], check=True, capture_output=True, env=environment(), timeout=TIMEOUT)
            cls.scripts[shell] = cls.write(cls.path("script." + shell), done.stdout)

    def run_shell(self, *command):
        done = subprocess.run(command, capture_output=True, text=True, env=environment(HOME=self.folder), timeout=TIMEOUT, check=False, cwd=self.folder)
        self.assertEqual((done.returncode, done.stderr), (0, ""), command)
        return done.stdout.split("\n")

    def bash(self, *words):
        return [word for word in self.run_shell("bash", "-c", BASH, "bash", self.scripts["bash"], "bolide", *words) if word]

    def zsh(self, *words):
        found = self.run_shell("zsh", "-fc", ZSH, "zsh", self.scripts["zsh"], "bolide", *words)
        return [word for word in found if word and (word.startswith(words[-1].split("=")[-1]) or word == "FILES")]

    def fish(self, *words):
        line = " ".join(("bolide", *words))
        found = self.run_shell("fish", "-c", f"source {self.scripts['fish']}; complete -C '{line}'")
        return [word.split("\t")[0] for word in found if word]

    def check(self, complete):
        """What every shell has to propose."""
        self.assertEqual(set(complete("")) - {"FILES"} - {"--help", "--version", "--list-devices"},
                         {command for command in FLAGS if " " not in command} | {"help"})
        self.assertEqual(complete("gen"), ["generate"])
        self.assertEqual(complete("generate", "--max-t"), ["--max-tokens"])
        self.assertEqual(set(complete("generate", "--color", "")), {"auto", "always", "never"})
        self.assertEqual(set(complete("generate", "--output-format", "json")), {"json", "jsonl"})
        self.assertEqual(set(complete("generate", "--device", "c")), {"cpu", "cuda"})
        self.assertEqual(set(complete("generate", "--no-add")), {"--no-add-special"})
        self.assertIn("ops", complete("bench", "o"))
        self.assertEqual(complete("bench", "ops", "--row"), ["--rows"])
        self.assertNotIn("--rows", complete("bench", "--r"))
        # Every flag of every command, under its first name.
        for command, lines in FLAGS.items():
            proposed = set(complete(*command.split(), "--"))
            for line in lines:
                names = [name for name in line.split() if name.startswith("--") and len(name) > 3]
                self.assertTrue(proposed & set(names), f"{command}: {line}")

    def test_bash(self):
        self.run_shell("bash", "-n", self.scripts["bash"])
        self.check(self.bash)
        self.assertEqual(self.bash("generate", "--color", "=", "al"), ["always"])
        self.assertEqual(self.bash("generate", "--log_level", "war"), ["warning"])
        self.assertEqual(self.bash("generate", "-m", "x"), [])  # files, by the shell itself

    @unittest.skipUnless(shutil.which("zsh"), "no zsh on this machine")
    def test_zsh(self):
        self.run_shell("zsh", "-n", self.scripts["zsh"])
        self.check(self.zsh)
        self.assertEqual(self.zsh("generate", "--color=al"), ["always"])
        self.assertEqual(self.zsh("generate", "-m", ""), ["FILES"])

    @unittest.skipUnless(shutil.which("fish"), "no fish on this machine")
    def test_fish(self):
        self.run_shell("fish", "-n", self.scripts["fish"])
        self.check(self.fish)
        self.assertEqual(self.fish("generate", "-m", self.model[:-1]), [self.model + "/"])

    def test_mistakes(self):
        self.fails(2, "completion", says="which shell?")
        self.fails(2, "completion", "tcsh", says=("no completion for 'tcsh'", "bash, zsh and fish"))


if __name__ == "__main__":
    main()
