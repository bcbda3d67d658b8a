package foreign

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// axolotlFormats are types of datasets (src/axolotl/prompt_strategies) that cria reads: the format, and whether axolotl writes
// text of its own around the columns.
var axolotlFormats = map[string]struct {
	format  string
	ownText bool
}{
	"chat_template": {"messages", false},
	"sharegpt":      {"sharegpt", false},
	"completion":    {"text", false},
	"alpaca":        {"alpaca", true},
}

// axolotlColumns are the keys of a dataset that name columns, by cria's roles.
var axolotlColumns = map[string]string{
	"field_messages": "messages", "field_tools": "tools", "field": "text", "text_column": "text",
	"field_instruction": "instruction", "field_input": "input", "field_output": "output", "field_system": "system",
}

func (t *translation) axolotlDatasets() {
	t.datasets("dataset", t.axolotlSources("datasets"))
	t.datasets("eval_dataset", t.axolotlSources("test_datasets"))
	_, fraction := t.values["eval_fraction"]
	if _, both := t.values["eval_dataset"]; both && fraction {
		t.note(Idle, "test_datasets are evaluated", "val_set_size")
		delete(t.values, "eval_fraction")
	}
}

func (t *translation) axolotlSources(key string) (list []source) {
	e, ok := t.given[key]
	if !ok {
		return nil
	}
	if e.node.Kind != yaml.SequenceNode {
		t.mustBe(e, "a list of datasets")
		return nil
	}
	for _, n := range e.node.Content {
		if n.Kind != yaml.MappingNode {
			t.mustBe(entry{key, e.key, n}, "a mapping with path and type")
			continue
		}
		list = append(list, t.axolotlSource(entry{key, e.key, n})...)
	}
	return list
}

// axolotlSource reads one dataset, which may be several files (src/axolotl/utils/schemas/datasets.py, SFTDataset).
func (t *translation) axolotlSource(e entry) []source {
	var s source
	var files []string
	var revision entry
	for _, p := range t.nested(e) {
		name := strings.TrimPrefix(p.name, e.name+".")
		text, isText := textOf(p.node)
		switch {
		case name == "path" && isText:
			s.path = place(text)
			s.from = append(s.from, p)
		case name == "data_files":
			files = t.list(p)
			s.from = append(s.from, p)
		case name == "type":
			t.axolotlType(&s, p)
		case name == "ds_type" && (text == "json" || text == "csv" || text == "parquet"):
			t.note(Idle, "cria sees what a file is", p.name)
		case name == "split" && text == "train":
			t.note(Idle, "the rows for training are read", p.name)
		case name == "split":
			t.note(Lost, wholeHub, p.name)
		case name == "name":
			t.note(Lost, "a part of a repository; "+wholeHub, p.name)
		case name == "revision" && isText:
			revision = p
		case axolotlColumns[name] != "" && isText:
			s.column(axolotlColumns[name], text, p)
		case name == "message_property_mappings" || name == "message_field_role" || name == "message_field_content":
			t.messageFields(&s, e, p, name)
		case name == "roles_to_train":
			if list := t.list(p); !slices.Equal(list, []string{"assistant"}) && !slices.Equal(list, []string{"gpt"}) {
				t.note(Lost, "cria trains the replies of the assistant, or with train_on: all all tokens", p.name)
			}
		case name == "train_on_eos" || name == "train_on_eot":
			if text != "turn" {
				t.note(Lost, "cria trains the end of every reply that it trains", p.name)
			}
		case name == "message_field_training" && slices.Contains([]string{"loss", "train", "training", "weight"}, text):
			t.note(Idle, "cria looks for it by itself", p.name)
		case name == "chat_template" && isText:
			t.note(Changed, templateNote(text, []string{"alpaca", "metharme", "jinja"}), p.name)
		case slices.Contains([]string{"trust_remote_code", "preprocess_shards", "input_format"}, name):
			t.note(Idle, preparing, p.name)
		case slices.Contains([]string{"message_field_training", "message_field_training_detail", "roles", "drop_system_message", "chat_template_jinja",
			"shards", "shards_idx", "field_thinking", "template_thinking_key", "split_thinking", "input_transform", "conversation",
			"temperature", "logprobs_field", "field_human", "field_model", "skip"}, name):
			t.note(Lost, "cria reads rows without it", p.name)
		default:
			t.note(Unknown, "", p.name)
		}
	}
	switch {
	case revision.node == nil:
	case onHub(s.path):
		s.path += "@" + revision.node.Value
		s.from = append(s.from, revision)
	default:
		t.note(Idle, "the dataset is a file", revision.name)
	}
	switch {
	case len(files) > 0 && onHub(s.path):
		t.note(Lost, wholeHub, e.name+".data_files")
		return []source{s}
	case len(files) > 0 && (s.path == "" || slices.Contains([]string{"json", "csv", "parquet", "text"}, s.path)):
		return s.files("", files)
	case len(files) > 0:
		return s.files(s.path, files)
	case s.path == "":
		t.fail(e, "a dataset needs a path")
		return nil
	}
	return []source{s}
}

