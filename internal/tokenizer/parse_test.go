package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// smallest is a tokenizer.json with three byte tokens and two merges; edit may change it.
func smallest(edit func(file, model map[string]any)) []byte {
	model := map[string]any{
		"type": "BPE", "vocab": map[string]any{"a": 0, "b": 1, "Ġ": 2, "ab": 3, "Ġab": 4}, "merges": []any{"a b", "Ġ ab"},
	}
	file := map[string]any{
		"added_tokens":  []any{map[string]any{"id": 5, "content": "<s>", "special": true}},
		"pre_tokenizer": map[string]any{"type": "ByteLevel", "add_prefix_space": false},
		"decoder":       map[string]any{"type": "ByteLevel"},
		"model":         model,
	}
	if edit != nil {
		edit(file, model)
	}
	data, err := json.Marshal(file)
	if err != nil {
		panic(err)
	}
	return data
}

type object = map[string]any

func TestParseAccepts(t *testing.T) {
	for name, edit := range map[string]func(file, model map[string]any){
		"as it is": nil,
		"pairs":    func(_, m object) { m["merges"] = []any{[]any{"a", "b"}, []any{"Ġ", "ab"}} },
		"no type":  func(_, m object) { delete(m, "type") },
		"nulls": func(f, m object) {
			f["normalizer"], m["dropout"], m["unk_token"], m["byte_fallback"] = nil, nil, nil, nil
		},
		"empty sequence": func(f, _ object) { f["normalizer"] = object{"type": "Sequence", "normalizers": []any{}} },
		"empty affixes":  func(_, m object) { m["continuing_subword_prefix"], m["end_of_word_suffix"] = "", "" },
		"decoders": func(f, _ object) {
			f["decoder"] = object{"type": "Sequence", "decoders": []any{object{"type": "ByteLevel"}}}
		},
		"truncation":     func(f, _ object) { f["truncation"], f["padding"] = object{"max_length": 1}, object{} },
		"merge repeated": func(_, m object) { m["merges"] = []any{"a b", "Ġ ab", "a b"} },
		"a hole": func(f, m object) { // added tokens are numbered from the number of tokens
			m["vocab"] = object{"a": 0, "b": 1, "Ġ": 2, "ab": 3, "Ġab": 4, "z": 40}
			f["added_tokens"] = []any{object{"id": 6, "content": "<s>"}}
		},
		"unk not needed":  func(_, m object) { m["unk_token"] = "a" },
		"empty added one": func(f, _ object) { f["added_tokens"] = []any{object{"id": 77, "content": ""}} },
	} {
		tok, err := Parse(smallest(edit))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := []int32{3, 4, 2}
		if name == "unk not needed" {
			want = []int32{3, 4, 2, 0}
		}
		if got := tok.Encode("ab ab x"); !slices.Equal(got, want) {
			t.Errorf("%s: ids %v, want %v", name, got, want)
		}
	}
}

