"""Steps of transformers + peft on Llama-3.1-8B's shape with few layers and random bfloat16 weights, on the CPU.

    python slice_reference.py --layers 4 --steps 2 [--checkpointing] [--tiny]

The job is that of `cria bench --shape llama-3.1-8b-slice`: LoRA r=8 alpha=32 dropout 0.1 on all seven projections, AdamW
1e-4, 4 micro-batches of 4 rows padded to their longest, rows of the tutorial's lengths in training order (prompt and
labelled tokens, internal/bench/tutorial_rows.json). Prints one JSON line: seconds of every step, of which the first is
for warming up, and real tokens of every step.

Origin: reduced to CPUs from the script with which the same job was timed on GPUs.
"""
import argparse
import json
import pathlib
import time

import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

ROWS = pathlib.Path(__file__).resolve().parent.parent / "internal/bench/tutorial_rows.json"
BATCH, ACCUMULATION = 4, 4

parser = argparse.ArgumentParser()
parser.add_argument("--layers", type=int, default=4)
parser.add_argument("--steps", type=int, default=2, help="timed, after one for warming up")
parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing, as the tutorial has it")
parser.add_argument("--tiny", action="store_true", help="small widths, to try the script")
args = parser.parse_args()

rows = json.load(open(ROWS))
config = LlamaConfig(hidden_size=4096, intermediate_size=14336, num_hidden_layers=args.layers, num_attention_heads=32, num_key_value_heads=8,
                     vocab_size=128256, max_position_embeddings=131072, rope_theta=500000.0, rms_norm_eps=1e-5, tie_word_embeddings=False, use_cache=False)
if args.tiny:
    config.hidden_size, config.intermediate_size, config.num_attention_heads, config.num_key_value_heads, config.vocab_size = 256, 512, 8, 2, 1000
torch.manual_seed(0)
torch.set_default_dtype(torch.bfloat16)
model = LlamaForCausalLM(config)
torch.set_default_dtype(torch.float32)
if args.checkpointing:
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
model = get_peft_model(model, LoraConfig(task_type=TaskType.CAUSAL_LM, r=8, lora_alpha=32, lora_dropout=0.1,
                                         target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]))
model.train()
params = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(params, lr=1e-4, weight_decay=0.0)

seconds, tokens, losses = [], [], []
for step in range(args.steps + 1):
    start = time.time()
    real, loss = 0, 0.0
    for m in range(ACCUMULATION):
        first = (step * ACCUMULATION + m) * BATCH % len(rows)
        batch = rows[first:first + BATCH]
        longest = max(prompt + labelled for prompt, labelled in batch)
        ids = torch.randint(0, config.vocab_size, (BATCH, longest))
        mask, labels = torch.zeros(BATCH, longest, dtype=torch.long), torch.full((BATCH, longest), -100)
        for i, (prompt, labelled) in enumerate(batch):
            mask[i, :prompt + labelled] = 1
            labels[i, prompt:prompt + labelled] = ids[i, prompt:prompt + labelled]
            real += prompt + labelled
        part = model(input_ids=ids, attention_mask=mask, labels=labels).loss / ACCUMULATION
        part.backward()
        loss += part.item()
    torch.nn.utils.clip_grad_norm_(params, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    seconds.append(time.time() - start)
    tokens.append(real)
    losses.append(loss)
print(json.dumps({"seconds": seconds, "tokens": tokens, "losses": losses, "threads": torch.get_num_threads()}))
