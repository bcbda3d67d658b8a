package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"cria/internal/demomodel"
	"cria/internal/hub/hubtest"
)

// asCommand makes the test program be cria, for scripts that tests run.
const asCommand = "CRIA_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// page is what both languages of a page have in common.
type page struct {
	headings []string   // the levels: "#", "##", ...
	titles   []string   // the headings' texts
	code     []string   // fenced and indented blocks, with the language of the fence
	links    []string   // targets of links and pictures, in order
	columns  []int      // of every row of a table
	text     string     // all of it
	shell    [][]string // lines of every block of shell commands
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func readPage(t *testing.T, path string) (p page) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p.text = string(b)
	var block []string
	fence := ""
	flush := func() {
		if len(block) > 0 {
			p.code = append(p.code, strings.Join(block, "\n"))
		}
		block = nil
	}
	for line := range strings.Lines(p.text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case fence != "":
			block = append(block, line)
			if line == "```" {
				if fence == "```sh" {
					p.shell = append(p.shell, block[1:len(block)-1])
				}
				fence = ""
				flush()
			}
			continue
		case strings.HasPrefix(line, "```"):
			flush()
			fence, block = line, []string{line}
			continue
		case strings.HasPrefix(line, "    ") || line == "" && len(block) > 0:
			block = append(block, line)
			continue
		}
		flush()
		if level := strings.TrimLeft(line, "#"); len(level) < len(line) && strings.HasPrefix(level, " ") {
			p.headings = append(p.headings, line[:len(line)-len(level)])
			p.titles = append(p.titles, strings.TrimSpace(level))
		}
		if strings.HasPrefix(line, "|") {
			p.columns = append(p.columns, strings.Count(line, "|"))
		}
		for _, m := range link.FindAllStringSubmatch(line, -1) {
			p.links = append(p.links, m[1])
		}
	}
	if fence != "" {
		t.Fatalf("%s: a code block does not end", path)
	}
	flush()
	return p
}

// anchor is the fragment that GitHub gives a heading.
func anchor(title string) string {
	title = strings.ToLower(strings.ReplaceAll(title, "`", ""))
	return strings.ReplaceAll(regexp.MustCompile(`[^\p{L}\p{N}_ -]`).ReplaceAllString(title, ""), " ", "-")
}

// Pages in two languages have the same headings, the same code, the same tables and links, and lead to each other.
func TestLanguages(t *testing.T) {
	for _, english := range []string{"../../README.md", "../../docs/tutorial.md"} {
		t.Run(filepath.Base(english), func(t *testing.T) {
			chinese := strings.TrimSuffix(english, ".md") + ".zh.md"
			en, zh := readPage(t, english), readPage(t, chinese)
			if len(en.headings) < 5 || len(en.code) < 5 {
				t.Fatalf("%s has %d headings and %d code blocks", english, len(en.headings), len(en.code))
			}
			if !slices.Equal(en.headings, zh.headings) {
				t.Errorf("headings differ:\n%s\n%s", outline(en), outline(zh))
			}
			for i := range max(len(en.code), len(zh.code)) {
				if i >= len(en.code) || i >= len(zh.code) || en.code[i] != zh.code[i] {
					t.Errorf("code block %d differs:\n%s\n--- and in Chinese\n%s", i+1, entry(en.code, i), entry(zh.code, i))
					break
				}
			}
			if !slices.Equal(en.columns, zh.columns) {
				t.Errorf("tables differ: columns of their rows are %v and %v", en.columns, zh.columns)
			}
			sameLinks(t, en, zh)
			for path, p := range map[string]page{english: en, chinese: zh} {
				other := filepath.Base(map[string]string{english: chinese, chinese: english}[path])
				if !slices.Contains(p.links[:min(2, len(p.links))], other) {
					t.Errorf("%s does not begin with a link to %s", path, other)
				}
				goes(t, path, p)
			}
		})
	}
}

func outline(p page) string {
	var lines []string
	for i, h := range p.headings {
		lines = append(lines, h+" "+p.titles[i])
	}
	return strings.Join(lines, "\n")
}

func entry(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "(none)"
}

