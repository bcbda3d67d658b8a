"""Times cria and the reference stack on the same jobs and writes all figures as JSON; called by bench-peers.

    smollm2-bf16, smollm2-f32   the demo's recipe (examples/huanhuan/smollm2.yaml): the whole programs, a short and a longer run
                                of each, one after the other; seconds a step are the difference of the two, divided by the steps
                                between them
    slice                       four layers of Llama-3.1-8B's shape with random weights: steps after the first, timed one by one
    clone                       cria from a clean clone to the first loss: git clone, go build with empty caches, import, train

Only the standard library and yaml are imported here: on Linux a child's peak memory counts that of the process it was
started from.
"""
import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
HERE = ROOT / "interop"
WORK = pathlib.Path(os.environ["CRIA_INTEROP_WORK"])
CRIA = os.environ["CRIA"]
RECIPE = ROOT / "examples/huanhuan/smollm2.yaml"
DATASET = ROOT / "examples/huanhuan/huanhuan.json"
JOBS = ["smollm2-bf16", "smollm2-f32", "slice", "clone"]


def versions():
    from importlib.metadata import version
    return {p: version(p).split("+")[0] for p in ("transformers", "peft", "torch")}


VERSIONS = versions()
REFERENCE = " + ".join(f"{k} {v}" for k, v in VERSIONS.items())


def run(*command, first=None, env=None):
    """Runs a program and returns its seconds, peak memory in bytes, output, and when a line that contains `first` came."""
    start, marks, lines = time.monotonic(), [], []
    p = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)

    def read(stream, keep):
        for line in stream:
            if first and first in line and not marks:
                marks.append(time.monotonic() - start)
            keep.append(line)

    errors = []
    readers = [threading.Thread(target=read, args=a) for a in ((p.stdout, lines), (p.stderr, errors))]
    for r in readers:
        r.start()
    for r in readers:
        r.join()
    _, status, usage = os.wait4(p.pid, 0)
    seconds = time.monotonic() - start
    p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {p.returncode}:\n{''.join((lines + errors)[-20:])}")
    if first and not marks:
        sys.exit(f"{command[0]}: no line with {first!r}:\n{''.join(lines + errors)}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": seconds, "peak_bytes": peak, "first_step_seconds": marks[0] if marks else None}, "".join(lines)


def median(values):
    return statistics.median(values)


def say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def imported():
    """The demo's model, imported by cria, in a process of its own."""
    directory = WORK / "SmolLM2-135M-Instruct"
    if not directory.exists():
        run(sys.executable, "-c", f"import sys; sys.path.insert(0, {str(HERE)!r}); import model; model.imported()")
    return directory


def reference_job(model, recipe, dtype, steps):
    """The recipe as hf_train.py reads it."""
    before, after = recipe["prompt_template"].split("{instruction}{input}")
    return {"model": str(model), "data": str(DATASET), "dtype": dtype, "max_length": recipe["max_length"], "lora": recipe["lora"], "stop_after": steps,
            "template": {"prefix": before, "mid": after, "end": recipe["response_template"].removeprefix("{output}")},
            "args": {"per_device_train_batch_size": recipe["per_device_train_batch_size"], "gradient_accumulation_steps": recipe["gradient_accumulation_steps"],
                     "learning_rate": recipe["learning_rate"], "max_steps": recipe["max_steps"], "seed": recipe["seed"], "logging_steps": 1, "save_strategy": "no"}}


