"""Makes the Parquet files of this directory: pyarrow 19.0.1, python3 parquet.py."""
import pyarrow as pa
import pyarrow.parquet as pq

alpaca = pa.table({
    "instruction": ["问", "a", "third"],
    "input": ["", None, "x"],
    "output": ["答", "b", "c"],
    "score": [0.5, 1.5, None],
})
pq.write_table(alpaca, "alpaca.parquet", compression="zstd")

message = pa.struct([
    ("role", pa.string()),
    ("content", pa.string()),
    ("tool_calls", pa.list_(pa.struct([("type", pa.string()), ("function", pa.struct([("name", pa.string()), ("arguments", pa.string())]))]))),
    ("weight", pa.int64()),
])
rows = [
    [{"role": "system", "content": "s"}, {"role": "user", "content": "u1"}, {"role": "assistant", "content": "a1", "weight": 0},
     {"role": "user", "content": "u2"}, {"role": "assistant", "content": "a2", "weight": 1}],
    [{"role": "user", "content": "weather?"},
     {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris", "days": 2}'}}]},
     {"role": "tool", "content": "sunny"}, {"role": "assistant", "content": "Sunny."}],
    [],
    None,
    [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}],
]
tools = [None, '[{"type": "function", "function": {"name": "weather"}}]', None, None, None]
table = pa.table({"messages": pa.array(rows, pa.list_(message)), "tools": pa.array(tools, pa.string()), "id": pa.array(range(5), pa.int32())})
pq.write_table(table, "messages.parquet", compression="snappy", row_group_size=2, data_page_version="2.0")

sharegpt = pa.table({"conversations": pa.array([
    [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "hi"}],
    [{"from": "human", "value": "again"}, {"from": "gpt", "value": "yes"}],
], pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())])))})
pq.write_table(sharegpt, "sharegpt.parquet", compression="gzip", use_dictionary=False)

nested = pa.table({
    "text": ["t1", "t2", "t3"],
    "lists": pa.array([[[1, 2], [], None], None, [[3]]], pa.list_(pa.list_(pa.int32()))),
    "map": pa.array([[("k", 1.5), ("l", None)], [], None], pa.map_(pa.string(), pa.float64())),
    "flag": pa.array([True, None, False]),
})
pq.write_table(nested, "nested.parquet", compression="brotli")
pq.write_table(pa.table({"text": ["t"]}), "lz4.parquet", compression="lz4")