// sameLinks compares the targets; a page's Chinese version may stand for the page, and fragments are in the page's language.
func sameLinks(t *testing.T, en, zh page) {
	t.Helper()
	set := func(p page) (out []string) {
		for _, l := range p.links {
			l, _, _ = strings.Cut(l, "#")
			out = append(out, strings.Replace(l, ".zh.md", ".md", 1))
		}
		slices.Sort(out)
		return out
	}
	if a, b := set(en), set(zh); !slices.Equal(a, b) {
		t.Errorf("links differ:\n%s\n%s", strings.Join(a, " "), strings.Join(b, " "))
	}
}

// goes fails where a fragment of a link leads to no heading; internal/layering looks at the files.
func goes(t *testing.T, path string, p page) {
	t.Helper()
	for _, l := range p.links {
		file, fragment, _ := strings.Cut(l, "#")
		if fragment == "" {
			continue
		}
		to := p
		if file != "" {
			to = readPage(t, filepath.Join(filepath.Dir(path), file))
		}
		if !slices.ContainsFunc(to.titles, func(s string) bool { return anchor(s) == fragment }) {
			t.Errorf("%s: no heading for %s", path, l)
		}
	}
}

// Every command of the scripts stands in the tutorial, in their order.
func TestTutorialScripts(t *testing.T) {
	var commands []string
	for _, block := range readPage(t, "../../docs/tutorial.md").shell {
		commands = append(commands, block...)
	}
	for _, name := range []string{"smollm2.sh", "llama3_1.sh"} {
		b, err := os.ReadFile("../../examples/tutorial/" + name)
		if err != nil {
			t.Fatal(err)
		}
		n, rest := 0, commands
		for line := range strings.Lines(string(b)) {
			line = strings.TrimSuffix(strings.TrimSpace(line), ` "$@"`)
			if line == "" || line[0] == '#' || strings.HasPrefix(line, "set ") {
				continue
			}
			i := slices.Index(rest, line)
			if i < 0 {
				t.Errorf("%s: the tutorial lacks, or has elsewhere: %s", name, line)
				continue
			}
			n, rest = n+1, rest[i+1:]
		}
		if n < 5 {
			t.Errorf("%s: %d commands", name, n)
		}
	}
}

// The tutorial's commands for the small model, as they stand there, but for the hub, which is one on this machine, and the
// number of steps.
func TestTutorial(t *testing.T) {
	if testing.Short() {
		t.Skip("trains a real model")
	}
	if runtime.GOOS == "windows" {
		t.Skip("the script is for sh")
	}
	missing := t.Skip
	if os.Getenv("CRIA_TEST_MODELS") == "required" {
		missing = t.Fatal
	}
	model, err := demomodel.Dir(context.Background(), func(s string) { t.Log(s) })
	if err != nil {
		missing(err)
	}
	sh, err := exec.LookPath("sh")
	if err != nil {
		missing(err)
	}
	files := map[string][]byte{}
	for _, name := range []string{"config.json", "generation_config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"} {
		if files[name], err = os.ReadFile(filepath.Join(model, name)); err != nil {
			t.Fatal(err)
		}
	}
	s := hubtest.New()
	defer s.Close()
	s.Add(hubtest.Repo{Kind: "model", Name: demoName, Files: files})

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin, dir := t.TempDir(), t.TempDir()
	write(t, filepath.Join(bin, "cria"), "#!/bin/sh\n"+asCommand+`=1 exec "`+self+`" "$@"`+"\n")
	if err := os.Chmod(filepath.Join(bin, "cria"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"huanhuan.json", "smollm2.yaml"} {
		b, err := os.ReadFile("../../examples/huanhuan/" + name)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(b))
	}
	script, err := filepath.Abs("../../examples/tutorial/smollm2.sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(sh, script, "max_steps=2", "logging_steps=1")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "HF_ENDPOINT="+s.URL, "HF_TOKEN=", "HF_HUB_OFFLINE=", "CRIA_SOURCE=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"trainable params: 2,442,240", "step 1/2  loss 3.2", "step 2/2  loss ", "compared with those of training: equal"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	for _, name := range []string{"output/adapter_model.safetensors", "merged/model.safetensors", "huanhuan.gguf"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}
