"""Tests of scripts/install-deps.sh with stand-ins for the package tools, so that nothing is installed."""
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "install-deps.sh"
TOOLS = ("bash", "dirname", "env", "sed")


class InstallTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.bin = Path(folder.name)
        self.calls = self.bin / "calls"
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))

    def stand_in(self, name, body):
        (self.bin / name).write_text(f"#!{shutil.which('bash')}\n{body}\n")
        (self.bin / name).chmod(0o755)

    def system(self, installed, user=0, sudo=False, apt="true"):
        """A system where `installed` is a shell pattern of package names, and apt-get runs `apt` after noting its call."""
        self.stand_in("dpkg-query", f'case "${{@: -1}}" in {installed}) echo "install ok installed" ;; *) exit 1 ;; esac')
        self.stand_in("id", f"echo {user}")
        self.stand_in("apt-get", f'echo "apt-get $DEBIAN_FRONTEND $*" >>"{self.calls}"\n{apt}')
        if sudo:
            self.stand_in("sudo", f'echo sudo >>"{self.calls}"\nunset DEBIAN_FRONTEND\n"$@"')

    def install(self, *arguments):
        run = subprocess.run([self.bin / "bash", SCRIPT, *arguments], capture_output=True, text=True, check=False, timeout=60,
                             env={"PATH": str(self.bin), "HOME": os.environ.get("HOME", "/")})
        calls = self.calls.read_text().splitlines() if self.calls.exists() else []
        return run, calls

    def test_nothing_to_do_needs_no_apt_and_no_root(self):
        self.system(installed="*", user=1000)
        run, calls = self.install()
        self.assertEqual((run.returncode, calls), (0, []), run.stderr)

    def test_root_installs_what_is_missing(self):
        self.system(installed="lib*|g++|cmake|python3*|git|pkg-config|xz-utils|nlohmann*")
        run, calls = self.install()
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(len(calls), 2)
        self.assertRegex(calls[0], "^apt-get noninteractive .* update$")
        self.assertRegex(calls[1], "^apt-get noninteractive .* install --no-install-recommends ninja-build catch2$")

    def test_a_user_with_sudo(self):
        self.system(installed="[!c]*", user=1000, sudo=True)
        run, calls = self.install()
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual([call.split()[0] for call in calls], ["sudo", "apt-get", "sudo", "apt-get"])
        self.assertRegex(calls[3], "^apt-get noninteractive .* cmake catch2$")

    def test_a_user_without_sudo_is_told_the_command(self):
        self.system(installed="[!c]*", user=1000)
        run, calls = self.install()
        self.assertEqual((run.returncode, calls), (1, []))
        self.assertIn("apt-get install --no-install-recommends cmake catch2", run.stderr)

    def test_without_network_the_lists_at_hand_are_tried(self):
        self.system(installed="[!c]*", apt='[[ "${@: -1}" != update ]]')
        run, calls = self.install()
        self.assertEqual((run.returncode, len(calls)), (0, 2), run.stderr)

    def test_failure_names_the_packages(self):
        self.system(installed="[!c]*", apt="exit 100")
        run, _ = self.install()
        self.assertEqual(run.returncode, 1)
        self.assertIn("could not install: cmake catch2", run.stderr)

    def test_other_systems_are_told_the_packages(self):
        run, _ = self.install()
        self.assertEqual(run.returncode, 1)
        for package in ("libhwy-dev", "catch2", "ninja-build"):
            self.assertIn(package, run.stderr)

    def test_developers_get_more(self):
        self.system(installed="[!c]*")
        _, calls = self.install("--dev")
        self.assertTrue(calls[1].endswith(" cmake catch2 ccache clang clang-format clang-tidy"), calls)

    def test_unknown_argument(self):
        self.assertEqual(self.install("--everything")[0].returncode, 2)


if __name__ == "__main__":
    unittest.main()
