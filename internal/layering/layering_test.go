// Package layering holds the tests of the tree's own rules: which package may import which, what third-party modules
// are allowed, how long a file may be.
package layering

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// layers are the packages from the bottom up. A package imports packages of lower layers and of its own.
var layers = [][]string{
	{"disk", "gguf", "half", "jinja", "mmap", "safetensors", "tokenizer", "torchrng"},
	{"hub"},
	{"compute", "compute/cpu/kernels"},
	{"compute/cpu", "pack"},
	{"llama"},
	{"adapter", "chat", "convert", "data", "demomodel", "recipe"},
	{"compat", "export", "foreign", "generate", "inspect", "proof", "report", "server", "starter", "train"},
	{"bench"},
	{""}, // the root package
	{"cmd/cria"},
}

// backends are imported only where a backend is chosen.
var (
	backends = []string{"compute/cpu", "compute/cpu/kernels"}
	choosers = []string{"", "bench", "cmd/cria", "compute/cpu", "generate", "train"}
)

// outside are packages that no layer may build on, and that may import anything below the commands.
var outside = []string{
	"compute/computetest", // conformance suite of backends
	"compute/cpu/kernels/gen",
	"disk/faultfs", // imported by tests
	"hub/hubtest",  // a hub to test against
	"interop/fakehub",
	"interop/peers", // shows figures
	"layering",
}

var vague = []string{"util", "utils", "common", "helper", "helpers", "type", "types", "misc", "shared", "base"}

// source is one parsed Go file of the module.
type source struct {
	file string // slash-separated, from the root of the tree
	pkg  string // as in layers: without the module's name and internal/
	ast  *ast.File
	test bool
}

func (s *source) generated() bool { return ast.IsGenerated(s.ast) }

// name is a package's name in layers.
func name(dir string) string {
	if dir == "." {
		return ""
	}
	return strings.TrimPrefix(dir, "internal/")
}

func layer(pkg string) int {
	return slices.IndexFunc(layers, func(l []string) bool { return slices.Contains(l, pkg) })
}

// tree lists the files that belong to the project: what runs of cria leave in the root is not looked at.
func tree(t *testing.T) (files []string) {
	t.Helper()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	dirs := []string{".ci", "cmd", "docs", "examples", "internal", "interop", "testdata"}
	for _, e := range entries {
		if e.Type().IsRegular() {
			files = append(files, e.Name())
		}
	}
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(root, dir), func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			rel, err := filepath.Rel(root, p)
			files = append(files, filepath.ToSlash(rel))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// sources parses every Go file, whatever system it is built for.
func sources(t *testing.T) (out []source) {
	t.Helper()
	set := token.NewFileSet()
	for _, file := range tree(t) {
		if path.Ext(file) != ".go" || strings.Contains(file, "testdata/") {
			continue
		}
		f, err := parser.ParseFile(set, filepath.Join(root, file), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, source{file, name(path.Dir(file)), f, strings.HasSuffix(file, "_test.go")})
	}
	if len(out) < 50 {
		t.Fatalf("found only %d Go files", len(out))
	}
	return out
}

// imports lists what a file imports.
func (s *source) imports() (paths []string) {
	for _, i := range s.ast.Imports {
		paths = append(paths, strings.Trim(i.Path.Value, `"`))
	}
	return paths
}

func TestImportsPointDownwards(t *testing.T) {
	for _, s := range sources(t) {
		if s.test || slices.Contains(outside, s.pkg) || strings.HasPrefix(s.pkg, "examples/") {
			continue
		}
		mine := layer(s.pkg)
		if mine < 0 {
			t.Errorf("%s: package %q is in no layer; put it into one here and into docs/architecture.md", s.file, s.pkg)
			continue
		}
		for _, p := range s.imports() {
			rest, ours := strings.CutPrefix(p, "cria")
			if !ours || rest != "" && rest[0] != '/' {
				continue
			}
			pkg := name(strings.TrimPrefix(rest, "/"))
			switch {
			case strings.HasPrefix(pkg, "examples/") && s.pkg == "cmd/cria":
			case slices.Contains(outside, pkg):
				t.Errorf("%s imports %s, which is for tests", s.file, p)
			case layer(pkg) < 0 || layer(pkg) > mine:
				t.Errorf("%s imports %s, which is not below it", s.file, p)
			case slices.Contains(backends, pkg) && !slices.Contains(choosers, s.pkg):
				t.Errorf("%s imports the backend %s; take a compute.Backend", s.file, p)
			}
		}
	}
}

func TestPackagesHaveAPurpose(t *testing.T) {
	documented := map[string]bool{}
	for _, s := range sources(t) {
		if slices.Contains(vague, path.Base(s.pkg)) || slices.Contains(vague, s.ast.Name.Name) {
			t.Errorf("%s: a package's name says what it is for, %q does not", s.file, s.ast.Name.Name)
		}
		want := "Package " + s.ast.Name.Name + " "
		if s.ast.Name.Name == "main" {
			want = "Command " + path.Base(s.pkg) + " "
		}
		documented[s.pkg] = documented[s.pkg] || s.ast.Doc != nil && strings.HasPrefix(s.ast.Doc.Text(), want)
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %q has no doc comment that says its purpose", pkg)
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	const most = 700
	for _, s := range sources(t) {
		if s.generated() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(root, s.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(data, []byte("\n")); n > most {
			t.Errorf("%s has %d lines, more than %d: is it two things in one?", s.file, n, most)
		}
	}
}

// machinePath is an absolute path that can only be right on the machine where it was written.
var machinePath = regexp.MustCompile(`(?m)(^|[^\w.$})~*-])/(home|root|work|farm|Users)/\S*`)

func TestNoPathOfAMachine(t *testing.T) {
	for _, file := range tree(t) {
		data, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(data[:min(len(data), 8192)], 0) >= 0 {
			continue
		}
		if m := machinePath.Find(data); m != nil {
			t.Errorf("%s holds the path %.60q, which other machines do not have", file, m)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#:\s]+)[^)]*\)`)

func TestLinksOfDocumentsLeadSomewhere(t *testing.T) {
	for _, file := range tree(t) {
		if path.Ext(file) != ".md" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllSubmatch(data, -1) {
			if string(m[1]) == "https" {
				continue // another site
			}
			if _, err := os.Stat(filepath.Join(root, path.Dir(file), string(m[1]))); err != nil {
				t.Errorf("%s links to %s, which does not exist", file, m[1])
			}
		}
	}
}
