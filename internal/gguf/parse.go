package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"unicode/utf8"
)

const (
	maxKey       = 64 << 10 // the format's own limit
	maxString    = 16 << 20
	maxName      = 64      // GGML_MAX_NAME
	maxDims      = 4       // GGML_MAX_DIMS
	maxEntries   = 1 << 16 // tensors, and metadata values
	minAlignment = 8
	maxAlignment = 1 << 20
)

// Metadata value types, numbered as gguf_metadata_value_type.
const (
	typeUint8 = iota
	typeInt8
	typeUint16
	typeInt16
	typeUint32
	typeInt32
	typeFloat32
	typeBool
	typeString
	typeArray
	typeUint64
	typeInt64
	typeFloat64
)

// parse checks a whole file; the tensors' Data are slices of data.
func parse(data []byte) (*File, error) {
	r := &reader{data: data}
	magic, err := r.take(4)
	if err != nil || string(magic) != "GGUF" {
		return nil, errors.New("not a GGUF file")
	}
	version, err := r.uint32()
	switch {
	case err != nil:
		return nil, err
	case version == 2 || version == 3:
	case bits.ReverseBytes32(version) <= 0xffff && version > 0xffff:
		return nil, errors.New("big-endian GGUF is not supported; convert the model for little-endian machines")
	default:
		return nil, fmt.Errorf("GGUF version %d is not supported; 2 and 3 are", version)
	}
	nTensors, err := r.count("tensors", 8+1+4+8+4+8)
	if err != nil {
		return nil, err
	}
	nValues, err := r.count("metadata values", 8+1+4+1)
	if err != nil {
		return nil, err
	}
	if nTensors > maxEntries || nValues > maxEntries {
		return nil, fmt.Errorf("%d tensors and %d metadata values: more than %d", nTensors, nValues, maxEntries)
	}
	f := &File{version: int(version), metadata: make(map[string]any), byName: make(map[string]int)}
	for range nValues {
		key, err := r.string(maxKey)
		if err != nil {
			return nil, fmt.Errorf("metadata key: %w", err)
		}
		if key == "" || !utf8.ValidString(key) {
			return nil, fmt.Errorf("metadata key %q is not a name", key)
		}
		if _, ok := f.metadata[key]; ok {
			return nil, fmt.Errorf("metadata %s comes twice", key)
		}
		if f.metadata[key], err = r.value(); err != nil {
			return nil, fmt.Errorf("metadata %s: %w", key, err)
		}
	}
	alignment := uint64(32)
	if n, err := f.Int("general.alignment"); err == nil {
		alignment = uint64(n)
	} else if !errors.Is(err, ErrMissing) {
		return nil, err
	}
	if alignment < minAlignment || alignment > maxAlignment || alignment&(alignment-1) != 0 {
		return nil, fmt.Errorf("general.alignment %d is not a power of two from %d to %d", alignment, minAlignment, maxAlignment)
	}
	return f, f.parseTensors(r, nTensors, alignment)
}

func (f *File) parseTensors(r *reader, n int, alignment uint64) error {
	var sizes []uint64
	var total uint64 // of the data so far, padded
	for range n {
		t, offset, err := r.tensor()
		if err != nil {
			return err
		}
		if _, ok := f.byName[t.Name]; ok {
			return fmt.Errorf("tensor %q comes twice", t.Name)
		}
		f.byName[t.Name] = len(f.tensors)
		size, err := t.size()
		if err != nil {
			return err
		}
		if offset != total {
			return fmt.Errorf("tensor %q is at offset %d where %d belongs", t.Name, offset, total)
		}
		padded := (size + alignment - 1) &^ (alignment - 1)
		if total += padded; padded < size || total < padded {
			return fmt.Errorf("tensor %q: size overflows", t.Name)
		}
		f.tensors = append(f.tensors, t)
		sizes = append(sizes, size)
	}
	start := (uint64(r.at) + alignment - 1) &^ (alignment - 1)
	var data []byte
	if start <= uint64(len(r.data)) {
		data = r.data[start:]
	}
	at := uint64(0)
	for i := range f.tensors {
		t := &f.tensors[i]
		end := at + sizes[i]
		if end > uint64(len(data)) {
			return fmt.Errorf("tensor %q ends %d bytes past the end of the file: the file is cut off", t.Name, end-uint64(len(data)))
		}
		t.Data = data[at:end:end]
		at = (end + alignment - 1) &^ (alignment - 1)
	}
	return nil
}

