package bench

import (
	"context"
	"time"

	"cria/internal/compute"
)

// op is a kind of operation that is timed.
type op int

const (
	embed op = iota
	qkvForward
	qkvBackward
	attnForward
	attnBackward
	outForward
	outBackward
	gateUpForward
	gateUpBackward
	downForward
	downBackward
	headLoss
	optimizer
	ops
)

// names of the operations and their directions.
var names = [ops][2]string{
	embed: {"embed", "forward"}, qkvForward: {"qkv", "forward"}, qkvBackward: {"qkv", "backward"},
	attnForward: {"attention", "forward"}, attnBackward: {"attention", "backward"}, outForward: {"out", "forward"}, outBackward: {"out", "backward"},
	gateUpForward: {"gate_up", "forward"}, gateUpBackward: {"gate_up", "backward"}, downForward: {"down", "forward"}, downBackward: {"down", "backward"},
	headLoss: {"head_loss", "both"}, optimizer: {"optimizer", "both"},
}

// Timed is a Backend that times another one's operations and counts what they have to do. It waits for nothing: the other
// one must have done an operation when its method returns, as the CPU's has.
//
// Once ctx has ended, the next operation panics with stopped, which guard turns into an error: an operation is the
// shortest time in which an answer can be given without leaving the backend in the middle of something.
type Timed struct {
	compute.Backend
	ctx context.Context

	tally  [ops]tally
	tokens int // computed
}

type tally struct {
	calls int
	time  time.Duration
	flop  FLOP
}

// NewTimed wraps be.
func NewTimed(ctx context.Context, be compute.Backend) *Timed { return &Timed{Backend: be, ctx: ctx} }

// reset forgets what was measured.
func (t *Timed) reset() { t.tally, t.tokens = [ops]tally{}, 0 }

type stopped struct{ err error }

// guard calls f and returns the context's error if f was stopped by its end.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s, ok := p.(stopped)
			if !ok {
				panic(p)
			}
			err = s.err
		}
	}()
	return f()
}

func (t *Timed) time(o op, f FLOP, do func()) {
	if err := t.ctx.Err(); err != nil {
		panic(stopped{err})
	}
	start := time.Now()
	do()
	y := &t.tally[o]
	y.time += time.Since(start)
	y.calls++
	y.flop.add(f)
}

func (t *Timed) Embed(p *compute.Pass, x compute.Buffer, table compute.Weight, ids []int32) {
	t.tokens += p.Rows.Len()
	t.time(embed, FLOP{}, func() { t.Backend.Embed(p, x, table, ids) })
}

func (t *Timed) QKVForward(p *compute.Pass, x compute.Buffer, n compute.Norm, q, k, v compute.Proj, rope *compute.Rope) {
	t.time(qkvForward, forward(p.Rows.Len(), q, k, v), func() { t.Backend.QKVForward(p, x, n, q, k, v, rope) })
}

func (t *Timed) QKVBackward(p *compute.Pass, dx, x compute.Buffer, n compute.Norm, q, k, v compute.Proj, rope *compute.Rope) {
	f := backward(p.Rows.Len(), dx != nil, q, k, v)
	if dx == nil { // neither dy W nor du A
		f = lowBackward(p.Rows.Len(), q, k, v)
	}
	t.time(qkvBackward, f, func() { t.Backend.QKVBackward(p, dx, x, n, q, k, v, rope) })
}

func (t *Timed) AttentionForward(p *compute.Pass, h compute.Heads, out, lse, q, k, v compute.Buffer) {
	t.time(attnForward, attention(p, h, attentionForward), func() { t.Backend.AttentionForward(p, h, out, lse, q, k, v) })
}

func (t *Timed) AttentionBackward(p *compute.Pass, h compute.Heads, dq, dk, dv, dout, out, lse, q, k, v compute.Buffer) {
	t.time(attnBackward, attention(p, h, attentionBackward), func() { t.Backend.AttentionBackward(p, h, dq, dk, dv, dout, out, lse, q, k, v) })
}

func (t *Timed) OutForward(p *compute.Pass, o compute.Proj, in, res compute.Buffer) {
	t.time(outForward, forward(p.Rows.Len(), o), func() { t.Backend.OutForward(p, o, in, res) })
}

func (t *Timed) OutBackward(p *compute.Pass, o compute.Proj, din, in compute.Buffer) {
	t.time(outBackward, backward(p.Rows.Len(), true, o), func() { t.Backend.OutBackward(p, o, din, in) })
}

func (t *Timed) GateUpForward(p *compute.Pass, x compute.Buffer, n compute.Norm, gate, up compute.Proj) {
	t.time(gateUpForward, forward(p.Rows.Len(), gate, up), func() { t.Backend.GateUpForward(p, x, n, gate, up) })
}

func (t *Timed) GateUpBackward(p *compute.Pass, dx, x compute.Buffer, n compute.Norm, gate, up compute.Proj) {
	t.time(gateUpBackward, backward(p.Rows.Len(), true, gate, up), func() { t.Backend.GateUpBackward(p, dx, x, n, gate, up) })
}

func (t *Timed) DownForward(p *compute.Pass, d compute.Proj, gate, up, res compute.Buffer) {
	t.time(downForward, forward(p.Rows.Len(), d), func() { t.Backend.DownForward(p, d, gate, up, res) })
}

func (t *Timed) DownBackward(p *compute.Pass, d compute.Proj, dgate, dup, gate, up compute.Buffer) {
	t.time(downBackward, backward(p.Rows.Len(), true, d), func() { t.Backend.DownBackward(p, d, dgate, dup, gate, up) })
}

func (t *Timed) HeadLoss(p *compute.Pass, dx, x compute.Buffer, n compute.Norm, w compute.Weight, targets []compute.Target, loss compute.Buffer) {
	t.time(headLoss, head(targets, w), func() { t.Backend.HeadLoss(p, dx, x, n, w, targets, loss) })
}

// Zero counts as the optimizer's: nearly all that is cleared are gradients.
func (t *Timed) Zero(b compute.Buffer, rows compute.Span) {
	t.time(optimizer, FLOP{}, func() { t.Backend.Zero(b, rows) })
}

func (t *Timed) SumSquares(sums []float64, b []compute.Buffer) {
	t.time(optimizer, FLOP{}, func() { t.Backend.SumSquares(sums, b) })
}

func (t *Timed) Update(params []compute.Param, o compute.AdamW) {
	t.time(optimizer, FLOP{}, func() { t.Backend.Update(params, o) })
}
