"""bolide bench throughput on a tiny model: what it counts, not its speed."""
import heapq
import json
import random
import re
import signal
import subprocess
import time

import checkpoint
from cli_case import BINARY, SOURCE_DIR, TIMEOUT, CliCase, environment, main

KEYS = {
    "schema_version", "timed", "elapsed_time", "num_requests", "total_num_tokens", "requests_per_second", "tokens_per_second",
    "output_tokens_per_second", "total_input_tokens", "total_output_tokens", "interrupted", "test_time", "build_version", "build_commit",
    "build_type", "command_line", "model", "model_type", "model_size", "model_n_params", "weights_dtype", "kv_cache_dtype", "kv_cache_bytes",
    "workspace_bytes", "device", "device_name", "n_threads", "max_num_batched_tokens", "max_num_seqs", "workload", "num_prompts", "input_len",
    "output_len", "request_rate", "seed", "temperature", "ignore_eos", "prefix_cache", "warmup", "preempted_requests", "kv_bytes_read",
    "kv_gb_per_s", "weight_bytes_per_step", "fewest_steps", "ceiling_seconds", "ceiling_output_tokens_per_second", "percent_of_ceiling",
    "read_bandwidth_before_gb_per_s", "read_bandwidth_after_gb_per_s", "read_bandwidth_measured", "steps", "steps_ahead", "step_tokens",
    "host_ms_per_step", "device_wait_ms_per_step", "prepare_ms_per_step", "submit_ms_per_step", "deliver_ms_per_step", "driver",
    "sm_clock_mhz_before", "sm_clock_mhz_after", "memory_clock_mhz_before", "memory_clock_mhz_after", "max_sm_clock_mhz",
    "max_memory_clock_mhz", "temperature_c_before", "temperature_c_after", "power_watts_before", "power_watts_after", "power_limit_watts",
    "throttled_by",
} | {f"{part}_{what}_ms" for part in ("mean", "median", "std", "p99") for what in ("ttft", "tpot", "itl", "e2el")}


