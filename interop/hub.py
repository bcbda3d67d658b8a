"""Downloads. The official huggingface_hub and modelscope packages take interop/fakehub for a hub, unchanged; cria and they
find what the other has put into the caches; and cria's pulls through a fault proxy, some of them killed, end with files that
are right or with an error. CRIA_INTEROP_PULLS says how many such pulls there are (40), CRIA_INTEROP_HUB_OLD names the Python
of an environment with older packages, which then download too."""
import collections
import concurrent.futures
import contextlib
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from judge import ROOT, WORK, check, finish, same

CRIA = os.environ["CRIA"]
PULLS = int(os.environ.get("CRIA_INTEROP_PULLS", "40"))
OLD = os.environ.get("CRIA_INTEROP_HUB_OLD")
FAKEHUB = WORK / "fakehub"
MODEL, DATASET = "cria-test/tiny", "cria-test/rows"

subprocess.run(["go", "build", "-o", str(FAKEHUB), "./interop/fakehub"], cwd=ROOT, check=True, env={**os.environ, "CGO_ENABLED": "0"})

# What the clients run. The last line of output is ours.
CLIENTS = {
    "hf": "import huggingface_hub as h; print(h.snapshot_download({name!r}, repo_type={kind!r}{more}))",
    "hf file": "import huggingface_hub as h; print(h.hf_hub_download({name!r}, {file!r}, repo_type={kind!r}{more}))",
    "ms": "from modelscope import snapshot_download as s; print(s({name!r}{more}))",
    "ms dataset": "from modelscope import dataset_snapshot_download as s; print(s({name!r}{more}))",
    "ms dataset old": "from modelscope.hub.snapshot_download import dataset_snapshot_download as s; print(s({name!r}{more}))",
    "ms file": "from modelscope import model_file_download as s; print(s({name!r}, {file!r}{more}))",
}


