package data

import (
	"fmt"
	"slices"
	"strings"
)

// Roles are what columns can be for; recipes map them to other names with the key columns.
var Roles = []string{"instruction", "input", "output", "system", "history", "messages", "tools", "prompt", "completion", "text"}

// aliases are the names under which a role is looked for where columns says nothing, in this order.
var aliases = map[string][]string{
	"instruction": {"instruction"},
	"input":       {"input", "context"},
	"output":      {"output", "response"},
	"system":      {"system", "system_prompt"},
	"history":     {"history"},
	"messages":    {"messages", "conversations", "conversation"},
	"tools":       {"tools"},
	"prompt":      {"prompt", "question", "query"},
	"completion":  {"completion", "response", "answer"},
	"text":        {"text"},
}

// formatRoles are the roles that a format has, those that it must have first.
var formatRoles = map[string]struct{ required, optional []string }{
	Alpaca:           {[]string{"instruction", "output"}, []string{"input", "system", "history"}},
	ShareGPT:         {[]string{"messages"}, []string{"system", "tools"}},
	Messages:         {[]string{"messages"}, []string{"system", "tools"}},
	PromptCompletion: {[]string{"prompt", "completion"}, []string{"system", "history", "tools"}},
	Text:             {[]string{"text"}, nil},
}

// meaningful are columns that would be missed if they were not used: rows that have something in them are refused.
var meaningful = []string{"system", "history", "tools", "chosen", "rejected", "image", "images", "video", "videos", "audio", "audios"}

// layout is how the rows of one file are read.
type layout struct {
	format  string
	fixed   map[string]string // what the recipe says
	used    []string          // columns that were read
	ignored []string          // columns with something in them that were not

	found map[string]bool // roles for which a row had a column

	last  []string // columns of the last row
	roles []string // of each of them, "" where it has none
}

// newLayout chooses how a file is read by its first row. format is one of Formats, or "" or auto to recognise it; columns
// maps roles to names.
func newLayout(rec *record, format string, columns map[string]string) (*layout, error) {
	l := &layout{format: format, fixed: columns, found: map[string]bool{}}
	if format == "" || format == "auto" {
		if l.format = l.recognise(rec); l.format == "" {
			return nil, rec.fault(rec.at, "no known format: the columns are %s. Known are instruction and output (alpaca), messages or conversations, prompt and completion, and text; "+
				"say which columns are which, such as columns: {instruction: question, output: answer}", list(rec.columns))
		}
	}
	return l, nil
}

// find is the column of a role in a row; "" where it has none.
func (l *layout) find(rec *record, role string) string {
	if c, ok := l.fixed[role]; ok {
		return c
	}
	for _, c := range aliases[role] {
		if slices.Contains(rec.columns, c) && !l.taken(c) {
			return c
		}
	}
	return ""
}

// taken tells whether the recipe gave a column to some role.
func (l *layout) taken(column string) bool {
	for _, c := range l.fixed {
		if c == column {
			return true
		}
	}
	return false
}

// recognise names the format of a row; "" where it has none.
func (l *layout) recognise(rec *record) string {
	has := func(role string) *value { return rec.column(l.find(rec, role)) }
	if v := has("messages"); v != nil && !(v.kind == 'n') {
		return dialogueFormat(rec, v)
	}
	for _, format := range []string{Alpaca, PromptCompletion, Text} {
		if !slices.ContainsFunc(formatRoles[format].required, func(role string) bool { return has(role) == nil }) {
			return format
		}
	}
	if has("instruction") != nil { // so that what is missing is named
		return Alpaca
	}
	return ""
}

// dialogueFormat tells messages of {role, content} from those of {from, value}.
func dialogueFormat(rec *record, v *value) string {
	if v.kind == '"' {
		if inner, err := parseCell(rec, v); err == nil {
			v = &inner
		}
	}
	for i := range v.items {
		if m := &v.items[i]; m.member("from") != nil && m.member("role") == nil {
			return ShareGPT
		}
	}
	return Messages
}

// match finds what every column of a row is for. Rows of a file mostly have the same columns as the row before.
func (l *layout) match(rec *record) {
	if slices.Equal(l.last, rec.columns) {
		return
	}
	l.last = append(l.last[:0], rec.columns...)
	l.roles = make([]string, len(rec.columns))
	f := formatRoles[l.format]
	for _, role := range slices.Concat(f.required, f.optional) {
		if i := slices.Index(rec.columns, l.find(rec, role)); i >= 0 && l.roles[i] == "" {
			l.roles[i] = role
			l.found[role] = true
		}
	}
}

// wants tells whether a column may be of use: before the first row is known all are.
func (l *layout) wants(column string) bool {
	if l == nil || l.taken(column) {
		return true
	}
	f := formatRoles[l.format]
	for _, role := range slices.Concat(f.required, f.optional) {
		if _, ok := l.fixed[role]; !ok && slices.Contains(aliases[role], column) {
			return true
		}
	}
	return false
}

// cells are a row's values by role.
type cells map[string]*value

// cells sorts a row's columns by role, and refuses what would be missed.
func (l *layout) cells(rec *record, out cells) error {
	l.match(rec)
	clear(out)
	var missed []string
	for i, c := range rec.columns {
		v := &rec.values[i]
		role := l.roles[i]
		switch {
		case role != "":
			out[role] = v
			if !slices.Contains(l.used, c) && (!v.empty() || slices.Contains(formatRoles[l.format].required, role)) {
				l.used = append(l.used, c)
			}
		case v.empty():
		case slices.Contains(meaningful, c):
			missed = append(missed, c)
		case len(l.ignored) < 100 && !slices.Contains(l.ignored, c):
			l.ignored = append(l.ignored, c)
		}
	}
	for _, role := range formatRoles[l.format].required {
		if out[role] == nil {
			column := role
			if c, ok := l.fixed[role]; ok {
				column = c
			}
			return rec.fault(rec.at, "column %.60q is missing for %s rows; the columns are %s", column, l.format, list(rec.columns))
		}
	}
	if len(missed) > 0 {
		return rec.fault(rec.at, "column %s is not understood in %s rows, which have %s. "+
			"Remove the column if it is not to be trained; the columns are %s", list(missed), l.format, l.describeRoles(), list(rec.columns))
	}
	return nil
}

func (l *layout) describeRoles() string {
	f := formatRoles[l.format]
	s := strings.Join(f.required, " and ")
	if len(f.optional) > 0 {
		s += fmt.Sprintf(" (and may have %s)", strings.Join(f.optional, ", "))
	}
	return s
}

// list quotes and joins column names, the first ones where there are many.
func list(names []string) string { return listed(names, "%.60q") }

// join is list without quotes.
func join(names []string) string { return listed(names, "%.60s") }

func listed(names []string, verb string) string {
	const most = 12
	if len(names) == 0 {
		return "none"
	}
	var b strings.Builder
	for i, n := range names {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(names)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, verb, n)
	}
	return b.String()
}
