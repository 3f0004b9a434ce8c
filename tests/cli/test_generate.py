"""bolide generate: what comes out, in every output format."""
import json

import checkpoint
from checkpoint import BOS_ID, CHAIN, EOS_ID, VOCAB, ids_of
from cli_case import CliCase, environment, main

CONTRACT = ("generate", "--prompt-ids", "1,2,3", "--temperature", "0", "--ignore-eos", "--logprobs", "5", "--prompt-logprobs",
            "--output-format", "json")
NUMBER = (int, float)
KEYS = {
    "schema_version": int, "model": str, "architecture": str, "device": dict, "weights_dtype": str, "kv_cache_dtype": str,
    "ctx_size": int, "seed": int, "sampling": dict, "prompt_ids": list, "prompt_logprobs": list, "index": int, "token_ids": list,
    "token_logprobs": list, "top_logprobs": list, "text": (str, type(None)), "finish_reason": str, "stop_string": (str, type(None)),
    "stop_token_id": (int, type(None)), "usage": dict, "timing": dict,
}
TIMING = {"load_seconds", "time_to_first_token_seconds", "prefill_seconds", "decode_seconds", "total_seconds",
          "prefill_tokens_per_second", "decode_tokens_per_second", "start_seconds", "device_seconds", "open_seconds", "memory_seconds",
          "weights_seconds", "tokenizer_seconds", "other_seconds"}


class Json(CliCase):
    def test_contract_without_a_tokenizer(self):
        done = self.ok(*CONTRACT, "--model", self.bare, "--max-tokens", "7")
        self.assertEqual(done.stdout.count(b"\n"), 1)
        result = json.loads(done.stdout)
        for key, kind in KEYS.items():
            self.assertIsInstance(result[key], kind, key)
        self.assertEqual(set(result), set(KEYS))
        self.assertEqual(set(result["timing"]), TIMING)
        for key, value in result["timing"].items():
            self.assertIsInstance(value, NUMBER, key)
        timing = result["timing"]
        stages = ("start", "device", "open", "memory", "weights", "tokenizer", "other", "prefill")
        self.assertAlmostEqual(sum(timing[f"{stage}_seconds"] for stage in stages), timing["time_to_first_token_seconds"], delta=0.002)
        self.assertEqual(result["prompt_ids"], [1, 2, 3])
        self.assertEqual(result["usage"], {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10})
        self.assertIsNone(result["text"])
        self.assertEqual(result["finish_reason"], "length")

    def test_logprobs(self):
        result = json.loads(self.ok(*CONTRACT, "-m", self.bare, "-n", "4").stdout)
        self.assertEqual(len(result["prompt_logprobs"]), 3)
        self.assertIsNone(result["prompt_logprobs"][0])
        self.assertTrue(all(value < 0 for value in result["prompt_logprobs"][1:]))
        self.assertEqual(len(result["token_logprobs"]), 4)
        for token, logprob, top in zip(result["token_ids"], result["token_logprobs"], result["top_logprobs"]):
            self.assertEqual(len(top), 5)
            self.assertEqual(top[0], [token, logprob])  # greedy takes the most probable one
            values = [value for _, value in top]
            self.assertEqual(values, sorted(values, reverse=True))
            self.assertTrue(all(isinstance(i, int) and 0 <= i < VOCAB for i, _ in top))

    def test_prompt_logprobs_agree_with_generated_ones(self):
        first = json.loads(self.ok(*CONTRACT, "-m", self.bare, "-n", "5").stdout)
        whole = ",".join(map(str, first["prompt_ids"] + first["token_ids"]))
        again = json.loads(self.ok("generate", "-m", self.bare, "--prompt-ids", whole, "-n", "1", "--prompt-logprobs", "--output-format",
                                   "json", "--temperature", "0").stdout)
        self.assertIsNone(again["token_logprobs"])
        self.assertIsNone(again["top_logprobs"])
        for a, b in zip(first["token_logprobs"], again["prompt_logprobs"][3:]):
            self.assertAlmostEqual(a, b, delta=1e-4)

    def test_text_and_stop_reasons(self):
        def run(*arguments):
            return json.loads(self.generate("--output-format", "json", *arguments).stdout)

        whole = run()
        self.assertEqual((whole["text"], whole["finish_reason"], whole["stop_token_id"]), (CHAIN, "stop", EOS_ID))
        self.assertEqual(whole["token_ids"], ids_of(CHAIN))
        cut = run("-n", "3")
        self.assertEqual((cut["text"], cut["finish_reason"]), ("bcd", "length"))
        stopped = run("--stop", "nope", "--stop", "xyz")
        self.assertEqual((stopped["text"], stopped["finish_reason"], stopped["stop_string"]), (CHAIN[:CHAIN.index("x")], "stop", "xyz"))
        token = run("--stop-token-id", str(ids_of("q")[0]))
        self.assertEqual((token["text"], token["stop_token_id"]), ("bcdefghijklmnop", ids_of("q")[0]))

    def test_half_a_character_never_reaches_json(self):
        count = len(CHAIN[:CHAIN.index("é")]) + 1
        result = json.loads(self.generate("--output-format", "json", "-n", str(count)).stdout)
        self.assertEqual(result["text"], CHAIN[:CHAIN.index("é")] + "\ufffd")

    def test_several_sequences(self):
        common = ("generate", "-m", self.model, "-p", "a", "-n", "12", "--temperature", "90", "-s", "5", "--n", "3", "--logprobs", "0")
        one = json.loads(self.ok(*common, "--output-format", "json").stdout)
        self.assertNotIn("token_ids", one)
        self.assertEqual([c["index"] for c in one["choices"]], [0, 1, 2])
        self.assertEqual(len({tuple(c["token_ids"]) for c in one["choices"]}), 3)
        lines = [json.loads(line) for line in self.ok(*common, "--output-format", "jsonl").stdout.splitlines()]
        self.assertEqual([line["token_ids"] for line in lines], [c["token_ids"] for c in one["choices"]])
        for line in lines:
            self.assertEqual(set(line), set(KEYS))
            self.assertEqual(line["top_logprobs"], [[]] * len(line["token_ids"]))
        alone = json.loads(self.ok(*[a if a != "3" else "1" for a in common], "--output-format", "json").stdout)
        self.assertEqual(alone["token_ids"], lines[0]["token_ids"], "a sequence must not depend on its neighbours")
        many = self.generate("-n", "2", "--n", "40", "--max-num-batched-tokens", "16").stdout.decode()
        self.assertEqual(many, (CHAIN[:2] + "\n") * 40)
        few = self.ok(*common, "--max-num-seqs", "1", "--output-format", "jsonl").stdout
        self.assertEqual([json.loads(line)["token_ids"] for line in few.splitlines()], [line["token_ids"] for line in lines])