// TestLiteralToken: a token with characters outside of the byte alphabet is not what the
// bytes of its name merge to, wherever its id is.
func TestLiteralToken(t *testing.T) {
	tok, err := Parse(smallest(func(f, m object) {
		m["vocab"] = object{"ä¸": 0, "中": 1, "Ń": 2, "ä¸Ń": 3}
		m["merges"] = []any{"ä¸ Ń"}
		f["added_tokens"] = nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	if got := tok.merges.ids; !slices.Equal(got, []int32{3}) {
		t.Errorf("the merge makes %v", got)
	}
	for token, want := range map[string]int32{"中": 1, "ä¸Ń": 3} {
		if id, ok := tok.ID(token); !ok || id != want {
			t.Errorf("%s has id %d, %t", token, id, ok)
		}
		if got := tok.Decode([]int32{want}, false); got != "中" {
			t.Errorf("%d decodes to %q", want, got)
		}
	}
}

// TestMergeTwice: the later of two merges of the same pair counts.
func TestMergeTwice(t *testing.T) {
	for last, want := range map[string][]int32{"b b": {3, 1}, "a b": {0, 5}} {
		tok, err := Parse(smallest(func(f, m object) {
			m["vocab"] = object{"a": 0, "b": 1, "Ġ": 2, "ab": 3, "x": 4, "bb": 5}
			m["merges"] = []any{last, "a b", "b b", last}
			f["added_tokens"] = nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		if got := tok.Encode("abb"); !slices.Equal(got, want) {
			t.Errorf("%s twice: ids %v, want %v", last, got, want)
		}
	}
}

func TestParseMergesBeforeVocab(t *testing.T) {
	for _, model := range []string{
		`{"type":"BPE","merges":["a b"],"vocab":{"a":0,"b":1,"ab":2}}`,
		"{ \"vocab\" : {\"\\u0061\":0 ,\"b\":1, \"ab\" : 2 }\n,\"merges\":[ [\"a\" , \"\\u0062\"] ], \"type\":\"BPE\"}\r\n",
	} {
		tok, err := Parse([]byte(`{"model":` + model + `,"pre_tokenizer":{"type":"ByteLevel"},"decoder":{"type":"ByteLevel"}}`))
		if err != nil {
			t.Errorf("%s: %v", model, err)
		} else if got := tok.Encode("ab"); !slices.Equal(got, []int32{2}) {
			t.Errorf("%s: ids %v", model, got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	split := func(pattern any, behavior string) object {
		return object{"type": "Sequence", "pretokenizers": []any{
			object{"type": "Split", "pattern": pattern, "behavior": behavior, "invert": false}, object{"type": "ByteLevel"}}}
	}
	added := func(tokens ...object) func(f, m object) {
		return func(f, _ object) { f["added_tokens"] = tokens }
	}
	for want, edit := range map[string]func(file, model map[string]any){
		`type "Unigram"`:                    func(_, m object) { m["type"], m["vocab"] = "Unigram", []any{} },
		`type "WordPiece"`:                  func(_, m object) { m["type"] = "WordPiece" },
		"model: missing":                    func(f, _ object) { delete(f, "model") },
		"vocab: missing":                    func(_, m object) { delete(m, "vocab") },
		"merges: missing":                   func(_, m object) { delete(m, "merges") },
		"vocab: empty":                      func(_, m object) { m["vocab"] = object{} },
		"byte_fallback true":                func(_, m object) { m["byte_fallback"] = true },
		"dropout 0.1":                       func(_, m object) { m["dropout"] = 0.1 },
		`end_of_word_suffix "</w>"`:         func(_, m object) { m["end_of_word_suffix"] = "</w>" },
		`continuing_subword_prefix "##"`:    func(_, m object) { m["continuing_subword_prefix"] = "##" },
		`unk_token "<unk>" is not in`:       func(_, m object) { m["unk_token"] = "<unk>" },
		"a JSON string where true or false": func(_, m object) { m["ignore_merges"] = "yes" },
		"id 3 belongs to two":               func(_, m object) { m["vocab"].(object)["x"] = 3 },
		"expected an integer":               func(_, m object) { m["vocab"].(object)["x"] = -1 },
		"number not below 2097152":          func(_, m object) { m["vocab"].(object)["x"] = 1 << 21 },
		`expected ',', found '.'`:           func(_, m object) { m["vocab"] = object{"x": 7.5} },
		"longer than 4096":                  func(_, m object) { m["vocab"].(object)[strings.Repeat("x", 4097)] = 9 },
		`merge 1 is "ab", not two`:          func(_, m object) { m["merges"] = []any{"a b", "ab"} },
		`merge 0 is "a b c", not two`:       func(_, m object) { m["merges"] = []any{"a b c"} },
		`merge 0 ("a", "z"): a part`:        func(_, m object) { m["merges"] = []any{"a z"} },
		`merge 0 ("b", "a"): a part`:        func(_, m object) { m["merges"] = []any{"b a"} },
		"merge 0 has 1 tokens":              func(_, m object) { m["merges"] = []any{[]any{"a"}} },
		"merge 0 has more than two":         func(_, m object) { m["merges"] = []any{[]any{"a", "b", "a"}} },
		`normalizer "{\"type\":\"NFC\"}"`:   func(f, _ object) { f["normalizer"] = object{"type": "NFC"} },
		"pre_tokenizer: missing":            func(f, _ object) { f["pre_tokenizer"] = nil },
		`part 1 of 1 is "Whitespace"`:       func(f, _ object) { f["pre_tokenizer"] = object{"type": "Whitespace"} },
		"a sequence of 0":                   func(f, _ object) { f["pre_tokenizer"] = object{"type": "Sequence"} },
		`type "Metaspace"`: func(f, _ object) {
			f["pre_tokenizer"] = object{"type": "Sequence", "pretokenizers": []any{object{"type": "Metaspace"}, object{"type": "ByteLevel"}}}
		},
		`the pattern "(a+)+$"`: func(f, _ object) { f["pre_tokenizer"] = split(object{"Regex": "(a+)+$"}, "Isolated") },
		"by a String":          func(f, _ object) { f["pre_tokenizer"] = split(object{"String": " "}, "Isolated") },
		`behavior "Removed"`:   func(f, _ object) { f["pre_tokenizer"] = split(object{"Regex": `\s`}, "Removed") },
		`pre_tokenizer: pattern: a JSON string where`: func(f, _ object) { f["pre_tokenizer"] = split(" ", "Isolated") },
		`post_processor "BertProcessing"`:             func(f, _ object) { f["post_processor"] = object{"type": "BertProcessing"} },
		"decoder: missing":                            func(f, _ object) { delete(f, "decoder") },
		`decoder "Metaspace"`:                         func(f, _ object) { f["decoder"] = object{"type": "Metaspace"} },
		`added token "<s>" has id 9`:                  added(object{"id": 9, "content": "<s>"}),
		`added token "ab" has id 5`:                   added(object{"id": 5, "content": "ab"}),
		`added token "<s>" has id -1`:                 added(object{"id": -1, "content": "<s>"}),
		"513 bytes, more than 512":                    added(object{"id": 5, "content": strings.Repeat("x", 513)}),
		"which another token has": func(f, m object) {
			m["vocab"] = object{"a": 0, "b": 1, "Ġ": 2, "ab": 5, "Ġab": 4}
			f["added_tokens"] = []any{object{"id": 5, "content": "<s>"}}
		},
		"nested deeper than 64": func(f, _ object) {
			var deep any
			for range 70 {
				deep = []any{deep}
			}
			f["x"] = deep
		},
	} {
		tok, err := Parse(smallest(edit))
		if err == nil {
			t.Errorf("%s: accepted", want)
		} else if !strings.Contains(err.Error(), want) || tok != nil {
			t.Errorf("error %q, want %q", err, want)
		}
	}
}

func TestParseMalformed(t *testing.T) {
	good := string(smallest(nil))
	for name, text := range map[string]string{
		"nothing":            "",
		"null":               "null",
		"a list":             "[]",
		"empty":              "{}",
		"text behind":        good + "x",
		"twice":              strings.Replace(good, `"model"`, `"added_tokens":[],"model"`, 1),
		"two models":         strings.Replace(good, `"model":`, `"model":null,"model":`, 1),
		"token twice":        strings.Replace(good, `"a":0`, `"a":0,"\u0061":6`, 1),
		"not UTF-8":          strings.Replace(good, `"a":0`, "\"\xff\":0", 1),
		"half a surrogate":   strings.Replace(good, `"a":0`, `"\ud83d":0`, 1),
		"two high ones":      strings.Replace(good, `"a":0`, `"\ud83d\ud83d":0`, 1),
		"bad escape":         strings.Replace(good, `"a":0`, `"\x":0`, 1),
		"bad hex":            strings.Replace(good, `"a":0`, `"\u00g0":0`, 1),
		"raw newline":        strings.Replace(good, `"a":0`, "\"\n\":0", 1),
		"newline and escape": strings.Replace(good, `"a":0`, "\"\\t\n\":0", 1),
		"leading zero":       strings.Replace(good, `"a":0`, `"a":00`, 1),
		"trailing comma":     strings.Replace(good, `"Ġ ab"]`, `"Ġ ab",]`, 1),
		"no comma":           strings.Replace(good, `"a b",`, `"a b"`, 1),
		"brackets crossed":   `{"x":[}]`,
		"comma as a value":   `{"x":,}`,
		"10 MB of [":         `{"x":` + strings.Repeat("[", 10<<20),
	} {
		if text == good {
			t.Fatalf("%s: nothing was replaced", name)
		}
		if tok, err := Parse([]byte(text)); err == nil || tok != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for n := range len(good) {
		if _, err := Parse([]byte(good[:n])); err == nil {
			t.Errorf("%q: accepted", good[:n])
		}
	}
}

func TestJSONStrings(t *testing.T) {
	for _, text := range []string{`""`, `"abc"`, `"\"\\\/\b\f\n\r\t"`, `"\u0000\u00e9\u4e2d\ud83d\udc4d\uFFFF"`, `"中\t👍"`, ` "x" `} {
		var want string
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		r := &jsonReader{data: []byte(text)}
		got, err := r.str()
		if err == nil {
			err = r.end()
		}
		if err != nil || string(got) != want {
			t.Errorf("%s is %q (%v), want %q", text, got, err, want)
		}
	}
}

// writeDir makes a model directory with the smallest tokenizer and more files.
func writeDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{"tokenizer.json": string(smallest(nil))}
	maps.Copy(all, files)
	for name, text := range all {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoadTiny(t *testing.T) {
	c := loadTiny(t).Config()
	if c.BOSToken != "<|begin_of_text|>" || c.EOSToken != "<|eot_id|>" || c.PadToken != "" || !c.AddBOS || !strings.HasPrefix(c.ChatTemplate, "{") {
		t.Errorf("%+v", c)
	}
	tok := loadTiny(t)
	bos, ok := tok.BOS()
	if !ok || bos != 2042 {
		t.Errorf("BOS is %d, %t", bos, ok)
	}
	if _, ok := tok.Pad(); ok {
		t.Error("a pad token")
	}
}

// TestLoadConfig's ids are those of transformers 4.43.2 for the same files.
func TestLoadConfig(t *testing.T) {
	type files = map[string]string
	const config, special = "tokenizer_config.json", "special_tokens_map.json"
	for name, c := range map[string]struct {
		files files
		want  Config
		check string // "token=id special"
	}{
		"alone":   {nil, Config{}, "<s>=5 true"},
		"strings": {files{config: `{"bos_token":"<s>","eos_token":"ab","pad_token":null,"model_max_length":8192}`}, Config{BOSToken: "<s>", EOSToken: "ab", ModelMaxLength: 8192}, "ab=3 true"},
		"objects": {files{config: `{"unk_token":{"__type":"AddedToken","content":"a","lstrip":false},"model_max_length":1e30}`}, Config{UnkToken: "a"}, "a=0 true"},
		"new pad": {files{config: `{"pad_token":"[PAD]"}`}, Config{PadToken: "[PAD]"}, "[PAD]=6 true"},
		"extra":   {files{config: `{"additional_special_tokens":["<x>",{"content":"<y>"}]}`}, Config{}, "<y>=7 true"},
		"several": {files{config: `{"bos_token":"<b>","eos_token":"<e>","pad_token":"<p>","unk_token":"<u>","additional_special_tokens":["<x>"]}`},
			Config{BOSToken: "<b>", EOSToken: "<e>", PadToken: "<p>", UnkToken: "<u>"}, "<p>=9 true"},
		"decoder":  {files{config: `{"eos_token":"<y>","added_tokens_decoder":{"5":{"content":"<s>","special":true},"6":{"content":"<x>"},"7":{"content":"<y>"}}}`}, Config{EOSToken: "<y>"}, "<y>=7 true"},
		"ordinary": {files{config: `{"added_tokens_decoder":{"6":{"content":"<x>"}}}`}, Config{}, "<x>=6 false"},
		"map":      {files{config: `{"eos_token":"a","bos_token":"b"}`, special: `{"eos_token":{"content":"<s>"}}`}, Config{EOSToken: "<s>", BOSToken: "b"}, "<s>=5 true"},
		"map only": {files{special: `{"eos_token":"<s>"}`}, Config{EOSToken: "<s>"}, "<s>=5 true"},
		"map not read": {files{config: `{"eos_token":"a","added_tokens_decoder":{}}`, special: `{"eos_token":"<s>"}`},
			Config{EOSToken: "a"}, "a=0 true"},
		"template":  {files{config: `{"chat_template":"{{ x }}"}`}, Config{ChatTemplate: "{{ x }}"}, "<s>=5 true"},
		"templates": {files{config: `{"chat_template":[{"name":"rag","template":"r"},{"name":"default","template":"d"}]}`}, Config{ChatTemplate: "d"}, "<s>=5 true"},
		"file":      {files{config: `{"chat_template":"old"}`, "chat_template.jinja": "new\n"}, Config{ChatTemplate: "new\n"}, "<s>=5 true"},
	} {
		tok, err := Load(writeDir(t, c.files))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := tok.Config(); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		token, _, _ := strings.Cut(c.check, "=")
		id, ok := tok.ID(token)
		if got := fmt.Sprintf("%s=%d %t", token, id, tok.IsSpecial(id)); got != c.check || !ok {
			t.Errorf("%s: %s, want %s", name, got, c.check)
		}
		if got := tok.Encode(token); !slices.Equal(got, []int32{id}) {
			t.Errorf("%s: %s becomes %v", name, token, got)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	const config = "tokenizer_config.json"
	for want, files := range map[string]map[string]string{
		"tokenizer.json: model: missing":               {"tokenizer.json": "{}"},
		config + ": invalid character":                 {config: "x"},
		config + ": bos_token: a JSON number":          {config: `{"bos_token":7}`},
		"chat_template: a JSON object":                 {config: `{"chat_template":{}}`},
		`"x" is not the id`:                            {config: `{"added_tokens_decoder":{"x":{"content":"y"}}}`},
		`"06" is not the id`:                           {config: `{"added_tokens_decoder":{"06":{"content":"y"}}}`},
		`"6" is not the id`:                            {config: `{"added_tokens_decoder":{"6":null}}`},
		`added token "y" has id 9, but its place is 6`: {config: `{"added_tokens_decoder":{"9":{"content":"y"}}}`},
		"special_tokens_map.json: invalid character":   {"special_tokens_map.json": "x"},
	} {
		if _, err := Load(writeDir(t, files)); err == nil {
			t.Errorf("%s: accepted", want)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q, want %q", err, want)
		}
	}
	if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "needs this file") {
		t.Errorf("an empty directory: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(smallest(nil))
	f.Add(smallest(func(_, m object) { m["merges"] = []any{[]any{"a", "b"}} }))
	f.Add([]byte(`{"model":{"merges":["a b"],"vocab":{"a":0,"b":1,"ab":2},"unk_token":"a"},"pre_tokenizer":{"type":"ByteLevel"},"decoder":{"type":"ByteLevel"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := Parse(data)
		if err != nil {
			return
		}
		if !json.Valid(data) {
			t.Error("accepted what is not JSON")
		}
		text := "ab <s>\x00é" + string(data[:min(len(data), 64)])
		ids := tok.Encode(text, Range{3, 5})
		for _, id := range ids {
			if _, ok := tok.Token(id); !ok {
				t.Errorf("id %d has no token", id)
			}
		}
		tok.Decode(ids, true)
	})
}

func FuzzJSONString(f *testing.F) {
	f.Add([]byte(`"a\u00e9\ud83d\udc4d\n"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if !utf8.Valid(data) || !bytes.HasPrefix(data, []byte{'"'}) {
			return
		}
		r := &jsonReader{data: data}
		got, err := r.str()
		if err == nil {
			err = r.end()
		}
		var want string
		if wantErr := json.Unmarshal(data, &want); wantErr != nil {
			if err == nil {
				t.Errorf("%q is %q, want an error", data, got)
			}
			return
		}
		if err == nil && string(got) != want {
			t.Errorf("%q is %q, want %q", data, got, want)
		}
		// encoding/json makes U+FFFD of half a surrogate pair, which is an error here.
		if err != nil && !strings.ContainsRune(want, utf8.RuneError) {
			t.Errorf("%q: %v", data, err)
		}
	})
}
