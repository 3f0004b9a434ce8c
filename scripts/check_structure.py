#!/usr/bin/env python3
"""Checks that the source tree keeps its structure.

    check_structure.py [ROOT]

Ranks    An include goes to a room of a lower rank or stays in its own room (the table below; ARCHITECTURE.md explains it). Rooms of
         one rank, such as the CPU and the CUDA backend, never see each other.
Switch   Only src/exec asks at compile time whether the CUDA backend exists.
Lengths  A source file has at most 500 lines; generated tables are listed below.
Ops      Every fused operation has one name in four places: its argument struct in src/backend/ops.h, src/cpu/<op>.cpp,
         tests/ops/test_<op>.cpp and, once the folder holds any operation, cuda/<op>.cu.
Paths    No file names a place of one machine: home folders, the author's checkout.

Prints one line per problem and exits with 1 if there is any, otherwise prints a summary and exits with 0.
"""
import os
import re
import subprocess
import sys
from pathlib import Path

RANKS = {
    "src/core": 0,
    "src/io": 1, "src/text": 1, "src/quant": 1, "src/kv": 1,
    "src/model": 2, "src/backend": 2,
    "models": 3, "src/cpu": 3, "cuda": 3,
    "src/exec": 4,
    "src/engine": 5,
    "tests": 7, "src/cli": 6, "tools": 6,
}
# What an include begins with, as the compiler's search paths (the root and src/) find it.
INCLUDE_PREFIXES = {room.removeprefix("src/"): room for room in RANKS}

SOURCE_SUFFIXES = {".h", ".cpp", ".cu", ".cuh", ".in"}
COUNTED_SUFFIXES = SOURCE_SUFFIXES | {".py", ".sh", ".cmake"}
MAX_LINES = 500
GENERATED_TABLES: set[str] = set()  # paths from the root, each with the script that makes it in the file's first lines

OPS_HEADER = "src/backend/ops.h"
SKIPPED_FOLDERS = {".git", ".venv", ".fuzz", "models-local", "__pycache__"}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*(?:include|define[ \t]+HWY_TARGET_INCLUDE)[ \t]+"([^"]+)"', re.MULTILINE)
CUDA_SWITCH = re.compile(r"^[ \t]*#[ \t]*(?:if|ifdef|ifndef|elif)\b.*\bBOLIDE_HAS_CUDA\b", re.MULTILINE)
OP_STRUCT = re.compile(r"^struct (\w+)Args\b", re.MULTILINE)
# A path that begins with one machine's folder: preceded by nothing that would make it part of a longer path or a URL.
PRIVATE_PATH = re.compile(r"(?<![\w./$}-])/(?:home|root|Users|work)/[\w.]+")


def list_files(root):
    """Paths from the root of all files that belong to the project: git's view where there is one, otherwise a walk."""
    git = subprocess.run(["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                         capture_output=True, check=False)
    top = subprocess.run(["git", "-C", str(root), "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=False)
    if git.returncode == 0 and top.returncode == 0 and Path(top.stdout.strip()) == root:
        names = [os.fsdecode(name) for name in git.stdout.split(b"\0") if name]
        return sorted({name for name in names if (root / name).is_file()})
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS and not name.startswith("build")]
        found += [Path(folder, name).relative_to(root).as_posix() for name in names]
    return sorted(found)


def room_of(path):
    """The room a file lies in, or None for folders without code of the program."""
    parts = path.split("/")
    for depth in (2, 1):
        room = "/".join(parts[:depth])
        if room in RANKS and len(parts) > depth:
            return room
    return None


def room_of_include(include):
    return INCLUDE_PREFIXES.get(include.split("/")[0]) if "/" in include else None


def check_includes(path, text):
    room = room_of(path)
    if room is None:
        return [f"{path}: this folder is no room of the program; add it to the table in scripts/check_structure.py"]
    problems = []
    for match in INCLUDE.finditer(text):
        include = match[1]
        line = text.count("\n", 0, match.start(1)) + 1
        if ".." in include.split("/"):
            problems.append(f'{path}:{line}: include "{include}" leaves the folder by ".."; write it from the source root')
            continue
        target = room_of_include(include)
        if target is None or target == room or RANKS[target] < RANKS[room]:
            continue
        relation = "the same rank" if RANKS[target] == RANKS[room] else f"rank {RANKS[target]}"
        problems.append(f'{path}:{line}: {room} (rank {RANKS[room]}) includes "{include}" of {target} ({relation}); '
                        "includes go to a lower rank")
    if room.startswith(("src/", "models")) and room != "src/exec" and CUDA_SWITCH.search(text):
        problems.append(f"{path}: asks for BOLIDE_HAS_CUDA; only src/exec may")
    return problems


def snake_case(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def check_ops(root, files):
    """The four places of every operation. Nothing to check in a tree without the backend interface."""
    header = root / OPS_HEADER
    if OPS_HEADER not in files:
        return [f"{OPS_HEADER} is missing: it declares the fused operations"]
    text = header.read_text(encoding="utf-8", errors="replace")
    ops = [snake_case(name) for name in OP_STRUCT.findall(text)]
    if not ops:
        return [f"{OPS_HEADER}: no struct named <Op>Args"]
    listed = re.search(r"using Op = std::variant<([^>]*)>", text)
    in_variant = {snake_case(name.strip().removesuffix("Args")) for name in listed[1].split(",")} if listed else set()
    present = set(files)
    with_cuda = any(f"cuda/{op}.cu" in present for op in ops)
    problems = []
    for op in ops:
        if op not in in_variant:
            problems.append(f"{OPS_HEADER}: operation {op} is not in the variant Op")
        places = [f"src/cpu/{op}.cpp", f"tests/ops/test_{op}.cpp"] + ([f"cuda/{op}.cu"] if with_cuda else [])
        problems += [f"{place} is missing: operation {op} of {OPS_HEADER} needs it" for place in places if place not in present]
    return problems


def check_tree(root):
    """All problems of the tree, one line each, and the number of files looked at."""
    files = list_files(root)
    problems = []
    for path in files:
        suffix = Path(path).suffix
        data = (root / path).read_bytes()
        if b"\0" in data[:8192]:
            continue  # packed test data
        text = data.decode("utf-8", errors="replace")
        if suffix in SOURCE_SUFFIXES and not path.startswith("scripts/"):
            problems += check_includes(path, text)
        if suffix in COUNTED_SUFFIXES and path not in GENERATED_TABLES:
            lines = len(text.splitlines())
            if lines > MAX_LINES:
                problems.append(f"{path}: {lines} lines, at most {MAX_LINES} are allowed; split it by purpose")
        for match in PRIVATE_PATH.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            problems.append(f"{path}:{line}: names a place of one machine, {match[0]}")
    return problems + check_ops(root, files), len(files)


def main(arguments):
    if len(arguments) > 1:
        print(__doc__, file=sys.stderr)
        return 2
    root = Path(arguments[0] if arguments else Path(__file__).parent.parent).resolve()
    if not root.is_dir():
        print(f"error: {root} is no folder", file=sys.stderr)
        return 2
    problems, count = check_tree(root)
    for problem in problems:
        print(problem)
    print(f"structure: {count} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
