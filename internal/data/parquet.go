package data

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding"
	"github.com/parquet-go/parquet-go/format"
)

// readParquet hands on every row of a Parquet file; lists and structs, nested too, become arrays and objects. A null in a
// struct counts as a missing key: all structs of a column have the same fields, so that rows without one have null there.
func readParquet(ctx context.Context, path string, wanted func(column string) bool, each func(*record) error) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("dataset: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("dataset: %w", err)
	}
	rec := record{file: path}
	defer func() {
		// The library's answer to some damaged files is a panic.
		if p := recover(); p != nil {
			err = rec.fault(position{}, "the Parquet file is damaged (%v)", p)
		}
	}()
	if err := checkFooter(f, info.Size()); err != nil {
		return &FormatError{File: path, Reason: fmt.Sprintf("not a whole Parquet file: %v", err)}
	}
	file, err := parquet.OpenFile(f, info.Size(), parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true), parquet.ReadBufferSize(256<<10))
	if err != nil {
		return &FormatError{File: path, Reason: fmt.Sprintf("not a whole Parquet file: %v", err)}
	}
	if file.NumRows() == 0 {
		return &FormatError{File: path, Reason: "no rows"}
	}
	for _, g := range file.Metadata().RowGroups {
		for _, c := range g.Columns {
			// The library's decoder takes ever more memory for a block that is damaged.
			if c.MetaData.Codec == format.Lz4Raw {
				return &FormatError{File: path, Reason: "compressed with LZ4, which is not supported: write it with Snappy, Zstandard or gzip"}
			}
		}
	}
	t := newAssembler(file.Schema())
	if len(t.cells) == 0 {
		return &FormatError{File: path, Reason: "no columns"}
	}
	rec.columns, rec.values = t.names, make([]value, len(t.names))
	for _, group := range file.RowGroups() {
		if err := t.group(ctx, group, &rec, wanted, each); err != nil {
			return err
		}
	}
	if int64(rec.row) != file.NumRows() {
		return rec.fault(position{}, "the Parquet file is damaged: it announces %d rows and ends behind this one", file.NumRows())
	}
	return nil
}

// checkFooter sees to it that the footer is not larger than the file: the library makes room for what is announced.
func checkFooter(f *os.File, size int64) error {
	var b [8]byte
	if size < 12 {
		return errors.New("it is too short")
	}
	if _, err := f.ReadAt(b[:], size-8); err != nil {
		return err
	}
	if n := int64(binary.LittleEndian.Uint32(b[:])); string(b[4:]) != "PAR1" || n > size-12 {
		return errors.New("it does not end as one")
	}
	return nil
}

// assembler puts the values of a row's leaf columns together (Dremel, section 4).
type assembler struct {
	fields []parquet.Field
	names  []string
	leaves []int             // number of leaf columns before each field
	cells  [][]parquet.Value // what is left of each leaf column
	size   int               // bytes of the row so far
}

func newAssembler(schema *parquet.Schema) *assembler {
	t := &assembler{fields: schema.Fields()}
	n := 0
	for _, f := range t.fields {
		t.names, t.leaves = append(t.names, f.Name()), append(t.leaves, n)
		n += leafCount(f)
	}
	t.cells = make([][]parquet.Value, n)
	return t
}

func leafCount(n parquet.Node) (count int) {
	if n.Leaf() {
		return 1
	}
	for _, f := range n.Fields() {
		count += leafCount(f)
	}
	return count
}

func (t *assembler) group(ctx context.Context, g parquet.RowGroup, rec *record, wanted func(string) bool, each func(*record) error) error {
	columns := make([]leafReader, 0, len(t.cells))
	defer func() {
		for i := range columns {
			columns[i].pages.Close()
		}
	}()
	for _, c := range g.ColumnChunks() {
		columns = append(columns, leafReader{pages: c.Pages()})
	}
	if len(columns) != len(t.cells) {
		return rec.fault(position{}, "the Parquet file is damaged: a group of rows has %d columns, not %d", len(columns), len(t.cells))
	}
	for range g.NumRows() {
		if err := ctx.Err(); err != nil {
			return err
		}
		rec.row++
		for i := range columns {
			var err error
			if t.cells[i], err = columns[i].row(); err != nil {
				return rec.fault(position{}, "the Parquet file is damaged: %v", err)
			}
		}
		if err := t.row(rec, wanted); err != nil {
			return err
		}
		if err := each(rec); err != nil {
			return err
		}
	}
	return nil
}

