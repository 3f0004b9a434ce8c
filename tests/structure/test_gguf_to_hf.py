"""Tests of tools/gguf_to_hf.py. Those that write and read a real GGUF file need the packages numpy and gguf, and skip without them."""
import json
import math
import random
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import gguf_to_hf  # noqa: E402
import gguf_tokenizer  # noqa: E402
from gguf_tokenizer import ConversionError  # noqa: E402

try:
    import gguf
    import numpy
except ImportError:
    gguf = None

TOKENS = ["<|endoftext|>", "<|im_end|>", "a", "b", "c", "ab", "abc", "<think>", "[PAD8]"]
TYPES = [3, 3, 1, 1, 1, 1, 1, 4, 5]


def metadata(architecture="llama", **changes):
    """What a file of a tiny model says; in `changes`, "__" stands for "." and None removes a key."""
    values = {
        "general.architecture": architecture,
        f"{architecture}.block_count": 2, f"{architecture}.context_length": 128, f"{architecture}.embedding_length": 24,
        f"{architecture}.feed_forward_length": 40, f"{architecture}.attention.head_count": 3,
        f"{architecture}.attention.head_count_kv": 1, f"{architecture}.rope.freq_base": 100000.0,
        f"{architecture}.attention.layer_norm_rms_epsilon": 9.999999747378752e-06,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": TYPES, "tokenizer.ggml.merges": ["a b", "ab c"], "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.add_bos_token": False, "tokenizer.chat_template": "{{ messages }}",
    }
    for key, value in changes.items():
        values[key.replace("__", ".")] = value
    return gguf_to_hf.Metadata({key: value for key, value in values.items() if value is not None})


class ConfigTest(unittest.TestCase):
    def test_llama(self):
        config = gguf_to_hf.make_config(metadata(), 9, tied=True)
        expected = {"architectures": ["LlamaForCausalLM"], "hidden_size": 24, "num_attention_heads": 3, "num_key_value_heads": 1,
                    "head_dim": 8, "vocab_size": 9, "rms_norm_eps": 1e-5, "rope_theta": 1e5, "rope_scaling": None,
                    "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 1}
        self.assertEqual({key: config[key] for key in expected}, expected)

    def test_refusals_name_the_reason(self):
        for changes, reason in (({"llama__expert_count": 8}, "experts"), ({"llama__attention__sliding_window": 32}, "sliding"),
                                ({"llama__rope__dimension_count": 4}, "part of a head"),
                                ({"llama__block_count": None}, "llama.block_count"),
                                ({"llama__attention__head_count_kv": [1, 2]}, "head_count_kv"),
                                ({"llama__attention__head_count": 0}, "head_count"), ({"llama__rope__scaling__type": "yarn"}, "yarn")):
            with self.assertRaisesRegex(ConversionError, reason):
                gguf_to_hf.make_config(metadata(**changes), 9, tied=True)
        with self.assertRaisesRegex(ConversionError, "'mamba' is not supported"):
            gguf_to_hf.make_config(metadata("mamba"), 9, tied=True)

    def test_llama3_scaling_is_recovered_from_its_divisors(self):
        scaling = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                   "original_max_position_embeddings": 8192}
        divisors = gguf_to_hf.llama3_factors(64, 500000.0, scaling)
        self.assertEqual(divisors[0], 1.0)
        self.assertEqual(divisors[-1], 32.0)
        self.assertTrue(any(1 < divisor < 32 for divisor in divisors))
        self.assertEqual(gguf_to_hf.rope_scaling(metadata(), 64, 500000.0, divisors), scaling)
        divisors[20] *= 1.01
        with self.assertRaisesRegex(ConversionError, "divisors"):
            gguf_to_hf.rope_scaling(metadata(), 64, 500000.0, divisors)

    def test_tensors_that_do_not_fit(self):
        plan = gguf_to_hf.tensor_plan(gguf_to_hf.make_config(metadata(), 9, tied=True), tied=True)
        shapes = {name: shape for name, (_, shape, _) in plan.items()}
        gguf_to_hf.check_tensors(plan, shapes)
        for change, reason in (({"blk.0.ffn_up.weight": None}, "ffn_up.weight is missing"), ({"blk.0.extra": (1,)}, "extra is not known"),
                               ({"blk.1.attn_k.weight": (24, 24)}, r"attn_k.weight has shape \[24, 24\], expected \[8, 24\]")):
            changed = {name: shape for name, shape in {**shapes, **change}.items() if shape is not None}
            with self.assertRaisesRegex(ConversionError, reason):
                gguf_to_hf.check_tensors(plan, changed)


