package generate

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"cria/internal/demomodel"
)

const golden = "../../testdata/golden/"

func loadJSON(t testing.TB, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

func load(t testing.TB, model, adapter string) *Chat {
	t.Helper()
	c, err := Load(LoadOptions{Model: model, Adapter: adapter, DType: "float32"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func greedy(n int, eos []int32) Options {
	return Options{MaxNewTokens: n, EOS: eos, Sampling: Sampling{Greedy: true}}
}

func TestGreedyEqualsReference(t *testing.T) {
	var g struct {
		Prompts, Base, Adapted [][]int32
	}
	loadJSON(t, golden+"tiny/generate.json", &g)
	for name, want := range map[string][][]int32{"": g.Base, golden + "tiny/adapter": g.Adapted} {
		c := load(t, golden+"tiny-llama", name)
		for i, p := range g.Prompts {
			res, err := NewSession(c.Model).Generate(context.Background(), p, greedy(48, c.EOS), nil)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(res.IDs, want[i]) {
				t.Errorf("adapter %q prompt %d: %v, reference %v", name, i, res.IDs, want[i])
			}
		}
	}
}

func TestGreedySmolLM2(t *testing.T) {
	dir, err := demomodel.Dir(context.Background(), func(s string) { t.Log(s) })
	if err != nil {
		if os.Getenv("CRIA_TEST_MODELS") == "required" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	var g struct {
		Cases []struct {
			IDs, Greedy []int32
			Text        string
		}
	}
	loadJSON(t, golden+"smollm2.json", &g)
	c := load(t, dir, "")
	for i, want := range g.Cases {
		res, err := NewSession(c.Model).Generate(context.Background(), want.IDs, greedy(len(want.Greedy), c.EOS), nil)
		if err != nil {
			t.Fatal(err)
		}
		if text := c.Tokenizer.Decode(res.IDs, true); !slices.Equal(res.IDs, want.Greedy) || text != want.Text {
			t.Errorf("case %d: %q, reference %q", i, text, want.Text)
		}
		t.Logf("%.1f tokens/s", res.TokensPerSecond)
	}
}

// A dialogue that goes on in one session, with turns taken back, says what fresh sessions say.
func TestSessionReusesItsCache(t *testing.T) {
	c := load(t, golden+"tiny-llama", golden+"tiny/adapter")
	var g struct{ Prompts [][]int32 }
	loadJSON(t, golden+"tiny/generate.json", &g)
	s := NewSession(c.Model)
	text := slices.Clone(g.Prompts[0])
	cached := 0
	for turn := range 4 {
		got, err := s.Generate(context.Background(), text, greedy(20+turn*200, nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		want, err := NewSession(c.Model).Generate(context.Background(), text, greedy(20+turn*200, nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.IDs, want.IDs) {
			t.Fatalf("turn %d: %v, fresh session %v", turn, got.IDs, want.IDs)
		}
		if got.CachedTokens < cached {
			t.Fatalf("turn %d: %d tokens were computed before, %d of them were used again", turn, cached, got.CachedTokens)
		}
		cached = len(text) + 10
		text = append(text, got.IDs[:10]...)
		text = append(text, g.Prompts[turn%3+1][:15]...)
	}
}

func TestGenerateStops(t *testing.T) {
	c := load(t, golden+"tiny-llama", "")
	prompt := []int32{2042, 100, 101, 102}
	ctx, cancel := context.WithCancel(context.Background())
	n := 0
	s := NewSession(c.Model)
	res, err := s.Generate(ctx, prompt, greedy(100, nil), func(int32) {
		if n++; n == 5 {
			cancel()
		}
	})
	if err != nil || res.FinishReason != "cancelled" || len(res.IDs) != 5 {
		t.Errorf("cancelled: %+v, %v", res, err)
	}
	again, err := s.Generate(context.Background(), prompt, greedy(5, nil), nil)
	if err != nil || !slices.Equal(again.IDs, res.IDs) || again.FinishReason != "length" {
		t.Errorf("after a cancelled reply: %+v, %v; want %v", again, err, res.IDs)
	}
	stop, err := s.Generate(context.Background(), prompt, greedy(50, res.IDs[2:3]), nil)
	if err != nil || stop.FinishReason != "stop" || stop.IDs[len(stop.IDs)-1] != res.IDs[2] {
		t.Errorf("end of text: %+v, %v", stop, err)
	}
	_, err = s.Generate(context.Background(), make([]int32, 2048), greedy(5, nil), nil)
	var full *ContextError
	if !errors.As(err, &full) || !strings.Contains(err.Error(), "2048") {
		t.Errorf("a prompt as long as the context window: %v", err)
	}
	if _, err := s.Generate(context.Background(), []int32{5000}, greedy(5, nil), nil); err == nil {
		t.Error("an id outside the vocabulary was taken")
	}
	if res, err := s.Generate(context.Background(), make([]int32, 2046), greedy(50, nil), nil); err != nil || len(res.IDs) != 2 || res.FinishReason != "length" {
		t.Errorf("the context's last tokens: %+v, %v", res, err)
	}
}

// The filters keep exactly the tokens that transformers' processors keep.
func TestSampling(t *testing.T) {
	logits := []float32{1, 3, 2, 0, 2, -1}
	draw := func(s Sampling, seen ...int32) map[int32]float64 {
		if s.Temperature == 0 {
			s.Temperature = 1
		}
		if s.TopP == 0 {
			s.TopP = 1
		}
		counts := map[int32]float64{}
		smp := newSampler(s)
		const n = 20000
		for range n {
			counts[smp.next(slices.Clone(logits), seen)] += 1.0 / n
		}
		return counts
	}
	softmax := func(keep ...int32) map[int32]float64 {
		var sum float64
		p := map[int32]float64{}
		for _, i := range keep {
			sum += math.Exp(float64(logits[i]))
		}
		for _, i := range keep {
			p[i] = math.Exp(float64(logits[i])) / sum
		}
		return p
	}
	same := func(name string, got, want map[int32]float64) {
		t.Helper()
		for id := range got {
			if want[id] == 0 {
				t.Errorf("%s: token %d was drawn", name, id)
			}
		}
		for id, p := range want {
			if math.Abs(got[id]-p) > 4*math.Sqrt(p*(1-p)/20000)+1e-9 {
				t.Errorf("%s: token %d drawn %.4f of the time, want %.4f", name, id, got[id], p)
			}
		}
	}
	same("plain", draw(Sampling{Seed: 1}), softmax(0, 1, 2, 3, 4, 5))
	same("top_k 1", draw(Sampling{TopK: 1, Seed: 2}), map[int32]float64{1: 1})
	same("top_k 2 with a tie", draw(Sampling{TopK: 2, Seed: 3}), softmax(1, 2, 4))
	same("top_p 0.5", draw(Sampling{TopP: 0.5, Seed: 4}), map[int32]float64{1: 1})
	same("top_p 0.8", draw(Sampling{TopP: 0.8, Seed: 5}), softmax(1, 2, 4))
	same("min_p 0.3", draw(Sampling{MinP: 0.3, Seed: 6}), softmax(1, 2, 4))
	greedySampler := newSampler(Sampling{Greedy: true, RepetitionPenalty: 2})
	if id := greedySampler.next(slices.Clone(logits), []int32{1, 1}); id != 2 {
		t.Errorf("repetition penalty: token %d", id)
	}
	if id := newSampler(Sampling{TopP: 1}).next([]float32{-2, -1, -3}, nil); id != 1 {
		t.Errorf("temperature 0: token %d", id)
	}
	for _, temp := range []float64{1e-300, 5e-324} {
		if id := newSampler(Sampling{Temperature: temp, TopP: 1}).next([]float32{2, 3, 1}, nil); id != 1 {
			t.Errorf("temperature %v: token %d", temp, id)
		}
	}
	if a, b := draw(Sampling{Seed: 9}), draw(Sampling{Seed: 9}); len(a) != len(b) || a[1] != b[1] {
		t.Error("the same seed drew differently")
	}
}

// A model that computes NaN is not asked for a token.
func TestNotFinite(t *testing.T) {
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		if finite([]float32{1, bad, 2}) {
			t.Errorf("%v is called finite", bad)
		}
	}
	if !finite([]float32{math.MaxFloat32, -math.MaxFloat32, 0}) {
		t.Error("finite numbers are not called finite")
	}
	c := load(t, golden+"tiny-llama", "")
	norm := make([]float32, c.Model.HiddenSize)
	norm[3] = float32(math.NaN())
	c.Model.Backend().Write(c.Model.Norm.Weight, 0, norm)
	if res, err := NewSession(c.Model).Generate(context.Background(), []int32{1, 2}, greedy(4, nil), nil); !errors.Is(err, errNotFinite) {
		t.Errorf("%+v %v", res, err)
	}
}

// endsAfter is a context that ends once Err has been asked n times.
type endsAfter struct {
	context.Context
	n int
}

func (c *endsAfter) Err() error {
	if c.n--; c.n < 0 {
		return context.Canceled
	}
	return nil
}

// A long prompt is computed in pieces, to the same reply as in one; stopped on the way, it goes on where it was.
func TestLongPrompt(t *testing.T) {
	c := load(t, golden+"tiny-llama", golden+"tiny/adapter")
	prompt := make([]int32, 2*prefillChunk+77)
	for i := range prompt {
		prompt[i] = int32(i*i%1900 + 3)
	}
	whole := &Session{m: c.Model, cache: c.Model.NewCache(len(prompt))}
	want, err := whole.Generate(context.Background(), prompt, greedy(20, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := NewSession(c.Model)
	res, err := s.Generate(&endsAfter{context.Background(), 2}, prompt, greedy(20, nil), func(int32) { t.Error("a token of a prompt that was not read") })
	if err != nil || res.FinishReason != "cancelled" || len(res.IDs) != 0 {
		t.Fatalf("stopped in the prompt: %+v, %v", res, err)
	}
	got, err := s.Generate(context.Background(), prompt, greedy(20, nil), nil)
	if err != nil || !slices.Equal(got.IDs, want.IDs) || got.CachedTokens != 2*prefillChunk {
		t.Errorf("in pieces: %+v, %v; want %v", got, err, want.IDs)
	}
	first, err := s.Generate(context.Background(), prompt, greedy(20, want.IDs[:1]), nil)
	if err != nil || len(first.IDs) != 1 || first.FinishReason != "stop" || first.TokensPerSecond != 0 {
		t.Errorf("the end of the text as first token: %+v, %v", first, err)
	}
	if none, err := s.Generate(context.Background(), prompt, greedy(-1, nil), nil); err != nil || len(none.IDs) != 0 || none.FinishReason != "length" {
		t.Errorf("no new tokens: %+v, %v", none, err)
	}
}
