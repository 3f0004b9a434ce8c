#!/usr/bin/env python3
"""Makes tiny random checkpoints with reference results for the tests, and reference results for existing checkpoints.

    python3 tools/make_reference.py make --out DIR [--only NAME ...] [--seed 1]
    python3 tools/make_reference.py recompute CHECKPOINT --out DIR     # keeps the checkpoint, makes reference.json anew
    python3 tools/make_reference.py pack FOLDER --out FILE.tar.xz      # the same bytes for the same files

Needs torch, transformers >= 5, safetensors, numpy (and tokenizers for the checkpoint that has text). The arithmetic is float32 over the
weights as stored, on the CPU, one full forward pass per token, without a KV cache: nothing is shared with what it checks.

reference.json:
    prompt_ids       the prompt
    prompt_logprobs  [i] = log p(prompt_ids[i + 1] | ids up to i)
    greedy           steps of {id, logprob, margin, top5}; margin is the gap between the best two log-probabilities
    trace            the residual stream at the last prompt position, first 4 values: after the embedding, then after the attention and
                     after the MLP of each layer (2 L + 1 entries), so that a divergence can be placed
"""

import argparse
import io
import json
import lzma
import pathlib
import shutil
import sys
import tarfile

import numpy as np

PROMPT_TOKENS = 37
GREEDY_STEPS = 48
TRACE_VALUES = 4

# A few kB of plain text that the byte-level BPE of the checkpoint with text is trained on.
CORPUS = [
    "The quick brown fox jumps over the lazy dog while the small boat drifts along the coast.",
    "A model reads the words it has been given and then it writes the words that follow.",
    "In the morning the streets are quiet, and the light on the water is the colour of the sky.",
    "Numbers such as 1, 12, 123 and 2048 are split into digits; so are dates like 2024-05-17.",
    "Die Straße ist lang und der Weg zurück ist kürzer, als man glaubt. Élan, naïve, façade.",
]


def common(**overrides):
    values = dict(vocab_size=256, hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
                  num_key_value_heads=2, max_position_embeddings=512, rms_norm_eps=1e-6, bos_token_id=None, eos_token_id=None,
                  pad_token_id=None, tie_word_embeddings=False)
    values.update(overrides)
    return values


def rope(theta, **scaling):
    return {"rope_theta": theta, "rope_type": "default", **scaling}


