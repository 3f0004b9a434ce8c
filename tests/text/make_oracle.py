#!/usr/bin/env python3
"""Makes the tokenizer test data: small tokenizers of every supported kind, and what their original libraries say about random text.

Needs the Python packages `tokenizers` and `sentencepiece`, and the folders of the two published tokenizers. The tests themselves need
neither: they read what this script has written.

    make_oracle.py OUT PUBLISHED/qwen3 PUBLISHED/llama2

writes OUT/tokenizers/synthetic.tar.xz and OUT/tokenizer-cases/oracle.tar.xz.
"""
import argparse
import io
import json
import pathlib
import random
import sys
import tarfile
import tempfile
import textwrap
import unicodedata

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|"
         r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
WORDS = """the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you were all
her she there would their we him been has when who will more no if out so said what up its about into than them can only other new some
could time these two may then do first any my now such like our over man me even most made after also did many before must through back
years where much your way well down should because each just those people how too little state good very make world still own see men
return def class import function while print value string number index list None True False self args kwargs""".split()
SENTENCES = ["naïve café résumé über straße Ångström", "日本語のテキストです。中文分词测试", "한국어 문장입니다 안녕하세요", "Привет, мир! как дела",
             "مرحبا بالعالم", "שלום עולם", "हिन्दी में पाठ नमस्ते", "ภาษาไทยไม่มีช่องว่าง", "Γειά σου Κόσμε", "👍🏽 👩‍👩‍👧‍👦 🇺🇸 🎉"]
RANGES = [(0x20, 0x7E)] * 4 + [
    (0xA0, 0x17F), (0x180, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x530, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F),
    (0xB80, 0xBFF), (0xE00, 0xE7F), (0xF00, 0xFFF), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F), (0x1780, 0x17FF),
    (0x180B, 0x180F), (0x1AB0, 0x1AFF), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x209F), (0x20A0, 0x20CF), (0x2100, 0x218F),
    (0x2190, 0x23FF), (0x2460, 0x24FF), (0x2500, 0x27BF), (0x2C00, 0x2DFF), (0x3000, 0x30FF), (0x3130, 0x33FF), (0x4E00, 0x9FFF), (0xA000, 0xA4CF),
    (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0xFB00, 0xFB4F), (0xFE00, 0xFE4F), (0xFF00, 0xFFEF), (0x10000, 0x100FF), (0x1D400, 0x1D7FF),
    (0x1F100, 0x1F1FF), (0x1F300, 0x1F6FF), (0x1F900, 0x1F9FF), (0x20000, 0x20100), (0xE0100, 0xE01EF)]
BLANKS = [" ", "  ", "\n", "\r\n", "\t", "\n\n", " \n ", "\u00a0", "\u3000", "\u2028", "\u0085", "\u200b", "\u180e", "\x0b", "\x1c", " " * 17, "\n" * 5]


def characters(rng, n):
    low, high = rng.choice(RANGES)
    out = []
    while len(out) < n:
        c = chr(rng.randint(low, high))
        if unicodedata.category(c) != "Cn":  # known to Unicode 14, as to the oldest library that bolide builds with
            out.append(c)
        elif rng.random() < 0.05:
            break
    return "".join(out)


def random_text(rng, specials):
    parts = []
    for _ in range(rng.randint(1, 12)):
        kind = rng.randrange(15)
        if kind <= 3:
            parts.append(" ".join(rng.choices(WORDS, k=rng.randint(1, 5))))
        elif kind <= 6:
            parts.append(characters(rng, rng.randint(1, 8)))
        elif kind <= 8:
            parts.append(rng.choice(BLANKS) * rng.randint(1, 3))
        elif kind == 9:
            parts.append(str(rng.randint(0, 10 ** rng.randint(1, 15))))
        elif kind == 10 and specials:
            parts.append(rng.choice(["", " ", "x"]) + rng.choice(specials) + rng.choice(["", " ", "  ", "\n"]))
        elif kind == 11:
            parts.append(rng.choice(["'s", "'S", "'ll", "'LL", "'\u017f", "'t", "I'm", "we'VE", "\u2019s", "'re-", "K\u212a"]))
        elif kind == 12:
            parts.append(rng.choice(["def f(x):\n    return x ** 2\n", "if (a != b) { c[0]++; }", "http://a.b/c?d=%20", "a_b-c.d", "<tag attr='1'/>"]))
        elif kind == 13:
            parts.append(rng.choice(SENTENCES))
        else:
            parts.append(rng.choice("ab\u0301e\u0308x\u25cc ") + characters(rng, 1) * rng.randint(1, 30))
    return "".join(parts)


