package main

import (
	"encoding/xml"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const stored = "testdata/peers.json"

func load(t *testing.T, path string) *Figures {
	t.Helper()
	f, err := read(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// The picture is well-formed XML with a bar for every figure, inside its frame, and nothing that a viewer would load.
func TestPicture(t *testing.T) {
	s := svg(load(t, stored))
	d := xml.NewDecoder(strings.NewReader(s))
	bars := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if bars != 2*(2+2+3) {
		t.Errorf("%d bars", bars)
	}
	for _, want := range []string{"prefers-color-scheme: dark", "tokens a second", "peak memory", ">640<", ">4.5 GiB<", "a &lt;peer&gt; &amp; more"} {
		if !strings.Contains(s, want) {
			t.Errorf("the picture lacks %q", want)
		}
	}
	for _, bad := range []string{"href", "url(", "<script", "NaN"} {
		if strings.Contains(s, bad) {
			t.Errorf("the picture has %q", bad)
		}
	}
}

func TestTable(t *testing.T) {
	s := table(load(t, stored))
	for _, want := range []string{"| cria | 3.75 (3.80, 3.75, 3.70) | 640 |  | 2.9 GiB | 6.1 s |", "| 4.9 times |", "From a clean clone", "![", "commit 0123456789ab"} {
		if !strings.Contains(s, want) {
			t.Errorf("the table lacks %q:\n%s", want, s)
		}
	}
	doc, err := insert("a\n"+begin+"\nold\n"+end+"\nb\n", s)
	if err != nil || doc != "a\n"+begin+"\n"+s+end+"\nb\n" {
		t.Errorf("%q, %v", doc, err)
	}
	if again, err := insert(doc, s); err != nil || again != doc {
		t.Errorf("a second time: %q, %v", again, err)
	}
	for _, bad := range []string{"", begin, end + begin} {
		if _, err := insert(bad, s); err == nil {
			t.Errorf("%q was taken for a document with markers", bad)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for _, text := range []string{`{`, `{"jobs": {"slice": {"sides": []}}}`, `{"jobs": {"slice": null}}`, `{"jobs": {"slice": {"sides": [{"name": "cria", "seconds_per_step": 0}]}}}`} {
		path := filepath.Join(t.TempDir(), "peers.json")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := read(path); err == nil {
			t.Errorf("%s was read", text)
		}
	}
}

// What the documents show is what the stored figures say.
func TestDocs(t *testing.T) {
	const docs = "../../docs/"
	document, err := os.ReadFile(docs + "performance.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(docs + "peers.json"); errors.Is(err, fs.ErrNotExist) {
		if _, err := insert(string(document), ""); err != nil {
			t.Fatal(err)
		}
		t.Skip("nothing has been measured yet: make bench-peers")
	}
	f := load(t, docs+"peers.json")
	for name, j := range f.Jobs {
		if j.Quick {
			t.Errorf("%s is a quick run, which is no measurement", name)
		}
	}
	if want, err := insert(string(document), table(f)); err != nil || want != string(document) {
		t.Errorf("docs/performance.md is not what docs/peers.json says (%v); go run ./interop/peers docs/peers.json docs/peers.svg docs/performance.md", err)
	}
	if picture, err := os.ReadFile(docs + "peers.svg"); err != nil || string(picture) != svg(f) {
		t.Errorf("docs/peers.svg is not what docs/peers.json says (%v)", err)
	}
}
