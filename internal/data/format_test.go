package data

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cria/internal/chat"

	"github.com/klauspost/compress/zstd"
)

// put writes files into a new directory.
func put(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// readAll reads a source into memory.
func readAll(spec Spec) ([]Example, []File, error) {
	s, err := Open(spec)
	if err != nil {
		return nil, nil, err
	}
	var out []Example
	files, err := s.Each(context.Background(), func(e *Example) error { out = append(out, *e); return nil })
	return out, files, err
}

// show is a dialogue on one line: "system: s | user: u | assistant: a", with - and + before what messages say of training.
func show(e *Example, system string) string {
	var parts []string
	for _, m := range e.Messages(system) {
		s := map[chat.Train]string{chat.Yes: "+", chat.No: "-"}[m.Train] + m.Role + ": " + m.Content
		if m.Raw != nil {
			s += " " + string(m.Raw)
		}
		parts = append(parts, s)
	}
	if e.Tools != nil {
		parts = append(parts, "tools "+string(e.Tools))
	}
	if e.Text != "" {
		parts = append(parts, "text "+e.Text)
	}
	return strings.Join(parts, " | ")
}

func TestFormats(t *testing.T) {
	call := `{"role":"assistant","content":null,"tool_calls":[{"type":"function","function":{"name":"f","arguments":{"x":1}}}]}`
	for _, c := range []struct {
		name, row      string
		format         string
		columns        map[string]string
		want, describe string
	}{
		{"alpaca", `{"instruction":"a","input":"b","output":"c"}`, "", nil, "system: default | user: a\nb | assistant: c", "alpaca (instruction, input, output)"},
		{"alpaca with system and history", `{"instruction":"a","output":"c","system":"s","history":[["h","i"]]}`, "auto", nil,
			"system: s | user: h | assistant: i | user: a | assistant: c", "alpaca (instruction, output, system, history)"},
		{"history as text", `{"instruction":"a","output":"c","history":"[[\"h\",\"i\"]]"}`, "", nil, "system: default | user: h | assistant: i | user: a | assistant: c", "alpaca (instruction, output, history)"},
		{"dolly", `{"instruction":"a","context":"b","response":"c","category":"qa"}`, "", nil, "system: default | user: a\nb | assistant: c", "alpaca (instruction, context, response); not used: category"},
		{"prompt and completion", `{"prompt":"a","completion":"c"}`, "", nil, "system: default | user: a | assistant: c", "prompt_completion (prompt, completion)"},
		{"question and answer", `{"question":"a","answer":"c"}`, "", nil, "system: default | user: a | assistant: c", "prompt_completion (question, answer)"},
		{"orca", `{"system_prompt":"s","question":"a","response":"c","id":"x"}`, "", nil, "system: s | user: a | assistant: c", "prompt_completion (system_prompt, question, response); not used: id"},
		{"conversational prompt and completion", `{"prompt":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}],"completion":[{"role":"assistant","content":"d"}]}`, "", nil,
			"system: default | -user: a | -assistant: b | -user: c | assistant: d", "prompt_completion (prompt, completion)"},
		{"columns", `{"q":"a","a":"c","z":"e"}`, "", map[string]string{"instruction": "q", "output": "a"}, "system: default | user: a | assistant: c", "alpaca (q, a); not used: z"},
		{"columns and format", `{"instruction":"no","question":"a","answer":"c"}`, PromptCompletion, map[string]string{"prompt": "question"}, "system: default | user: a | assistant: c", "prompt_completion (question, answer); not used: instruction"},
		{"text", `{"text":"once"}`, "", nil, "system: default | text once", "text (text)"},
		{"sharegpt", `{"conversations":[{"from":"system","value":"s"},{"from":"human","value":"a"},{"from":"gpt","value":"b"}],"id":1}`, "", nil,
			"system: s | user: a | assistant: b", "sharegpt (conversations); not used: id"},
		{"sharegpt with everything", `{"system":"s","tools":"[{\"name\":\"f\"}]","conversations":[{"from":"human","value":"a"},{"from":"function_call","value":"{\"name\":\"f\",\"arguments\":{\"x\":1}}"},{"from":"observation","value":"o"},{"from":"gpt","value":"b","weight":0}]}`, "", nil,
			`system: s | user: a | assistant:  {"role":"assistant","content":"","tool_calls":[{"type":"function","function":{"name":"f","arguments":{"x":1}}}]} | tool: o | -assistant: b | tools [{"name":"f"}]`, "sharegpt (system, tools, conversations)"},
		{"messages", `{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","loss":false},{"role":"user","content":"c"},{"role":"assistant","content":"d","train":true}]}`, "", nil,
			"system: default | user: a | -assistant: b | user: c | +assistant: d", "messages (messages)"},
		{"messages with tools", `{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"assistant","content":null,"tool_calls":[{"type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},{"role":"tool","content":"o","name":null}],"tools":[{"type":"function"}]}`, "", nil,
			`system: default | user: ab | assistant:  ` + call + ` | tool: o | tools [{"type":"function"}]`, "messages (messages, tools)"},
		{"messages under another name", `{"dialog":[{"role":"user","content":"a"}]}`, "", map[string]string{"messages": "dialog"}, "system: default | user: a", "messages (dialog)"},
		{"messages as text", `{"messages":"[{\"role\":\"user\",\"content\":\"a\"}]"}`, "", nil, "system: default | user: a", "messages (messages)"},
		{"conversations of the OpenAI kind", `{"conversations":[{"role":"developer","content":"d"},{"role":"user","content":"a"}]}`, "", nil, "developer: d | user: a", "messages (conversations)"},
	} {
		dir := put(t, map[string]string{"d.jsonl": c.row})
		path := filepath.Join(dir, "d.jsonl")
		got, files, err := readAll(Spec{Paths: []string{path}, Format: c.format, Columns: c.columns})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if s := show(&got[0], "default"); s != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, s, c.want)
		}
		if d := (&Report{Files: files}).Describe(); len(d) != 1 || d[0] != path+": "+c.describe {
			t.Errorf("%s: described as %q, want %s", c.name, d, c.describe)
		}
	}
}

