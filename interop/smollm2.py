"""cria import against transformers: the directory that cria makes of SmolLM2's GGUF file opens there, its tensors, logits
and greedy continuations are the golden ones, and both tokenizers give the golden ids."""
import hashlib
import json

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from judge import GOLDEN, check, cria, cria_greedy, finish, greedy, same, within
from model import imported

model_dir = imported()

want = json.load(open(GOLDEN / "smollm2-import.json"))
want = want.get("tensors", want)
got = {}
for file in sorted(model_dir.glob("*.safetensors")):
    with safe_open(file, "pt") as f:
        for name in f.keys():
            got[name] = f.get_tensor(name)


def digest(t):
    assert t.dtype == torch.bfloat16, t.dtype
    return hashlib.sha256(t.contiguous().view(torch.int16).numpy().tobytes()).hexdigest()


def recorded(entry):
    return entry["sha256"] if isinstance(entry, dict) else entry


check("names of the imported tensors", set(got) == set(want), f"{len(set(got) & set(want))} of {len(want)}")
same("SHA-256 of the imported tensors", [digest(got[n]) for n in sorted(want) if n in got], [recorded(want[n]) for n in sorted(want)])

model = AutoModelForCausalLM.from_pretrained(model_dir, torch_dtype=torch.float32).eval()
tok = AutoTokenizer.from_pretrained(model_dir)
cases = json.load(open(GOLDEN / "smollm2.json"))["cases"]
ids, tops, difference = [], [], 0.0
for c in cases:
    with torch.no_grad():
        top = model(torch.tensor([c["ids"]])).logits[0, -1].topk(len(c["top_ids"]))
    ids.append(tok.apply_chat_template(c["messages"], add_generation_prompt=True))
    tops.append(top.indices.tolist())
    difference = max(difference, (top.values - torch.tensor(c["top_logits"])).abs().max().item())
same("prompts by transformers' chat template", ids, [c["ids"] for c in cases])
same("the ten likeliest tokens of each prompt", tops, [c["top_ids"] for c in cases])
within("their logits, largest difference", difference, 1e-4)  # recorded with four decimals
longest = max(len(c["greedy"]) for c in cases)
same("greedy continuations by transformers", [greedy(model, c["ids"], longest, tok.pad_token_id)[:len(c["greedy"])] for c in cases], [c["greedy"] for c in cases])
same("greedy continuations by cria generate", [cria_greedy(model_dir, c["ids"], len(c["greedy"])) for c in cases], [c["greedy"] for c in cases])

strings = json.load(open(GOLDEN / "tokenizer.json"))
same("ids by cria tokenize", json.loads(cria("tokenize", model_dir, "--json", stdin=json.dumps(strings["strings"]))), strings["smollm2"])
same("ids by transformers from cria's tokenizer.json", [tok(s, add_special_tokens=False)["input_ids"] for s in strings["strings"]], strings["smollm2"])
finish()
