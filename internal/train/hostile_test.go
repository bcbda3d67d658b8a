package train

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file that somebody put into a checkpoint (a note, .DS_Store) does not make it unfit: resuming goes on from there.
func TestResumeWithAnAddedFile(t *testing.T) {
	dir := t.TempDir()
	r := tinyRecipe(t, dir, "max_steps=4")
	want := finish(t, r, Options{})
	if err := os.RemoveAll(filepath.Join(r.OutputDir, "checkpoint-4")); err != nil {
		t.Fatal(err)
	}
	two := filepath.Join(r.OutputDir, "checkpoint-2")
	if err := os.WriteFile(filepath.Join(two, "notes.txt"), []byte("good so far"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{"true", two} {
		j, err := Prepare(context.Background(), tinyRecipe(t, dir, "max_steps=4", "resume_from_checkpoint="+from), Options{})
		if err != nil {
			t.Fatal(err)
		}
		j.Close()
		if j.Resumed != two {
			t.Errorf("resume_from_checkpoint=%s goes on from %q", from, j.Resumed)
		}
	}
	if got := finish(t, tinyRecipe(t, dir, "max_steps=4", "resume_from_checkpoint=true"), Options{}); got != want {
		t.Error("other bits than the uninterrupted run")
	}
}

// A run that began from an adapter goes on with it, and another one without; where the adapter lies does not matter then.
func TestResumeKnowsOfTheAdapter(t *testing.T) {
	dir := t.TempDir()
	base := tinyRecipe(t, dir, "max_steps=2")
	finish(t, base, Options{})
	next := []string{"max_steps=4", "save_steps=2", "output_dir=" + filepath.Join(dir, "next")}
	finish(t, tinyRecipe(t, dir, append(next, "adapter="+base.OutputDir)...), Options{})
	next = append(next, "resume_from_checkpoint="+filepath.Join(dir, "next", "checkpoint-2"))
	for adapter, want := range map[string]string{"": "adapter was given, is now not given", "/no/such/adapter": ""} {
		r := next
		if adapter != "" {
			r = append(r, "adapter="+adapter)
		}
		j, err := Prepare(context.Background(), tinyRecipe(t, dir, r...), Options{})
		switch {
		case err == nil:
			j.Close()
			if want != "" {
				t.Errorf("adapter %q: accepted", adapter)
			}
		case want == "" || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "lora."):
			t.Errorf("adapter %q: %v", adapter, err)
		}
	}
}

// Rows that all lose their reply train nothing, whatever is allowed.
func TestNothingToTrain(t *testing.T) {
	dir := t.TempDir()
	_, err := Prepare(context.Background(), tinyRecipe(t, dir, "max_length=1", "allow=[unlabelled_rows,cut_rows,untrained_end]"), Options{})
	if err == nil || !strings.Contains(err.Error(), "max_length") {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
		t.Error("output_dir was made")
	}
}

// Looking for the largest of a billion steps can be interrupted.
func TestPlanningIsInterruptible(t *testing.T) {
	j, err := Prepare(context.Background(), tinyRecipe(t, t.TempDir(), "max_steps=4"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := j.survey(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
