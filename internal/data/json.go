package data

import (
	"io"
	"strings"
)

// readJSONRows reads a JSON array of objects, or one object after the other (JSON Lines), and hands on every object. Of columns
// that wanted does not want it only says whether they are empty. The record is valid until each returns.
func readJSONRows(r io.Reader, name string, wanted func(column string) bool, each func(*record) error) error {
	s := newScanner(r, name)
	if err := s.skipByteOrderMark(); err != nil {
		return err
	}
	rec := record{file: name}
	row := func() error {
		rec.row++
		if err := s.record(&rec, wanted); err != nil {
			return err
		}
		return each(&rec)
	}
	c, err := s.peekToken()
	switch {
	case err == io.EOF:
		return s.fault(noRows)
	case err != nil:
		return err
	case c == '[':
		err = s.array(row)
	case c == '{':
		for err == nil {
			if c != '{' {
				return s.fault("expected the { of the next row, found %s", s.describe(c))
			}
			if err = row(); err == nil {
				c, err = s.peekToken()
			}
		}
		if err == io.EOF {
			return nil
		}
	default:
		return s.fault("expected [ or {, found %s: a dataset is a JSON array of objects, or one object a line", s.describe(c))
	}
	if err != nil {
		return err
	}
	if c, err := s.peekToken(); err == nil {
		return s.fault("%s after the end of the array", s.describe(c))
	} else if err != io.EOF {
		return err
	}
	if rec.row == 0 {
		return s.fault(noRows)
	}
	return nil
}

const noRows = "no rows: expected a JSON array of objects, or one object a line"

// record reads one object. Faults in it carry the row's number.
func (s *scanner) record(rec *record, wanted func(string) bool) error {
	s.row, s.left = rec.row, maxRow
	rec.at = s.position
	rec.columns, rec.values = rec.columns[:0], rec.values[:0]
	err := s.object(func(column string) error {
		var v value
		var err error
		if wanted(column) {
			v, err = s.value(0)
		} else {
			if _, err := s.peekToken(); err != nil {
				return s.unexpected(err)
			}
			v.at = s.position
			var empty bool
			if empty, err = s.skip(0); empty {
				v.kind = 'n'
			}
		}
		rec.columns, rec.values = append(rec.columns, column), append(rec.values, v)
		return err
	})
	s.row, s.left = 0, maxRow
	return err
}

// parseCell reads JSON that stands in a string of a row: a list in a CSV file, a list that was written as text. Faults are
// at the string's place.
func parseCell(rec *record, v *value) (value, error) {
	s := newScanner(strings.NewReader(v.text), rec.file)
	out, err := s.value(0)
	if err == nil {
		var c byte
		if c, err = s.peekToken(); err == nil {
			err = s.fault("%s after the end of the value", s.describe(c))
		} else if err == io.EOF {
			err = nil
		}
	}
	if f, ok := err.(*FormatError); ok {
		return out, rec.fault(v.at, "the text is no JSON: at its line %d, column %d: %s", f.Line, f.Column, f.Reason)
	}
	out.move(v.at)
	return out, err
}

// move gives a value and all in it one place.
func (v *value) move(to position) {
	v.at = to
	for i := range v.items {
		v.items[i].move(to)
	}
}
