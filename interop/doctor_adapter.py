"""cria doctor adapter against peft 0.11.1, and MLX's adapters in cria: what peft refuses or opens wrongly cria says, and what
cria writes with --fix peft opens with the same greedy tokens. With $CRIA_INTEROP_LLAMACPP_SOURCE, a directory of llama.cpp's
source, its convert_lora_to_gguf.py is asked too."""
import copy
import json
import math
import os
import subprocess
import sys
import warnings

import numpy as np
import peft
import torch
from peft import PeftModel
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from judge import GOLDEN, WORK, check, cria, cria_greedy, finish, greedy, same

warnings.simplefilter("ignore")
MODEL, GOOD = GOLDEN / "tiny-llama", GOLDEN / "tiny/adapter"
PREFIX, TOKENS = "base_model.model.", 32
PROMPTS = [[2042, 198], list(range(60, 160)), [5, 6, 7], [300, 20, 1000]]
CONFIG, TENSORS = json.load(open(GOOD / "adapter_config.json")), load_file(GOOD / "adapter_model.safetensors")


def write(name, keys={}, change=lambda t: t, without=()):
    """An adapter directory: the golden one with other keys and tensors."""
    d = WORK / "doctor" / name
    d.mkdir(parents=True)
    config = {k: v for k, v in {**CONFIG, **keys}.items() if k not in without}
    (d / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
    save_file(change(dict(TENSORS)), d / "adapter_model.safetensors", metadata={"format": "pt"})
    return d


def doctor(d, *more):
    """What cria says: answers by program, everything, exit code."""
    p = subprocess.run([os.environ["CRIA"], "doctor", "adapter", d, "--model", MODEL, "--json", *more], capture_output=True, text=True)
    if p.returncode not in (0, 1) or not p.stdout:
        sys.exit(p.stderr)
    r = json.loads(p.stdout)
    return {v["program"]: v["answer"] for v in r["verdicts"]}, r, p.returncode


base = AutoModelForCausalLM.from_pretrained(MODEL, torch_dtype=torch.float32, attn_implementation="eager").eval()


def by_peft(d):
    """The model with the adapter, or the error."""
    try:
        return PeftModel.from_pretrained(copy.deepcopy(base), str(d)).eval()
    except Exception as e:
        return e


def tokens_by_peft(d, prompts=PROMPTS):
    model = by_peft(d)
    return repr(model) if isinstance(model, Exception) else [greedy(model, p, TOKENS, 2043) for p in prompts]


def tokens_by_cria(d, prompts=PROMPTS):
    return [cria_greedy(MODEL, p, TOKENS, d) for p in prompts]


wanted = tokens_by_cria(GOOD)
same("peft opens the golden adapter: greedy tokens as cria's", tokens_by_peft(GOOD), wanted)
check("and it changes them", wanted != [cria_greedy(MODEL, p, TOKENS) for p in PROMPTS])

# An adapter as a newer peft writes it.
newer = write("newer", dict(alora_invocation_tokens=None, arrow_config=None, corda_config=None, ensure_weight_tying=False, eva_config=None,
                            exclude_modules=None, lora_bias=False, peft_version="0.18.0", qalora_group_size=16, target_parameters=None,
                            trainable_token_indices=None, use_qalora=False))
error = by_peft(newer)
check(f"peft {peft.__version__} refuses the keys of newer versions", isinstance(error, TypeError), repr(error)[:90])
answers, report, code = doctor(newer)
check("cria doctor adapter says so", answers["peft 0.11.1"] == "refuses" and answers["cria"] == "takes it" and not report["taken"] and code == 1,
      next(v for v in report["verdicts"] if v["program"] == "peft 0.11.1")["remarks"][0]["what"])
same("cria reads it: greedy tokens", tokens_by_cria(newer), wanted)
fixed = WORK / "doctor/newer-fixed"
answers, report, code = doctor(newer, "--fix", fixed)
check("--fix: all take it", code == 0 and all(v["answer"] == "takes it" for v in report["fixed"]["verdicts"]))
same("peft opens what --fix wrote: greedy tokens", tokens_by_peft(fixed), wanted)

# An adapter as mlx-lm writes it: other names, transposed, its scale alone. A scale of 4.1 makes lora_alpha 32.8.
for scale in (4.0, 4.1):
    mlx = WORK / f"doctor/mlx-{scale}"
    mlx.mkdir()
    save_file({k.removeprefix(PREFIX).replace(".lora_A.weight", ".lora_a").replace(".lora_B.weight", ".lora_b"): np.ascontiguousarray(v.T)
               for k, v in TENSORS.items()}, mlx / "adapters.safetensors", metadata={"format": "mlx"})
    (mlx / "adapter_config.json").write_text(json.dumps(dict(
        adapter_path="adapters", batch_size=4, data="data", fine_tune_type="lora", iters=600, learning_rate=1e-5, model="mlx-community/tiny-4bit",
        lora_parameters=dict(rank=CONFIG["r"], scale=scale, dropout=0.0), num_layers=16, optimizer="adam", train=True), indent=4))
    target = wanted if scale == 4.0 else tokens_by_peft(write("alpha-32.8", dict(lora_alpha=scale * CONFIG["r"])))
    check(f"peft refuses MLX's adapter, scale {scale}", isinstance(by_peft(mlx), KeyError))
    answers, report, code = doctor(mlx)
    check("cria doctor adapter says so, of all three", code == 1 and list(answers.values()) == ["refuses"] * 3 + ["takes it"])
    same("cria reads it: greedy tokens of the original", tokens_by_cria(mlx), target)
    fixed = WORK / f"doctor/mlx-{scale}-fixed"
    answers, report, code = doctor(mlx, "--fix", fixed)
    check("--fix: all take it", code == 0 and all(v["answer"] == "takes it" for v in report["fixed"]["verdicts"]))
    same("peft opens what --fix wrote: greedy tokens of the original", tokens_by_peft(fixed), target)
merged = WORK / "doctor/merged"
cria("merge", "--adapter", WORK / "doctor/mlx-4.0", "--model", MODEL, "--output", merged)
check("cria merge takes MLX's adapter", (merged / "model.safetensors").exists() or any(merged.glob("*.safetensors")))

# What peft does with each of these, and llama.cpp's script, and what cria says.
P = PREFIX + "model."
rename = lambda old, new: lambda t: {k.replace(old, new): v for k, v in t.items()}
plus = lambda name, *shape: lambda t: {**t, name: np.zeros(shape, np.float32)}
cut = lambda t: {k: np.ascontiguousarray((v[:4] if "lora_A" in k else v[:, :4]) if "q_proj" in k else v) for k, v in t.items()}
cases = {
    "null rank_pattern": write("c1", dict(rank_pattern=None)), "null lora_dropout": write("c2", dict(lora_dropout=None)),
    "null bias": write("c3", dict(bias=None)), "null loftq_config": write("c4", dict(loftq_config=None)), "null target_modules": write("c5", dict(target_modules=None), lambda t: {k: v for k, v in t.items() if "q_proj" in k or "v_proj" in k}),
    "all-linear": write("c6", dict(target_modules="all-linear")), "expression": write("c7", dict(target_modules=".*_proj")),
    "expression and layers_pattern": write("c8", dict(target_modules=".*_proj", layers_pattern=[])),
    "lora_alpha 32.5": write("c10", dict(lora_alpha=32.5)), "lora_alpha 0": write("c11", dict(lora_alpha=0)), "no lora_alpha": write("c12", without=["lora_alpha"]),
    "init eva": write("c13", dict(init_lora_weights="eva")), "init Gaussian": write("c14", dict(init_lora_weights="Gaussian")), "init olora": write("c15", dict(init_lora_weights="olora")),
    "init false": write("c16", dict(init_lora_weights=False)), "names with default": write("c17", change=rename(".weight", ".default.weight")),
    "names without prefix": write("c18", change=rename(PREFIX, "")), "embed_tokens": write("c19", change=plus(P + "embed_tokens.weight", 2048, 128)),
    "bias all": write("c20", dict(bias="all")), "use_dora": write("c21", dict(use_dora=True), lambda t: {**t, **{k.replace("lora_A", "lora_magnitude_vector").removesuffix(".weight"): np.ones(TENSORS[k.replace("lora_A", "lora_B")].shape[0], np.float32) for k in t if "lora_A" in k}}),
    "use_rslora": write("c22", dict(use_rslora=True)), "rank_pattern": write("c23", dict(rank_pattern={"q_proj": 4}), cut),
    "alpha_pattern": write("c24", dict(alpha_pattern={"q_proj": 8})), "wrong rank": write("c25", change=cut), "a module's tensors missing": write("c26", change=lambda t: {k: v for k, v in t.items() if "q_proj" not in k}),
    "modules_to_save": write("c27", dict(modules_to_save=["lm_head"]), plus(PREFIX + "lm_head.weight", 2048, 128)),
    "exclude_modules": write("c28", dict(exclude_modules=["lm_head"])), "no base": write("c29", dict(base_model_name_or_path=None)),
}
# cria calls damaged what peft opens with a part of the tensors missing: peft leaves the part at its start.
damaged = {"wrong rank", "a module's tensors missing"}
lines = {}
for name, d in cases.items():
    answers, report, code = doctor(d)
    model = by_peft(d)
    opens = not isinstance(model, Exception)
    if opens:  # every lora_B has arrived
        arrived = sum(float(p.abs().double().sum()) for n, p in model.named_parameters() if "lora_B" in n)
        there = sum(float(np.abs(v).astype(np.float64).sum()) for k, v in load_file(d / "adapter_model.safetensors").items() if "lora_B" in k)
        opens = math.isclose(arrived, there, rel_tol=1e-6)
    says = answers["peft 0.11.1"] != "refuses"
    lines[name] = (opens, says)
    if report["fixable"] and not report["faults"]:
        target, fixed = tokens_by_cria(d, PROMPTS[:1]), d.with_name(d.name + "-fixed")
        answers, report, code = doctor(d, "--fix", fixed)
        lines[name] += (code == 0 and tokens_by_peft(fixed, PROMPTS[:1]) == target,)
wrong = [n for n, l in lines.items() if n not in damaged and l[0] != l[1]]
check("peft opens the adapters that cria says it takes, and no others", not wrong, f"{len(lines) - len(wrong)} of {len(lines)}, {sum(not l[0] for l in lines.values())} refused {wrong or ''}")
repaired = {n: l[2] for n, l in lines.items() if len(l) > 2}
check("peft opens what --fix writes of them, with cria's greedy tokens", all(repaired.values()), f"{sum(repaired.values())} of {len(repaired)} {[n for n, ok in repaired.items() if not ok] or ''}")
check("cria calls damaged what is", all(doctor(cases[n])[1]["faults"] for n in damaged))

if source := os.environ.get("CRIA_INTEROP_LLAMACPP_SOURCE"):
    def converts(d):
        p = subprocess.run([sys.executable, os.path.join(source, "convert_lora_to_gguf.py"), "--base", MODEL, "--outfile", WORK / "doctor/out.gguf", d], capture_output=True, text=True)
        return p.returncode == 0

    # These it converts to something else: it scales by lora_alpha / r whatever the configuration says, or by 1.
    misread = {"use_rslora", "alpha_pattern", "lora_alpha 0", "init olora"}
    answer = {n: (converts(d), doctor(d)[0]["llama.cpp"] != "refuses") for n, d in cases.items() if n not in damaged}
    wrong = [n for n, (did, says) in answer.items() if did != says and not (n in misread and did and not says)]
    check("convert_lora_to_gguf.py converts the adapters that cria says it takes, and no others but those it misreads", not wrong, f"{len(answer) - len(wrong)} of {len(answer)} {wrong or ''}")
    check("and what --fix writes", all(converts(cases[n].with_name(cases[n].name + "-fixed")) for n in repaired), f"{len(repaired)} of {len(repaired)}")
finish()
