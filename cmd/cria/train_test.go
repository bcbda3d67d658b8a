package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"cria/internal/disk"
	"cria/internal/inspect"
)

// rows is a dataset for the tiny model.
const rows = `[
  {"instruction": "娘娘。", "input": "", "output": "起来吧。"},
  {"instruction": "皇上驾到！", "input": "", "output": "皇上万福金安。"},
  {"instruction": "这是什么？", "input": "一封信", "output": "本宫不知。"},
  {"instruction": "四郎。", "input": "", "output": "你让朕心痛。"},
  {"instruction": "多谢。", "input": "", "output": "坐下喝杯茶吧。"}
]
`

// job writes a recipe and its dataset into dir, and returns the recipe's path. more is appended to it.
func job(t testing.TB, dir, more string) string {
	t.Helper()
	model, err := filepath.Abs(tiny)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "rows.json"), rows)
	return write(t, filepath.Join(dir, "recipe.yaml"), fmt.Sprintf(`model: %q
dataset: %q
output_dir: %q
template: prompt
prompt_template: "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{instruction}{input}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
response_template: "{output}<|eot_id|>"
lora: {r: 4, lora_alpha: 8, target_modules: [q_proj, v_proj, down_proj]}
per_device_train_batch_size: 2
max_steps: 6
logging_steps: 2
save_steps: 3
learning_rate: 1.0e-3
compute_dtype: float32
%s`, model, filepath.Join(dir, "rows.json"), filepath.Join(dir, "out"), more))
}

// Everything that is refused before training, and that nothing is written then.
func TestTrainRefuses(t *testing.T) {
	dir := t.TempDir()
	good := job(t, dir, "")
	file := write(t, filepath.Join(dir, "file"), "not a directory")
	broken := write(t, filepath.Join(dir, "broken.json"), "[\n  {\"instruction\": \"a\", \"output\": \"b\"},\n  {\"instruction\": \"c\" \"output\": \"d\"}\n]\n")
	typo := write(t, filepath.Join(dir, "typo.yaml"), "model: m\ndataset: d\nlearning_rte: 1e-4\n")
	misspelt := write(t, filepath.Join(dir, "type.yaml"), "model: m\ndataset: d\nsave_steps: often\n")
	for _, c := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"recipe is missing", []string{filepath.Join(dir, "none.yaml")}, exitUsage, []string{"none.yaml"}},
		{"recipe is a directory", []string{dir}, exitUsage, []string{dir, "is a directory"}},
		{"recipe is not YAML", []string{broken}, exitUsage, []string{"broken.json"}},
		{"unknown key", []string{typo}, exitUsage, []string{"typo.yaml:3:1", "learning_rte", "learning_rate"}},
		{"unknown key on the command line", []string{good, "lora.rank=3"}, exitUsage, []string{"lora.rank", "lora.r"}},
		{"wrong type", []string{misspelt}, exitUsage, []string{"type.yaml:3:13", "save_steps"}},
		{"no model", []string{good, "model=" + filepath.Join(dir, "none")}, exitUsage, []string{"none", "cria import"}},
		{"model is a file", []string{good, "model=" + file}, exitUsage, []string{"not a directory"}},
		{"model is empty", []string{good, "model=" + dir}, exitError, []string{"config.json"}},
		{"no dataset", []string{good, "dataset=" + filepath.Join(dir, "none.json")}, exitError, []string{"none.json"}},
		{"broken dataset", []string{good, "dataset=" + broken}, exitError, []string{"broken.json:3:23", "row 2"}},
		{"template without output", []string{good, "response_template=x"}, exitUsage, []string{"response_template", "output"}},
		{"rows that would be cut", []string{good, "max_length=12"}, exitUsage, []string{"allow", "rows.json", "cut_rows"}},
		{"output_dir is a file", []string{good, "output_dir=" + file}, exitUsage, []string{"output_dir", "is a file"}},
		{"output_dir below a file", []string{good, "output_dir=" + filepath.Join(file, "out")}, exitUsage, []string{"output_dir"}},
		{"adapter of another model", []string{good, "adapter=" + golden + "smollm2-train/init_adapter"}, exitUsage, []string{"adapter", "shape"}},
		{"no adapter", []string{good, "adapter=" + dir}, exitUsage, []string{"adapter_config.json"}},
		{"checkpoint is none", []string{good, "resume_from_checkpoint=" + dir}, exitUsage, []string{"resume_from_checkpoint", "MANIFEST.json"}},
		{"no such device", []string{good, "device=cuda"}, exitUsage, []string{"device", "cpu"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := tree(t, dir)
			cria(t, append([]string{"train"}, c.args...)...).fails(t, c.code, c.want...)
			sameTree(t, dir, before)
		})
	}
}