@contextlib.contextmanager
def fakehub(*flags):
    """Runs a hub and yields what it says about itself; at the end "end" has its counts."""
    p = subprocess.Popen([str(FAKEHUB), *map(str, flags)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        about = json.loads(p.stdout.readline())
        yield about
        p.stdin.close()
        about["end"] = json.loads(p.stdout.readline())
    finally:
        p.kill()
        p.wait()


def environment(home, url, **more):
    """An environment in which both hubs are at url and all caches below home."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "MODELSCOPE_", "TRANSFORMERS_", "USE_MODELSCOPE"))}
    env |= {"HOME": str(home), "HF_HOME": str(home / "hf"), "HF_ENDPOINT": url, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
            "MODELSCOPE_ENDPOINT": url, "MODELSCOPE_DOMAIN": url.split("//")[1], "MODELSCOPE_CACHE": str(home / "ms"),
            "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return env | more


def client(env, what, name, kind="model", file="", python=sys.executable, **more):
    """Runs a Python client and returns the path that it gives."""
    code = CLIENTS[what].format(name=name, kind=kind, file=file, more="".join(f", {k}={v!r}" for k, v in more.items()))
    p = subprocess.run([python, "-c", code], env=env, capture_output=True, text=True, timeout=300)
    if p.returncode != 0:
        print(p.stderr[-2000:])
        return None
    return pathlib.Path(p.stdout.strip().splitlines()[-1])


def content(directory):
    """SHA-256 of every file below a directory, without what clients note for themselves."""
    if not directory or not directory.is_dir():
        return {}
    return {p.relative_to(directory).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(directory.rglob("*"))
            if p.is_file() and p.name not in (".msc", ".mdl", ".mv") and p.relative_to(directory).parts[0] not in (".cache", ".cria", "._____temp")}


def listed(files):
    return sorted(files.items())


def home():
    return pathlib.Path(tempfile.mkdtemp(dir=WORK))


def python_clients():
    """Both packages download everything from the hub."""
    with fakehub("--page-size", 4) as hub:
        files = {name: repo["files"] for name, repo in hub["repos"].items()}
        env = environment(home(), hub["url"])
        for name, kind in ((MODEL, "model"), (DATASET, "dataset")):
            same(f"huggingface_hub.snapshot_download of a {kind}", listed(content(client(env, "hf", name, kind))), listed(files[name]))
            same("the same with local_files_only", listed(content(client(env | {"HF_ENDPOINT": "http://127.0.0.1:1"}, "hf", name, kind, local_files_only=True))), listed(files[name]))
        env = environment(home(), hub["url"])
        for name, kind in ((MODEL, "model"), (DATASET, "dataset")):
            got = {f: client(env, "hf file", name, kind, f, revision="v1.0") for f in sorted(files[name])}
            same(f"huggingface_hub.hf_hub_download of a {kind}'s files by tag", [f and hashlib.sha256(f.read_bytes()).hexdigest() for f in got.values()], [files[name][f] for f in got])
        same("modelscope.snapshot_download of a model", listed(content(client(env, "ms", MODEL))), listed(files[MODEL]))
        same("the same by tag", listed(content(client(env, "ms", MODEL, revision="v1.0"))), listed(files[MODEL]))
        same("modelscope.dataset_snapshot_download", listed(content(client(env, "ms dataset", DATASET))), listed(files[DATASET]))
        f = client(env, "ms file", MODEL, file="tokenizer.json", cache_dir=str(home()))
        check("modelscope.model_file_download", f is not None and hashlib.sha256(f.read_bytes()).hexdigest() == files[MODEL]["tokenizer.json"])
    with fakehub("--token", "secret") as hub:
        env = environment(home(), hub["url"])
        quiet = subprocess.run([sys.executable, "-c", CLIENTS["hf"].format(name=MODEL, kind="model", more="")], env=env, capture_output=True, text=True)
        check("huggingface_hub finds no private model without a token", quiet.returncode != 0 and ("404" in quiet.stderr or "401" in quiet.stderr))
        same("huggingface_hub gets it with a token", listed(content(client(env | {"HF_TOKEN": "secret"}, "hf", MODEL))), listed(files[MODEL]))
        same("modelscope too", listed(content(client(env | {"MODELSCOPE_API_TOKEN": "secret"}, "ms", MODEL))), listed(files[MODEL]))
    if not OLD:
        return
    certificate = WORK / "hub.pem"
    with fakehub("--tls", certificate) as hub:  # modelscope 1.16 knows https alone
        env = environment(home(), hub["url"], REQUESTS_CA_BUNDLE=str(certificate), SSL_CERT_FILE=str(certificate))
        for name, kind, ms in ((MODEL, "model", "ms"), (DATASET, "dataset", "ms dataset old")):
            same(f"older huggingface_hub.snapshot_download of a {kind}", listed(content(client(env, "hf", name, kind, python=OLD))), listed(files[name]))
            want = {f: h for f, h in files[name].items() if kind == "dataset" or f != ".gitattributes"}
            same(f"older modelscope's of a {kind}", listed(content(client(env, ms, name, python=OLD))), listed(want))


def cria(env, *args):
    """Runs cria pull and returns its directory and exit code."""
    p = subprocess.run([CRIA, "pull", "--json", *args], env=env, capture_output=True, text=True, timeout=300)
    if p.returncode != 0:
        print(p.stderr[-2000:])
        return None
    return pathlib.Path(json.loads(p.stdout)["dir"])


NOWHERE = "http://127.0.0.1:1"


def offline(env, *args):
    """Lets cria take what is in the caches."""
    return cria(env | {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": NOWHERE, "MODELSCOPE_ENDPOINT": NOWHERE}, *args)


def used(repo):
    """The files that cria fetches: those at the top of a model that it reads, and a dataset's."""
    return {f: h for f, h in repo["files"].items() if repo["kind"] == "dataset" or "/" not in f and f.endswith((".json", ".safetensors"))}


def both_ways():
    """cria and the Python clients find each other's downloads in the caches."""
    with fakehub("--page-size", 4) as hub:
        repos = hub["repos"]
        env = environment(home(), hub["url"])
        nowhere = env | {"HF_ENDPOINT": NOWHERE, "MODELSCOPE_ENDPOINT": NOWHERE, "MODELSCOPE_DOMAIN": NOWHERE.split("//")[1]}
        for name, flags in ((MODEL, ()), (DATASET, ("--dataset",))):
            kind, want = repos[name]["kind"], listed(used(repos[name]))
            at = cria(env, "hf:" + name, *flags)
            same(f"cria pull hf: of a {kind}", listed(content(at)), want)
            got = {f: client(nowhere, "hf file", name, kind, f, local_files_only=True) for f, _ in want}
            same("hf_hub_download finds each file, offline", [(f, p and hashlib.sha256(p.read_bytes()).hexdigest()) for f, p in got.items()], want)
            check("snapshot_download finds the same directory, offline", client(nowhere, "hf", name, kind, local_files_only=True) == at)
            at = cria(env, "ms:" + name, *flags)
            same(f"cria pull ms: of a {kind}", listed(content(at)), want)
            check("modelscope finds the same directory, offline", client(nowhere, "ms", name, repo_type=kind, local_files_only=True) == at)
            check("cria finds both, offline", offline(env, "ms:" + name, *flags) == at and offline(env, "hf:" + name, *flags) is not None)
    before = hub["end"]["bytes"]
    with fakehub() as hub:
        env = environment(home(), hub["url"])
        size = 0
        for name, flags, ms in ((MODEL, (), "ms"), (DATASET, ("--dataset",), "ms dataset")):
            hf, path = client(env, "hf", name, repos[name]["kind"]), client(env, ms, name)
            size += 2 * sum(p.stat().st_size for p in hf.rglob("*") if p.is_file())
            check(f"cria takes huggingface_hub's {repos[name]['kind']}, offline", offline(env, "hf:" + name, *flags) == hf)
            if name == MODEL:  # of a dataset modelscope notes nowhere whether it is whole
                check("cria takes modelscope's model, offline", offline(env, "ms:" + name) == path)
            check("cria takes both from the hub's word", cria(env, "hf:" + name, *flags) == hf and cria(env, "ms:" + name, *flags) == path)
    sent = hub["end"]["bytes"]
    check("and fetches no file again", sent < size + 100e3, f"{sent} bytes sent for files of {size}")
    check("while it fetches every file that is not there", before > 8e6, f"{before} bytes sent")
    if not OLD:
        return
    certificate = WORK / "hub.pem"
    with fakehub("--tls", certificate) as hub:
        env = environment(home(), hub["url"], REQUESTS_CA_BUNDLE=str(certificate), SSL_CERT_FILE=str(certificate))
        hf, ms = client(env, "hf", MODEL, python=OLD), client(env, "ms", MODEL, python=OLD)
        check("cria takes an older huggingface_hub's model, offline", hf is not None and offline(env, "hf:" + MODEL) == hf)
        check("cria takes an older modelscope's model, offline", ms is not None and offline(env, "ms:" + MODEL) == ms)


def wrong(root, repo):
    """Files below root that have a repository file's name, or a blob's, and not its content."""
    bad = []
    for place in [*root.glob("**/snapshots/*"), root / "to"]:
        bad += [f for f, h in content(place).items() if repo["files"].get(f) != h]
    for blob in root.glob("**/blobs/*"):
        data = blob.read_bytes()
        if blob.name not in (hashlib.sha256(data).hexdigest(), hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()):
            bad.append(blob.name)
    return bad


def pull(seed):
    """One pull through a proxy with this seed, killed some times; returns how it ended and what was wrong."""
    rng = random.Random(seed)
    slow = seed % 20 == 0  # answers hang for longer than cria waits
    rate, kills = rng.choice((0.05, 0.1, 0.2, 0.3, 0.5)), rng.choice((0, 0, 1, 2, 4))
    flags = ["--size", rng.choice((1 << 20, 6 << 20, 24 << 20)), "--page-size", rng.choice((3, 1000)), "--seed", seed, "--stall", "45s" if slow else "2s",
             "--faults", 0.1 if slow else rate, *(["--kinds", "stall"] if slow else []), *(["--throttle", 4 << 20] if kills else [])]
    name, more = rng.choice(((MODEL, ()), (MODEL, ()), (DATASET, ("--dataset",))))
    root = home()
    args = [CRIA, "pull", "--json", "--source", rng.choice(("hf", "ms")), *more, *rng.choice(((), ("--to", str(root / "to")))), name]
    out, errors = collections.Counter(pulls=1), []

    def judge(code, stdout, stderr):
        bad = wrong(root, repo)
        if bad:
            errors.append(f"wrong content: {bad[:3]}")
        if code == 0:
            out["verified"] += 1
            missing = dict(used(repo).items() - content(pathlib.Path(json.loads(stdout)["dir"])).items())
            if missing:
                errors.append(f"success without {sorted(missing)[:3]}")
        elif code > 0:
            out["failed loudly"] += 1
            if "error: " not in stderr or "goroutine" in stderr:
                errors.append(f"exit code {code} with the message {stderr[-300:]!r}")
            elif len(samples) < 300:
                samples.append(stderr.strip().splitlines()[-1])
        return code == 0

    def run(env):
        try:
            p = subprocess.run(args, env=env, capture_output=True, text=True, timeout=400)
        except subprocess.TimeoutExpired:
            errors.append("no end after 400 s")
            return False
        if p.returncode < 0:
            errors.append(f"ended by signal {-p.returncode}")
        return judge(p.returncode, p.stdout, p.stderr)

    with fakehub(*flags) as hub:
        repo = hub["repos"][name]
        faulty = environment(root, hub["proxy"])
        for _ in range(kills):
            p = subprocess.Popen(args, env=faulty, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            try:
                stdout, stderr = p.communicate(timeout=rng.uniform(0.02, 1.5))
                judge(p.returncode, stdout, stderr)
            except subprocess.TimeoutExpired:
                p.send_signal(signal.SIGKILL)
                p.communicate()
                out["killed"] += 1
                if wrong(root, repo):
                    errors.append("wrong content after a kill")
        whole = run(faulty)
        if not whole:  # what is left must not be in the way
            out["verified without the proxy"] += 1
            if not run(environment(root, hub["url"])):
                errors.append("the next pull, without faults, failed too")
    left = [p.name for p in root.rglob("*") if p.suffix in (".part", ".journal", ".tmp")]
    if left:
        errors.append(f"left behind: {left[:3]}")
    shutil.rmtree(root)
    for kind, n in hub["end"].get("injected", {}).items():
        out["fault " + kind] += n
    return out, [f"seed {seed} ({' '.join(map(str, flags))}; {' '.join(args[1:])}): {e}" for e in errors]


def storm():
    """Seeded pulls through the fault proxy."""
    total, start, bad = collections.Counter(), time.monotonic(), []
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for out, errors in pool.map(pull, range(1, PULLS + 1)):
            total += out
            bad += errors
            for e in errors:
                print("     ", e, flush=True)
    faults = {k.removeprefix("fault "): n for k, n in sorted(total.items()) if k.startswith("fault ")}
    print(f"      {PULLS} pulls in {time.monotonic() - start:.0f} s; faults: " + ", ".join(f"{k} {n}" for k, n in faults.items()))
    for message in random.Random(1).sample(samples, min(4, len(samples))):
        print("      failed with:", message[:300])
    check("pulls through the fault proxy end with the right files or with an error", not bad, f"{total['verified']} verified, {total['failed loudly']} failed loudly,"
          f" {total['killed']} killed; {total['verified without the proxy']} went on without the proxy")
    check("each kind of fault was there", len(faults) == 18 or PULLS < 100, f"{len(faults)} kinds, {sum(faults.values())} faults")


def resume():
    """A pull that is killed again and again gets on, and fetches hardly anything twice."""
    with fakehub("--size", 24 << 20, "--throttle", 4 << 20) as hub:
        root, kills = home(), 0
        env = environment(root, hub["url"])
        while kills < 100:
            p = subprocess.Popen([CRIA, "pull", MODEL], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                p.wait(timeout=0.4)
                break
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
                kills += 1
        at, want = cria(env, MODEL), used(hub["repos"][MODEL])
        same(f"a pull that was killed {kills} times", listed(content(at)), listed(want))
        size = sum(p.stat().st_size for p in at.iterdir())
    extra = (hub["end"]["bytes"] - size) / max(1, kills)
    check("loses less than a megabyte with each kill", kills > 2 and extra < 1e6, f"{extra / 1e3:.0f} kB")


samples = []
for part in sys.argv[1:] or ("python_clients", "both_ways", "resume", "storm"):
    globals()[part]()
finish()
