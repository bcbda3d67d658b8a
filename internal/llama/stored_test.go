package llama_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"cria/internal/compute"
	"cria/internal/compute/cpu"
	"cria/internal/llama"
	"cria/internal/pack"
	"cria/internal/safetensors"
)

// stored writes the tiny model's weights as another type. Its values have at most 8 bits of mantissa; as float16 those
// that are too small for it are flushed to zero in both copies.
func stored(t *testing.T, dtype safetensors.DType) (original, copied *safetensors.File) {
	t.Helper()
	f, err := safetensors.OpenDir(golden + "tiny-llama")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write := func(dtype safetensors.DType, convert func(x float32) []byte) *safetensors.File {
		var ts []safetensors.Tensor
		for _, name := range f.Names() {
			x, _ := f.Tensor(name)
			var data []byte
			for _, v := range tensor(t, f, name) {
				if math.Abs(float64(v)) < 0x1p-14 {
					v = 0
				}
				data = append(data, convert(v)...)
			}
			ts = append(ts, safetensors.Tensor{Name: name, DType: dtype, Shape: x.Shape, Data: data})
		}
		var b bytes.Buffer
		if err := safetensors.Write(&b, ts, nil); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "model.safetensors")
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return open(t, path)
	}
	original = write(safetensors.BF16, func(x float32) []byte {
		return binary.LittleEndian.AppendUint16(nil, uint16(math.Float32bits(x)>>16))
	})
	copied = write(dtype, func(x float32) []byte {
		bits := math.Float32bits(x)
		if dtype == safetensors.F32 {
			return binary.LittleEndian.AppendUint32(nil, bits)
		}
		half := uint16(bits >> 16 & 0x8000)
		if x != 0 {
			half |= uint16(bits>>23&0xff-112)<<10 | uint16(bits>>13&0x3ff)
		}
		return binary.LittleEndian.AppendUint16(nil, half)
	})
	return original, copied
}

// The type of the files does not matter where the values are the same: losses and gradients have the same bits.
func TestStoredTypes(t *testing.T) {
	cfg, err := llama.ReadConfig(golden + "tiny-llama")
	if err != nil {
		t.Fatal(err)
	}
	for _, dtype := range []safetensors.DType{safetensors.F32, safetensors.F16} {
		original, copied := stored(t, dtype)
		for _, arith := range []compute.DType{compute.Float32, compute.BFloat16} {
			for _, mapped := range []bool{false, true} {
				run := func(f *safetensors.File) []float32 {
					be := cpu.New(cpu.Options{Threads: 2, DType: arith, MapWeights: mapped})
					defer be.Close()
					m, err := llama.Load(be, cfg, f)
					if err != nil {
						t.Fatal(err)
					}
					a := slices.Repeat([]float32{0.01, -0.02, 0.005}, 1000)
					lin := m.Layers[1].Linears()[2].W
					lora, err := m.Attach(1, "v_proj", 2, a[:2*lin.In()], a[:2*lin.Out()], 2, true)
					if err != nil {
						t.Fatal(err)
					}
					step := pack.NewStep([][]pack.Row{rows(t)[:3]}, pack.TokenMean, 1, true)
					runs, need, err := step.Plan(0)
					if err != nil {
						t.Fatal(err)
					}
					loss := be.Alloc(1, len(step.Targets))
					m.RunStep(m.NewState(llama.Shape{Stack: need}), runs, nil, loss)
					return slices.Concat(read(m, loss), read(m, lora.DA), read(m, lora.DB))
				}
				if want, got := run(original), run(copied); !slices.Equal(got, want) {
					t.Errorf("%s in %s (mapped %v): relative difference %g", dtype, arith, mapped, relative(got, want))
				}
			}
		}
	}
}