// A whole run: its files, its log, and what can be done with it afterwards.
func TestTrain(t *testing.T) {
	dir := t.TempDir()
	recipe := job(t, dir, "")
	out := filepath.Join(dir, "out")
	r := cria(t, "train", recipe, "max_steps=5", "--lora.r", "2", "--save-steps=2").ok(t)
	if r.out != "" {
		t.Errorf("training writes to standard output: %s", r.out)
	}
	// 4 layers x r 2 x (q: 128+128, v: 128+32, down: 352+128)
	for _, want := range []string{"trainable params: 7,168 || all params: 1,237,120 || trainable%: 0.5794", "step 2/5  loss ", "answering 3 prompts before and after training", "saved " + filepath.Join(out, "checkpoint-5"),
		"the adapter is in " + out} {
		if !strings.Contains(r.err, want) {
			t.Errorf("standard error lacks %q:\n%s", want, r.err)
		}
	}
	for _, name := range []string{"adapter_config.json", "adapter_model.safetensors", "trainer_state.json", "recipe.yaml", "tokenizer.json", "checkpoint-2/MANIFEST.json",
		"checkpoint-4/optimizer.safetensors", "checkpoint-5/cria_state.json"} {
		if _, err := os.Stat(filepath.Join(out, name)); err != nil {
			t.Error(err)
		}
	}

	var report inspect.Report
	cria(t, "inspect", out, "--json").parse(t, &report)
	if u := report.Run; report.Kind != inspect.KindRun || len(report.Problems) > 0 || !u.Finished || len(u.Checkpoints) != 3 || u.Newest != filepath.Join(out, "checkpoint-5") ||
		report.Adapter.Parameters != 7168 || !report.Adapter.BaseChecked || len(report.Log.Losses) != 2 {
		t.Errorf("inspect says %+v %+v", report, u)
	}
	cria(t, "inspect", filepath.Join(out, "checkpoint-4"), "--json").parse(t, &report)
	if c := report.Checkpoint; c == nil || c.State != inspect.Whole || !c.Resumable || c.Step != 4 || c.MaxSteps != 5 || c.ComputeDType != "float32" {
		t.Errorf("inspect says %+v", c)
	}

	// The adapter answers, with the template that it was trained with.
	if r := cria(t, "generate", tiny, "--adapter", out, "--prompt", "娘娘。", "--max-new-tokens", "3", "--greedy").ok(t); r.out == "" {
		t.Error("no answer")
	}

	before := tree(t, dir)
	cria(t, "train", recipe).fails(t, exitUsage, "output_dir", "already holds a run", "resume_from_checkpoint=true")
	sameTree(t, dir, before)
	cria(t, "train", recipe, "max_steps=5", "lora.r=2", "save_steps=2", "resume_from_checkpoint=true").ok(t)
	sameTree(t, dir, before)
	cria(t, "train", recipe, "max_steps=5", "lora.r=2", "learning_rate=1", "resume_from_checkpoint=true").fails(t, exitError, "learning_rate was 0.001, is now 1")
	sameTree(t, dir, before)

	// A new run may start from the result.
	cria(t, "train", recipe, "adapter="+out, "lora.r=2", "max_steps=1", "output_dir="+filepath.Join(dir, "next")).ok(t)

	// Neither a name with brackets nor a checkpoint of another run lets a run overwrite one.
	other := "output_dir=" + filepath.Join(dir, "run[1]") // no pattern
	cria(t, "train", recipe, other, "seed=7").ok(t)
	cria(t, "train", recipe, other).fails(t, exitUsage, "output_dir", "already holds a run")
	newest, err := filepath.Glob(filepath.Join(dir, "out", "checkpoint-*"))
	if err != nil || len(newest) == 0 {
		t.Fatal(newest, err)
	}
	cria(t, "train", recipe, other, "resume_from_checkpoint="+newest[0]).fails(t, exitUsage, "output_dir", "already holds a run")
}