def corpus():
    rng = random.Random(1)
    text = [" ".join(rng.choices(WORDS, k=12)).capitalize() + "." for _ in range(1500)]
    text += SENTENCES * 20
    text += [textwrap.dedent(f"def {a}_{b}({c}):\n    return {c} + {rng.randint(0, 999)}\n") for a, b, c in (rng.choices(WORDS, k=3) for _ in range(300))]
    return text


def bpe(size, *, normalizer=None, pre=None, decoder=None, post=None, byte_level=False, fallback=False, added=(), model=None, old_merges=False):
    """A tokenizer trained on the corpus; `model` overrides fields of the model node afterwards, `added` are added tokens."""
    t = Tokenizer(models.BPE(unk_token="<unk>" if fallback else None))
    if normalizer:
        t.normalizer = normalizer
    if pre:
        t.pre_tokenizer = pre
    specials = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] if fallback else []
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else []
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, limit_alphabet=256 if byte_level else 120,
                                  max_token_length=16, show_progress=False)
    t.train_from_iterator(corpus(), trainer)
    tree = json.loads(t.to_str())
    tree["added_tokens"] = [a for a in tree["added_tokens"] if not a["content"].startswith("<0x")]
    tree["model"].update(model or {})
    if old_merges:
        tree["model"]["merges"] = [" ".join(m) for m in tree["model"]["merges"]]
    t = Tokenizer.from_str(json.dumps(tree))
    t.add_tokens([a for a in added if not a.special])
    t.add_special_tokens([a for a in added if a.special])
    if decoder:
        t.decoder = decoder
    if post:
        t.post_processor = post(t)
    return json.loads(t.to_str())


def with_bos(bos, eos=None):
    def make(t):
        tokens = [(x, t.token_to_id(x)) for x in (bos, eos) if x]
        return processors.TemplateProcessing(single=f"{bos} $A" + (f" {eos}" if eos else ""), pair=f"{bos} $A $B:1", special_tokens=tokens)
    return make


def special(*names):
    return [AddedToken(n, special=True, normalized=False) for n in names]


