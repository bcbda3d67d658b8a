package starter

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"cria/internal/data"
	"cria/internal/recipe"
)

// dataKeys sets what is read and how a row becomes text.
func (d *draft) dataKeys() error {
	m, r := d.Model, d.Rows
	d.set("model", m.Name, "The base model: "+m.Describe())
	why := "The rows"
	if r.Here {
		why += ", " + data.Thousands(r.Count) + " of them"
	}
	d.set("dataset", r.Names, why+": "+strings.Join(r.Notes, "; "))
	if len(r.Formats) == 1 {
		d.set("format", r.Formats[0], "What a row is, as its columns say: alpaca, sharegpt, messages, prompt_completion or text")
	}
	if r.only(data.Text) {
		if d.System != "" {
			d.note("rows of text are trained as they are, so the system prompt has no place in them; it is left out")
		}
		return nil
	}
	if m.Template == no {
		return d.promptKeys()
	}
	why = "How a row becomes text: chat uses the model's own chat template"
	if m.Template == unknown {
		why += "; cria data says whether it has one"
	}
	d.set("template", recipe.TemplateChat, why)
	if d.System != "" {
		d.set("system", d.System, "System prompt of rows that have none of their own: what the model is to become")
		if r.Systems > 0 {
			d.note("%s of %s rows have a system prompt of their own, which goes before the recipe's", data.Thousands(r.Systems), data.Thousands(r.Count))
		}
	}
	return nil
}

// promptKeys sets a pair of templates for a model that has none of its own: Stanford Alpaca's headings, with the model's own
// tokens at the start and the end.
func (d *draft) promptKeys() error {
	r := d.Rows
	if r.Dialogues > 0 || r.Tools > 0 || r.Here && !r.only(data.Alpaca, data.PromptCompletion) {
		return errors.New("the model has no chat template, and without one only rows of instruction and output, or only rows of text, can be trained: name an Instruct or Chat model, or such rows")
	}
	start, end := "", ""
	if tok := d.Model.tok; tok != nil {
		c := tok.Config()
		if end = c.EOSToken; c.AddBOS {
			start = c.BOSToken
		}
	}
	prompt := literal(start)
	if r.Systems > 0 {
		prompt += "{system}\n\n"
	}
	if d.System != "" {
		prompt += literal(d.System) + "\n\n"
	}
	prompt += "### Instruction:\n{instruction}"
	if r.Inputs > 0 || !r.Here {
		prompt += "\n{input}"
	}
	prompt += "\n\n### Response:\n"
	d.set("template", recipe.TemplatePrompt, "How a row becomes text: the model has no chat template, so with the two templates below")
	d.set("prompt_template", prompt, "Text before the response, not trained; {instruction}, {input} and {system} are the row's columns")
	d.set("response_template", "{output}"+literal(end), "Text that is trained; {output} is the row's column")
	if end == "" {
		d.set("append_pad_token", true, "Train the tokenizer's pad or end token after every response, so that the model learns to stop")
	}
	return nil
}

// literal doubles the braces of a text for a template.
func literal(s string) string { return strings.NewReplacer("{", "{{", "}", "}}").Replace(s) }

// What makes a few rows so much longer than the others that they are not worth their memory.
const (
	longTail  = 4    // times the length that 99% of the rows do not exceed
	longAtAll = 2048 // tokens
)

// lengthKeys sets the limit of a row, and returns how many rows are left to be trained; 0 where nobody knows.
func (d *draft) lengthKeys(lengths []int) (kept int) {
	all := d.Rows.Count
	n := len(lengths)
	if n == 0 {
		return all
	}
	most, longest, window := lengths[(99*n+99)/100-1], lengths[n-1], d.Model.Window
	whole := n == all
	limit := roundUp(longest)
	if longest > max(longAtAll, longTail*most) {
		limit = roundUp(most)
	}
	limit = min(limit, window)
	over := 0
	for over < n && lengths[n-1-over] > limit {
		over++
	}
	counted := "yours have"
	if !whole {
		counted = fmt.Sprintf("the first %s have", data.Thousands(n))
	}
	d.set("max_length", limit, fmt.Sprintf("Longest row, in tokens; %s %s to %s, 99%% of them at most %s", counted, data.Thousands(lengths[0]), data.Thousands(longest), data.Thousands(most)))
	if over == 0 && whole {
		return all
	}
	share := fmt.Sprintf("%s of them (%.2g%%)", data.Thousands(over), 100*float64(over)/float64(n))
	if d.Rows.only(data.Text) { // the beginning of a text is a text
		d.set("max_cut_share", math.Min(1, math.Ceil(float64(over)/float64(n)*100+1)/100), "Share of the rows that may be cut at max_length: longer are "+share)
		return all
	}
	if over == 0 {
		share = "should there be any"
	}
	d.set("too_long", data.Drop, "What happens to longer rows, "+share+": drop leaves them out, cut would take away the ends of replies")
	if over*10 > n {
		d.note("%s rows are longer than the model's context of %s tokens and are left out", share, data.Thousands(window))
	}
	return all - all*over/n
}

