package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// completionTree is a directory with a recipe, rows, a GGUF file and a model, and caches with one model and one dataset of
// hubs in it. It becomes the working directory.
func completionTree(t *testing.T) {
	t.Helper()
	emptyCaches(t)
	for _, name := range []string{"CRIA_SOURCE", "USE_MODELSCOPE_HUB", "MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN", "MODELSCOPE_API_TOKEN"} {
		t.Setenv(name, "")
	}
	t.Setenv("CRIA_SOURCE", "hf")
	const commit = "0123456789abcdef0123456789abcdef01234567"
	cached := filepath.Join(os.Getenv("HF_HUB_CACHE"), "models--org--name")
	write(t, filepath.Join(cached, "refs", "main"), commit)
	for _, name := range []string{"config.json", "tokenizer.json", "model.safetensors"} {
		write(t, filepath.Join(cached, "snapshots", commit, name), "{}")
	}
	write(t, filepath.Join(os.Getenv("HF_HUB_CACHE"), "models--org--half", "refs", "main"), commit) // not whole
	if err := os.CopyFS(filepath.Join(os.Getenv("MODELSCOPE_CACHE"), "models", "other--name", "snapshots", "master"), os.DirFS(filepath.Join(cached, "snapshots", commit))); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"b.yaml", "a.yml", ".hidden.yaml", "rows.jsonl", "notes.txt", "weights.gguf", "model/config.json", "sub/c.yaml", "with space.yaml"} {
		write(t, name, "x")
	}
}

// complete is what cobra hands to the shells: words, without descriptions, and the directive.
func complete(t *testing.T, args ...string) (words []string, directive string) {
	t.Helper()
	r := cria(t, append([]string{cobra.ShellCompNoDescRequestCmd}, args...)...).ok(t)
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	return lines[:len(lines)-1], lines[len(lines)-1]
}

func TestComplete(t *testing.T) {
	completionTree(t)
	for _, c := range []struct {
		line string // parted by blanks; the last word is being typed
		want string // all words, in order; "a ..." only the first ones
	}{
		{"tr", "train"},
		{"train ", "a.yml b.yaml with space.yaml model/ sub/ model= source= dataset= ..."},
		{"train b", "b.yaml"},
		{"train sub/", "sub/c.yaml"},
		{"train .", ".hidden.yaml"},
		{"train b.yaml lora.r", "lora.r= lora.rank_pattern="},
		{"train b.yaml lora.r=8 lora.r", "lora.rank_pattern="},
		{"train b.yaml format=", "format=auto format=alpaca format=sharegpt format=messages format=prompt_completion format=text"},
		{"train b.yaml --format=al", "alpaca"},
		{"train b.yaml --format al", "alpaca"},
		{"train b.yaml --load-best-model-at-end ", "true false"},
		{"train b.yaml --lora.r", "--lora.r= --lora.rank_pattern="},
		{"train b.yaml report_to=t", "report_to=tensorboard"},
		{"train b.yaml share_prefix=", "share_prefix=auto share_prefix=true share_prefix=false"},
		{"train b.yaml learning_rate=", "learning_rate=5.0e-05"},
		{"train b.yaml model=", "model=model/ model=sub/ model=org/name model=ms:other/name"},
		{"train b.yaml dataset=", "dataset=rows.jsonl dataset=model/ dataset=sub/"},
		{"train b.yaml output_dir=s", "output_dir=sub/"},
		{"train b.yaml nonsense=", ""},
		{"plan b.yaml --j", "--json"},
		{"data b.yaml --row", "--row --rows"},
		{"demo lora.use", "lora.use_rslora="},
		{"bench m", "model/ ms:other/name model= max_samples= max_length= max_cut_share= max_steps= max_grad_norm= max_memory="},
		{"chat ", "model/ sub/ org/name ms:other/name"},
		{"chat model --adapter ", "model/ sub/"},
		{"chat model --recipe ", "a.yml b.yaml with space.yaml model/ sub/"},
		{"chat model --compute-dtype f", "float32"},
		{"export --format ", "hf gguf gguf-adapter ollama"},
		{"export --type Q", "Q8_0 Q4_K_M Q4_0"},
		{"export --model o", "org/name"},
		{"bench --shape=l", "llama-3.2-1b llama-3.1-8b-slice"},
		{"import ", "weights.gguf model/ sub/"},
		{"import weights.gguf ", "model/ sub/"},
		{"import weights.gguf new ", ""},
		{"init --model w", "weights.gguf"},
		{"init --dataset ", "rows.jsonl model/ sub/"},
		{"pull ", "org/name ms:other/name"},
		{"pull --source ", "hf ms"},
		{"doctor ", "adapter"},
		{"doctor adapter m", "model/"},
		{"import-recipe n", "notes.txt"},
		{"import-recipe --from a", "auto axolotl"},
	} {
		got, _ := complete(t, strings.Split(c.line, " ")...)
		want, more := strings.CutSuffix(c.want, " ...")
		have := strings.Join(got, " ")
		if have != want && !(more && strings.HasPrefix(have, want)) {
			t.Errorf("%q: %s, want %s", c.line, have, c.want)
		}
	}
	// Where all words go on, no space is set behind them.
	for line, want := range map[string]string{"train lora.rank": ":34", "train format=te": ":32", "train sub": ":34", "train nonsense=": ":0", "import weights.gguf new ": ":4"} {
		if _, got := complete(t, strings.Split(line, " ")...); got != want {
			t.Errorf("%q: directive %s, want %s", line, got, want)
		}
	}
}

