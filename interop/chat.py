"""The tutorial's inference by both: system and user message, the model's chat template, greedy in float32, the reply alone;
on SmolLM2 and on the tiny model, with and without an adapter. And cria's adapters after training with template: chat."""
import json

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from judge import GOLDEN, ROOT, WORK, cria, finish, greedy, same
from model import imported

SYSTEM, QUESTIONS = "现在你要扮演皇帝身边的女人--甄嬛", ["你是谁？", "Who are you?", "说说你的身世。"]


def compare(name, model_dir, adapter, tokens, questions=QUESTIONS, system=SYSTEM):
    model = AutoModelForCausalLM.from_pretrained(model_dir, torch_dtype=torch.float32, attn_implementation="eager")
    if adapter:
        model = PeftModel.from_pretrained(model, adapter)
    model, tok = model.eval(), AutoTokenizer.from_pretrained(model_dir)
    mine, theirs = [], []
    for q in questions:
        prompt = tok.apply_chat_template([{"role": "system", "content": system}, {"role": "user", "content": q}], add_generation_prompt=True)
        theirs.append(tok.decode(greedy(model, prompt, tokens, tok.pad_token_id or tok.convert_tokens_to_ids(tok.eos_token)), skip_special_tokens=True))
        args = ["generate", model_dir, "--system", system, "--prompt", q, "--greedy", "--max-new-tokens", tokens, "--json", "compute_dtype=float32"]
        mine.append(json.loads(cria(*args, *(["--adapter", adapter] if adapter else [])))["text"])
    same(f"{name}: greedy replies of up to {tokens} tokens", mine, theirs)


smollm2, tiny = imported(), GOLDEN / "tiny-llama"
compare("tiny", tiny, None, 512)
compare("tiny with an adapter", tiny, GOLDEN / "tiny/adapter", 512)
compare("SmolLM2", smollm2, None, 512, QUESTIONS[1:2])
compare("SmolLM2", smollm2, None, 32)
compare("SmolLM2 with an adapter", smollm2, GOLDEN / "smollm2-train/final_adapter", 48)

rows = WORK / "chat-rows.json"
rows.write_text(json.dumps(json.load(open(ROOT / "examples/huanhuan/huanhuan.json"))[:50], ensure_ascii=False))
cria("train", f"model={tiny}", f"dataset={rows}", "template=chat", f"system={SYSTEM}", f"output_dir={WORK / 'by-chat'}", "max_steps=6", "learning_rate=1e-3",
     "lora.target_modules=all-linear", "lora.lora_alpha=32")
compare("tiny after cria train template=chat", tiny, WORK / "by-chat", 64)
finish()
