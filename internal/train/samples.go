package train

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"cria/internal/adapter"
	"cria/internal/chat"
	"cria/internal/compute"
	"cria/internal/data"
	"cria/internal/generate"
	"cria/internal/llama"
	"cria/internal/pack"
	"cria/internal/recipe"
	"cria/internal/report"
)

// prompt is what the model is asked before and after training.
type prompt struct {
	ids  []int32
	text string // as the report shows it
	want string // the answer in the data; "" if there is none
}

// answers are a job's part of the report that the model itself writes.
type answers struct {
	Samples    []report.Sample // that Run or Answer made
	Unanswered string          // why there are none

	promptsOf string // where the prompts come from
	eos       []int32
	onAnswer  func(done, all int)
}

const (
	mostPrompts = 3   // of rows
	compared    = 8   // rows whose prompts tell what all prompts have in common
	shownRunes  = 600 // of a prompt
)

// configureAnswers chooses the prompts. Whatever is wrong with them is no reason not to train.
func (j *Job) configureAnswers(c *Config, o Options) {
	if j.Data == nil || j.Recipe.SampleMaxNewTokens == 0 {
		return
	}
	j.onAnswer = o.OnAnswer
	if j.onAnswer == nil {
		j.onAnswer = func(int, int) {}
	}
	defaults, err := llama.ReadGenerationConfig(j.Data.ModelDir)
	if err == nil {
		j.eos = generate.EOS(defaults, j.Data.Config, j.Data.Tokenizer)
		c.prompts, err = j.prompts(c)
	}
	switch {
	case err != nil:
		j.Unanswered = err.Error()
	case len(c.prompts) == 0:
		j.Unanswered = "no row has a prompt"
	}
	c.maxNewTokens = j.Recipe.SampleMaxNewTokens
}

// prompts are those that the recipe names, else of rows of evaluation, else of training.
func (j *Job) prompts(c *Config) ([]prompt, error) {
	if len(j.Recipe.SamplePrompts) == 0 {
		rows := c.Rows
		j.promptsOf = "from the training data"
		if c.Eval != nil {
			rows, j.promptsOf = c.Eval, "from the rows of evaluation"
		}
		return j.rowPrompts(rows, c), nil
	}
	j.promptsOf = "from the recipe"
	var out []prompt
	for _, s := range j.Recipe.SamplePrompts {
		ids, err := j.render(s)
		if err != nil {
			return nil, fmt.Errorf("sample_prompts: %w", err)
		}
		if most := j.Data.Config.MaxPositionEmbeddings; len(ids) >= most {
			return nil, fmt.Errorf("sample_prompts: %w", &generate.ContextError{Prompt: len(ids), Max: most})
		}
		out = append(out, prompt{ids: ids, text: short(s)})
	}
	return out, nil
}

// render makes the prompt of an instruction as the rows are made.
func (j *Job) render(instruction string) ([]int32, error) {
	r, tok := j.Recipe, j.Data.Tokenizer
	if r.Template == recipe.TemplatePrompt {
		tpl, err := data.ParseTemplate(r.PromptTemplate, r.ResponseTemplate)
		if err != nil {
			return nil, err
		}
		text, plain := tpl.Prompt(data.Example{Instruction: instruction})
		return tok.Encode(text, plain...), nil
	}
	tpl, err := chat.New(tok)
	if errors.Is(err, chat.ErrNoTemplate) { // rows of text
		ids := textRow(tok, instruction).IDs
		if _, ok := tok.EOS(); ok {
			ids = ids[:len(ids)-1]
		}
		return ids, nil
	}
	if err != nil {
		return nil, err
	}
	question := chat.Alpaca(r.System, instruction, "", "")
	return tpl.IDs(question[:len(question)-1], chat.Options{AddGenerationPrompt: true})
}

// rowPrompts are the prompts of the first rows that have one, each once.
func (j *Job) rowPrompts(rows data.Rows, c *Config) (out []prompt) {
	tok := j.Data.Tokenizer
	var all [][]int32
	for i := 0; i < min(rows.Len(), 8*compared) && len(all) < compared; i++ {
		ids, want := split(rows.Row(i))
		if len(ids) == 0 || slices.ContainsFunc(all, func(p []int32) bool { return slices.Equal(p, ids) }) {
			continue
		}
		if all = append(all, slices.Clone(ids)); len(out) < mostPrompts {
			out = append(out, prompt{ids: slices.Clone(ids), want: short(tok.Decode(want, true))})
		}
	}
	from, behind := j.frame(all)
	for i := range out {
		p := &out[i]
		own := p.ids[from : len(p.ids)-behind]
		if strings.TrimSpace(tok.Decode(own, true)) == "" {
			own = p.ids
		}
		p.text = short(strings.TrimSpace(tok.Decode(own, false)))
	}
	return out
}

