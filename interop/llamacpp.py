"""llama.cpp for export.py, in an environment of its own: jobs as a JSON list on standard input, results on standard output.

{"do": "run", "model": ..., "lora": ..., "prompts": [[id]], "tokens": n, "texts": [...], "dialogues": [[message]], "score": [id]}
    greedy continuations, ids of texts and of dialogues by the file's chat template, mean negative log-likelihood of "score"
{"do": "quantize", "from": ..., "to": ..., "ftype": number}    llama_model_quantize
{"do": "compare", "a": ..., "b": ...}                          tensors that are equal in type and bytes, and all of them
"""
import ctypes
import json
import sys

import gguf
import llama_cpp
import numpy as np


@llama_cpp.llama_log_callback
def quiet(level, text, data):
    if level >= 4:
        sys.stderr.write(text.decode())


llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))


def run(job):
    # The cache in float32, as everything else in a float32 file.
    llm = llama_cpp.Llama(job["model"], n_ctx=1024, n_threads=2, lora_path=job.get("lora"), type_k=0, type_v=0, flash_attn=False, logits_all=True, verbose=False)
    ends = {llm.token_eos(), llama_cpp.llama_vocab_eot(llm._model.vocab)}

    def last():
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(llm._ctx.ctx, -1), (llm.n_vocab(),))

    greedy = []
    for prompt in job.get("prompts", []):
        llm.reset()
        llm.eval(prompt)
        ids = []
        while len(ids) < job["tokens"]:
            ids.append(int(last().argmax()))
            if ids[-1] in ends:
                break
            llm.eval(ids[-1:])
        greedy.append(ids)
    result = {"greedy": greedy, "version": llama_cpp.__version__}
    result["ids"] = [llm.tokenize(t.encode(), add_bos=False, special=False) for t in job.get("texts", [])]
    if job.get("dialogues"):
        chat = llama_cpp.llama_chat_format.Jinja2ChatFormatter(
            template=llm.metadata["tokenizer.chat_template"], eos_token="", bos_token=llm._model.token_get_text(llm.token_bos()))
        result["dialogues"] = [llm.tokenize(chat(messages=d).prompt.encode(), add_bos=False, special=True) for d in job["dialogues"]]
    if score := job.get("score"):
        llm.reset()
        llm.eval(score)
        x = llm.scores[:len(score) - 1].astype(np.float64)
        x -= x.max(-1, keepdims=True)
        x -= np.log(np.exp(x).sum(-1, keepdims=True))
        result["nll"] = float(-x[np.arange(len(score) - 1), score[1:]].mean())
    return result


def quantize(job):
    p = llama_cpp.llama_model_quantize_default_params()
    p.ftype, p.nthread = job["ftype"], 2
    return llama_cpp.llama_model_quantize(job["from"].encode(), job["to"].encode(), ctypes.byref(p))


def compare(job):
    a, b = ({t.name: t for t in gguf.GGUFReader(job[f]).tensors} for f in "ab")
    equal = [n for n in a if n in b and a[n].tensor_type == b[n].tensor_type and a[n].data.tobytes() == b[n].data.tobytes()]
    return {"equal": len(equal), "all": len(a.keys() | b.keys()), "types": sorted({t.tensor_type.name for t in a.values()})}


print(json.dumps([globals()[job["do"]](job) for job in json.load(sys.stdin)]))
