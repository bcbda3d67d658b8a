"""Writes inv_freq.json: rotary frequencies as transformers 4.43.2 and torch 2.8.0 compute them, as float32 bit patterns.

    python inv_freq.py > inv_freq.json
"""
import json
import struct

from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS


def llama3(factor, original=8192, low=1.0, high=4.0):
    return {"rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
            "original_max_position_embeddings": original}


cases = [
    (4096, 32, 10000.0, None),
    (576, 9, 100000.0, None),
    (576, 9, 10000.0, None),
    (128, 8, 500000.0, None),
    (96, 12, 10000.0, None),
    (2048, 32, 500000.0, None),
    (6, 1, 10000.0, None),
    (66, 3, 1000000.0, None),
    (4096, 32, 500000.0, llama3(8.0)),
    (2048, 32, 500000.0, llama3(32.0)),
    (128, 8, 500000.0, llama3(8.0, 64)),
    (4096, 32, 500000.0, llama3(16.0, 4096, 1.5, 3.7)),
    (4096, 32, 10000.0, {"rope_type": "linear", "factor": 4.0}),
    (4096, 32, 10000.0, {"rope_type": "linear", "factor": 2.5}),
]
lines = []
for hidden, heads, theta, scaling in cases:
    config = LlamaConfig(hidden_size=hidden, num_attention_heads=heads, rope_theta=theta,
                         rope_scaling=dict(scaling) if scaling else None, max_position_embeddings=131072)
    freq, _ = ROPE_INIT_FUNCTIONS[scaling["rope_type"] if scaling else "default"](config, "cpu")
    bits = [struct.unpack("<I", struct.pack("<f", f))[0] for f in freq.tolist()]
    lines.append(json.dumps({"head_dim": hidden // heads, "rope_theta": theta, "rope_scaling": scaling, "bits": bits}))
print("[\n" + ",\n".join(lines) + "\n]")