// What completions call the values of a flag are words of the flag's help.
func TestCompleteKnowsFlags(t *testing.T) {
	root := newRoot(newUI(nil, nil, nil))
	for _, c := range []struct{ command, flag string }{{"bench", "dtype"}, {"bench", "shape"}, {"chat", "compute-dtype"}, {"generate", "compute-dtype"}, {"export", "format"}, {"export", "type"}, {"pull", "source"}, {"import-recipe", "from"}} {
		cmd, _, err := root.Find([]string{c.command})
		if err != nil {
			t.Fatal(err)
		}
		f := cmd.Flags().Lookup(c.flag)
		if f == nil {
			t.Errorf("%s has no --%s", c.command, c.flag)
			continue
		}
		values := flagValues[c.flag]("")
		for _, v := range values {
			if !strings.Contains(f.Usage, v) {
				t.Errorf("%s --%s: %q is not in %q", c.command, c.flag, v, f.Usage)
			}
		}
		if len(values) < 2 {
			t.Errorf("%s --%s: %v", c.command, c.flag, values)
		}
	}
}

// Bash itself, with the script that it is given and the words as it cuts them.
func TestCompleteInBash(t *testing.T) {
	const library = "/usr/share/bash-completion/bash_completion"
	bash, err := exec.LookPath("bash")
	if _, missing := os.Stat(library); err != nil || missing != nil {
		t.Skip("bash with bash-completion is not here")
	}
	completionTree(t)
	bin := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := write(t, filepath.Join(bin, "cria"), fmt.Sprintf("#!/bin/sh\n%s=1 exec %q \"$@\"\n", asCommand, self))
	if err := os.Chmod(script, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		words []string // COMP_WORDS: = and : are words of their own
		want  string   // COMPREPLY
	}{
		{[]string{"cria", "pl"}, "plan"},
		{[]string{"cria", "train", "b"}, "b.yaml"},
		{[]string{"cria", "train", "wi"}, `with\ space.yaml`},
		{[]string{"cria", "train", "b.yaml", "lora.alp"}, "lora.alpha_pattern="},
		{[]string{"cria", "train", "b.yaml", "format", "=", "al"}, "alpaca"},
		{[]string{"cria", "train", "b.yaml", "format", "="}, "auto alpaca sharegpt messages prompt_completion text"},
		{[]string{"cria", "train", "b.yaml", "--format", "=", "sh"}, "sharegpt"},
		{[]string{"cria", "train", "b.yaml", "model", "=", "ms", ":", "o"}, "other/name"},
		{[]string{"cria", "export", "--type", "Q4"}, "Q4_K_M Q4_0"},
		{[]string{"cria", "chat", "or"}, "org/name"},
	} {
		line := c.words[0]
		for i, w := range c.words[1:] {
			if before := c.words[i]; w != "=" && w != ":" && before != "=" && before != ":" {
				line += " "
			}
			line += w
		}
		program := fmt.Sprintf(`source %s; source <(cria completion bash) || exit 1; complete -p cria >/dev/null || exit 1
COMP_WORDS=(%s); COMP_CWORD=%d; COMP_LINE=%q; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9; COMP_KEY=9
compopt() { :; }; __start_cria; printf '%%s\n' "${COMPREPLY[@]}"`, library, strings.Join(quoteWords(c.words), " "), len(c.words)-1, line)
		cmd := exec.Command(bash, "--norc", "--noprofile", "-c", program)
		cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", line, err, out)
		}
		got, want := strings.Fields(strings.ReplaceAll(string(out), `\ `, "\x00")), strings.Fields(strings.ReplaceAll(c.want, `\ `, "\x00"))
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%q: %s, want %s", line, out, c.want)
		}
	}
}

func quoteWords(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = shellWord(w)
		if w == "" {
			out[i] = "''"
		}
	}
	return out
}