// roundUp is n or a little more: a multiple of 16.
func roundUp(n int) int { return (n + 15) / 16 * 16 }

// loraKeys sets the adapter as the tutorial does (examples/huanhuan/llama3_1.yaml).
func (d *draft) loraKeys() {
	d.set("lora.r", 8, "Rank: more can learn more, and takes more memory and time")
	d.set("lora.lora_alpha", 32, "")
	d.set("lora.lora_dropout", 0.1, "Probability with which an input of the adapter is set to zero: helps against learning by heart")
	d.settings = append(d.settings, setting{"lora.target_modules", "[q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]", "Layers that get an adapter: all linear ones"})
}

// small is below how many parameters a model takes, and needs, a larger learning rate.
const small = 1_000_000_000

// stepKeys sets what depends on the number of rows, and returns the number of steps; 0 where it is not known.
func (d *draft) stepKeys(rows int) (steps int) {
	plan := data.Plan{Batch: 4, Accumulation: 4, Epochs: 3} // the tutorial's, for some thousands of rows
	aside := 0.0
	switch {
	case rows == 0:
	case rows < 200:
		plan.Batch, plan.Accumulation, plan.Epochs = min(4, rows), 1, 10
	case rows < 1000:
		plan.Accumulation, plan.Epochs = 2, 5
	case rows > 20_000:
		plan.Accumulation, plan.Epochs = 8, 1
	}
	if rows >= 200 {
		aside = 0.02
		if rows > 10_000 { // about 200 rows say enough
			aside, _ = strconv.ParseFloat(strconv.FormatFloat(200/float64(rows), 'g', 1, 64), 64)
		}
	}
	plan.Rows = rows - int(math.Ceil(aside*float64(rows)))
	epochs := "Passes over the dataset, also a fraction"
	if s, err := data.NewSteps(plan); err == nil && rows > 0 {
		steps = s.Len()
		epochs += fmt.Sprintf(": %s steps of %d rows", data.Thousands(steps), plan.Batch*plan.Accumulation)
	}
	d.set("per_device_train_batch_size", plan.Batch, "")
	d.set("gradient_accumulation_steps", plan.Accumulation, "Micro-batches of an optimizer step, which so has "+strconv.Itoa(plan.Batch*plan.Accumulation)+" rows")
	d.set("num_train_epochs", plan.Epochs, epochs)
	d.set("seed", seed, "")
	rate, why := "1.0e-4", "Largest learning rate of AdamW; if the loss jumps, halve it"
	if n := d.Model.Parameters; n > 0 && n < small {
		rate = "5.0e-4"
	}
	d.settings = append(d.settings, setting{"learning_rate", rate, why})

	logging, saving := 10, 100
	if steps > 0 {
		if steps <= 20 {
			logging = 1
		} else if steps <= 200 {
			logging = 5
		}
		saving = max(10, round(steps/5))
	}
	d.set("logging_steps", logging, "Steps from one log entry to the next")
	d.set("save_steps", saving, "Steps from one checkpoint to the next, from which an interrupted run goes on")
	d.set("save_total_limit", 3, "Number of checkpoints that are kept, the newest")
	if aside > 0 {
		d.set("eval_fraction", aside, fmt.Sprintf("Share of the rows that is set aside and not trained, for eval_loss: %s rows", data.Thousands(rows-plan.Rows)))
		d.set("eval_steps", saving, "Steps from one evaluation to the next")
	}
	return steps
}

// round is the largest of 1, 2, 5, 10, 20, 50, ... that is at most n, for n from 1.
func round(n int) int {
	last := 1
	for power := 1; ; power *= 10 {
		for _, k := range []int{1, 2, 5} {
			if k*power > n {
				return last
			}
			last = k * power
		}
	}
}