class Throughput(CliCase):
    def throughput(self, *arguments, model=None):
        return self.ok("bench", "throughput", "-m", model or self.model, "--device", "cpu", "--read-bandwidth", "40", *arguments)

    def record(self, *arguments):
        record = json.loads(self.throughput("-o", "json", *arguments).stdout)
        self.assertEqual(set(record), KEYS)
        self.assertEqual(record["total_num_tokens"], record["total_input_tokens"] + record["total_output_tokens"])
        for name, count in (("requests", "num_requests"), ("tokens", "total_num_tokens"), ("output_tokens", "total_output_tokens")):
            self.assertAlmostEqual(record[name + "_per_second"], record[count] / record["elapsed_time"])
        self.assertFalse(record["prefix_cache"])
        return record

    def workload(self, **fields):
        checkpoint.write_json(self.folder, "workload.json", fields)
        return self.path("workload.json")

    def test_a_workload_is_what_python_draws(self):
        path = self.workload(num_prompts=20, seed=3, input_len=[4, 40], output_len=[2, 30], token_ids=[1, 90], temperature=0.6)
        rng = random.Random(3)
        prompts = [len([rng.randint(1, 90) for _ in range(rng.randint(4, 40))]) for _ in range(20)]
        outputs = [rng.randint(2, 30) for _ in range(20)]
        record = self.record("--workload", path, "--max-num-seqs", "6", "--max-num-batched-tokens", "32")
        self.assertEqual((record["total_input_tokens"], record["total_output_tokens"]), (sum(prompts), sum(outputs)))
        self.assertEqual((record["num_requests"], record["temperature"], record["seed"]), (20, 0.6, 3))
        facts = json.loads(self.ok("inspect", self.model, "--output-format", "json").stdout)
        kv = facts["kv_bytes_per_token"][record["kv_cache_dtype"]]
        self.assertEqual(record["kv_bytes_read"], kv * sum(p + i for p, o in zip(prompts, outputs) for i in range(1, o)))
        slots = [0] * 6
        for output in outputs:
            heapq.heapreplace(slots, slots[0] + output)
        self.assertEqual(record["fewest_steps"], max(slots))
        # The embeddings are no head: they are not read as a whole.
        weights = facts["weights_bytes"] - facts["vocab_size"] * facts["hidden_size"] * 4
        self.assertEqual(record["weight_bytes_per_step"], weights)
        self.assertAlmostEqual(record["ceiling_seconds"], (max(slots) * weights + record["kv_bytes_read"]) / 40e9)
        self.assertAlmostEqual(record["percent_of_ceiling"], 100 * record["ceiling_seconds"] / record["elapsed_time"])
        self.assertGreaterEqual(record["steps"], record["fewest_steps"])
        # Every token but each request's last is computed once.
        self.assertEqual(record["step_tokens"], sum(prompts) + sum(outputs) - 20)

    def test_latencies(self):
        record = self.record("--num-prompts", "6", "--input-len", "20", "--output-len", "9", "--no-warmup")
        self.assertEqual((record["total_input_tokens"], record["total_output_tokens"]), (120, 54))
        for what in ("ttft", "tpot", "itl", "e2el"):
            self.assertGreater(record[f"mean_{what}_ms"], 0)
            self.assertLessEqual(record[f"median_{what}_ms"], record[f"p99_{what}_ms"])
        self.assertAlmostEqual(record["mean_itl_ms"], record["mean_tpot_ms"], delta=1e-6)  # all requests are equally long
        self.assertAlmostEqual(record["mean_e2el_ms"], record["mean_ttft_ms"] + 8 * record["mean_tpot_ms"], delta=1e-6)
        self.assertLessEqual(record["p99_e2el_ms"], 1e3 * record["elapsed_time"])

    def test_lengths_are_spread(self):
        record = self.record("--num-prompts", "40", "--input-len", "20", "--output-len", "10", "--random-range-ratio", "0.5", "-s", "7")
        self.assertEqual((record["input_len"], record["output_len"]), ([10, 30], [5, 15]))
        self.assertNotEqual(record["total_input_tokens"], 800)
        same = self.record("--num-prompts", "40", "--input-len", "20", "--output-len", "10", "--random-range-ratio", "0.5", "-s", "7")
        for key in ("total_input_tokens", "total_output_tokens", "kv_bytes_read"):
            self.assertEqual(same[key], record[key])

    def test_arrivals(self):
        record = self.record("--num-prompts", "20", "--input-len", "8", "--output-len", "4", "--request-rate", "40", "-s", "1")
        rng = random.Random(1)
        for _ in range(20):
            rng.randint(8, 8)
            for _ in range(8):
                rng.randint(0, checkpoint.VOCAB - 1)
        for _ in range(20):
            rng.randint(4, 4)
        last = sum(rng.expovariate(40) for _ in range(19))
        self.assertGreater(record["elapsed_time"], last)
        self.assertLess(record["mean_ttft_ms"], 1e3 * last, "nobody waits for the others to arrive")
        self.assertEqual(record["request_rate"], 40)
        for key in ("fewest_steps", "ceiling_seconds", "percent_of_ceiling"):
            self.assertIsNone(record[key])

    def test_kv_cache_dtypes(self):
        arguments = ("--num-prompts", "3", "--input-len", "8", "--output-len", "6", "--no-warmup")
        read = {dtype: self.record(*arguments, "--kv-cache-dtype", dtype)["kv_bytes_read"] for dtype in ("float32", "bfloat16", "fp8")}
        self.assertEqual(read["float32"], 2 * read["bfloat16"])
        self.assertEqual(read["bfloat16"], 2 * read["fp8"])
        self.fails(2, "bench", "throughput", "-m", self.model, "--kv-cache-dtype", "int8", says="float16, float32 or fp8")
        self.fails(2, "bench", "throughput", "--random-weights", self.path("model", "config.json"), "--random-dtype", "fp8", says="--random-dtype")

    def test_text_and_file(self):
        path = self.path("record.json")
        text = self.throughput("--num-prompts", "5", "--input-len", "8", "--output-len", "4", "--output-json", path).stdout.decode()
        rates = re.match(r"Throughput: ([0-9.]+) requests/s, ([0-9.]+) total tokens/s, ([0-9.]+) output tokens/s\n"
                         r"Total num prompt tokens:  40\nTotal num output tokens:  20\n", text)
        self.assertTrue(rates, text)
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        self.assertEqual(set(record), KEYS)
        self.assertAlmostEqual(float(rates[2]), record["tokens_per_second"], delta=0.01)
        for part in ("| TTFT |", "| TPOT |", "| ITL |", "prefix cache off", "after a warm-up", "40.0 GB/s before", "the run reaches"):
            self.assertIn(part, text)
        self.assertIn("without a warm-up", self.throughput("--num-prompts", "2", "--no-warmup").stdout.decode())

    def test_interrupted(self):
        endless = checkpoint.write_checkpoint(self.path("endless"), max_position_embeddings=1 << 17)
        process = subprocess.Popen([BINARY, "bench", "throughput", "-m", endless, "--num-prompts", "3", "--output-len", "100000", "-o", "json",
                                    "--no-warmup", "--read-bandwidth", "40"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT)
        self.assertEqual(process.returncode, 130, err)
        record = json.loads(out)
        self.assertTrue(record["interrupted"])
        self.assertEqual(record["num_requests"], 0)
        self.assertIsNone(record["percent_of_ceiling"])

    def test_mistakes(self):
        def fails(code, *arguments, says):
            self.fails(code, "bench", "throughput", "-m", self.model, *arguments, says=says)

        fails(2, "--workload", f"{SOURCE_DIR}/configs/bench/nano-vllm.json", says=("ids up to 10000", f"ends at {checkpoint.VOCAB - 1}"))
        for fields, says in (({"input_len": [5, 4]}, "'input_len' must be an integer from 1"), ({"output_len": 0}, "'output_len'"),
                             ({"token_ids": [0, 1, 2]}, "'token_ids'"), ({"num_prompts": "x"}, "'num_prompts'"),
                             ({"temperature": -1}, "'temperature' is below 0"), ({"requests": 4}, "'requests' is no field")):
            fails(2, "--workload", self.workload(**fields), says=("--workload", "workload.json", says))
        self.write(self.path("list.json"), "[1]")
        fails(2, "--workload", self.path("list.json"), says="not a JSON object")
        fails(2, "--workload", self.path("list.json"), "--input-len", "4", says="--input-len")
        for rate in ("0", "-1", "x", "nan", "1e99", ""):
            fails(2, "--request-rate", rate, says="--request-rate")
        fails(1, "--input-len", str(checkpoint.CONTEXT), says=("prompt and output together", f"{checkpoint.CONTEXT:,}"))
        self.fails(4, "bench", "throughput", "-m", self.path("none"), says="none")
        self.fails(1, "bench", "throughput", "-m", self.model, "--num-prompts", "1", "--output-json", self.path("no", "file"), says="--output-json")


if __name__ == "__main__":
    main()