def smollm2(dtype, repeats, short, longer):
    model, recipe = imported(), yaml.safe_load(RECIPE.read_text())
    runs, tokens = {"cria": [], "reference": []}, 0
    for i in range(repeats):
        for steps in (short, longer):
            tag = f"{dtype}-{steps}-{i}"
            say(f"{dtype}, repeat {i + 1} of {repeats}, {steps} steps: reference")
            job = WORK / f"job-{tag}.json"
            job.write_text(json.dumps(reference_job(model, recipe, dtype, steps), ensure_ascii=False))
            r, _ = run(sys.executable, ROOT / "testdata/oracle/hf_train.py", job, WORK / f"reference-{tag}", first="'loss'")
            runs["reference"].append({"repeat": i, "steps": steps, **r})
            say(f"{dtype}, repeat {i + 1} of {repeats}, {steps} steps: cria")
            r, _ = run(CRIA, "train", RECIPE, f"model={model}", f"dataset={DATASET}", f"output_dir={WORK}/cria-{tag}", f"max_steps={steps}", "logging_steps=1",
                       f"compute_dtype={dtype}", first="step 1/")
            runs["cria"].append({"repeat": i, "steps": steps, **r})
        if not tokens:  # both make steps of the same rows: of all tokens, shared and padded or not, a user counts these
            rows, order = json.load(open(WORK / f"reference-{tag}/rows.json")), json.load(open(WORK / f"reference-{tag}/order.json"))
            g = recipe["gradient_accumulation_steps"]
            tokens = sum(len(rows[r]["input_ids"]) for batch in order[short * g:longer * g] for r in batch) / (longer - short)
    sides = []
    for name, title in (("cria", "cria"), ("reference", REFERENCE)):
        at = lambda steps: [r for r in runs[name] if r["steps"] == steps]
        each = [(b["seconds"] - a["seconds"]) / (longer - short) for a, b in zip(at(short), at(longer))]
        sides.append(side(name, title, each, tokens, runs[name]))
    return {"title": f"SmolLM2-135M-Instruct, the demo's recipe, {dtype}", "tokens_per_step": tokens, "sides": sides,
            "method": f"whole programs, runs of {short} and {longer} steps, {times(repeats)}, taking turns; a step is the difference of the two, divided by {longer - short}"}


def side(name, title, each, tokens, runs):
    """The figures of one side, made of the seconds a step of every repeat and of its runs."""
    step = median(each)
    first = [r["first_step_seconds"] for r in runs if r["first_step_seconds"]]
    return {"name": name, "title": title, "seconds_per_step": step, "each_seconds_per_step": each, "tokens_per_second": tokens / step,
            "peak_bytes": max(r["peak_bytes"] for r in runs), "first_step_seconds": median(first) if first else None, "runs": runs}


def times(n):
    return "once" if n == 1 else f"{n} times"


def slice_of_8b(repeats, layers, steps, tiny):
    kinds = [("reference", [], REFERENCE), ("checkpointing", ["--checkpointing"], "the same with gradient checkpointing"), ("cria", None, "cria")]
    runs = {k: [] for k, _, _ in kinds}
    for i in range(repeats):
        for name, options, _ in kinds:
            say(f"slice, repeat {i + 1} of {repeats}: {name}")
            if name == "cria":
                r, out = run(CRIA, "bench", "--shape", "llama-3.1-8b-slice", "--layers", layers, "--steps", steps, "--dtype", "bfloat16", "--json")
                report = json.loads(out)
                r.update(step_seconds=[report["step"]["first_seconds"], *report["step"]["each_seconds"]], tokens=[report["step"]["tokens"]] * steps, report=report)
            else:
                r, out = run(sys.executable, HERE / "slice_reference.py", "--layers", layers, "--steps", steps, *options, *(["--tiny"] if tiny else []))
                report = json.loads(out.splitlines()[-1])
                r.update(step_seconds=report["seconds"], tokens=report["tokens"][1:], losses=report["losses"])
            runs[name].append({"repeat": i, "steps": steps + 1, **r})
    tokens = sum(runs["reference"][0]["tokens"]) / steps
    ours = sum(runs["cria"][0]["tokens"]) / steps
    if abs(tokens - ours) > 1e-6:
        sys.exit(f"the two sides have rows of {tokens} and {ours} tokens a step")
    sides = [side(name, title, [sum(r["step_seconds"][1:]) / steps for r in runs[name]], tokens, runs[name])
             for name, _, title in sorted(kinds, key=lambda k: k[0] != "cria")]
    return {"title": f"Llama-3.1-8B's shape, {layers} of 32 layers, random weights, bfloat16", "tokens_per_step": tokens, "sides": sides,
            "method": f"{steps} steps after the first, timed one by one, {times(repeats)}, taking turns; rows of the tutorial's lengths"}


