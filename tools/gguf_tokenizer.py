"""The tokenizer of a GGUF file as tokenizer.json and tokenizer_config.json. Byte-level BPE; Python's standard library only.

A GGUF file keeps vocabulary, merges and token types, but of the text's way to them only a name (tokenizer.ggml.pre). What stands behind
each name is taken from the tokenizer.json files that the models were published with.
"""
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # tokenizer.ggml.token_type


class ConversionError(Exception):
    """The file cannot be converted; the text says why."""


def byte_level(use_regex):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def split_and_byte_level(pattern):
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, byte_level(use_regex=False)]}


# Words, numbers in groups of `digits`, punctuation, line ends, spaces.
WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")

DIGITS_APART = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level(use_regex=True)]}

# tokenizer.ggml.pre -> pre_tokenizer, normalizer, ignore_merges, whether a BOS is added unless the file says otherwise
KINDS = {
    "gpt-2": (byte_level(use_regex=True), None, False, False),
    "smollm": (DIGITS_APART, None, False, False),
    "qwen2": (split_and_byte_level(WORDS.format(digits="")), {"type": "NFC"}, False, False),
    "llama-bpe": (split_and_byte_level(WORDS.format(digits="{1,3}")), None, True, True),
}


def vocabulary(metadata):
    """(tokens, types), both checked."""
    tokens = metadata.require("tokenizer.ggml.tokens")
    types = metadata.get("tokenizer.ggml.token_type") or [NORMAL] * len(tokens)
    if not isinstance(tokens, list) or not tokens or not all(isinstance(token, str) for token in tokens):
        raise ConversionError("tokenizer.ggml.tokens is not a list of strings")
    if len(types) != len(tokens):
        raise ConversionError(f"{len(tokens)} tokens, but {len(types)} token types")
    if BYTE in types:
        raise ConversionError("byte tokens in a byte-level vocabulary")
    return tokens, types


def token_id(metadata, role):
    """tokenizer.ggml.<role>_token_id, or None. A number outside the vocabulary means that there is no such token."""
    value = metadata.get(f"tokenizer.ggml.{role}_token_id")
    return value if isinstance(value, int) and 0 <= value < len(metadata.require("tokenizer.ggml.tokens")) else None


def special_ids(metadata):
    """bos_token_id, eos_token_id and pad_token_id as config.json and generation_config.json have them."""
    ends = []
    for role in ("eos", "eot"):  # the end of a text and the end of a turn
        end = token_id(metadata, role)
        if end is not None and end not in ends:
            ends.append(end)
    ids = {"bos_token_id": token_id(metadata, "bos"), "eos_token_id": ends[0] if len(ends) == 1 else ends or None,
           "pad_token_id": token_id(metadata, "padding")}
    return {key: value for key, value in ids.items() if value is not None}


def added_token(number, content, special):
    return {"id": number, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": special}


def bos_template(token, number):
    def sequence(name, type_id):
        return [{"SpecialToken": {"id": token, "type_id": type_id}}, {"Sequence": {"id": name, "type_id": type_id}}]
    return {"type": "TemplateProcessing", "single": sequence("A", 0), "pair": sequence("A", 0) + sequence("B", 1),
            "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}}}


def parse_merges(merges, vocab):
    """["a b", ...] as pairs. A token may not hold a plain space (byte-level text writes it otherwise), so the one space parts them."""
    pairs = []
    for merge in merges:
        parts = merge.split(" ")
        if len(parts) != 2 or not all(part in vocab for part in parts) or "".join(parts) not in vocab:
            raise ConversionError(f"merge {merge!r} is not of two tokens that make a third")
        pairs.append(parts)
    return pairs


def make_tokenizer(metadata):
    """tokenizer.json."""
    model = metadata.require("tokenizer.ggml.model")
    if model != "gpt2":
        raise ConversionError(f"tokenizer model '{model}' is not supported (gpt2, that is byte-level BPE, is)")
    pre = metadata.get("tokenizer.ggml.pre", "gpt-2")
    if pre not in KINDS:
        raise ConversionError(f"pre-tokenizer '{pre}' is not supported ({', '.join(KINDS)} are)")
    pre_tokenizer, normalizer, ignore_merges, bos_by_default = KINDS[pre]
    tokens, types = vocabulary(metadata)
    # Tokens added behind the vocabulary belong to added_tokens alone; those within it to both, as in the published files.
    last_normal = max((i for i, kind in enumerate(types) if kind == NORMAL), default=-1)
    vocab = {token: i for i, token in enumerate(tokens) if i <= last_normal and types[i] != UNUSED}
    added = [added_token(i, token, types[i] != USER_DEFINED)
             for i, token in enumerate(tokens) if types[i] in (CONTROL, USER_DEFINED, UNKNOWN)]
    post_processor = None
    if metadata.get("tokenizer.ggml.add_bos_token", bos_by_default):
        bos = token_id(metadata, "bos")
        if bos is None:
            raise ConversionError("the file asks for a BOS token and names none")
        post_processor = bos_template(tokens[bos], bos)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": ignore_merges, "vocab": vocab,
            "merges": parse_merges(metadata.require("tokenizer.ggml.merges"), vocab),
        },
    }


def make_tokenizer_config(metadata, tokenizer):
    """tokenizer_config.json, chat template included."""
    tokens = metadata.require("tokenizer.ggml.tokens")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
              "model_max_length": metadata.number("context_length")}
    for role, key in (("bos", "bos_token"), ("eos", "eos_token"), ("padding", "pad_token"), ("unknown", "unk_token")):
        number = token_id(metadata, role)
        if number is not None:
            config[key] = tokens[number]
    config["added_tokens_decoder"] = {str(token["id"]): {key: value for key, value in token.items() if key != "id"}
                                      for token in tokenizer["added_tokens"]}
    template = metadata.get("tokenizer.chat_template")
    if template is not None:
        config["chat_template"] = template
    return config

