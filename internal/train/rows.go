package train

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cria/internal/chat"
	"cria/internal/data"
	"cria/internal/demomodel"
	"cria/internal/llama"
	"cria/internal/pack"
	"cria/internal/recipe"
	"cria/internal/tokenizer"
)

// Data is what a recipe's datasets become, with what they need of the model: everything that can be known without its
// weights.
type Data struct {
	Recipe    *recipe.Recipe
	ModelDir  string // where the recipe's model lies
	Config    *llama.Config
	Tokenizer *tokenizer.Tokenizer

	Train data.Rows
	Eval  data.Rows // of eval_dataset or eval_fraction; nil where there is neither

	Report     data.Report  // of dataset
	EvalReport *data.Report // of eval_dataset
	Foreign    []string     // markers of the template that are no tokens of the tokenizer

	close []func() error
}

// Close gives back the files of rows.
func (d *Data) Close() error {
	var err error
	for _, c := range d.close {
		err = errors.Join(err, c())
	}
	d.close = nil
	return err
}

// Rows reads and tokenises what a recipe names. It says how the files were understood through Options.Info; whether the rows
// are fit to be trained is for Data.Check to say. The caller closes the Data.
func Rows(ctx context.Context, r *recipe.Recipe, o Options) (_ *Data, err error) {
	if o.Info == nil {
		o.Info = func(string) {}
	}
	d := &Data{Recipe: r}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if d.ModelDir, err = o.find(ctx, r.Model, "model"); err != nil {
		return nil, r.Errorf("model", "%v", err)
	}
	if info, err := os.Stat(d.ModelDir); err != nil || !info.IsDir() {
		return nil, r.Errorf("model", "%q is not a directory here; name the directory of a model in Hugging Face's format (cria import makes one of a GGUF file)", r.Model)
	}
	if d.Config, err = llama.ReadConfig(d.ModelDir); err != nil {
		return nil, err
	}
	gen, err := llama.ReadGenerationConfig(d.ModelDir)
	if err != nil {
		return nil, err
	}
	if d.Tokenizer, err = tokenizer.Load(d.ModelDir); err != nil {
		return nil, err
	}
	tok := d.Tokenizer
	if tok.VocabSize() > d.Config.VocabSize {
		last, _ := tok.Token(int32(tok.VocabSize() - 1))
		return nil, fmt.Errorf("%s: the tokenizer has %d tokens (the last is %q), the model's vocab_size is %d; tokenizer.json or a token that tokenizer_config.json adds belongs to another model",
			r.Model, tok.VocabSize(), last, d.Config.VocabSize)
	}
	var end []int32
	if r.AppendPadToken {
		id, ok := tok.Pad()
		if !ok {
			id, ok = tok.EOS()
		}
		if !ok {
			return nil, r.Errorf("append_pad_token", "the tokenizer has neither a pad_token nor an eos_token; set it to false and end response_template with the model's end of turn")
		}
		end = append(end, id)
	}
	var encode data.RowFunc
	if encode, d.Foreign, err = rowFunc(r, tok, end); err != nil {
		return nil, err
	}
	opt := data.Options{MaxLength: r.MaxLength, TooLong: r.TooLong, End: end, Threads: r.Threads, Progress: o.OnRead}
	for _, id := range slices.Concat(d.Config.EOSTokenID, gen.EOSTokenID) {
		opt.End = append(opt.End, int32(id))
	}
	if id, ok := tok.EOS(); ok {
		opt.End = append(opt.End, id)
	}
	opt.BOS, opt.HasBOS = tok.BOS()

	set, err := d.rows(ctx, r.Dataset, encode, opt, o)
	if err != nil {
		return nil, err
	}
	d.Train, d.Report = set, set.Report
	switch {
	case r.EvalDataset != nil:
		set, err := d.rows(ctx, r.EvalDataset, encode, opt, o)
		if err != nil {
			return nil, err
		}
		d.Eval, d.EvalReport = set, &set.Report
	case r.EvalFraction > 0:
		train, eval, err := data.Split(set.Len(), r.EvalFraction, r.Seed)
		if err != nil {
			return nil, r.Errorf("eval_fraction", "%v", err)
		}
		d.Train, d.Eval = data.Part{Of: set, Index: train}, data.Part{Of: set, Index: eval}
	}
	return d, nil
}

