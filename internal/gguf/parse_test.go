package gguf

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"runtime/metrics"
	"strings"
	"testing"
)

// builder makes files that no writer would.
type builder struct{ bytes.Buffer }

func (b *builder) put(values ...any) *builder {
	for _, v := range values {
		if s, ok := v.(string); ok {
			b.put(uint64(len(s)))
			b.WriteString(s)
		} else if err := binary.Write(b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	return b
}

func header(version uint32, tensors, values uint64) *builder {
	b := &builder{}
	b.WriteString("GGUF")
	return b.put(version, tensors, values)
}

// align pads to 32, as in front of the data.
func (b *builder) align() *builder {
	b.Write(make([]byte, (32-b.Len()%32)%32))
	return b
}

func one(name string, dims []uint64, kind uint32, offset uint64) *builder {
	return header(3, 1, 0).put(name, uint32(len(dims)), dims, kind, offset).align()
}

func TestParseAccepts(t *testing.T) {
	f32 := uint32(F32)
	for what, c := range map[string]struct {
		b       *builder
		tensors int
	}{
		"nothing in it":  {header(3, 0, 0), 0},
		"version 2":      {header(2, 0, 0), 0},
		"one tensor":     {one("w", []uint64{2}, f32, 0).put(uint64(0)), 1},
		"padding behind": {one("w", []uint64{2}, f32, 0).put(make([]byte, 32)), 1},
		"two tensors": {header(3, 2, 0).put("a", uint32(1), uint64(1), f32, uint64(0)).put("b", uint32(1), uint64(1), f32, uint64(32)).
			align().put(make([]byte, 36)), 2},
		"alignment 8": {header(3, 1, 1).put("general.alignment", uint32(typeUint32), uint32(8)).put("a", uint32(1), uint64(1), f32, uint64(0)).
			put(make([]byte, 64)), 1},
		"empty array": {header(3, 0, 1).put("a", uint32(typeArray), uint32(typeString), uint64(0)), 0},
	} {
		f, err := parse(c.b.Bytes())
		if err != nil {
			t.Errorf("%s: %v", what, err)
		} else if len(f.Tensors()) != c.tensors {
			t.Errorf("%s: %d tensors", what, len(f.Tensors()))
		}
	}
}

// Each case is a way in which loaders of this format have been broken.
func TestParseRefuses(t *testing.T) {
	f32, q8 := uint32(F32), uint32(Q8_0)
	value := func(kind uint32, rest ...any) *builder { return header(3, 0, 1).put("k", kind).put(rest...) }
	big := header(0, 0, 0)
	binary.BigEndian.PutUint32(big.Bytes()[4:], 3)
	for what, c := range map[string]struct {
		b    *builder
		want string
	}{
		"empty":                     {&builder{}, "not a GGUF file"},
		"magic of ggjt":             {(&builder{}).put([]byte("tjgg\x03\x00\x00\x00")), "not a GGUF file"},
		"magic only":                {(&builder{}).put([]byte("GGUF")), "cut off"},
		"version 1":                 {header(1, 0, 0), "version 1 is not supported"},
		"version 4":                 {header(4, 0, 0), "version 4 is not supported"},
		"big-endian":                {big, "big-endian"},
		"counts cut off":            {(&builder{}).put([]byte("GGUF"), uint32(3), uint64(0)), "cut off"},
		"2^64-1 tensors":            {header(3, math.MaxUint64, 0), "tensors do not fit"},
		"2^64-1 values":             {header(3, 0, math.MaxUint64), "values do not fit"},
		"more tensors than bytes":   {header(3, 1, 0), "tensors do not fit"},
		"70,000 values":             {header(3, 0, 70_000).put(make([]byte, 14*70_000)), "more than 65536"},
		"key length wraps":          {header(3, 0, 1).put(uint64(math.MaxUint64), make([]byte, 32)), "over the limit"},
		"key past the end":          {header(3, 0, 1).put(uint64(4096), make([]byte, 32)), "cut off"},
		"key too long":              {header(3, 0, 1).put(strings.Repeat("k", maxKey+1), uint32(typeBool), true), "over the limit"},
		"key empty":                 {header(3, 0, 1).put("", uint32(typeBool), true, make([]byte, 9)), "not a name"},
		"key not UTF-8":             {header(3, 0, 1).put("\xff", uint32(typeBool), true), "not a name"},
		"key twice":                 {header(3, 0, 2).put("k", uint32(typeBool), true, "k", uint32(typeBool), true), "comes twice"},
		"value type unknown":        {value(13, uint64(0)), "unknown value type 13"},
		"value cut off":             {value(typeUint64, uint32(0)), "cut off"},
		"boolean 2":                 {value(typeBool, uint8(2)), "not a boolean"},
		"string 2^64-1":             {value(typeString, uint64(math.MaxUint64)), "over the limit"},
		"string of 1 GiB":           {value(typeString, uint64(1<<30)), "over the limit"},
		"string past the end":       {value(typeString, uint64(5), []byte("1234")), "cut off"},
		"array of 2^64-1 bytes":     {value(typeArray, uint32(typeUint8), uint64(math.MaxUint64)), "do not fit"},
		"array size times 8 wraps":  {value(typeArray, uint32(typeUint64), uint64(1<<61), uint64(0)), "do not fit"},
		"array of 2^61 strings":     {value(typeArray, uint32(typeString), uint64(1<<61), uint64(0)), "do not fit"},
		"array past the end":        {value(typeArray, uint32(typeUint16), uint64(3), uint32(0)), "do not fit"},
		"array of booleans, one 7":  {value(typeArray, uint32(typeBool), uint64(2), uint8(1), uint8(7)), "element 1 is not a boolean"},
		"array of unknown":          {value(typeArray, uint32(99), uint64(0)), "unknown value type 99"},
		"array of arrays":           {value(typeArray, uint32(typeArray), uint64(1), uint32(typeArray), uint64(1)), "arrays of arrays"},
		"string in array past end":  {value(typeArray, uint32(typeString), uint64(1), uint64(9)), "element 0"},
		"alignment 0":               {header(3, 0, 1).put("general.alignment", uint32(typeUint32), uint32(0)), "power of two"},
		"alignment 48":              {header(3, 0, 1).put("general.alignment", uint32(typeUint32), uint32(48)), "power of two"},
		"alignment 2^31":            {header(3, 0, 1).put("general.alignment", uint32(typeUint32), uint32(1<<31)), "power of two"},
		"alignment -32":             {header(3, 0, 1).put("general.alignment", uint32(typeInt32), int32(-32)), "power of two"},
		"alignment is a string":     {header(3, 0, 1).put("general.alignment", uint32(typeString), "32"), "where an integer belongs"},
		"no dimensions":             {one("w", nil, f32, 0), "0 dimensions"},
		"five dimensions":           {one("w", []uint64{1, 1, 1, 1, 1}, f32, 0), "5 dimensions"},
		"2^32-1 dimensions":         {header(3, 1, 0).put("w", uint32(math.MaxUint32), make([]byte, 64)), "dimensions"},
		"dimension 0":               {one("w", []uint64{0}, f32, 0), "not a size"},
		"dimension 2^63":            {one("w", []uint64{1 << 63}, f32, 0), "not a size"},
		"elements wrap to 0":        {one("w", []uint64{1 << 32, 1 << 32}, f32, 0), "overflow"},
		"elements wrap to 64":       {one("w", []uint64{1 << 32, 1<<32 + 1, 64}, f32, 0), "overflow"},
		"bytes wrap":                {one("w", []uint64{1 << 62}, f32, 0), "overflow"},
		"bytes wrap, blocks":        {one("w", []uint64{32, 1<<58 - 1}, q8, 0), "overflow"},
		"larger than the file":      {one("w", []uint64{3}, f32, 0).put(uint64(0)), "ends 4 bytes past"},
		"data missing":              {one("w", []uint64{1}, f32, 0), "past the end"},
		"2^60 bytes":                {one("w", []uint64{1 << 58}, f32, 0).put(uint64(0)), "past the end"},
		"offset past the end":       {one("w", []uint64{1}, f32, 32).put(make([]byte, 64)), "at offset 32 where 0 belongs"},
		"offset wraps":              {one("w", []uint64{1}, f32, math.MaxUint64-3).put(make([]byte, 64)), "where 0 belongs"},
		"offset not aligned":        {one("w", []uint64{1}, f32, 4).put(make([]byte, 64)), "where 0 belongs"},
		"same offset twice":         {header(3, 2, 0).put("a", uint32(1), uint64(1), f32, uint64(0)).put("b", uint32(1), uint64(1), f32, uint64(0)).align().put(make([]byte, 64)), "where 32 belongs"},
		"padded sizes wrap":         {header(3, 3, 0).put("a", uint32(1), uint64(1<<61-1), f32, uint64(0)).put("b", uint32(1), uint64(1<<61-1), f32, uint64(1<<63)).put("c", uint32(1), uint64(1), f32, uint64(0)).align(), "overflows"},
		"type unknown":              {one("w", []uint64{1}, 4, 0), "unknown type 4"},
		"type 2^32-1":               {one("w", []uint64{1}, math.MaxUint32, 0), "unknown type"},
		"rows are not whole blocks": {one("w", []uint64{33}, q8, 0).put(make([]byte, 68)), "whole blocks of 32"},
		"tensor name too long":      {one(strings.Repeat("n", maxName+1), []uint64{1}, f32, 0), "over the limit"},
		"tensor name empty":         {one("", []uint64{1}, f32, 0).put(uint32(0)), "not a name"},
		"tensor name twice":         {header(3, 2, 0).put("a", uint32(1), uint64(1), f32, uint64(0)).put("a", uint32(1), uint64(1), f32, uint64(32)).align().put(make([]byte, 64)), "comes twice"},
		"tensor table cut off":      {header(3, 1, 0).put("w", uint32(4), uint64(1), uint64(1), uint64(1), uint32(1)), "cut off"},
	} {
		_, err := parse(c.b.Bytes())
		if err == nil {
			t.Errorf("%s: accepted", what)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %q does not say %q", what, err, c.want)
		}
	}
}

// A file that is cut anywhere is refused, until only padding is missing.
func TestParseCutAnywhere(t *testing.T) {
	whole, err := os.ReadFile("testdata/small.gguf")
	if err != nil {
		t.Fatal(err)
	}
	f, err := parse(whole)
	if err != nil {
		t.Fatal(err)
	}
	last := f.Tensors()[len(f.Tensors())-1]
	end := bytes.Index(whole, last.Data) + len(last.Data)
	for n := range end {
		if _, err := parse(whole[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes are accepted", n, end)
		}
	}
}

// allocated is the number of bytes allocated since the start.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func FuzzParse(f *testing.F) {
	small, err := os.ReadFile("testdata/small.gguf")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small)
	f.Add(header(3, 0, 0).Bytes())
	f.Add(one("w", []uint64{32, 2}, uint32(Q8_0), 0).put(make([]byte, 68)).Bytes())
	f.Add(header(2, 0, 2).put("a", uint32(typeArray), uint32(typeString), uint64(2), "x", "", "general.alignment", uint32(typeUint32), uint32(8)).Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		before := allocated()
		file, err := parse(data)
		if used := allocated() - before; used > uint64(4*len(data)+16<<20) {
			t.Errorf("%d bytes used for a file of %d", used, len(data))
		}
		if err != nil {
			return
		}
		total := 0
		for _, tensor := range file.Tensors() {
			total += len(tensor.Data)
			if v, err := tensor.Float32s(); err == nil && len(v) != tensor.NumElements() {
				t.Errorf("%v: %d elements", tensor.Shape, len(v))
			}
		}
		if total > len(data) {
			t.Errorf("%d bytes of tensors in a file of %d", total, len(data))
		}
	})
}