func TestFormatFaults(t *testing.T) {
	for _, c := range []struct{ row, format, want string }{
		{`{"q":"a"}`, "", `:1:1: row 1: no known format: the columns are "q". Known are instruction and output (alpaca), messages or conversations, prompt and completion, and text; say which columns are which, such as columns: {instruction: question, output: answer}`},
		{`{"instruction":"a","output":"b"}`, Messages, `:1:1: row 1: column "messages" is missing for messages rows; the columns are "instruction", "output"`},
		{`{"messages":{"role":"user"}}`, "", `:1:13: row 1: "messages" must be a list, found an object`},
		{`{"messages":["a"]}`, "", `:1:14: row 1: message 1 must be an object, found a string`},
		{`{"messages":[{"role":"user","content":"a"},{"content":"b"}]}`, "", `:1:44: row 1: message 2 has no text "role"; its keys are "content"`},
		{`{"messages":[{"role":"user"}]}`, "", `:1:14: row 1: message 1 of "user" has no content`},
		{`{"messages":[{"role":"user","content":1}]}`, "", `:1:39: row 1: message 1: "content" must be a text or a list of parts, found a number`},
		{`{"messages":[{"role":"user","content":[{"type":"image","text":"x"}]}]}`, "", `:1:40: row 1: message 1: part 1 of the content is no text; only texts can be trained`},
		{`{"messages":[{"role":"assistant","content":"a","weight":0.5}]}`, "", `:1:57: row 1: message 1: "weight" is 0.5: a message is trained (1, true) or not (0, false), fractions are not supported`},
		{`{"messages":[{"role":"assistant","content":"a","loss":"yes"}]}`, "", `:1:55: row 1: message 1: "loss" must be true, false, 1 or 0, found a string`},
		{`{"messages":[{"role":"assistant","content":"a","loss":true,"train":0}]}`, "", `:1:68: row 1: message 1: "train" says the opposite of another key`},
		{`{"messages":[{"role":"user","content":"a","loss":true}]}`, "", `:1:50: row 1: message 1: "loss" asks to train a message of "user"; only replies (assistant) can be trained one by one, train_on: all trains whole dialogues`},
		{`{"messages":[],"images":["x.png"]}`, "", `:1:1: row 1: column "images" is not understood in messages rows, which have messages (and may have system, tools). Remove the column if it is not to be trained; the columns are "messages", "images"`},
		{`{"conversations":[{"from":"human","value":"a"},{"from":"narrator","value":"b"}]}`, "", `:1:56: row 1: message 2: "from" is "narrator"; known are human, gpt, system, tool, observation and function_call`},
		{`{"conversations":[{"from":"human","value":null}]}`, "", `:1:19: row 1: message 1 has no text "value"; its keys are "from", "value"`},
		{`{"conversations":[{"from":"function_call","value":"f(x)"}]}`, "", `:1:51: row 1: the text is no JSON: at its line 1, column 1: expected false`},
		{`{"prompt":"a","completion":["b"]}`, "", `:1:11: row 1: prompt and completion must both be texts or both be lists of messages`},
		{`{"messages":"[{\"role\":\"user\",\"role\":\"x\"}]"}`, "", `:1:13: row 1: the text is no JSON: at its line 1, column 17: key "role" appears twice`},
		{`{"messages":[{"role":"user","content":"a","role":"b"}]}`, "", `:1:43: row 1: key "role" appears twice`},
		{`{"messages":` + strings.Repeat("[", 100), "", `:1:78: row 1: nested deeper than 64`},
	} {
		path := filepath.Join(put(t, map[string]string{"d.jsonl": c.row}), "d.jsonl")
		_, _, err := readAll(Spec{Paths: []string{path}, Format: c.format})
		if err == nil || err.Error() != path+c.want {
			t.Errorf("%.80s:\n got %v\nwant %s", c.row, err, path+c.want)
		}
	}
}

