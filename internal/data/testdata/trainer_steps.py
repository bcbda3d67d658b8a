"""Records which micro-batches Trainer puts into each optimizer step: python trainer_steps.py > trainer_steps.json

Needs torch 2.8.0, transformers 4.43.2 and accelerate 0.32.1 (CPU). The model is one number; only the loop is of interest.
"""
import json, sys, tempfile
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments


class One(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(1))

    def forward(self, row):
        seen.append(row.tolist())
        return {"loss": (self.w * row.float()).mean()}


class Record(TrainerCallback):
    def on_step_end(self, args, state, control, **kw):
        steps.append({"micro_batches": list(seen), "epoch": state.epoch})
        seen.clear()


runs = []
for rows, batch, accumulation, epochs, max_steps in [
    (5, 2, 4, 5, -1), (5, 2, 3, 3, -1), (7, 2, 3, 2.5, -1), (7, 3, 8, 4, 7), (4, 4, 3, 5, -1), (9, 2, 7, 3.1, -1),
    (6, 2, 2, 1.5, -1), (10, 3, 2, 3, 11), (1, 8, 1, 3, -1), (3, 1, 2, 0.3, -1),
]:
    seen, steps = [], []
    with tempfile.TemporaryDirectory() as d:
        args = TrainingArguments(d, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, num_train_epochs=epochs,
                                 max_steps=max_steps, use_cpu=True, save_strategy="no", report_to=[], disable_tqdm=True)
        t = Trainer(One(), args, train_dataset=[{"row": i} for i in range(rows)], callbacks=[Record()])
        stdout, sys.stdout = sys.stdout, sys.stderr
        t.train()
        sys.stdout = stdout
    runs.append({"rows": rows, "batch": batch, "accumulation": accumulation, "epochs": epochs, "max_steps": max_steps, "steps": steps,
                 "num_train_epochs": t.state.num_train_epochs})
print("[" + ",\n".join(json.dumps(r) for r in runs) + "]")