// watcher calls a function once, when a text is written.
type watcher struct {
	bytes.Buffer
	text string
	once sync.Once
	do   func()
}

func (w *watcher) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(w.text)) {
		w.once.Do(w.do)
	}
	return w.Buffer.Write(p)
}

// Ctrl-C while answers are made for the report ends a run that is trained and saved, as such.
func TestTrainAnswersInterrupted(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot interrupt itself on Windows")
	}
	dir := t.TempDir()
	recipe := job(t, dir, "sample_max_new_tokens: 2000\n")
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	errOut := &watcher{text: "answering 3 prompts", do: func() {
		if err := self.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		time.Sleep(100 * time.Millisecond)
	}}
	var out bytes.Buffer
	if code := run([]string{"train", recipe}, strings.NewReader(""), &out, errOut); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"stopping; the adapter is saved", "the adapter is in ", "no answers of the model in the report: training was over and they were stopped"} {
		if !strings.Contains(errOut.String(), want) {
			t.Errorf("standard error lacks %q:\n%s", want, errOut.String())
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "out", "report.html")); err != nil || !strings.Contains(string(b), "none: training was over") {
		t.Errorf("the report says nothing of that: %v", err)
	}
	var report inspect.Report
	cria(t, "inspect", filepath.Join(dir, "out"), "--json").parse(t, &report)
	if len(report.Problems) > 0 || !report.Run.Finished {
		t.Errorf("inspect says %+v", report)
	}
}

// A run that Ctrl-C stops and that goes on must end with the same bits as one that was left alone.
func TestTrainInterrupted(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot interrupt itself on Windows")
	}
	dir := t.TempDir()
	recipe := job(t, dir, "lr_scheduler_type: cosine\n")
	args := []string{"max_steps=60", "logging_steps=1", "save_steps=0"}
	cria(t, append([]string{"train", recipe, "output_dir=" + filepath.Join(dir, "whole")}, args...)...).ok(t)

	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	errOut := &watcher{text: "step 3/60", do: func() {
		if err := self.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		time.Sleep(100 * time.Millisecond) // the signal arrives while the run waits for this line
	}}
	var out bytes.Buffer
	code := run(append([]string{"train", recipe}, args...), strings.NewReader(""), &out, errOut)
	if code != exitInterrupted {
		t.Fatalf("exit code %d\n%s", code, errOut.String())
	}
	_, command, _ := strings.Cut(errOut.String(), "Go on with: cria ")
	if command == "" || out.Len() > 0 {
		t.Errorf("standard error:\n%s\nstandard output:\n%s", errOut.String(), out.String())
	}
	var report inspect.Report
	cria(t, "inspect", filepath.Join(dir, "out"), "--json").parse(t, &report)
	if u := report.Run; u.Finished || len(u.Checkpoints) != 1 || u.Checkpoints[0].State != inspect.Whole || !strings.Contains(u.Resume, "resume_from_checkpoint=true") {
		t.Errorf("inspect says %+v", u)
	}

	r := cria(t, strings.Fields(command)...).ok(t) // whatever the first command line said beside the recipe
	if !strings.Contains(r.err, "going on from "+report.Run.Newest) {
		t.Errorf("standard error:\n%s", r.err)
	}
	var files [2][]byte
	for i, name := range []string{"whole", "out"} {
		if files[i], err = os.ReadFile(filepath.Join(dir, name, "adapter_model.safetensors")); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("the resumed run's adapter differs from that of the run that was left alone")
	}
}

func TestTrainLocked(t *testing.T) {
	dir := t.TempDir()
	recipe := job(t, dir, "")
	out := filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := disk.LockDir(out)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	before := tree(t, dir)
	cria(t, "train", recipe).fails(t, exitUsage, "output_dir", fmt.Sprintf("in use by process %d", os.Getpid()))
	sameTree(t, dir, before)

	var report inspect.Report
	cria(t, "inspect", out, "--json").parse(t, &report)
	if u := report.Run; u == nil || u.InUse == nil || u.InUse.PID != os.Getpid() {
		t.Errorf("inspect says %+v", u)
	}
	sameTree(t, dir, before)
}

