package data

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"cria/internal/disk"
	"cria/internal/mmap"
	"cria/internal/pack"
)

// A directory of rows holds three files, all numbers little-endian:
//
//	ids    int32 ...                           the ids of all rows, one row after the other
//	spans  (from uint32, to uint32) ...        of every row the ranges of tokens that are labelled with their ids
//	index  for every row, and once more at the end:
//	         uint64 first id     (number in ids)
//	         uint64 first span   (number in spans)
//	         uint32 labelled     tokens that enter the loss
//	         uint32 file, line, row  where it comes from
//
// Beside them stands disk's manifest, whose meta is the Report. A change of this layout changes rowFormat.
const (
	rowFormat   = 1
	indexRecord = 32
)

var rowFiles = [3]string{"ids", "spans", "index"}

// rowWriter writes a directory of rows.
type rowWriter struct {
	files      [3]io.WriteCloser
	w          [3]*bufio.Writer
	ids, spans uint64
	buf        []byte
}

func newRowWriter(d *disk.DirWriter) (*rowWriter, error) {
	w := &rowWriter{}
	for i, name := range rowFiles {
		f, err := d.Create(name)
		if err != nil {
			return nil, err
		}
		w.files[i], w.w[i] = f, bufio.NewWriterSize(f, 256<<10)
	}
	return w, nil
}

// add writes a row. Labels must be the ids or pack.Ignore.
func (w *rowWriter) add(r pack.Row, p Place) error {
	if err := w.record(uint32(r.Labelled()), p); err != nil {
		return err
	}
	b := w.buf[:0]
	for _, id := range r.IDs {
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	if _, err := w.w[0].Write(b); err != nil {
		return err
	}
	w.ids += uint64(len(r.IDs))
	b = b[:0]
	for i := 0; i < len(r.Labels); i++ {
		from := i
		for i < len(r.Labels) && r.Labels[i] != pack.Ignore {
			if r.Labels[i] != r.IDs[i] {
				return fmt.Errorf("token %d has id %d but label %d", i, r.IDs[i], r.Labels[i])
			}
			i++
		}
		if i > from {
			b = binary.LittleEndian.AppendUint32(b, uint32(from))
			b = binary.LittleEndian.AppendUint32(b, uint32(i))
			w.spans++
		}
	}
	w.buf = b
	_, err := w.w[1].Write(b)
	return err
}

func (w *rowWriter) record(labelled uint32, p Place) error {
	b := binary.LittleEndian.AppendUint64(w.buf[:0], w.ids)
	b = binary.LittleEndian.AppendUint64(b, w.spans)
	for _, v := range []uint32{labelled, uint32(p.File), uint32(p.Line), uint32(p.Row)} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	w.buf = b
	_, err := w.w[2].Write(b)
	return err
}

func (w *rowWriter) finish() error {
	if err := w.record(0, Place{}); err != nil {
		return err
	}
	for i := range w.files {
		if err := w.w[i].Flush(); err != nil {
			return err
		}
		if err := w.files[i].Close(); err != nil {
			return err
		}
	}
	return nil
}

// Set is a directory of rows, mapped into memory. It implements Rows.
type Set struct {
	Report Report

	ids, spans, index []byte
	n                 int
	close             []func() error
}

// openSet maps the rows in dir, whose files were found whole, and checks that they belong together.
func openSet(dir string) (_ *Set, err error) {
	s := &Set{}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	for i, to := range []*[]byte{&s.ids, &s.spans, &s.index} {
		f, err := mmap.Open(filepath.Join(dir, rowFiles[i]))
		if err != nil {
			return nil, err
		}
		s.close = append(s.close, f.Close)
		*to = f.Bytes()
	}
	if len(s.index) < indexRecord || len(s.index)%indexRecord != 0 || len(s.ids)%4 != 0 || len(s.spans)%8 != 0 {
		return nil, errors.New("the files of rows have sizes that cannot be")
	}
	s.n = len(s.index)/indexRecord - 1
	ids, spans := uint64(0), uint64(0)
	for i := range s.n + 1 {
		a, b := s.first(i)
		if a < ids || b < spans {
			return nil, fmt.Errorf("the index of rows is damaged at row %d", i)
		}
		ids, spans = a, b
	}
	if ids != uint64(len(s.ids)/4) || spans != uint64(len(s.spans)/8) {
		return nil, errors.New("the index of rows does not belong to the rows")
	}
	return s, nil
}

// Close gives back the files; no method may be called afterwards.
func (s *Set) Close() error {
	var err error
	for _, c := range s.close {
		err = errors.Join(err, c())
	}
	s.close = nil
	return err
}

// first is the number of the first id and the first span of row i.
func (s *Set) first(i int) (id, span uint64) {
	r := s.index[i*indexRecord:]
	return binary.LittleEndian.Uint64(r), binary.LittleEndian.Uint64(r[8:])
}

func (s *Set) field(i, k int) int {
	return int(binary.LittleEndian.Uint32(s.index[i*indexRecord+16+4*k:]))
}

// Len is the number of rows.
func (s *Set) Len() int { return s.n }

// Tokens is the number of tokens of row i.
func (s *Set) Tokens(i int) int {
	from, _ := s.first(i)
	to, _ := s.first(i + 1)
	return int(to - from)
}

// Labelled is the number of tokens of row i that enter the loss.
func (s *Set) Labelled(i int) int { return s.field(i, 0) }

// Where names the file, line and number of row i.
func (s *Set) Where(i int) string { return s.Report.Where(s.Place(i)) }

// Place is where row i comes from.
func (s *Set) Place(i int) Place { return Place{s.field(i, 1), s.field(i, 2), s.field(i, 3)} }

// Row is row i, copied out of the file.
func (s *Set) Row(i int) pack.Row {
	from, span := s.first(i)
	to, endSpan := s.first(i + 1)
	n := int(to - from)
	both := make([]int32, 2*n)
	ids, labels := both[:n:n], both[n:]
	for k := range ids {
		ids[k] = int32(binary.LittleEndian.Uint32(s.ids[(from+uint64(k))*4:]))
		labels[k] = pack.Ignore
	}
	for ; span < endSpan; span++ {
		a, b := binary.LittleEndian.Uint32(s.spans[span*8:]), binary.LittleEndian.Uint32(s.spans[span*8+4:])
		if a < b && int(b) <= n {
			copy(labels[a:b], ids[a:b])
		}
	}
	return pack.Row{IDs: ids, Labels: labels}
}
