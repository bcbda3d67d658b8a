package cria_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"cria"
)

// Train a LoRA adapter on one dialogue, and ask the result.
func Example() {
	dir, err := os.MkdirTemp("", "cria")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	data, out := filepath.Join(dir, "rows.jsonl"), filepath.Join(dir, "adapter")
	row := `{"instruction": "你是谁？", "output": "我是甄嬛。"}`
	if err := os.WriteFile(data, []byte(row), 0o644); err != nil {
		panic(err)
	}
	ctx := context.Background()
	res, err := cria.Train(ctx, "", cria.TrainOptions{}, "model=testdata/golden/tiny-llama", "dataset="+data, "output_dir="+out, "template=prompt",
		"prompt_template=<|start_header_id|>user<|end_header_id|>\n\n{instruction}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
		"response_template={output}<|eot_id|>", "lora.target_modules=all-linear", "lora.lora_alpha=32", "learning_rate=1e-2", "max_steps=40")
	if err != nil {
		panic(err)
	}
	m, err := cria.Load("testdata/golden/tiny-llama", res.Dir)
	if err != nil {
		panic(err)
	}
	defer m.Close()
	answer, err := m.Generate(ctx, "你是谁？", cria.GenerateOptions{})
	if err != nil {
		panic(err)
	}
	fmt.Println(res.Steps, answer)
	// Output: 40 我是甄嬛。
}
