package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// ManifestName is the file that makes a published directory whole. It is written last.
const ManifestName = "MANIFEST.json"

const (
	manifestFormat  = "cria directory"
	manifestVersion = 1
	maxManifest     = 16 << 20 // bytes; a manifest takes about 150 a file
	sealKey         = "\n  \"sha256\": \""
	sealEnd         = "\"\n}\n"
	sealLen         = len(sealKey) + 2*sha256.Size + len(sealEnd)
)

// Manifest is the content of MANIFEST.json:
//
//	{
//	  "format": "cria directory",
//	  "version": 1,
//	  "meta": {...},
//	  "files": [
//	    {"name": "a.safetensors", "size": 5, "sha256": "..."},
//	    ...
//	  ],
//	  "sha256": "SHA-256 of every byte before this line"
//	}
//
// The last line seals the manifest itself, so that a changed byte of it is found without anything outside.
type Manifest struct {
	Format  string          `json:"format"`
	Version int             `json:"version"`
	Meta    json.RawMessage `json:"meta"`  // what the writer said about the directory, or null
	Files   []FileSum       `json:"files"` // every other file, sorted by name
}

// FileSum is one file of a manifest.
type FileSum struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // lower-case hexadecimal
}

// What Verify can find wrong; test with errors.Is.
var (
	ErrNoManifest = errors.New("has no " + ManifestName)
	ErrManifest   = errors.New("the manifest is torn or altered")
	ErrMissing    = errors.New("the file is missing")
	ErrShort      = errors.New("the file is shorter than the manifest says")
	ErrAltered    = errors.New("the file is not what the manifest says")
	ErrExtra      = errors.New("the file is not in the manifest")
)

// VerifyError says which file of a directory is damaged and how. Err is one of the errors above.
type VerifyError struct {
	Dir, File string
	Err       error
	Detail    string
}

func (e *VerifyError) Error() string {
	s := filepath.Join(e.Dir, e.File) + ": " + e.Err.Error()
	if e.File == "" {
		s = e.Dir + " " + e.Err.Error()
	}
	if e.Detail != "" {
		s += " (" + e.Detail + ")"
	}
	return s
}

func (e *VerifyError) Unwrap() error { return e.Err }

// encode returns the bytes of MANIFEST.json, sealed.
func (m *Manifest) encode() ([]byte, error) {
	body, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	body = append(bytes.TrimSuffix(body, []byte("\n}")), ',')
	sum := sha256.Sum256(body)
	body = append(body, sealKey...)
	body = hex.AppendEncode(body, sum[:])
	return append(body, sealEnd...), nil
}

// decodeManifest checks the seal and every field of MANIFEST.json.
func decodeManifest(b []byte) (*Manifest, error) {
	n := len(b) - sealLen
	if n < 0 {
		return nil, errors.New("too short")
	}
	sum := sha256.Sum256(b[:n])
	if string(b[n:]) != sealKey+hex.EncodeToString(sum[:])+sealEnd {
		return nil, errors.New("its own checksum does not match")
	}
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	if m.Format != manifestFormat || m.Version != manifestVersion {
		return nil, fmt.Errorf("format %q version %d, this cria reads %q version %d; it was written by another version",
			m.Format, m.Version, manifestFormat, manifestVersion)
	}
	for i, f := range m.Files {
		if err := ValidName(f.Name); err != nil {
			return nil, err
		}
		if i > 0 && m.Files[i-1].Name >= f.Name || strings.EqualFold(f.Name, ManifestName) {
			return nil, fmt.Errorf("file %q is listed out of order or twice", f.Name)
		}
		if f.Size < 0 {
			return nil, fmt.Errorf("file %q has size %d", f.Name, f.Size)
		}
	}
	return &m, nil
}

// ReadManifest reads and checks MANIFEST.json of a published directory without looking at the other files.
// Damage is a *VerifyError.
func ReadManifest(fsys FS, dir string) (*Manifest, error) {
	path := filepath.Join(dir, ManifestName)
	info, err := fsys.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := fsys.ReadDir(dir); err != nil {
			return nil, err
		}
		return nil, &VerifyError{Dir: dir, Err: ErrNoManifest}
	}
	if err != nil {
		return nil, err
	}
	damaged := func(detail string) error {
		return &VerifyError{Dir: dir, File: ManifestName, Err: ErrManifest, Detail: detail}
	}
	if !info.Mode().IsRegular() || info.Size() > maxManifest {
		return nil, damaged(fmt.Sprintf("%v of %d bytes", info.Mode().Type(), info.Size()))
	}
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	m, err := decodeManifest(b)
	if err != nil {
		return nil, damaged(err.Error())
	}
	return m, nil
}

// Verify reads every file of a published directory and compares it with the manifest. The first damage found is returned
// as a *VerifyError; an error of the file system is returned as it is and says nothing about the files.
// With ErrExtra the manifest comes back too: every file it lists is whole, and only something was added.
func Verify(fsys FS, dir string) (*Manifest, error) {
	m, err := ReadManifest(fsys, dir)
	if err != nil {
		return nil, err
	}
	for _, f := range m.Files {
		if err := checkSize(fsys, dir, f); err != nil {
			return nil, err
		}
	}
	for _, f := range m.Files {
		if err := checkSum(fsys, dir, f); err != nil {
			return nil, err
		}
	}
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		listed := func(f FileSum) bool { return f.Name == e.Name() }
		if e.Name() != ManifestName && !slices.ContainsFunc(m.Files, listed) {
			return m, &VerifyError{Dir: dir, File: e.Name(), Err: ErrExtra}
		}
	}
	return m, nil
}

func checkSize(fsys FS, dir string, f FileSum) error {
	info, err := fsys.Lstat(filepath.Join(dir, f.Name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &VerifyError{Dir: dir, File: f.Name, Err: ErrMissing}
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return &VerifyError{Dir: dir, File: f.Name, Err: ErrAltered, Detail: "not a regular file"}
	case info.Size() < f.Size:
		return &VerifyError{Dir: dir, File: f.Name, Err: ErrShort, Detail: fmt.Sprintf("%d bytes of %d", info.Size(), f.Size)}
	case info.Size() > f.Size:
		return &VerifyError{Dir: dir, File: f.Name, Err: ErrAltered, Detail: fmt.Sprintf("%d bytes, want %d", info.Size(), f.Size)}
	}
	return nil
}

func checkSum(fsys FS, dir string, f FileSum) error {
	file, err := fsys.Open(filepath.Join(dir, f.Name))
	if err != nil {
		return err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return fmt.Errorf("read %s: %w", filepath.Join(dir, f.Name), err)
	}
	if hex.EncodeToString(h.Sum(nil)) != f.SHA256 {
		return &VerifyError{Dir: dir, File: f.Name, Err: ErrAltered, Detail: "its SHA-256 differs"}
	}
	return nil
}
