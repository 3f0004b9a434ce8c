"""Bad input: every case with its exit code and a message that says what, where and what to do."""
import json
import os
import struct
import subprocess
import time

import checkpoint
from checkpoint import HIDDEN, VOCAB, write_checkpoint
from cli_case import BINARY, TIMEOUT, CliCase, environment, main

HEAD = "lm_head.weight"
NORM = "model.norm.weight"


def read_text(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


class Checkpoints(CliCase):
    def refused(self, says, folder, code=4):
        for command in (("generate", "-m", folder, "--prompt-ids", "1", "--output-format", "json"), ("inspect", folder)):
            self.fails(code, *command, says=says)

    def damaged(self, name, change):
        """A checkpoint whose model.safetensors went through `change`."""
        folder = write_checkpoint(self.path(name))
        path = self.path(name, "model.safetensors")
        with open(path, "rb") as file:
            content = file.read()
        self.write(path, change(content))
        return folder

    def test_missing_folder(self):
        self.refused(("nowhere", "is not a folder", "hf download"), self.path("nowhere"))
        self.fails(4, "tokenize", "-m", self.path("nowhere"), "-p", "a", says=("is not a folder", "hf download"))

    def test_missing_files(self):
        empty = self.path("empty", "x")
        self.write(empty, "")
        self.refused("config.json", self.path("empty"))
        checkpoint.write_json(self.path("empty"), "config.json", checkpoint.config_json())
        self.refused("safetensors", self.path("empty"))

    def test_git_lfs_pointer(self):
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1192135096\n"
        self.refused(("model.safetensors is a git-lfs pointer", f"({len(pointer)} bytes)", "git lfs pull"), self.damaged("lfs", lambda _: pointer))

    def test_truncated_file(self):
        self.refused("model.safetensors", self.damaged("truncated", lambda content: content[:-100]))
        self.refused("model.safetensors", self.damaged("tiny", lambda content: content[:5]))

    def test_file_cut_short_while_in_use(self):
        folder = write_checkpoint(self.path("cut"))
        weights = self.path("cut", "model.safetensors")
        with subprocess.Popen([BINARY, "bench", "-m", folder, "--device", "cpu", "-p", "0", "-n", "100", "-r", "100000"], env=environment(),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
            self.addCleanup(running.kill)
            deadline = time.monotonic() + TIMEOUT
            while weights not in read_text(f"/proc/{running.pid}/maps"):
                self.assertIsNone(running.poll(), "ended before its weights were mapped")
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.01)
            time.sleep(0.2)
            os.truncate(weights, 0)
            _, text = running.communicate(timeout=TIMEOUT)
        lines = [line for line in text.decode().splitlines() if line.startswith("error: ")]
        self.assertEqual((running.returncode, len(lines)), (4, 1), text)
        self.assertIn(f"cannot read {weights} any more: it was cut short", lines[0])

    def test_header_longer_than_the_file(self):
        for name, length in (("long", 10**6), ("huge", 2**63)):
            self.refused(("model.safetensors", "header"), self.damaged(name, lambda content, n=length: struct.pack("<Q", n) + content[8:]))

    def test_header_is_no_json(self):
        self.refused("model.safetensors", self.damaged("nojson", lambda content: content[:8] + b"}" + content[9:]))

    def test_overlapping_offsets(self):
        def overlap(header):
            header[NORM]["data_offsets"] = [0, HIDDEN * 4]
        self.refused(("model.safetensors", "overlap"), write_checkpoint(self.path("overlap"), edit_header=overlap))

    def test_wrong_dtype_and_shape_are_listed_together(self):
        named = checkpoint.tensors()
        named[NORM] = ("I32", [HIDDEN], bytes(4 * HIDDEN))
        named[HEAD] = ("F32", [VOCAB + 1, HIDDEN], bytes(4 * HIDDEN * (VOCAB + 1)))
        del named["model.layers.1.mlp.down_proj.weight"]
        self.refused(("3 problems in", f"'{NORM}'", "I32", f"'{HEAD}' [{VOCAB + 1},{HIDDEN}]", f"config.json says [{VOCAB},{HIDDEN}]",
                      "model.layers.1.mlp.down_proj.weight"), write_checkpoint(self.path("three"), named=named))

    def test_missing_shard(self):
        folder = write_checkpoint(self.path("shards"))
        os.remove(self.path("shards", "model.safetensors"))
        weight_map = {name: "model-00002-of-00002.safetensors" for name in checkpoint.tensors()}
        checkpoint.write_json(folder, "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
        self.refused("model-00002-of-00002.safetensors", folder)

    def test_unknown_architecture(self):
        folder = write_checkpoint(self.path("architecture"), architectures=["FooForCausalLM"], model_type="foo")
        self.refused(("unknown architecture 'FooForCausalLM'", "config.json", "LlamaForCausalLM"), folder)

    def test_config_errors_are_named(self):
        self.refused(("config.json", "hidden_size"), write_checkpoint(self.path("nohidden"), hidden_size=None))
        self.refused(("config.json", "yarn"), write_checkpoint(self.path("yarn"), rope_scaling={"type": "yarn", "factor": 2.0}))
        self.write(self.path("broken", "config.json"), '{"architectures": [')
        self.refused("config.json", self.path("broken"))

    def test_tokenizer_with_an_unknown_node(self):
        folder = write_checkpoint(self.path("node"))
        tokenizer = checkpoint.tokenizer_json()
        tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [tokenizer["pre_tokenizer"], {"type": "FancySplit"}]}
        checkpoint.write_json(folder, "tokenizer.json", tokenizer)
        for command in (("generate", "-m", folder, "-p", "a"), ("tokenize", "-m", folder, "-p", "a")):
            self.fails(4, *command, says=("tokenizer.json", "pretokenizers[1]", "'FancySplit'"))
        self.assertIn("FancySplit", json.loads(self.ok("inspect", folder, "--output-format", "json").stdout)["notes"][0])

    def test_no_tokenizer(self):
        self.fails(2, "generate", "-m", self.bare, "--prompt-ids", "1", says=("no tokenizer", "--output-format json"))
        self.fails(2, "generate", "-m", self.bare, "-p", "a", "--output-format", "json", says=("no tokenizer", "--prompt-ids"))
        self.fails(4, "tokenize", "-m", self.bare, "-p", "a", says="neither tokenizer.json nor tokenizer.model")


class Prompts(CliCase):
    def test_invalid_utf8(self):
        path = self.write(self.path("latin1.txt"), "caf\xe9 au lait".encode("latin-1"))
        self.fails(1, "generate", "-m", self.model, "-f", path, says=("not valid UTF-8", "byte 3", "0xe9"))
        self.fails(1, "generate", "-m", self.model, stdin=b"ab\xff", says="byte 2 of 3")
        self.fails(1, "generate", "-m", self.model, "-p", b"\xc3", says="byte 0 of 1")
        self.fails(1, "generate", "-m", self.model, "-e", "-p", r"a\xff", says="byte 1 of 2")

    def test_prompt_longer_than_the_context(self):
        # Capitals: no merge applies, so there is a token for each byte.
        self.fails(1, "generate", "-m", self.model, "-p", "A" * 1234, says=("prompt has 1,234 tokens, context is 512", "--truncate left"))
        self.fails(1, "generate", "-m", self.model, "-p", "A" * 40, "-c", "32", says=("prompt has 40 tokens, context is 32",))

    def test_ids_outside_the_vocabulary(self):
        self.fails(1, "generate", "-m", self.model, "--prompt-ids", f"1,{VOCAB}", says=str(VOCAB))
        for bad in ("1,x", "1;2", "-5", "1.5", "99999999999"):
            self.fails(2, "generate", "-m", self.model, "--prompt-ids", bad, says=("--prompt-ids", "1,2,3"))

    def test_device_that_is_not_there(self):
        self.fails(2, "generate", "-m", self.model, "-p", "a", "--device", "tpu", says="tpu")
        self.assertIn(b"cpu", self.ok("generate", "--list-devices").stdout)

    def test_cpu_products(self):
        arguments = ("generate", "-m", self.model, "-p", "a", "--cpu-products")
        self.fails(2, *arguments, "int8", "--device", "cpu", says=("--cpu-products", "int8"))
        self.fails(2, *arguments, "bfloat16", says=("--cpu-products bfloat16 is for the CPU", "--device cpu"))
        self.ok(*arguments, "float32", "-n", "1")
        if " avx512_bf16" in read_text("/proc/cpuinfo"):
            self.ok(*arguments, "bfloat16", "--device", "cpu", "-n", "1")
        else:
            self.fails(1, *arguments, "bfloat16", "--device", "cpu", "-n", "1", says="no AVX-512 BF16")

    def test_cache_that_does_not_fit(self):
        self.fails(5, "generate", "-m", self.model, "-p", "a", "--kv-cache-memory", "900T", says="")


if __name__ == "__main__":
    main()