def synthetic():
    """name -> tokenizer.json as a tree."""
    byte_level = lambda **k: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False, **k)
    split = lambda p: pre_tokenizers.Split(Regex(p), "isolated")
    sentencepiece_decoder = lambda *more: decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), *more])
    out = {}
    out["llama3"] = bpe(700, pre=pre_tokenizers.Sequence([split(LLAMA3), byte_level()]), decoder=decoders.ByteLevel(), byte_level=True,
                        added=special("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"), model={"ignore_merges": True},
                        post=lambda t: processors.Sequence([processors.ByteLevel(trim_offsets=False), with_bos("<|begin_of_text|>")(t)]))
    out["o200k"] = bpe(600, pre=pre_tokenizers.Sequence([split(O200K), byte_level()]), decoder=decoders.ByteLevel(), byte_level=True, old_merges=True,
                       normalizer=normalizers.NFKC(), added=special("<|endoftext|>"))
    out["smollm2"] = bpe(600, pre=pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                           pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]),
                         decoder=decoders.ByteLevel(), byte_level=True, old_merges=True, added=special("<|im_start|>", "<|im_end|>"))
    cjk = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
    out["deepseek"] = bpe(600, pre=pre_tokenizers.Sequence([split(r"\p{N}{1,3}"), split(cjk), split(r"[\r\n]"),
                                                            split(r"\s?[A-Za-zµÀ-ÖØ-öø-ƺ]+|\s?[\p{Han}\w]+|\s?[!-/:-~]+"), byte_level()]),
                          decoder=decoders.ByteLevel(), byte_level=True, added=special("<|bos|>", "<|eos|>"), post=with_bos("<|bos|>", "<|eos|>"))
    out["roberta"] = bpe(600, pre=pre_tokenizers.ByteLevel(add_prefix_space=True), decoder=decoders.ByteLevel(), byte_level=True,
                         normalizer=normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]),
                         added=special("<s>", "</s>"),
                         post=lambda t: processors.RobertaProcessing(("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>"))))
    out["gemma"] = bpe(900, normalizer=normalizers.Replace(" ", "\u2581"), pre=pre_tokenizers.Split(" ", "merged_with_previous"), fallback=True,
                       model={"byte_fallback": True, "fuse_unk": True}, decoder=sentencepiece_decoder(), post=with_bos("<s>"),
                       added=special("<start_of_turn>") + [AddedToken(c * n, normalized=False) for c in "\n\t\u2581" for n in (2, 3, 4)])
    prepend = lambda: normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    out["mistral-old"] = bpe(900, normalizer=prepend(), fallback=True, model={"byte_fallback": True, "fuse_unk": True}, old_merges=True,
                             decoder=sentencepiece_decoder(decoders.Strip(" ", 1, 0)), post=with_bos("<s>", "</s>"),
                             added=[AddedToken("[INST]", normalized=True), AddedToken("<pad>", special=True, normalized=True)])
    out["mistral-new"] = bpe(900, pre=pre_tokenizers.Metaspace(prepend_scheme="first", split=False), fallback=True,
                             model={"byte_fallback": True, "fuse_unk": True}, decoder=sentencepiece_decoder(decoders.Strip(" ", 1, 0)),
                             post=with_bos("<s>"), added=special("[INST]", "[/INST]"))
    out["metaspace-old"] = bpe(700, pre=pre_tokenizers.Metaspace(), fallback=True, model={"byte_fallback": False, "fuse_unk": True},
                               decoder=decoders.Metaspace(), old_merges=True, added=special("<mask>"))
    for node in ("pre_tokenizer", "decoder"):
        out["metaspace-old"][node] = {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True}
    flags = [AddedToken("<left>", lstrip=True, normalized=False), AddedToken("<right>", rstrip=True, normalized=False),
             AddedToken("<both>", lstrip=True, rstrip=True, special=True, normalized=False), AddedToken("word", single_word=True, normalized=False),
             AddedToken("ÀÉ", normalized=True), AddedToken("two words", normalized=True, lstrip=True), AddedToken("<le", normalized=False),
             AddedToken("\n\n", normalized=False, rstrip=True), AddedToken("ﬁ", normalized=True, single_word=True)]
    out["flags"] = bpe(500, normalizer=normalizers.Sequence([normalizers.Strip(), normalizers.NFKC(), normalizers.Lowercase(),
                                                             normalizers.Replace(Regex(r"\s+"), " ")]),
                       pre=pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("merged_with_previous"),
                                                    pre_tokenizers.Digits(individual_digits=False)]),
                       fallback=True, model={"byte_fallback": False, "fuse_unk": False}, added=flags)
    out["splits"] = bpe(500, normalizer=normalizers.NFKD(), fallback=True, model={"byte_fallback": True, "fuse_unk": False},
                        pre=pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"[\n\t]+"), "removed"), pre_tokenizers.Split("-", "merged_with_next"),
                                                     pre_tokenizers.Split(Regex(r"\w+"), "contiguous"),
                                                     pre_tokenizers.Split(Regex(r"(?i:the|ST)\b"), "isolated", invert=True),
                                                     pre_tokenizers.Split(Regex(r"(?<=\p{Lu})\p{Ll}{,2}|[^\S\n]"), "merged_with_previous")]),
                        decoder=decoders.Sequence([decoders.Strip("e", 2, 0), decoders.Replace(Regex("[ao]+"), "(vowels)"), decoders.ByteFallback()]))
    return out


def mixes_bytes(tokens):
    """True where a run of byte tokens holds both valid characters and invalid bytes: there bolide keeps the characters on purpose."""
    run = b""
    for token in tokens + [""]:
        if len(token or "") == 6 and token.startswith("<0x"):
            run += bytes([int(token[3:5], 16)])
            continue
        try:
            run.decode()
        except UnicodeDecodeError:
            if run.decode(errors="ignore"):
                return True
        run = b""
    return False


