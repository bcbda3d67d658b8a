// Package generate turns a prompt's ids into a reply, token by token.
package generate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cria/internal/llama"
)

// Options of one reply.
type Options struct {
	Sampling
	MaxNewTokens int
	EOS          []int32 // any of these ends the reply
}

// Result is a reply. IDs ends with the end-of-text token where one was made.
type Result struct {
	IDs             []int32
	FinishReason    string // "stop", "length" or "cancelled"
	PromptTokens    int
	CachedTokens    int // of the prompt, those that the session had computed before
	PromptSeconds   float64
	DecodeSeconds   float64
	TokensPerSecond float64 // decoded tokens; the first one comes from the prompt's pass
}

// prefillChunk is how many tokens of a prompt are computed at a time: enough for full speed, few enough to stop soon.
const prefillChunk = 256

// Session is a text that goes on: the tokens of a dialogue, and the cache that was computed for them.
type Session struct {
	m     *llama.Model
	cache *llama.Cache
	ids   []int32 // in the cache
}

// NewSession starts an empty text.
func NewSession(m *llama.Model) *Session { return &Session{m: m, cache: m.NewCache(prefillChunk)} }

// Reset forgets the text, as is needed when the model has changed. Its memory stays.
func (s *Session) Reset() {
	s.cache.Truncate(0)
	s.ids = s.ids[:0]
}

// ContextError says that a prompt and its reply do not fit into the model's context window.
type ContextError struct{ Prompt, Max int }

func (e *ContextError) Error() string {
	return fmt.Sprintf("the prompt has %d tokens, the model's context window (max_position_embeddings) holds %d and the reply needs at least one; shorten the prompt", e.Prompt, e.Max)
}

var errNotFinite = errors.New("the model's logits are not finite (NaN or infinite): the weights or the adapter are damaged; cria inspect may say which file")

// Generate computes a reply to prompt, the ids of the whole text so far. What the text has in common with the session's
// is not computed again. onToken, if not nil, sees every token as it is made. A cancelled ctx ends the reply, not the
// session.
func (s *Session) Generate(ctx context.Context, prompt []int32, o Options, onToken func(id int32)) (*Result, error) {
	if len(prompt) == 0 {
		return nil, fmt.Errorf("the prompt is empty")
	}
	for _, id := range prompt {
		if id < 0 || int(id) >= s.m.VocabSize {
			return nil, fmt.Errorf("token id %d is outside the model's vocabulary of %d", id, s.m.VocabSize)
		}
	}
	if len(prompt) >= s.m.MaxPositionEmbeddings {
		return nil, &ContextError{len(prompt), s.m.MaxPositionEmbeddings}
	}
	limit := max(0, min(o.MaxNewTokens, s.m.MaxPositionEmbeddings-len(prompt)))
	common := 0
	for common < len(s.ids) && common < len(prompt)-1 && s.ids[common] == prompt[common] {
		common++
	}
	s.cache.Truncate(common)
	s.ids = s.ids[:common]
	s.cache.Reserve(min(s.m.MaxPositionEmbeddings, (len(prompt)+limit+255)/256*256))

	stop := func() bool { return ctx.Err() != nil }
	res := &Result{PromptTokens: len(prompt), CachedTokens: common, FinishReason: "length"}
	smp := newSampler(o.Sampling)
	seen := slices.Clone(prompt)
	start := time.Now()
	logits := s.feed(prompt[common:], stop)
	res.PromptSeconds = time.Since(start).Seconds()
	start = time.Now()
	for logits != nil && len(res.IDs) < limit {
		if !finite(logits) {
			return nil, errNotFinite
		}
		id := smp.next(logits, seen)
		res.IDs, seen = append(res.IDs, id), append(seen, id)
		if onToken != nil {
			onToken(id)
		}
		if slices.Contains(o.EOS, id) {
			res.FinishReason = "stop"
			break
		}
		if len(res.IDs) < limit {
			logits = s.feed([]int32{id}, stop)
		}
	}
	if ctx.Err() != nil && res.FinishReason != "stop" {
		res.FinishReason = "cancelled"
	}
	res.DecodeSeconds = time.Since(start).Seconds()
	if n := len(res.IDs); n > 1 && res.DecodeSeconds > 0 {
		res.TokensPerSecond = float64(n-1) / res.DecodeSeconds
	}
	return res, nil
}

// feed computes tokens and remembers which ones the cache holds, also when it was stopped on the way.
func (s *Session) feed(ids []int32, stop func() bool) []float32 {
	logits := s.cache.Feed(ids, stop)
	s.ids = append(s.ids, ids[:s.cache.Len()-len(s.ids)]...)
	return logits
}
