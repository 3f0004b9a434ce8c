"""Models by name: the Hugging Face cache, and the quickstart's model where none is named."""
import json
import os
import shutil

import checkpoint
from checkpoint import CHAIN, write_checkpoint
from cli_case import BINARY, CliCase, environment, main

COMMIT, OTHER = "0123456789abcdef" * 2 + "01234567", "fedcba9876543210" * 2 + "76543210"
NAME = "Org/Tiny-Model"


def write_to_cache(cache, commit=COMMIT, ref="main", name=NAME, **settings):
    """A checkpoint in the layout of huggingface_hub: blobs, and a snapshot of relative links to them."""
    repository = os.path.join(cache, "models--" + name.replace("/", "--"))
    snapshot, blobs, refs = (os.path.join(repository, *part) for part in (("snapshots", commit), ("blobs",), ("refs",)))
    for folder in (snapshot, blobs, refs):
        os.makedirs(folder, exist_ok=True)
    plain = write_checkpoint(os.path.join(cache, "plain-" + commit), **settings)
    for file in os.listdir(plain):
        blob = commit[:8] + file.encode().hex()
        os.rename(os.path.join(plain, file), os.path.join(blobs, blob))
        os.symlink(os.path.join("..", "..", "blobs", blob), os.path.join(snapshot, file))
    os.rmdir(plain)
    with open(os.path.join(refs, ref), "w", encoding="utf-8") as file:
        file.write(commit)
    return snapshot


