package disk

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$`)

// ValidName reports whether name can be one path component on every system that cria runs on: 1 to 96 ASCII letters,
// digits, dots, underscores and hyphens, the first a letter or digit, no "..", no final dot, and none of the device names
// of Windows with or without an extension. It is meant for names that come from a file or from the network.
func ValidName(name string) error {
	switch base, _, _ := strings.Cut(strings.ToUpper(name), "."); {
	case !plainName.MatchString(name):
		return fmt.Errorf("name %.100q: want 1 to 96 letters, digits, '.', '_' or '-', starting with a letter or digit", name)
	case strings.Contains(name, ".."), strings.HasSuffix(name, "."):
		return fmt.Errorf("name %q: two dots together and a dot at the end are not allowed", name)
	case base == "CON", base == "PRN", base == "AUX", base == "NUL",
		len(base) == 4 && (base[:3] == "COM" || base[:3] == "LPT") && '0' <= base[3] && base[3] <= '9':
		return fmt.Errorf("name %q: %s is a device name on Windows", name, base)
	}
	return nil
}

// Kinds of a name that lies beside dst for a while.
const (
	kindTemp    = "tmp" // being written
	kindOld     = "old" // being replaced
	kindDeleted = "del" // being deleted
)

var besideName = regexp.MustCompile(`^(.+)\.(tmp|old|del)-([0-9a-f]{12})$`)

// beside returns the name of dst's companion of one kind; tag tells writers apart.
func beside(dst, kind, tag string) string { return dst + "." + kind + "-" + tag }

// newTag returns 12 random hexadecimal digits.
func newTag() string {
	var b [6]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process if the system has no randomness
	return hex.EncodeToString(b[:])
}
