"""Writes quants.gguf, quants.f32 and quants.bin: python quants.py LLAMA_CPP

quants.gguf holds, under "random", blocks of random bits and random scales of each type, and under "source" the F32 rows that
are quantised; quants.f32 the random blocks as gguf-py 0.19.0 (pip install gguf) dequantizes them, in the file's order,
little-endian float32. quants.bin holds the source rows in each type of TYPES, one type after the other: Q4_0, Q5_0, Q5_1 and
Q8_0 as gguf-py quantizes them, the K types by quantize_row_*_ref of ggml/src/ggml-quants.c in the source tree LLAMA_CPP (that
of llama-cpp-python 0.3.36), built with gcc -O1 -ffp-contract=off, without which products are fused into sums where the
processor can do that.
"""
import ctypes, pathlib, subprocess, sys, tempfile

import numpy as np
from gguf import GGMLQuantizationType as Q, GGML_QUANT_SIZES, GGUFWriter
from gguf.quants import dequantize, quantize

TYPES = [Q.Q4_0, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q4_K, Q.Q5_K, Q.Q6_K]
scales = {Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208]}  # where F16 numbers stand

rng = np.random.default_rng(2)
w = GGUFWriter("quants.gguf", "llama")
values = []
for qtype, at in scales.items():
    elements, size = GGML_QUANT_SIZES[qtype]
    n = 5 if elements == 32 else 2
    raw = rng.integers(0, 256, (3, n, size), dtype=np.uint8)
    for a in at:
        raw[..., a:a + 2] = rng.standard_normal((3, n, 1)).astype(np.float16).view(np.uint8)
    raw[0, 0, at[0]:at[0] + 2] = np.array([6e-8], np.float16).view(np.uint8)
    raw = raw.reshape(3, n * size)
    w.add_tensor(f"random.{qtype.name}", raw, raw_dtype=qtype)
    values.append(dequantize(raw, qtype).astype("<f4").ravel())

x = rng.standard_normal((12, 512)).astype(np.float32) * 0.02
x[0, 32:64] = 0                                   # a block of zeros
x[1, :256] = 0                                    # a whole K block of zeros
x[2, :256] = 1                                    # one number
x[3, :256] = np.abs(x[3, :256])                   # no negative number
x[4, :256] = -np.abs(x[4, :256])
x[5, ::37] *= 100                                 # outliers
x[6] = np.round(x[6] * 500) / 8                   # halves, whose rounding is a tie
x[7] *= 1e-6                                      # scales that are subnormal in F16
x[8] = x[8].astype(np.float16)
x[9] = rng.standard_t(2, 512) * 0.05
x[10] = (x[10].view(np.uint32) & 0xffff0000).view(np.float32)
x[11, :] = np.linspace(-1, 1, 512)
w.add_tensor("source", x)
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
np.concatenate(values).tofile("quants.f32")

src = pathlib.Path(sys.argv[1], "ggml")
with tempfile.TemporaryDirectory() as tmp:
    lib = f"{tmp}/quants.so"
    pathlib.Path(tmp, "unused.c").write_text(
        "".join(f"void {f}(void) {{}}\n" for f in ["ggml_abort", "ggml_row_size", "ggml_type_name", "ggml_type_size"]))
    subprocess.run(["gcc", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-w", f"-I{src}/include", f"-I{src}/src", "-o", lib,
                    f"{src}/src/ggml-quants.c", f"{tmp}/unused.c", "-lm"], check=True)
    c = ctypes.CDLL(lib)

    def reference(qtype):
        elements, size = GGML_QUANT_SIZES[qtype]
        out = np.zeros(x.size // elements * size, np.uint8)
        f = getattr(c, f"quantize_row_{qtype.name[0].lower() + qtype.name[1:]}_ref")
        f(x.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(x.size))
        return out

    with open("quants.bin", "wb") as f:
        for qtype in TYPES:
            ref = reference(qtype)
            if qtype.name[-1] != "K":
                py = quantize(x, qtype).ravel()
                print(qtype.name, "gguf-py and ggml differ in", int((py != ref).sum()), "bytes")
                ref = py
            f.write(ref.tobytes())