class Sampling(CliCase):
    def text(self, *arguments):
        return self.ok("generate", "-m", self.model, "-p", "a", "-n", "24", "--ignore-eos", *arguments)

    def test_same_seed_same_text(self):
        first, again, other = (self.text("--temperature", "90", "--seed", s).stdout for s in ("7", "7", "8"))
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)

    def test_a_random_seed_is_printed_and_repeats_the_run(self):
        for flags in ((), ("--seed", "-1")):
            done = self.text("--temperature", "90", *flags)
            line = [part for part in done.stderr.decode().splitlines() if part.startswith("seed ")][0]
            self.assertEqual(self.text("--temperature", "90", "-s", line.split()[1]).stdout, done.stdout)

    def test_logit_bias_forms(self):
        z = ids_of("z")[0]
        for form in (f"{z}:500", f"{z}+500"):
            self.assertEqual(self.text("--temperature", "0", "--logit-bias", form).stdout, b"z" * 24)
        b = ids_of("b")[0]
        for form in (f"{b}-500", f"{b}:-500", f"{b}:-inf"):
            self.assertNotEqual(self.text("--temperature", "0", "-n", "1", "-l", form).stdout, b"b")

    def test_generation_config(self):
        model = checkpoint.write_checkpoint(self.path("defaults"), generation={"do_sample": True, "temperature": 90.0, "top_k": 1})
        def run(*arguments):
            return json.loads(self.ok("generate", "-m", model, "-p", "a", "-n", "4", "--output-format", "json", *arguments).stdout)["sampling"]
        self.assertEqual((run()["temperature"], run()["top_k"]), (90.0, 1))
        self.assertEqual((run("--top-k", "3")["temperature"], run("--top-k", "3")["top_k"]), (90.0, 3))
        none = run("--generation-config", "none")
        self.assertEqual((none["temperature"], none["top_k"]), (1.0, 0))
        note = self.ok("generate", "-m", model, "-p", "a", "-n", "1").stderr.decode()
        self.assertIn("from generation_config.json: temperature 90, top_k 1", note)
        self.assertNotIn("generation_config", self.ok("generate", "-m", model, "-p", "a", "-n", "1", "-q").stderr.decode())
        greedy = checkpoint.write_checkpoint(self.path("greedy"), generation={"do_sample": False})
        self.assertEqual(self.ok("generate", "-m", greedy, "-p", "a", "-n", "3").stdout, b"bcd")

    def test_bad_values_are_usage_errors(self):
        for flag, value in (("--temperature", "-1"), ("--temperature", "nan"), ("--top-p", "1.5"), ("--top-k", "x"), ("--seed", "1.5"),
                            ("--logit-bias", "5"), ("--logit-bias", "5:nan"), ("--n", "0"), ("--logprobs", "21"), ("-n", "-2"),
                            ("--kv-cache-dtype", "int3"), ("--kv-cache-memory", "2X"), ("--stop-token-id", "999999"), ("-n", "99999999999"),
                            ("--dtype", "float16"), ("--dtype", "int8"), ("--max-num-batched-tokens", "-1")):
            self.fails(2, "generate", "-m", self.model, "-p", "a", "--output-format", "json", flag, value, says=flag if flag[1] == "-" else ())