// leafReader reads a leaf column of a group of rows, row by row. (The library's own reader of rows does not come to an end
// with some damaged files.)
type leafReader struct {
	pages  parquet.Pages
	values parquet.ValueReader // of the page, nil between pages
	buffer []parquet.Value
	next   []parquet.Value // what is left in buffer
	cells  []parquet.Value // of the row
}

// row is the column's next row, at least one value, valid until the next call.
func (c *leafReader) row() ([]parquet.Value, error) {
	c.cells = c.cells[:0]
	for {
		if len(c.next) == 0 {
			err := c.fill()
			if err == io.EOF && len(c.cells) > 0 {
				return c.cells, nil
			}
			if err == io.EOF {
				return nil, fmt.Errorf("a column ends before its last row")
			}
			if err != nil {
				return nil, err
			}
		}
		n := 0
		if len(c.cells) == 0 {
			n = 1
		}
		for n < len(c.next) && c.next[n].RepetitionLevel() > 0 {
			n++
		}
		c.cells, c.next = append(c.cells, c.next[:n]...), c.next[n:]
		if len(c.next) > 0 {
			return c.cells, nil
		}
	}
}

// fill reads on until there is a value; io.EOF behind the last one.
func (c *leafReader) fill() error {
	if c.buffer == nil {
		c.buffer = make([]parquet.Value, 256)
	}
	for {
		if c.values == nil {
			page, err := c.pages.ReadPage()
			if err != nil {
				return err
			}
			if err := checkPage(page); err != nil {
				return err
			}
			c.values = page.Values()
		}
		n, err := c.values.ReadValues(c.buffer)
		if err == io.EOF || n == 0 {
			c.values = nil // to the next page
		} else if err != nil {
			return err
		}
		if n > 0 {
			c.next = c.buffer[:n]
			return nil
		}
	}
}

// checkPage sees to it that a page has a value for each of its levels that says so: the library looks for ever for one that
// is missing.
func checkPage(p parquet.Page) error {
	levels := p.DefinitionLevels()
	if len(levels) == 0 {
		return nil
	}
	want := p.NumValues() - p.NumNulls()
	v := p.Data()
	have := int64(0)
	switch v.Kind() {
	case encoding.Boolean:
		have = 8 * int64(len(v.Boolean()))
	case encoding.Int32:
		have = int64(len(v.Int32()))
	case encoding.Int64:
		have = int64(len(v.Int64()))
	case encoding.Int96:
		have = int64(len(v.Int96()))
	case encoding.Float:
		have = int64(len(v.Float()))
	case encoding.Double:
		have = int64(len(v.Double()))
	case encoding.ByteArray:
		_, offsets := v.ByteArray()
		have = int64(len(offsets)) - 1
	case encoding.FixedLenByteArray:
		if data, size := v.FixedLenByteArray(); size > 0 {
			have = int64(len(data) / size)
		}
	default: // a page of nulls has no values
	}
	if r := p.RepetitionLevels(); have < want || len(r) > 0 && len(r) != len(levels) {
		return fmt.Errorf("a page has %d values, %d are announced", max(have, 0), want)
	}
	return nil
}

// row makes a record of a row's cells.
func (t *assembler) row(rec *record, wanted func(string) bool) error {
	t.size = 0
	for i, f := range t.fields {
		if !wanted(t.names[i]) {
			rec.values[i] = value{}
			if c := t.cells[t.leaves[i]]; len(c) == 0 || c[0].IsNull() || c[0].Kind() == parquet.ByteArray && len(c[0].ByteArray()) == 0 {
				rec.values[i].kind = 'n'
			}
			continue
		}
		v, err := t.build(f, t.leaves[i], 0, 0)
		if err != nil {
			return rec.fault(position{}, "column %.60q: %v", t.names[i], err)
		}
		rec.values[i] = v
	}
	return nil
}

