package data

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func decodeString(s string) ([]Example, error) { return decode(strings.NewReader(s)) }

// decode reads JSON as Source.Each does.
func decode(in io.Reader) (out []Example, err error) {
	return out, readInto(&out, func(wants func(string) bool, each func(*record) error) error {
		return readJSONRows(in, "d.json", wants, each)
	})
}

// readInto gathers the examples of one file.
func readInto(out *[]Example, read func(wants func(string) bool, each func(*record) error) error) error {
	r := reading{cells: cells{}}
	return read(func(c string) bool { return r.layout.wants(c) }, func(rec *record) error {
		if r.layout == nil {
			var err error
			if r.layout, err = newLayout(rec, "", nil); err != nil {
				return err
			}
			r.rec = rec
		}
		e, err := r.example()
		*out = append(*out, e)
		return err
	})
}

func alpacaExample(instruction, input, output string, line, row int) Example {
	return Example{Format: Alpaca, Instruction: instruction, Input: input, Output: output, File: "d.json", Line: line, Row: row}
}

func TestDecode(t *testing.T) {
	want := []Example{
		alpacaExample("问", "", "答", 1, 1),
		alpacaExample("a\"\\/\b\f\n\r\té😀", "b", "", 2, 2),
	}
	for name, text := range map[string]string{
		"array": `[{"instruction": "问", "input": "", "output": "答"},` + "\n" +
			`{"output":"","instruction":"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00","input":"b"}]`,
		"lines": `{"instruction": "问", "input": null, "output": "答"}` + "\n" +
			`{"output":"","instruction":"a\"\\\/\b\f\n\r\t\u00E9\uD83D\uDE00","input":"b"}` + "\r\n\n",
		"byte order mark, harmless and empty columns": "\ufeff" + `[{"instruction": "问", "output": "答", "id": 1.5e-3, "text": {"a": [true, false, null]}},` + "\n" +
			`{"output":"","instruction":"a\"\\\/\b\f\n\r\té😀","input":"b", "system": "", "history": [], "tools": {}, "x": null}]`,
	} {
		got, err := decodeString(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v", name, got)
		}
		// A reader that gives one byte at a time must not matter.
		again, err := decode(iotest.OneByteReader(strings.NewReader(text)))
		if err != nil || !reflect.DeepEqual(again, want) {
			t.Errorf("%s, byte by byte: %+v, %v", name, again, err)
		}
	}
}

