package chat

import (
	"bytes"
	"encoding/json"
	"io"
)

// canonical rewrites JSON so that every string stands in it without needless escapes, keeping the order of keys and the
// spelling of numbers: what a string says can then be looked for in the text.
func canonical(text []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var out bytes.Buffer
	type level struct {
		object bool
		n      int // tokens so far
	}
	var stack []level
	for {
		tok, err := dec.Token()
		if err == io.EOF {
			return out.Bytes(), nil
		}
		if err != nil {
			return nil, err
		}
		d, isDelim := tok.(json.Delim)
		closing := isDelim && (d == '}' || d == ']')
		if n := len(stack); n > 0 && !closing {
			if top := &stack[n-1]; top.object && top.n%2 == 1 {
				out.WriteByte(':')
			} else if top.n > 0 {
				out.WriteByte(',')
			}
			stack[n-1].n++
		}
		switch v := tok.(type) {
		case json.Delim:
			out.WriteRune(rune(v))
			if closing {
				stack = stack[:len(stack)-1]
			} else {
				stack = append(stack, level{object: v == '{'})
			}
		case json.Number:
			out.WriteString(v.String())
		default:
			enc := json.NewEncoder(&out)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(v); err != nil {
				return nil, err
			}
			out.Truncate(out.Len() - 1) // the encoder's line end
		}
	}
}
