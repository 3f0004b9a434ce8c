"""bolide inspect."""
import json

import checkpoint
from checkpoint import CONTEXT, EOS_ID, HEAD_DIM, HEADS, HIDDEN, KV_HEADS, LAYERS, MLP, VOCAB
from cli_case import CliCase, main

LAYER = 2 * HIDDEN + 2 * HIDDEN * HEADS * HEAD_DIM + 2 * HIDDEN * KV_HEADS * HEAD_DIM + 3 * HIDDEN * MLP
PARAMETERS = 2 * VOCAB * HIDDEN + HIDDEN + LAYERS * LAYER
KV = 2 * LAYERS * KV_HEADS * HEAD_DIM


class Inspect(CliCase):
    def inspect(self, *arguments):
        return json.loads(self.ok("inspect", *arguments, "--output-format", "json").stdout)

    def test_json(self):
        facts = self.inspect("--model", self.model)
        expected = {
            "schema_version": 1, "model": self.model, "architecture": "LlamaForCausalLM", "model_type": "llama",
            "parameters": PARAMETERS, "weights_bytes": 4 * PARAMETERS, "weights_dtype": "float32",
            "bytes_by_dtype": {"float32": 4 * PARAMETERS}, "hidden_size": HIDDEN, "intermediate_size": MLP, "num_layers": LAYERS,
            "num_heads": HEADS, "num_kv_heads": KV_HEADS, "head_dim": HEAD_DIM, "vocab_size": VOCAB, "context": CONTEXT,
            "tied_head": False, "activation": "silu", "norm_eps": 1e-6, "qk_norm": False,
            "biases": {"qkv": False, "o": False, "mlp": False}, "rope": {"theta": 10000.0, "scaling": None}, "windows": [0] * LAYERS,
            "eos_token_ids": [EOS_ID], "bos_token_id": checkpoint.BOS_ID,
            "kv_bytes_per_token": {"float32": 4 * KV, "float16": 2 * KV, "bfloat16": 2 * KV, "fp8": KV}, "unread_tensors": [],
        }
        self.assertEqual({key: facts[key] for key in expected}, expected)
        self.assertIn("tokenizer.json", facts["tokenizer"])
        self.assertEqual(set(facts) - set(expected), {"source", "tokenizer", "memory_plan", "decode", "notes"})
        plan = facts["memory_plan"]
        self.assertEqual(set(plan), {"device", "device_name", "ctx_size", "sequences", "kv_cache_dtype", "weights_bytes", "kv_bytes",
                                     "workspace_bytes", "total_bytes", "free_bytes", "fits", "reserve_bytes", "device_bytes", "limit_bytes",
                                     "gpu_memory_utilization", "load_ctx_size", "load_kv_tokens", "load_error", "load_notes"})
        self.assertEqual((plan["load_ctx_size"], plan["load_kv_tokens"], plan["load_error"]), (CONTEXT, CONTEXT, None))
        self.assertEqual(plan["total_bytes"], plan["weights_bytes"] + plan["kv_bytes"] + plan["workspace_bytes"])
        self.assertTrue(plan["fits"])

    def test_decode_steps(self):
        """The CPU knows one way to run a step and says nothing of it; a GPU names its way (or why it takes the other)."""
        self.assertIsNone(self.inspect(self.model, "--device", "cpu")["decode"])
        self.assertNotIn("decode steps", self.ok("inspect", self.model, "--device", "cpu").stdout.decode())
        facts = self.inspect(self.model)
        self.assertEqual(facts["decode"] is None, facts["memory_plan"]["device"] == "cpu")
        if facts["decode"] is None:
            return
        self.assertEqual(facts["decode"]["one_kernel_up_to"], 0)
        text = self.ok("inspect", self.model).stdout.decode()
        self.assertIn("decode steps   a graph of kernels (%s)" % facts["decode"]["reason"], text)

    def test_plan_follows_the_flags(self):
        plan = self.inspect(self.model, "-c", "128", "--max-num-seqs", "3", "--kv-cache-dtype", "bf16")["memory_plan"]
        self.assertEqual((plan["ctx_size"], plan["sequences"], plan["kv_bytes"]), (128, 3, 3 * 128 * 2 * KV))
        big = self.inspect(self.model, "-c", str(1 << 31), "--max-num-seqs", "4096")["memory_plan"]
        self.assertFalse(big["fits"])

    def test_plan_says_what_loading_does(self):
        """What inspect announces is what generate does: the same context, or the same refusal."""
        load = ("--device", "cpu", "--kv-cache-memory", str(128 * 4 * KV))
        plan = self.inspect(self.model, *load)["memory_plan"]
        self.assertEqual((plan["load_ctx_size"], plan["load_kv_tokens"]), (128, 128))
        done = self.ok("generate", "-m", self.model, "-p", "a", "-n", "1", "--output-format", "json", *load)
        self.assertEqual(json.loads(done.stdout)["ctx_size"], 128)
        plan = self.inspect(self.model, "-c", "200", *load)["memory_plan"]
        self.assertIsNone(plan["load_ctx_size"])
        refusal = self.fails(5, "generate", "-m", self.model, "-p", "a", "-c", "200", *load, says="--ctx-size 128")
        self.assertEqual(refusal, "error: " + plan["load_error"])
        self.fails(2, "inspect", self.model, "--gpu-memory-utilization", "1.5", says="--gpu-memory-utilization 1.5")
        self.fails(2, "generate", "-m", self.model, "-p", "a", "--gpu-memory-utilization", "0", says="--gpu-memory-utilization 0")

    def test_what_is_too_large_is_refused_before_it_is_drawn(self):
        """Terabytes of random weights: inspect plans them without taking them, and loading says at once that they do not fit."""
        config = checkpoint.config_json()
        config.update(num_hidden_layers=40, hidden_size=65536, intermediate_size=131072)
        checkpoint.write_json(self.folder, "large.json", config)
        facts = self.inspect("--random-weights", self.path("large.json"), "--device", "cpu")
        self.assertGreater(facts["weights_bytes"], 1 << 40)
        self.assertFalse(facts["memory_plan"]["fits"])
        self.assertIn("does not fit", facts["memory_plan"]["load_error"])
        self.fails(5, "generate", "--random-weights", self.path("large.json"), "--prompt-ids", "1", "--output-format", "json", "--device", "cpu",
                   says="does not fit: weights")

    def test_unread_tensors_and_dtypes(self):
        named = checkpoint.tensors("BF16")
        named["model.norm.weight"] = checkpoint.tensors("F32")["model.norm.weight"]
        named["extra.weight"] = ("I64", [1], bytes(8))
        facts = self.inspect(checkpoint.write_checkpoint(self.path("mixed"), named=named, eos_token_id=[1, 2], generation={"eos_token_id": 3}))
        self.assertEqual(facts["unread_tensors"], ["extra.weight"])
        self.assertEqual(facts["bytes_by_dtype"], {"bfloat16": 2 * (PARAMETERS - HIDDEN), "float32": 4 * HIDDEN})
        self.assertEqual(facts["eos_token_ids"], [1, 2, 3, EOS_ID])

    def test_tied_head(self):
        named = checkpoint.tensors()
        del named["lm_head.weight"]
        facts = self.inspect(checkpoint.write_checkpoint(self.path("tied"), named=named, tie_word_embeddings=True))
        self.assertTrue(facts["tied_head"])
        self.assertEqual(facts["parameters"], PARAMETERS - VOCAB * HIDDEN)

    def test_random_weights_and_text(self):
        checkpoint.write_json(self.folder, "shape.json", checkpoint.config_json())
        facts = self.inspect("--random-weights", self.path("shape.json"), "--random-dtype", "bf16")
        self.assertEqual((facts["parameters"], facts["weights_bytes"], facts["tokenizer"]), (PARAMETERS, 2 * PARAMETERS, None))
        text = self.ok("inspect", self.model).stdout.decode()
        for part in ("LlamaForCausalLM", f"{PARAMETERS:,}", "512 tokens", "total", "tokenizer.json"):
            self.assertIn(part, text)

    def test_model_is_named_once(self):
        self.fails(2, "inspect", self.model, "--model", self.bare, says="choose one")


if __name__ == "__main__":
    main()
