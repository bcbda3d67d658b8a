package adapter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf16"

	"cria/internal/half"
	"cria/internal/safetensors"
)

// Write saves the adapter as PEFT 0.11.1's save_pretrained does: adapter_config.json with exactly that version's keys and
// inference_mode true, and adapter_model.safetensors with tensors of type F32, or BF16 by rounding to the nearest value.
// Each file is made by open and closed. An adapter with a NaN or an infinity is not written.
func (a *Adapter) Write(dtype safetensors.DType, open func(name string) (io.WriteCloser, error)) error {
	if dtype != safetensors.F32 && dtype != safetensors.BF16 {
		return fmt.Errorf("adapters are written as %s or %s, not %s", safetensors.F32, safetensors.BF16, dtype)
	}
	if err := a.checkFinite(); err != nil {
		return err
	}
	config, err := a.Config.encode()
	if err != nil {
		return err
	}
	err = writeFile(open, ConfigName, func(w io.Writer) error {
		_, err := w.Write(config)
		return err
	})
	if err != nil {
		return err
	}
	metadata := map[string]string{"format": "pt"}
	if a.BaseSHA256 != "" {
		metadata[baseKey] = a.BaseSHA256
	}
	return writeFile(open, TensorsName, func(w io.Writer) error {
		return safetensors.Write(w, a.tensors(dtype), metadata)
	})
}

func writeFile(open func(name string) (io.WriteCloser, error), name string, fill func(io.Writer) error) error {
	w, err := open(name)
	if err != nil {
		return err
	}
	return errors.Join(fill(w), w.Close())
}

func (a *Adapter) tensors(dtype safetensors.DType) []safetensors.Tensor {
	var all []safetensors.Tensor
	for _, m := range a.Modules {
		shapes := [2][]int{{m.R, m.In}, {m.Out, m.R}}
		for part, v := range [][]float32{m.A, m.B} {
			name := tensorName(m.Name, part)
			if dtype == safetensors.F32 {
				all = append(all, safetensors.FromFloat32s(name, shapes[part], v))
				continue
			}
			rounded := make([]uint16, len(v))
			for i, x := range v {
				rounded[i] = half.ToBFloat16(x)
			}
			all = append(all, safetensors.FromBFloat16s(name, shapes[part], rounded))
		}
	}
	return all
}

// encode returns adapter_config.json as json.dumps(indent=2, sort_keys=True) of Python writes it.
func (c *Config) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(map[string]any{
		"alpha_pattern":           c.AlphaPattern.numbers(),
		"auto_mapping":            nil,
		"base_model_name_or_path": orNull(c.BaseModelNameOrPath),
		"bias":                    "none",
		"fan_in_fan_out":          false,
		"inference_mode":          true,
		"init_lora_weights":       true,
		"layer_replication":       nil,
		"layers_pattern":          listOrNull(c.LayersPattern),
		"layers_to_transform":     listOrNull(c.LayersToTransform),
		"loftq_config":            struct{}{},
		"lora_alpha":              pythonNumber(c.LoraAlpha, false),
		"lora_dropout":            pythonNumber(c.LoraDropout, true),
		"megatron_config":         nil,
		"megatron_core":           "megatron.core",
		"modules_to_save":         nil,
		"peft_type":               "LORA",
		"r":                       c.R,
		"rank_pattern":            c.RankPattern.numbers(),
		"revision":                orNull(c.Revision),
		"target_modules":          c.TargetModules,
		"task_type":               orNull(c.TaskType),
		"use_dora":                false,
		"use_rslora":              c.UseRSLoRA,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ConfigName, err)
	}
	return escapeNonASCII(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

func (t Targets) MarshalJSON() ([]byte, error) {
	if t.Expr != "" {
		return marshalPlain(t.Expr)
	}
	return marshalPlain(listOrNull(t.List))
}

// marshalPlain is json.Marshal without the escapes for HTML.
func marshalPlain(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

func (p Pattern) numbers() map[string]json.Number {
	m := map[string]json.Number{}
	for _, e := range p {
		m[e.Key] = pythonNumber(e.Value, false)
	}
	return m
}

// pythonNumber writes v as Python writes a float, or as an int if it is whole and need not be a float.
func pythonNumber(v float64, float bool) json.Number {
	if v == math.Trunc(v) && math.Abs(v) < 1e16 {
		s := strconv.FormatFloat(v, 'f', -1, 64)
		if float {
			s += ".0"
		}
		return json.Number(s)
	}
	return json.Number(strconv.FormatFloat(v, 'g', -1, 64))
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func listOrNull[T any](l []T) any {
	if len(l) == 0 {
		return nil
	}
	return l
}

// escapeNonASCII writes everything outside ASCII, which in JSON stands in strings only, as \u escapes.
func escapeNonASCII(text []byte) []byte {
	var out []byte
	for _, r := range string(text) {
		switch {
		case r < 0x7f:
			out = append(out, byte(r))
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}
