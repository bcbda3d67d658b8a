"""Writes targets.json: what PEFT 0.11.1 makes of target_modules, layers_to_transform and the patterns on a small Llama.

    python targets.py > targets.json        (torch 2.8.0, transformers 4.43.2, peft 0.11.1)

Each case has the LoraConfig arguments, and either "modules", a list of [name, in, out, r, lora_alpha, scaling] in module
order together with the "target_modules" that are saved, or "error".
"regexps" has Python's re: expression, name, re.fullmatch, re.match; null where the expression is an error.
"""
import json, re, sys, warnings
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import LlamaConfig, LlamaForCausalLM

warnings.simplefilter("ignore")
SHAPE = dict(vocab_size=64, hidden_size=24, intermediate_size=40, num_hidden_layers=12, num_attention_heads=6, num_key_value_heads=2)
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = [
    dict(),
    dict(target_modules=ALL),
    dict(target_modules="all-linear"),
    dict(target_modules="ALL-Linear", r=3, lora_alpha=5, use_rslora=True),
    dict(target_modules=["q_proj", "mlp.down_proj"]),
    dict(target_modules=["proj"]),
    dict(target_modules=["layers.1.self_attn.q_proj", "model.layers.2.mlp.up_proj"]),
    dict(target_modules=["q_proj", "query_key_value"]),
    dict(target_modules=["nothing"]),
    dict(target_modules=["embed_tokens", "q_proj"]),
    dict(target_modules=["lm_head", "q_proj"]),
    dict(target_modules=["self_attn"]),
    dict(target_modules=["norm"]),
    dict(target_modules=r".*self_attn\.(q|v)_proj"),
    dict(target_modules=r".*\.[qk]_proj"),
    dict(target_modules=r"q_proj"),
    dict(target_modules=r"model\.layers\.(0|1[01])\.mlp\.(gate|up)_proj"),
    dict(target_modules=r".*layers\.\d{2}\..*proj"),
    dict(target_modules=r".*layers\.\d{,1}\.mlp\.up_proj\Z"),
    dict(target_modules=r".*proj|lm_head"),
    dict(target_modules=r".*"),
    dict(target_modules=ALL, layers_to_transform=[1, 3, 11]),
    dict(target_modules=ALL, layers_to_transform=1),
    dict(target_modules=ALL, layers_to_transform=0),
    dict(target_modules=["q_proj"], layers_to_transform=[]),
    dict(target_modules=["q_proj"], layers_to_transform=[99]),
    dict(target_modules=["q_proj", "model.layers.2.mlp.up_proj"], layers_to_transform=[1]),
    dict(target_modules=["q_proj"], layers_to_transform=[1, 10], layers_pattern="layers"),
    dict(target_modules=["q_proj"], layers_to_transform=[1, 10], layers_pattern=["h", "layers"]),
    dict(target_modules=["q_proj"], layers_to_transform=[1], layers_pattern="h"),
    dict(target_modules=["q_proj"], layers_to_transform=[1], layers_pattern=[]),
    dict(target_modules="all-linear", layers_to_transform=[2]),
    dict(target_modules=".*q_proj", layers_to_transform=[2]),
    dict(target_modules=".*q_proj", layers_pattern="layers"),
    dict(target_modules=ALL, r=8, lora_alpha=32, rank_pattern={"q_proj": 16}, alpha_pattern={"q_proj": 64}),
    dict(target_modules=ALL, rank_pattern={"layers.1.self_attn.q_proj": 3}, alpha_pattern={"down_proj": 7}),
    dict(target_modules=ALL, rank_pattern={"model.layers.1.self_attn.q_proj": 3}, alpha_pattern={"model.layers.1.mlp.up_proj": 7.5}),
    dict(target_modules=ALL, rank_pattern={r"layers\.[0-3]\.mlp\..*": 5, r"self_attn\.[kv]_proj": 2}, use_rslora=True),
    dict(target_modules=ALL, rank_pattern={"q_proj|v_proj": 4}),
    dict(target_modules=ALL, rank_pattern={"(q|v)_proj": 4}, alpha_pattern={"(q|v)_proj": 1}),
    dict(target_modules=ALL, rank_pattern={"proj": 4}),
    dict(target_modules=ALL, rank_pattern={"q_proj": 4, "layers.1.self_attn.q_proj": 2}),
    dict(target_modules=ALL, rank_pattern={"layers.1.self_attn.q_proj": 2, "q_proj": 4}),
    dict(target_modules=ALL, rank_pattern={"q_proj": 4}, alpha_pattern={"layers.1.self_attn.q_proj": 64}),
    dict(target_modules=ALL, rank_pattern={"model.layers.1.self_attn.q_proj": 4}, alpha_pattern={"q_proj": 64}),
    dict(target_modules=ALL, rank_pattern={"^model.layers.1.self_attn.q_proj": 4}),
    dict(target_modules=ALL, r=0),
]
REGEXPS = ["q_proj", ".*q_proj", "q|v", r"\w+\.\d+", "[]a]+", "[^]a]+", "[a[]+", r"[\w.]+", r"a{2}", "a{,2}", "a{,}", "a{}", "a{x}", "{2}a", "a{1,2}b",
    "a{2", r"\bq", r"a\Z", r"a\z", r"a$", "^a", r"\x61", r"\u0061", "(?i)A", "x(?i)A", "(?i:A)b", "(?-i:a)", "(?P<n>a)b", "(?P<n>a)(?P=n)", r"(a)\1", "(?=a)a",
    "(?!b)a", "(?<=a)b", "(?<!a)b", "(?>a)", "(?#x)a", "(?:a|b)c", "(?x)a b", "(?u)a", "(?s).", "a*+", "a**", "*a", "(a", "a)", "[a", "a\\", r"\_", r"\-", r"\q", r"[\b]",
    r"[\A]", "[[:alpha:]]", "[a-]+", "[-a]+", "a|b|", "", "(?<n>a)", r"\Qa\E", r"\pL", r"a\.b", r"a\/b", "[a&&b]+", "[a--b]", r"\0", r"[\d-z]", "a+?b", "(?P<n>a", "(?", "名+", r"\名"]
