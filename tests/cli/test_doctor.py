"""bolide doctor: the same facts for people and for programs, without a GPU, a model or a cache."""
import json
import os
import shutil

from cli_case import BINARY, CliCase, environment, main


class Doctor(CliCase):
    def report(self, **variables):
        return json.loads(self.ok("doctor", "--output-format", "json", env=environment(**variables)).stdout)

    def test_json(self):
        report = self.report()
        self.assertEqual(set(report), {"schema_version", "version", "commit", "compiler", "build_type", "backends", "devices", "automatic_device",
                                       "nvidia_driver", "cpu", "threads", "cgroup_memory_left_bytes", "libraries", "hub_cache",
                                       "quickstart_model", "missing"})
        self.assertEqual(report["schema_version"], 1)
        cpu = report["devices"][-1]
        self.assertEqual(cpu["id"], "cpu")
        self.assertGreater(cpu["memory_total_bytes"], cpu["memory_free_bytes"] // 2)
        self.assertEqual(report["cpu"]["cpus_allowed"], len(os.sched_getaffinity(0)))
        self.assertLessEqual(1, report["threads"]["count"])
        self.assertLessEqual(report["threads"]["count"], report["cpu"]["cpus_allowed"])
        for library in ("PCRE2", "utf8proc", "Highway", "fmt", "spdlog", "nlohmann-json", "CLI11"):
            self.assertRegex(report["libraries"][library], r"^\d+\.\d+", library)
        self.assertIn(f"commit {report['commit']}", self.ok("--version").stdout.decode())

    def test_text(self):
        done = self.ok("doctor")
        text = done.stdout.decode()
        for label in ("backends", "devices", "chosen", "NVIDIA driver", "processor", "threads", "libraries", "model cache", "quickstart", "missing"):
            self.assertRegex(text, rf"(?m)^{label} +\S")
        self.assertEqual(done.stderr, b"")

    def test_affinity_decides_the_threads(self):
        one = min(os.sched_getaffinity(0))
        done = self.ok("doctor", "--output-format", "json", env=environment(OMP_NUM_THREADS=""), preexec_fn=lambda: os.sched_setaffinity(0, {one}))
        report = json.loads(done.stdout)
        self.assertEqual((report["threads"]["count"], report["cpu"]["cpus_allowed"]), (1, 1))
        self.assertEqual(report["threads"]["reason"], "1 in the affinity mask")

    def test_openmp_variable_lowers_the_threads(self):
        self.assertEqual(self.report(OMP_NUM_THREADS="1")["threads"]["count"], 1)
        free = self.report()["threads"]
        for ignored in ("100000", "0", "-3", "many", ""):
            self.assertEqual(self.report(OMP_NUM_THREADS=ignored)["threads"], free)
        if free["count"] > 1:
            self.assertEqual(self.report(OMP_NUM_THREADS="1,4")["threads"], {"count": 1, "reason": "OMP_NUM_THREADS=1"})

    def test_models(self):
        cache = self.path("hub")
        for name in ("models--Org--Name", "models--gpt2", "datasets--Org--Data"):
            os.makedirs(os.path.join(cache, name))
        report = self.report(HF_HUB_CACHE=cache)
        self.assertEqual(report["hub_cache"], {"folder": cache, "models": ["Org/Name", "gpt2"]})
        program = self.path("elsewhere", "bolide")
        os.makedirs(os.path.dirname(program))
        shutil.copy(BINARY, program)
        done = self.ok("doctor", "--output-format", "json", program=program, cwd=self.folder, env=environment(HF_HUB_CACHE=self.path("none")))
        report = json.loads(done.stdout)
        self.assertEqual((report["hub_cache"]["models"], report["quickstart_model"]), ([], None))
        self.assertIn("no model: scripts/quickstart.sh gets a small one, 'hf download Org/Name' any other", report["missing"])


if __name__ == "__main__":
    main()
