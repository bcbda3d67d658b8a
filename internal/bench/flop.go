package bench

import "cria/internal/compute"

// FLOP counts the floating-point operations that a step needs, a multiplication and an addition being two: of products and
// attention. Norms, activations, softmax and the optimizer do a few operations for each of their numbers and are not
// counted, and neither is what an implementation computes in vain or twice.
type FLOP struct {
	Frozen    int64 `json:"frozen"`    // products with the layers' frozen matrices
	LoRA      int64 `json:"lora"`      // products with A and B, and their gradients
	Attention int64 `json:"attention"` // scores and sums of values, over the pairs that causality leaves
	Head      int64 `json:"head"`      // logits of labelled positions, and their gradient
}

// Total is the sum of all.
func (f FLOP) Total() int64 { return f.products() + f.Attention }

// products are the operations that are done in the compute type; attention is float32.
func (f FLOP) products() int64 { return f.Frozen + f.LoRA + f.Head }

func (f *FLOP) add(g FLOP) {
	f.Frozen += g.Frozen
	f.LoRA += g.LoRA
	f.Attention += g.Attention
	f.Head += g.Head
}

// forward counts y = x Wᵀ and, with LoRA, u = x Aᵀ and u Bᵀ.
func forward(tokens int, projs ...compute.Proj) (f FLOP) {
	for _, p := range projs {
		out, in := p.W.Out(), p.W.In()
		f.Frozen += 2 * int64(tokens) * int64(out) * int64(in)
		if p.LoRA != nil {
			f.LoRA += 2 * int64(tokens) * int64(p.LoRA.A.Rows()) * int64(in+out)
		}
	}
	return f
}

// backward counts dx = dy W, with LoRA also du = dy B and du A, where it is trained dA = duᵀ x and dB = dyᵀ u. A frozen
// matrix has no gradient. Without dx there are only du, dA and dB.
func backward(tokens int, dx bool, projs ...compute.Proj) (f FLOP) {
	for _, p := range projs {
		if dx {
			f.Frozen += 2 * int64(tokens) * int64(p.W.Out()) * int64(p.W.In())
		}
		if p.LoRA == nil {
			continue
		}
		in, out, times := int64(p.W.In()), int64(p.W.Out()), 2*int64(tokens)*int64(p.LoRA.A.Rows())
		f.LoRA += times * out
		if dx {
			f.LoRA += times * in
		}
		if p.LoRA.DA != nil {
			f.LoRA += times * (in + out)
		}
	}
	return f
}

// lowBackward is backward where dx is not wanted.
func lowBackward(tokens int, projs ...compute.Proj) (f FLOP) {
	for _, p := range projs {
		if p.LoRA != nil && p.LoRA.DA != nil {
			f.LoRA += 2 * int64(tokens) * int64(p.LoRA.A.Rows()) * int64(p.W.In()+2*p.W.Out())
		}
	}
	return f
}

// pairs is the number of (query, key) pairs of a pass: a token sees its segment's context, the tokens before it and itself.
func pairs(p *compute.Pass) (n int64) {
	for _, s := range p.Segments {
		context := 0
		for _, c := range s.Context {
			context += c.Len()
		}
		l := int64(s.Len())
		n += l*int64(context) + l*(l+1)/2
	}
	return n
}

// attention counts products of length D for every pair and query head: forward q·k and p·v; backward the scores again,
// dp, dq, dk and dv.
func attention(p *compute.Pass, h compute.Heads, products int64) FLOP {
	return FLOP{Attention: 2 * products * pairs(p) * int64(h.H) * int64(h.D)}
}

const attentionForward, attentionBackward = 2, 5

// head counts the logits of every row that has a target, and their gradient's way back.
func head(targets []compute.Target, w compute.Weight) FLOP {
	rows := int64(0)
	for i, t := range targets {
		if i == 0 || t.Row != targets[i-1].Row {
			rows++
		}
	}
	return FLOP{Head: 4 * rows * int64(w.Out()) * int64(w.In())}
}
