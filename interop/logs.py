"""The log files of a run that is killed again and again: TensorBoard's own reader, Python's csv and json find every step and
every evaluation once, with the values that trainer_state.json has."""
import csv
import json
import os
import signal
import struct
import subprocess
import sys
import time

from tensorboard.backend.event_processing import event_accumulator

from judge import GOLDEN, ROOT, WORK, check, cria, finish, same

STEPS, KILLS = 60, 4

rows = json.load(open(ROOT / "examples/huanhuan/huanhuan.json"))[:60]
data, out = WORK / "log-rows.json", WORK / "logged"
data.write_text(json.dumps(rows, ensure_ascii=False))
train = ["train", f"model={GOLDEN / 'tiny-llama'}", f"dataset={data}", f"output_dir={out}", "template=prompt", "prompt_template={instruction}{input}<|eot_id|>",
         "response_template={output}<|eot_id|>", f"max_steps={STEPS}", "logging_steps=1", "eval_fraction=0.2", "eval_steps=5", "save_steps=10", "learning_rate=1e-3",
         "report_to=[jsonl, csv, tensorboard]", "resume_from_checkpoint=true", "sample_max_new_tokens=0"]


def logged():
    path = out / "trainer_log.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


killed = 0
for i in range(KILLS):
    p = subprocess.Popen([os.environ["CRIA"], *train], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while p.poll() is None and logged() < (i + 1) * STEPS // (KILLS + 1) + 3:  # a few steps behind the last checkpoint
        time.sleep(0.002)
    p.send_signal(signal.SIGKILL)
    killed += p.wait() == -signal.SIGKILL
    for path in [out / "trainer_log.jsonl", out / "log.csv", *out.glob("runs/*")]:
        with open(path, "ab") as f:
            f.write(b"\x07torn")
check("the run was killed", killed == KILLS, f"{killed} times")
cria(*train)

state = json.load(open(out / "trainer_state.json"))
steps = [r for r in state["log_history"] if "loss" in r]
evals = [r for r in state["log_history"] if "eval_loss" in r]
same("trainer_state.json has every step", [r["step"] for r in steps], list(range(1, STEPS + 1)))
same("  and evaluation", [r["step"] for r in evals], list(range(5, STEPS + 1, 5)))

single = lambda x: struct.unpack("f", struct.pack("f", x))[0]
files = list(out.glob("runs/*"))
same("event files", [f.name.split(".")[:3] for f in files], [["events", "out", "tfevents"]])
acc = event_accumulator.EventAccumulator(str(out / "runs"), size_guidance={event_accumulator.SCALARS: 0})
acc.Reload()
for records, tags in ((steps, {"train/loss": "loss", "train/grad_norm": "grad_norm", "train/learning_rate": "learning_rate"}),
                      (evals, {"eval/loss": "eval_loss", "eval/perplexity": "eval_perplexity", "eval/runtime": "eval_runtime"})):
    for tag, key in tags.items():
        same(f"TensorBoard, {tag}", [(e.step, e.value) for e in acc.Scalars(tag)], [(r["step"], single(r[key])) for r in records])
times = [e.wall_time for e in acc.Scalars("train/loss")]
check("  times ascend", times == sorted(times) and time.time() - 3600 < times[0] <= times[-1] < time.time() + 1)
p = subprocess.run([sys.executable, "-m", "tensorboard.main", "--inspect", "--logdir", str(out / "runs")], capture_output=True, text=True)
check("tensorboard --inspect", p.returncode == 0 and "train/loss" in p.stdout, p.stderr.strip()[-200:] if p.returncode else "")

table = list(csv.DictReader(open(out / "log.csv", newline="")))
number = lambda row, key: float(row[key]) if row[key] else None
for name, records, keys in (("log.csv, steps", steps, ("loss", "grad_norm", "learning_rate", "epoch")), ("log.csv, evaluations", evals, ("eval_loss", "eval_perplexity", "epoch"))):
    mine = [row for row in table if row[keys[0]]]
    same(name, [(int(row["step"]), *(number(row, k) for k in keys)) for row in mine], [(r["step"], *(r[k] for k in keys)) for r in records])
check("log.csv, tokens ascend", [int(r["tokens"]) for r in table] == sorted(int(r["tokens"]) for r in table) and int(table[0]["tokens"]) > 0, f"{table[-1]['tokens']} in all")

lines = [json.loads(line) for line in open(out / "trainer_log.jsonl")]
# LLaMA-Factory's LogCallback.on_log; the last line is that of the whole run.
common = {"current_steps", "total_steps", "epoch", "percentage", "elapsed_time", "remaining_time", "throughput", "total_tokens"}
same("trainer_log.jsonl, keys of steps", [set(l) for l in lines if "loss" in l], [common | {"loss", "lr"}] * STEPS)
same("  of evaluations", [set(l) for l in lines if "eval_loss" in l], [common | {"eval_loss"}] * len(evals))
same("  of the end", [set(l) for l in lines if "loss" not in l and "eval_loss" not in l], [common])
same("  values", [(l["current_steps"], l["loss"], l["lr"]) for l in lines if "loss" in l], [(r["step"], r["loss"], r["learning_rate"]) for r in steps])
finish()
