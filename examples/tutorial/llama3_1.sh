#!/bin/sh
# The commands of docs/tutorial.md with Llama-3.1-8B-Instruct, in a directory that holds the files of examples/huanhuan:
#
#     sh .../examples/tutorial/llama3_1.sh [key=value ...]
#
# 16 GB are downloaded. cria plan says how long this machine trains.
set -eux
cria pull ms:LLM-Research/Meta-Llama-3.1-8B-Instruct --to ./Meta-Llama-3.1-8B-Instruct
cria inspect ./Meta-Llama-3.1-8B-Instruct
cria data llama3_1.yaml --rows 1 "$@"
cria plan llama3_1.yaml "$@"
cria train llama3_1.yaml "$@"
cria generate ./Meta-Llama-3.1-8B-Instruct --adapter output/llama3_1_instruct_lora --prompt '你是谁？'
cria chat ./Meta-Llama-3.1-8B-Instruct --adapter output/llama3_1_instruct_lora
