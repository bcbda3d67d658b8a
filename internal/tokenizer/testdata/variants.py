"""Writes variants.json: the tiny tokenizer with other pre_tokenizers, added tokens and vocabularies,
and what Hugging Face's tokenizers makes of texts with each of them; and pieces.json: texts as its
pre_tokenizers cut them.

    pip install tokenizers==0.19.1
    python variants.py ../../../testdata/golden/tiny-llama/tokenizer.json 40 variants.json pieces.json
"""
import copy
import json
import random
import sys

from tokenizers import Regex, Tokenizer, pre_tokenizers

LLAMA3_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + LLAMA3_REST
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + LLAMA3_REST
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT2_NEW = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def byte_level(prefix=False, regex=True):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def split(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def sequence(*parts):
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(parts)}}


def digits(individual):
    return {"type": "Digits", "individual_digits": individual}


def added(first, *tokens):
    """[(content, flags)] as added_tokens with ids from first on."""
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return [{"id": first + i, "content": c, **{f: f in on.split() for f in flags}} for i, (c, on) in enumerate(tokens)]


STRIPS = added(2042, ("<|bos|>", "special"), ("<mask>", "lstrip special"), ("<sep>", "rstrip special"), ("<both>", "lstrip rstrip"),
               ("word", "single_word"), ("Word", "single_word normalized"), ("aa", ""), ("aab", ""), ("<|bos|>x", "normalized"),
               ("norm", "normalized special"), (" spaced out ", ""), ("｜", "special"), ("宁", "single_word lstrip")) + added(165, ("é", ""))  # é spells a byte

# name: (a JSON merge patch of the tiny tokenizer, tokens to rename; merges with them are dropped)
VARIANTS = {
    "gpt2": ({"pre_tokenizer": byte_level(), "model": {"ignore_merges": False}}, {}),
    "gpt2 as split": (sequence(split(GPT2), byte_level(regex=False)), {}),
    "gpt2 as split, newer": (sequence(split(GPT2_NEW), byte_level(regex=False)), {}),
    "qwen2": (sequence(split(QWEN2), byte_level(regex=False)), {}),
    "prefix space": ({"pre_tokenizer": byte_level(prefix=True)}, {}),
    "digits": (sequence(digits(True), byte_level()), {}),
    "digit runs, prefix space": (sequence(digits(False), byte_level(prefix=True)), {}),
    "whole text": ({"pre_tokenizer": byte_level(regex=False)}, {}),
    "no unk": ({}, {"Ā": "zero", "ä": "日本", "Ġ": "sp ace", "1": "one"}),
    "unk": ({"model": {"unk_token": "zero"}}, {"Ā": "zero", "ä": "日本", "Ġ": "space", "1": "one"}),
    "fused unk": ({"model": {"unk_token": "zero", "fuse_unk": True, "ignore_merges": False}}, {"Ā": "zero", "ä": "日本", "Ġ": "space", "1": "one"}),
    "added tokens": ({"added_tokens": STRIPS, "post_processor": None}, {}),
    "added tokens, gpt2": ({"added_tokens": STRIPS, "post_processor": None, "pre_tokenizer": byte_level(prefix=True)}, {}),
}

FRAGMENTS = (" ", "  ", "\n", "\r\n", "\t", " \n ", "\u00a0", "\u3000", "0", "12", "1234", "٣", "½", "'s", "'S", "'re", "'LL", "'t", "'D", "'d", "'m", "'vE", "'ve", "\r", "xyz", "'\u017f",
             "'", "a", "word", "Word", "the ", "hello", "é", "e\u0301", "👍🏽", "!", "...", "皇上", "宁", "。", "\x00", "\x00\x00", "\x7f", "_",
             "aa", "aab", "<mask>", "<sep>", "<both>", "<|bos|>", "<|bos|>x", "norm", " spaced out ", "｜", "<|eot_id|>", "<|", "|>", "日本",
             "𞀰", "𑽐")


PIECES = {
    "llama3": pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
    "qwen2": pre_tokenizers.Split(Regex(QWEN2), "isolated"),
    "gpt2": pre_tokenizers.Split(Regex(GPT2), "isolated"),
    "each digit": pre_tokenizers.Digits(individual_digits=True),
    "digits": pre_tokenizers.Digits(individual_digits=False),
}


def merge_patch(target, patch):
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict) and key == "model":
            target[key].update(value)
        else:
            target[key] = value


def build(base, patch, rename):
    t = copy.deepcopy(base)
    merge_patch(t, patch)
    model = t["model"]
    model["vocab"] = {rename.get(k, k): v for k, v in model["vocab"].items()}
    model["merges"] = [m for m in model["merges"] if not ({*m.split(" "), m.replace(" ", "")} & set(rename))]
    return t


def main():
    base = json.load(open(sys.argv[1]))
    random.seed(7)
    out = []
    for name, (patch, rename) in VARIANTS.items():
        t = Tokenizer.from_str(json.dumps(build(base, patch, rename)))
        texts = ["", " ", " a"] + ["".join(random.choices(FRAGMENTS, k=random.randint(1, 12))) for _ in range(int(sys.argv[2]))]
        ids = [t.encode(s, add_special_tokens=False).ids for s in texts]
        out.append({"name": name, "patch": patch, "rename": rename, "texts": texts, "ids": ids,
                    "decoded": [t.decode(i, skip_special_tokens=True) for i in ids],
                    "decoded_special": [t.decode(i, skip_special_tokens=False) for i in ids]})
    write(sys.argv[3], out)
    out = []
    for name, pre_tokenizer in PIECES.items():
        texts = ["".join(random.choices(FRAGMENTS, k=random.randint(1, 12))) for _ in range(5 * int(sys.argv[2]))]
        out.append({"name": name, "pieces": [[piece for piece, _ in pre_tokenizer.pre_tokenize_str(s)] for s in texts]})
    write(sys.argv[4], out)


def write(path, values):
    with open(path, "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(v, separators=(",", ":")) for v in values) + "\n]\n")


main()
