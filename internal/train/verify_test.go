package train

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// verified makes the adapter of dir again.
func verified(t *testing.T, dir string, overrides ...string) *Verification {
	t.Helper()
	was, r, err := OpenRun(dir, overrides)
	if err != nil {
		t.Fatal(err)
	}
	before := mustRead(t, filepath.Join(dir, adapterFile))
	v, err := Verify(context.Background(), dir, was, r, false, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if string(before) != string(mustRead(t, filepath.Join(dir, adapterFile))) {
		t.Error("verify wrote into the directory")
	}
	return v
}

// A run that was interrupted and resumed, with evaluation, the best checkpoint as its result and another number of threads, is
// made again with the same bytes, from its output_dir and from a checkpoint.
func TestVerify(t *testing.T) {
	dir := t.TempDir()
	over := []string{"eval_fraction=0.2", "eval_steps=2", "save_steps=2", "load_best_model_at_end=true", "threads=1"}
	ctx, stop := context.WithCancel(context.Background())
	j, err := Prepare(context.Background(), tinyRecipe(t, dir, over...), Options{OnProgress: func(p Progress) {
		if p.Step == 3 {
			stop()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	j.Run(ctx)
	j.Close()
	r := tinyRecipe(t, dir, append(over, "resume_from_checkpoint=true", "threads=2")...)
	finish(t, r, Options{})

	for _, of := range []string{r.OutputDir, filepath.Join(r.OutputDir, "checkpoint-2")} {
		v := verified(t, of, "threads=2")
		if !v.Trained || !v.Same || len(v.Inputs) > 0 || v.Adapter.Tensors == 0 || v.Adapter.Differing > 0 {
			t.Errorf("%s: %+v", of, v)
		}
	}

	// Another row: nothing is trained.
	var rows []map[string]string
	loadJSON(t, r.Dataset[0], &rows)
	rows[7]["output"] += "。"
	other := filepath.Join(t.TempDir(), "other.json")
	b, err := json.Marshal(rows)
	if err == nil {
		err = os.WriteFile(other, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	v := verified(t, r.OutputDir, "dataset="+other, "learning_rate=2e-3")
	var names []string
	for _, d := range v.Inputs {
		names = append(names, d.Name)
	}
	if v.Trained || v.Same || !slices.Equal(names, []string{"dataset rows (SHA-256)", "learning_rate"}) {
		t.Errorf("another row and rate: %q, %+v", names, v)
	}

	// A bit of the adapter.
	path := filepath.Join(r.OutputDir, adapterFile)
	a := mustRead(t, path)
	a[len(a)-3] ^= 1
	if err := os.WriteFile(path, a, 0o644); err != nil {
		t.Fatal(err)
	}
	if v := verified(t, r.OutputDir); v.Same || v.Adapter.Differing != 1 || v.Adapter.Largest == 0 || !strings.Contains(v.Adapter.Name, "lora_B") {
		t.Errorf("an altered bit: %+v", v)
	}
}

// A run that starts from an adapter records which, and a resumed one still does when the adapter is gone.
func TestVerifyGivenAdapter(t *testing.T) {
	dir := t.TempDir()
	first := tinyRecipe(t, dir)
	finish(t, first, Options{})
	given := filepath.Join(t.TempDir(), "given")
	if err := os.Rename(first.OutputDir, given); err != nil {
		t.Fatal(err)
	}
	over := []string{"adapter=" + given, "lora.lora_dropout=0.2"}
	r := tinyRecipe(t, dir, append(over, "max_steps=4")...)
	finish(t, r, Options{})
	if v := verified(t, r.OutputDir); !v.Same {
		t.Errorf("%+v", v)
	}
	was, err := ReadRunRecord(r.OutputDir)
	if err != nil || len(was.Inputs[inputAdapter]) != 64 {
		t.Fatalf("%v, %+v", err, was)
	}

	// The same with other weights in the adapter's place.
	if err := os.WriteFile(filepath.Join(given, adapterFile), mustRead(t, filepath.Join(given, "checkpoint-2", adapterFile)), 0o644); err != nil {
		t.Fatal(err)
	}
	if v := verified(t, r.OutputDir); v.Trained || len(v.Inputs) != 1 || v.Inputs[0].Name != inputAdapter {
		t.Errorf("another adapter: %+v", v)
	}

	for _, name := range []string{adapterFile, trainerStateFile} {
		if err := os.Remove(filepath.Join(r.OutputDir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(filepath.Join(r.OutputDir, "checkpoint-4")); err != nil {
		t.Fatal(err)
	}
	finish(t, tinyRecipe(t, dir, append(over, "max_steps=4", "resume_from_checkpoint=true")...), Options{})
	if is, err := ReadRunRecord(r.OutputDir); err != nil || is.Inputs[inputAdapter] != was.Inputs[inputAdapter] {
		t.Errorf("resumed: %v, %+v", err, is)
	}
}

func TestReadRunRecord(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON": "{", "another format": `{"format":2,"step":1,"steps":1}`, "no step": `{"format":1,"steps":3}`, "a step too many": `{"format":1,"step":4,"steps":3}`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, RunFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := OpenRun(dir, nil); err == nil || !strings.Contains(err.Error(), RunFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := OpenRun(t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "name the output_dir") {
		t.Errorf("no file: %v", err)
	}
}
