"""bolide bench on a tiny model: the shape of its records, not its speed."""
import csv
import io
import json

import checkpoint
from cli_case import CliCase, main

KEYS = {
    "schema_version", "test", "timed", "test_time", "build_version", "build_commit", "build_type", "model", "model_type", "model_size",
    "model_n_params", "weights_dtype", "kv_cache_dtype", "device", "device_name", "n_threads", "n_batch", "seed", "ignore_eos", "warmup",
    "repetitions", "n_prompt", "n_gen", "n_depth", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "median_ts", "min_ts", "max_ts",
    "first_quarter_ts", "last_quarter_ts", "bytes_per_token", "gb_per_s", "read_bandwidth_gb_per_s", "read_bandwidth_measured", "percent_of_read_bandwidth",
    "samples_ns", "samples_ts",
}


class Bench(CliCase):
    def bench(self, *arguments):
        return self.ok("bench", "-m", self.model, "--device", "cpu", *arguments)

    def test_records(self):
        rows = json.loads(self.bench("-p", "24", "-n", "6", "-d", "0,20", "-r", "3", "-o", "json", "--max-num-batched-tokens", "16").stdout)
        self.assertEqual([row["test"] for row in rows], ["pp24", "tg6", "pp24 @ d20", "tg6 @ d20"])
        for row in rows:
            self.assertEqual(set(row), KEYS)
            self.assertEqual((len(row["samples_ns"]), row["repetitions"], row["n_batch"]), (3, 3, 16))
            self.assertTrue(0 < row["min_ts"] <= row["median_ts"] <= row["max_ts"])
            self.assertGreater(row["read_bandwidth_gb_per_s"], 0)
            self.assertTrue(row["read_bandwidth_measured"])
            for ns, rate in zip(row["samples_ns"], row["samples_ts"]):
                self.assertAlmostEqual((row["n_prompt"] + row["n_gen"]) / ns * 1e9 / rate, 1, delta=0.05)
        prefill, decode, _, deep = rows
        self.assertIsNone(prefill["gb_per_s"])
        facts = json.loads(self.ok("inspect", self.model, "--output-format", "json").stdout)
        kv = facts["kv_bytes_per_token"][decode["kv_cache_dtype"]]
        weights = facts["weights_bytes"] - (facts["vocab_size"] - 1) * facts["hidden_size"] * 4  # one row of the embeddings
        self.assertAlmostEqual(decode["bytes_per_token"], weights + kv * (1 + 3.5))
        self.assertAlmostEqual(deep["bytes_per_token"], weights + kv * (20 + 3.5))
        self.assertAlmostEqual(decode["gb_per_s"], decode["bytes_per_token"] * decode["median_ts"] / 1e9)
        self.assertAlmostEqual(decode["percent_of_read_bandwidth"], 100 * decode["gb_per_s"] / decode["read_bandwidth_gb_per_s"])

    def test_formats(self):
        table = self.bench("-p", "8", "-n", "4", "-r", "1", "--no-warmup", "-t", "1", "--read-bandwidth", "42.5").stdout.decode()
        lines = table.splitlines()
        self.assertEqual(len({line.count("|") for line in lines[:4]}), 1)
        self.assertIn("| pp8 |", lines[2])
        self.assertIn("| tg4 |", lines[3])
        self.assertIn("±", lines[3])
        self.assertIn("read bandwidth 42.5 GB/s, as given", table)
        rows = list(csv.DictReader(io.StringIO(self.bench("-p", "8", "-n", "0", "-r", "1", "-o", "csv").stdout.decode())))
        self.assertEqual([row["test"] for row in rows], ["pp8"])
        self.assertEqual(set(rows[0]), KEYS - {"samples_ns", "samples_ts"})

    def test_thread_lists_and_random_weights(self):
        checkpoint.write_json(self.folder, "shape.json", checkpoint.config_json())
        done = self.ok("bench", "--random-weights", self.path("shape.json"), "-p", "4-8+4", "-n", "0", "-r", "1", "-t", "1,2", "-o", "jsonl")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([(row["n_threads"], row["n_prompt"]) for row in rows], [(1, 4), (1, 8), (2, 4), (2, 8)])

    def test_mistakes(self):
        self.fails(2, "bench", "-m", self.model, "-p", "0", "-n", "0", says="nothing to measure")
        for bad in ("x", "5-", "5-1", "1-9*1", "-3", "0-1000000"):
            self.fails(2, "bench", "-m", self.model, "-p", bad, says="--n-prompt")
        self.assertIn("x median tg rate", self.ok("bench", "--help").stdout.decode())


if __name__ == "__main__":
    main()
