"""Flags are a contract: their spellings never go away, and what surrounds them (help, environment, mistakes) behaves the same everywhere."""
import json
import os
import re
import time

import checkpoint
from checkpoint import CHAIN, ids_of
from cli_case import SOURCE_DIR, CliCase, environment, main

COMMANDS = ("generate", "chat", "batch", "perplexity", "tokenize", "detokenize", "template", "inspect", "bench", "bench throughput", "bench ops", "profile", "plan", "doctor", "completion", "version")
GOLDEN = os.path.join(SOURCE_DIR, "tests", "cli", "golden_flags.json")
SCREEN, COLUMNS = 50, 100  # lines, columns
WIDE = ("bench throughput",)  # explains figures in longer lines


class Golden(CliCase):
    """To change the list on purpose: python3 tests/cli/golden_flags.py, and only ever add."""

    def test_spellings(self):
        with open(GOLDEN, encoding="utf-8") as file:
            golden = json.load(file)
        self.assertEqual(set(golden), set(COMMANDS))
        for command in COMMANDS:
            listed = self.ok(*command.split(), "--list-flags").stdout.decode().splitlines()
            self.assertEqual(listed, golden[command], command)

    def test_help_names_every_flag_on_one_screen(self):
        for command in COMMANDS:
            text = self.ok(*command.split(), "--help").stdout.decode()
            self.assertEqual(self.ok(*command.split(), "-h").stdout.decode(), text)
            self.assertEqual(self.ok("help", *command.split()).stdout.decode(), text)
            self.assertLessEqual(len(text.splitlines()), SCREEN, command)
            self.assertLessEqual(max(map(len, text.splitlines())), 128 if command in WIDE else COLUMNS, command)
            self.assertIn("\nExample", text)
            spelled = set(re.findall(r"(?<![a-zA-Z])--?[a-zA-Z][a-z0-9-]*", text))
            known = set()
            for line in self.ok(*command.split(), "--list-flags").stdout.decode().splitlines():
                names = [name for name in line.split() if name.startswith("-")]
                known.update(names)
                if command != "version":
                    self.assertTrue(spelled & set(names), f"{command} --help says nothing of {line}")
            self.assertLessEqual(spelled - known, set(), f"{command} --help names flags that are not there")

    def test_help_comes_at_once(self):
        begin = time.monotonic()
        for _ in range(5):
            self.ok("generate", "--help")
        self.assertLess((time.monotonic() - begin) / 5, 0.5)  # seconds; some milliseconds on an idle machine, sanitizers take longer

    def test_program_help(self):
        text = self.ok("--help").stdout.decode()
        for command in COMMANDS:
            self.assertIn(f"\n  {command.split()[0]} ", text)
        self.assertEqual(self.ok("help").stdout.decode(), text)
        self.assertLessEqual(len(text.splitlines()), SCREEN)
        self.assertLessEqual(max(map(len, text.splitlines())), COLUMNS)
        devices = self.ok("--list-devices").stdout.decode()
        self.assertRegex(devices, r"(?m)^cpu .* free of ")
        self.assertEqual(devices.splitlines()[:-1], self.ok("bench", "--list-devices").stdout.decode().splitlines()[:-1])
        version = self.ok("--version").stdout.decode()
        self.assertRegex(version, r"^bolide \d+\.\d+\.\d+ \(commit ")
        self.assertIn("cpu", version)
        self.assertEqual(self.ok("version").stdout.decode(), version)
        for command in COMMANDS:
            self.assertEqual(self.ok(*command.split(), "--version").stdout.decode(), version, command)