func TestDecodeFaults(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{``, `d.json:1:1: no rows: expected a JSON array of objects, or one object a line`},
		{"\n[ ]\n", `d.json:3:1: no rows: expected a JSON array of objects, or one object a line`},
		{`"x"`, `d.json:1:1: expected [ or {, found a string: a dataset is a JSON array of objects, or one object a line`},
		{"instruction,output\n", `d.json:1:1: expected [ or {, found 'i': a dataset is a JSON array of objects, or one object a line`},
		{`[{"instruction":"a","output":"b"}`, `d.json:1:34: the file ends in the middle of a row`},
		{`[{"instruction":"a","output":"b"},]`, `d.json:1:35: row 2: expected '{' of a row, found ']'`},
		{`[{"instruction":"a","output":"b",}]`, `d.json:1:34: row 1: expected a key in double quotes, found '}'`},
		{`[{"instruction":"a" "output":"b"}]`, `d.json:1:21: row 1: expected , or } after a value, found a string`},
		{`[{"instruction":"a","output":"b"}] x`, `d.json:1:36: 'x' after the end of the array`},
		{"{\"instruction\":\"a\",\"output\":\"b\"},\n{}", `d.json:1:33: expected the { of the next row, found ','`},
		{"[\n  {\"instruction\": \"甲\", \"output\": 3}]", `d.json:2:34: row 1: "output" must be a string, found a number`},
		{`{"instruction":null,"output":"b"}`, `d.json:1:16: row 1: "instruction" must be a string, found null`},
		{`{"instruction":"a"}`, `d.json:1:1: row 1: column "output" is missing for alpaca rows; the columns are "instruction"`},
		{"{\"instruction\":\"a\",\"output\":\"b\"}\n {\"prompt\":\"a\",\"output\":\"b\"}", `d.json:2:2: row 2: column "instruction" is missing for alpaca rows; the columns are "prompt", "output"`},
		{`{"data":[{"instruction":"a","output":"b"}]}`, `d.json:1:1: row 1: no known format: the columns are "data". Known are instruction and output (alpaca), messages or conversations, prompt and completion, and text; say which columns are which, such as columns: {instruction: question, output: answer}`},
		{`{}`, `d.json:1:1: row 1: no known format: the columns are none. Known are instruction and output (alpaca), messages or conversations, prompt and completion, and text; say which columns are which, such as columns: {instruction: question, output: answer}`},
		{`{"instruction":"a","output":"b","tools":[1],"chosen":"c"}`,
			`d.json:1:1: row 1: column "tools", "chosen" is not understood in alpaca rows, which have instruction and output (and may have input, system, history). ` +
				`Remove the column if it is not to be trained; the columns are "instruction", "output", "tools", "chosen"`},
		{`{"instruction":"a","output":"b","history":[["a"]]}`, `d.json:1:44: row 1: turn 1 of "history" must be a pair of texts [instruction, output]`},
		{`{"instruction":"a","output":"b","system":1}`, `d.json:1:42: row 1: "system" must be a string, found a number`},
		{`{"instruction":"a","instruction":"b","output":"c"}`, `d.json:1:20: row 1: key "instruction" appears twice`},
		{`{"instruction":"a","output":"b","id":{"x":1,"x":2}}`, `d.json:1:45: row 1: key "x" appears twice`},
		{"{\"instruction\":\"a\nb\",\"output\":\"c\"}", `d.json:1:18: row 1: the control character '\n' in a string: is the closing quote missing?`},
		{"{\"instruction\":\"甲\xff\",\"output\":\"c\"}", `d.json:1:18: row 1: byte 0xff is not UTF-8: convert the file`},
		{"{\"instruction\":\"\xe7\x94\",\"output\":\"c\"}", `d.json:1:17: row 1: byte 0xe7 is not UTF-8: convert the file`},
		{`{"instruction":"\ud83d","output":"c"}`, `d.json:1:17: row 1: half of a surrogate pair is not a character`},
		{`{"instruction":"\ude00\ud83d","output":"c"}`, `d.json:1:17: row 1: half of a surrogate pair is not a character`},
		{`{"instruction":"\u12x4","output":"c"}`, `d.json:1:17: row 1: \u needs four hexadecimal digits`},
		{`{"instruction":"\q","output":"c"}`, `d.json:1:17: row 1: unknown escape \q in a string`},
		{`{"instruction":"a","output":"b","id":nul}`, `d.json:1:38: row 1: expected null`},
		{`{"instruction":"a","output":"b","id":01}`, `d.json:1:38: row 1: "01" is not a number`},
		{`{"instruction":"a","output":"b","id":NaN}`, `d.json:1:38: row 1: expected a value, found 'N'`},
		{`{"instruction":"a","output":"b","id":甲}`, `d.json:1:38: row 1: expected a value, found '甲'`},
		{`{"instruction":"a","output":"b","id":` + strings.Repeat("[", 1000), `d.json:1:103: row 1: nested deeper than 64`},
		{"\xff\xfe[\x00", `d.json:1:1: the file is UTF-16: convert it to UTF-8`},
		{"\x1f\x8b\x08", `d.json:1:1: the file is compressed (gzip): give it a name that ends in .gz, or unpack it`},
		{`{"instruction":"` + strings.Repeat("x", maxRow) + `","output":"b"}`, `d.json:1:16777217: row 1: longer than 16 MiB`},
	} {
		_, err := decodeString(c.text)
		var fault *FormatError
		if !errors.As(err, &fault) || err.Error() != c.want {
			t.Errorf("%.80q:\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

func TestReadFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a := write("a.json", `[{"instruction":"1","output":"x"}]`)
	b := write("b.jsonl", "{\"instruction\":\"2\",\"output\":\"x\"}\n{\"instruction\":\"3\",\"output\":\"x\"}\n")
	d, err := Read(b, a)
	if err != nil {
		t.Fatal(err)
	}
	order := ""
	for _, e := range d.Examples {
		order += e.Instruction
	}
	if order != "231" || d.Examples[2].Where() != a+":1 (row 1)" {
		t.Errorf("order %s, last row %s", order, d.Examples[2].Where())
	}
	if len(d.Files) != 2 || d.Files[0].Rows != 2 || d.Files[1].Path != a || len(d.Files[0].SHA256) != 64 {
		t.Errorf("files %+v", d.Files)
	}
	for _, paths := range [][]string{nil, {filepath.Join(dir, "none")}, {a, write("empty", " \n")}} {
		if d, err := Read(paths...); err == nil {
			t.Errorf("Read(%q) = %v", paths, d)
		}
	}
	failing := iotest.ErrReader(errors.New("disk on fire"))
	if _, err := decode(failing); err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("read error became %v", err)
	}
}

// FuzzDecode: no input panics, and what is accepted encoding/json reads as the same rows.
func FuzzDecode(f *testing.F) {
	f.Add(`[{"instruction":"a","input":"b","output":"\u00e9\ud83d\ude00"},{"instruction":"","output":""}]`)
	f.Add("{\"instruction\":\"a\",\"output\":\"c\"}\n{\"instruction\":\"a\",\"output\":\"c\",\"id\":-1e5}")
	f.Add(`[{"instruction":"a","output":"b","text":[[{"k":null}],true]}`)
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := decodeString(text)
		if err != nil {
			return
		}
		type object struct{ Instruction, Input, Output *string }
		var want []object
		body := strings.TrimPrefix(text, "\ufeff")
		d := json.NewDecoder(strings.NewReader(body))
		if strings.HasPrefix(strings.TrimLeft(body, " \t\r\n"), "[") {
			err = d.Decode(&want)
		} else {
			for d.More() && err == nil {
				var o object
				err = d.Decode(&o)
				want = append(want, o)
			}
		}
		if err != nil {
			t.Fatalf("accepted, but encoding/json says %v", err)
		}
		if len(want) != len(rows) {
			t.Fatalf("%d rows, encoding/json has %d", len(rows), len(want))
		}
		// Keys match exactly here and case-insensitively there, so only rows without such keys are compared.
		if strings.ContainsAny(text, "IO\\") || strings.ContainsRune(text, 'ı') || strings.ContainsRune(text, 'ſ') {
			return
		}
		for i, o := range want {
			if *o.Instruction != rows[i].Instruction || *o.Output != rows[i].Output {
				t.Fatalf("row %d: %+v", i, rows[i])
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	text := "[" + strings.Repeat(`{"instruction":"皇上驾到！小主吉祥。","input":"","output":"皇上万福金安。"},`, 1000)
	text = strings.TrimSuffix(text, ",") + "]"
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := decodeString(text); err != nil {
			b.Fatal(err)
		}
	}
}
