#!/usr/bin/env python3
"""Turns a GGUF file into a Hugging Face checkpoint folder.

    gguf_to_hf.py MODEL.gguf FOLDER

Writes config.json, model.safetensors (bf16), tokenizer.json, tokenizer_config.json and generation_config.json. Quantised weights are
widened to float32 and rounded to bf16: the folder holds what the file holds, not what it was once made from. Architectures: llama,
qwen2, qwen3; tokenizers: byte-level BPE (tools/gguf_tokenizer.py lists which).

Needs the PyPI packages numpy and gguf (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md describes the format; the package
reads and widens it). Exit status: 0 done, 1 the file cannot be converted (with the reason), 2 usage.
"""
import argparse
import json
import math
import os
import shutil
import struct
import sys
from pathlib import Path

import gguf_tokenizer
from gguf_tokenizer import ConversionError

# architecture -> (class, tensors of a layer beyond the common ones)
ARCHITECTURES = {
    "llama": ("LlamaForCausalLM", {}),
    "qwen2": ("Qwen2ForCausalLM", {"attn_q.bias": "self_attn.q_proj.bias", "attn_k.bias": "self_attn.k_proj.bias",
                                   "attn_v.bias": "self_attn.v_proj.bias"}),
    "qwen3": ("Qwen3ForCausalLM", {"attn_q_norm.weight": "self_attn.q_norm.weight", "attn_k_norm.weight": "self_attn.k_norm.weight"}),
}
LAYER_TENSORS = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}


class Metadata:
    """The key-value pairs of the file. Keys of the architecture are asked for without its prefix: number("block_count")."""

    def __init__(self, values):
        self.values = values
        self.architecture = self.require("general.architecture")

    def get(self, key, default=None):
        return self.values.get(key, default)

    def require(self, key):
        if key not in self.values:
            raise ConversionError(f"the file has no key {key}")
        return self.values[key]

    def number(self, key, default=None):
        value = self.values.get(f"{self.architecture}.{key}", default)
        if value is None:
            raise ConversionError(f"the file has no key {self.architecture}.{key}")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConversionError(f"{self.architecture}.{key} is not one number; layers of different shapes are not supported")
        return value


def float_as_written(value):
    """A float32 of the file as the shortest decimal that gives it back: 1e-05 instead of 9.999999747378752e-06."""
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        if struct.pack("<f", float(text)) == struct.pack("<f", value):
            return float(text)
    return value


def llama3_factors(head_dim, theta, scaling):
    """Frequency divisors of Llama 3's RoPE scaling, [head_dim / 2], as transformers computes them."""
    factors = []
    for i in range(0, head_dim, 2):
        wavelength = 2 * math.pi * theta ** (i / head_dim)
        low = scaling["original_max_position_embeddings"] / scaling["low_freq_factor"]
        high = scaling["original_max_position_embeddings"] / scaling["high_freq_factor"]
        if wavelength > low:
            factors.append(scaling["factor"])
        elif wavelength < high:
            factors.append(1.0)
        else:
            smooth = (scaling["original_max_position_embeddings"] / wavelength - scaling["low_freq_factor"]) / (
                scaling["high_freq_factor"] - scaling["low_freq_factor"])
            factors.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return factors