func TestCSV(t *testing.T) {
	dir := put(t, map[string]string{
		"a.csv": "\ufeffinstruction,output,score\r\n问,答,1\r\n\"two\nlines, \"\"quoted\"\"\",b,\r\n\r\nlast,c,3",
		"b.tsv": "prompt\tcompletion\nhe said \ta,b\n",
		"c.csv": "id,messages\n7,\"[{\"\"role\"\":\"\"user\"\",\"\"content\"\":\"\"a\"\"}]\"\n",
	})
	got, files, err := readAll(Spec{Paths: []string{dir + "/a.csv", dir + "/b.tsv", dir + "/c.csv"}})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for i := range got {
		lines = append(lines, fmt.Sprintf("%s:%d:%d %s", filepath.Base(got[i].File), got[i].Line, got[i].Row, show(&got[i], "")))
	}
	want := []string{"a.csv:2:1 user: 问 | assistant: 答", "a.csv:3:2 user: two\nlines, \"quoted\" | assistant: b", "a.csv:6:3 user: last | assistant: c",
		"b.tsv:2:1 user: he said  | assistant: a,b", "c.csv:2:1 user: a"}
	if !slices.Equal(lines, want) {
		t.Errorf("got %q\nwant %q", lines, want)
	}
	if files[0].Rows != 3 || !slices.Equal(files[0].Ignored, []string{"score"}) || files[2].Format != Messages {
		t.Errorf("%+v", files)
	}
	for text, want := range map[string]string{
		"":                        ":1:1: no rows: expected a line of column names, and a line for each row",
		"instruction,output\n":    ":1:1: no rows: there is nothing below the line of column names",
		"text,text\na,b\n":        ":1:6: column \"text\" appears twice",
		"text,b\na\n":             ":2:1: row 1: the row has another number of cells than the first line has columns: is a separator inside a cell without quotes?",
		"text\nok\n\"open\n\n":    ":3:1: row 2: a quote is missing or out of place (noticed at line 4, column 2): a cell with quotes, separators or line breaks stands in double quotes, and quotes in it are doubled",
		"text\na \"b\" c\n":       ":2:3: row 1: a double quote in a cell that does not begin with one: put the cell in double quotes and double those in it",
		"text,id\nx,1\ny\xff,2\n": ":3:1: row 2: column \"text\" is not UTF-8: convert the file",
		"a;b\n1;2\n":              ":2:1: row 1: no known format: the columns are \"a;b\". Known are instruction and output (alpaca), messages or conversations, prompt and completion, and text; say which columns are which, such as columns: {instruction: question, output: answer}",
		"messages\n\"[{\"\n":      ":2:1: row 1: the text is no JSON: at its line 1, column 3: the file ends in the middle of a row",
		"\xff\xfea\x00":           ":1:1: the file is UTF-16: convert it to UTF-8",
		"text\n\"" + strings.Repeat("x\n", 9<<20): ": row 1: longer than 16 MiB: is a closing quote missing?",
	} {
		path := filepath.Join(put(t, map[string]string{"d.csv": text}), "d.csv")
		if _, _, err := readAll(Spec{Paths: []string{path}}); err == nil || err.Error() != path+want {
			t.Errorf("%.40q:\n got %v\nwant %s", text, err, path+want)
		}
	}
}

