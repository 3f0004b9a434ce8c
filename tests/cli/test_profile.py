"""bolide profile on a tiny model: which ops, how often, how many bytes; not how fast."""
import json

import checkpoint
from checkpoint import HEAD_DIM, HEADS, HIDDEN, KV_HEADS, LAYERS, MLP, VOCAB
from cli_case import CliCase, main

OPS = ["embed", "norm_qkv", "attention", "project_add (o)", "norm_gate_up", "project_add (down)", "logits", "sample"]
KV_ROW = 2 * KV_HEADS * HEAD_DIM * 4  # K and V of a token in a layer, float32


class Profile(CliCase):
    def profile(self, *arguments):
        return self.ok("profile", "-m", self.model, "--device", "cpu", "-r", "3", *arguments)

    def test_records(self):
        rows = json.loads(self.profile("-p", "24", "-d", "0,70", "-b", "2", "-o", "json").stdout)
        self.assertEqual([row["step"] for row in rows],
                         ["prefill of 24 tokens", "decode of 2 sequences at depth 0", "decode of 2 sequences at depth 70"])
        self.assertEqual([(row["phase"], row["rows"], row["batch_size"], row["n_depth"]) for row in rows],
                         [("prefill", 24, 1, 0), ("decode", 2, 2, 0), ("decode", 2, 2, 70)])
        for row in rows:
            ops = {op["op"]: op for op in row["ops"]}
            self.assertEqual(list(ops), OPS)
            for name, op in ops.items():
                self.assertEqual(op["calls"], 1 if name in ("embed", "logits", "sample") else LAYERS)
                self.assertIsNone(op["kernels"])
                self.assertGreater(op["us_per_step"], 0)
                self.assertAlmostEqual(op["gb_per_s"], op["bytes"] / op["us_per_step"] / 1e3)
            self.assertAlmostEqual(sum(op["share"] for op in ops.values()), 1)
            self.assertAlmostEqual(sum(op["us_per_step"] for op in ops.values()), row["ops_us"])
            self.assertAlmostEqual(sum(op["bytes"] for op in ops.values()), row["bytes"])
            self.assertGreater(row["step_us"], 0)
            self.assertGreater(row["read_bandwidth_before_gb_per_s"], 0)
            self.assertEqual(ops["norm_qkv"]["weight_bytes"], LAYERS * 4 * ((HEADS + 2 * KV_HEADS) * HEAD_DIM * HIDDEN + HIDDEN))
            self.assertEqual(ops["project_add (down)"]["weight_bytes"], LAYERS * 4 * MLP * HIDDEN)
            self.assertEqual(ops["norm_gate_up"]["operations"], row["rows"] * LAYERS * 2 * 2 * MLP * HIDDEN)
            self.assertEqual(ops["norm_qkv"]["kv_bytes"], row["rows"] * LAYERS * KV_ROW)
            self.assertEqual(ops["logits"]["weight_bytes"], 4 * (VOCAB * HIDDEN + HIDDEN))
        attention = [next(op for op in row["ops"] if op["op"] == "attention") for row in rows]
        self.assertEqual([op["kv_bytes"] for op in attention], [LAYERS * KV_ROW * tokens for tokens in (24, 2, 2 * 71)])

    def test_table_and_choice_of_steps(self):
        table = self.profile("-p", "8", "-n", "0", "--read-bandwidth", "50").stdout.decode()
        for part in ("prefill of 8 tokens", "| project_add (down) | ", "| all ops, one by one | ", "| the step as it runs |", "(as given)"):
            self.assertIn(part, table)
        self.assertNotIn("decode of", table)
        lines = [line for line in self.profile("-p", "0", "-o", "jsonl").stdout.splitlines()]
        self.assertEqual([json.loads(line)["phase"] for line in lines], ["decode"])
        checkpoint.write_json(self.folder, "shape.json", checkpoint.config_json())
        self.ok("profile", "--random-weights", self.path("shape.json"), "--device", "cpu", "-p", "4", "-r", "1")

    def test_temperature(self):
        table = self.profile("-p", "0", "--temperature", "0.5").stdout.decode()
        self.assertIn("decode of 1 sequence at depth 0, drawn at temperature 0.5, ", table)
        row, = json.loads(self.profile("-p", "0", "-b", "3", "--temperature", "0.5", "-o", "json").stdout)
        self.assertEqual((row["temperature"], row["rows"]), (0.5, 3))
        greedy, = json.loads(self.profile("-p", "0", "-o", "json").stdout)
        self.assertEqual(greedy["temperature"], 0)
        self.fails(2, "profile", "-m", self.model, "--temperature", "-1", says="--temperature")

    def test_mistakes(self):
        self.fails(2, "profile", "-m", self.model, "-p", "0", "-n", "0", says="nothing to profile")
        self.fails(2, "profile", "-m", self.model, "-p", "65537", says="--n-prompt 65537")
        self.fails(2, "profile", "-m", self.model, "-d", "x", says="--n-depth")
        self.fails(1, "profile", "-m", self.model, "-d", "600", says="needs a context of 601 tokens, and the model has 512")


if __name__ == "__main__":
    main()