// split is a row's prompt, up to its first label, and the reply that is trained next. Of a text that is trained whole the
// first half is a prompt, up to 32 tokens.
func split(row pack.Row) (ids, want []int32) {
	if row.Labelled() == 0 {
		return nil, nil
	}
	trained := func(l int32) bool { return l != pack.Ignore }
	from := 1 + slices.IndexFunc(row.Labels[1:], trained)
	if from < 2 {
		from = min(len(row.IDs)/2, 32)
		return row.IDs[:from], row.IDs[from:]
	}
	to := slices.Index(row.Labels[from:], pack.Ignore)
	if to < 0 {
		to = len(row.IDs) - from
	}
	return row.IDs[:from], row.IDs[from : from+to]
}

// frame is the number of tokens that prompts have in common, at their beginning up to the end of a line or a special token,
// and at their end from one on: what a template puts around them.
func (j *Job) frame(prompts [][]int32) (from, behind int) {
	if len(prompts) < 2 {
		return 0, 0
	}
	tok, first, least := j.Data.Tokenizer, prompts[0], len(prompts[0])
	for _, p := range prompts {
		least = min(least, len(p))
	}
	same := func(at func(p []int32) int32) bool {
		return !slices.ContainsFunc(prompts, func(p []int32) bool { return at(p) != at(first) })
	}
	for n := 0; n < least && same(func(p []int32) int32 { return p[n] }); n++ {
		if id := first[n]; tok.IsSpecial(id) || strings.HasSuffix(tok.Bytes(id), "\n") {
			from = n + 1
		}
	}
	for n := 1; n <= least-from && same(func(p []int32) int32 { return p[len(p)-n] }); n++ {
		if id := first[len(first)-n]; tok.IsSpecial(id) || strings.HasPrefix(tok.Bytes(id), "\n") {
			behind = n
		}
	}
	return from, behind
}

// short cuts out the middle of a long text.
func short(s string) string {
	r := []rune(s)
	if len(r) <= shownRunes {
		return s
	}
	return string(r[:shownRunes*2/3]) + " … " + string(r[len(r)-shownRunes/3:])
}

// Answer lets the model answer the prompts, greedily, without the adapter and with the final one. The activations of
// training make room for it: the loop cannot train or evaluate any more.
func (j *Job) Answer(ctx context.Context) ([]report.Sample, error) {
	if why := cmp.Or(j.Unanswered, j.Plan.unanswered); why != "" {
		return nil, errors.New(why)
	}
	j.state = nil
	debug.FreeOSMemory()
	if err := j.loadBest(); err != nil {
		return nil, err
	}
	session := generate.NewSession(j.Model)
	done := 0
	answer := func(p *prompt) (string, error) {
		j.onAnswer(done, 2*len(j.Config.prompts))
		done++
		res, err := session.Generate(ctx, p.ids, generate.Options{MaxNewTokens: j.maxNewTokens, EOS: j.eos, Sampling: generate.Sampling{Greedy: true}}, nil)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return "", err
		}
		stream, text := j.Data.Tokenizer.NewStream(true), ""
		for _, id := range res.IDs { // a character that the last token leaves unfinished is not shown
			text += stream.Push(id)
		}
		if text = strings.TrimSpace(text); res.FinishReason == "length" {
			text += " …"
		}
		return text, nil
	}
	samples := make([]report.Sample, len(j.Config.prompts))
	for i := range samples {
		p, s := &j.Config.prompts[i], &samples[i]
		var err error
		s.Prompt, s.Want = p.text, p.want
		if s.After, err = answer(p); err != nil {
			return nil, err
		}
	}
	session.Reset()
	defer j.takeOff()()
	for i := range samples {
		var err error
		if samples[i].Before, err = answer(&j.Config.prompts[i]); err != nil {
			return nil, err
		}
	}
	return samples, nil
}

// takeOff detaches the adapter until it is put back.
func (l *Loop) takeOff() (putBack func()) {
	var linears []*compute.Linear
	var loras []*compute.LoRA
	for i := range l.Model.Layers {
		for _, w := range l.Model.Layers[i].Linears() {
			linears, loras = append(linears, w), append(loras, w.LoRA)
			w.LoRA = nil
		}
	}
	return func() {
		for i, w := range linears {
			w.LoRA = loras[i]
		}
	}
}

// loadBest makes the adapter on the backend the final one, where that is another checkpoint's.
func (l *Loop) loadBest() error {
	if !l.LoadBest || l.best == nil || l.best.Step == l.step {
		return nil
	}
	a, err := adapter.Load(l.best.dir, l.Model.Config)
	if err != nil {
		return err
	}
	be := l.Model.Backend()
	for i, m := range a.Modules {
		if i >= len(l.loras) || l.Adapter.Modules[i].Name != m.Name {
			return fmt.Errorf("%s has other modules than this run", l.best.dir)
		}
		be.Write(l.loras[i].A, 0, m.A)
		be.Write(l.loras[i].Bt, 0, llama.Transpose(m.B, m.Out, m.R))
	}
	return nil
}
