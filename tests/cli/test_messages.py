"""What users are told when something is wrong, word for word: scripts match on it, and people search for it."""
import json
import os

import checkpoint
from checkpoint import HIDDEN, MLP, write_checkpoint
from cli_case import CliCase, environment, main

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4967215360\n"
POINTER_TEXT = f"is a git-lfs pointer ({len(POINTER)} bytes), not weights. Run 'git lfs pull' in"


class Models(CliCase):
    def refused(self, folder):
        return self.fails(4, "generate", "-m", folder, "-p", "a")

    def test_not_there(self):
        home = self.path("home")
        env = {k: v for k, v in environment(HOME=home).items() if not k.startswith(("HF_", "XDG_"))}
        self.assertEqual(self.fails(4, "generate", "-m", "Qwen/Qwen3-0.6B", "-p", "a", env=env),
                         f"error: model 'Qwen/Qwen3-0.6B' is not a folder and is not in the Hugging Face cache ({home}/.cache/huggingface/hub). "
                         "Get it with: hf download Qwen/Qwen3-0.6B")

    def test_git_lfs_pointers(self):
        folder = write_checkpoint(self.path("lfs"))
        self.write(os.path.join(folder, "model.safetensors"), POINTER)
        self.assertEqual(self.refused(folder), f"error: model.safetensors {POINTER_TEXT} {folder}")
        os.remove(os.path.join(folder, "model.safetensors"))
        names = list(checkpoint.tensors())
        files = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
        checkpoint.write_json(folder, "model.safetensors.index.json", {"weight_map": {n: files[i % 3] for i, n in enumerate(names)}})
        for file in files:
            self.write(os.path.join(folder, file), POINTER)
        start, problems = f"error: 3 problems in {folder}: ", [f"{file} {POINTER_TEXT} {folder}" for file in files]
        line = self.refused(folder)
        self.assertTrue(line.startswith(start), line)
        self.assertEqual(sorted(line[len(start):].split("; ")), problems)

    def test_all_problems_at_once(self):
        up, gate, norm = (f"model.layers.1.{name}.weight" for name in ("mlp.up_proj", "mlp.gate_proj", "input_layernorm"))
        named = checkpoint.tensors()
        raw = bytes(4 * 40 * HIDDEN)
        named[up] = named[gate] = ("F32", [40, HIDDEN], raw)
        del named[norm]
        folder = write_checkpoint(self.path("shapes"), named=named)
        line = self.refused(folder)
        self.assertTrue(line.startswith(f"error: 3 problems in {folder}: "), line)
        said = f"[40,{HIDDEN}], config.json says [{MLP},{HIDDEN}]"
        self.assertEqual(sorted(line.split(": ", 2)[2].split("; ")), sorted(
            [f"'{up}' {said}", f"'{gate}' {said}", f"'{norm}' absent, config.json says [{HIDDEN}]"]))


class Sizes(CliCase):
    def test_prompt_too_long(self):
        self.assertEqual(self.fails(1, "generate", "-m", self.model, "-p", "A" * 1234),
                         "error: prompt has 1,234 tokens, context is 512 (from config.json). Shorten it, or --truncate left")
        done = self.ok("generate", "-m", self.model, "-p", "A" * 1234 + "a", "-n", "3", "--temperature", "0", "--truncate", "left")
        self.assertEqual(done.stdout, b"bcd")
        self.assertIn(b"warning: prompt cut on the left from 1235 to 509 tokens", done.stderr)

    def test_does_not_fit(self):
        checkpoint.write_json(self.folder, "shape.json", checkpoint.config_json(max_position_embeddings=100_000_000, num_hidden_layers=64))
        arguments = ("--random-weights", self.path("shape.json"), "--random-dtype", "float32", "--device", "cpu")
        done = self.call("generate", *arguments, "--prompt-ids", "1", "--output-format", "json", "-c", "100,000,000", "-n", "1")
        self.assertEqual(done.returncode, 5, done.stderr)
        self.assertRegex(done.stderr.decode(), r"^error: does not fit: weights 0\.0 GiB \+ workspace \d+\.\d \+ KV 1525\.9 \(100,000,000 tokens\) > "
                         r"\d+\.\d GiB free on cpu\. (Fits: --ctx-size \d{1,3}(,\d{3})+|No context fits: ).*\n$")

    def test_numbers_are_taken_as_they_are_printed(self):
        plan = json.loads(self.ok("inspect", self.model, "-c", "1,024", "--output-format", "json").stdout)["memory_plan"]
        self.assertEqual(plan["ctx_size"], 1024)
        self.assertEqual(len(self.ok("generate", "-m", self.model, "-p", "a", "--temp", "0", "-n", "1,000").stdout.decode()), len(checkpoint.CHAIN))
        for wrong in ("1,02", "1,0244", ",123", "1024,000", "1,,000", "1,000,"):
            self.fails(2, "inspect", self.model, f"--ctx-size={wrong}", says=("--ctx-size", wrong))

    def test_batch_summary(self):
        bad = (17, 204, 861)
        lines = ["{" if number in bad else json.dumps({"prompt": "a"}) for number in range(1, 1204)]
        source = self.write(self.path("in.jsonl"), "\n".join(lines) + "\n")
        out = self.path("out.jsonl")
        done = self.call("batch", "-m", self.model, "--device", "cpu", "-i", source, "-o", out, "-n", "1", "--temperature", "0", "--overwrite")
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertRegex(done.stderr.decode(), rf"(?m)^batch: 1,200 ok, 3 failed \(lines 17, 204, 861\), \d+\.\d s, [\d,]+ output tok/s → {out}$")


class Thinking(CliCase):
    WARNING = "warning: greedy decoding with thinking on; the Qwen3 model card warns of endless repetition. --no-think or --temperature 0.6"
    TEMPLATE = "{{ messages[0].content }}{% if enable_thinking is defined and enable_thinking is false %} {% endif %}"

    def test_greedy(self):
        folder = write_checkpoint(self.path("qwen3"), chat_template=self.TEMPLATE, architectures=["Qwen3ForCausalLM"], model_type="qwen3",
                                  named=self.with_head_norms())
        def warnings(*arguments):
            done = self.ok("generate", "-m", folder, "-p", "a", "-n", "2", *arguments)
            return [line for line in done.stderr.decode().splitlines() if line.startswith("warning: ")]
        self.assertEqual(warnings("--temperature", "0"), [self.WARNING])
        self.assertEqual(warnings("--temperature", "0", "--think"), [self.WARNING])
        for think in (("--reasoning", "on"), ("--reasoning=auto",)):
            self.assertEqual(warnings("--temperature", "0", *think), [self.WARNING])
        self.fails(2, "generate", "-m", folder, "-p", "a", "--reasoning", "on", "--no-think", says="--reasoning")
        self.fails(2, "generate", "-m", folder, "-p", "a", "--reasoning", "much", says="--reasoning")
        for quiet in (("--temperature", "0", "--reasoning", "off"), ("--temperature", "0", "--no-think"), ("--temperature", "0.6"), ("--temperature", "0", "--raw")):
            self.assertEqual(warnings(*quiet), [])

    @staticmethod
    def with_head_norms():
        named = checkpoint.tensors()
        one = named["model.norm.weight"][2][:4]
        for layer in range(checkpoint.LAYERS):
            for name in ("q_norm", "k_norm"):
                named[f"model.layers.{layer}.self_attn.{name}.weight"] = ("F32", [checkpoint.HEAD_DIM], one * checkpoint.HEAD_DIM)
        return named


if __name__ == "__main__":
    main()