class Prompt(CliCase):
    def test_bos_follows_the_tokenizer(self):
        model = checkpoint.write_checkpoint(self.path("bos"), add_bos=True)
        def ids(*arguments):
            return json.loads(self.ok("generate", "-m", model, "-p", "ab", "-n", "1", "--output-format", "json", *arguments).stdout)["prompt_ids"]
        self.assertEqual(ids(), [BOS_ID, *ids_of("ab")])
        self.assertEqual(ids("--no-add-special"), ids_of("ab"))

    def test_truncate(self):
        model = checkpoint.write_checkpoint(self.path("cut"), add_bos=True)
        text = "".join(chr(ord("A") + i % 26) for i in range(60))
        def run(side, *arguments):
            done = self.ok("generate", "-m", model, "-p", text, "-c", "32", "--truncate", side, "-n", "4", "--output-format", "json",
                           "--temperature", "0", *arguments)
            self.assertIn(b"warning: prompt cut on the " + side.encode() + b" from 61 to 28 tokens", done.stderr)
            return json.loads(done.stdout)["prompt_ids"]
        self.assertEqual(run("left"), [BOS_ID, *ids_of(text[-27:])])
        self.assertEqual(run("right"), [BOS_ID, *ids_of(text[:27])])

    def test_escape_echo_and_print_prompt(self):
        done = self.ok("generate", "-m", self.model, "-e", "-p", r"\x41\u00e9\ta", "-n", "2", "--temperature", "0", "--echo", "--print-prompt")
        self.assertEqual(done.stdout.decode(), "Aé\tabc")
        self.assertIn(f"prompt ids (5): {','.join(map(str, ids_of('Aé') + ids_of(chr(9)) + ids_of('a')))}".encode(), done.stderr)
        plain = json.loads(self.ok("generate", "-m", self.model, "-p", r"\n", "-n", "1", "--output-format", "json").stdout)
        self.assertEqual(plain["prompt_ids"], ids_of("\\n"))

    def test_special_tokens_in_the_output(self):
        flags = ("--logit-bias", f"{BOS_ID}:900", "-n", "2")
        self.assertEqual(self.generate(*flags).stdout, b"")
        self.assertEqual(self.generate(*flags, "--keep-special").stdout, b"<|bos|><|bos|>")
        self.assertEqual(self.generate(*flags, env=environment(BOLIDE_SKIP_SPECIAL="0")).stdout, b"<|bos|><|bos|>")

    def test_include_stop(self):
        self.assertEqual(self.generate("--stop", "ef").stdout, b"bcd")
        self.assertEqual(self.generate("--stop", "ef", "--include-stop").stdout, b"bcdef")


class Weights(CliCase):
    def test_dtypes_and_random_weights(self):
        for dtype, name in (("F16", "float16"), ("BF16", "bfloat16")):
            model = checkpoint.write_checkpoint(self.path(dtype), dtype=dtype, torch_dtype=name)
            self.assertEqual(self.ok("generate", "-m", model, "-p", "a", "--temp", "0", "--dtype", name).stdout.decode(), CHAIN)
        shape = self.path("shape.json")
        checkpoint.write_json(self.folder, "shape.json", checkpoint.config_json())
        args = ("generate", "--random-weights", shape, "--prompt-ids", "[1, 2]", "-n", "5", "--output-format", "json", "--temperature", "0")
        first, again = (json.loads(self.ok(*args, "--random-dtype", "f32").stdout)["token_ids"] for _ in range(2))
        self.assertEqual(first, again)
        self.assertEqual(len(first), 5)

    def test_kv_dtypes_and_small_steps(self):
        for flags in (("--kv-cache-dtype", "bf16"), ("--kv-cache-dtype", "float16"), ("--max-num-batched-tokens", "1"), ("-t", "1"),
                      ("--kv-cache-memory", "1M", "-c", "64"), ("--device", "cpu")):
            self.assertEqual(self.generate("-n", "30", *flags).stdout.decode(), CHAIN[:29], flags)


if __name__ == "__main__":
    main()
