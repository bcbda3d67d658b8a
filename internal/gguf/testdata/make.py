"""Writes small.gguf and small.f32 with gguf-py 0.19.0 (pip install gguf).

small.gguf holds every metadata type and one tensor of each type that cria reads, one that it only lists, and odd shapes.
small.f32 holds the values of the readable ones as gguf-py dequantizes them, in the file's order, little-endian float32.
"""
import numpy as np
from gguf import GGMLQuantizationType as Q, GGUFWriter
from gguf.quants import dequantize

rng = np.random.default_rng(1)
w = GGUFWriter("small.gguf", "llama")
w.add_custom_alignment(64)
w.add_uint8("t.u8", 255)
w.add_int8("t.i8", -128)
w.add_uint16("t.u16", 65535)
w.add_int16("t.i16", -32768)
w.add_uint32("t.u32", 2**32 - 1)
w.add_int32("t.i32", -2**31)
w.add_uint64("t.u64", 2**64 - 1)
w.add_int64("t.i64", -2**63)
w.add_float32("t.f32", 0.1)
w.add_float64("t.f64", 0.1)
w.add_bool("t.bool", True)
w.add_string("t.string", "grüße\0\n")
w.add_array("t.strings", ["a", "", "ccc"])
w.add_array("t.ints", [1, -2, 3])
w.add_array("t.floats", [1.5, -2.5])
w.add_array("t.bools", [True, False])

values = []
for qtype, size, scales in [(Q.F32, 4, 0), (Q.F16, 2, 0), (Q.BF16, 2, 0), (Q.Q4_0, 18, 1), (Q.Q4_1, 20, 2), (Q.Q8_0, 34, 1)]:
    if scales == 0:
        x = rng.standard_normal((3, 70)).astype(np.float32)
        if qtype == Q.F32:
            raw = x
        elif qtype == Q.F16:
            raw = x.astype(np.float16)
            raw[0, :6] = [np.inf, -np.inf, 6e-8, -5.96e-8, 0.0, -0.0]
        else:
            raw = (x.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8).reshape(3, 140)
    else:
        raw = rng.integers(0, 256, (5, 3, size), dtype=np.uint8)  # 5 rows of 3 blocks: every bit pattern of the quants
        raw[..., :2 * scales] = rng.standard_normal((5, 3, scales)).astype(np.float16).view(np.uint8)
        raw[0, 0, 0:2] = np.array([6e-8], np.float16).view(np.uint8)
        raw = raw.reshape(5, 3 * size)
    w.add_tensor(f"{qtype.name.lower()}.weight", raw, raw_dtype=qtype)
    values.append(dequantize(raw if qtype != Q.F16 else raw, qtype).astype("<f4").ravel())
x = rng.standard_normal((2, 3, 5, 7)).astype(np.float32)
w.add_tensor("four.dims", x)
values.append(x.ravel())
x = np.array([42.0], np.float32)
w.add_tensor("one", x)
values.append(x)
w.add_tensor("q6_k.weight", rng.integers(0, 256, (2, 210), dtype=np.uint8), raw_dtype=Q.Q6_K)
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
np.concatenate(values).tofile("small.f32")