// The files are pyarrow's (testdata/parquet.py).
func TestParquet(t *testing.T) {
	read := func(name string) (out []string) {
		t.Helper()
		got, _, err := readAll(Spec{Paths: []string{"testdata/" + name}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			out = append(out, fmt.Sprintf("%d %s", got[i].Row, show(&got[i], "")))
		}
		return out
	}
	for name, want := range map[string][]string{
		"alpaca.parquet":   {"1 user: 问 | assistant: 答", "2 user: a | assistant: b", "3 user: third\nx | assistant: c"},
		"sharegpt.parquet": {"1 user: hello | assistant: hi", "2 user: again | assistant: yes"},
		"nested.parquet":   {"1 text t1", "2 text t2", "3 text t3"},
	} {
		if got := read(name); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	_, _, err := readAll(Spec{Paths: []string{"testdata/messages.parquet"}})
	if err == nil || err.Error() != `testdata/messages.parquet: row 4: "messages" must be a list, found null` {
		t.Error(err)
	}
	got, _, err := readAll(Spec{Paths: []string{"testdata/messages.parquet"}, MaxSamples: 3})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"system: s | user: u1 | -assistant: a1 | user: u2 | +assistant: a2",
		`user: weather? | assistant:  {"role":"assistant","tool_calls":[{"type":"function","function":{"name":"weather","arguments":{"city":"Paris","days":2}}}]} | tool: sunny | assistant: Sunny. | tools [{"type":"function","function":{"name":"weather"}}]`, ""} {
		if s := show(&got[i], ""); s != want {
			t.Errorf("row %d:\n got %s\nwant %s", i+1, s, want)
		}
	}
	if _, _, err := readAll(Spec{Paths: []string{"testdata/lz4.parquet"}}); err == nil || !strings.Contains(err.Error(), "LZ4") {
		t.Error(err)
	}
	if w := got[1].Where(); w != "testdata/messages.parquet (row 2)" {
		t.Error(w)
	}
	var values []string
	err = readParquet(context.Background(), "testdata/nested.parquet", func(string) bool { return true }, func(r *record) error {
		v := object(slices.Clone(r.columns), slices.Clone(r.values)...)
		values = append(values, string(v.appendJSON(nil)))
		return nil
	})
	if want := []string{`{"text":"t1","lists":[[1,2],[],null],"map":{"k":1.5},"flag":true}`, `{"text":"t2","lists":null,"map":{},"flag":null}`,
		`{"text":"t3","lists":[[3]],"map":null,"flag":false}`}; err != nil || !slices.Equal(values, want) {
		t.Errorf("%q, %v", values, err)
	}
}

// A damaged Parquet file is an error, never a panic or an endless loop.
func TestDamagedParquet(t *testing.T) {
	whole, err := os.ReadFile("testdata/messages.parquet")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(whole); i += 11 {
		parquetBytes(t, whole[:i])
		parquetBytes(t, slices.Concat(whole[:i], []byte{whole[i] ^ 0x55}, whole[i+1:]))
	}
}

func FuzzParquet(f *testing.F) {
	for _, name := range []string{"alpaca", "messages", "nested", "sharegpt"} {
		b, err := os.ReadFile("testdata/" + name + ".parquet")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { parquetBytes(t, b) })
}

// parquetBytes reads a file with these bytes, all of its columns.
func parquetBytes(t *testing.T, b []byte) {
	path := filepath.Join(t.TempDir(), "d.parquet")
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	rows := 0
	err := readParquet(context.Background(), path, func(string) bool { return true }, func(r *record) error {
		if rows++; rows > 1000 {
			return errEnough
		}
		return nil
	})
	if err == nil && rows == 0 {
		t.Error("neither rows nor an error")
	}
}

func TestFilesOfAnEntry(t *testing.T) {
	row := func(s string) string { return fmt.Sprintf(`{"text":%q}`+"\n", s) }
	var packed, packed2 bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write([]byte(row("gz")))
	z.Close()
	z2, err := zstd.NewWriter(&packed2)
	if err != nil {
		t.Fatal(err)
	}
	z2.Write([]byte(row("zst")))
	z2.Close()
	dir := put(t, map[string]string{"x/a.jsonl": row("a"), "x/b.jsonl": row("b"), "x/dataset_infos.json": "{}", "x/README.md": "# x", "x/.git/c.jsonl": row("hidden"),
		"hub/data/train-00000-of-00002.jsonl": row("t0"), "hub/data/train-00001-of-00002.jsonl": row("t1"), "hub/data/test-00000-of-00001.jsonl": row("test"),
		"mixed/a.jsonl": row("a"), "mixed/b.csv": "text\nb\n", "empty/note.txt": "x", "n#5": row("hash"), "p.jsonl.gz": packed.String(), "p.jsonl.zst": packed2.String()})
	for _, c := range []struct{ path, want string }{
		{"x", "a b"}, {"x/*.jsonl", "a b"}, {"x/[b].jsonl", "b"}, {"hub", "t0 t1"}, {"n#5", "hash"}, {"p.jsonl.gz", "gz"}, {"p.jsonl.zst", "zst"}, {"x#1", "1 row"}, {"x#2", "a b"}, {"x/*.jsonl#9", "a b"},
		{"mixed", "several kinds"}, {"empty", "without data files"}, {"x/*.txt", "no file matches"}, {"nowhere.json", "nowhere.json"}, {"x#0", "at least one row"},
	} {
		got, _, err := readAll(Spec{Paths: []string{filepath.Join(dir, c.path)}})
		s := fmt.Sprint(err)
		if err == nil {
			var texts []string
			for _, e := range got {
				texts = append(texts, e.Text)
			}
			s = strings.Join(texts, " ")
			if c.want == "1 row" && len(texts) == 1 {
				continue
			}
		}
		if s != c.want && (err == nil || !strings.Contains(s, c.want)) {
			t.Errorf("%s: %s, want %s", c.path, s, c.want)
		}
	}
	s, err := Open(Spec{Paths: []string{filepath.Join(dir, "hub")}})
	if err != nil || len(s.Notes()) != 1 || !strings.Contains(s.Notes()[0], "test-00000") {
		t.Errorf("%v, %v", s.Notes(), err)
	}
}

// #N draws the same rows each time, others for another seed, and keeps their order; max_samples counts over all files.
func TestSamples(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "{\"text\":\"%d\"}\n", i)
	}
	path := filepath.Join(put(t, map[string]string{"d.jsonl": b.String()}), "d.jsonl")
	draw := func(seed uint64, most int, paths ...string) (out []int) {
		got, _, err := readAll(Spec{Paths: paths, Seed: seed, MaxSamples: most})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range got {
			out = append(out, e.Row)
		}
		return out
	}
	a, again, other := draw(1, 0, path+"#100"), draw(1, 0, path+"#100"), draw(2, 0, path+"#100")
	if len(a) != 100 || !slices.IsSorted(a) || !slices.Equal(a, again) || slices.Equal(a, other) || a[0] > 100 || a[99] < 900 {
		t.Errorf("%v", a)
	}
	if got := draw(1, 150, path+"#100", path); len(got) != 150 || !slices.Equal(got[:100], a) || got[149] != 50 {
		t.Errorf("%v", got)
	}
}

