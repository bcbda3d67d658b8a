"""cria merge and cria export against peft, transformers and llama.cpp: an adapter is trained on SmolLM2, written in all
formats, and each program that opens a file has to say greedily what cria says."""
import json
import os
import subprocess
import sys

import peft
import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from judge import ROOT, WORK, check, cria, cria_greedy, finish, greedy, same, within
from model import imported

TOKENS = 64
HEAD, TAIL = "<|im_start|>system\n现在你要扮演皇帝身边的女人--甄嬛<|im_end|>\n<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
QUESTIONS = ["你是谁？", "What is the capital of France?", "Tell me a story about 3 bears.", "1 + 1 = ?"]
TEXT = ("The Great Wall of China is a series of fortifications that were built across the historical northern borders of ancient "
        "Chinese states and Imperial China as protection against various nomadic groups from the Eurasian Steppe. Several walls were "
        "built from as early as the 7th century BC, with selective stretches later joined by Qin Shi Huang, the first emperor of China.")
table = []


def llamacpp(*jobs):
    p = subprocess.run([os.path.join(os.environ["CRIA_INTEROP_LLAMACPP_VENV"], "bin/python"), ROOT / "interop/llamacpp.py"],
                       input=json.dumps(jobs, default=str), capture_output=True, text=True)
    if p.returncode != 0:
        sys.exit(p.stderr)
    return json.loads(p.stdout)


def row(what, by, version, got, want):
    """A line of the table: greedy tokens up to the first difference, of all prompts."""
    equal = sum(next((i for i, (a, b) in enumerate(zip(g, w)) if a != b), min(len(g), len(w))) for g, w in zip(got, want))
    table.append((what, by, version, f"{equal} of {sum(map(len, want))}", "equal" if got == want else "differs"))


base = imported()
adapter, merged = WORK / "export-adapter", WORK / "export-merged"
rows = json.load(open(ROOT / "examples/huanhuan/huanhuan.json"))[:32]
(WORK / "export-rows.json").write_text(json.dumps(rows, ensure_ascii=False))
(WORK / "export.yaml").write_text(json.dumps(dict(
    model=str(base), dataset=str(WORK / "export-rows.json"), template="prompt", prompt_template=HEAD + "{instruction}{input}" + TAIL,
    response_template="{output}<|im_end|>", append_pad_token=False, max_length=512, output_dir=str(adapter),
    lora=dict(r=8, lora_alpha=32, target_modules="all-linear"), max_steps=8, per_device_train_batch_size=4, gradient_accumulation_steps=1,
    learning_rate=2e-3, compute_dtype="float32", adapter_dtype="float32", save_steps=100), ensure_ascii=False))
cria("train", WORK / "export.yaml")

# Everything that is written.
cria("merge", "--adapter", adapter, "--output", merged)
files = {}
for kind in ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M"]:
    files[kind] = WORK / f"export-{kind}.gguf"
    cria("export", "--adapter", adapter, "--type", kind, "--output", files[kind])
files["base"], files["lora"] = WORK / "export-base.gguf", WORK / "export-lora.gguf"
cria("export", "--model", base, "--type", "F32", "--output", files["base"])
cria("export", "--adapter", adapter, "--format", "gguf-adapter", "--output", files["lora"])

tok = AutoTokenizer.from_pretrained(merged)
dialogues = [[{"role": "user", "content": q}] for q in QUESTIONS]
prompts = [tok(HEAD + q + TAIL, add_special_tokens=False)["input_ids"] for q in QUESTIONS]  # as trained
alone = [cria_greedy(base, p, TOKENS) for p in prompts]
ours = [cria_greedy(base, p, TOKENS, adapter) for p in prompts]
ours_merged = [cria_greedy(merged, p, TOKENS) for p in prompts]
check("the adapter changes the replies", all(a != b for a, b in zip(alone, ours)), f"{sum(a != b for a, b in zip(alone, ours))} of {len(ours)}")