def clone():
    """Seconds of every stage from nothing to a loss. Modules come from Go's module cache, the model from its cache."""
    tree, out = WORK / "clone", {}
    env = {**os.environ, "GOCACHE": str(WORK / "clone-cache"), "CGO_ENABLED": "0"}
    say("clean clone")
    gguf = subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(HERE)!r}); import model; print(model.gguf())"],
                          check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    start = time.monotonic()
    for stage, command in (("clone", ["git", "-c", f"safe.directory={ROOT}", "-c", f"safe.directory={ROOT}/.git", "clone", "--quiet", ROOT, tree]),
                           ("build", ["go", "build", "-C", tree, "-buildvcs=false", "-o", tree / "cria", "./cmd/cria"]),
                           ("import", [tree / "cria", "import", gguf, WORK / "clone-model"])):
        out[stage + "_seconds"] = run(*command, env=env)[0]["seconds"]
    r, _ = run(tree / "cria", "train", RECIPE, f"model={WORK}/clone-model", f"dataset={DATASET}", f"output_dir={WORK}/clone-out", "max_steps=1", "logging_steps=1", first="step 1/")
    out["first_loss_seconds"] = r["first_step_seconds"]
    out["seconds"] = time.monotonic() - start - (r["seconds"] - r["first_step_seconds"])
    return out


def output(*command):
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine():
    doctor = json.loads(run(CRIA, "doctor", "--json")[1])
    git = ["git", "-c", f"safe.directory={ROOT}"]
    commit = output(*git, "rev-parse", "--short=12", "HEAD")
    if commit and output(*git, "status", "--porcelain"):
        commit += " and changes"
    return {"cpu": doctor["cpu"]["name"], "threads": doctor["cpu"]["threads"], "memory_bytes": doctor["memory"]["total"], "system": doctor["system"],
            "go": doctor["go"], "peak_gflops": doctor["peak_gflops"], "read_gbps": doctor["memory"]["bandwidth_gbps"], "commit": commit,
            "date": datetime.date.today().isoformat(), "reference": VERSIONS}


def main():
    parser = argparse.ArgumentParser(prog="bench-peers")
    parser.add_argument("--only", default=",".join(JOBS), help="some of " + ", ".join(JOBS))
    parser.add_argument("--quick", action="store_true", help="as little of each as shows that it works")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", required=True)
    a = parser.parse_args()
    wanted = a.only.split(",")
    for name in wanted:
        if name not in JOBS:
            parser.error(f"no job is called {name!r}; there are {', '.join(JOBS)}")
    repeats, short, longer, layers, steps = (1, 1, 2, 1, 1) if a.quick else (a.repeats, 2, 6, 4, 2)
    path = pathlib.Path(a.out)
    result = json.loads(path.read_text()) if path.exists() else {"jobs": {}}
    for name in wanted:
        if name == "clone":
            job = clone()
        elif name == "slice":
            job = slice_of_8b(repeats, layers, steps, a.quick)
        else:
            job = smollm2({"smollm2-bf16": "bfloat16", "smollm2-f32": "float32"}[name], repeats, short, longer)
        job["machine"] = machine()
        job["quick"] = a.quick
        if name == "clone":
            result["clone"] = job
        else:
            result["jobs"][name] = job
        result["jobs"] = {k: result["jobs"][k] for k in JOBS if k in result["jobs"]}
        path.write_text(json.dumps(result, indent=1) + "\n")  # after every job: the next may fail
        say(f"{name}: done")


if __name__ == "__main__":
    main()
