package safetensors

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const golden = "../../testdata/golden"

// file puts a header, unpadded, before data.
func file(header, data string) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

func write(t *testing.T, tensors []Tensor, metadata map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := Write(&buf, tensors, metadata); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Files written by the reference implementation must come out of Write with
// the bytes they had.
func TestReferenceFiles(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(golden, "*", "*.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	deeper, err := filepath.Glob(filepath.Join(golden, "*", "*", "*.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	paths = append(paths, deeper...)
	if len(paths) < 10 {
		t.Fatalf("only %d golden files", len(paths))
	}
	for _, path := range paths {
		f, err := Open(path)
		if err != nil {
			t.Error(err)
			continue
		}
		var tensors []Tensor
		for _, name := range f.Names() {
			tensor, ok := f.Tensor(name)
			if !ok {
				t.Fatalf("%s: %s listed but not there", path, name)
			}
			tensors = append(tensors, tensor)
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := write(t, tensors, f.Metadata()); !bytes.Equal(got, want) {
			t.Errorf("%s: written again it differs", path)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The byte strings of the reference implementation's own tests.
func TestWriteBytes(t *testing.T) {
	pad := func(header string) string { return header + strings.Repeat(" ", (8-len(header)%8)%8) }
	one := Tensor{Name: "attn.0", DType: F32, Shape: []int{1, 1, 2, 3}, Data: make([]byte, 24)}
	tests := []struct {
		tensors  []Tensor
		metadata map[string]string
		want     []byte
	}{
		{nil, nil, file("{}      ", "")},
		{nil, map[string]string{"framework": "pt"}, file(pad(`{"__metadata__":{"framework":"pt"}}`), "")},
		{[]Tensor{one}, nil, file(pad(`{"attn.0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}}`), strings.Repeat("\x00", 24))},
		{
			[]Tensor{
				{Name: "b", DType: BF16, Shape: []int{1}, Data: []byte("bb")},
				{Name: "z", DType: F32, Shape: nil, Data: []byte("zzzz")},
				{Name: "a", DType: F16, Shape: []int{1}, Data: []byte("aa")},
				{Name: "e", DType: I64, Shape: []int{3, 0}},
				{Name: "A<&>\"\n", DType: BF16, Shape: []int{1}, Data: []byte("AA")},
			},
			map[string]string{"y": "<2>", "x": "1"},
			file(pad(`{"__metadata__":{"x":"1","y":"<2>"},`+
				`"e":{"dtype":"I64","shape":[3,0],"data_offsets":[0,0]},`+
				`"z":{"dtype":"F32","shape":[],"data_offsets":[0,4]},`+
				`"A<&>\"\n":{"dtype":"BF16","shape":[1],"data_offsets":[4,6]},`+
				`"b":{"dtype":"BF16","shape":[1],"data_offsets":[6,8]},`+
				`"a":{"dtype":"F16","shape":[1],"data_offsets":[8,10]}}`), "zzzzAAbbaa"),
		},
	}
	for i, test := range tests {
		got := write(t, test.tensors, test.metadata)
		if !bytes.Equal(got, test.want) {
			t.Errorf("%d: wrote\n%q, want\n%q", i, got, test.want)
		}
		if _, _, err := parse(got); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	ok := Tensor{Name: "a", DType: BF16, Shape: []int{2}, Data: []byte("1234")}
	with := func(change func(*Tensor)) []Tensor {
		c := ok
		change(&c)
		return []Tensor{c}
	}
	for what, tensors := range map[string][]Tensor{
		"short data":     with(func(t *Tensor) { t.Data = t.Data[:3] }),
		"long data":      with(func(t *Tensor) { t.Data = append(t.Data, 0) }),
		"unknown dtype":  with(func(t *Tensor) { t.DType = "F31" }),
		"negative shape": with(func(t *Tensor) { t.Shape = []int{-1, -2} }),
		"overflow":       with(func(t *Tensor) { t.Shape = []int{math.MaxInt, 3} }),
		"odd bits":       with(func(t *Tensor) { t.DType, t.Shape = F4, []int{7} }),
		"reserved name":  with(func(t *Tensor) { t.Name = "__metadata__" }),
		"name twice":     {ok, ok},
	} {
		if err := Write(&bytes.Buffer{}, tensors, nil); err == nil {
			t.Errorf("%s: written", what)
		}
	}
}

func TestParseAccepts(t *testing.T) {
	for what, data := range map[string][]byte{
		"no tensors":        file("{}", ""),
		"zero-sized":        file(`{"t":{"dtype":"I32","shape":[2,0],"data_offsets":[0,0]}}`, ""),
		"padded header":     file(`{"t":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}     `, "1234"),
		"unpadded, odd":     file(`{"t":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}} `, "123"),
		"keys in any order": file(`{"t":{"data_offsets":[0,4],"shape":[1],"dtype":"F32"},"__metadata__":{"a":"b"}}`, "1234"),
		"six-bit elements":  file(`{"t":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}}`, "123"),
		"listed out of order": file(`{"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},`+
			`"c":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}}`, "12"),
	} {
		if _, _, err := parse(data); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	long := binary.LittleEndian.AppendUint64(nil, maxHeader+1)
	huge := binary.LittleEndian.AppendUint64(nil, math.MaxUint64)
	for what, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":                 {nil, "too short"},
		"seven bytes":           {[]byte("1234567"), "too short"},
		"Git LFS":               {[]byte("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"), "git lfs pull"},
		"header too large":      {append(long, "{}"...), "over the limit"},
		"header length wraps":   {append(huge, "{}"...), "over the limit"},
		"header past the end":   {file("{}", "")[:9], "cut off"},
		"no header":             {make([]byte, 8), "start with '{'"},
		"not UTF-8":             {file("{\"\xff\":1}", ""), "UTF-8"},
		"not JSON":              {file("{", ""), "unexpected EOF"},
		"leading space":         {file(" {}", ""), "start with '{'"},
		"two documents":         {file("{}{}", ""), "behind the end"},
		"bytes behind header":   {file("{}\x00", ""), "invalid character"},
		"list":                  {file("[]", ""), "start with '{'"},
		"nested":                {file(`{"t":`+strings.Repeat(`{"shape":`, 100_000), ""), "where [ belongs"},
		"brackets":              {file(`{"t":`+strings.Repeat(`[`, 1_000_000), ""), "where { belongs"},
		"tensor is a number":    {file(`{"t":1}`, ""), "where { belongs"},
		"tensor is null":        {file(`{"t":null}`, ""), "where { belongs"},
		"metadata not a string": {file(`{"__metadata__":{"a":1}}`, ""), "where a string belongs"},
		"metadata twice":        {file(`{"__metadata__":{},"__metadata__":{}}`, ""), "comes twice"},
		"tensor twice":          {file(`{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, "12"), "comes twice"},
		"escaped name twice":    {file(`{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u0074":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, "12"), "comes twice"},
		"dtype twice":           {file(`{"t":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}`, "1"), "comes twice"},
		"dtype missing":         {file(`{"t":{"shape":[1],"data_offsets":[0,1]}}`, "1"), "are needed"},
		"dtype unknown":         {file(`{"t":{"dtype":"F31","shape":[1],"data_offsets":[0,1]}}`, "1"), "unknown dtype"},
		"key unknown":           {file(`{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":0}}`, "1"), "unknown key"},
		"negative size":         {file(`{"t":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}`, "1"), "not a size"},
		"size with exponent":    {file(`{"t":{"dtype":"U8","shape":[1e0],"data_offsets":[0,1]}}`, "1"), "not a size"},
		"size is a string":      {file(`{"t":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}}`, "1"), "where an integer belongs"},
		"size over 64 bits":     {file(`{"t":{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1]}}`, "1"), "not a size"},
		"sizes overflow":        {file(`{"t":{"dtype":"I32","shape":[2,4611686018427387904,4],"data_offsets":[0,0]}}`, ""), "overflow"},
		"bits overflow":         {file(`{"t":{"dtype":"I32","shape":[2305843009213693952],"data_offsets":[0,0]}}`, ""), "overflow"},
		"too many dimensions":   {file(`{"t":{"dtype":"U8","shape":[`+strings.Repeat("1,", maxDims)+`1],"data_offsets":[0,1]}}`, "1"), "more than"},
		"half a byte":           {file(`{"t":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}`, "1"), "whole number of bytes"},
		"one offset":            {file(`{"t":{"dtype":"U8","shape":[1],"data_offsets":[0]}}`, "1"), "are needed"},
		"three offsets":         {file(`{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}`, "1"), "more than 2"},
		"offsets backwards":     {file(`{"t":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}`, "1"), "hole or overlap"},
		"end before begin":      {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"t":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}`, "1"), "hole or overlap"},
		"size disagrees":        {file(`{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, "1234"), "needs 8 bytes"},
		"hole at the start":     {file(`{"t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, "12"), "hole or overlap"},
		"hole in the middle":    {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, "123"), "hole or overlap"},
		"overlap":               {file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, "123"), "hole or overlap"},
		"same bytes":            {file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, "1"), "hole or overlap"},
		"data cut off":          {file(`{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, "123"), "cut off"},
		"data left over":        {file(`{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, "12345"), "behind the last tensor"},
		"data but no tensor":    {file("{}", "1"), "behind the last tensor"},
	} {
		_, _, err := parse(c.data)
		if err == nil {
			t.Errorf("%s: accepted", what)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %q does not say %q", what, err, c.want)
		}
	}
}

func TestFloat32s(t *testing.T) {
	want := []float32{0, 1, -2.5, 0.0078125, float32(math.Inf(-1))}
	bf := make([]uint16, len(want))
	for i, v := range want {
		bf[i] = uint16(math.Float32bits(v) >> 16)
	}
	f16 := Tensor{DType: F16, Shape: []int{5}, Data: []byte("\x00\x00\x00\x3c\x00\xc1\x00\x20\x00\xfc")}
	for _, tensor := range []Tensor{FromFloat32s("a", []int{5}, want), FromBFloat16s("a", []int{1, 5}, bf), f16} {
		got, err := tensor.Float32s()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v %v, want %v", tensor.DType, got, err, want)
		}
	}
	for _, tensor := range []Tensor{
		{DType: I32, Shape: []int{1}, Data: make([]byte, 4)},
		{DType: F32, Shape: []int{1}, Data: make([]byte, 3)},
		{DType: F32, Shape: []int{1 << 30, 1 << 30, 1 << 30}, Data: make([]byte, 4)},
	} {
		if got, err := tensor.Float32s(); err == nil {
			t.Errorf("%s %v: %v", tensor.DType, tensor.Shape, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(file("{}", ""))
	f.Add(file(`{"__metadata__":{"a":"b"},"t":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]}}  `, "1234"))
	f.Add(file(`{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[],"data_offsets":[1,5]}}`, "12345"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tensors, metadata, err := parse(data)
		if err != nil {
			return
		}
		total := 0
		for _, tensor := range tensors {
			total += len(tensor.Data)
			if v, err := tensor.Float32s(); err == nil && len(v) != tensor.NumElements() {
				t.Errorf("%v: %d elements", tensor.Shape, len(v))
			}
		}
		if total > len(data) {
			t.Errorf("%d bytes of tensors in a file of %d", total, len(data))
		}
		var buf bytes.Buffer
		if err := Write(&buf, tensors, metadata); err != nil {
			t.Fatal(err)
		}
		again, metadata2, err := parse(buf.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if len(again) != len(tensors) || !reflect.DeepEqual(metadata, metadata2) {
			t.Error("written and read again it differs")
		}
	})
}
