package foreign

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// infoFile lists LLaMA-Factory's datasets by name.
const infoFile = "dataset_info.json"

// infoEntry is a dataset in dataset_info.json (src/llamafactory/data/parser.py, DatasetAttr).
type infoEntry struct {
	FileName   string            `json:"file_name"`
	HF         string            `json:"hf_hub_url"`
	MS         string            `json:"ms_hub_url"`
	OM         string            `json:"om_hub_url"`
	Script     string            `json:"script_url"`
	Cloud      string            `json:"cloud_file_name"`
	Formatting string            `json:"formatting"`
	Ranking    bool              `json:"ranking"`
	Subset     string            `json:"subset"`
	Split      string            `json:"split"`
	Folder     string            `json:"folder"`
	NumSamples int               `json:"num_samples"`
	Columns    map[string]string `json:"columns"`
	Tags       map[string]string `json:"tags"`
}

// info is a dataset_info.json: dir is where its files are, relative to the working directory.
type info struct {
	dir     string
	entries map[string]json.RawMessage
	online  bool // names are those of a hub
}

// datasetInfo looks for dataset_info.json in dataset_dir, from the working directory and from the recipe's.
func (t *translation) datasetInfo() *info {
	name := "data"
	if e, ok := t.given["dataset_dir"]; ok {
		name = t.textGiven("dataset_dir")
		if name == "ONLINE" {
			t.note(Changed, "names of datasets are names on Hugging Face's hub; with ms: before them they are ModelScope's", e.name)
			return &info{online: true}
		}
	}
	dirs := []string{name}
	if !filepath.IsAbs(name) {
		dirs = append(dirs, filepath.Join(filepath.Dir(t.file), name), filepath.Dir(t.file))
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, infoFile)
		content, err := readSmall(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		entries := map[string]json.RawMessage{}
		if err == nil {
			err = json.Unmarshal(content, &entries)
		}
		if err != nil {
			t.note(Lost, fmt.Sprintf("%s cannot be read: %v", path, err), "dataset")
			return nil
		}
		if e, ok := t.given["dataset_dir"]; ok {
			t.note(Idle, "datasets stand in the recipe as paths, relative to the working directory", e.name)
		}
		return &info{dir: dir, entries: entries}
	}
	if e, ok := t.given["dataset_dir"]; ok {
		t.note(Changed, "holds no "+infoFile+" that can be read from here", e.name)
	}
	return nil
}

// readSmall reads a regular file of a few MiB at most.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if s, err := f.Stat(); err != nil || !s.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("is no regular file"))
	}
	const most = 4 << 20
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(b) > most {
		err = fmt.Errorf("is larger than %d MiB", most>>20)
	}
	return b, err
}

// lfSources makes paths of the names under a key.
func (t *translation) lfSources(key string, in *info) (list []source) {
	e, ok := t.given[key]
	if !ok {
		return nil
	}
	for _, name := range t.list(e) {
		s := source{path: name, from: []entry{e}, formatFrom: e}
		switch {
		case in != nil && in.online:
			s.path = place(name)
		case in != nil:
			path := filepath.Join(in.dir, infoFile)
			var d infoEntry
			if raw, ok := in.entries[name]; !ok {
				t.note(Lost, fmt.Sprintf("%s is not in %s: put the path of its file in its place", clip(name), path), key)
			} else if err := json.Unmarshal(raw, &d); err != nil {
				t.note(Lost, fmt.Sprintf("%s in %s cannot be read (%v): put the path of its file in its place", clip(name), path, err), key)
			} else {
				t.describe(&s, key, name, in.dir, d)
			}
		default:
			t.note(Lost, fmt.Sprintf("%s is a name in LLaMA-Factory's %s, which is not in dataset_dir here: put the path of its file in its place", clip(name), infoFile), key)
		}
		list = append(list, s)
	}
	return list
}

// describe takes what dataset_info.json says of a dataset.
func (t *translation) describe(s *source, key, name, dir string, d infoEntry) {
	switch {
	case d.HF != "":
		s.path = "hf:" + d.HF
		if d.MS != "" {
			t.note(Changed, fmt.Sprintf("%s is hf:%s and ms:%s: the first is written", clip(name), clip(d.HF), clip(d.MS)), key)
		}
	case d.MS != "":
		s.path = "ms:" + d.MS
	case d.FileName != "":
		s.path = filepath.ToSlash(filepath.Join(dir, d.FileName))
	default:
		t.note(Lost, fmt.Sprintf("%s is neither a file nor a dataset of Hugging Face or ModelScope: put the path of its rows in its place", clip(name)), key)
	}
	if onHub(s.path) && (d.Subset != "" || d.Folder != "" || d.Split != "" && d.Split != "train") {
		t.note(Lost, fmt.Sprintf("%s is a part of a repository (subset, folder, split); %s", clip(name), wholeHub), key)
	}
	if d.Ranking {
		t.note(Lost, fmt.Sprintf("%s is for preferences, which cria does not train", clip(name)), key)
	}
	if d.NumSamples > 0 {
		s.path = fmt.Sprintf("%s#%d", s.path, d.NumSamples)
		t.note(Changed, fmt.Sprintf("%d rows of %s (num_samples): cria draws others, and none twice", d.NumSamples, clip(name)), key)
	}
	roles := map[string]string{"system": "system", "tools": "tools"}
	switch d.Formatting {
	case "", "alpaca":
		s.format = "alpaca"
		for theirs, ours := range map[string]string{"prompt": "instruction", "query": "input", "response": "output", "history": "history"} {
			roles[theirs] = ours
		}
	case "sharegpt", "openai":
		roles["messages"] = "messages"
		s.format = dialogue(d)
		if s.format == "" {
			t.note(Lost, fmt.Sprintf("%s has names of its own for roles or messages (tags), which cria does not read", clip(name)), key)
		}
	}
	for _, theirs := range slices.Sorted(maps.Keys(d.Columns)) {
		name := d.Columns[theirs]
		if ours, ok := roles[theirs]; ok {
			s.column(ours, name, s.from[0])
		} else {
			t.note(Lost, fmt.Sprintf("the column %s (%s) of %s", clip(name), clip(theirs), clip(s.path)), key)
		}
	}
}

// dialogue is the format of a list of messages with tags: those of ShareGPT, those of OpenAI's API, or "".
func dialogue(d infoEntry) string {
	tag := func(name, other string) string {
		if v := d.Tags[name]; v != "" {
			return v
		}
		return other
	}
	fields := strings.Join([]string{tag("role_tag", "from"), tag("content_tag", "value"), tag("user_tag", "human"), tag("assistant_tag", "gpt")}, " ")
	switch fields {
	case "from value human gpt":
		return "sharegpt"
	case "role content user assistant":
		return "messages"
	}
	return ""
}
