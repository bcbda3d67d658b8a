package data

import (
	"encoding/json"
	"slices"

	"cria/internal/chat"
)

// reading turns the rows of one file into examples.
type reading struct {
	*layout
	rec   *record
	cells cells
}

// example makes the example of the row that was just read.
func (r *reading) example() (Example, error) {
	e := Example{Format: r.format, File: r.rec.file, Line: r.rec.at.line, Row: r.rec.row}
	err := r.layout.cells(r.rec, r.cells)
	if err != nil {
		return e, err
	}
	if e.System, err = r.text("system", true); err != nil {
		return e, err
	}
	switch r.format {
	case Alpaca:
		err = r.alpaca(&e, "instruction", "output")
	case PromptCompletion:
		if p, c := r.cells["prompt"], r.cells["completion"]; p.kind == '[' || c.kind == '[' {
			err = r.dialogues(&e, p, c)
		} else {
			err = r.alpaca(&e, "prompt", "completion")
		}
	case Text:
		e.Text, err = r.text("text", false)
	default:
		e.Dialogue, err = r.dialogue(r.cells["messages"])
	}
	if err == nil {
		e.Tools, err = r.tools()
	}
	return e, err
}

// text is a column of text; one that may be missing may also be null.
func (r *reading) text(role string, optional bool) (string, error) {
	v := r.cells[role]
	switch {
	case v == nil, optional && v.kind == 'n':
		return "", nil
	case v.kind != '"':
		return "", r.rec.fault(v.at, "%q must be a string, found %s", r.name(role), v.what())
	}
	return v.text, nil
}

// name is the column of a role in this row.
func (r *reading) name(role string) string {
	if i := slices.Index(r.roles, role); i >= 0 {
		return r.rec.columns[i]
	}
	return role
}

func (r *reading) alpaca(e *Example, instruction, output string) (err error) {
	if e.Instruction, err = r.text(instruction, false); err != nil {
		return err
	}
	if e.Input, err = r.text("input", true); err != nil {
		return err
	}
	if e.Output, err = r.text(output, false); err != nil {
		return err
	}
	v := r.cells["history"]
	if v == nil || v.empty() {
		return nil
	}
	if v, err = r.array(v, "history"); err != nil {
		return err
	}
	for i := range v.items {
		turn := &v.items[i]
		if turn.kind != '[' || len(turn.items) != 2 || turn.items[0].kind != '"' || turn.items[1].kind != '"' {
			return r.rec.fault(turn.at, "turn %d of %q must be a pair of texts [instruction, output]", i+1, r.name("history"))
		}
		e.Dialogue = append(e.Dialogue, chat.Message{Role: "user", Content: turn.items[0].text}, chat.Message{Role: "assistant", Content: turn.items[1].text})
	}
	return nil
}

// array is v, or the array that is written as JSON in the text v.
func (r *reading) array(v *value, role string) (*value, error) {
	if v.kind == '"' {
		inner, err := parseCell(r.rec, v)
		if err != nil {
			return nil, err
		}
		v = &inner
	}
	if v.kind != '[' {
		return nil, r.rec.fault(v.at, "%q must be a list, found %s", r.name(role), v.what())
	}
	return v, nil
}

func (r *reading) tools() (json.RawMessage, error) {
	v := r.cells["tools"]
	if v == nil || v.empty() {
		return nil, nil
	}
	v, err := r.array(v, "tools")
	if err != nil || len(v.items) == 0 {
		return nil, err
	}
	return v.appendJSON(nil), nil
}

// dialogues joins the two lists of messages of a conversational prompt and completion; only the second one is trained.
func (r *reading) dialogues(e *Example, prompt, completion *value) error {
	for i, v := range []*value{prompt, completion} {
		if v.kind != '[' {
			return r.rec.fault(v.at, "prompt and completion must both be texts or both be lists of messages")
		}
		d, err := r.dialogue(v)
		if err != nil {
			return err
		}
		for k := range d {
			if i == 0 {
				d[k].Train = chat.No
			}
		}
		e.Dialogue = append(e.Dialogue, d...)
	}
	return nil
}