// build takes the next value of a node, whose leaf columns begin at leaf, out of the cells; rep and def are the levels of
// what is around it.
func (t *assembler) build(n parquet.Node, leaf, rep, def int) (value, error) {
	switch {
	case n.Optional():
		if ok, err := t.defined(leaf, def); !ok {
			t.skip(n, leaf)
			return value{kind: 'n'}, err
		}
		return t.content(n, leaf, rep, def+1)
	case n.Repeated():
		v := value{kind: '['}
		if ok, err := t.defined(leaf, def); !ok {
			t.skip(n, leaf)
			return v, err
		}
		for {
			item, err := t.content(n, leaf, rep+1, def+1)
			if err != nil {
				return v, err
			}
			v.items = append(v.items, item)
			if c := t.cells[leaf]; len(c) == 0 || c[0].RepetitionLevel() != rep+1 {
				return v, nil
			}
		}
	}
	return t.content(n, leaf, rep, def)
}

// defined tells whether the next value lies deeper than def.
func (t *assembler) defined(leaf, def int) (bool, error) {
	if len(t.cells[leaf]) == 0 {
		return false, fmt.Errorf("the Parquet file is damaged: a value is missing")
	}
	return t.cells[leaf][0].DefinitionLevel() > def, nil
}

// skip takes one value from every leaf column of a node.
func (t *assembler) skip(n parquet.Node, leaf int) {
	for i := leaf; i < leaf+leafCount(n); i++ {
		if len(t.cells[i]) > 0 {
			t.cells[i] = t.cells[i][1:]
		}
	}
}

// content is a node's value without what Optional and Repeated say.
func (t *assembler) content(n parquet.Node, leaf, rep, def int) (value, error) {
	if n.Leaf() {
		c := t.cells[leaf]
		if len(c) == 0 {
			return value{}, fmt.Errorf("the Parquet file is damaged: a value is missing")
		}
		t.cells[leaf] = c[1:]
		return t.leafValue(c[0])
	}
	fields := n.Fields()
	logical := n.Type().LogicalType()
	isList := logical != nil && logical.List != nil
	isMap := logical != nil && logical.Map != nil
	v := value{kind: '{'}
	for _, f := range fields {
		item, err := t.build(f, leaf, rep, def)
		if err != nil {
			return v, err
		}
		leaf += leafCount(f)
		if (isList || isMap) && len(fields) == 1 && f.Repeated() {
			return unwrap(item, isMap), nil
		}
		if item.kind != 'n' {
			v.keys, v.items = append(v.keys, f.Name()), append(v.items, item)
		}
	}
	return v, nil
}

// unwrap makes the array of a LIST, whose elements stand in groups of one field, and the object of a MAP.
func unwrap(v value, isMap bool) value {
	out := value{kind: '['}
	if isMap {
		out.kind = '{'
	}
	for _, e := range v.items {
		switch {
		case isMap && len(e.items) == 2:
			out.keys, out.items = append(out.keys, e.items[0].text), append(out.items, e.items[1])
		case isMap:
		case e.kind == '{' && len(e.items) == 1 && (e.keys[0] == "element" || e.keys[0] == "item" || e.keys[0] == "array_element"):
			out.items = append(out.items, e.items[0])
		case e.kind == '{' && len(e.items) == 0:
			out.items = append(out.items, value{kind: 'n'})
		default:
			out.items = append(out.items, e)
		}
	}
	return out
}

func (t *assembler) leafValue(c parquet.Value) (value, error) {
	switch c.Kind() {
	case parquet.Boolean:
		if c.Boolean() {
			return value{kind: 't'}, nil
		}
		return value{kind: 'f'}, nil
	case parquet.Int32:
		return value{kind: '0', text: strconv.Itoa(int(c.Int32()))}, nil
	case parquet.Int64:
		return value{kind: '0', text: strconv.FormatInt(c.Int64(), 10)}, nil
	case parquet.Float:
		return value{kind: '0', text: strconv.FormatFloat(float64(c.Float()), 'g', -1, 32)}, nil
	case parquet.Double:
		return value{kind: '0', text: strconv.FormatFloat(c.Double(), 'g', -1, 64)}, nil
	case parquet.ByteArray:
		b := c.ByteArray()
		if t.size += len(b); t.size > maxRow {
			return value{}, errTooLong
		}
		if !utf8.Valid(b) {
			return value{}, fmt.Errorf("a text is not UTF-8")
		}
		return value{kind: '"', text: string(b)}, nil
	}
	if c.IsNull() {
		return value{kind: 'n'}, nil
	}
	return value{}, nil
}
