package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cria/internal/recipe"
)

const axolotlRecipe = `base_model: org/llama
adapter: lora
lora_r: 8
lora_alpha: 16
lora_target_linear: true
learning_rate: 1e-4
datasets: [{path: rows.jsonl, type: chat_template}]
flash_attention: true
`

func criaParts(t testing.TB, args ...string) (code int, out, errOut string) {
	r := cria(t, args...)
	return r.code, r.out, r.err
}

func TestImportRecipe(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("axolotl.yaml", []byte(axolotlRecipe), 0o644); err != nil {
		t.Fatal(err)
	}

	code, out, errOut := criaParts(t, "import-recipe", "axolotl.yaml")
	if code != 0 || !strings.Contains(out, "learning_rate: 0.0001\n") || strings.Contains(out, "flash_attention") {
		t.Errorf("code %d, recipe\n%s", code, out)
	}
	if !strings.Contains(errOut, "read as a recipe of axolotl (base_model") || !strings.Contains(errOut, "flash_attention") {
		t.Errorf("notes\n%s", errOut)
	}

	code, none, errOut := criaParts(t, "import-recipe", "axolotl.yaml", "-o", "recipe.yaml")
	written, err := os.ReadFile("recipe.yaml")
	if code != 0 || err != nil || string(written) != out || none != "" || !strings.Contains(errOut, "cria data recipe.yaml") {
		t.Errorf("code %d, %v, standard output %q, notes\n%s", code, err, none, errOut)
	}
	if r, err := recipe.Load("recipe.yaml", nil); err != nil || r.Model != "org/llama" {
		t.Errorf("%v", err)
	}

	if code, _, errOut := criaParts(t, "import-recipe", "axolotl.yaml", "-o", "recipe.yaml"); code != exitUsage || !strings.Contains(errOut, "exists already") {
		t.Errorf("code %d: %s", code, errOut)
	}
	if code, _, errOut := criaParts(t, "import-recipe", "axolotl.yaml", "--output", "recipe.yaml", "--force"); code != 0 {
		t.Errorf("code %d: %s", code, errOut)
	}
	if left, _ := filepath.Glob("*"); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}

// TestImportRecipeLayers: mlx-lm counts layers from the last, and the model on the disk says how many it has.
func TestImportRecipeLayers(t *testing.T) {
	dir := t.TempDir()
	config := `{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2,
		"num_hidden_layers": 20, "vocab_size": 16, "rms_norm_eps": 1e-5, "max_position_embeddings": 16, "hidden_act": "silu"}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "mlx.yaml")
	if err := os.WriteFile(file, []byte("model: "+dir+"\ndata: rows\niters: 10\nnum_layers: 2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, out, errOut := criaParts(t, "import-recipe", file); code != 0 || !strings.Contains(out, "layers_to_transform: [18, 19]") {
		t.Errorf("code %d: %s\n%s", code, out, errOut)
	}
}

func TestImportRecipeMissing(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("args.json", []byte(`{"learning_rate": 0.0001, "packing": false, "max_length": 512, "completion_only_loss": true}`), 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, errOut := criaParts(t, "import-recipe", "args.json", "-o", "recipe.yaml")
	if code != 0 || !strings.Contains(errOut, "names no model and no dataset") || !strings.Contains(errOut, "cria data recipe.yaml model=... dataset=...") {
		t.Errorf("code %d: %s", code, errOut)
	}
}

func TestImportRecipeRefuses(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, content := range map[string]string{
		"axolotl.yaml": axolotlRecipe, "full.yaml": "stage: sft\nfinetuning_type: full\n", "list.yaml": "- a\n", "plain.yaml": "learning_rate: 1e-4\n",
		"terminal.yaml": "stage: \"\\e[31m\"\n", "large.yaml": strings.Repeat("#", 1<<20+1),
	} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args string
		want string
	}{
		{"", "name the recipe"},
		{"a b", "name the recipe"},
		{"none.yaml", "none.yaml"},
		{".", "is a directory"},
		{"axolotl.yaml --from peft", "--from peft: one of auto, llamafactory, axolotl, mlx, trl"},
		{"axolotl.yaml --force", "--force is for --output"},
		{"axolotl.yaml -o .", "is a directory; name a file"},
		{"full.yaml -o new.yaml", "full.yaml:2:18: finetuning_type: cria trains LoRA adapters only"},
		{"list.yaml", "list.yaml:1:1: a recipe is a mapping"},
		{"plain.yaml", "say which tool's recipe this is with --from"},
		{"terminal.yaml", `\x1b[31m`},
		{"large.yaml", "is larger than 1 MiB"},
	} {
		code, out, errOut := criaParts(t, append([]string{"import-recipe"}, strings.Fields(c.args)...)...)
		if code != exitUsage || out != "" || !strings.Contains(errOut, c.want) || strings.Contains(errOut, "\x1b") {
			t.Errorf("%s: code %d, %q, %s\nwant %s", c.args, code, out, errOut, c.want)
		}
	}
	if _, err := os.Stat("new.yaml"); err == nil {
		t.Error("a refused recipe was written")
	}
}
