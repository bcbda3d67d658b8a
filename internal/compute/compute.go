// Package compute defines the operations that a Llama training step and a decoded token are made of, and their plain
// reference implementation.
//
// Letters used everywhere: B batch, T tokens, C hidden_size, H attention heads, KV key-value heads, D head size,
// F intermediate_size, V vocabulary, R LoRA rank. Matrices are row-major, one token a row. Gradients carry the prefix d.
//
// Operations come in Forward/Backward pairs and are coarse, so that a CPU can fuse and a GPU can queue. Every operation
// says whether it sets or adds to its results. Calls may be asynchronous: only Read and SumSquares wait.
package compute

import "cria/internal/safetensors"

// DType says what enters the frozen and the LoRA products; everything else is float32.
type DType string

const (
	Float32  DType = "float32"  // exact: float32 inputs times weights as the file has them, widened
	BFloat16 DType = "bfloat16" // inputs and weights rounded to bfloat16 (nearest even), products exact, sums in float32
)

// Buffer is a (rows, cols) float32 matrix in the backend's memory.
type Buffer interface {
	Rows() int
	Cols() int
}

// Weight is a frozen (out, in) matrix; y = x Wᵀ.
type Weight interface {
	Out() int
	In() int
}

// Span is the half-open range of rows [From, To).
type Span struct{ From, To int }

// Len is the number of rows.
func (s Span) Len() int { return s.To - s.From }

// Pass is what the operations need to know about a run of tokens that is computed together.
//
// The activations of its tokens stand in Rows of every activation buffer, their keys and values in the rows from KV on
// (the same rows in training; the end of the cache in decoding).
type Pass struct {
	Rows     Span
	KV       int
	Pos      []int32   // (T) rotary position
	Node     []int32   // (T) trie node in the optimizer step, one part of a dropout mask's key; nil without dropout
	Segments []Segment // cover Rows in order
	Dropout  *Dropout  // nil: none
}

// Segment is a run of consecutive tokens that attend causally to one another and to all rows of Context.
type Segment struct {
	Span           // rows counted from Pass.Rows.From
	Context []Span // rows of the key and value buffers that belong to its ancestors, oldest first
}

// BlockRows is how many tokens of a segment are summed at a time into the gradients of LoRA and of shared keys and
// values. Blocks start at a segment's first token and are added from the last block of a pass to its first, so that
// neither the number of threads nor the boundaries of passes change a bit of a sum.
const BlockRows = 64

// Blocks calls f with the blocks of the pass (rows counted from Pass.Rows.From), last one first.
func (ps *Pass) Blocks(f func(seg int, rows Span)) {
	for i := len(ps.Segments) - 1; i >= 0; i-- {
		s := ps.Segments[i]
		for from := s.From + (s.Len()-1)/BlockRows*BlockRows; from >= s.From; from -= BlockRows {
			f(i, Span{from, min(from+BlockRows, s.To)})
		}
	}
}

// LoRA is the low-rank part of an adapted projection: y += (Scale · dropout(x) Aᵀ) Bᵀ  (Hu et al., arXiv 2106.09685).
// B stands transposed, so that all products run along rows.
type LoRA struct {
	A, Bt  Buffer  // (R, in), (R, out)
	DA, DB Buffer  // their gradients in the same shapes, added to by the Backward operations; nil in inference
	Scale  float32 // lora_alpha/r, or lora_alpha/√r with rsLoRA
	Module uint32  // number of the module in the model, one part of a dropout mask's key
}

// Linear is a frozen projection with an optional LoRA beside it.
type Linear struct {
	W    Weight
	LoRA *LoRA
}

// Proj is a Linear at work: where its results and their gradients stand.
type Proj struct {
	*Linear
	Y   Buffer // (T, out) result
	DY  Buffer // (T, out) gradient of the result, read by Backward
	Low Buffer // (T, R) Scale · dropout(x) Aᵀ, kept for Backward; nil without LoRA
}

// Norm is RMSNorm: n(x) = x / sqrt(mean(x²) + Eps) · Weight  (Zhang & Sennrich, arXiv 1910.07467).
type Norm struct {
	Weight Buffer // (1, C)
	Eps    float32
}

// Rope rotates pairs (i, i+D/2) of every head by the angle position · InvFreq[i] (Su et al., arXiv 2104.09864, in the
// half-split form of transformers' rotate_half).
type Rope struct {
	D       int
	InvFreq []float32 // (D/2)
}

