#!/usr/bin/env python3
"""Perplexity of a text by transformers, after the recipe of its documentation ("Perplexity of fixed-length models"): what
`bolide perplexity` is compared with.

    python3 tools/perplexity_reference.py CHECKPOINT TEXT --ctx-size 2048 --stride 512 [--ctx-size ... --stride ...]

Needs torch and transformers. Float32 on the CPU. Prints one JSON object: for each pair of --ctx-size and --stride
    recipe  tokens, nll, perplexity as the recipe adds up: a window's loss, a mean over what it rates, counts for its targets less one
    exact   the same with every rated token counted once
"""

import argparse
import json
import math

import torch
import transformers


def window_losses(model, ids, size, stride):
    """(targets, rated tokens, sum of their -log p) of each window."""
    reached = 0
    for begin in range(0, len(ids), stride):
        end = min(begin + size, len(ids))
        targets = end - reached
        reached = end
        window = torch.tensor([ids[begin:end]])
        labels = window.clone()
        labels[:, :-targets] = -100
        rated = min(targets, end - begin - 1)  # the first token of a window has nothing before it
        if rated > 0:
            with torch.no_grad():
                yield targets, rated, model(window, labels=labels).loss.item() * rated
        if end == len(ids):
            return


def measure(model, ids, size, stride):
    exact = [0, 0.0]
    recipe = [0, 0.0]
    for targets, rated, loss in window_losses(model, ids, size, stride):
        exact[0] += rated
        exact[1] += loss
        recipe[0] += targets - 1
        recipe[1] += loss / rated * (targets - 1)
    return {"ctx_size": size, "stride": stride, **{name: {"tokens": tokens, "nll": total / tokens, "perplexity": math.exp(total / tokens)}
                                                   for name, (tokens, total) in (("recipe", recipe), ("exact", exact))}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("text")
    parser.add_argument("--ctx-size", type=int, action="append", required=True)
    parser.add_argument("--stride", type=int, action="append", required=True)
    arguments = parser.parse_args()
    if len(arguments.ctx_size) != len(arguments.stride):
        parser.error("as many --stride as --ctx-size")
    with open(arguments.text, encoding="utf-8", newline="") as file:
        text = file.read()
    ids = transformers.AutoTokenizer.from_pretrained(arguments.checkpoint)(text)["input_ids"]
    model = transformers.AutoModelForCausalLM.from_pretrained(arguments.checkpoint, dtype=torch.float32).eval()
    results = [measure(model, ids, size, stride) for size, stride in zip(arguments.ctx_size, arguments.stride)]
    print(json.dumps({"transformers": transformers.__version__, "torch": torch.__version__, "text_tokens": len(ids), "results": results}, indent=1))


if __name__ == "__main__":
    main()
