"""cria export --format ollama against Ollama itself: an adapter is trained on SmolLM2 and exported, `ollama create` takes the Modelfile,
and what Ollama's template makes of a question, and what it answers greedily, are the ids that cria makes. $CRIA_INTEROP_OLLAMA
names the program."""
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

from transformers import AutoTokenizer

from judge import ROOT, WORK, check, cria, cria_greedy, finish, same
from model import imported

TOKENS = 48
HEAD, TAIL = "<|im_start|>system\n现在你要扮演皇帝身边的女人--甄嬛<|im_end|>\n<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
QUESTIONS = ["你是谁？", "What is the capital of France?", "Tell me a story about 3 bears."]

program = os.environ.get("CRIA_INTEROP_OLLAMA")
if not program:
    sys.exit("name Ollama's program in CRIA_INTEROP_OLLAMA")
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    host = f"127.0.0.1:{s.getsockname()[1]}"
env = os.environ | {"OLLAMA_HOST": host, "OLLAMA_MODELS": str(WORK / "ollama-models"), "HOME": str(WORK), "OLLAMA_FLASH_ATTENTION": "0"}


def ask(path, **body):
    request = urllib.request.Request(f"http://{host}{path}", json.dumps(body).encode() if body else None, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=600))


base = imported()
tok = AutoTokenizer.from_pretrained(base)
rows = json.load(open(ROOT / "examples/huanhuan/huanhuan.json"))[:32]
(WORK / "ollama-rows.json").write_text(json.dumps(rows, ensure_ascii=False))
server = subprocess.Popen([program, "serve"], env=env, stdout=subprocess.DEVNULL, stderr=open(WORK / "ollama.log", "w"))
try:
    for _ in range(100):
        try:
            version = ask("/api/version")["version"]
            break
        except OSError:
            time.sleep(0.2)
    print(f"Ollama {version}")
    for template in ["prompt", "chat"]:
        adapter, out, name = WORK / f"ollama-adapter-{template}", WORK / f"ollama-{template}", f"cria-{template}"
        recipe = dict(model=str(base), dataset=str(WORK / "ollama-rows.json"), max_length=512, output_dir=str(adapter),
                      lora=dict(r=8, lora_alpha=32, target_modules="all-linear"), max_steps=8, per_device_train_batch_size=4,
                      gradient_accumulation_steps=1, learning_rate=2e-3, compute_dtype="float32", save_steps=100, sample_max_new_tokens=0)
        if template == "prompt":
            recipe |= dict(template="prompt", response_template="{output}<|im_end|>", append_pad_token=False,
                           prompt_template=HEAD + "{instruction}{input}" + TAIL)
        else:
            recipe |= dict(template="chat", system="现在你要扮演皇帝身边的女人--甄嬛")
        (WORK / f"ollama-{template}.yaml").write_text(json.dumps(recipe, ensure_ascii=False))
        cria("train", WORK / f"ollama-{template}.yaml")
        cria("export", "--adapter", adapter, "--format", "ollama", "--type", "F32", "--output", out)
        p = subprocess.run([program, "create", name, "-f", out / "Modelfile"], env=env, cwd=out, capture_output=True, text=True)
        check(f"{template}: ollama create takes the Modelfile", p.returncode == 0, p.stderr.strip().splitlines()[-1] if p.returncode else "")
        if p.returncode:
            continue
        got_prompts, want_prompts, got, want = [], [], [], []
        for q in QUESTIONS:
            answer = ask("/api/generate", model=name, prompt=q, stream=False, options=dict(temperature=0, top_k=1, num_predict=TOKENS + 1, repeat_penalty=1, num_thread=2))
            prompt = tok(HEAD + q + TAIL, add_special_tokens=False)["input_ids"]
            ids = cria_greedy(base, prompt, TOKENS, adapter)
            if ids[-1] == tok.eos_token_id:
                ids.pop()  # Ollama leaves it out
            got_prompts.append(answer["context"][:len(prompt)])
            want_prompts.append(prompt)
            got.append(answer["context"][len(prompt):][:TOKENS])  # the last token of a reply that is cut off is not in it
            want.append(ids)
        same(f"{template}: ids of prompts", got_prompts, want_prompts)
        equal = sum(next((i for i, (a, b) in enumerate(zip(g, w)) if a != b), min(len(g), len(w))) for g, w in zip(got, want))
        check(f"{template}: greedy replies", got == want, f"{equal} of {sum(map(len, want))} tokens equal")
finally:
    server.terminate()
    server.wait()
finish()
