"""bolide plan and generate --dry-run: what fits, before weights are read, and what then really happens."""
import json

import checkpoint
from checkpoint import CONTEXT, HEAD_DIM, KV_HEADS, LAYERS
from cli_case import SOURCE_DIR, CliCase, environment, main

KV = 2 * LAYERS * KV_HEADS * HEAD_DIM  # values per token


class Plan(CliCase):
    def plan(self, *arguments):
        return json.loads(self.ok("plan", "--device", "cpu", "--output-format", "json", *arguments).stdout)

    def cells(self, table):
        return {(cell["sequences"], cell["ctx_size"]): cell for cell in table["cells"]}

    def test_everything_fits(self):
        report = self.plan(self.model)
        self.assertEqual(set(report), {"schema_version", "model", "architecture", "context", "device", "weights_bytes", "reserve_bytes", "free_bytes",
                                       "limit_bytes", "tables"})
        self.assertEqual([table["kv_cache_dtype"] for table in report["tables"]], ["float32", "bfloat16"])
        self.assertEqual([table["device_default"] for table in report["tables"]], [True, False])
        for table, size in zip(report["tables"], (4, 2)):
            self.assertEqual(table["kv_bytes_per_token"], KV * size)
            cells = self.cells(table)
            self.assertEqual(set(cells), {(n, CONTEXT >> i) for n in (1, 4, 16, 64) for i in range(6)})
            for (sequences, context), cell in cells.items():
                chunks = sequences * -(-context // 64)
                self.assertEqual(cell["kv_bytes"], chunks * 64 * KV * size)
                self.assertEqual(cell["total_bytes"], report["weights_bytes"] + cell["workspace_bytes"] + cell["kv_bytes"] + report["reserve_bytes"])
                self.assertTrue(cell["fits"])
            self.assertEqual(table["largest_ctx_size"], [{"sequences": n, "ctx_size": CONTEXT} for n in (1, 4, 16, 64)])

    def test_limits(self):
        # Room for 64 chunks of 64 tokens.
        size = str(64 * 64 * KV * 4)
        table, = self.plan(self.model, "--kv-cache-memory", size, "--kv-cache-dtype", "float32", "-c", "64,512", "--max-num-seqs", "8,16,64,65")["tables"]
        fits = {key: cell["fits"] for key, cell in self.cells(table).items()}
        self.assertEqual(fits, {(8, 64): True, (16, 64): True, (64, 64): True, (65, 64): False,
                                (8, 512): True, (16, 512): False, (64, 512): False, (65, 512): False})
        self.assertEqual([entry["ctx_size"] for entry in table["largest_ctx_size"]], [512, 256, 64, 0])

    def test_it_is_what_loading_does(self):
        checkpoint.write_json(self.folder, "shape.json", checkpoint.config_json(max_position_embeddings=100_000_000, num_hidden_layers=64))
        shape = ("--random-weights", self.path("shape.json"), "--random-dtype", "float32", "--device", "cpu")
        report = json.loads(self.ok("plan", *shape, "--kv-cache-memory", "64M", "-c", "1024", "--max-num-seqs", "1",
                                    "--kv-cache-dtype", "float32", "--output-format", "json").stdout)
        largest = report["tables"][0]["largest_ctx_size"][0]["ctx_size"]
        self.assertEqual(largest, (64 << 20) // (64 * 64 * 2 * KV_HEADS * HEAD_DIM * 4) * 64)
        run = (*shape, "--prompt-ids", "1", "-n", "1", "--output-format", "json", "--kv-cache-memory", "64M", "--temperature", "0")
        self.assertEqual(json.loads(self.ok("generate", *run, "-c", str(largest)).stdout)["ctx_size"], largest)
        self.fails(5, "generate", *run, "-c", str(largest + 1), says="--kv-cache-memory")

    def test_text(self):
        text = self.ok("plan", self.model, "--device", "cpu", "--max-num-seqs", "1,2", "-c", "512,128").stdout.decode()
        self.assertRegex(text, r"\nKV cache in float32 \(this device's default\), 512 B a token\nsequences +512 +128 +largest\n +1 .*MiB +512\n +2 .*MiB +512\n")
        shape = f"{SOURCE_DIR}/configs/models/qwen3-0.6b.json"
        self.assertIn("40,960", self.ok("plan", "--random-weights", shape, "--device", "cpu").stdout.decode())

    def test_mistakes(self):
        self.fails(2, "plan", self.model, "-c", "513", says=("--ctx-size 513", "the model's context of 512"))
        self.fails(2, "plan", self.model, "-c", "x", says="--ctx-size")
        self.fails(2, "plan", self.model, "--max-num-seqs", "0", says="--max-num-seqs")
        self.fails(2, "plan", self.model, "--kv-cache-dtype", "float32,int7", says="int7")
        self.fails(2, "plan", self.model, "--model", self.bare, says="choose one")
        self.fails(4, "plan", self.path("nowhere"), says="is not a folder")


class DryRun(CliCase):
    def test_report(self):
        done = self.ok("generate", "-m", self.model, "-p", "abc", "--device", "cpu", "-c", "100", "--dry-run", "--output-format", "json")
        report = json.loads(done.stdout)
        self.assertEqual((report["prompt_ids"], report["ctx_size"], report["kv_tokens"]), (checkpoint.ids_of("abc"), 100, 128))
        self.assertEqual(report["kv_bytes"], 128 * KV * 4)
        text = self.ok("generate", "-m", self.model, "-p", "abc", "--device", "cpu", "--dry-run").stdout.decode()
        self.assertRegex(text, r"^fits on cpu.*: weights .* \+ workspace .* \+ KV .* \(512 tokens, float32\) of .*\nprompt 3 tokens, context 512\n$")

    def test_refusals(self):
        self.fails(1, "generate", "-m", self.model, "-p", "A" * 1234, "--dry-run", says="prompt has 1,234 tokens, context is 512")
        self.ok("generate", "-m", self.model, "-p", "A" * 1234, "--dry-run", "--truncate", "right")
        self.fails(5, "generate", "-m", self.model, "-p", "a", "--dry-run", "--kv-cache-memory", "1000T", says="does not fit")
        self.fails(4, "generate", "-m", self.path("none"), "-p", "a", "--dry-run", says="is not a folder")
        self.ok("generate", "-m", self.model, "-p", "a", "--temp", "0", "-n", "1", env=environment(BOLIDE_DRY_RUN="1"))


if __name__ == "__main__":
    main()
