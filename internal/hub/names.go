package hub

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// workDir is the folder, beside what is being fetched, for everything that is not finished.
const workDir = ".cria"

var repoPart = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$`)

// validName checks organisation/name by the rules of Hugging Face's client (utils/_validators.py, validate_repo_id), with
// the organisation required. "--" would make two names share a folder in the caches.
func validName(name string) error {
	org, repo, ok := strings.Cut(name, "/")
	if !ok || strings.Contains(repo, "/") {
		return errors.New("want organisation/name, such as HuggingFaceTB/SmolLM2-135M-Instruct")
	}
	for _, part := range []string{org, repo} {
		switch {
		case !repoPart.MatchString(part):
			return fmt.Errorf("%.100q: want 1 to 96 letters, digits, '.', '_' or '-', starting with a letter or digit", part)
		case strings.Contains(part, ".."), strings.Contains(part, "--"):
			return fmt.Errorf("%q: '..' and '--' are not allowed", part)
		case strings.HasSuffix(part, "."), strings.HasSuffix(part, "-"), strings.HasSuffix(part, ".git"):
			return fmt.Errorf("%q: must not end with '.', '-' or '.git'", part)
		case deviceName(part):
			return fmt.Errorf("%q is a device name on Windows", part)
		}
	}
	return nil
}

var revisionPart = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._+-]*$`)

// validRevision checks a branch, a tag or a commit: its parts become folders of the caches.
func validRevision(rev string) error {
	if rev == "" || len(rev) > 200 {
		return errors.New("a revision has 1 to 200 characters")
	}
	for part := range strings.SplitSeq(rev, "/") {
		if !revisionPart.MatchString(part) || strings.Contains(part, "..") || strings.HasSuffix(part, ".") || strings.HasSuffix(part, ".lock") || deviceName(part) {
			return fmt.Errorf("revision %.100q: want a branch, tag or commit of letters, digits, '.', '_', '+', '-' and '/'", rev)
		}
	}
	return nil
}

// validPath checks a path that a hub lists before anything is written there: relative, forward slashes, no part that means
// something to Unix, Windows or git. Letters of all scripts are allowed.
func validPath(p string) error {
	if p == "" || len(p) > 1024 || !utf8.ValidString(p) {
		return fmt.Errorf("path %.100q: want 1 to 1024 bytes of UTF-8", p)
	}
	for part := range strings.SplitSeq(p, "/") {
		switch {
		case part == "", part == ".", part == "..", len(part) > 255:
			return fmt.Errorf("path %.200q: empty parts, '.', '..' and parts of more than 255 bytes are not allowed", p)
		case strings.ContainsAny(part, `\:*?"<>|`):
			return fmt.Errorf("path %.200q: no file can be called that on Windows", p)
		case strings.HasSuffix(part, "."), strings.HasSuffix(part, " "), strings.HasPrefix(part, " "), deviceName(part):
			return fmt.Errorf("path %.200q: no file can be called that on Windows", p)
		case strings.EqualFold(part, ".git"), strings.EqualFold(part, workDir):
			return fmt.Errorf("path %.200q: %s is not for repositories to write", p, part)
		}
		for _, r := range part {
			if !unicode.IsPrint(r) || r == utf8.RuneError {
				return fmt.Errorf("path %.200q holds a character that does not show", p)
			}
		}
	}
	return nil
}

// deviceName tells the names that Windows reserves, with or without an extension.
func deviceName(part string) bool {
	base, _, _ := strings.Cut(strings.ToUpper(part), ".")
	base = strings.TrimRight(base, " ")
	switch base {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	if rest, ok := strings.CutPrefix(base, "COM"); ok || strings.HasPrefix(base, "LPT") {
		if !ok {
			rest = base[3:]
		}
		return len(rest) == 1 && rest[0] >= '0' && rest[0] <= '9' || rest == "¹" || rest == "²" || rest == "³"
	}
	return false
}
