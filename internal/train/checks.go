package train

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cria/internal/data"
	"cria/internal/recipe"
)

// Checks lists what was looked at in the rows, passed or not. Those that are Refused stop training.
func (d *Data) Checks() (out []data.Check) {
	r := d.Recipe
	c := data.Check{Name: "template_mismatch", State: data.Passed, Finding: "all markers of the template are tokens of this model's tokenizer"}
	if len(d.Foreign) > 0 {
		c.State = refusal(r, c.Name)
		c.Finding = strings.Join(d.Foreign, ", ") + ": no token of this model's tokenizer, which takes it for ordinary letters, so template and model do not belong together"
		c.Advice = "use the markers of this model, or allow it: allow: [template_mismatch]"
	}
	out = append(out, c)
	out = append(out, reportChecks(r, &d.Report, d.Config.MaxPositionEmbeddings)...)
	if d.EvalReport != nil {
		for _, c := range reportChecks(r, d.EvalReport, d.Config.MaxPositionEmbeddings) {
			c.Eval = true
			out = append(out, c)
		}
	}
	return out
}

// Check stops what would be trained wrongly without anybody noticing, unless the recipe allows it by name.
func (d *Data) Check() error {
	r := d.Recipe
	var bad []error
	for _, c := range d.Checks() {
		if c.State != data.Refused {
			continue
		}
		key, at := "allow", ""
		switch {
		case c.Name == "template_mismatch" && r.Template == recipe.TemplatePrompt:
			key = "prompt_template"
		case c.Name == "template_mismatch":
			key = "template"
		case c.Name == "nothing_trained", c.Name == "context_window": // not to be allowed
			key = "max_length"
		}
		if len(c.Places) > 0 {
			at = ", the first at " + c.Places[0]
		}
		bad = append(bad, r.Errorf(key, "%s%s; %s", c.Finding, at, c.Advice))
	}
	return errors.Join(bad...)
}

// refusal is what becomes of a check that fails.
func refusal(r *recipe.Recipe, name string) data.State {
	if slices.Contains(r.Allow, name) {
		return data.Allowed
	}
	return data.Refused
}

// reportChecks judges one dataset; window is how many tokens the model can take.
func reportChecks(r *recipe.Recipe, p *data.Report, window int) (out []data.Check) {
	// Within max_cut_share, rows may be cut, and a row that is cut has lost its end.
	tolerated := float64(p.Cut.Rows) <= r.MaxCutShare*float64(p.Rows)
	ends := p.UntrainedEnd
	if tolerated {
		ends = p.OpenEnd
	}
	aside := ""
	if tolerated && p.Cut.Rows > 0 {
		aside = " that is not cut"
	}
	for _, c := range []struct {
		name         string
		tally        data.Tally
		fails, holds string
		advice       string // "": it is only counted
	}{
		{"unlabelled_rows", p.Unlabelled, "have no token that is trained (there is no reply, or max_length cuts it off)", "every row has a token that is trained", "raise max_length or mend them"},
		{"cut_rows", p.Cut, fmt.Sprintf("are cut to max_length %d (the longest has %d tokens)", r.MaxLength, p.Longest), "no row is cut", "raise max_length, or say with max_cut_share how many may be cut"},
		{"untrained_end", ends, "do not train an end of turn last, so the model does not learn to stop there", "every row" + aside + " trains an end of turn last", "raise max_length, or end the reply with the model's end of turn"},
		{"double_bos", p.DoubleBOS, "begin with two BOS tokens, which the model never sees in chats", "no row begins with two BOS tokens", "take the BOS token out of the template or the data"},
		{"dropped", p.Dropped, fmt.Sprintf("are left out, longer than max_length %d (the longest has %d tokens)", r.MaxLength, p.Longest), "no row is left out", ""},
		{"blank", p.Blank, "have an empty instruction or reply", "no row has an empty instruction or reply", ""},
		{"duplicate", p.Duplicate, "are the same as an earlier one", "no row is the same as an earlier one", ""},
	} {
		check := data.Check{Name: c.name, State: data.Passed, Rows: c.tally.Rows, Finding: fmt.Sprintf("%d of %d rows %s", c.tally.Rows, p.Examples, c.fails)}
		switch {
		case c.tally.Rows == 0:
			check.Finding = c.holds
		case c.name == "cut_rows" && tolerated:
			check.State = data.Allowed
			check.Finding += fmt.Sprintf(", and max_cut_share %v lets %d be cut", r.MaxCutShare, int(r.MaxCutShare*float64(p.Rows)))
		case c.advice == "":
			check.State = data.Counted
		default:
			check.State = refusal(r, c.name)
			check.Advice = fmt.Sprintf("%s, or allow it: allow: [%s]", c.advice, c.name)
		}
		for _, place := range c.tally.Places {
			check.Places = append(check.Places, p.Where(place))
		}
		out = append(out, check)
	}
	if p.Labelled == 0 {
		out = append(out, data.Check{Name: "nothing_trained", State: data.Refused, Finding: "no row has a token that is trained, so there is nothing to learn", Advice: "raise max_length"})
	}
	c := data.Check{Name: "context_window", State: data.Passed, Finding: fmt.Sprintf("the longest row that is trained has %d tokens, the model's context window (max_position_embeddings) holds %d", p.Kept, window)}
	if p.Kept > window {
		c.State, c.Advice = data.Refused, "set max_length to that or less"
	}
	return append(out, c)
}
