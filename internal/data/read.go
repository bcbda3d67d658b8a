package data

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Dataset is what Read found: all examples in file order, and the files.
type Dataset struct {
	Examples []Example
	Files    []File
}

// File is one dataset file as it was read.
type File struct {
	Path   string
	Rows   int
	SHA256 string // of the bytes read, in hexadecimal
}

// FormatError is a fault in a dataset file. Line and Column count from 1, columns in characters; Row is 0 outside of rows.
type FormatError struct {
	File         string
	Line, Column int
	Row          int
	Reason       string
}

func (e *FormatError) Error() string {
	if e.Row > 0 {
		return fmt.Sprintf("%s:%d:%d: row %d: %s", e.File, e.Line, e.Column, e.Row, e.Reason)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Reason)
}

// maxRow is the size up to which a row is read: a longer one is no dialogue but a broken file.
const maxRow = 16 << 20

// harmless are columns that alpaca files carry beside the text; they are read over.
var harmless = []string{"id", "source", "category", "text"}

// Read reads alpaca files in the order given: a JSON array of objects, or one JSON object after the other (JSON Lines).
// Every row has "instruction" and "output", and may have "input"; all are strings, and a missing or null "input" is
// empty. A further column is refused unless it is empty (null, "", [], {}) or one of id, source, category, text: reading
// over a system prompt or a history would train something else than the file says. Faults are *FormatError.
func Read(paths ...string) (*Dataset, error) {
	var d Dataset
	for _, path := range paths {
		if err := d.readFile(path); err != nil {
			return nil, err
		}
	}
	if len(d.Examples) == 0 {
		return nil, errors.New("no dataset file was named")
	}
	return &d, nil
}

func (d *Dataset) readFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("dataset: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return fmt.Errorf("dataset: %s is a directory: name the JSON or JSON Lines file in it", path)
	}
	hash := sha256.New()
	rows, err := Decode(io.TeeReader(f, hash), path)
	if err != nil {
		return err
	}
	d.Examples = append(d.Examples, rows...)
	d.Files = append(d.Files, File{Path: path, Rows: len(rows), SHA256: hex.EncodeToString(hash.Sum(nil))})
	return nil
}

// Decode reads one dataset file from r to its end; name is the file's name in messages. See Read.
func Decode(r io.Reader, name string) ([]Example, error) {
	s := newScanner(r, name)
	rows, err := decode(s)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, s.fault("no rows: expected a JSON array of objects, or one object a line")
	}
	return rows, nil
}

func decode(s *scanner) ([]Example, error) {
	if err := s.skipByteOrderMark(); err != nil {
		return nil, err
	}
	c, err := s.peekToken()
	if err == io.EOF {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var rows []Example
	row := func() error {
		e, err := decodeRow(s, len(rows)+1)
		if err != nil {
			return err
		}
		rows = append(rows, e)
		return nil
	}
	switch c {
	case '[':
		err = s.array(row)
	case '{':
		for c, err = '{', nil; err == nil; c, err = s.peekToken() {
			if c != '{' {
				return nil, s.fault("expected the { of the next row, found %s", s.describe(c))
			}
			if err := row(); err != nil {
				return nil, err
			}
		}
		if err == io.EOF {
			return rows, nil
		}
	default:
		return nil, s.fault("expected [ or {, found %s: a dataset is a JSON array of objects, or one object a line", s.describe(c))
	}
	if err != nil {
		return nil, err
	}
	if c, err := s.peekToken(); err == nil {
		return nil, s.fault("%s after the end of the array", s.describe(c))
	} else if err != io.EOF {
		return nil, err
	}
	return rows, nil
}

// decodeRow reads one object. Its faults carry the row's number.
func decodeRow(s *scanner, number int) (Example, error) {
	s.row, s.left = number, maxRow
	e := Example{File: s.name, Row: number, Line: s.line}
	start := s.position
	var seen, extra []string
	var have [3]bool
	err := s.object(func(column string) error {
		seen = append(seen, column)
		i := slices.Index([]string{"instruction", "input", "output"}, column)
		if i < 0 {
			empty, err := s.skip(0)
			if err == nil && !empty && !slices.Contains(harmless, column) {
				extra = append(extra, column)
			}
			return err
		}
		c, err := s.peekToken()
		switch {
		case err != nil:
			return s.unexpected(err)
		case column == "input" && c == 'n':
			_, err := s.skip(0)
			return err
		case c != '"':
			return s.fault("%q must be a string, found %s", column, s.describe(c))
		}
		value, err := s.string()
		have[i] = true
		switch i {
		case 0:
			e.Instruction = value
		case 1:
			e.Input = value
		case 2:
			e.Output = value
		}
		return err
	})
	if err != nil {
		return e, err
	}
	switch {
	case !have[0] || !have[2]:
		missing := "instruction"
		if have[0] {
			missing = "output"
		}
		return e, s.faultAt(start, "column %q is missing; the columns are %s", missing, list(seen))
	case len(extra) > 0:
		return e, s.faultAt(start, "column %s is not understood; rows have instruction, input and output. "+
			"Remove the column if it is not to be trained; the columns are %s", list(extra), list(seen))
	}
	s.row, s.left = 0, maxRow
	return e, nil
}

// list quotes and joins column names, the first ones where there are many.
func list(names []string) string {
	const most = 12
	if len(names) == 0 {
		return "none"
	}
	var b strings.Builder
	for i, n := range names {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(names)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%.60q", n)
	}
	return b.String()
}
