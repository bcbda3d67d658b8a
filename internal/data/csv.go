package data

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// readCSV reads RFC 4180's format with a header line and hands on every row, all of whose cells are strings.
func readCSV(r io.Reader, name string, comma rune, each func(*record) error) error {
	s := newScanner(r, name) // for the byte order mark
	if err := s.skipByteOrderMark(); err != nil {
		return err
	}
	in := &limited{r: s.r}
	c := csv.NewReader(bufio.NewReaderSize(in, 64<<10))
	c.Comma, c.ReuseRecord = comma, true
	in.left = maxRow + 64<<10 // the reader above reads ahead
	header, err := c.Read()
	if err == io.EOF {
		return s.fault("no rows: expected a line of column names, and a line for each row")
	}
	if err != nil {
		return csvFault(name, 0, err)
	}
	header = slices.Clone(header)
	for i, h := range header {
		line, column := c.FieldPos(i)
		at := position{line, column}
		switch {
		case !utf8.ValidString(h):
			return faultAt(name, 0, at, "a column's name is not UTF-8: convert the file")
		case h != "" && slices.Contains(header[:i], h):
			return faultAt(name, 0, at, "column %.60q appears twice", h)
		}
	}
	rec := record{file: name, columns: header, values: make([]value, len(header))}
	for {
		in.left = maxRow + 64<<10
		cells, err := c.Read()
		if err == io.EOF {
			if rec.row == 0 {
				return faultAt(name, 0, position{1, 1}, "no rows: there is nothing below the line of column names")
			}
			return nil
		}
		rec.row++
		if err != nil {
			return csvFault(name, rec.row, err)
		}
		for i, cell := range cells {
			line, column := c.FieldPos(i)
			at := position{line, column}
			if i == 0 {
				rec.at = at
			}
			if !utf8.ValidString(cell) {
				return rec.fault(at, "column %.60q is not UTF-8: convert the file", header[i])
			}
			rec.values[i] = value{kind: '"', text: cell, at: at}
		}
		if err := each(&rec); err != nil {
			return err
		}
	}
}

// csvFault is an error of the CSV reader as ours.
func csvFault(name string, row int, err error) error {
	var p *csv.ParseError
	switch {
	case errors.Is(err, errTooLong):
		return &FormatError{File: name, Row: row, Reason: errTooLong.Error() + ": is a closing quote missing?"}
	case !errors.As(err, &p):
		return fmt.Errorf("dataset: reading %s: %w", name, err)
	}
	at := position{p.Line, p.Column}
	switch {
	case errors.Is(err, csv.ErrFieldCount):
		return faultAt(name, row, position{p.StartLine, 1}, "the row has another number of cells than the first line has columns: is a separator inside a cell without quotes?")
	case errors.Is(err, csv.ErrQuote):
		at.line, at.column = p.StartLine, 1
		return faultAt(name, row, at, "a quote is missing or out of place (noticed at line %d, column %d): a cell with quotes, separators or line breaks stands in double quotes, and quotes in it are doubled", p.Line, p.Column)
	case errors.Is(err, csv.ErrBareQuote):
		return faultAt(name, row, at, "a double quote in a cell that does not begin with one: put the cell in double quotes and double those in it")
	}
	return faultAt(name, row, at, "%v", p.Err)
}

var errTooLong = fmt.Errorf("longer than %d MiB", maxRow>>20)

// limited stops a row that does not end.
type limited struct {
	r    io.Reader
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooLong
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}
