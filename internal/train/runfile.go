package train

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"sync"

	"cria/internal/adapter"
	"cria/internal/data"
	"cria/internal/disk"
)

// RunFile lies beside every adapter and says what it was made of, as RunRecord. It has no time in it: the same run writes the
// same bytes.
const RunFile = "run.json"

// RunRecord is what an adapter was made of: enough to make it again, and to see what is not the same when it is tried.
type RunRecord struct {
	Format int `json:"format"`
	Step   int `json:"step"`  // after which the adapter was written
	Steps  int `json:"steps"` // of the whole run

	// Inputs are what the adapter's bytes follow from, on the same kind of CPU: hashes of what was read, and the keys of the
	// recipe that change what is trained.
	Inputs map[string]string `json:"inputs"`

	RecipeSHA256 string    `json:"recipe_sha256"` // of recipe.yaml, which lies beside this file
	Data         []RunData `json:"data"`
	Eval         []RunData `json:"eval_data,omitempty"`
	Program      Program   `json:"program"`
	Machine      Machine   `json:"machine"`
}

// RunData is a file of rows.
type RunData struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Rows   int    `json:"rows"`
}

// Program is the cria that trained.
type Program struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	SHA256  string `json:"sha256"` // of the executable; "" where it cannot be read
}

// Machine is where it trained.
type Machine struct {
	OS        string `json:"os"`
	Arch      string `json:"arch"`
	Processor string `json:"processor,omitempty"`
	Kernels   string `json:"kernels"` // what bits depend on
	Threads   int    `json:"threads"` // what they do not depend on
}

const runFormat = 1

// Names of inputs beside the recipe's keys (see identity).
const (
	inputAdapter   = "initial adapter (SHA-256)"
	inputConfig    = "config.json (SHA-256)"
	inputOrder     = "row order (SHA-256)"
	inputTemplate  = "template (SHA-256)"
	inputTokenizer = "tokenizer (SHA-256)"
)

// record is the job's RunRecord but for the step. It is made once, when the first checkpoint is written.
func (j *Job) record(c *Config) func() RunRecord {
	return sync.OnceValue(func() RunRecord {
		r := j.Recipe
		in := c.Identity()
		in[inputConfig] = hashFiles(filepath.Join(j.Data.ModelDir, "config.json"))
		in[inputTokenizer] = hashFiles(c.TokenizerFiles...)
		in[inputTemplate] = hashTexts(r.Template, r.TrainOn, r.System, r.PromptTemplate, r.ResponseTemplate, fmt.Sprint(r.AppendPadToken), j.Data.Tokenizer.Config().ChatTemplate)
		in[inputOrder] = hashOrder(c.Steps)
		if r.Adapter != "" {
			in[inputAdapter] = j.initial
		}
		rec := RunRecord{Format: runFormat, Steps: c.Steps.Len(), Inputs: in, RecipeSHA256: hashTexts(string(c.Recipe)), Data: runData(j.Report.Files),
			Program: Program{Version(), runtime.Version(), data.Program()},
			Machine: Machine{runtime.GOOS, runtime.GOARCH, j.cpu, j.Model.Backend().Name(), j.Threads}}
		if e := j.Data.EvalReport; e != nil {
			rec.Eval = runData(e.Files)
		}
		return rec
	})
}

// noteInitial keeps the hash of the adapter that the run starts from; a resumed run has it from its checkpoint.
func (j *Job) noteInitial(dir, checkpoint string) {
	if checkpoint == "" {
		j.initial = hashFiles(filepath.Join(dir, adapter.TensorsName))
	} else if was, err := ReadRunRecord(checkpoint); err == nil {
		j.initial = was.Inputs[inputAdapter]
	}
}

// ReadRunRecord reads run.json of an adapter's directory.
func ReadRunRecord(dir string) (*RunRecord, error) {
	var r RunRecord
	if err := readJSON(filepath.Join(dir, RunFile), &r); err != nil {
		return nil, err
	}
	if r.Format != runFormat {
		return nil, fmt.Errorf("%s was written by another version of cria (format %d, this one reads %d)", filepath.Join(dir, RunFile), r.Format, runFormat)
	}
	if r.Step < 1 || r.Step > r.Steps {
		return nil, fmt.Errorf("%s names step %d of %d", filepath.Join(dir, RunFile), r.Step, r.Steps)
	}
	return &r, nil
}

func runData(files []data.File) []RunData {
	out := []RunData{}
	for _, f := range files {
		out = append(out, RunData{f.Path, f.SHA256, f.Rows})
	}
	return out
}

// hashOrder is the SHA-256 of the rows of all steps, in their order, with the bounds of micro-batches.
func hashOrder(s *data.Steps) string {
	h := sha256.New()
	var b []byte
	for i := range s.Len() {
		b = b[:0]
		for _, rows := range s.At(i).MicroBatches {
			b = binary.LittleEndian.AppendUint64(b, uint64(len(rows)))
			for _, r := range rows {
				b = binary.LittleEndian.AppendUint64(b, uint64(r))
			}
		}
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// hashTexts is the SHA-256 of one text, or of the lengths and bytes of several.
func hashTexts(texts ...string) string {
	h := sha256.New()
	for _, t := range texts {
		if len(texts) > 1 {
			binary.Write(h, binary.LittleEndian, uint64(len(t)))
		}
		io.WriteString(h, t)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// hashFiles is the SHA-256 of one file, or of names and hashes of several; "" if one cannot be read.
func hashFiles(paths ...string) string {
	var all []string
	for _, path := range paths {
		sum, err := disk.HashFile(context.Background(), path, nil)
		if err != nil {
			return ""
		}
		if len(paths) == 1 {
			return sum
		}
		all = append(all, filepath.Base(path), sum)
	}
	return hashTexts(all...)
}
