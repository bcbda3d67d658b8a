package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

const (
	prefixSize = 8 // the header's length
	// maxHeader is the reference implementation's limit on the header.
	maxHeader = 100_000_000
	maxDims   = 64
	// lfsPointer begins what a clone without Git LFS has in a large file's place.
	lfsPointer = "version https://git-lfs"
)

// entry is one tensor of a header, its data being data[begin:end].
type entry struct {
	Tensor
	begin, end int
}

// parse checks a whole file and returns its tensors, in the order of their
// data, and its metadata. The tensors' Data are slices of file.
func parse(file []byte) ([]Tensor, map[string]string, error) {
	if len(file) < prefixSize {
		return nil, nil, fmt.Errorf("file of %d bytes is too short to be safetensors", len(file))
	}
	n := binary.LittleEndian.Uint64(file)
	switch {
	case bytes.HasPrefix(file, []byte(lfsPointer)):
		return nil, nil, errors.New("this is only a Git LFS pointer to the file; fetch the file itself (git lfs pull)")
	case n > maxHeader:
		return nil, nil, fmt.Errorf("header of %d bytes is over the limit of %d; this is probably not a safetensors file", n, maxHeader)
	case n > uint64(len(file)-prefixSize):
		return nil, nil, fmt.Errorf("header of %d bytes reaches past the end of the file (%d bytes): the file is cut off", n, len(file))
	}
	header, data := file[prefixSize:prefixSize+int(n)], file[prefixSize+int(n):]
	entries, metadata, err := parseHeader(header)
	if err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	slices.SortFunc(entries, func(a, b entry) int {
		if a.begin != b.begin {
			return a.begin - b.begin
		}
		return a.end - b.end
	})
	tensors := make([]Tensor, len(entries))
	at := 0
	for i, e := range entries {
		if e.begin != at || e.end < e.begin {
			return nil, nil, fmt.Errorf("tensor %q: data_offsets [%d, %d] leave a hole or overlap (expected %d)", e.Name, e.begin, e.end, at)
		}
		size, err := e.size()
		if err != nil {
			return nil, nil, err
		}
		if size != e.end-e.begin {
			return nil, nil, fmt.Errorf("tensor %q: %s %v needs %d bytes, data_offsets give %d", e.Name, e.DType, e.Shape, size, e.end-e.begin)
		}
		if e.end > len(data) {
			return nil, nil, fmt.Errorf("tensor %q ends at byte %d of %d: the file is cut off", e.Name, e.end, len(data))
		}
		at = e.end
		tensors[i] = e.Tensor
		tensors[i].Data = data[e.begin:e.end:e.end]
	}
	if at != len(data) {
		return nil, nil, fmt.Errorf("%d bytes behind the last tensor", len(data)-at)
	}
	return tensors, metadata, nil
}

func parseHeader(header []byte) ([]entry, map[string]string, error) {
	if len(header) == 0 || header[0] != '{' {
		return nil, nil, errors.New("does not start with '{'")
	}
	d, err := newDecoder(header)
	if err != nil {
		return nil, nil, err
	}
	var entries []entry
	metadata := map[string]string{}
	err = d.object(func(name string) error {
		if name == "__metadata__" {
			return d.object(func(key string) error {
				var err error
				metadata[key], err = d.string()
				return err
			})
		}
		e, err := d.entry()
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		e.Name = name
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return entries, metadata, d.finish()
}

// decoder reads JSON strictly: a key may come once, integers are plain
// decimals, and what is not expected is an error, so nesting cannot grow.
type decoder struct{ *json.Decoder }

func newDecoder(text []byte) (decoder, error) {
	if !utf8.Valid(text) {
		return decoder{}, errors.New("not valid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return decoder{d}, nil
}

func (d decoder) token() (json.Token, error) {
	tok, err := d.Token()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return tok, err
}

func (d decoder) delim(want json.Delim) error {
	tok, err := d.token()
	if err != nil {
		return err
	}
	if tok != want {
		return fmt.Errorf("found %v where %v belongs", tok, want)
	}
	return nil
}

// object reads an object, calling value after each key.
func (d decoder) object(value func(key string) error) error {
	if err := d.delim('{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for d.More() {
		key, err := d.string()
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("key %q comes twice", key)
		}
		seen[key] = true
		if err := value(key); err != nil {
			return err
		}
	}
	return d.delim('}')
}

func (d decoder) string() (string, error) {
	tok, err := d.token()
	if err != nil {
		return "", err
	}
	s, ok := tok.(string)
	if !ok {
		return "", fmt.Errorf("found %v where a string belongs", tok)
	}
	return s, nil
}

// ints reads a list of at most limit integers from 0 to MaxInt.
func (d decoder) ints(limit int) ([]int, error) {
	if err := d.delim('['); err != nil {
		return nil, err
	}
	list := []int{}
	for d.More() {
		tok, err := d.token()
		if err != nil {
			return nil, err
		}
		num, ok := tok.(json.Number)
		if !ok {
			return nil, fmt.Errorf("found %v where an integer belongs", tok)
		}
		n, err := strconv.ParseUint(num.String(), 10, 64)
		if err != nil || n > math.MaxInt {
			return nil, fmt.Errorf("%s is not a size", num)
		}
		if len(list) == limit {
			return nil, fmt.Errorf("list of more than %d integers", limit)
		}
		list = append(list, int(n))
	}
	return list, d.delim(']')
}

func (d decoder) entry() (entry, error) {
	var e entry
	var offsets []int
	err := d.object(func(key string) (err error) {
		switch key {
		case "dtype":
			var s string
			s, err = d.string()
			e.DType = DType(s)
		case "shape":
			e.Shape, err = d.ints(maxDims)
		case "data_offsets":
			offsets, err = d.ints(2)
		default:
			err = fmt.Errorf("unknown key %q", key)
		}
		return err
	})
	switch {
	case err != nil:
		return entry{}, err
	case e.DType == "" || e.Shape == nil || len(offsets) != 2:
		return entry{}, errors.New("dtype, shape and data_offsets [begin, end] are needed")
	}
	e.begin, e.end = offsets[0], offsets[1]
	return e, nil
}

// finish checks that nothing but white space follows.
func (d decoder) finish() error {
	if tok, err := d.Token(); err != io.EOF {
		if err != nil {
			return err
		}
		return fmt.Errorf("%v behind the end", tok)
	}
	return nil
}