// Heads is the shape of grouped-query attention: query head h reads key-value head h/(H/KV).
type Heads struct{ H, KV, D int }

// Target is one labelled token: the logits after row Row (counted from Pass.Rows.From) shall predict Token; its
// negative log-likelihood enters the step's loss with weight Weight and is stored at Index of the loss buffer.
type Target struct {
	Row    int32
	Token  int32
	Weight float32
	Index  int32
}

// Param is a trained tensor with its gradient and AdamW moments.
type Param struct{ W, G, M, V Buffer }

// AdamW holds the scalars of one update, as torch.optim.AdamW names them.
type AdamW struct {
	LR, Beta1, Beta2, Eps, WeightDecay float64
	Step                               int     // of this update, from 1
	GradScale                          float32 // multiplies the gradient first (clipping)
	BFloat16                           bool    // weights and moments are rounded to bfloat16 after the update
}

// Backend runs the operations.
type Backend interface {
	Name() string
	Alloc(rows, cols int) Buffer // zeroed
	Weight(t safetensors.Tensor) (Weight, error)
	Write(dst Buffer, row int, src []float32) // sets rows from row on
	Read(dst []float32, src Buffer, row int)
	Zero(b Buffer, rows Span)
	Close()

	// Embed sets x[Rows] = table[ids].
	Embed(p *Pass, x Buffer, table Weight, ids []int32)

	// QKVForward sets q.Y, k.Y, v.Y from n(x), rotating q and k by rope; k and v in the rows from Pass.KV on.
	QKVForward(p *Pass, x Buffer, n Norm, q, k, v Proj, rope *Rope)
	// QKVBackward adds to dx, unless it is nil, what q.DY, k.DY and v.DY (with respect to the rotated q and k) say of x,
	// adds to the LoRA gradients, and overwrites q.DY and k.DY.
	QKVBackward(p *Pass, dx, x Buffer, n Norm, q, k, v Proj, rope *Rope)

	// AttentionForward sets out (T, H·D) = softmax(q kᵀ/√D) v over each token's context, and lse (T, H), the logarithm of
	// the sum of exponentials.
	AttentionForward(p *Pass, h Heads, out, lse, q, k, v Buffer)
	// AttentionBackward sets dq and adds to dk, dv (own rows and rows of the contexts).
	AttentionBackward(p *Pass, h Heads, dq, dk, dv, dout, out, lse, q, k, v Buffer)

	// OutForward sets o.Y = res + o(in).
	OutForward(p *Pass, o Proj, in, res Buffer)
	// OutBackward sets din from o.DY (the gradient of res is o.DY itself).
	OutBackward(p *Pass, o Proj, din, in Buffer)

	// GateUpForward sets gate.Y and up.Y from n(x).
	GateUpForward(p *Pass, x Buffer, n Norm, gate, up Proj)
	// GateUpBackward adds to dx.
	GateUpBackward(p *Pass, dx, x Buffer, n Norm, gate, up Proj)

	// DownForward sets d.Y = res + d(silu(gate)·up)  (SwiGLU, Shazeer, arXiv 2002.05202).
	DownForward(p *Pass, d Proj, gate, up, res Buffer)
	// DownBackward sets dgate and dup from d.DY; they may be the buffers gate and up.
	DownBackward(p *Pass, d Proj, dgate, dup, gate, up Buffer)

	// Gather sets dst[Rows.From+i] = src[Rows.From+rows[i]]; rows ascend.
	Gather(p *Pass, dst, src Buffer, rows []int32)
	// Spread is Gather's way back within one buffer: it moves x[Rows.From+i] to x[Rows.From+rows[i]] and sets the other
	// rows of the pass to zero.
	Spread(p *Pass, x Buffer, rows []int32)

	// Logits sets the first len(rows) rows of logits (·, V) to head(n(x[row])), rows counted from Pass.Rows.From.
	Logits(p *Pass, logits, x Buffer, n Norm, head Weight, rows []int32)
	// HeadLoss sets loss[0][Index] of every target (sorted by Row) to its negative log-likelihood and dx[Rows] to the
	// gradient of the weighted sum, unless dx is nil; rows without target get zero. No (T, V) matrix is made.
	HeadLoss(p *Pass, dx, x Buffer, n Norm, head Weight, targets []Target, loss Buffer)

	// SumSquares sets sums to the sum of squares of each buffer, in float64.
	SumSquares(sums []float64, b []Buffer)
	// Update makes one AdamW step; gradients are left as they are.
	Update(params []Param, o AdamW)
}
