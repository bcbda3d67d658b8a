#!/bin/sh
# The commands of docs/tutorial.md with SmolLM2-135M-Instruct, in a directory that holds the files of examples/huanhuan:
#
#     sh .../examples/tutorial/smollm2.sh [key=value ...]
#
# Keys change the recipe: max_steps=2 is enough to see that everything works.
set -eux
cria pull HuggingFaceTB/SmolLM2-135M-Instruct --to ./SmolLM2-135M-Instruct
cria inspect ./SmolLM2-135M-Instruct
cria inspect huanhuan.json
cria data smollm2.yaml --rows 2 "$@"
cria tokenize ./SmolLM2-135M-Instruct '你是谁？'
cria plan smollm2.yaml "$@"
cria generate ./SmolLM2-135M-Instruct --recipe smollm2.yaml --prompt '你是谁？' --greedy --max-new-tokens 64
cria train smollm2.yaml "$@"
cria inspect output
cria generate ./SmolLM2-135M-Instruct --adapter output --prompt '你是谁？' --greedy --max-new-tokens 64
echo '娘娘，外面下雪了。' | cria chat ./SmolLM2-135M-Instruct --adapter output --greedy --max-new-tokens 64
cria merge --adapter output --output merged
cria generate ./merged --system '现在你要扮演皇帝身边的女人--甄嬛' --prompt '你是谁？' --greedy --max-new-tokens 64
cria export --adapter output --format gguf --type Q8_0 --output huanhuan.gguf
