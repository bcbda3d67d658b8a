package starter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cria/internal/data"
	"cria/internal/hub"
)

// Rows is what a user named as the data.
type Rows struct {
	Names []string // as the recipe names them
	Here  bool     // all of them are on this machine; if not, nothing below is known

	Count   int
	Formats []string // of data.Formats, those that occur
	Notes   []string // how the files were understood

	Inputs, Systems, Dialogues, Tools int // rows that have an input, a system prompt of their own, turns in a list, tools
}

// LookAtRows reads the rows of files, directories, globs and datasets of hubs (hf:org/name, ms:org/name), of which only the
// caches are asked. Errors are those of package data, with file, line and row.
func LookAtRows(ctx context.Context, names ...string) (*Rows, error) {
	r := &Rows{Names: names, Here: true}
	if len(names) == 0 || slices.Contains(names, "") {
		return nil, errors.New("data must be named: a file, a directory, or a dataset on a hub (hf:organisation/name)")
	}
	paths := slices.Clone(names)
	for i, name := range names {
		if !strings.HasPrefix(name, "hf:") && !strings.HasPrefix(name, "ms:") {
			continue
		}
		repository, sample, sampled := strings.Cut(name, "#")
		dir, err := cached(ctx, repository, hub.Dataset)
		switch {
		case errors.Is(err, errNoName):
			return nil, fmt.Errorf("%q is no name of a dataset on a hub (hf:organisation/name)", name)
		case errors.Is(err, hub.ErrOffline):
			r.Here = false
			r.Notes = append(r.Notes, name+": not here yet, so nothing is known of it; cria train fetches it, or cria pull --dataset")
		case err != nil:
			return nil, err
		}
		if paths[i] = dir; sampled {
			paths[i] += "#" + sample
		}
	}
	if !r.Here {
		return r, nil
	}
	source, err := data.Open(data.Spec{Paths: paths, Seed: seed})
	if err != nil {
		return nil, advise(err, names)
	}
	files, err := source.Each(ctx, func(e *data.Example) error {
		r.Count++
		if !slices.Contains(r.Formats, e.Format) {
			r.Formats = append(r.Formats, e.Format)
		}
		for n, has := range map[*int]bool{&r.Inputs: e.Input != "", &r.Systems: e.System != "" || len(e.Dialogue) > 0 && e.Dialogue[0].Role == "system",
			&r.Dialogues: len(e.Dialogue) > 0, &r.Tools: len(e.Tools) > 0} {
			if has {
				*n++
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if r.Count == 0 {
		return nil, fmt.Errorf("%s: the dataset has no rows", strings.Join(names, ", "))
	}
	report := data.Report{Files: files}
	r.Notes = append(source.Notes(), report.Describe()...)
	return r, nil
}

// advise adds to the error for a path that does not exist what a name like that could be.
func advise(err error, names []string) error {
	for _, name := range names {
		if _, bad := hub.ParseRef(name, hub.Dataset, hub.HuggingFace); bad == nil && !strings.Contains(name, ":") {
			return fmt.Errorf("%w; if %s is a dataset on a hub, write hf:%s or ms:%s", err, name, name, name)
		}
	}
	return err
}

// Describe says in lines what was found.
func (r *Rows) Describe() string {
	if !r.Here {
		return strings.Join(r.Notes, "\n")
	}
	s := data.Thousands(r.Count) + " rows"
	if r.Count == 1 {
		s = "1 row"
	}
	return strings.Join(append(slices.Clone(r.Notes), s), "\n")
}

// only tells whether all rows are of one of the formats.
func (r *Rows) only(formats ...string) bool {
	return r.Here && !slices.ContainsFunc(r.Formats, func(f string) bool { return !slices.Contains(formats, f) })
}
