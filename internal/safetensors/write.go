package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
)

// Write writes a whole file. The layout is that of the reference
// implementation, byte for byte: tensors are ordered by dtype (widest first)
// and name, metadata keys alphabetically, and the header is padded with spaces
// to a multiple of 8.
func Write(w io.Writer, tensors []Tensor, metadata map[string]string) error {
	return WriteFunc(w, tensors, metadata, func(w io.Writer, t Tensor) error {
		_, err := w.Write(t.Data)
		return err
	})
}

// WriteFunc is Write for tensors that are made while they are written: it
// ignores Data, and calls data for each tensor in the order of the file, which
// must write exactly the tensor's bytes, little-endian.
func WriteFunc(w io.Writer, tensors []Tensor, metadata map[string]string, data func(w io.Writer, t Tensor) error) error {
	tensors = slices.Clone(tensors)
	slices.SortFunc(tensors, func(a, b Tensor) int {
		return cmp.Or(dtypes[b.DType].rank-dtypes[a.DType].rank, cmp.Compare(a.Name, b.Name))
	})
	header, sizes, err := layOut(tensors, metadata)
	if err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	for i, t := range tensors {
		left := &limitedWriter{w: w, left: sizes[i]}
		if err := data(left, t); err != nil {
			return fmt.Errorf("safetensors: writing %q: %w", t.Name, err)
		}
		if left.left != 0 {
			return fmt.Errorf("safetensors: writing %q: %d of %d bytes missing", t.Name, left.left, sizes[i])
		}
	}
	return nil
}

// layOut makes the length prefix and header for tensors in this order, and
// their sizes in bytes.
func layOut(tensors []Tensor, metadata map[string]string) ([]byte, []int, error) {
	header := append(make([]byte, prefixSize), '{')
	if len(metadata) > 0 {
		header = append(header, `"__metadata__":{`...)
		for i, key := range slices.Sorted(maps.Keys(metadata)) {
			if i > 0 {
				header = append(header, ',')
			}
			header = appendString(header, key)
			header = append(header, ':')
			header = appendString(header, metadata[key])
		}
		header = append(header, '}')
	}
	sizes := make([]int, len(tensors))
	at := 0
	seen := make(map[string]bool, len(tensors))
	for i, t := range tensors {
		if seen[t.Name] || t.Name == "__metadata__" {
			return nil, nil, fmt.Errorf("tensor name %q is taken", t.Name)
		}
		seen[t.Name] = true
		size, err := t.size()
		if err != nil {
			return nil, nil, err
		}
		end := at + size
		if end < at {
			return nil, nil, errors.New("the tensors' sizes overflow")
		}
		if len(header) > prefixSize+1 {
			header = append(header, ',')
		}
		header = appendString(header, t.Name)
		header = append(header, `:{"dtype":"`...)
		header = append(header, t.DType...)
		header = append(header, `","shape":[`...)
		for j, d := range t.Shape {
			if j > 0 {
				header = append(header, ',')
			}
			header = strconv.AppendInt(header, int64(d), 10)
		}
		header = append(header, `],"data_offsets":[`...)
		header = strconv.AppendInt(header, int64(at), 10)
		header = append(header, ',')
		header = strconv.AppendInt(header, int64(end), 10)
		header = append(header, "]}"...)
		sizes[i], at = size, end
	}
	header = append(header, '}')
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	n := len(header) - prefixSize
	if n > maxHeader {
		return nil, nil, fmt.Errorf("header of %d bytes is over the limit of %d", n, maxHeader)
	}
	binary.LittleEndian.PutUint64(header, uint64(n))
	return header, sizes, nil
}

// appendString appends s as JSON, without the escapes that only HTML needs.
func appendString(b []byte, s string) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil { // a string always encodes
		panic(err)
	}
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
}

// limitedWriter passes on at most left bytes and refuses more.
type limitedWriter struct {
	w    io.Writer
	left int
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if len(p) > l.left {
		return 0, fmt.Errorf("%d bytes more than dtype and shape say", len(p)-l.left)
	}
	n, err := l.w.Write(p)
	l.left -= n
	return n, err
}
