package chat

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cria/internal/tokenizer"
)

// Train is what a message says itself about whether it is trained.
type Train int

const (
	Auto Train = iota // as Options.TrainOn says
	Yes
	No
)

// Values of Options.TrainOn: what is trained of messages that do not say it themselves.
const (
	Replies = "replies" // every reply of the assistant, with its end of turn
	Last    = "last"    // only the last reply
	All     = "all"     // every token of the dialogue
)

const ignore = -100 // pack.Ignore

// Today is the day that templates with a date see in training: rows do not depend on when they are made. It is the date
// that Llama 3.1's template has where it is told none.
func Today() time.Time { return time.Date(2024, time.July, 26, 0, 0, 0, 0, time.UTC) }

// span is a range of bytes of a rendered dialogue, from, to, that is trained or not.
type span struct {
	from, to int
	trained  bool
}

// Row renders a dialogue for training: its ids up to the end of the last message's turn (with TrainOn All) or of the last
// reply, and labels, which are the ids of what is trained and -100 elsewhere.
//
// Replies are found by rendering: the dialogue before a reply, with the generation prompt, must be a prefix of the whole, and
// behind it must stand the reply as it is at the end of a dialogue. So what is trained is what chatting sees, and a template
// that goes back on what it made of earlier turns is refused with the turn at which it does. The text is tokenised in pieces
// that begin where replies begin and end, since in chatting a prompt is tokenised without its reply.
//
// Without Options.Now, templates see the date Today.
func (t *Template) Row(messages []Message, o Options) (ids, labels []int32, err error) {
	if !t.pieces {
		return nil, nil, errors.New("this tokenizer puts a space before every text, so the tokens of replies cannot be told apart")
	}
	if o.Now == nil {
		o.Now = Today
	}
	r, err := t.prepare(messages, o)
	if err != nil {
		return nil, nil, err
	}
	whole, plain, err := r.text(len(messages), false)
	if err != nil {
		return nil, nil, err
	}
	spans, err := r.spans(messages, whole, plain, o.TrainOn)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range spans {
		if s.from == s.to {
			continue
		}
		inside := plain[:0:0]
		for _, p := range plain {
			if from, to := max(p.Start, s.from), min(p.End, s.to); from < to {
				p.Start, p.End = from-s.from, to-s.from
				inside = append(inside, p)
			}
		}
		piece := t.tok.Encode(whole[s.from:s.to], inside...)
		ids = append(ids, piece...)
		if s.trained {
			labels = append(labels, piece...)
		} else {
			labels = append(labels, slices.Repeat([]int32{ignore}, len(piece))...)
		}
	}
	return ids, labels, nil
}

// spans cuts the rendered dialogue where what is trained begins and ends.
func (r *rendering) spans(messages []Message, whole string, plain []tokenizer.Range, trainOn string) (out []span, err error) {
	last := -1
	for i, m := range messages {
		if m.Role == "assistant" {
			last = i
		}
	}
	end := 0
	for i, m := range messages {
		if m.Role != "assistant" {
			continue
		}
		from, to, err := r.reply(messages, i, whole)
		if err != nil {
			return nil, fmt.Errorf("turn %d: %w", i+1, err)
		}
		trained := m.Train == Yes || m.Train == Auto && (trainOn != Last || i == last)
		out = append(out, span{end, from, trainOn == All}, span{from, to, trained})
		end = to
	}
	if trainOn == All && last < len(messages)-1 {
		out = append(out, span{end, r.t.turnEnd(whole, end, plain), true})
	}
	return out, nil
}

// reply finds message i, a reply, with its end of turn in the rendered dialogue.
func (r *rendering) reply(messages []Message, i int, whole string) (from, to int, err error) {
	before, _, err := r.text(i, true)
	if err != nil {
		return 0, 0, err
	}
	rest, ok := strings.CutPrefix(whole, before)
	if !ok {
		return 0, 0, r.wentBack(messages, i)
	}
	from = len(before)
	if tail := r.t.tail(); messages[i].Raw == nil && tail != "" {
		for _, content := range []string{messages[i].Content, strings.TrimSpace(messages[i].Content)} {
			if after, ok := strings.CutPrefix(rest, content); ok && strings.HasPrefix(after, tail) {
				return from, from + len(content) + r.t.turnEnd(tail, 0, nil), nil
			}
		}
	}
	after, plain, err := r.text(i+1, false)
	if err != nil {
		return 0, 0, err
	}
	switch {
	case !strings.HasPrefix(after, before):
		return 0, 0, r.wentBack(messages, i)
	case !strings.HasPrefix(whole, after):
		return 0, 0, errors.New("the chat template renders this reply in another way once later turns follow (templates that leave out the reasoning of earlier replies do), " +
			"so training would not see what chatting sees; train_on: last with the dialogue cut after each reply, or rows without reasoning, can be trained")
	}
	return from, r.t.turnEnd(after, from, plain), nil
}

// wentBack says why the prompt of a reply is not the beginning of the dialogue.
func (r *rendering) wentBack(messages []Message, i int) error {
	if after, _, err := r.text(i+1, false); err == nil {
		if before, _, err := r.text(i, true); err == nil && strings.HasPrefix(after, before) {
			return errors.New("the chat template renders the dialogue before this reply in another way once later turns follow " +
				"(templates that leave out the reasoning of earlier replies do), so training would not see what chatting sees")
		}
	}
	return errors.New("the chat template renders the dialogue before this reply in another way once the reply is there, so the reply's tokens cannot be told apart")
}

// replyTail is what the template puts behind a reply at the end of a dialogue; "" if that cannot be told.
func (t *Template) replyTail() string {
	const reply = "reply"
	r, err := t.values([]Message{{Role: "user", Content: "question"}, {Role: "assistant", Content: reply}}, Options{Now: Today}, 0)
	if err != nil {
		return ""
	}
	before, _, err := r.text(1, true)
	if err != nil {
		return ""
	}
	after, _, err := r.text(2, false)
	if err != nil {
		return ""
	}
	tail, ok := strings.CutPrefix(after, before+reply)
	if !ok {
		return ""
	}
	return tail
}

// turnEnd is how many bytes of text from from on are up to and with its last special token, all of them where it has none:
// the line break that many templates put behind the end of a turn is never generated. What messages say themselves (plain)
// is no special token.
func (t *Template) turnEnd(text string, from int, plain []tokenizer.Range) int {
	end := -1
	for _, a := range t.added {
		if id, ok := t.tok.ID(a); !ok || !t.tok.IsSpecial(id) {
			continue
		}
		for to := len(text); to > from; {
			i := strings.LastIndex(text[from:to], a)
			if i < 0 {
				break
			}
			i += from
			if !slices.ContainsFunc(plain, func(p tokenizer.Range) bool { return p.Start < i+len(a) && i < p.End }) {
				end = max(end, i+len(a))
				break
			}
			to = i + len(a) - 1
		}
	}
	if end < 0 {
		return len(text)
	}
	return end
}
