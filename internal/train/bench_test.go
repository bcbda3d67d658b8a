package train

import (
	"context"
	"fmt"
	"os"
	"testing"

	"cria/internal/recipe"
)

// BenchmarkSmolLM2 trains steps of the demo's job; tokens/s counts real tokens, shared or not.
func BenchmarkSmolLM2(b *testing.B) {
	for _, dtype := range []string{"bfloat16", "float32"} {
		b.Run(dtype, func(b *testing.B) {
			dir := b.TempDir()
			base, err := os.ReadFile("../../examples/huanhuan/smollm2.yaml")
			if err != nil {
				b.Fatal(err)
			}
			path := dir + "/recipe.yaml"
			if err := os.WriteFile(path, base, 0o644); err != nil {
				b.Fatal(err)
			}
			r, err := recipe.Load(path, []string{"model=" + testmodel(b), "dataset=../../examples/huanhuan/huanhuan.json", "output_dir=" + dir + "/out", "compute_dtype=" + dtype, fmt.Sprint("max_steps=", b.N+2)})
			if err != nil {
				b.Fatal(err)
			}
			j, err := Prepare(context.Background(), r, Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer j.Close()
			if _, err := j.trainStep(); err != nil { // packs the weights
				b.Fatal(err)
			}
			first := j.tokens
			b.ResetTimer()
			for range b.N {
				if _, err := j.trainStep(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(j.tokens-first)/b.Elapsed().Seconds(), "tokens/s")
			b.ReportMetric(float64(j.tokens-first)/float64(b.N), "tokens/step")
		})
	}
}
