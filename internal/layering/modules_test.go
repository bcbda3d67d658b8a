package layering

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// modules are all third-party modules that the build may use, with the reason. docs/dependencies.md says more about
// each: licence, and what else was looked at.
var modules = map[string]string{
	"github.com/klauspost/compress":    "zstd of compressed datasets; with parquet-go's codecs",
	"github.com/parquet-go/parquet-go": "Parquet datasets",
	"github.com/spf13/cobra":           "commands, help and shell completion",
	"github.com/spf13/pflag":           "cobra's flags",
	"github.com/vbauerster/mpb/v8":     "progress of downloads and imports on a terminal",
	"go.yaml.in/yaml/v4":               "recipes, with line and column in every error",
	"golang.org/x/sys":                 "mmap, fsync of directories, file locks, CPU features",
	"golang.org/x/term":                "is this a terminal, and how wide",
	"pgregory.net/rapid":               "property tests; not in the binary",

	"github.com/VividCortex/ewma":          "of mpb: time left as a moving average",
	"github.com/acarl005/stripansi":        "of mpb: width of coloured text",
	"github.com/andybalholm/brotli":        "of parquet-go: a codec of pages",
	"github.com/google/uuid":               "of parquet-go: columns of UUIDs",
	"github.com/pierrec/lz4/v4":            "of parquet-go: a codec of pages",
	"github.com/clipperhouse/uax29/v2":     "of mpb: width of text",
	"github.com/inconshreveable/mousetrap": "of cobra: started by a double click on Windows",
	"github.com/mattn/go-runewidth":        "columns of text on a terminal; of mpb too",
	"github.com/vbauerster/cupwriter":      "of mpb: cursor movements",
}

// direct are the modules that the project's own code imports.
var direct = []string{"github.com/klauspost/compress", "github.com/mattn/go-runewidth", "github.com/parquet-go/parquet-go", "github.com/spf13/cobra", "github.com/spf13/pflag", "github.com/vbauerster/mpb/v8", "go.yaml.in/yaml/v4",
	"golang.org/x/sys", "golang.org/x/term", "pgregory.net/rapid"}

var requirement = regexp.MustCompile(`(?m)^(?:require )?\s*(\S+\.\S+/\S+|\S+\.in/\S+) (v\S+)`)

// required reads the modules and versions of go.mod.
func required(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, m := range requirement.FindAllStringSubmatch(string(data), -1) {
		out[m[1]] = m[2]
	}
	return out
}

func TestModulesAreKnown(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs/dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	mods := required(t)
	for _, m := range slices.Sorted(maps.Keys(mods)) {
		if modules[m] == "" {
			t.Errorf("go.mod requires %s; say here and in docs/dependencies.md why, or do without it", m)
		}
		if !strings.Contains(string(doc), "| `"+m+"` | "+mods[m]+" |") {
			t.Errorf("docs/dependencies.md has no row | `%s` | %s |", m, mods[m])
		}
	}
	for m := range modules {
		if mods[m] == "" {
			t.Errorf("%s is no longer in go.mod; take it out here and in docs/dependencies.md", m)
		}
	}
}

func TestImportsAreKnown(t *testing.T) {
	for _, s := range sources(t) {
		for _, p := range s.imports() {
			first, _, _ := strings.Cut(p, "/")
			if first == "cria" || !strings.Contains(first, ".") {
				if p == "C" {
					t.Errorf("%s uses cgo; docs/adr/0001 says why nothing does", s.file)
				}
				continue
			}
			if !slices.ContainsFunc(direct, func(m string) bool { return p == m || strings.HasPrefix(p, m+"/") }) {
				t.Errorf("%s imports %s, which is none of the project's direct dependencies", s.file, p)
			}
			if strings.HasPrefix(p, "pgregory.net/rapid") && !s.test {
				t.Errorf("%s imports %s outside tests", s.file, p)
			}
		}
	}
}