// rows opens the rows of one dataset, out of the cache where it has them.
func (d *Data) rows(ctx context.Context, paths []string, encode data.RowFunc, opt data.Options, o Options) (*data.Set, error) {
	r := d.Recipe
	paths, err := o.datasets(ctx, paths)
	if err != nil {
		return nil, r.Errorf("dataset", "%v", err)
	}
	spec := data.Spec{Paths: paths, Format: r.Format, Columns: map[string]string{}, MaxSamples: r.MaxSamples, Seed: r.Seed}
	for _, c := range r.Columns {
		spec.Columns[c.Role] = c.Name
	}
	source, err := data.Open(spec)
	if err != nil {
		return nil, err
	}
	for _, n := range source.Notes() {
		o.Info(n)
	}
	var model []string
	for _, path := range tokenizerFiles(d.ModelDir) {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		model = append(model, filepath.Base(path), string(b))
	}
	cache := data.Cache{Dir: rowCache(o), Info: o.Info}
	set, err := cache.Rows(ctx, source, []any{model, r.Template, r.TrainOn, r.System, r.PromptTemplate, r.ResponseTemplate, r.AppendPadToken}, encode, opt)
	if err != nil {
		return nil, err
	}
	d.close = append(d.close, set.Close)
	for _, line := range set.Report.Describe() {
		o.Info(line)
	}
	return set, nil
}

// find is where a model, an adapter or a dataset lies.
func (o *Options) find(ctx context.Context, name, kind string) (string, error) {
	if _, err := os.Stat(name); err == nil || o.Find == nil {
		return name, nil
	}
	return o.Find(ctx, name, kind)
}

// datasets are the paths of datasets of which some may be names on a hub, hf:org/name or ms:org/name; #500 stays behind them.
func (o *Options) datasets(ctx context.Context, names []string) (paths []string, err error) {
	for _, name := range names {
		if strings.HasPrefix(name, "hf:") || strings.HasPrefix(name, "ms:") {
			repository, sample, sampled := strings.Cut(name, "#")
			if name, err = o.find(ctx, repository, "dataset"); err != nil {
				return nil, err
			}
			if sampled {
				name += "#" + sample
			}
		}
		paths = append(paths, name)
	}
	return paths, nil
}

// rowCache is the directory in which tokenised rows are kept, "" if there is none.
func rowCache(o Options) string {
	if o.Cache != "" {
		return o.Cache
	}
	return userCache()
}

// userCache is the place for rows in the user's cache; tests put another one there.
var userCache = func() string {
	if dir, _ := demomodel.Cached(); dir != "" {
		return filepath.Join(dir, "rows")
	}
	return ""
}

// rowFunc makes rows as the recipe's template says, and lists the template's markers that the tokenizer does not know.
func rowFunc(r *recipe.Recipe, tok *tokenizer.Tokenizer, end []int32) (encode data.RowFunc, foreign []string, err error) {
	if r.Template == recipe.TemplatePrompt {
		tpl, err := data.ParseTemplate(r.PromptTemplate, r.ResponseTemplate)
		if te := new(data.TemplateError); errors.As(err, &te) {
			return nil, nil, r.Errorf(te.Key, "at byte %d: %s", te.Offset, te.Reason)
		}
		if err != nil {
			return nil, nil, err
		}
		tpl.TrainAll = r.TrainOn == chat.All
		return tpl.RowFunc(tok, end...), data.Foreign(tok, tpl.Literals()...), nil
	}
	tpl, none := chat.New(tok)
	if none != nil && !errors.Is(none, chat.ErrNoTemplate) {
		return nil, nil, r.Errorf("template", "%v", none)
	}
	if tpl != nil {
		// What the template itself writes. One that refuses this dialogue is judged by the rows' own.
		if text, err := tpl.Text(chat.Alpaca(r.System, "question", "", "answer"), chat.Options{Now: chat.Today}); err == nil {
			foreign = data.Foreign(tok, text)
		}
	}
	return func(e data.Example) (pack.Row, error) {
		if e.Format == data.Text {
			return textRow(tok, e.Text), nil
		}
		if tpl == nil {
			return pack.Row{}, r.Errorf("template", "%v", none)
		}
		ids, labels, err := tpl.Row(e.Messages(r.System), chat.Options{Tools: e.Tools, TrainOn: r.TrainOn})
		if err != nil {
			return pack.Row{}, fmt.Errorf("%s: %w", e.Where(), err)
		}
		return pack.Row{IDs: ids, Labels: labels}, nil
	}, foreign, nil
}

// textRow is a text that is trained whole, with the tokenizer's BOS before it where its post-processor adds one, and EOS
// behind it. Special tokens in it are recognised, since such texts are often dialogues that a template has rendered; those
// that stand there already are not doubled.
func textRow(tok *tokenizer.Tokenizer, text string) pack.Row {
	ids := tok.Encode(text)
	if bos, ok := tok.BOS(); ok && tok.Config().AddBOS && (len(ids) == 0 || ids[0] != bos) {
		ids = slices.Insert(ids, 0, bos)
	}
	if eos, ok := tok.EOS(); ok && (len(ids) == 0 || ids[len(ids)-1] != eos) {
		ids = append(ids, eos)
	}
	return pack.Row{IDs: ids, Labels: slices.Clone(ids)}
}