// size is the number of bytes that type and shape ask for.
func (t Tensor) size() (uint64, error) {
	info, ok := types[t.Type]
	if !ok {
		return 0, fmt.Errorf("tensor %q has the unknown type %d", t.Name, uint32(t.Type))
	}
	if t.RowLen()%info.elements != 0 {
		return 0, fmt.Errorf("tensor %q: rows of %d elements are not whole blocks of %d (%v)", t.Name, t.RowLen(), info.elements, t.Type)
	}
	n := uint64(1)
	for _, d := range t.Shape {
		hi, lo := bits.Mul64(n, uint64(d))
		if hi != 0 || lo > math.MaxInt {
			return 0, fmt.Errorf("tensor %q: the sizes in shape %v overflow", t.Name, t.Shape)
		}
		n = lo
	}
	hi, lo := bits.Mul64(n/uint64(info.elements), uint64(info.bytes))
	if hi != 0 || lo > math.MaxInt {
		return 0, fmt.Errorf("tensor %q: the sizes in shape %v overflow", t.Name, t.Shape)
	}
	return lo, nil
}

// reader takes values from the front of data, never past its end.
type reader struct {
	data []byte
	at   int
}

func (r *reader) left() uint64 { return uint64(len(r.data) - r.at) }

func (r *reader) take(n uint64) ([]byte, error) {
	if n > r.left() {
		return nil, fmt.Errorf("the file is cut off: %d bytes wanted at %d of %d", n, r.at, len(r.data))
	}
	b := r.data[r.at : r.at+int(n)]
	r.at += int(n)
	return b, nil
}

