package compute

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"cria/internal/safetensors"
)

// TestBackwardIsDerivative composes all operations into one layer with a head, in float64, and compares the gradients
// of every LoRA tensor and of the input with central differences of the loss: dropout, shared segments, positions with
// two targets and grouped-query attention included.
func TestBackwardIsDerivative(t *testing.T) {
	const C, H, KV, D, F, V, R = 6, 4, 2, 4, 10, 11, 2
	rng := rand.New(rand.NewPCG(3, 4))
	be := &Plain[float64]{}
	fill := func(b Buffer, scale float64) Buffer {
		d := b.(*plainBuffer[float64]).d
		for i := range d {
			d[i] = rng.NormFloat64() * scale
		}
		return b
	}
	weight := func(out, in int) Weight {
		data := make([]byte, 4*out*in)
		for i := range out * in {
			binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(float32(rng.NormFloat64()/math.Sqrt(float64(in)))))
		}
		w, err := be.Weight(safetensors.Tensor{DType: "F32", Shape: []int{out, in}, Data: data})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	// node 0: 3 tokens; nodes 1 and 2 share it
	p := &Pass{Rows: Span{1, 9}, KV: 1, Pos: []int32{0, 1, 2, 3, 4, 5, 3, 4}, Node: []int32{0, 0, 0, 1, 1, 1, 2, 2},
		Segments: []Segment{{Span: Span{0, 3}}, {Span{3, 6}, []Span{{1, 4}}}, {Span{6, 8}, []Span{{1, 4}}}}, Dropout: NewDropout(0.3, 5, 2)}
	const T = 10
	var trained, grads []Buffer
	proj := func(out, in int, m uint32) Proj {
		l := &LoRA{A: fill(be.Alloc(R, in), 0.5), Bt: fill(be.Alloc(R, out), 0.5), DA: be.Alloc(R, in), DB: be.Alloc(R, out), Scale: 1.5, Module: m}
		trained, grads = append(trained, l.A, l.Bt), append(grads, l.DA, l.DB)
		return Proj{&Linear{weight(out, in), l}, be.Alloc(T, out), be.Alloc(T, out), be.Alloc(T, R)}
	}
	heads := Heads{H, KV, D}
	rope := &Rope{D, []float32{1, 0.1}}
	n1, n2, n3 := Norm{fill(be.Alloc(1, C), 1), 1e-5}, Norm{fill(be.Alloc(1, C), 1), 1e-5}, Norm{fill(be.Alloc(1, C), 1), 1e-5}
	q, k, v, o := proj(H*D, C, 0), proj(KV*D, C, 1), proj(KV*D, C, 2), proj(C, H*D, 3)
	gate, up, down := proj(F, C, 4), proj(F, C, 5), proj(C, F, 6)
	head := weight(V, C)
	x, attn, lse := fill(be.Alloc(T, C), 1), be.Alloc(T, H*D), be.Alloc(T, H)
	targets := []Target{{1, 3, 0.5, 0}, {4, 2, 1, 1}, {4, 9, 0.25, 2}, {5, 0, 1, 3}, {7, 10, 2, 4}}
	losses, dx := be.Alloc(1, len(targets)), be.Alloc(T, C)

	loss := func() (sum float64) {
		be.QKVForward(p, x, n1, q, k, v, rope)
		be.AttentionForward(p, heads, attn, lse, q.Y, k.Y, v.Y)
		be.OutForward(p, o, attn, x)
		be.GateUpForward(p, o.Y, n2, gate, up)
		be.DownForward(p, down, gate.Y, up.Y, o.Y)
		be.HeadLoss(p, dx, down.Y, n3, head, targets, losses)
		for i, l := range be.buf(losses).d {
			sum += l * float64(targets[i].Weight)
		}
		return sum
	}
	loss()
	o.DY, down.DY = dx, dx
	dattn, dgate, dup := be.Alloc(T, H*D), be.Alloc(T, F), be.Alloc(T, F)
	be.DownBackward(p, down, dgate, dup, gate.Y, up.Y)
	gate.DY, up.DY = dgate, dup
	be.GateUpBackward(p, dx, o.Y, n2, gate, up)
	be.OutBackward(p, o, dattn, attn)
	be.AttentionBackward(p, heads, q.DY, k.DY, v.DY, dattn, attn, lse, q.Y, k.Y, v.Y)
	be.QKVBackward(p, dx, x, n1, q, k, v, rope)
	gotX := append([]float64{}, be.buf(dx).d...)

	compare := func(name string, b Buffer, got []float64) {
		d := be.buf(b).d
		for i := range d {
			const e = 1e-5
			old := d[i]
			d[i] = old + e
			a := loss()
			d[i] = old - e
			want := (a - loss()) / (2 * e)
			d[i] = old
			if math.Abs(got[i]-want) > 1e-7*max(1, math.Abs(want)) {
				t.Fatalf("%s[%d]: gradient %.9g, difference quotient %.9g", name, i, got[i], want)
			}
		}
	}
	for i := range trained {
		compare([]string{"q A", "q B", "k A", "k B", "v A", "v B", "o A", "o B", "gate A", "gate B", "up A", "up B", "down A", "down B"}[i],
			trained[i], append([]float64{}, be.buf(grads[i]).d...))
	}
	clear(gotX[:C]) // rows outside the pass
	clear(gotX[9*C:])
	compare("x", x, gotX)
}

func TestPhiloxKnownAnswers(t *testing.T) {
	// kat_vectors of the Random123 distribution
	for _, c := range []struct {
		ctr  [4]uint32
		key  [2]uint32
		want [4]uint32
	}{
		{want: [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{[4]uint32{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, [2]uint32{0xffffffff, 0xffffffff}, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [2]uint32{0xa4093822, 0x299f31d0}, [4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	} {
		if got := Philox4x32(c.ctr, c.key); got != c.want {
			t.Errorf("philox(%x, %x) = %x, want %x", c.ctr, c.key, got, c.want)
		}
	}
}

func TestDropoutRate(t *testing.T) {
	d := NewDropout(0.1, 42, 1)
	kept, n := 0, 0
	for pos := range int32(200) {
		d.Apply(576, 3, pos, 5, func(_ int, f float32) {
			n++
			if f != 0 {
				kept++
			}
		})
	}
	if rate := 1 - float64(kept)/float64(n); math.Abs(rate-0.1) > 4*math.Sqrt(0.09/float64(n)) {
		t.Errorf("dropped %.4f of %d elements, want 0.1", rate, n)
	}
}
