package train

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"cria/internal/compute/cpu"
	"cria/internal/recipe"
)

// smolRecipe is the demo's job.
func smolRecipe(t testing.TB, dir string, overrides ...string) *recipe.Recipe {
	t.Helper()
	r, err := recipe.Load("../../examples/huanhuan/smollm2.yaml", append([]string{"model=" + testmodel(t), "dataset=../../examples/huanhuan/huanhuan.json", "output_dir=" + dir + "/out"}, overrides...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// measured is what a run in a process of its own took.
type measured struct {
	Plan *Plan
	Peak int64 // own memory
}

// TestMain is also the process of planChild. Tokenised rows of tests do not go to the user's cache.
func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	if path := os.Getenv("CRIA_TEST_PLAN"); path != "" {
		userCache = func() string { return os.Getenv("CRIA_TEST_ROWS") }
		if err := planChild(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	rows, err := os.MkdirTemp("", "cria-test-rows-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(rows)
	userCache = func() string { return rows }
	return m.Run()
}

// planChild trains a recipe and watches this process.
func planChild(path string) error {
	stop, done, peak := make(chan bool), make(chan bool), int64(0)
	go func() {
		defer close(done)
		for {
			peak = max(peak, cpu.ProcessMemory("RssAnon"))
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	r, err := recipe.Load(path, nil)
	if err != nil {
		return err
	}
	j, err := Prepare(context.Background(), r, Options{})
	if err != nil {
		return err
	}
	defer j.Close()
	if err := j.Run(context.Background()); err != nil {
		return err
	}
	close(stop)
	<-done
	return json.NewEncoder(os.Stdout).Encode(measured{j.Plan, peak})
}

// measure trains in a process of its own. It finds its rows tokenised, as every start but the first: what tokenising leaves
// in the heap, some megabytes more or less, is in the plan as long as it is there.
func measure(t *testing.T, r *recipe.Recipe) (m measured) {
	t.Helper()
	d, err := Rows(context.Background(), r, Options{})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	path := t.TempDir() + "/recipe.yaml"
	if err := os.WriteFile(path, r.Resolved(), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CRIA_TEST_PLAN="+path, "CRIA_TEST_ROWS="+userCache())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// A run takes no more memory of its own than its plan says, and hardly less.
func TestPlanIsABound(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("own memory is measured on Linux")
	}
	for _, test := range []struct {
		name  string
		over  []string
		short bool
	}{
		{"bfloat16", []string{"compute_dtype=bfloat16"}, true},
		{"float32", []string{"compute_dtype=float32"}, false},
		{"max_memory", []string{"compute_dtype=bfloat16", "max_memory=400MiB"}, false},
		{"least", []string{"compute_dtype=bfloat16", "max_memory=200MiB"}, false},
		{"answers", []string{"compute_dtype=bfloat16", "per_device_train_batch_size=1", "sample_max_new_tokens=4", "sample_prompts=" + strings.Repeat("娘娘，", 600)}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if testing.Short() && !test.short {
				t.Skip("short")
			}
			r := smolRecipe(t, t.TempDir(), append([]string{"max_steps=3", "gradient_accumulation_steps=1", "sample_max_new_tokens=16"}, test.over...)...)
			m := measure(t, r)
			t.Logf("%s of own memory, the plan says %s: %+v", size(m.Peak), size(m.Plan.Memory.Own), m.Plan.Memory)
			if own := m.Plan.Memory.Own; m.Peak > own || m.Peak < own*9/10 {
				t.Errorf("%d bytes of own memory, the plan says %d", m.Peak, own)
			}
			if r.MaxMemory > 0 && m.Peak > r.MaxMemory {
				t.Errorf("%s of own memory, max_memory is %s", size(m.Peak), size(r.MaxMemory))
			}
		})
	}
}

// pretend makes plans believe that a process has own bytes, and the machine free bytes for more.
func pretend(t testing.TB, own, free int64) {
	oldOwn, oldFree := ownMemory, freeMemory
	ownMemory, freeMemory = func() (int64, int64) { return own, own }, func() int64 { return free }
	t.Cleanup(func() { ownMemory, freeMemory = oldOwn, oldFree })
}

// sparse8B is a directory of a model with Llama-3.1-8B's shapes and weights of zeros that take no room on the disk, with
// the tiny model's tokenizer.
func sparse8B(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	var cfg map[string]any
	loadJSON(t, golden+"tiny-llama/config.json", &cfg)
	const c, f, v, kv, layers = 4096, 14336, 128256, 1024, 32
	for key, n := range map[string]int{"hidden_size": c, "intermediate_size": f, "vocab_size": v, "num_hidden_layers": layers, "num_attention_heads": 32, "num_key_value_heads": 8} {
		cfg[key] = n
	}
	header, at := map[string]any{}, 0
	add := func(name string, shape ...int) {
		bytes := 2
		for _, n := range shape {
			bytes *= n
		}
		header[name+".weight"] = map[string]any{"dtype": "BF16", "shape": shape, "data_offsets": []int{at, at + bytes}}
		at += bytes
	}
	add("model.embed_tokens", v, c)
	add("lm_head", v, c)
	add("model.norm", c)
	for i := range layers {
		p := fmt.Sprintf("model.layers.%d.", i)
		add(p+"input_layernorm", c)
		add(p+"post_attention_layernorm", c)
		add(p+"self_attn.q_proj", c, c)
		add(p+"self_attn.k_proj", kv, c)
		add(p+"self_attn.v_proj", kv, c)
		add(p+"self_attn.o_proj", c, c)
		add(p+"mlp.gate_proj", f, c)
		add(p+"mlp.up_proj", f, c)
		add(p+"mlp.down_proj", c, f)
	}
	write := func(name string, v any, prefix []byte) {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if prefix != nil {
			b = append(binary.LittleEndian.AppendUint64(nil, uint64(len(b))), b...)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
		if prefix != nil {
			if err := os.Truncate(filepath.Join(dir, name), int64(len(b)+at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("config.json", cfg, nil)
	write("model.safetensors", header, []byte{})
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), mustRead(t, golden+"tiny-llama/"+name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The plan of Llama-3.1-8B for machines and limits of many sizes, made without reading a weight.
func TestPlan8B(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files of 16 GB are not sparse here")
	}
	dir := t.TempDir()
	model := "model=" + sparse8B(t)
	const gib = 1 << 30
	for _, test := range []struct {
		free          int64
		over          []string
		mapped, again bool
		refusal       string
	}{
		{200 * gib, nil, false, false, ""},
		{40 * gib, nil, false, false, ""},
		{24 * gib, nil, true, false, ""},
		{20 * gib, nil, true, false, ""}, // beside 15 GiB of pages that are to stay
		{40 * gib, []string{"max_memory=4GiB"}, true, false, ""},
		{40 * gib, []string{"max_memory=1200MiB"}, true, true, ""},
		{12 * gib, nil, true, false, ""}, // the pages do not stay anyway
		{40 * gib, []string{"max_memory=3GiB", "gradient_checkpointing=true"}, true, true, ""},
		{40 * gib, []string{"max_memory=600MiB"}, false, false, "set max_memory to"},
		{40 * gib, []string{"max_memory=600MiB", "gradient_checkpointing=false"}, false, false, "set gradient_checkpointing: auto"},
		{gib / 2, nil, false, false, "this machine has free"},
	} {
		t.Run(fmt.Sprint(test.free/gib, test.over), func(t *testing.T) {
			pretend(t, 100<<20, test.free)
			before := cpu.ProcessMemory("RssFile")
			p, _, err := MakePlan(context.Background(), tinyRecipe(t, dir, append(test.over, model, "per_device_train_batch_size=4", "gradient_accumulation_steps=4")...), Options{})
			if read := cpu.ProcessMemory("RssFile") - before; read > 64<<20 {
				t.Errorf("%s of files were read", size(read))
			}
			if test.refusal != "" {
				if err == nil || !strings.Contains(err.Error(), "max_memory") || !strings.Contains(err.Error(), test.refusal) {
					t.Fatalf("%v; want a refusal that says %q", err, test.refusal)
				}
				fitsAsAdvised(t, err, test.over, dir, model)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			m := p.Memory
			if m.Own > m.Limit || p.MapWeights != test.mapped || p.DropGateUp+p.DropAll > 0 != test.again {
				t.Errorf("%s, mapped %v, computed again %s: %+v", size(m.Own), p.MapWeights, p.Again(), m)
			}
			if sum := m.Weights + m.Activations.Sum() + m.Scratch + m.Adapter + m.Runtime; sum != m.Own {
				t.Errorf("the parts are %d bytes, the whole is %d", sum, m.Own)
			}
			if p.Parameters-p.Trainable != 8030261248 || p.Trainable != 20971520 {
				t.Errorf("%d parameters, %d of them trained", p.Parameters, p.Trainable)
			}
			// 2 operations a weight of the layers and token forward and 2 backward, the head's for labelled tokens only
			layers := 32.0 * 4096 * (2*4096 + 2*1024 + 3*14336)
			if least := 4 * layers * p.Computed.Mean; p.FLOP.Mean < least || p.FLOP.Mean > 1.4*least {
				t.Errorf("%g operations a step, the frozen layers alone make %g", p.FLOP.Mean, least)
			}
		})
	}
}

// fitsAsAdvised takes the max_memory that a refusal names.
func fitsAsAdvised(t *testing.T, refusal error, over []string, dir, model string) {
	t.Helper()
	m := regexp.MustCompile(`set max_memory to (\w+)`).FindStringSubmatch(refusal.Error())
	if m == nil {
		return
	}
	all := append(slices.Clone(over), model, "per_device_train_batch_size=4", "gradient_accumulation_steps=4", "max_memory="+m[1])
	if _, _, err := MakePlan(context.Background(), tinyRecipe(t, dir, all...), Options{}); err != nil {
		t.Errorf("advice of %v: %v", refusal, err)
	}
}

// Passes are as small as costs hardly any time, and computing again costs as little as it can.
func TestPassRows(t *testing.T) {
	if got := passRows(2564, 383); !slices.Equal(got, []int{2564, 2048, 1536, 1024, 768, 512, 384, 383}) {
		t.Error(got)
	}
	for _, n := range [][2]int{{5, 9}, {9, 9}, {10, 9}, {1 << 20, 1}, {1, 1}, {1 << 20, 1 << 19}} {
		got := passRows(n[0], n[1])
		if got[len(got)-1] != n[1] && len(got) > 0 && got[0] != n[1] || !slices.IsSortedFunc(got, func(a, b int) int { return b - a }) {
			t.Errorf("between %d and %d: %v", n[0], n[1], got)
		}
	}
}

// A run of very many steps is planned by the first ones and by bounds that hold for all.
func TestSurveyOfEndlessRun(t *testing.T) {
	pretend(t, 8<<20, 20<<30)
	start := time.Now()
	p, _, err := MakePlan(context.Background(), tinyRecipe(t, t.TempDir(), "max_steps=1000000000"), Options{})
	if err != nil || p.Surveyed >= p.Steps {
		t.Fatalf("%d of %d steps, %v", p.Surveyed, p.Steps, err)
	}
	t.Logf("%v for %d steps", time.Since(start), p.Surveyed)
	q, _, err := MakePlan(context.Background(), tinyRecipe(t, t.TempDir()), Options{})
	if err != nil || p.Memory.Own < q.Memory.Own || p.Tokens.Largest < q.Tokens.Largest || p.need.Rows < q.need.Rows || p.need.Split < q.need.Split {
		t.Errorf("bounds %+v of an endless run, %+v of a short one, %v", p, q, err)
	}
}
