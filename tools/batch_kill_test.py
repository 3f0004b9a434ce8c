#!/usr/bin/env python3
"""Kills `bolide batch` at random moments, resumes it each time, and compares with a run that nothing disturbed.

    tools/batch_kill_test.py --bolide build/release/bin/bolide --model models-local/smollm2-135m-instruct --lines 10000

The prompts are sentences of the docstrings in Python's standard library: real text that every machine with Python has. A third are
conversations, every tenth line has a seed of its own. Both greedily and drawn with a seed; the outputs must be equal byte for byte but for
"created", the time a record was made. Exit code 1 when they are not."""
import argparse
import ast
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time


def docstring_sentences():
    """Sentences of 20 to 300 characters, each once, in the order of the files' names."""
    folder = sysconfig.get_paths()["stdlib"]
    seen = {}
    for root, folders, files in os.walk(folder):
        folders.sort()
        folders[:] = [f for f in folders if f not in ("site-packages", "dist-packages", "__pycache__")]
        for name in sorted(files):
            if not name.endswith(".py"):
                continue
            try:
                with open(os.path.join(root, name), encoding="utf-8") as file:
                    tree = ast.parse(file.read())
            except (SyntaxError, UnicodeDecodeError, ValueError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                    for sentence in re.split(r"(?<=[.!?])\s+|\n\s*\n", ast.get_docstring(node) or ""):
                        text = " ".join(sentence.split())
                        if 20 <= len(text) <= 300:
                            seen[text] = None
    return list(seen)


def requests(count):
    sentences = docstring_sentences()
    if len(sentences) < count:
        sys.exit(f"this Python's library has {len(sentences)} sentences only: use --lines {len(sentences)}")
    random.Random(1).shuffle(sentences)
    lines = []
    for i, text in enumerate(sentences[:count]):
        line = {"messages": [{"role": "user", "content": text}]} if i % 3 == 2 else {"prompt": text}
        if i % 10 == 7:
            line["seed"] = i
        lines.append(line)
    return lines


def masked(path):
    with open(path, "rb") as file:
        return re.sub(rb'"created": ?[0-9]+', b'"created":0', file.read())


def records(path):
    if not os.path.exists(path):
        return 0
    with open(path, "rb") as file:
        return file.read().count(b"\n")


class Runs:
    def __init__(self, options, folder):
        self.options = options
        self.input = os.path.join(folder, "in.jsonl")
        self.folder = folder
        with open(self.input, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in requests(options.lines))

    def start(self, output, flags):
        command = [self.options.bolide, "batch", "-m", self.options.model, "-i", self.input, "-o", output, "-n", str(self.options.max_tokens),
                   "--max-num-seqs", str(self.options.max_num_seqs), "--device", self.options.device, "--no-progress", *flags]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def finish(self, output, flags):
        process = self.start(output, flags)
        error = process.communicate()[1]
        if process.returncode != 0:
            sys.exit(f"exit code {process.returncode}: {error}")
        return error.strip().splitlines()[-1]

    def interrupted(self, output, flags, rng):
        """Kills at ascending random numbers of finished lines, each time some milliseconds later. Returns the lines found after each."""
        done = []
        for target in sorted(rng.sample(range(self.options.lines), self.options.kills)):
            process = self.start(output, [*flags, "--resume"])
            while process.poll() is None and records(output) < target:
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
            error = process.communicate()[1]
            if process.returncode not in (0, -signal.SIGKILL):
                sys.exit(f"exit code {process.returncode}: {error}")
            done.append(records(output))
        print(f"  killed {self.options.kills} times, after {done} lines; {self.finish(output, [*flags, '--resume'])}")

    def compare(self, name, flags, rng):
        whole, pieces = (os.path.join(self.folder, f"{name}-{part}.jsonl") for part in ("whole", "pieces"))
        print(f"{name}: {self.finish(whole, flags)}", flush=True)
        self.interrupted(pieces, flags, rng)
        equal = masked(whole) == masked(pieces) and records(whole) == self.options.lines
        print(f"  {records(pieces)} records, {os.path.getsize(pieces):,} bytes: {'equal' if equal else 'DIFFERENT, see ' + self.folder}", flush=True)
        return equal


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bolide", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--lines", type=int, default=10000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--max-tokens", type=int, default=4)
    parser.add_argument("--max-num-seqs", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="bolide-kills-")
    runs, rng = Runs(options, folder), random.Random(options.seed)
    results = [runs.compare("greedy", ["--temperature", "0", "--seed", "3"], rng),
               runs.compare("drawn", ["--temperature", "0.9", "--top-p", "0.95", "--seed", "3"], rng)]
    if all(results):
        shutil.rmtree(folder)
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