class TokenizerTest(unittest.TestCase):
    def test_vocabulary_merges_and_added_tokens(self):
        tokenizer = gguf_tokenizer.make_tokenizer(metadata())
        self.assertEqual(tokenizer["model"]["vocab"], {token: i for i, token in enumerate(TOKENS[:7])})
        self.assertEqual(tokenizer["model"]["merges"], [["a", "b"], ["ab", "c"]])
        self.assertEqual([(t["id"], t["content"], t["special"]) for t in tokenizer["added_tokens"]],
                         [(0, "<|endoftext|>", True), (1, "<|im_end|>", True), (7, "<think>", False)])
        self.assertIsNone(tokenizer["post_processor"])
        self.assertEqual([node["type"] for node in tokenizer["pre_tokenizer"]["pretokenizers"]], ["Digits", "ByteLevel"])

    def test_bos_template_and_patterns(self):
        tokenizer = gguf_tokenizer.make_tokenizer(metadata(tokenizer__ggml__pre="llama-bpe", tokenizer__ggml__add_bos_token=None))
        self.assertEqual(tokenizer["post_processor"]["single"][0], {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}})
        self.assertTrue(tokenizer["model"]["ignore_merges"])
        pattern = tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
        self.assertIn(r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+", pattern)
        tokenizer = gguf_tokenizer.make_tokenizer(metadata(tokenizer__ggml__pre="qwen2"))
        self.assertEqual(tokenizer["normalizer"], {"type": "NFC"})
        self.assertIn(r"|\p{N}| ?[^\s\p{L}\p{N}]+", tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"])

    def test_tokenizer_config(self):
        config = gguf_tokenizer.make_tokenizer_config(metadata(), gguf_tokenizer.make_tokenizer(metadata()))
        self.assertEqual((config["eos_token"], config["chat_template"]), ("<|im_end|>", "{{ messages }}"))
        self.assertNotIn("pad_token", config)

    def test_several_ends(self):
        self.assertEqual(gguf_tokenizer.special_ids(metadata(tokenizer__ggml__eot_token_id=0))["eos_token_id"], [1, 0])
        self.assertNotIn("bos_token_id", gguf_tokenizer.special_ids(metadata(tokenizer__ggml__bos_token_id=4294967295)))

    def test_refusals(self):
        for changes, reason in (({"tokenizer__ggml__model": "llama"}, "'llama' is not supported"),
                                ({"tokenizer__ggml__pre": "viking"}, "'viking' is not supported"),
                                ({"tokenizer__ggml__tokens": None}, "tokenizer.ggml.tokens"),
                                ({"tokenizer__ggml__token_type": [1]}, "9 tokens, but 1"),
                                ({"tokenizer__ggml__merges": ["a  b"]}, "'a  b'"), ({"tokenizer__ggml__merges": ["a c"]}, "'a c'")):
            with self.assertRaisesRegex(ConversionError, reason):
                gguf_tokenizer.make_tokenizer(metadata(**changes))


@unittest.skipUnless(gguf, "needs the packages numpy and gguf")
class FileTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def write_gguf(self, described):
        """A file with random tensors; returns them as the checkpoint should have them, {name: float32 array}."""
        config = gguf_to_hf.make_config(described, 9, tied=True)
        writer = gguf.GGUFWriter(self.folder / "model.gguf", config["model_type"])
        for key, value in described.values.items():
            if key == "general.architecture":
                continue
            kind = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string,
                    list: writer.add_array}[type(value)]
            kind(key, value)
        generator, expected = random.Random(7), {}
        for source, (target, shape, heads) in gguf_to_hf.tensor_plan(config, tied=True).items():
            values = numpy.array([generator.gauss(0, 1) for _ in range(math.prod(shape))], dtype=numpy.float32).reshape(shape)
            expected[target] = values
            if heads:  # to the order of GGUF: the two halves of a head interleaved
                values = numpy.concatenate([numpy.stack([half for pair in zip(*numpy.split(head, 2)) for half in pair])
                                            for head in numpy.split(values, heads)])
            writer.add_tensor(source, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return expected

    def run_tool(self):
        command = [sys.executable, ROOT / "tools" / "gguf_to_hf.py", self.folder / "model.gguf", self.folder / "out"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def read_safetensors(self):
        data = (self.folder / "out" / "model.safetensors").read_bytes()
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8:8 + length])
        tensors = {}
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = (8 + length + offset for offset in entry["data_offsets"])
                self.assertEqual(entry["dtype"], "BF16")
                bits = numpy.frombuffer(data[begin:end], dtype=numpy.uint16).astype(numpy.uint32) << 16
                tensors[name] = bits.view(numpy.float32).reshape(entry["shape"])
        self.assertEqual(8 + length + 2 * sum(tensor.size for tensor in tensors.values()), len(data))
        return tensors

    def test_weights_come_out_as_they_went_in(self):
        for architecture in ("llama", "qwen2", "qwen3"):
            expected = self.write_gguf(metadata(architecture))
            run = self.run_tool()
            self.assertEqual(run.returncode, 0, run.stderr)
            tensors = self.read_safetensors()
            self.assertEqual(tensors.keys(), expected.keys())
            for name, values in expected.items():
                self.assertLessEqual(float(numpy.max(numpy.abs(tensors[name] - values) / numpy.abs(values))), 2.0 ** -8, name)
            self.assertEqual(json.loads((self.folder / "out" / "config.json").read_text())["model_type"], architecture)
            self.assertEqual(len(list((self.folder / "out").iterdir())), 5)
            for file in (self.folder / "out").iterdir():
                file.unlink()
            (self.folder / "out").rmdir()

    def test_rounding_is_to_nearest_even(self):
        values = numpy.array([1.0, 1.00390625, 1.01171875, -1.003907, 3.0e-41], dtype=numpy.float32)
        self.assertEqual([hex(bits) for bits in gguf_to_hf.to_bf16(values, "x")], ["0x3f80", "0x3f80", "0x3f82", "0xbf81", "0x0"])
        with self.assertRaisesRegex(ConversionError, "not finite"):
            gguf_to_hf.to_bf16(numpy.array([float("nan")], dtype=numpy.float32), "x")

    def test_damaged_files(self):
        self.write_gguf(metadata())
        whole = (self.folder / "model.gguf").read_bytes()
        for damaged in (b"", b"GGUF", b"nonsense", whole[:40], whole[:len(whole) // 2], whole[:-1000]):
            (self.folder / "model.gguf").write_bytes(damaged)
            run = self.run_tool()
            self.assertEqual(run.returncode, 1, run.stderr)
            self.assertRegex(run.stderr, "^error: cannot convert .*model.gguf: ")
            self.assertNotIn("Traceback", run.stderr)
            self.assertFalse((self.folder / "out").exists())

    def test_existing_folder_is_kept(self):
        (self.folder / "out").mkdir()
        run = self.run_tool()
        self.assertEqual(run.returncode, 2)
        self.assertIn("exists", run.stderr)


if __name__ == "__main__":
    unittest.main()
