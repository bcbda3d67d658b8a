"""cria train against Trainer and peft on the tiny model: the same short job by both in float32, each other's adapters
opened, and the checkpoint's state read by transformers."""
import json
import subprocess
import sys

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.trainer_callback import TrainerState

from judge import GOLDEN, ORACLE, ROOT, WORK, check, cria, cria_greedy, finish, greedy, same, within

MODEL = GOLDEN / "tiny-llama"
STEPS, SAVE = 6, 3
NEW_TOKENS = 32

# The job of train-fp32, shortened. Fifty rows in micro-batches of 2 x 3: five steps and a piece of the second epoch.
job = json.load(open(GOLDEN / "train-fp32/job.json"))
rows = json.load(open(ROOT / "examples/huanhuan/huanhuan.json"))[:job["limit"]]
data = WORK / "rows.json"
data.write_text(json.dumps(rows, ensure_ascii=False))
job.update(model=str(MODEL), data=str(data), attn="eager")
job["args"].update(max_steps=STEPS, save_steps=SAVE, num_train_epochs=3)
(WORK / "job.json").write_text(json.dumps(job))

theirs, ours = WORK / "by-trainer", WORK / "by-cria"
p = subprocess.run([sys.executable, ORACLE / "hf_train.py", WORK / "job.json", theirs], capture_output=True, text=True)
if p.returncode != 0:
    sys.exit(p.stderr)

t, lora, args = job["template"], job["lora"], job["args"]
recipe = dict(
    model=str(MODEL), dataset=str(data), template="prompt", prompt_template=t["prefix"] + "{instruction}{input}" + t["mid"],
    response_template="{output}" + t["end"], append_pad_token=True, max_length=job["max_length"], allow=["unlabelled_rows", "cut_rows", "untrained_end"],
    output_dir=str(ours), lora=lora, per_device_train_batch_size=args["per_device_train_batch_size"],
    gradient_accumulation_steps=args["gradient_accumulation_steps"], max_steps=STEPS, save_steps=SAVE, logging_steps=args["logging_steps"],
    learning_rate=args["learning_rate"], loss_reduction="microbatch_mean", compute_dtype="float32", adapter_dtype="float32")
(WORK / "recipe.yaml").write_text(json.dumps(recipe, ensure_ascii=False))  # JSON is YAML
cria("train", WORK / "recipe.yaml")

# Losses, norms, adapters.
mine = [r for r in json.load(open(ours / "trainer_state.json"))["log_history"] if "loss" in r]
reference = [r for r in json.load(open(theirs / "log_history.json")) if "loss" in r]
same("loss of each step, four decimals", [r["loss"] for r in mine], [r["loss"] for r in reference])
norms = list(zip([r["grad_norm"] for r in mine], [r["grad_norm"] for r in reference]))
within("grad_norm, largest relative difference", max(abs(a - b) / b for a, b in norms), 2e-5)
same("learning_rate of each step", [f'{r["learning_rate"]:.12g}' for r in mine], [f'{r["learning_rate"]:.12g}' for r in reference])
same("epoch of each step", [f'{r["epoch"]:.9g}' for r in mine], [f'{r["epoch"]:.9g}' for r in reference])


def distance(a, b):
    a, b = load_file(a / "adapter_model.safetensors"), load_file(b / "adapter_model.safetensors")
    assert set(a) == set(b), set(a) ^ set(b)
    square = lambda ts: sum(t.double().square().sum().item() for t in ts)
    return (square(a[k] - b[k] for k in b) / square(b.values())) ** 0.5


within("adapter of step 3, relative distance", distance(ours / "checkpoint-3", theirs / "checkpoint-3"), 1e-5)
within("final adapter, relative distance", distance(ours, theirs / "final_adapter"), 1e-5)
moved = distance(theirs / "init_adapter", theirs / "final_adapter")
check("the run moved the adapter", moved > 0.05, f"{moved:.3f} from the initial one")

# transformers and peft read what cria wrote.
states = {d: TrainerState.load_from_json(str(ours / d / "trainer_state.json")) for d in ("checkpoint-3", "checkpoint-6", ".")}
same("TrainerState reads trainer_state.json", [(s.global_step, s.max_steps, s.epoch is not None, len(s.log_history) >= s.global_step) for s in states.values()],
     [(3, STEPS, True, True), (STEPS, STEPS, True, True), (STEPS, STEPS, True, True)])

tok = AutoTokenizer.from_pretrained(ours)  # the tokenizer's files beside the adapter
same("tokenizer beside the adapter", tok(t["prefix"])["input_ids"], AutoTokenizer.from_pretrained(MODEL)(t["prefix"])["input_ids"])
base = AutoModelForCausalLM.from_pretrained(MODEL, torch_dtype=torch.float32, attn_implementation="eager").eval()
pad = tok.pad_token_id if tok.pad_token_id is not None else tok.eos_token_id
prompts = [tok(t["prefix"] + r["instruction"] + r["input"] + t["mid"], add_special_tokens=False)["input_ids"] for r in rows[:5]] + [[2042, 198], list(range(60, 160))]


def generated(directory):
    """Greedy ids of every prompt by transformers with an adapter that peft has opened."""
    model = PeftModel.from_pretrained(base, str(directory)).eval()
    state = {n.replace(".default", ""): p for n, p in model.named_parameters() if "lora_" in n}
    file = load_file(directory / "adapter_model.safetensors")
    check(f"peft took every tensor of {directory.relative_to(WORK)}", set(state) == set(file) and all(torch.equal(state[k], file[k].float()) for k in file), f"{len(file)} tensors")
    out = [greedy(model, p, NEW_TOKENS, pad) for p in prompts]
    model.unload()
    return out


plain = [greedy(base, p, NEW_TOKENS, pad) for p in prompts]
same("greedy ids without adapter", [cria_greedy(MODEL, p, NEW_TOKENS) for p in prompts], plain)
for directory in (ours / "checkpoint-3", ours / "checkpoint-6", ours, theirs / "checkpoint-3", theirs / "final_adapter"):
    want = generated(directory)
    same(f"greedy ids with {directory.relative_to(WORK)}", [cria_greedy(MODEL, p, NEW_TOKENS, directory) for p in prompts], want)
    check("  of them changed by the adapter", want != plain, f"{sum(a != b for a, b in zip(want, plain))} of {len(plain)}")
finish()
