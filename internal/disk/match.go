package disk

import (
	"os"
	"path/filepath"
)

// Match returns the paths of dir's entries whose names match pattern, as filepath.Match says, in alphabetical order; none
// where dir cannot be read. filepath.Glob takes brackets in dir's own name for a pattern too.
func Match(dir, pattern string) (paths []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if ok, _ := filepath.Match(pattern, e.Name()); ok {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths
}
