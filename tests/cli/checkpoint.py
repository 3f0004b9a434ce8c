"""Writes tiny checkpoints for the tests of the command line: config.json, safetensors, tokenizer.json, all made here from a seed.

The model is a llama whose next token is known: its layers add nothing to the residual stream (their output products are zero), every
embedding is a vector of random signs, and the head's row of token b is the embedding of the token that b follows. Greedy decoding
therefore walks a chain of tokens with a wide margin, and a high temperature makes the choice nearly uniform.
"""
import json
import os
import random
import struct

HIDDEN, MLP, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 64, 48, 2, 4, 2, 16
CONTEXT = 512
MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "w"), ("o", "r"), ("Ġw", "or"), ("l", "d"), ("Ġwor", "ld")]
BOS, EOS = "<|bos|>", "<|eos|>"
VOCAB = 256 + len(MERGES) + 2
BOS_ID, EOS_ID = VOCAB - 2, VOCAB - 1

# Greedy output after "a", byte by byte, up to the end-of-text token.
CHAIN = "bcdefghijklmnopqrstuvwxyzé0123456789"


def byte_pieces():
    """GPT-2's printable stand-in for each byte, in the order of its vocabulary; the id of a byte is its index here."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [(b, chr(b)) for b in printable] + [(b, chr(256 + i)) for i, b in enumerate(others)]


BYTE_IDS = {byte: index for index, (byte, _) in enumerate(byte_pieces())}


def ids_of(text):
    """Ids of a text byte by byte; right for texts in which no merge applies."""
    return [BYTE_IDS[b] for b in text.encode()]


def tokenizer_json(add_bos=False):
    vocab = {piece: index for index, (_, piece) in enumerate(byte_pieces())}
    for left, right in MERGES:
        vocab[left + right] = len(vocab)
    added = [
        {"id": i, "content": c, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for c, i in ((BOS, BOS_ID), (EOS, EOS_ID))
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": BOS, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {BOS: {"id": BOS, "ids": [BOS_ID], "tokens": [BOS]}},
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": template if add_bos else byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [f"{left} {right}" for left, right in MERGES],
        },
    }


def config_json(**changes):
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": MLP,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "vocab_size": VOCAB,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
    }
    config.update(changes)
    return {key: value for key, value in config.items() if value is not None}


def successors():
    """next[a] = b for every token; tokens outside the chain are followed by the one a fixed shuffle gives them."""
    chain = ids_of("a" + CHAIN) + [EOS_ID]
    follows = dict(zip(chain, chain[1:]))
    free_from = [i for i in range(VOCAB) if i not in follows]
    free_to = [i for i in range(VOCAB) if i not in follows.values()]
    random.Random(1).shuffle(free_to)
    follows.update(zip(free_from, free_to))
    return follows


def tensors(dtype="F32", seed=0):
    """{name: (dtype, shape, bytes)} of the chain model."""
    rng = random.Random(seed)

    def pack(values):
        if dtype == "F32":
            return struct.pack(f"<{len(values)}f", *values)
        if dtype == "F16":
            return struct.pack(f"<{len(values)}e", *values)
        return b"".join(struct.pack("<f", v)[2:] for v in values)  # BF16: the upper half of a float

    def matrix(rows, columns, zero=False):
        scale = 0.0 if zero else columns**-0.5
        return (dtype, [rows, columns], pack([rng.uniform(-scale, scale) for _ in range(rows * columns)]))

    signs = [[rng.choice((-1.0, 1.0)) for _ in range(HIDDEN)] for _ in range(VOCAB)]
    head = [None] * VOCAB
    for before, after in successors().items():
        head[after] = signs[before]
    ones = (dtype, [HIDDEN], pack([1.0] * HIDDEN))
    out = {
        "model.embed_tokens.weight": (dtype, [VOCAB, HIDDEN], pack(sum(signs, []))),
        "model.norm.weight": ones,
        "lm_head.weight": (dtype, [VOCAB, HIDDEN], pack(sum(head, []))),
    }
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        out[at + "input_layernorm.weight"] = out[at + "post_attention_layernorm.weight"] = ones
        out[at + "self_attn.q_proj.weight"] = matrix(HEADS * HEAD_DIM, HIDDEN)
        out[at + "self_attn.k_proj.weight"] = matrix(KV_HEADS * HEAD_DIM, HIDDEN)
        out[at + "self_attn.v_proj.weight"] = matrix(KV_HEADS * HEAD_DIM, HIDDEN)
        out[at + "self_attn.o_proj.weight"] = matrix(HIDDEN, HEADS * HEAD_DIM, zero=True)
        out[at + "mlp.gate_proj.weight"] = matrix(MLP, HIDDEN)
        out[at + "mlp.up_proj.weight"] = matrix(MLP, HIDDEN)
        out[at + "mlp.down_proj.weight"] = matrix(HIDDEN, MLP, zero=True)
    return out


def safetensors_bytes(named, edit_header=None):
    """The container; `edit_header` may damage the header's dictionary before it is written."""
    header, data = {}, b""
    for name, (dtype, shape, raw) in named.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    if edit_header:
        edit_header(header)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def write_json(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        json.dump(value, file)


def write_checkpoint(folder, *, dtype="F32", tokenizer=True, add_bos=False, generation=None, named=None, edit_header=None, chat_template=None,
                     **config):
    """A whole folder. `named` replaces the tensors; further keywords replace keys of config.json (None leaves one out)."""
    os.makedirs(folder, exist_ok=True)
    write_json(folder, "config.json", config_json(**config))
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(safetensors_bytes(named or tensors(dtype), edit_header))
    if tokenizer:
        write_json(folder, "tokenizer.json", tokenizer_json(add_bos))
        settings = {"bos_token": BOS, "eos_token": EOS}
        if chat_template is not None:
            settings["chat_template"] = chat_template
        write_json(folder, "tokenizer_config.json", settings)
    if generation is not None:
        write_json(folder, "generation_config.json", generation)
    return folder