// dialogue reads a list of messages, of {role, content} or {from, value}.
func (r *reading) dialogue(v *value) ([]chat.Message, error) {
	v, err := r.array(v, "messages")
	if err != nil {
		return nil, err
	}
	out := make([]chat.Message, len(v.items))
	for i := range v.items {
		m := &v.items[i]
		if m.kind != '{' {
			return nil, r.rec.fault(m.at, "message %d must be an object, found %s", i+1, m.what())
		}
		if r.format == ShareGPT {
			out[i], err = r.turn(m, i+1)
		} else {
			out[i], err = r.message(m, i+1)
		}
		if err == nil {
			out[i].Train, err = r.train(m, i+1, out[i].Role)
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// flags are the keys of a message that say whether it is trained.
var flags = []string{"loss", "train", "training", "weight"}

// train reads a message's own word on whether it is trained.
func (r *reading) train(m *value, n int, role string) (out chat.Train, err error) {
	for _, key := range flags {
		v := m.member(key)
		if v == nil || v.kind == 'n' {
			continue
		}
		said := chat.No
		switch {
		case v.kind == 't', v.kind == '0' && (v.text == "1" || v.text == "1.0"):
			said = chat.Yes
		case v.kind == 'f', v.kind == '0' && (v.text == "0" || v.text == "0.0"):
		case v.kind == '0':
			return out, r.rec.fault(v.at, "message %d: %q is %s: a message is trained (1, true) or not (0, false), fractions are not supported", n, key, v.text)
		default:
			return out, r.rec.fault(v.at, "message %d: %q must be true, false, 1 or 0, found %s", n, key, v.what())
		}
		switch {
		case out != chat.Auto && out != said:
			return out, r.rec.fault(v.at, "message %d: %q says the opposite of another key", n, key)
		case said == chat.Yes && role != "assistant":
			return out, r.rec.fault(v.at, "message %d: %q asks to train a message of %q; only replies (assistant) can be trained one by one, train_on: all trains whole dialogues", n, key, role)
		}
		out = said
	}
	return out, nil
}

// speakers are sharegpt's names for roles.
var speakers = map[string]string{"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "bot": "assistant", "chatgpt": "assistant", "model": "assistant",
	"system": "system", "tool": "tool", "observation": "tool", "function_response": "tool", "function_call": "call", "tool_call": "call"}

// turn reads a message {from, value}.
func (r *reading) turn(m *value, n int) (out chat.Message, err error) {
	from, text := m.member("from"), m.member("value")
	switch {
	case from == nil || from.kind != '"':
		return out, r.rec.fault(m.at, "message %d has no text \"from\"; its keys are %s", n, list(m.keys))
	case text == nil || text.kind != '"':
		return out, r.rec.fault(m.at, "message %d has no text \"value\"; its keys are %s", n, list(m.keys))
	}
	role, ok := speakers[from.text]
	if !ok {
		return out, r.rec.fault(from.at, "message %d: \"from\" is %.60q; known are human, gpt, system, tool, observation and function_call", n, from.text)
	}
	if role != "call" {
		return chat.Message{Role: role, Content: text.text}, nil
	}
	call, err := parseCell(r.rec, text)
	if err != nil {
		return out, err
	}
	calls := []value{call}
	if call.kind == '[' {
		calls = call.items
	}
	for i := range calls {
		if c := &calls[i]; c.member("name") == nil {
			return out, r.rec.fault(text.at, "message %d: a call must be an object with name and arguments", n)
		}
	}
	return assistantCalls("", calls), nil
}

// assistantCalls is a reply that calls tools.
func assistantCalls(content string, calls []value) chat.Message {
	list := value{kind: '['}
	for _, c := range calls {
		if c.member("function") == nil {
			c = object([]string{"type", "function"}, text("function"), c)
		}
		list.items = append(list.items, plainArguments(c))
	}
	whole := object([]string{"role", "content", "tool_calls"}, text("assistant"), text(content), list)
	return chat.Message{Role: "assistant", Content: content, Raw: whole.appendJSON(nil)}
}

// plainArguments makes an object of a call's arguments where they are written as JSON in a text, as the OpenAI API has
// them: chat templates expect an object.
func plainArguments(call value) value {
	call.items = slices.Clone(call.items)
	for i, k := range call.keys {
		v := &call.items[i]
		switch {
		case k == "function" && v.kind == '{':
			*v = plainArguments(*v)
		case k == "arguments" && v.kind == '"':
			if inner, err := parseCell(&record{}, v); err == nil && inner.kind == '{' {
				*v = inner
			}
		}
	}
	return call
}

// message reads a message as the OpenAI API has it.
func (r *reading) message(m *value, n int) (out chat.Message, err error) {
	role := m.member("role")
	if role == nil || role.kind != '"' || role.text == "" {
		return out, r.rec.fault(m.at, "message %d has no text \"role\"; its keys are %s", n, list(m.keys))
	}
	out.Role = role.text
	content := m.member("content")
	calls := m.member("tool_calls")
	hasCalls := calls != nil && !calls.empty()
	switch {
	case content == nil || content.kind == 'n':
		if !hasCalls && !slices.ContainsFunc([]string{"reasoning_content", "thinking", "reasoning"}, func(k string) bool { return m.member(k) != nil }) {
			return out, r.rec.fault(m.at, "message %d of %q has no content", n, out.Role)
		}
	case content.kind == '"':
		out.Content = content.text
	case content.kind == '[':
		if out.Content, err = r.parts(content, n); err != nil {
			return out, err
		}
	default:
		return out, r.rec.fault(content.at, "message %d: \"content\" must be a text or a list of parts, found %s", n, content.what())
	}
	if hasCalls && calls.kind != '[' {
		return out, r.rec.fault(calls.at, "message %d: \"tool_calls\" must be a list, found %s", n, calls.what())
	}
	whole, more := value{kind: '{'}, false
	for i, k := range m.keys {
		v := m.items[i]
		switch {
		case slices.Contains(flags, k), v.kind == 'n' && k != "content", k == "tool_calls" && !hasCalls:
			continue
		case k == "content" && v.kind == '[':
			v = text(out.Content)
		case k == "tool_calls":
			calls := value{kind: '['}
			for _, c := range v.items {
				calls.items = append(calls.items, plainArguments(c))
			}
			v, more = calls, true
		case k != "role" && k != "content":
			more = true
		}
		whole.keys, whole.items = append(whole.keys, k), append(whole.items, v)
	}
	if more {
		out.Raw = whole.appendJSON(nil)
	}
	return out, nil
}

// parts joins the parts of a content, which must be text.
func (r *reading) parts(content *value, n int) (out string, err error) {
	for i := range content.items {
		p := &content.items[i]
		t := p.member("text")
		kind := p.member("type")
		if p.kind != '{' || t == nil || t.kind != '"' || kind != nil && kind.text != "text" {
			return "", r.rec.fault(p.at, "message %d: part %d of the content is no text; only texts can be trained", n, i+1)
		}
		out += t.text
	}
	return out, nil
}
