package train

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cria/internal/compute"
	"cria/internal/pack"
	"cria/internal/recipe"
)

// free are the keys in which a resumed run may differ: they do not change what is trained, or what they change is in the
// rows, whose hash is compared.
var free = []string{"model", "dataset", "template", "system", "prompt_template", "response_template", "append_pad_token", "max_length", "too_long", "allow",
	"adapter", "output_dir", "resume_from_checkpoint", "logging_steps", "save_steps", "save_total_limit", "eval_dataset", "eval_fraction", "eval_steps",
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
func hashRows(rows []pack.Row) string {
	h := sha256.New()
	var b []byte
	for _, r := range rows {
		b = binary.LittleEndian.AppendUint32(b[:0], uint32(len(r.IDs)))
		for i := range r.IDs {
			b = binary.LittleEndian.AppendUint32(b, uint32(r.IDs[i]))
			b = binary.LittleEndian.AppendUint32(b, uint32(r.Labels[i]))
		}
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// hashBase is the SHA-256 of the model's weight files, one hash after the other where there are several; "" if they cannot
// be read.
func hashBase(dir string) string {
	files, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	if err != nil || len(files) == 0 {
		return ""
	}
	slices.Sort(files)
	all := sha256.New()
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return ""
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return ""
		}
		if len(files) == 1 {
			return hex.EncodeToString(h.Sum(nil))
		}
		fmt.Fprintf(all, "%s %x\n", filepath.Base(name), h.Sum(nil))
	}
	return hex.EncodeToString(all.Sum(nil))
}
