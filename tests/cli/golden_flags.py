"""Writes golden_flags.json from the binary that the variable BOLIDE names. Spellings may be added, never taken away or changed:
it refuses to drop one."""
import json
import os
import subprocess
import sys

COMMANDS = ("generate", "chat", "batch", "perplexity", "tokenize", "detokenize", "template", "inspect", "bench", "bench throughput", "bench ops", "profile", "plan", "doctor", "completion", "version")
PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden_flags.json")


def spellings(lines):
    return {name for line in lines for name in line.split() if name.startswith("-")}


def main():
    now = {c: subprocess.run([os.environ["BOLIDE"], *c.split(), "--list-flags"], check=True, capture_output=True, text=True).stdout.splitlines()
           for c in COMMANDS}
    if os.path.exists(PATH):
        with open(PATH, encoding="utf-8") as file:
            for command, lines in json.load(file).items():
                lost = spellings(lines) - spellings(now[command])
                if lost:
                    sys.exit(f"{command} lost {' '.join(sorted(lost))}: keep the old names")
    with open(PATH, "w", encoding="utf-8") as file:
        json.dump(now, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
