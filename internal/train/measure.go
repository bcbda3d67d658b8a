package train

import (
	"context"

	"cria/internal/data"
	"cria/internal/llama"
	"cria/internal/pack"
	"cria/internal/recipe"
	"cria/internal/safetensors"
)

// Synthetic makes a job for measuring (Options.Measure must be set) of a model and rows that are in memory, with the memory
// plan of a run; of the recipe everything counts but what says where model and rows come from. The weights belong to the
// caller and must stay open until Close.
func Synthetic(ctx context.Context, r *recipe.Recipe, cfg *llama.Config, weights *safetensors.File, rows []pack.Row, o Options) (*Job, error) {
	if err := supported(r); err != nil {
		return nil, err
	}
	j := &Job{Recipe: r, baseHash: func() string { return "" }}
	if err := j.assemble(ctx, material{cfg: cfg, weights: weights, rows: data.InMemory(rows)}, o); err != nil {
		j.Close()
		return nil, err
	}
	return j, nil
}

// Advance makes one optimizer step and saves nothing: Run without files, for measuring.
func (l *Loop) Advance() (*Progress, error) { return l.trainStep() }