class Spelling(CliCase):
    def sampling(self, *arguments, env=None):
        done = self.ok("generate", "-m", self.model, "-p", "a", "-n", "1", "--output-format", "json", *arguments, env=env)
        return json.loads(done.stdout)["sampling"]

    def test_underscores_and_aliases(self):
        self.assertEqual(self.sampling("--top_k", "7", "--min_p=0.25")["top_k"], 7)
        self.assertEqual(self.sampling("--temp", "0.5")["temperature"], 0.5)
        self.assertEqual(self.sampling("--repetition_penalty", "1.5")["repetition_penalty"], 1.5)
        for alias in ("--predict", "--n-predict", "--max-new-tokens", "--max_tokens"):
            self.assertEqual(self.sampling(alias, "2")["max_tokens"], 2)
        self.assertEqual(self.sampling("-r", "x", "--reverse-prompt", "[y]", "--stop=--z")["stop"], ["x", "[y]", "--z"])
        self.assertEqual(self.sampling("-ctk", "f16", "-dev", "cpu", "-np", "1", "-no-cnv", "-n3", "-qv")["max_tokens"], 3)

    def test_last_one_wins(self):
        self.assertEqual(self.sampling("--top-k", "3", "--top-k", "4")["top_k"], 4)
        done = self.ok("generate", "-m", self.model, "-p", "b", "-p", "a", "-n", "1", "--temp", "0", "--add-special", "--no-add-special")
        self.assertEqual(done.stdout, b"b")

    def test_values_are_taken_as_they_are(self):
        for text in ("--top_k", "[a]", "'", "--"):
            done = self.ok("generate", "-m", self.model, f"--prompt={text}", "-n", "1", "--output-format", "json")
            self.assertEqual(json.loads(done.stdout)["prompt_ids"], ids_of(text), text)
        self.fails(2, "generate", "-m", self.model, "--prompt=", "-n", "1", says="the prompt is empty")

    def test_environment(self):
        env = environment(BOLIDE_TOP_K="9", BOLIDE_IGNORE_EOS="true", BOLIDE_ADD_SPECIAL="0", BOLIDE_PROMPT="zzz")
        self.assertEqual(self.sampling(env=env)["top_k"], 9)
        self.assertTrue(self.sampling(env=env)["ignore_eos"])
        self.assertEqual(self.sampling("--top-k", "3", env=env)["top_k"], 3)
        only = environment(BOLIDE_MODEL=self.model)
        self.assertEqual(self.ok("generate", "-p", "a", "--temp", "0", env=only).stdout.decode(), CHAIN)
        checkpoint.write_json(self.folder, "shape.json", checkpoint.config_json())
        self.ok("inspect", "--random-weights", self.path("shape.json"), env=only)
        self.ok("inspect", self.bare, env=only)
        self.fails(2, "generate", "-p", "a", env=environment(BOLIDE_MODEL=self.model, BOLIDE_ECHO="maybe"), says="BOLIDE_ECHO")
        self.fails(2, "generate", "-p", "a", env=environment(BOLIDE_MODEL=self.model, BOLIDE_TOP_K="many"), says="--top-k")

    def test_show_config(self):
        done = self.ok("generate", "--show-config", "--top-k", "5", env=environment(BOLIDE_MIN_P="0.5"))
        lines = done.stdout.decode().splitlines()
        for line in ("--top-k 5  (command line)", "--min-p 0.5  (BOLIDE_MIN_P)", "--top-p  (default)", "--ctx-size 0  (default)",
                     "--device auto  (default)", "--echo false  (default)", "--add-special true  (default)", "--stop  (default)"):
            self.assertIn(line, lines)


    def test_show_config_asks_the_model(self):
        folder = checkpoint.write_checkpoint(self.path("defaults"), generation={"temperature": 0.6, "top_k": 20, "top_p": 0.95})
        def lines(*arguments):
            return self.ok("generate", "-m", folder, "--show-config", *arguments).stdout.decode().splitlines()
        for line in ("--temperature 0.6  (generation_config.json)", "--top-k 20  (generation_config.json)", "--top-p 0.8  (command line)",
                     "--min-p  (default)"):
            self.assertIn(line, lines("--top-p", "0.8"))
        self.assertIn("--temperature  (default)", lines("--generation-config", "none"))
        checkpoint.write_json(folder, "generation_config.json", {"do_sample": False, "temperature": 0.6})
        self.assertIn("--temperature 0  (generation_config.json)", lines())
        self.assertIn("--temperature  (default)", self.ok("generate", "-m", self.path("none"), "--show-config").stdout.decode())


