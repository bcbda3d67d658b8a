package train

import (
	"context"
	"testing"
)

// A step allocates nothing that grows with the model: what is left are the step's trie and passes, and the closures of
// parallel loops.
func TestStepAllocatesLittle(t *testing.T) {
	j, err := Prepare(context.Background(), tinyRecipe(t, t.TempDir(), "num_train_epochs=100", "logging_steps=1000000"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	step := func() {
		if _, err := j.trainStep(); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 { // scratch buffers grow to the largest step, weights are packed
		step()
	}
	t.Logf("%.0f allocations a step", testing.AllocsPerRun(50, step))
}

func BenchmarkTinyStep(b *testing.B) {
	j, err := Prepare(context.Background(), tinyRecipe(b, b.TempDir(), "num_train_epochs=100000", "logging_steps=1000000", "max_steps=100000"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	for range 20 {
		j.trainStep()
	}
	b.ReportAllocs()
	for b.Loop() {
		j.trainStep()
	}
}