def comparable(t, renamed, ids):
    """Whether bolide means to decode these ids as the library does, with and without special tokens."""
    tokens = [t.id_to_token(i) for i in ids]
    special = {a.content for a in t.get_added_tokens_decoder().values() if a.special}
    return not (None in tokens or renamed & set(ids) or mixes_bytes(tokens) or mixes_bytes([x for x in tokens if x not in special]))


def rows(name, t, count, seed):
    rng = random.Random(name + seed)
    added = t.get_added_tokens_decoder()
    specials = [a.content for a in added.values()]
    # Since 0.23 the library decodes tokens with "normalized" to their normalised content, and then does not know them as special any more.
    # bolide decodes them as they are written, as earlier releases did.
    renamed = {i for i, a in added.items() if t.id_to_token(i) != a.content}
    size = t.get_vocab_size(with_added_tokens=True)
    for _ in range(count):
        text = random_text(rng, specials)
        ids = t.encode(text, add_special_tokens=False).ids
        row = {"text": text, "ids": ids}
        with_special = t.encode(text).ids
        if with_special != ids:
            row["ids_with_special"] = with_special
        t.encode_special_tokens = True
        plain = t.encode(text, add_special_tokens=False).ids
        t.encode_special_tokens = False
        if plain != ids:
            row["ids_plain"] = plain
        if comparable(t, renamed, ids):
            row["decoded"] = t.decode(ids, skip_special_tokens=False)
            row["decoded_skip"] = t.decode(ids, skip_special_tokens=True)
        yield row
    for _ in range(count // 4):
        ids = [rng.randrange(size) for _ in range(rng.randint(1, 12))]
        if comparable(t, renamed, ids):
            yield {"ids": ids, "decode_only": True, "decoded": t.decode(ids, skip_special_tokens=False),
                   "decoded_skip": t.decode(ids, skip_special_tokens=True)}


def sentencepiece_model(options):
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "corpus.txt")
        source.write_text("\n".join(line.replace("\n", " ") for line in corpus()))
        sentencepiece.SentencePieceTrainer.train(input=str(source), model_prefix=f"{folder}/m", minloglevel=2, num_threads=1, **options)
        return pathlib.Path(folder, "m.model").read_bytes()


def sentencepiece_rows(model, count, seed):
    """Plain text only: what the library says about a stretch of text that holds no special token."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    rng = random.Random("sentencepiece" + seed)
    for _ in range(count):
        text = random_text(rng, []).replace("\x00", "")
        yield {"text": text, "ids": processor.encode(text)}


def write_tar(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:xz", preset=9) as archive:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("published", type=pathlib.Path, nargs="*")
    parser.add_argument("--rows", type=int, default=250, help="rows per synthetic tokenizer; published ones get four times as many")
    parser.add_argument("--seed", default="", help="any word: other random texts")
    args = parser.parse_args()
    files, cases = {}, {}
    jsonl = lambda r: "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in r).encode()
    for name, tree in synthetic().items():
        text = json.dumps(tree, ensure_ascii=False)
        files[f"{name}/tokenizer.json"] = text.encode()
        cases[f"{name}.jsonl"] = jsonl(rows(name, Tokenizer.from_str(text), args.rows, args.seed))
    for folder in args.published:
        cases[f"{folder.name}.jsonl"] = jsonl(rows(folder.name, Tokenizer.from_file(str(folder / "tokenizer.json")), args.rows * 4, args.seed))
    model = sentencepiece_model(dict(model_type="bpe", vocab_size=800, byte_fallback=True, character_coverage=0.995, normalization_rule_name="identity",
                                     remove_extra_whitespaces=False, split_digits=True, user_defined_symbols=["<mask>"]))
    files["sentencepiece/tokenizer.model"] = model
    cases["sentencepiece.jsonl"] = jsonl(sentencepiece_rows(model, args.rows, args.seed))
    write_tar(args.out / "tokenizers" / "synthetic.tar.xz", files)
    write_tar(args.out / "tokenizer-cases" / "oracle.tar.xz", cases)
    for path in sorted(args.out.rglob("*.tar.xz")):
        print(path, path.stat().st_size, file=sys.stderr)


if __name__ == "__main__":
    main()
