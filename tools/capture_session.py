#!/usr/bin/env python3
"""Writes what a first session with bolide looks like, by running it on a pseudo-terminal: docs/first-session.md.

    python3 tools/capture_session.py [--bolide build/release/bin/bolide] [--model models-local/smollm2-135m-instruct] [--out docs/first-session.md]

Every line of the capture is what the program printed; nothing is edited but paths (shown as `bolide` and as the folder given), the
control sequences of line editing, and progress lines that were rewritten. The conversation also goes into README.md, between two marks.
scripts/quickstart.sh builds the program and gets the model.
"""

import argparse
import datetime
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SECONDS = 300  # that a step may take
README_BEGIN, README_END = "<!-- by tools/capture_session.py: begin -->", "<!-- by tools/capture_session.py: end -->"
PROMPT, MORE = rb">>> $", rb"\.\.\. $"
CTRL_D = "\x04"


def on_terminal(arguments, environment, typing):
    """Runs a program; types each (what must have been shown, what is typed then). Returns its exit code and all that was shown."""
    process, terminal = pty.fork()
    if process == 0:
        os.execve(arguments[0], arguments, environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    shown, seen = b"", 0
    end = time.monotonic() + SECONDS
    typing = list(typing)
    while True:
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
            sys.exit(f"error: {' '.join(arguments)} did not end within {SECONDS} s; shown: {shown!r}")
        if typing and re.search(typing[0][0], shown[seen:]):
            seen = len(shown)
            os.write(terminal, typing.pop(0)[1].encode())
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            block = os.read(terminal, 65536)
        except OSError:
            block = b""
        if not block:
            break
        shown += block
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), shown.decode()


def as_text(shown):
    """What remains on the screen, line by line."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.replace("\r\n", "\n"))
    lines = []
    for line in text.split("\n"):
        line = line.split("\r")[-1]
        while "\b" in line:
            line = re.sub(r"[^\b]\b|^\b", "", line)
        lines.append(line.replace("^D", "").rstrip())
    return "\n".join(lines).strip("\n")


class Session:
    def __init__(self, bolide, model, folder):
        self.bolide, self.model, self.folder = bolide, model, folder
        self.environment = {"PATH": os.environ.get("PATH", ""), "HOME": folder, "TERM": "xterm", "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}
        self.parts = []

    def run(self, *arguments, typing=()):
        code, shown = on_terminal([self.bolide, *arguments], self.environment, typing)
        if code != 0:
            sys.exit(f"error: bolide {' '.join(arguments)} ended with {code}: {shown}")
        quoted = (f'"{a}"' if " " in a else a for a in arguments)
        self.parts.append(f"$ bolide {' '.join(quoted)}\n{as_text(shown)}\n".replace(self.folder + "/", ""))

    def run_shell(self, command):
        done = subprocess.run(command, shell=True, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=True)
        self.parts.append(f"$ {command}\n{done.stdout}")


def record(session):
    session.run("generate", "-m", session.model, "-p", "What is a shooting star? Answer in one sentence.", "--temperature", "0")
    session.run("chat", "-m", session.model, "--temperature", "0", "--stats", "--ctx-size", "2048",
                typing=[(PROMPT, "What is the capital of France?\r"), (PROMPT, "And of Italy?\r"), (PROMPT, '"""\r'),
                        (MORE, "Which of the two\r"), (MORE, 'is further north?"""\r'), (PROMPT, f"/save {session.folder}/talk.json\r"),
                        (PROMPT, CTRL_D)])
    with open(os.path.join(session.folder, "questions.txt"), "w", encoding="utf-8") as file:
        file.write("What is the capital of Spain?\nHow many days has a week?\nWhat colour is snow?\n")
    session.run_shell("cat questions.txt")
    session.run("batch", "-m", session.model, "--chat", "-i", f"{session.folder}/questions.txt", "-o", f"{session.folder}/answers.jsonl", "-n", "40",
                "--temperature", "0", "--max-num-seqs", "4")
    session.run_shell("grep -o '\"content\":\"[^\"]*\"' answers.jsonl")


def put_into_readme(part):
    with open("README.md", encoding="utf-8") as file:
        text = file.read()
    begin, end = text.find(README_BEGIN), text.find(README_END)
    if begin < 0 or end < begin:
        sys.exit(f"error: README.md lacks the marks {README_BEGIN} and {README_END}")
    with open("README.md", "w", encoding="utf-8") as file:
        file.write(f"{text[:begin]}{README_BEGIN}\n```\n{part}```\n{text[end:]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bolide", default="build/release/bin/bolide")
    parser.add_argument("--model", default="models-local/smollm2-135m-instruct")
    parser.add_argument("--out", default="docs/first-session.md")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    if not os.access(arguments.bolide, os.X_OK) or not os.path.exists(os.path.join(arguments.model, "config.json")):
        sys.exit(f"error: {arguments.bolide} or {arguments.model} is missing. scripts/quickstart.sh makes both")
    with tempfile.TemporaryDirectory(prefix="bolide-session-") as folder:
        session = Session(os.path.abspath(arguments.bolide), arguments.model, folder)
        record(session)
    with open(arguments.out, "w", encoding="utf-8") as file:
        file.write(f"# A first session\n\nMade by `python3 tools/capture_session.py` on {datetime.date.today():%Y-%m-%d}: what was typed and what the "
                   "program printed, on a\npseudo-terminal of 120 columns. The model is SmolLM2-135M-Instruct, which "
                   "`scripts/quickstart.sh` gets.\n\n")
        for part in session.parts:
            file.write(f"```\n{part}```\n\n")
    put_into_readme(session.parts[1])


if __name__ == "__main__":
    main()