# name: (configuration class, its arguments, stored dtype, largest shard)
CHECKPOINTS = {
    "tiny-qwen2-bf16": (
        "Qwen2Config",
        common(num_attention_heads=6, intermediate_size=80, vocab_size=320, tie_word_embeddings=True, rope_parameters=rope(1e6)),
        "bfloat16", None),
    "tiny-gemma-bf16": (
        "GemmaConfig",
        common(hidden_size=64, intermediate_size=144, num_hidden_layers=2, num_key_value_heads=1, head_dim=24, tie_word_embeddings=True,
               hidden_act="gelu_pytorch_tanh", rope_parameters=rope(1e4)),
        "bfloat16", None),
    "tiny-mistral-window-f16": (
        "MistralConfig",
        common(hidden_size=60, intermediate_size=64, num_attention_heads=5, num_key_value_heads=1, head_dim=24, num_hidden_layers=2,
               sliding_window=16, rms_norm_eps=1e-5, rope_parameters=rope(1e4)),
        "float16", None),
    "tiny-llama3-rope-bf16": (
        "LlamaConfig",
        common(head_dim=32, num_attention_heads=3, num_key_value_heads=1, num_hidden_layers=2, rms_norm_eps=1e-5,
               rope_parameters={"rope_theta": 5e5, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                "original_max_position_embeddings": 32}),
        "bfloat16", None),
    # Odd sizes throughout, biases everywhere, linear scaling, float32 in several files.
    "tiny-llama-bias-f32-shards": (
        "LlamaConfig",
        common(vocab_size=257, hidden_size=45, intermediate_size=67, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
               head_dim=14, attention_bias=True, mlp_bias=True, rms_norm_eps=1e-5,
               rope_parameters={"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0}),
        "float32", "60KB"),
    # With a tokenizer whose vocabulary is smaller than the embedding matrix, and an end-of-sequence token.
    "tiny-qwen3-text-bf16": (
        "Qwen3Config",
        common(vocab_size=384, head_dim=16, num_hidden_layers=2, tie_word_embeddings=True, rope_parameters=rope(1e6)),
        "bfloat16", None),
}


def random_weights(model, rng, norm_offset):
    """Weights that keep activations of order one and next-token distributions neither flat nor one-hot."""
    import torch
    hidden = model.config.hidden_size
    # With a tied head the token's own embedding would win every time, were the layers not to drown it (Gemma scales it up, too).
    residual_gain = 1.5 if not model.config.tie_word_embeddings else 5.0 if norm_offset == 0.0 else 16.0
    for name, parameter in sorted(model.named_parameters()):
        shape = tuple(parameter.shape)
        if name.endswith("bias"):
            values = 0.2 * rng.standard_normal(shape)
        elif len(shape) == 1:
            values = rng.uniform(0.5, 1.5, shape) - norm_offset
        elif "embed_tokens" in name:
            values = rng.standard_normal(shape) * (3.0 / np.sqrt(hidden))
        else:
            residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            gain = 3.0 if "lm_head" in name else residual_gain if residual else 1.5
            values = rng.standard_normal(shape) * (gain / np.sqrt(shape[1]))
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(values.astype(np.float32)))


def write_tokenizer(folder):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=360, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<|im_end|>", "tokenizer_class": "PreTrainedTokenizerFast"}) + "\n")
    (folder / "generation_config.json").write_text(json.dumps(
        {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "eos_token_id": [0]}) + "\n")


def make(name, out, seed):
    import torch
    import transformers
    config_class, values, dtype, shard = CHECKPOINTS[name]
    config = getattr(transformers, config_class)(**values)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    rng = np.random.Generator(np.random.PCG64([seed, sum(name.encode())]))
    random_weights(model, rng, 1.0 if config_class == "GemmaConfig" else 0.0)
    folder = out / name
    if folder.exists():
        shutil.rmtree(folder)
    model.to(getattr(torch, dtype)).save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    if "text" in name:
        write_tokenizer(folder)
    prompt = [int(i) for i in rng.integers(0, values["vocab_size"], PROMPT_TOKENS)]
    write_reference(folder, folder, prompt)


def trace_hooks(model, stages):
    """Collects the residual stream's last position after the embedding and after each half of each layer."""
    handles = []
    keep = lambda x: stages.append([float(v) for v in x[0, -1, :TRACE_VALUES]])
    layers = model.model.layers
    first = lambda args, kwargs: args[0] if args else kwargs["hidden_states"]
    handles.append(layers[0].register_forward_pre_hook(lambda _, args, kwargs: keep(first(args, kwargs)), with_kwargs=True))
    for layer in layers:
        handles.append(layer.post_attention_layernorm.register_forward_pre_hook(
            lambda _, args, kwargs: keep(first(args, kwargs)), with_kwargs=True))
        handles.append(layer.register_forward_hook(lambda _, __, output: keep(output[0] if isinstance(output, tuple) else output)))
    return handles


def write_reference(checkpoint, folder, prompt):
    import torch
    import transformers
    torch.set_num_threads(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager").eval()
    stages = []
    handles = trace_hooks(model, stages)

    def logprobs(ids):
        with torch.no_grad():
            return torch.log_softmax(model(torch.tensor([ids]), use_cache=False).logits[0].double(), dim=-1)

    rows = logprobs(prompt)
    for handle in handles:
        handle.remove()
    result = {"prompt_ids": prompt, "prompt_logprobs": [float(rows[i, prompt[i + 1]]) for i in range(len(prompt) - 1)],
              "greedy": [], "trace": stages}
    ids = list(prompt)
    for _ in range(GREEDY_STEPS):
        last = rows[-1]
        order = torch.argsort(-last, stable=True)[:5].tolist()
        top = [[i, float(last[i])] for i in order]
        result["greedy"].append({"id": order[0], "logprob": top[0][1], "margin": top[0][1] - top[1][1], "top5": top})
        ids.append(order[0])
        rows = logprobs(ids)
    (folder / "reference.json").write_text(json.dumps(result) + "\n")
    margins = [step["margin"] for step in result["greedy"]]
    print(f"{folder.name}: prompt {len(prompt)}, greedy {len(margins)} ({len(set(ids[len(prompt):]))} different ids), smallest margin "
          f"{min(margins):.4f}, mean top log-probability {np.mean([s['logprob'] for s in result['greedy']]):.2f}")


def recompute(checkpoint, out):
    previous = json.loads((checkpoint / "reference.json").read_text())
    folder = out / checkpoint.name
    folder.mkdir(parents=True, exist_ok=True)
    for file in checkpoint.iterdir():
        if file.name != "reference.json":
            shutil.copyfile(file, folder / file.name)
    write_reference(checkpoint, folder, previous["prompt_ids"])
    now = json.loads((folder / "reference.json").read_text())
    error = max(abs(a - b) for a, b in zip(previous["prompt_logprobs"], now["prompt_logprobs"]))
    print(f"  largest change of a prompt log-probability: {error:.2e}")


def pack(folder, out):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for file in sorted(folder.iterdir()):
            info = tarfile.TarInfo(f"{folder.name}/{file.name}")
            info.size = file.stat().st_size
            info.mode = 0o644
            with file.open("rb") as data:
                archive.addfile(info, data)
    # Contexts that know even from odd bytes suit 16-bit weights.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 3, "lp": 1, "pb": 1}]
    out.write_bytes(lzma.compress(buffer.getvalue(), filters=filters))
    print(f"{out}: {out.stat().st_size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("make", help="make the tiny checkpoints")
    command.add_argument("--out", type=pathlib.Path, required=True)
    command.add_argument("--only", nargs="+", choices=sorted(CHECKPOINTS), metavar="NAME", help=", ".join(sorted(CHECKPOINTS)))
    command.add_argument("--seed", type=int, default=1)
    command = commands.add_parser("recompute", help="reference results for an existing checkpoint")
    command.add_argument("checkpoint", type=pathlib.Path)
    command.add_argument("--out", type=pathlib.Path, required=True)
    command = commands.add_parser("pack", help="pack a checkpoint folder")
    command.add_argument("folder", type=pathlib.Path)
    command.add_argument("--out", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    if arguments.command == "make":
        for name in arguments.only or sorted(CHECKPOINTS):
            make(name, arguments.out, arguments.seed)
    elif arguments.command == "recompute":
        recompute(arguments.checkpoint, arguments.out)
    else:
        pack(arguments.folder, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