func TestSplit(t *testing.T) {
	train, eval, err := Split(101, 0.1, 7)
	if err != nil || len(eval) != 11 || len(train) != 90 || !slices.IsSorted(eval) || !slices.IsSorted(train) {
		t.Fatal(train, eval, err)
	}
	all := slices.Concat(train, eval)
	slices.Sort(all)
	for i, x := range all {
		if int(x) != i {
			t.Fatalf("row %d is missing or doubled", i)
		}
	}
	if _, again, _ := Split(101, 0.1, 7); !slices.Equal(eval, again) {
		t.Error("not deterministic")
	}
	for _, f := range []float64{1, 0.995} {
		if _, _, err := Split(100, f, 1); err == nil {
			t.Errorf("%v leaves nothing", f)
		}
	}
}

func TestHistogram(t *testing.T) {
	var h Histogram
	for n := range 5000 {
		before := len(h)
		h.Add(n)
		bin := max(len(h), before) - 1
		if from, to := h.Bounds(bin); n < from || n > to || (to-from+1)*8 > max(8, from) {
			t.Fatalf("%d is in bin %d, %d to %d", n, bin, from, to)
		}
	}
	if q := h.Quantile(0.5); q < 2499 || q > 2815 {
		t.Error(q)
	}
}

func TestForeignMarkers(t *testing.T) {
	tok := tinyTokenizer(t)
	got := Foreign(tok, "<|begin_of_text|><|start_header_id|>user<|end_header_id|> [INST] x [/INST]", "<|im_start|>a<|im_end|> <b> <|not a token|>")
	if want := []string{"[INST]", "[/INST]", "<|im_start|>", "<|im_end|>"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A column that recipes name and no row has is a mistake, even where rows can do without it.
func TestColumnsThatAreNotThere(t *testing.T) {
	path := filepath.Join(put(t, map[string]string{"d.jsonl": `{"instruction":"a","output":"b"}`}), "d.jsonl")
	for _, columns := range []map[string]string{{"system": "sytem"}, {"prompt": "instruction"}} {
		if _, _, err := readAll(Spec{Paths: []string{path}, Columns: columns}); err == nil || !strings.Contains(err.Error(), "column") {
			t.Errorf("%v: %v", columns, err)
		}
	}
}

// FuzzExample: whatever a row is, it becomes an example or a fault, and what values write as JSON reads back.
func FuzzExample(f *testing.F) {
	f.Add(`{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{\"x\":1}"}}],"weight":1}],"tools":"[]"}`)
	f.Add(`{"conversations":[{"from":"human","value":"\u2028"},{"from":"function_call","value":"[{\"name\":\"f\"}]"}]}`)
	f.Add(`{"instruction":"a","output":"b","history":"[[\"a\",\"b\"]]"}`)
	f.Fuzz(func(t *testing.T, row string) {
		got, err := decodeString(row)
		if err != nil {
			return
		}
		for i := range got {
			e := &got[i]
			e.blank()
			for _, m := range e.Messages("s") {
				if m.Raw != nil && !json.Valid(m.Raw) {
					t.Fatalf("%s is no JSON", m.Raw)
				}
			}
			if e.Tools != nil && !json.Valid(e.Tools) {
				t.Fatalf("%s is no JSON", e.Tools)
			}
		}
	})
}