func (r *reader) uint32() (uint32, error) {
	b, err := r.take(4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (r *reader) uint64() (uint64, error) {
	b, err := r.take(8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// count reads a number of things that take at least size bytes each.
func (r *reader) count(what string, size uint64) (int, error) {
	n, err := r.uint64()
	if err != nil {
		return 0, err
	}
	if n > r.left()/size {
		return 0, fmt.Errorf("%d %s do not fit in the file", n, what)
	}
	return int(n), nil
}

func (r *reader) string(limit uint64) (string, error) {
	n, err := r.uint64()
	if err != nil {
		return "", err
	}
	if n > limit {
		return "", fmt.Errorf("string of %d bytes is over the limit of %d", n, limit)
	}
	b, err := r.take(n)
	return string(b), err
}

func (r *reader) value() (any, error) {
	kind, err := r.uint32()
	if err != nil {
		return nil, err
	}
	if kind == typeArray {
		return r.array()
	}
	if kind == typeString {
		return r.string(maxString)
	}
	return r.scalar(kind)
}

// scalar reads a value of fixed size.
func (r *reader) scalar(kind uint32) (any, error) {
	size := scalarSize(kind)
	if size == 0 {
		return nil, fmt.Errorf("unknown value type %d", kind)
	}
	b, err := r.take(size)
	if err != nil {
		return nil, err
	}
	switch kind {
	case typeUint8:
		return b[0], nil
	case typeInt8:
		return int8(b[0]), nil
	case typeUint16:
		return binary.LittleEndian.Uint16(b), nil
	case typeInt16:
		return int16(binary.LittleEndian.Uint16(b)), nil
	case typeUint32:
		return binary.LittleEndian.Uint32(b), nil
	case typeInt32:
		return int32(binary.LittleEndian.Uint32(b)), nil
	case typeFloat32:
		return math.Float32frombits(binary.LittleEndian.Uint32(b)), nil
	case typeBool:
		if b[0] > 1 {
			return nil, fmt.Errorf("%d is not a boolean", b[0])
		}
		return b[0] == 1, nil
	case typeUint64:
		return binary.LittleEndian.Uint64(b), nil
	case typeInt64:
		return int64(binary.LittleEndian.Uint64(b)), nil
	default: // typeFloat64
		return math.Float64frombits(binary.LittleEndian.Uint64(b)), nil
	}
}

// scalarSize is the bytes of a value of that type, 0 where they vary.
func scalarSize(kind uint32) uint64 {
	switch kind {
	case typeUint8, typeInt8, typeBool:
		return 1
	case typeUint16, typeInt16:
		return 2
	case typeUint32, typeInt32, typeFloat32:
		return 4
	case typeUint64, typeInt64, typeFloat64:
		return 8
	}
	return 0
}

// array reads an array of scalars or strings; arrays of arrays, which no
// known key has, are refused as ggml refuses them.
func (r *reader) array() (any, error) {
	kind, err := r.uint32()
	if err != nil {
		return nil, err
	}
	if kind == typeString {
		n, err := r.count("strings", 8)
		if err != nil {
			return nil, err
		}
		list := make([]string, n)
		for i := range list {
			if list[i], err = r.string(maxString); err != nil {
				return nil, fmt.Errorf("element %d: %w", i, err)
			}
		}
		return list, nil
	}
	size := scalarSize(kind)
	if kind == typeArray {
		return nil, errors.New("arrays of arrays are not supported")
	}
	if size == 0 {
		return nil, fmt.Errorf("unknown value type %d", kind)
	}
	n, err := r.count("values", size)
	if err != nil {
		return nil, err
	}
	b, err := r.take(uint64(n) * size)
	if err != nil {
		return nil, err
	}
	switch kind {
	case typeUint8:
		return decode[uint8](b, n)
	case typeInt8:
		return decode[int8](b, n)
	case typeUint16:
		return decode[uint16](b, n)
	case typeInt16:
		return decode[int16](b, n)
	case typeUint32:
		return decode[uint32](b, n)
	case typeInt32:
		return decode[int32](b, n)
	case typeFloat32:
		return decode[float32](b, n)
	case typeBool:
		if i := slices.IndexFunc(b, func(v byte) bool { return v > 1 }); i >= 0 {
			return nil, fmt.Errorf("element %d is not a boolean", i)
		}
		return decode[bool](b, n)
	case typeUint64:
		return decode[uint64](b, n)
	case typeInt64:
		return decode[int64](b, n)
	default: // typeFloat64
		return decode[float64](b, n)
	}
}

func decode[T any](b []byte, n int) ([]T, error) {
	list := make([]T, n)
	_, err := binary.Decode(b, binary.LittleEndian, list)
	return list, err
}

// tensor reads one entry of the tensor table.
func (r *reader) tensor() (Tensor, uint64, error) {
	var t Tensor
	var err error
	if t.Name, err = r.string(maxName); err != nil {
		return t, 0, fmt.Errorf("tensor name: %w", err)
	}
	if t.Name == "" || !utf8.ValidString(t.Name) {
		return t, 0, fmt.Errorf("tensor name %q is not a name", t.Name)
	}
	dims, err := r.uint32()
	if err != nil {
		return t, 0, err
	}
	if dims < 1 || dims > maxDims {
		return t, 0, fmt.Errorf("tensor %q has %d dimensions; 1 to %d are possible", t.Name, dims, maxDims)
	}
	t.Shape = make([]int, dims)
	for i := range t.Shape {
		d, err := r.uint64()
		if err != nil {
			return t, 0, err
		}
		if d < 1 || d > math.MaxInt {
			return t, 0, fmt.Errorf("tensor %q: %d is not a size", t.Name, d)
		}
		t.Shape[len(t.Shape)-1-i] = int(d)
	}
	kind, err := r.uint32()
	if err != nil {
		return t, 0, err
	}
	t.Type = Type(kind)
	offset, err := r.uint64()
	return t, offset, err
}