NAMES = ["", "a", "A", "aa", "aab", "ab", "b", "q_proj", "x.q_proj", "q", "v", "layers.12", "]", "[", "a]", "a{}", "a{x}", "{2}a", "a{2", "-", "a-", "_", "ac", "bc",
    "a.b", "a/b", "xA", "&", "d", "q v"]


def modules(kw):
    m = LlamaForCausalLM(LlamaConfig(**SHAPE))
    p = get_peft_model(m, LoraConfig(task_type="CAUSAL_LM", **kw))
    found = [[n.removeprefix("base_model.model."), l.in_features, l.out_features, l.r["default"], l.lora_alpha["default"], l.scaling["default"]]
             for n, l in p.named_modules() if isinstance(l, LoraLayer)]
    t = p.peft_config["default"].target_modules
    return {"modules": found, "target_modules": t if isinstance(t, str) else sorted(t)}


cases = []
for kw in CASES:
    try:
        cases.append({"config": kw, **modules(kw)})
    except Exception as e:
        cases.append({"config": kw, "error": f"{type(e).__name__}: {e}"[:120]})
regexps = []
for e in REGEXPS:
    for n in NAMES:
        try:
            r = re.compile(e)
            regexps.append([e, n, bool(r.fullmatch(n)), bool(r.match(n))])
        except Exception:
            regexps.append([e, n, None, None])
            break
cases = ",\n".join(json.dumps(c) for c in cases)
regexps = ",\n".join(json.dumps(r, ensure_ascii=False) for r in regexps)
print('{"shape": %s,\n"cases": [\n%s\n],\n"regexps": [\n%s\n]}' % (json.dumps(SHAPE), cases, regexps))