class HubCache(CliCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cache = cls.path("hub")
        cls.snapshot = write_to_cache(cls.cache, chat_template="{{ messages[0].content }}")
        write_to_cache(cls.cache, OTHER, "v2", max_position_embeddings=128)
        cls.env = environment(HF_HUB_CACHE=cls.cache)

    def text(self, *arguments, env=None):
        return self.ok("generate", *arguments, "--raw", "-p", "a", "--temperature", "0", env=env or self.env).stdout.decode()

    def test_generate(self):
        done = self.ok("generate", "-m", NAME, "-p", "a", "--temperature", "0", "--output-format", "json", env=self.env)
        self.assertEqual(json.loads(done.stdout)["text"], CHAIN)
        self.assertEqual(json.loads(done.stdout)["model"], NAME)
        self.assertIn(f"model {NAME}: {self.snapshot}\n", done.stderr.decode())
        self.assertEqual(self.text("-m", f"{NAME}@{OTHER}", "--offline"), CHAIN)

    def test_every_command_takes_a_name(self):
        requests = self.write(self.path("requests.txt"), "a\n")
        for command in (("inspect", NAME), ("inspect", "-m", NAME), ("tokenize", "-m", NAME, "-p", "a"), ("detokenize", "-m", NAME, "5"),
                        ("template", "-m", NAME, "-p", "a"), ("bench", "-m", NAME, "--device", "cpu", "-p", "4", "-n", "4", "-r", "1"),
                        ("profile", "-m", NAME, "--device", "cpu", "-p", "4", "-r", "1"),
                        ("batch", "-m", NAME, "-i", requests, "-o", "-", "-n", "2")):
            self.assertNotEqual(self.ok(*command, env=self.env).stdout, b"", command)

    def test_revisions(self):
        def context(*arguments):
            return json.loads(self.ok("inspect", *arguments, "--output-format", "json", env=self.env).stdout)["context"]
        self.assertEqual(context("-m", NAME), checkpoint.CONTEXT)
        for arguments in (("-m", f"{NAME}@v2"), ("-m", NAME, "--revision", "v2"), ("-m", f"{NAME}@v2", "--revision", "v2"), (f"{NAME}@{OTHER}",)):
            self.assertEqual(context(*arguments), 128)
        self.assertEqual(json.loads(self.ok("inspect", NAME, "--output-format", "json", env={**self.env, "BOLIDE_REVISION": "v2"}).stdout)["context"], 128)
        self.fails(4, "inspect", f"{NAME}@v3", env=self.env, says=("not its revision 'v3' (there: main, v2)", "hf download Org/Tiny-Model --revision v3"))
        self.fails(2, "inspect", f"{NAME}@v2", "--revision", "main", env=self.env, says="name two revisions")
        self.fails(2, "inspect", NAME, "--revision", "../..", env=self.env, says="--revision '../..' is no branch, tag or commit")
        self.fails(2, "inspect", self.model, "--revision", "v2", env=self.env, says="is a folder: leave --revision out")

    def test_where_the_cache_is(self):
        for variables in ({"HF_HOME": self.folder}, {"HF_HUB_CACHE": "", "HF_HOME": self.folder},
                          {"HF_HUB_CACHE": self.cache, "HF_HOME": "/nowhere", "XDG_CACHE_HOME": "/nowhere"}):
            self.assertEqual(self.text("-m", NAME, env=environment(**variables)), CHAIN)
        home = self.path("home")
        os.makedirs(os.path.join(home, ".cache", "huggingface"))
        os.symlink(self.cache, os.path.join(home, ".cache", "huggingface", "hub"))
        plain = {k: v for k, v in environment(HOME=home).items() if not k.startswith(("HF_", "XDG_"))}
        self.assertEqual(self.text("-m", NAME, env=plain), CHAIN)
        self.assertEqual(self.text("-m", NAME, env={**plain, "HOME": "/nowhere", "XDG_CACHE_HOME": os.path.join(home, ".cache")}), CHAIN)

    def test_a_folder_wins(self):
        write_checkpoint(self.path("here", NAME), max_position_embeddings=64)
        done = self.ok("inspect", NAME, "--output-format", "json", env=self.env, cwd=self.path("here"))
        self.assertEqual(json.loads(done.stdout)["context"], 64)

    def test_missing(self):
        line = self.fails(4, "generate", "-m", "Qwen/Qwen3-0.6B", "-p", "a", env=self.env)
        self.assertEqual(line, f"error: model 'Qwen/Qwen3-0.6B' is not a folder and is not in the Hugging Face cache ({self.cache}). "
                               "Get it with: hf download Qwen/Qwen3-0.6B")
        self.fails(4, "generate", "-m", "./Qwen/Qwen3-0.6B", "-p", "a", env=self.env, says="is not a folder, nor a name such as Org/Name")
        self.fails(2, "generate", "-m", "", "-p", "a", env=self.env, says="--model is empty")
        self.fails(2, "generate", "--revision", "v2", "-p", "a", env=self.env, says="--revision needs a model by name")

    def test_unfinished_download(self):
        cache = self.path("unfinished")
        snapshot = write_to_cache(cache)
        os.remove(os.path.realpath(os.path.join(snapshot, "model.safetensors")))
        for command in ("generate", "tokenize"):
            self.fails(4, command, "-m", NAME, "-p", "a", env=environment(HF_HUB_CACHE=cache),
                       says=(f"the download of model '{NAME}' into {snapshot} is not finished: model.safetensors is missing",
                             f"Finish it with: hf download {NAME}"))


class Quickstart(CliCase):
    """The program is run as a copy in a folder of its own, so that the model of this source folder is not found."""

    def setUp(self):
        self.root = self.path(self.id())
        self.program = os.path.join(self.root, "build", "release", "bin", "bolide")
        os.makedirs(os.path.dirname(self.program))
        shutil.copy(BINARY, self.program)
        self.away = os.path.join(self.root, "away")
        os.makedirs(self.away)

    def call(self, *arguments, **options):
        return super().call(*arguments, program=self.program, cwd=options.pop("cwd", self.away), **options)

    def test_without_it(self):
        for command in (("generate", "-p", "a"), ("inspect",), ("bench",), ("profile",), ("tokenize", "-p", "a"), ("detokenize", "5"),
                        ("template", "-p", "a"), ("perplexity", "-f", __file__), ("batch", "-i", "x", "-o", "y")):
            self.fails(2, *command, says=("no model", "--model", "--random-weights", "scripts/quickstart.sh"))

    def test_beside_the_program(self):
        folder = write_checkpoint(os.path.join(self.root, "models-local", "smollm2-135m-instruct"))
        done = self.ok("generate", "-p", "a", "--temperature", "0")
        self.assertEqual(done.stdout.decode(), CHAIN)
        notes = [line for line in done.stderr.decode().splitlines() if "no --model given" in line]
        self.assertEqual(notes, [f"model {folder} (no --model given: the quickstart's)"])
        self.assertEqual(self.ok("generate", "-p", "a", "--temperature", "0", "-q").stderr, b"")

    def test_in_the_working_folder(self):
        write_checkpoint(os.path.join(self.root, "models-local", "smollm2-135m-instruct"), max_position_embeddings=64)
        write_checkpoint(os.path.join(self.away, "models-local", "smollm2-135m-instruct"), max_position_embeddings=32)
        self.assertEqual(json.loads(self.ok("inspect", "--output-format", "json").stdout)["context"], 32)
        self.assertEqual(json.loads(self.ok("inspect", "--output-format", "json", cwd=self.root).stdout)["context"], 64)


if __name__ == "__main__":
    main()
