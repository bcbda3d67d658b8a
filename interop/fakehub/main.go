// Command fakehub serves a small hub, in both protocols, until its standard input ends.
//
//	go run ./interop/fakehub                                  # the built-in model and dataset
//	go run ./interop/fakehub --size 100000000 --faults 0.2 --seed 7
//	go run ./interop/fakehub --dir some/folder --name org/name
//
// The first line that it prints says in JSON what there is: its address, the proxy's where --faults is given, and every
// repository's commit and files by SHA-256. The last line, once standard input has ended, counts requests, bytes sent and
// injected faults.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cria/internal/hub/hubtest"
)

// Start is the first line.
type Start struct {
	URL   string          `json:"url"`
	Proxy string          `json:"proxy,omitempty"`
	Repos map[string]Repo `json:"repos"` // by name
}

// Repo is a repository as it is.
type Repo struct {
	Kind   string            `json:"kind"`
	Commit string            `json:"commit"`
	Files  map[string]string `json:"files"` // SHA-256 by path
}

// End is the last line.
type End struct {
	Requests int                  `json:"requests"`
	Bytes    int64                `json:"bytes"`
	Injected map[hubtest.Kind]int `json:"injected,omitempty"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fakehub:", err)
		os.Exit(1)
	}
}

func run() error {
	dir := flag.String("dir", "", "serve this `folder`'s files instead of the built-in repositories")
	name := flag.String("name", "cria-test/tiny", "name of the folder's repository, and of the built-in model")
	dataset := flag.Bool("dataset", false, "the folder is a dataset")
	size := flag.Int("size", 4e6, "bytes of the built-in model's weights")
	page := flag.Int("page-size", 0, "entries in a page of a file tree (1000)")
	token := flag.String("token", "", "the repositories are private, and this is what lets in")
	mirror := flag.Bool("mirror", false, "behave as a mirror: pages are linked at the public hub, lengths are missing")
	xet := flag.Bool("xet", false, "large files have the headers of Xet storage")
	rate := flag.Float64("faults", 0, "`share` of requests that the proxy breaks")
	kinds := flag.String("kinds", "", "what the proxy does, comma-separated (everything that it can)")
	seed := flag.Uint64("seed", 1, "of the proxy")
	throttle := flag.Int("throttle", 0, "bytes a second of one answer (no limit)")
	tls := flag.String("tls", "", "serve by https and write the certificate to trust into this `file`")
	stall := flag.Duration("stall", 2*time.Second, "how long a stalled answer hangs")
	flag.Parse()

	serve := hubtest.New
	if *tls != "" {
		serve = hubtest.NewTLS
	}
	s := serve()
	defer s.Close()
	if *tls != "" {
		if err := os.WriteFile(*tls, s.Certificate(), 0o644); err != nil {
			return err
		}
	}
	s.Throttle = *throttle
	s.PageSize, s.Xet, s.Gzip, s.MirrorLinks, s.NoContentLength = *page, *xet, true, *mirror, *mirror
	start := Start{URL: s.URL, Repos: map[string]Repo{}}
	repos := builtin(*name, *size)
	if *dir != "" {
		files, err := read(*dir)
		if err != nil {
			return err
		}
		repos = []hubtest.Repo{{Kind: map[bool]string{false: "model", true: "dataset"}[*dataset], Name: *name, Files: files}}
	}
	for _, r := range repos {
		r.Private, r.Token = *token != "", *token
		out := Repo{r.Kind, s.Add(r), map[string]string{}}
		for p, data := range r.Files {
			sum := sha256.Sum256(data)
			out.Files[p] = hex.EncodeToString(sum[:])
		}
		start.Repos[r.Name] = out
	}
	var proxy *hubtest.Proxy
	if *rate > 0 {
		f := hubtest.Faults{Rate: *rate, Stall: *stall}
		if *kinds != "" {
			for k := range strings.SplitSeq(*kinds, ",") {
				f.Kinds = append(f.Kinds, hubtest.Kind(k))
			}
		}
		proxy = hubtest.NewProxy(s.URL, *seed, f)
		defer proxy.Close()
		start.Proxy = proxy.URL
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(start); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	end := End{Requests: len(s.Requests()), Bytes: s.BytesSent()}
	if proxy != nil {
		end.Injected = proxy.Injected()
	}
	return out.Encode(end)
}

// read takes a folder's files.
func read(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(p)
		files[filepath.ToSlash(rel)] = data
		return err
	})
	return files, err
}

// builtin is a model of the usual files, with weights of random bytes, and a dataset.
func builtin(name string, size int) []hubtest.Repo {
	rng := rand.NewChaCha8([32]byte{1})
	first, second := "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
	half := size / 2
	index, _ := json.Marshal(map[string]any{"metadata": map[string]any{"total_size": 2 * half}, "weight_map": map[string]string{"a": first, "b": second}})
	tokens := map[string]int{}
	for i := range 2000 {
		tokens[fmt.Sprint("token", i)] = i
	}
	tokenizer, _ := json.Marshal(map[string]any{"version": "1.0", "model": map[string]any{"type": "BPE", "vocab": tokens, "merges": []string{}}})
	model := hubtest.Repo{Kind: "model", Name: name, Tags: []string{"v1.0"}, Files: map[string][]byte{
		".gitattributes":               []byte("*.safetensors filter=lfs diff=lfs merge=lfs -text\n"),
		"README.md":                    []byte("---\nlicense: apache-2.0\n---\n# A model for tests\n"),
		"config.json":                  []byte(`{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8}` + "\n"),
		"generation_config.json":       []byte(`{"eos_token_id": 2}` + "\n"),
		"tokenizer.json":               tokenizer,
		"tokenizer_config.json":        []byte(`{"model_max_length": 2048}` + "\n"),
		"model.safetensors.index.json": index,
		first:                          weights("a", half, rng),
		second:                         weights("b", half, rng),
		"original/params.json":         []byte("{}\n"),
		"original/consolidated.pth":    random(1000, rng),
		"samples/a b/ü + 100%.txt":     []byte("an awkward name\n"),
		"empty.txt":                    {},
	}}
	rows := hubtest.Repo{Kind: "dataset", Name: "cria-test/rows", Tags: []string{"v1.0"}, Files: map[string][]byte{
		"README.md":                         []byte("# Rows for tests\n"),
		"data/train.json":                   []byte(`[{"instruction": "Say a.", "input": "", "output": "a"}]` + "\n"),
		"data/train-00000-of-00001.parquet": append([]byte("PAR1"), random(size/10, rng)...),
		"data/evaluation/test.jsonl":        []byte(`{"instruction": "Say b.", "input": "", "output": "b"}` + "\n"),
	}}
	return []hubtest.Repo{model, rows}
}

// weights is a safetensors file of about size bytes with one tensor.
func weights(tensor string, size int, rng *rand.ChaCha8) []byte {
	n := size / 4
	header := fmt.Appendf(nil, `{%q:{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}`, tensor, n, 4*n)
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...), random(4*n, rng)...)
}

func random(n int, rng *rand.ChaCha8) []byte {
	data := make([]byte, n)
	rng.Read(data)
	return data
}
