"""What the checks share: cria's binary, the goldens, and a report whose failures end in exit code 1."""
import json
import os
import pathlib
import subprocess
import sys

try:
    from transformers.utils import logging
    logging.disable_progress_bar()
except ImportError:  # not every check's environment has it
    pass

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "testdata/golden"
ORACLE = ROOT / "testdata/oracle"
WORK = pathlib.Path(os.environ["CRIA_INTEROP_WORK"])
CACHE = pathlib.Path(os.environ["CRIA_INTEROP_CACHE"])

failures = 0


def cria(*args, stdin=None):
    """Runs cria and returns its standard output; a failing command ends the check."""
    p = subprocess.run([os.environ["CRIA"], *map(str, args)], input=stdin, capture_output=True, text=True)
    if p.returncode != 0:
        print(p.stderr, end="")
        print(f"FAIL  cria {args[0]} ended with exit code {p.returncode}")
        sys.exit(1)
    return p.stdout


def cria_greedy(model, ids, tokens, adapter=None):
    """The ids that cria appends to a prompt, in float32."""
    args = ["generate", model, "--input-ids", ",".join(map(str, ids)), "--greedy", "--max-new-tokens", tokens, "--json", "compute_dtype=float32"]
    if adapter:
        args += ["--adapter", adapter]
    return json.loads(cria(*args))["ids"]


def greedy(model, ids, tokens, pad):
    """The ids that transformers appends to a prompt."""
    import torch
    with torch.no_grad():
        out = model.generate(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                             max_new_tokens=tokens, do_sample=False, pad_token_id=pad)
    return out[0][len(ids):].tolist()


def check(what, ok, numbers=""):
    """Prints one line of the report."""
    global failures
    failures += not ok
    print(f"{'PASS' if ok else 'FAIL'}  {what}{': ' if numbers else ''}{numbers}", flush=True)


def same(what, got, want):
    """Checks that two lists are equal, item by item, and names the first that is not."""
    bad = [i for i in range(max(len(got), len(want))) if got[i:i + 1] != want[i:i + 1]]
    check(what, not bad, f"{len(want) - len(bad)} of {len(want)}" + (f"; item {bad[0]}: {got[bad[0]:bad[0] + 1]}, not {want[bad[0]:bad[0] + 1]}" if bad else ""))


def within(what, value, bound):
    """Checks a difference; not-a-number fails."""
    check(what, value <= bound, f"{value:.2e}, at most {bound:.0e}")


def finish():
    sys.exit(1 if failures else 0)
