package tokenizer

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

const tinyDir = "../../testdata/golden/tiny-llama"

func loadTiny(t testing.TB) *Tokenizer {
	t.Helper()
	tok, err := Load(tinyDir)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// withoutAdded is the tiny tokenizer with an empty list of added tokens.
func withoutAdded(t testing.TB) *Tokenizer {
	t.Helper()
	data, err := os.ReadFile(tinyDir + "/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	tok, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	tok.added = nil
	tok.indexAdded()
	return tok
}

func TestIDAndToken(t *testing.T) {
	tok := loadTiny(t)
	if n := tok.VocabSize(); n != 2048 {
		t.Fatalf("VocabSize is %d", n)
	}
	for id := range int32(tok.VocabSize()) {
		spelling, ok := tok.Token(id)
		if !ok {
			t.Fatalf("no token %d", id)
		}
		if got, ok := tok.ID(spelling); !ok || got != id {
			t.Errorf("token %d is %q, whose id is %d, %t", id, spelling, got, ok)
		}
		if got, want := tok.IsSpecial(id), id >= 2042; got != want {
			t.Errorf("IsSpecial(%d) is %t", id, got)
		}
	}
	for _, id := range []int32{-1, 2048, 1 << 30} {
		if s, ok := tok.Token(id); ok || tok.IsSpecial(id) {
			t.Errorf("token %d is %q", id, s)
		}
	}
	if id, ok := tok.ID("no such token"); ok {
		t.Errorf("an unknown token has id %d", id)
	}
	if got := tok.Decode([]int32{-1, 2048, 1 << 30}, false); got != "" {
		t.Errorf("unknown ids decode to %q", got)
	}
}

func TestAlphabet(t *testing.T) {
	var all []byte
	for b := range 256 {
		all = append(all, byte(b))
	}
	spelling := spell(string(all))
	if n := utf8.RuneCountInString(spelling); n != 256 {
		t.Errorf("%d characters", n)
	}
	for _, r := range spelling {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			t.Errorf("%q is not printable", r)
		}
	}
	if got, ok := appendUnspelled(nil, []byte(spelling)); !ok || string(got) != string(all) {
		t.Errorf("%q comes back as %q", all, got)
	}
	if !strings.HasPrefix(spelling[strings.IndexRune(spelling, 'Ġ'):], "Ġ!") {
		t.Error("a space is not spelled Ġ")
	}
}

func TestPlain(t *testing.T) {
	tok, none := loadTiny(t), withoutAdded(t)
	eot, _ := tok.ID("<|eot_id|>")
	if eot == 0 {
		t.Fatal("no <|eot_id|>")
	}
	const text = "甄嬛<|eot_id|> 皇上<|eot_id|>!"
	first, second := strings.Index(text, "<|"), strings.LastIndex(text, "<|")
	for name, c := range map[string]struct {
		plain []Range
		eots  int
	}{
		"none":                {nil, 2},
		"empty range":         {[]Range{{first + 3, first + 3}}, 2},
		"beside":              {[]Range{{0, first}, {first + 10, second}}, 2},
		"one":                 {[]Range{{first, first + 10}}, 1},
		"first byte":          {[]Range{{first, first + 1}}, 1},
		"last byte":           {[]Range{{first + 9, first + 10}}, 1},
		"inside":              {[]Range{{first + 4, first + 5}}, 1},
		"both":                {[]Range{{first + 4, first + 5}, {second + 9, second + 10}}, 0},
		"all":                 {[]Range{{0, len(text)}}, 0},
		"nested, overlapping": {[]Range{{0, first + 2}, {0, 1}, {first, first + 3}}, 1},
		"outside of the text": {[]Range{{-5, -1}, {len(text), len(text) + 9}}, 2},
	} {
		ids := tok.Encode(text, c.plain...)
		n := 0
		for _, id := range ids {
			if id == eot {
				n++
			}
		}
		if n != c.eots {
			t.Errorf("%s: %d of <|eot_id|>, want %d", name, n, c.eots)
		}
		if got := tok.Decode(ids, false); got != text {
			t.Errorf("%s: decodes to %q", name, got)
		}
	}
	// What is plain is tokenised with its surroundings.
	if got, want := tok.Encode(text, Range{first + 4, first + 5}, Range{second, second + 1}), none.Encode(text); !slices.Equal(got, want) {
		t.Errorf("ids %v, want %v", got, want)
	}
	// A longer token must not hide a shorter one that ends before the data.
	for i, content := range []string{"<a", "<a>b"} {
		if err := tok.add(&addedToken{ID: int32(2048 + i), Content: content, Special: true}); err != nil {
			t.Fatal(err)
		}
	}
	tok.indexAdded()
	if ids := tok.Encode("<a>b", Range{2, 4}); ids[0] != 2048 || len(ids) < 2 {
		t.Errorf("ids %v", ids)
	}
	if ids := tok.Encode("<a>b"); !slices.Equal(ids, []int32{2049}) {
		t.Errorf("ids %v", ids)
	}
	// A token that is an ordinary word is an ordinary word there, ignore_merges or not.
	if err := tok.add(&addedToken{ID: 2050, Content: "zzyzx"}); err != nil {
		t.Fatal(err)
	}
	tok.indexAdded()
	if ids := tok.Encode("zzyzx", Range{0, 5}); !slices.Equal(ids, none.Encode("zzyzx")) {
		t.Errorf("ids %v", ids)
	}
}

func TestLossy(t *testing.T) {
	// Unicode 15.0, tables 3-8 to 3-11, and ends of the text.
	for in, want := range map[string]string{
		"":                                  "",
		"aé中👍":                              "aé中👍",
		"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82A": "\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffdA",
		"\xed\xa0\x80\xed\xbf\xbf\xed\xafA": "\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffdA",
		"\xf4\x91\x92\x93\xffA\x80\xbfB":    "\ufffd\ufffd\ufffd\ufffd\ufffdA\ufffd\ufffdB",
		"\xe1\x80\xe2\xf0\x91\x92\xf1\xbfA": "\ufffd\ufffd\ufffd\ufffdA",
		"\xe4\xb8":                          "\ufffd",
		"\xf0\x9f\x91":                      "\ufffd",
		"\xf0\x9f\x91a":                     "\ufffda",
		"\xe4\xb8\xe4\xb8\xad":              "\ufffd中",
		"\xc3":                              "\ufffd",
		"\xf5\x80":                          "\ufffd\ufffd",
	} {
		got, rest := appendLossy(nil, []byte(in), true)
		if string(got) != want || len(rest) > 0 {
			t.Errorf("%+q is %+q, want %+q", in, got, want)
		}
		var piecewise, pending []byte
		for i := range len(in) {
			pending = append(pending, in[i])
			piecewise, rest = appendLossy(piecewise, pending, false)
			pending = append([]byte(nil), rest...)
			if len(pending) > 3 {
				t.Errorf("%+q: %d bytes held back", in, len(pending))
			}
			if !utf8.Valid(piecewise) {
				t.Errorf("%+q: %+q is not UTF-8", in, piecewise)
			}
		}
		if piecewise, _ = appendLossy(piecewise, pending, true); string(piecewise) != want {
			t.Errorf("%+q byte by byte is %+q, want %+q", in, piecewise, want)
		}
	}
}

func TestStreamHoldsBack(t *testing.T) {
	tok := loadTiny(t)
	s := tok.NewStream(true)
	eot, _ := tok.ID("<|eot_id|>")
	var got []string
	for _, b := range []byte("é👍") {
		got = append(got, s.Push(tok.byteID[b]))
	}
	got = append(got, s.Push(tok.byteID[0xe4]), s.Push(eot), s.Push(-1), s.Push(tok.byteID[0xb8]), s.Flush(), s.Flush())
	if want := []string{"", "é", "", "", "", "👍", "", "", "", "", "\ufffd", ""}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestMergeOrder compares both merge loops with the definition, on random words and on
// runs, where the order of equal ranks matters.
func TestMergeOrder(t *testing.T) {
	tok := loadTiny(t)
	definition := func(ids []int32) []int32 {
		ids = slices.Clone(ids)
		for {
			best, rank := -1, int32(noMerge)
			for i := range len(ids) - 1 {
				if r := tok.merges.rank(ids[i], ids[i+1]); r < rank {
					best, rank = i, r
				}
			}
			if best < 0 {
				return ids
			}
			ids[best] = tok.merges.ids[rank]
			ids = slices.Delete(ids, best+1, best+2)
		}
	}
	data, err := os.ReadFile("../../testdata/golden/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := range 3 * shortWord {
		for _, word := range []string{
			string(data[5000+n*37:][:n]),
			strings.Repeat("a", n), strings.Repeat("ha", n/2), strings.Repeat(" ", n), strings.Repeat("嬛", n/3), strings.Repeat("...", n/3),
		} {
			ids := tok.appendBytes(nil, word)
			if n > 3 {
				i, j := rnd.IntN(len(ids)), rnd.IntN(len(ids))
				ids[i], ids[j] = ids[j], ids[i]
			}
			want := definition(ids)
			if got := tok.mergeHeap(slices.Clone(ids)); !slices.Equal(got, want) {
				t.Fatalf("heap: %v becomes %v, want %v", ids, got, want)
			}
			if len(ids) <= shortWord {
				short := slices.Clone(ids)
				if got := short[:tok.mergeShort(short)]; !slices.Equal(got, want) {
					t.Fatalf("scan: %v becomes %v, want %v", ids, got, want)
				}
			}
		}
	}
}

// TestLinearTime encodes 1 MB of what makes backtracking or naive merging explode. The
// quadratic loops take minutes.
func TestLinearTime(t *testing.T) {
	const size = 1 << 20
	llama3, gpt2, whole := loadTiny(t), loadTiny(t), loadTiny(t)
	gpt2.stages = []stage{{split: digitsSplit(true)}, {split: gpt2Split}}
	whole.stages = nil
	for name, tok := range map[string]*Tokenizer{"llama3": llama3, "gpt2": gpt2, "whole": whole} {
		for _, unit := range []string{"a", "ha", " ", "\n", " \n", "\n ", "a.", "'", "'s", "e\u0301", "\u0301", "1", "嬛", "<", "<|", "<|eot_id|", "<|eot_id|>", "\xff", "\xf0\x9f"} {
			text := strings.Repeat(unit, size/len(unit))
			start := time.Now()
			ids := tok.Encode(text)
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("%s: 1 MB of %+q took %v", name, unit, took)
			} else {
				t.Logf("%s: 1 MB of %+q: %v, %d ids", name, unit, took.Round(time.Millisecond), len(ids))
			}
			if utf8.ValidString(text) && tok.Decode(ids, false) != text {
				t.Errorf("%+q does not come back", unit)
			}
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	tok := loadTiny(t)
	var texts []string
	for i := range 300 {
		texts = append(texts, fmt.Sprintf("word%d 皇上%d ...%d<|eot_id|>", i, i*i, i%7))
	}
	want := make([][]int32, len(texts))
	for i, text := range texts {
		want[i] = tok.Encode(text)
	}
	shared := loadTiny(t)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range texts {
				k := (i*7 + g*31) % len(texts)
				if got := shared.Encode(texts[k]); !slices.Equal(got, want[k]) {
					t.Errorf("%q: %v, want %v", texts[k], got, want[k])
				}
			}
		})
	}
	wg.Wait()
}
