"""bolide bench on a tiny model: the shape of its records, not its speed."""
import csv
import io
import json
import signal
import statistics
import subprocess
import time

import checkpoint
from cli_case import BINARY, CliCase, environment, main

KEYS = {
    "schema_version", "test", "timed", "test_time", "build_version", "build_commit", "build_type", "model", "model_type", "model_size",
    "model_n_params", "weights_dtype", "kv_cache_dtype", "device", "device_name", "n_threads", "n_batch", "seed", "ignore_eos", "warmup",
    "repetitions", "n_prompt", "n_gen", "n_depth", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "median_ts", "min_ts", "max_ts",
    "first_quarter_ts", "last_quarter_ts", "bytes_per_token", "gb_per_s", "read_bandwidth_gb_per_s", "read_bandwidth_measured", "percent_of_read_bandwidth",
    "read_bandwidth_before_gb_per_s", "read_bandwidth_after_gb_per_s", "read_bandwidth_wandered",
    "median_read_bandwidth_gb_per_s", "min_read_bandwidth_gb_per_s", "max_read_bandwidth_gb_per_s", "median_percent_of_read_bandwidth",
    "steady_repetitions", "samples_ns", "samples_ts", "command_line", "batch_size", "bytes_per_step", "ttft_ms", "ttft_prompt_tokens", "driver",
    "load_device_ms", "load_open_ms", "load_memory_ms", "load_weights_ms", "load_tokenizer_ms", "load_total_ms",
    "sm_clock_mhz_before", "sm_clock_mhz_after", "memory_clock_mhz_before", "memory_clock_mhz_after", "max_sm_clock_mhz",
    "max_memory_clock_mhz", "temperature_c_before", "temperature_c_after", "power_watts_before", "power_watts_after", "power_limit_watts",
    "throttled_by",
} | (LISTS := {"samples_ns", "samples_ts", "samples_read_bandwidth_before_gb_per_s", "samples_read_bandwidth_after_gb_per_s",
                "samples_percent_of_read_bandwidth"})


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
            around = row["read_bandwidth_before_gb_per_s"], row["read_bandwidth_after_gb_per_s"]
            self.assertAlmostEqual(row["read_bandwidth_gb_per_s"], sum(around) / 2)
            self.assertEqual(row["read_bandwidth_wandered"], max(around) > 1.1 * min(around))
            for ns, rate in zip(row["samples_ns"], row["samples_ts"]):
                self.assertAlmostEqual((row["n_prompt"] + row["n_gen"]) / ns * 1e9 / rate, 1, delta=0.05)
        prefill, decode, _, deep = rows
        self.assertIsNone(prefill["gb_per_s"])
        self.assertIsNone(prefill["median_percent_of_read_bandwidth"])
        self.assertEqual(prefill["samples_percent_of_read_bandwidth"], [])
        for row in (decode, deep):
            self.check_shares(row)

    def check_shares(self, row):
        """The read bandwidth stands around every repetition, and the share is the median of those within which it stayed."""
        befores, afters = row["samples_read_bandwidth_before_gb_per_s"], row["samples_read_bandwidth_after_gb_per_s"]
        self.assertEqual((len(befores), len(afters)), (row["repetitions"], row["repetitions"]))
        self.assertEqual(afters[-1], row["read_bandwidth_after_gb_per_s"])
        self.assertEqual(row["max_read_bandwidth_gb_per_s"], max(befores + afters))
        self.assertEqual(row["min_read_bandwidth_gb_per_s"], min(befores + afters))
        percents = row["samples_percent_of_read_bandwidth"]
        for percent, before, after, rate in zip(percents, befores, afters, row["samples_ts"]):
            self.assertAlmostEqual(percent / (rate * row["bytes_per_token"] / 1e7 / ((before + after) / 2)), 1, delta=0.01)
        steady = [percent for percent, *around in zip(percents, befores, afters) if max(around) <= 1.1 * min(around)]
        self.assertEqual(row["steady_repetitions"], len(steady))
        self.assertAlmostEqual(row["median_percent_of_read_bandwidth"], statistics.median(steady or percents))

    def test_bytes(self):
        """With a given bandwidth no measurement delays the clock by a token."""
        arguments = ("-p", "0", "-n", "6", "-d", "0,20", "-r", "3", "-o", "json", "--read-bandwidth", "40")
        decode, deep = json.loads(self.bench(*arguments).stdout)
        for row in (decode, deep):
            self.check_shares(row)
            self.assertFalse(row["read_bandwidth_measured"])
            self.assertEqual(row["steady_repetitions"], 3)
            self.assertAlmostEqual(row["median_percent_of_read_bandwidth"], row["percent_of_read_bandwidth"])
        facts = json.loads(self.ok("inspect", self.model, "--output-format", "json").stdout)
        kv = facts["kv_bytes_per_token"][decode["kv_cache_dtype"]]
        weights = facts["weights_bytes"] - (facts["vocab_size"] - 1) * facts["hidden_size"] * 4  # one row of the embeddings
        self.assertAlmostEqual(decode["bytes_per_token"], weights + kv * (1 + 3.5))
        self.assertAlmostEqual(deep["bytes_per_token"], weights + kv * (20 + 3.5))
        self.assertAlmostEqual(decode["gb_per_s"], decode["bytes_per_token"] * decode["median_ts"] / 1e9)
        self.assertAlmostEqual(decode["percent_of_read_bandwidth"], 100 * decode["gb_per_s"] / decode["read_bandwidth_gb_per_s"])

    def test_side_by_side(self):
        """Three sequences of 40 tokens, prefilled 16 rows a step: those that start first are ahead when the clock starts."""
        arguments = ("-p", "0", "-n", "6", "-d", "40", "-b", "1,3", "-r", "2", "-o", "json", "--max-num-batched-tokens", "16",
                     "--read-bandwidth", "40")
        one, three = json.loads(self.bench(*arguments).stdout)
        self.assertEqual([row["test"] for row in (one, three)], ["tg6 @ d40", "tg6 x 3 @ d40"])
        self.assertEqual((one["batch_size"], three["batch_size"], three["n_gen"]), (1, 3, 6))
        facts = json.loads(self.ok("inspect", self.model, "--output-format", "json").stdout)
        kv = facts["kv_bytes_per_token"][three["kv_cache_dtype"]]
        weights = facts["weights_bytes"] - (facts["vocab_size"] - 3) * facts["hidden_size"] * 4  # three rows of the embeddings
        # Steps of 16 rows, of which a running sequence takes one: the first ends its 40 tokens in step 3, the second (8 + 15 + 15 + 2)
        # in step 6, the third (13 + 14 + 13) in step 8.
        mean_start = 40 + (5 + 2 + 0) / 3
        self.assertAlmostEqual(three["bytes_per_step"], weights + 3 * kv * (mean_start + 3.5))
        self.assertAlmostEqual(three["bytes_per_token"], three["bytes_per_step"] / 3)
        for ns, rate in zip(three["samples_ns"], three["samples_ts"]):
            self.assertAlmostEqual(18 / ns * 1e9 / rate, 1, delta=0.05)
        self.fails(5, "bench", "-m", self.model, "-b", "3", "-p", "0", "-n", "300", "-d", "40", "--kv-cache-memory", str(600 * 512),
                   says="does not hold 3 sequences of 340 tokens")
        self.fails(2, "bench", "-m", self.model, "-b", "513", "--max-num-batched-tokens", "512",
                   says="--batch-size 513 is more than --max-num-batched-tokens 512")

    def test_prompt_and_generation_together(self):
        rows = json.loads(self.bench("-p", "0", "-n", "0", "-pg", "20,5", "--n-prompt-gen", "8,1", "-r", "2", "-o", "json").stdout)
        self.assertEqual([(row["test"], row["n_prompt"], row["n_gen"]) for row in rows], [("pp20+tg5", 20, 5), ("pp8+tg1", 8, 1)])
        for row in rows:
            self.assertIsNone(row["gb_per_s"])
            self.assertEqual(row["ttft_prompt_tokens"], row["n_prompt"])
            self.assertTrue(0 < row["ttft_ms"] < 1e-6 * max(row["samples_ns"]))
            self.assertIn("-pg 20,5", row["command_line"])
        for bad in ("20", "20,", ",5", "20,5,1", "0,5", "a,b", "1-2,3"):
            self.fails(2, "bench", "-m", self.model, "-pg", bad, says="--n-prompt-gen")

    def test_context_of_the_model(self):
        exact = self.bench("-p", "0", "-n", "20", "-d", str(checkpoint.CONTEXT - 21), "-r", "1", "-o", "json")
        self.assertEqual([row["repetitions"] for row in json.loads(exact.stdout)], [1])
        self.fails(1, "bench", "-m", self.model, "-p", "0", "-n", "20", "-d", str(checkpoint.CONTEXT - 10), "-r", "1", says="needs a context of")
        self.fails(2, "bench", "ops", "--device", "cpu", says="needs a CUDA device")
        self.fails(2, "bench", "ops", "--hidden", "7", says="--hidden 7")

    def test_formats(self):
        table = self.bench("-p", "8", "-n", "4", "-r", "1", "--no-warmup", "-t", "1", "--read-bandwidth", "42.5").stdout.decode()
        lines = table.splitlines()
        self.assertEqual(len({line.count("|") for line in lines[:4]}), 1)
        self.assertIn("| pp8 |", lines[2])
        self.assertIn("| tg4 |", lines[3])
        self.assertIn("±", lines[3])
        self.assertRegex(lines[3], r"\| \d+ % \| 42\.5 \|")
        self.assertIn("read bandwidth 42.5 GB/s, as given", table)
        measured = self.bench("-p", "8", "-n", "4", "-r", "2", "--no-warmup", "-t", "1").stdout.decode()
        self.assertRegex(measured, r"\| tg4 \|.*\| \d+ %( \*)?( \([01] of 2\))? \| [\d.]+ \([\d.]+ to [\d.]+\) \|")
        self.assertIn("measured before and after each repetition", measured)
        self.assertEqual("of 2)" in measured, "(n of m)" in measured)
        rows = list(csv.DictReader(io.StringIO(self.bench("-p", "8", "-n", "0", "-r", "1", "-o", "csv").stdout.decode())))
        self.assertEqual([row["test"] for row in rows], ["pp8"])
        self.assertEqual(set(rows[0]), KEYS - LISTS)

    def test_thread_lists_and_random_weights(self):
        checkpoint.write_json(self.folder, "shape.json", checkpoint.config_json())
        done = self.ok("bench", "--random-weights", self.path("shape.json"), "-p", "4-8+4", "-n", "0", "-r", "1", "-t", "1,2", "-o", "jsonl")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([(row["n_threads"], row["n_prompt"]) for row in rows], [(1, 4), (1, 8), (2, 4), (2, 8)])

    def test_delay(self):
        begin = time.monotonic()
        rows = json.loads(self.bench("-p", "4,8", "-n", "0", "-r", "1", "--no-warmup", "--delay", "1", "-o", "json").stdout)
        self.assertEqual([row["test"] for row in rows], ["pp4", "pp8"])
        self.assertGreater(time.monotonic() - begin, 2)
        waiting = subprocess.Popen([BINARY, "bench", "-m", self.model, "--device", "cpu", "-p", "4", "-n", "0", "--delay", "3600", "-v"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        while b"KV cache" not in (line := waiting.stderr.readline()):  # the last thing that is logged before the first test
            self.assertNotEqual(line, b"")
        waiting.send_signal(signal.SIGINT)
        waiting.communicate(timeout=60)
        self.assertEqual(waiting.returncode, 130)
        self.fails(2, "bench", "-m", self.model, "--delay", "-1", says="--delay")

    def test_mistakes(self):
        self.fails(2, "bench", "-m", self.model, "-p", "0", "-n", "0", says="nothing to measure")
        for bad in ("x", "5-", "5-1", "1-9*1", "-3", "0-1000000"):
            self.fails(2, "bench", "-m", self.model, "-p", bad, says="--n-prompt")
        self.assertIn("x median tg rate", self.ok("bench", "--help").stdout.decode())


if __name__ == "__main__":
    main()
