package disk_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cria/internal/disk"
)

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	write(t, path, []byte("12345"))
	if b, err := disk.ReadFile(path, 5); err != nil || string(b) != "12345" {
		t.Errorf("%q %v", b, err)
	}
	if _, err := disk.ReadFile(path, 4); err == nil || !strings.Contains(err.Error(), "larger than 4 bytes") {
		t.Error(err)
	}
	if _, err := disk.ReadFile(dir, 5); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Error(err)
	}
	if _, err := disk.ReadFile(filepath.Join(dir, "none"), 5); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestUnmarshalSpeaksJSON(t *testing.T) {
	type inner struct {
		N int `json:"n"`
	}
	var v struct {
		Text   string         `json:"text"`
		Number *float64       `json:"number"`
		Flag   bool           `json:"flag"`
		List   []inner        `json:"list"`
		Map    map[string]int `json:"map"`
	}
	for text, want := range map[string]string{
		`[]`:                    "a JSON array where an object belongs",
		`{"text": 1}`:           "text: a JSON number where a string belongs",
		`{"number": "1"}`:       "number: a JSON string where a number belongs",
		`{"flag": 0}`:           "flag: a JSON number where true or false belongs",
		`{"list": {}}`:          "list: a JSON object where a list belongs",
		`{"list": [{"n": []}]}`: "list.n: a JSON array where a whole number belongs",
		`{"map": {"a": 1.5}}`:   "map: a JSON number 1.5 where a whole number belongs",
		`{`:                     "unexpected end of JSON input",
	} {
		if err := disk.Unmarshal([]byte(text), &v); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestHashFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, bytes.Repeat([]byte("abc"), 7<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	told := int64(0)
	got, err := disk.HashFile(t.Context(), path, func(n int64) { told += n })
	if want := fmt.Sprintf("%x", sha256.Sum256(bytes.Repeat([]byte("abc"), 7<<20))); err != nil || got != want || told != 21<<20 {
		t.Errorf("%s of %d bytes, %v, want %s", got, told, err, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := disk.HashFile(ctx, path, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := disk.HashFile(t.Context(), path+"none", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
