package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The golden texts of the tiny tokenizer, through the command line.
func TestTokenizeGolden(t *testing.T) {
	var cases struct {
		Strings []string  `json:"strings"`
		Tiny    [][]int32 `json:"tiny"`
	}
	loadJSON(t, golden+"tokenizer.json", &cases)
	if len(cases.Strings) < 50 || len(cases.Tiny) != len(cases.Strings) {
		t.Fatalf("%d strings, %d lists", len(cases.Strings), len(cases.Tiny))
	}
	in, err := json.Marshal(cases.Strings)
	if err != nil {
		t.Fatal(err)
	}
	var got [][]int32
	r := criaWith(t, string(in), "tokenize", tiny, "--json")
	r.parse(t, &got)
	if r.err != "" {
		t.Errorf("standard error: %s", r.err)
	}
	for i, want := range cases.Tiny {
		if !slices.Equal(got[i], want) || got[i] == nil {
			t.Errorf("%q is %v, want %v", cases.Strings[i], got[i], want)
		}
	}
}

func TestTokenize(t *testing.T) {
	const special = "<|begin_of_text|>a b\n\tc<|eot_id|>"
	r := cria(t, "tokenize", tiny, special).ok(t)
	lines := strings.Split(r.out, "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "2042 ") || !strings.HasSuffix(lines[0], " 2047") {
		t.Errorf("%q", r.out)
	}
	if shown := strings.ReplaceAll(lines[1], " ", ""); shown != "<|begin_of_text|>a·b⏎⇥c<|eot_id|>" {
		t.Errorf("%q", lines[1])
	}
	// A character of several tokens is shown by its bytes; control characters never reach the terminal.
	if r := cria(t, "tokenize", tiny, "\U0001F999\x1b[31m").ok(t); !strings.Contains(r.out, "<F0>") || !strings.Contains(r.out, `\u001b`) {
		t.Errorf("%q", r.out)
	}
	if r := criaWith(t, "one\ntwo\r\nthree", "tokenize", tiny).ok(t); strings.Count(r.out, "\n") != 6 || strings.Contains(r.out, "⏎") {
		t.Errorf("%q", r.out)
	}
	ids := strings.ReplaceAll(lines[0], " ", ",")
	if r := cria(t, "tokenize", tiny, "--decode", ids).ok(t); r.out != special+"\n" {
		t.Errorf("%q", r.out)
	}
	var text string
	if cria(t, "tokenize", tiny, "--decode", ids, "--json").parse(t, &text); text != special {
		t.Errorf("%q", text)
	}
	var lists [][]int32
	if cria(t, "tokenize", tiny, "", "a", "--json").parse(t, &lists); fmt.Sprint(lists[0]) != "[]" || len(lists) != 2 {
		t.Errorf("%v", lists)
	}
	if criaWith(t, "[]", "tokenize", tiny, "--json").parse(t, &lists); lists == nil || len(lists) != 0 {
		t.Errorf("%v", lists)
	}
}

func TestTokenizeRefuses(t *testing.T) {
	for _, in := range []string{"", "null x", `{"a": 1}`, `["a", 1]`, `["a", null]`, `["a"] ["b"]`, `["a"`} {
		criaWith(t, in, "tokenize", tiny, "--json").fails(t, exitError, "standard input")
	}
	cria(t, "tokenize", "none", "x").fails(t, exitError, "tokenizer.json")
}