// A damaged checkpoint is passed over when a run goes on, and inspect says which and why.
func TestDamagedCheckpoint(t *testing.T) {
	dir := t.TempDir()
	recipe := job(t, dir, "")
	out := filepath.Join(dir, "out")
	cria(t, "train", recipe).ok(t)
	for _, name := range []string{"adapter_model.safetensors", "adapter_config.json"} { // as if it had not finished
		if err := os.Remove(filepath.Join(out, name)); err != nil {
			t.Fatal(err)
		}
	}
	newest := filepath.Join(out, "checkpoint-6")
	if err := os.Truncate(filepath.Join(newest, "optimizer.safetensors"), 1000); err != nil {
		t.Fatal(err)
	}
	r := cria(t, "inspect", out).ok(t)
	for _, want := range []string{"checkpoint-3", "whole", "checkpoint-6", "damaged", "optimizer.safetensors", "go on with"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("inspect lacks %q:\n%s", want, r.out)
		}
	}
	var report inspect.Report
	cria(t, "inspect", newest, "--json").parse(t, &report)
	if c := report.Checkpoint; c.State != inspect.Damaged || c.Resumable || len(report.Problems) == 0 {
		t.Errorf("inspect says %+v", report)
	}
	r = cria(t, "train", recipe, "resume_from_checkpoint=true").ok(t)
	for _, want := range []string{newest + " is passed over", "going on from " + filepath.Join(out, "checkpoint-3")} {
		if !strings.Contains(r.err, want) {
			t.Errorf("standard error lacks %q:\n%s", want, r.err)
		}
	}
	if _, err := disk.Verify(disk.OS{}, newest); err != nil {
		t.Error(err)
	}
}

func TestGenerateGolden(t *testing.T) {
	var want struct {
		Prompts, Base, Adapted [][]int32
	}
	loadJSON(t, golden+"tiny/generate.json", &want)
	if len(want.Prompts) == 0 {
		t.Fatal("no prompts")
	}
	for i, p := range want.Prompts {
		ids := strings.ReplaceAll(strings.Trim(fmt.Sprint(p), "[]"), " ", ",")
		for name, replies := range map[string][][]int32{"": want.Base, golden + "tiny/adapter": want.Adapted} {
			args := []string{"generate", tiny, "--input-ids", ids, "--greedy", "--max-new-tokens", "48", "compute_dtype=float32", "--json"}
			if name != "" {
				args = append(args, "--adapter", name)
			}
			var got struct {
				Text            *string  `json:"text"`
				IDs             []int32  `json:"ids"`
				FinishReason    string   `json:"finish_reason"`
				TokensPerSecond *float64 `json:"tokens_per_second"`
			}
			cria(t, args...).parse(t, &got)
			reason := "length"
			if len(replies[i]) < 48 {
				reason = "stop"
			}
			if fmt.Sprint(got.IDs) != fmt.Sprint(replies[i]) || got.FinishReason != reason || got.Text == nil || got.TokensPerSecond == nil {
				t.Errorf("prompt %d, adapter %q: %v, want %v; %+v", i, name, got.IDs, replies[i], got)
			}
		}
	}
}

func TestGenerate(t *testing.T) {
	args := []string{"generate", tiny, "--input-ids", "2042,82,88", "--max-new-tokens", "4", "--seed", "7"}
	plain := cria(t, args...).ok(t)
	var got struct {
		Text string `json:"text"`
	}
	r := cria(t, append(args, "--json")...)
	r.parse(t, &got)
	if plain.out != printable(got.Text)+"\n" {
		t.Errorf("text %q, JSON %q", plain.out, got.Text)
	}
	if r.err != "" || !strings.Contains(plain.err, "4 tokens, length") {
		t.Errorf("standard error %q, with --json %q", plain.err, r.err)
	}
	if !json.Valid([]byte(r.out)) {
		t.Errorf("not JSON: %s", r.out)
	}
}

func TestGenerateRefuses(t *testing.T) {
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"generate", "none", "--input-ids", "1"}, []string{`"none" is neither a directory here nor a name on a hub`}},
		{[]string{"generate", tiny, "--input-ids", "1", "--adapter", "none"}, []string{"none"}},
		{[]string{"generate", tiny, "--input-ids", "1", "--adapter", golden + "smollm2-train/final_adapter"}, []string{"shape"}},
		{[]string{"generate", withoutTemplate(t), "--prompt", "x"}, []string{"no chat template", "prompt_template"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) { cria(t, c.args...).fails(t, exitError, c.want...) })
	}
}