def rope_scaling(metadata, head_dim, theta, divisors):
    """config.json's rope_scaling. `divisors`: the tensor rope_freqs.weight as a list, or None."""
    kind = metadata.get(f"{metadata.architecture}.rope.scaling.type", "none")
    if divisors is not None:
        # The file keeps the divisors alone. All published Llama 3 models share the other three settings; the proof is in the numbers.
        scaling = {"rope_type": "llama3", "factor": round(max(divisors), 4), "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                   "original_max_position_embeddings": 8192}
        expected = llama3_factors(head_dim, theta, scaling)
        if len(expected) != len(divisors) or any(abs(a - b) > 1e-4 * a for a, b in zip(expected, divisors)):
            raise ConversionError("rope_freqs.weight holds divisors that are not those of Llama 3's scaling")
        return scaling
    if kind == "none":
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": float_as_written(metadata.number("rope.scaling.factor"))}
    raise ConversionError(f"RoPE scaling '{kind}' is not supported (none, linear, llama3 are)")


def make_config(metadata, vocab, tied, divisors=None):
    """config.json. `vocab`: rows of the embedding matrix; `tied`: the file has no matrix for the output."""
    name = metadata.architecture
    if name not in ARCHITECTURES:
        raise ConversionError(f"architecture '{name}' is not supported ({', '.join(ARCHITECTURES)} are)")
    if metadata.get(f"{name}.expert_count", 0):
        raise ConversionError("mixtures of experts are not supported")
    if metadata.get(f"{name}.attention.sliding_window", 0):
        raise ConversionError("sliding-window attention is not supported")
    hidden, heads = metadata.number("embedding_length"), metadata.number("attention.head_count")
    if not 0 < heads <= hidden:
        raise ConversionError(f"attention.head_count is {heads}, embedding_length {hidden}")
    head_dim = metadata.number("attention.key_length", hidden // heads)
    if metadata.number("attention.value_length", head_dim) != head_dim:
        raise ConversionError("key and value heads of different sizes are not supported")
    if metadata.number("rope.dimension_count", head_dim) != head_dim:
        raise ConversionError("RoPE over part of a head is not supported")
    theta = float_as_written(metadata.number("rope.freq_base", 10000.0))
    config = {
        "architectures": [ARCHITECTURES[name][0]],
        "model_type": name,
        "hidden_size": hidden,
        "intermediate_size": metadata.number("feed_forward_length"),
        "num_hidden_layers": metadata.number("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.number("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "vocab_size": vocab,
        "max_position_embeddings": metadata.number("context_length"),
        "rms_norm_eps": float_as_written(metadata.number("attention.layer_norm_rms_epsilon")),
        "rope_theta": theta,
        "rope_scaling": rope_scaling(metadata, head_dim, theta, divisors),
        "hidden_act": "silu",
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        "use_cache": True,
    }
    if name != "qwen2":  # whose class has its biases built in
        config["attention_bias"] = False
    if name == "llama":
        config["mlp_bias"] = False
    config.update(gguf_tokenizer.special_ids(metadata))
    return config


def tensor_plan(config, tied):
    """{name in the file: (name in the checkpoint, shape, heads whose rows are to be un-permuted or 0)}."""
    hidden, mlp, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, kv_heads, head_dim = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    rows = {"attn_q": heads * head_dim, "attn_k": kv_heads * head_dim, "attn_v": kv_heads * head_dim, "attn_output": hidden,
            "ffn_gate": mlp, "ffn_up": mlp, "ffn_down": hidden}
    columns = {"attn_output": heads * head_dim, "ffn_down": mlp}
    # The llama architecture of GGUF rotates neighbouring elements, so its q and k rows are permuted; the others rotate halves.
    permuted = {"attn_q.weight": heads, "attn_k.weight": kv_heads} if config["model_type"] == "llama" else {}
    plan = {"token_embd.weight": ("model.embed_tokens.weight", (vocab, hidden), 0),
            "output_norm.weight": ("model.norm.weight", (hidden,), 0)}
    if not tied:
        plan["output.weight"] = ("lm_head.weight", (vocab, hidden), 0)
    for layer in range(config["num_hidden_layers"]):
        for source, target in {**LAYER_TENSORS, **ARCHITECTURES[config["model_type"]][1]}.items():
            product, kind = source.split(".")
            if product in ("attn_norm", "ffn_norm"):
                shape = (hidden,)
            elif product in ("attn_q_norm", "attn_k_norm"):
                shape = (head_dim,)
            else:
                shape = (rows[product],) if kind == "bias" else (rows[product], columns.get(product, hidden))
            plan[f"blk.{layer}.{source}"] = (f"model.layers.{layer}.{target}", shape, permuted.get(source, 0))
    return plan


def check_tensors(plan, shapes):
    """`shapes`: {name: shape} of the file. Raises with every tensor that is missing, unknown or of another shape."""
    problems = [f"{name} is missing" for name in plan if name not in shapes]
    problems += [f"{name} is not known for this architecture" for name in shapes if name not in plan and name != "rope_freqs.weight"]
    problems += [f"{name} has shape {list(shapes[name])}, expected {list(plan[name][1])}"
                 for name in plan if name in shapes and tuple(shapes[name]) != plan[name][1]]
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise ConversionError("tensors do not fit the metadata: " + "; ".join(problems[:5]) + more)


def to_bf16(values, name):
    """float32 array to bf16 bits (uint16), round to nearest even."""
    import numpy
    if not numpy.isfinite(values).all():
        raise ConversionError(f"{name} holds values that are not finite")
    bits = numpy.ascontiguousarray(values, dtype=numpy.float32).view(numpy.uint32)
    return ((bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16).astype(numpy.uint16)


def unpermute(rows, heads):
    """Rows of q or k from GGUF's order within a head (0, half, 1, half + 1, ...) to halves (0, 1, ..., half, half + 1, ...)."""
    count, columns = rows.shape
    return rows.reshape(heads, count // heads // 2, 2, columns).swapaxes(1, 2).reshape(count, columns)


def write_safetensors(path, plan, read):
    """Writes all tensors of the plan as bf16, one at a time. read(name) gives a tensor of the file as float32."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for target, shape, _ in plan.values():
        size = 2 * math.prod(shape)
        header[target] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for source, (_, shape, heads) in plan.items():
            values = read(source)
            if heads:
                values = unpermute(values, heads)
            file.write(to_bf16(values.reshape(shape), source).tobytes())
        # What has just been written lies in the page cache in small pages; read from disk it comes in large ones, which decode faster.
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def open_gguf(path):
    """(Metadata, {name: reader's tensor})."""
    try:
        import gguf
    except ImportError as error:
        raise ConversionError(f"{error}; install the packages: pip install numpy gguf") from error
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
        if magic != b"GGUF":
            raise ConversionError("it does not begin with 'GGUF': not a GGUF file")
        reader = gguf.GGUFReader(path)
        return Metadata({name: field.contents() for name, field in reader.fields.items()}), {t.name: t for t in reader.tensors}
    except OSError as error:
        raise ConversionError(error.strerror or str(error)) from error
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise ConversionError(f"it is damaged or of an unknown version ({error})") from error


def convert(source, folder):
    import gguf
    metadata, tensors = open_gguf(source)

    def read(name):
        tensor = tensors[name]
        return gguf.dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1])

    shapes = {name: tuple(int(n) for n in tensor.shape[::-1]) for name, tensor in tensors.items()}
    if "token_embd.weight" not in shapes:
        raise ConversionError("token_embd.weight is missing")
    tied = "output.weight" not in shapes
    divisors = [float(x) for x in read("rope_freqs.weight").ravel()] if "rope_freqs.weight" in shapes else None
    config = make_config(metadata, shapes["token_embd.weight"][0], tied, divisors)
    plan = tensor_plan(config, tied)
    check_tensors(plan, shapes)
    tokenizer = gguf_tokenizer.make_tokenizer(metadata)
    documents = {
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": gguf_tokenizer.make_tokenizer_config(metadata, tokenizer),
        "generation_config.json": gguf_tokenizer.special_ids(metadata),
        "config.json": config,
    }

    # Under another name first, so that a folder of the final name is always complete.
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_safetensors(partial / "model.safetensors", plan, read)
    for name, document in documents.items():
        (partial / name).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.rename(folder)
    return config


def main():
    parser = argparse.ArgumentParser(description="Turns a GGUF file into a Hugging Face checkpoint folder (bf16).")
    parser.add_argument("gguf", type=Path, help="the GGUF file")
    parser.add_argument("folder", type=Path, help="the folder to make; must not exist")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    if folder.exists():
        parser.error(f"{folder} exists; remove it or name another folder")
    try:
        config = convert(arguments.gguf, folder)
    except ConversionError as error:
        print(f"error: cannot convert {arguments.gguf}: {error}", file=sys.stderr)
        return 1
    size = (folder / "model.safetensors").stat().st_size
    print(f"{folder}: {config['architectures'][0]}, {config['num_hidden_layers']} layers, {size / 1e6:.0f} MB", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