// files makes a dataset of every file in a directory.
func (s source) files(dir string, names []string) (list []source) {
	for _, name := range names {
		c := s
		c.path = path.Join(dir, name)
		list = append(list, c)
	}
	return list
}

// axolotlType reads a dataset's type: a name, or a mapping with a prompt's text.
func (t *translation) axolotlType(s *source, e entry) {
	name, isText := textOf(e.node)
	switch {
	case isText:
		base, _, _ := strings.Cut(name, ".")
		f, ok := axolotlFormats[base]
		switch {
		case !ok:
			t.note(Lost, fmt.Sprintf("cria has no type %s: it goes by the columns of the rows (format: auto)", clip(name)), e.name)
		case f.ownText || base != name && base != "chat_template":
			t.note(Changed, fmt.Sprintf("axolotl writes text of its own around the columns (%s); cria uses the model's chat template, or template: prompt with prompt_template and response_template", clip(name)), e.name)
			s.format = f.format
		default:
			s.format = f.format
		}
		s.formatFrom = e
	case e.node.Kind == yaml.MappingNode:
		t.axolotlPrompt(s, e)
	default:
		t.mustBe(e, "text or a mapping")
	}
}

// axolotlPrompt takes a prompt's text as prompt_template (src/axolotl/prompt_strategies/user_defined.py).
func (t *translation) axolotlPrompt(s *source, e entry) {
	s.format, s.formatFrom = "alpaca", e
	fields := map[string]entry{}
	for _, p := range t.nested(e) {
		name := strings.TrimPrefix(p.name, e.name+".")
		fields[name] = p
		text, isText := textOf(p.node)
		switch {
		case !isText:
			t.mustBe(p, "text")
		case axolotlColumns[name] != "" && strings.HasPrefix(name, "field_"):
			s.column(axolotlColumns[name], text, p)
		case name == "format" || name == "no_input_format":
		case name == "system_format" && text == "{system}":
		default:
			t.note(Lost, "write it into prompt_template", p.name)
		}
	}
	prompt, hasFormat := fields["format"]
	bare, hasBare := fields["no_input_format"]
	if !hasFormat {
		prompt = bare
	}
	if prompt.node == nil || !strings.Contains(prompt.node.Value, "{instruction}") {
		t.note(Lost, "no text around {instruction} that cria could take as prompt_template", e.name)
		return
	}
	if hasFormat && hasBare && bare.node.Value != prompt.node.Value {
		t.note(Changed, "cria has one prompt_template, for rows with and without an input", bare.name)
	}
	t.set("template", "prompt", e)
	t.set("prompt_template", prompt.node.Value, prompt)
	t.set("response_template", "{output}", e)
}

// messageFields takes the names of a message's role and text: OpenAI's or ShareGPT's.
func (t *translation) messageFields(s *source, dataset, e entry, name string) {
	role, content := "role", "content"
	if name == "message_property_mappings" {
		for _, p := range t.nested(e) {
			v, _ := textOf(p.node)
			switch strings.TrimPrefix(p.name, e.name+".") {
			case "role":
				role = v
			case "content":
				content = v
			default:
				t.note(Lost, "cria reads role and text of a message, and tool_calls", p.name)
			}
		}
	} else {
		for _, p := range pairsOf("", dataset.node) {
			switch p.name {
			case "message_field_role":
				role = p.node.Value
			case "message_field_content":
				content = p.node.Value
			}
		}
	}
	switch {
	case role == "role" && content == "content":
	case role == "from" && content == "value":
		s.format, s.formatFrom = "sharegpt", e
		t.note(Changed, "messages of from and value are format: sharegpt", e.name)
	default:
		t.note(Lost, "cria reads messages of role and content, or of from and value", e.name)
	}
}
