package foreign

import (
	"fmt"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
)

// source is a dataset that a recipe names.
type source struct {
	path string
	from []entry // what path was made of

	format     string // of cria, "" where nothing is known
	formatFrom entry

	columns     map[string]string // by cria's roles
	columnsFrom []entry
}

// column names the column of a role.
func (s *source) column(role, name string, from entry) {
	if s.columns == nil {
		s.columns = map[string]string{}
	}
	s.columns[role] = name
	s.columnsFrom = append(s.columnsFrom, from)
}

// usual are the names under which cria finds a role's column by itself (docs/data.md).
var usual = map[string][]string{
	"messages":    {"messages", "conversations", "conversation"},
	"instruction": {"instruction"}, "output": {"output", "response"}, "input": {"input", "context"},
	"prompt": {"prompt", "question", "query"}, "completion": {"completion", "response", "answer"},
	"text": {"text"}, "system": {"system", "system_prompt"}, "history": {"history"}, "tools": {"tools"},
}

// datasets sets dataset or eval_dataset. Format and columns are one for all datasets of a cria recipe.
func (t *translation) datasets(key string, list []source) {
	if len(list) == 0 {
		return
	}
	var paths, formats []string
	var from, columnsFrom []entry
	columns := map[string]string{}
	for _, s := range list {
		paths = append(paths, s.path)
		from = append(from, s.from...)
		columnsFrom = append(columnsFrom, s.columnsFrom...)
		if !slices.Contains(formats, s.format) {
			formats = append(formats, s.format)
		}
		for role, name := range s.columns {
			if slices.Contains(usual[role], name) {
				continue
			}
			if other, ok := columns[role]; ok && other != name {
				t.note(Lost, fmt.Sprintf("two names, %s and %s, for the column of one role (%s), of which a recipe has one", clip(other), clip(name), role), key)
			}
			columns[role] = name
		}
	}
	if len(paths) == 1 {
		t.set(key, paths[0], from...)
	} else {
		t.set(key, paths, from...)
	}
	if key != "dataset" {
		if v, ok := t.values["format"]; ok && (len(formats) > 1 || formats[0] != v.v) {
			delete(t.values, "format")
			t.note(Changed, "rows for evaluation are of another kind than those for training: cria goes by the columns of each file (format: auto)", key)
		}
		return
	}
	switch {
	case len(formats) > 1:
		t.note(Changed, "datasets of several kinds: cria goes by the columns of each file (format: auto)", key)
	case formats[0] != "":
		t.set("format", formats[0], list[0].formatFrom)
	}
	if len(columns) > 0 {
		var names pairs
		for _, role := range slices.Sorted(maps.Keys(columns)) {
			names = append(names, pair{role, columns[role]})
		}
		t.set("columns", names, columnsFrom...)
	}
}

var repository = regexp.MustCompile(`^[A-Za-z0-9][\w.-]*/[\w.-]+$`)

// place is a dataset's path as cria names it: what is there under that name, else a repository of Hugging Face's hub.
func place(name string) string {
	if _, err := os.Stat(name); err == nil || !repository.MatchString(name) {
		return name
	}
	switch path.Ext(name) {
	case ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".gz", ".zst", ".txt", ".arrow":
		return name
	}
	return "hf:" + name
}

// onHub tells names of repositories.
func onHub(name string) bool { return strings.HasPrefix(name, "hf:") || strings.HasPrefix(name, "ms:") }

// wholeHub is what cannot be said of a dataset on a hub.
const wholeHub = "cria reads the training files of the whole repository: to train a part, fetch it with cria pull --dataset and name its files"
