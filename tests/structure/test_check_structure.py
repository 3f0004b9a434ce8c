"""Tests of scripts/check_structure.py: a sound tree passes, and every kind of fault in a tree is found."""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import check_structure  # noqa: E402

OPS_HEADER = """
struct EmbedArgs { int hidden; };
struct NormQkvArgs { int hidden; };
using Op = std::variant<EmbedArgs, NormQkvArgs>;
"""
SOUND = {
    "src/backend/ops.h": OPS_HEADER,
    "src/core/error.h": "#include <string>\n",
    "src/cpu/embed.cpp": '#include "backend/ops.h"\n#include "core/error.h"\n#include "cpu/kernels.h"\n#include "kernels.h"\n',
    "src/cpu/norm_qkv.cpp": "",
    "src/exec/backend_choice.cpp": '#ifdef BOLIDE_HAS_CUDA\n#include "cuda/cuda_backend.h"\n#endif\n#include "cpu/cpu_backend.h"\n',
    "tests/ops/test_embed.cpp": '#include "engine/engine.h"\n',
    "tests/ops/test_norm_qkv.cpp": "",
    "README.md": "Weights lie in ~/.cache/huggingface, see https://example.org/home/page and share/home/x.\n",
}


class TreeTest(unittest.TestCase):
    def problems(self, changes=()):
        """The problems found in the sound tree after `changes`: {path: text, or None to remove the file}."""
        files = {**SOUND, **dict(changes)}
        with tempfile.TemporaryDirectory() as folder:
            for path, text in files.items():
                if text is not None:
                    file = Path(folder, path)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(text)
            return check_structure.check_tree(Path(folder).resolve())[0]

    def assert_one_problem(self, changes, *words):
        problems = self.problems(changes)
        self.assertEqual(len(problems), 1, problems)
        for word in words:
            self.assertIn(word, problems[0])

    def test_sound_tree_has_no_problems(self):
        self.assertEqual(self.problems(), [])

    def test_include_of_a_higher_rank(self):
        self.assert_one_problem({"src/core/tensor.cpp": '\n#include "io/safetensors.h"\n'}, "src/core/tensor.cpp:2", "src/io", "rank 1")

    def test_include_of_the_same_rank(self):
        self.assert_one_problem({"src/text/bpe.cpp": '#  include "kv/chunk_allocator.h"'}, "src/text/bpe.cpp:1", "src/kv", "same rank")

    def test_cpu_and_cuda_never_see_each_other(self):
        self.assert_one_problem({"cuda/device.h": '#include "cpu/kernels.h"'}, "cuda/device.h", "src/cpu")
        self.assert_one_problem({"src/cpu/kernels.h": '#include "cuda/cuda_backend.h"'}, "src/cpu/kernels.h", "cuda")

    def test_simd_re_inclusion_counts_as_an_include(self):
        self.assert_one_problem({"src/io/fast.cpp": '#define HWY_TARGET_INCLUDE "cpu/matvec.cpp"'}, "src/io/fast.cpp", "src/cpu")

    def test_include_by_parent_folder(self):
        self.assert_one_problem({"src/core/x.cpp": '#include "../exec/batch.h"'}, "src/core/x.cpp:1", "..")

    def test_unknown_folder_with_code(self):
        self.assert_one_problem({"src/misc/x.cpp": ""}, "src/misc/x.cpp", "no room")

    def test_cuda_switch_outside_exec(self):
        self.assert_one_problem({"src/cli/main.cpp": "#if defined(BOLIDE_HAS_CUDA)\n#endif\n"}, "src/cli/main.cpp", "BOLIDE_HAS_CUDA")

    def test_long_file(self):
        self.assertEqual(self.problems({"src/io/long.cpp": "\n" * 500}), [])
        self.assert_one_problem({"src/io/long.cpp": "\n" * 501}, "src/io/long.cpp", "501 lines")
        self.assert_one_problem({"tools/long.py": "\n" * 501}, "tools/long.py", "501 lines")

    def test_operation_without_implementation_or_test(self):
        self.assert_one_problem({"src/cpu/norm_qkv.cpp": None}, "src/cpu/norm_qkv.cpp is missing")
        self.assert_one_problem({"tests/ops/test_embed.cpp": None}, "tests/ops/test_embed.cpp is missing")

    def test_cuda_has_all_operations_or_none(self):
        self.assert_one_problem({"cuda/embed.cu": ""}, "cuda/norm_qkv.cu is missing")
        self.assertEqual(self.problems({"cuda/embed.cu": "", "cuda/norm_qkv.cu": ""}), [])

    def test_operation_outside_the_variant(self):
        changed = OPS_HEADER.replace("<EmbedArgs, NormQkvArgs>", "<EmbedArgs>")
        self.assert_one_problem({"src/backend/ops.h": changed}, "norm_qkv", "variant")

    def test_backend_interface_is_required(self):
        self.assert_one_problem({"src/backend/ops.h": None}, "src/backend/ops.h is missing")

    def test_private_paths(self):
        for path in ("home/someone/x", "root/x", "Users/me/x", "work/main"):
            self.assert_one_problem({"README.md": f"Look into /{path}.\n"}, "README.md:1", "/" + path[:6])

    def test_files_that_git_ignores_do_not_count(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder).resolve()
            for path, text in {**SOUND, "notes/mine.cpp": "", ".gitignore": "/notes/\n"}.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_text(text)
            subprocess.run(["git", "init", "-q", folder], check=True)
            self.assertEqual(check_structure.check_tree(root)[0], [])

    def test_exit_status(self):
        script = ROOT / "scripts" / "check_structure.py"
        with tempfile.TemporaryDirectory() as folder:
            run = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, check=False)
            self.assertEqual(run.returncode, 1, run.stdout)
            self.assertIn("1 problems", run.stdout)
            run = subprocess.run([sys.executable, script, folder + "/absent"], capture_output=True, text=True, check=False)
            self.assertEqual(run.returncode, 2)


if __name__ == "__main__":
    unittest.main()