class ConfigFile(CliCase):
    def sampling(self, config, *arguments, env=None):
        path = self.write(self.path("config.json"), config if isinstance(config, str) else json.dumps(config))
        done = self.ok("generate", "-m", self.model, "-p", "a", "-n", "1", "--output-format", "json", "--config", path, *arguments, env=env)
        return json.loads(done.stdout)["sampling"]

    def test_settings(self):
        got = self.sampling({"temperature": 0.5, "top_k": 7, "stop": ["x", "--y"], "ignore-eos": True, "logit-bias": "5:1"})
        self.assertEqual((got["top_k"], got["stop"], got["ignore_eos"], got["logit_bias"]), (7, ["x", "--y"], True, [[5, 1.0]]))
        self.assertEqual(got["temperature"], 0.5)

    def test_command_line_and_environment_win(self):
        config = {"temperature": 0.5, "top-k": 7, "min-p": 0.25, "add-special": False}
        got = self.sampling(config, "--top-k", "3", env=environment(BOLIDE_MIN_P="0.5"))
        self.assertEqual((got["temperature"], got["top_k"], got["min_p"]), (0.5, 3, 0.5))
        path = self.path("config.json")
        lines = self.ok("generate", "--config", path, "--top-k", "3", "--show-config").stdout.decode().splitlines()
        for line in (f"--temperature 0.5  ({path})", "--top-k 3  (command line)", f"--add-special false  ({path})"):
            self.assertIn(line, lines)
        self.assertEqual(self.sampling({}, env=environment(BOLIDE_CONFIG=self.write(self.path("no.json"), "{"))), self.sampling({}))

    def test_presets(self):
        folder = os.path.join(SOURCE_DIR, "configs", "sampling")
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                preset = json.load(file)
            think = preset.pop("think", None)
            lines = self.ok("generate", "--config", os.path.join(folder, name), "--show-config").stdout.decode().splitlines()
            self.assertTrue(all(f"--{key} {value}  ({os.path.join(folder, name)})" in lines for key, value in preset.items()), lines)
            self.assertEqual(think is not None, any(line.startswith("--think ") and name in line for line in lines))

    def test_mistakes(self):
        def fails(config, *says):
            path = self.write(self.path("bad.json"), config if isinstance(config, str) else json.dumps(config))
            self.fails(2, "generate", "-m", self.model, "-p", "a", "--config", path, says=("--config", "bad.json", *says))
        fails("{", "not valid JSON")
        fails([1], "not a JSON object")
        fails({"temprature": 1}, "'temprature' is no flag", "Did you mean 'temperature'?")
        fails({"temperature": 1, "temp": 2}, "'temp' is there twice")
        fails({"prompt": "x"}, "'prompt' belongs to one call")
        fails({"config": "x"}, "'config' belongs to one call")
        fails({"ignore-eos": 1}, "'ignore-eos' is neither true nor false")
        fails({"top-k": None}, "'top-k' is neither a text nor a number")
        self.fails(2, "generate", "-m", self.model, "-p", "a", "--config", self.path("none.json"), says=("--config", "No such file"))
        path = self.write(self.path("bad.json"), '{"top-k": "many"}')
        self.fails(2, "generate", "-m", self.model, "-p", "a", "--config", path, says="--top-k")


class Mistakes(CliCase):
    def test_unknown_flags_name_the_nearest(self):
        for command, wrong, right in (("generate", "--temprature", "--temperature"), ("generate", "--max-token", "--max-tokens"),
                                      ("generate", "--topk=3", "--top-k"), ("bench", "--repetition", "--repetitions"),
                                      ("inspect", "--ctx", "--ctx-size"), ("tokenize", "--addspecial", "--add-special")):
            self.fails(2, command, wrong, says=(f"unknown flag '{wrong.split('=')[0]}'", f"Did you mean {right}?", f"bolide {command} --help"))
        self.fails(2, "generate", "-y", says="unknown flag '-y'")
        self.fails(2, "generate", "--\x1b[2J", says="\\x1b")

    def test_unknown_commands(self):
        self.fails(2, "genrate", says=("unknown command 'genrate'", "'generate'"))
        self.fails(2, "-m", self.model, says="comes before a command")
        self.fails(2, says="no command")
        self.fails(2, "help", "me", says="unknown command 'me'")

    def test_arguments(self):
        self.fails(2, "generate", "-m", says="-m needs a value")
        self.fails(2, "generate", "-m", self.model, "hello", says="unexpected argument 'hello'")
        self.fails(2, "generate", "-m", self.model, "--random-weights", "x", says="--random-weights")
        self.fails(2, "generate", "-m", self.model, "-p", "a", "--output-format", "yaml", says="--output-format")
        self.fails(2, "generate", "-m", self.model, "-p", "a", "--logprobs", "3", says="--output-format json")
        self.fails(2, "generate", "-m", self.model, "-p", "a", "--ignore-eos=perhaps", says="--ignore-eos")


if __name__ == "__main__":
    main()
