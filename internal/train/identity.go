package train

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"

	"cria/internal/adapter"
	"cria/internal/compute"
	"cria/internal/data"
	"cria/internal/recipe"
)

// free are the keys in which a resumed run may differ: they do not change what is trained, or what they change is in the
// rows, whose hash is compared.
var free = []string{"model", "source", "dataset", "format", "columns", "max_samples", "template", "train_on", "system", "prompt_template", "response_template", "append_pad_token", "max_length", "too_long", "max_cut_share", "allow",
	"adapter", "output_dir", "resume_from_checkpoint", "logging_steps", "save_steps", "save_total_limit", "eval_dataset", "eval_fraction", "eval_steps", "per_device_eval_batch_size",
	"load_best_model_at_end", "metric_for_best_model", "greater_is_better", "early_stopping_patience", "early_stopping_threshold", "report_to", "sample_prompts", "sample_max_new_tokens",
	"compute_dtype", "gradient_checkpointing", "max_memory", "threads", "device"}

// identity is what makes a run the same run.
func identity(r *recipe.Recipe, dtype compute.DType, rows, base string) map[string]string {
	id := map[string]string{"dataset rows (SHA-256)": rows, "base model (SHA-256)": base, "compute_dtype": string(dtype)}
	id["adapter"] = map[bool]string{true: "given", false: "not given"}[r.Adapter != ""] // then lora is the adapter's
	group := ""
	for line := range strings.Lines(string(r.Resolved())) {
		key, value, ok := strings.Cut(strings.TrimRight(line, "\n"), ":")
		if !ok || strings.HasPrefix(key, "#") {
			continue
		}
		name := strings.TrimSpace(key)
		if name == key {
			group = ""
			if strings.TrimSpace(value) == "" {
				group = name + "."
				continue
			}
		}
		if name = group + name; !slices.Contains(free, name) {
			id[name] = strings.TrimSpace(value)
		}
	}
	return id
}

// hashRows is the SHA-256 of all ids and labels: of the dataset as the model sees it.
func hashRows(rows data.Rows) string {
	h := sha256.New()
	var b []byte
	for i := range rows.Len() {
		r := rows.Row(i)
		b = binary.LittleEndian.AppendUint32(b[:0], uint32(len(r.IDs)))
		for i := range r.IDs {
			b = binary.LittleEndian.AppendUint32(b, uint32(r.IDs[i]))
			b = binary.LittleEndian.AppendUint32(b, uint32(r.Labels[i]))
		}
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// hashBase is adapter.HashBase, "" if the weights cannot be read.
func hashBase(dir string) string {
	h, err := adapter.HashBase(context.Background(), dir, nil)
	if err != nil {
		return ""
	}
	return h
}
