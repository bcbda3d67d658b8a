// Package huanhuan carries the dialogues of 甄嬛 (Zhen Huan) and a recipe that trains SmolLM2-135M-Instruct on them.
//
// huanhuan.json is from the tutorial collection self-llm by datawhalechina (Apache License 2.0).
package huanhuan

import _ "embed"

// Dataset is huanhuan.json: 3,729 rows {"instruction", "input", "output"}.
//
//go:embed huanhuan.json
var Dataset []byte

// Recipe is smollm2.yaml, the demo's recipe.
//
//go:embed smollm2.yaml
var Recipe []byte
