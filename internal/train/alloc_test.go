package train

import (
	"context"
	"runtime"
	"testing"

	"cria/internal/llama"
	"cria/internal/pack"
)

// A step allocates only its trie and passes (pure integers).
func TestStepAllocatesLittle(t *testing.T) {
	j, err := Prepare(context.Background(), tinyRecipe(t, t.TempDir(), "num_train_epochs=100", "logging_steps=1000000"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	const warm, steps = 24, 48 // scratch grows to the largest step, weights are packed
	var before, after runtime.MemStats
	for i := range warm + steps {
		if i == warm {
			runtime.ReadMemStats(&before)
		}
		if _, err := j.trainStep(); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	objects, bytes := (after.Mallocs-before.Mallocs)/steps, (after.TotalAlloc-before.TotalAlloc)/steps
	t.Logf("%d objects of together %d bytes a step", objects, bytes)
	if rowBytes := uint64(j.Model.Activations(llama.Shape{Stack: pack.Stack{Rows: 1}}).Sum()); objects > 100 || bytes > 64*rowBytes {
		t.Errorf("a step allocates %d objects of together %d bytes, the activations of a row take %d", objects, bytes, rowBytes)
	}
}
