package hub

import (
	"os"
	"path/filepath"
	"strings"
)

// Repositories lists the models or datasets that are whole on this machine at their default revision, in the caches of both
// hubs as their clients of today lay them out, sorted by hub and name. It makes no connection and reads no weights.
func (c *Client) Repositories(kind Kind) (refs []Ref) {
	for _, in := range []struct {
		source      Source
		dir, prefix string
	}{{HuggingFace, c.env.HFCache, string(kind) + "s--"}, {ModelScope, filepath.Join(c.env.MSCache, string(kind)+"s"), ""}} {
		entries, err := os.ReadDir(in.dir) // sorted
		if err != nil {
			continue
		}
		for _, e := range entries {
			name, ok := strings.CutPrefix(e.Name(), in.prefix)
			ref := Ref{Source: in.source, Kind: kind, Name: strings.Replace(name, "--", "/", 1)}
			if !ok || validName(ref.Name) != nil {
				continue
			}
			if _, ok := c.Cached(ref); ok {
				refs = append(refs, ref)
			}
		}
	}
	return refs
}
