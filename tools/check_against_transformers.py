#!/usr/bin/env python3
"""Compares bolide with transformers on a checkpoint folder: greedy tokens and log-probabilities.

    check_against_transformers.py MODEL_FOLDER [--bolide build/release/bin/bolide] [--prompt TEXT]... [-- more flags of bolide]

bolide continues each prompt greedily; transformers, in float32 over the stored weights, judges the prompt and the continuation in one
pass. By induction the tokens are transformers' own greedy tokens where every one is its most probable; another token passes only if
its log-probability is below the best by less than --margin, where rounding decides. Flags behind "--" go to bolide, for example
-- --device cuda --kv-cache-dtype bfloat16.

Needs the PyPI packages torch and transformers. The last line is the verdict; exit status: 0 agreement, 1 none, 2 usage or failure.
"""
import argparse
import json
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROMPTS = [
    "The three laws of thermodynamics are",
    "def fibonacci(n):\n    ",
    "Once upon a time, in 1742, there lived a miller who had nothing left but his mill.",
    "Der schnelle braune Fuchs springt über den faulen Hund. 素早い茶色の狐は",
]


@dataclass
class Worst:
    """The largest log-probability error so far and where it is."""
    error: float = 0.0
    place: str = "nowhere"

    def note(self, error, place):
        if not error <= self.error:  # a NaN counts as larger
            self.error, self.place = error, place


@dataclass
class Difference:
    place: str
    bolide: int
    transformers: int
    margin: float


def run_bolide(arguments, ids):
    command = [str(arguments.bolide), "generate", "--model", str(arguments.model), "--prompt-ids", ",".join(map(str, ids)),
               "--max-tokens", str(arguments.max_tokens), "--temperature", "0", "--ignore-eos", "--logprobs", "5", "--prompt-logprobs",
               "--output-format", "json", *arguments.flags]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise RuntimeError(f"bolide ended with {run.returncode}: {run.stderr.strip()}\ncommand: {' '.join(command)}")
    result = json.loads(run.stdout)
    lengths = {key: len(result[key]) for key in ("prompt_ids", "prompt_logprobs", "token_ids", "token_logprobs", "top_logprobs")}
    expected = (len(ids), len(ids), arguments.max_tokens, arguments.max_tokens, arguments.max_tokens)
    if tuple(lengths.values()) != expected or result["prompt_ids"] != list(ids):
        raise RuntimeError(f"bolide's answer has lists of other lengths or other prompt ids than asked for: {lengths}")
    return result


def reference_logprobs(model, ids):
    """log p(next | ids[:i + 1]) for every i: [len(ids), V] float64 log-probabilities of float32 logits."""
    import torch
    with torch.inference_mode():
        return torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), dim=-1)


def compare(arguments, model, ids, label, worst):
    """Notes errors in `worst`; returns every token that transformers would not have chosen, in order."""
    result = run_bolide(arguments, ids)
    tokens = result["token_ids"]
    logprobs = reference_logprobs(model, list(ids) + tokens)
    for i, (token, logprob) in enumerate(zip(ids, result["prompt_logprobs"])):
        if i > 0:  # the first has nothing before it
            worst.note(abs(logprob - logprobs[i - 1, token].item()), f"{label}, prompt token {i}")
    differences = []
    for step, token in enumerate(tokens):
        row = logprobs[len(ids) + step - 1]
        place = f"{label}, token {step}"
        for candidate, logprob in [(token, result["token_logprobs"][step]), *result["top_logprobs"][step]]:
            worst.note(abs(logprob - row[candidate].item()), place)
        best = int(row.argmax())
        if token != best:
            differences.append(Difference(place, token, best, (row[best] - row[token]).item()))
    return differences


def load_prompts(arguments, config):
    """[(label, ids)]"""
    if arguments.prompt_ids:
        return [(f"ids {text}", [int(number) for number in text.split(",")]) for text in arguments.prompt_ids]
    has_tokenizer = any((arguments.model / name).exists() for name in ("tokenizer.json", "tokenizer.model"))
    if not has_tokenizer:
        generator = random.Random(0)
        return [(f"random prompt {i}", [generator.randrange(config.vocab_size) for _ in range(length)])
                for i, length in enumerate((1, 7, 40))]
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    return [(f"prompt {i}", tokenizer(text)["input_ids"]) for i, text in enumerate(arguments.prompt or PROMPTS)]


def parse_arguments():
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="checkpoint folder")
    parser.add_argument("--bolide", type=Path, default=root / "build/release/bin/bolide", help="the program (default: %(default)s)")
    parser.add_argument("--prompt", action="append", help="a prompt text; several times for several prompts")
    parser.add_argument("--prompt-ids", action="append", metavar="1,2,3", help="a prompt as token ids, instead of texts")
    parser.add_argument("--max-tokens", type=int, default=64, help="tokens to continue each prompt by (default: %(default)s)")
    parser.add_argument("--tolerance", type=float, default=2e-3, help="largest log-probability error (default: %(default)s)")
    parser.add_argument("--margin", type=float, default=1e-3, help="gap below which either token is right (default: %(default)s)")
    own, flags = sys.argv[1:], []
    if "--" in own:
        own, flags = own[:own.index("--")], own[own.index("--") + 1:]
    arguments = parser.parse_args(own)
    arguments.flags = flags
    return arguments


def main():
    arguments = parse_arguments()
    try:
        import torch
        import transformers
    except ImportError as error:
        print(f"error: {error}; install the packages: pip install torch transformers", file=sys.stderr)
        return 2
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
        prompts = load_prompts(arguments, model.config)
        worst, differences = Worst(), []
        for label, ids in prompts:
            differences += compare(arguments, model, ids, label, worst)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for difference in differences:
        print(f"{difference.place}: bolide {difference.bolide}, transformers {difference.transformers}, margin {difference.margin:.2e}")
    wrong = [d for d in differences if not d.margin < arguments.margin]
    passed = not wrong and worst.error <= arguments.tolerance
    shown = (wrong or differences or [None])[0]
    tokens = "all greedy tokens equal" if shown is None else f"first differing token: {shown.place}, margin {shown.margin:.2e}"
    print(f"{'PASS' if passed else 'FAIL'} {arguments.model.name}: {len(prompts)} prompts x {arguments.max_tokens} tokens, "
          f"largest log-probability error {worst.error:.2e} ({worst.place}), {tokens}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