# peft opens the adapter and merges it; transformers opens the merged directory.
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, torch_dtype=torch.float32), adapter).eval()
got = [greedy(model, p, TOKENS, tok.pad_token_id) for p in prompts]
same("peft opens the adapter: greedy replies", got, ours)
row("adapter", "peft", peft.__version__, got, ours)
theirs = {n: t.bfloat16() for n, t in model.merge_and_unload().state_dict().items()}
model = AutoModelForCausalLM.from_pretrained(merged, torch_dtype=torch.bfloat16)
mine = model.state_dict()
differ = sum(int((mine[n] != theirs[n]).sum()) for n in mine)
total = sum(t.numel() for t in mine.values())
# Sums of r products in another order fall on the other side of a rounding now and then.
check("weights by peft's merge_and_unload in float32, rounded to bfloat16, and by cria merge", mine.keys() == theirs.keys() and differ <= total * 1e-5,
      f"{total - differ} of {total} equal")
worst = max(float(((mine[n].float() - theirs[n].float()).abs() / theirs[n].float().abs().clamp_min(1e-4)).max()) for n in mine)
within("the others, largest relative difference (a unit in the last place is up to 2^-7)", worst, 2**-7)
got = [greedy(model.float().eval(), p, TOKENS, tok.pad_token_id) for p in prompts]
same("transformers opens the merged model: greedy replies", got, ours_merged)
row("merged model", "transformers", transformers.__version__, got, ours_merged)
same("prompts by the merged model's chat template in transformers", [tok.apply_chat_template(d, add_generation_prompt=True) for d in dialogues], prompts)

# llama.cpp.
score = tok(TEXT)["input_ids"]
strings = QUESTIONS + [TEXT, "I'm 12345 years\n\n  old, 你好 😀 <|im_end|>"]
jobs = [dict(do="run", model=files[k], prompts=prompts, tokens=TOKENS, texts=strings, dialogues=dialogues, score=score)
        for k in ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M"]]
jobs.append(dict(do="run", model=files["base"], lora=str(files["lora"]), prompts=prompts, tokens=TOKENS))
results = dict(zip(["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M", "lora"], llamacpp(*jobs)))
version = results["F32"]["version"]
plain = AutoTokenizer.from_pretrained(merged, split_special_tokens=True)
for kind in ["F32", "F16", "BF16", "lora"]:
    r = results[kind]
    what = "base + LoRA GGUF" if kind == "lora" else f"GGUF {kind}"
    row(what, "llama-cpp-python", version, r["greedy"], ours)
    if kind in ("F32", "lora"):  # in the others llama.cpp rounds activations to 16 bits too
        same(f"llama.cpp with {what}: greedy replies", r["greedy"], ours)
exact = results["F32"]["nll"]
for kind, bound in [("F16", 2e-3), ("BF16", 2e-2), ("Q8_0", 1e-2), ("Q4_K_M", 0.1), ("Q4_0", 0.3)]:
    r = results[kind]
    within(f"llama.cpp with GGUF {kind}: mean loss of an English text, difference from F32's {exact:.4f}", abs(r["nll"] - exact), bound)
    if kind[0] == "Q":
        row(f"GGUF {kind}", "llama-cpp-python", version, r["greedy"], ours)
        print(f"      {kind}: {tok.decode(r['greedy'][1], skip_special_tokens=True)!r}")
same("prompts by the GGUF's chat template in llama-cpp-python", [results[k]["dialogues"] for k in files if k in results and k != "lora"],
     [prompts] * 6)
same("ids of texts by llama.cpp", results["F32"]["ids"], [tok(s, add_special_tokens=False, split_special_tokens=True)["input_ids"] for s in strings])

# llama.cpp quantises cria's F32 file itself.
jobs = []
for kind, ftype in [("Q8_0", 7), ("Q4_0", 2), ("Q4_K_M", 15)]:
    own = WORK / f"export-own-{kind}.gguf"
    jobs += [dict(do="quantize", **{"from": files["F32"]}, to=own, ftype=ftype), dict(do="compare", a=files[kind], b=own)]
for kind, r in zip(["Q8_0", "Q4_0", "Q4_K_M"], llamacpp(*jobs)[1::2]):
    check(f"tensors of {kind} by cria and by llama-quantize ({', '.join(r['types'])})", r["equal"] == r["all"], f"{r['equal']} of {r['all']} equal in type and every byte")

print(f"\n{'what':<18} {'opened by':<18} {'version':<8} {'greedy tokens as cria':<22} replies")
for line in table:
    print("{:<18} {:<18} {:<8} {:<22} {}".format(*line))
finish()
