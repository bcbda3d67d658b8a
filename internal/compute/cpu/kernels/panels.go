package kernels

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"cria/internal/half"
)

// PanelWidth is the number of columns of a panel.
const PanelWidth = 32

// Order says how a matrix B (K, N) is stored in the memory that it is packed from.
type Order int

const (
	KN Order = iota // B itself, a row of N elements for every k: the weights (out, in) in dX = dY W
	NK              // its transpose, a row of K elements for every column: the weights (out, in) in Y = X Wᵀ
)

// Panels is a right-hand matrix B (K, N), reordered so that products read it from front to back. Columns beyond N and
// an odd last k are filled with zeros. Of bfloat16 values (the frozen weights, and everything in bfloat16 arithmetic)
//
//	[N/32 panels][K/2 pairs][32 columns][2]
//
// which serves both arithmetics at every level, and of float32 values
//
//	[N/32 panels][K][32 columns]
type Panels struct {
	level Level
	k, n  int
	h     []uint16  // bfloat16 panels, or
	f     []float32 // float32 panels
	bf16  bool
	step  int // elements from one panel to the next, where p is a slice of a larger matrix; else 0
}

// Slice is the rows k0 to k1-1 of p, k0 even, in the same memory.
func (p *Panels) Slice(k0, k1 int) Panels {
	if k0 < 0 || k0 >= k1 || k1 > p.k || k0%2 != 0 {
		panic(fmt.Sprintf("kernels: rows %d to %d of panels of %dx%d", k0, k1, p.k, p.n))
	}
	s := Panels{level: p.level, k: k1 - k0, n: p.n, bf16: p.bf16, step: p.size()}
	if p.bf16 {
		s.h = p.h[k0*PanelWidth:]
	} else {
		s.f = p.f[k0*PanelWidth:]
	}
	return s
}

// Reset makes p a (k, n) matrix of bfloat16 or float32 panels, undefined until packed. Memory is reused where it
// suffices.
func (p *Panels) Reset(level Level, k, n int, bf16 bool) {
	if k <= 0 || n <= 0 {
		panic(fmt.Sprintf("kernels: panels of %dx%d", k, n))
	}
	p.level, p.k, p.n, p.bf16, p.step = level, k, n, bf16, 0
	if size := p.Count() * p.size(); bf16 {
		p.h = resized(p.h, size)
	} else {
		p.f = resized(p.f, size)
	}
}

// NewPanels returns panels for a (k, n) matrix, to be packed.
func NewPanels(level Level, k, n int, bf16 bool) *Panels {
	p := new(Panels)
	p.Reset(level, k, n, bf16)
	return p
}

// K is the number of rows of the matrix.
func (p *Panels) K() int { return p.k }

// N is the number of columns of the matrix.
func (p *Panels) N() int { return p.n }

// PanelsBytes is the memory of a (k, n) matrix.
func PanelsBytes(k, n int, bf16 bool) int64 {
	p := Panels{k: k, n: n, bf16: bf16}
	size := 4
	if bf16 {
		size = 2
	}
	return int64(p.Count()) * int64(p.size()) * int64(size)
}

// Count is the number of panels.
func (p *Panels) Count() int { return (p.n + PanelWidth - 1) / PanelWidth }

// size is the number of elements of a panel.
func (p *Panels) size() int {
	if p.step > 0 {
		return p.step
	}
	if p.bf16 {
		return (p.k + 1) / 2 * 2 * PanelWidth
	}
	return p.k * PanelWidth
}

// PackBF16 fills the panels p0 to p1-1 from bfloat16 values (little-endian, any alignment). w is the whole matrix, ld the
// distance of its rows in elements. Different panels may be packed at the same time.
func (p *Panels) PackBF16(p0, p1 int, w []byte, order Order, ld int) {
	if !p.bf16 {
		panic("kernels: bfloat16 values packed into float32 panels")
	}
	p.check(p0, p1, len(w)/2, order, ld)
	for i := p0; i < p1; i++ {
		cols := min(PanelWidth, p.n-i*PanelWidth)
		dst := p.h[i*p.size():][:p.size()]
		if order == NK {
			packPairsNK(p.level, dst, w[2*i*PanelWidth*ld:], p.k, cols, ld)
		} else {
			packPairsKN(p.level, dst, w[2*i*PanelWidth:], p.k, cols, ld)
		}
	}
}

// PackF32 fills the panels p0 to p1-1 from float32 values, rounding them if the panels are bfloat16.
func (p *Panels) PackF32(p0, p1 int, w []float32, order Order, ld int) {
	p.check(p0, p1, len(w), order, ld)
	for i := p0; i < p1; i++ {
		cols := min(PanelWidth, p.n-i*PanelWidth)
		src := w[i*PanelWidth:]
		if order == NK {
			src = w[i*PanelWidth*ld:]
		}
		switch {
		case p.bf16:
			packRounded(p.level, p.h[i*p.size():][:p.size()], src, p.k, cols, order, ld)
		case order == NK:
			packF32NK(p.level, p.f[i*p.size():][:p.size()], src, p.k, cols, ld)
		default:
			packF32KN(p.f[i*p.size():][:p.size()], src, p.k, cols, ld)
		}
	}
}

func (p *Panels) check(p0, p1, have int, order Order, ld int) {
	rows, cols := p.k, p.n
	if order == NK {
		rows, cols = p.n, p.k
	}
	if p.step > 0 || p0 < 0 || p1 > p.Count() || ld < cols || (rows-1)*ld+cols > have {
		panic(fmt.Sprintf("kernels: panels %d to %d of %d from %d rows of %d in %d elements, stride %d", p0, p1, p.Count(), rows, cols, have, ld))
	}
}

// packPairsNK fills one panel of pairs from cols rows of k bfloat16 values, 2*ld bytes apart.
func packPairsNK(l Level, dst []uint16, w []byte, k, cols, ld int) {
	if cols < PanelWidth {
		clear(dst)
	}
	n := 0
	if l.asm() {
		whole := k &^ 15 // 8 pairs, each one 32-bit element of a transposition
		for ; n+8 <= cols; n += 8 {
			if whole > 0 {
				transpose8(ptr(dst, 2*n), 4*PanelWidth, ptr(w, 2*n*ld), 2*ld, whole/16)
			}
			for i := n; i < n+8; i++ {
				packPairsRow(dst, w, i, whole, k, ld)
			}
		}
	}
	for ; n < cols; n++ {
		packPairsRow(dst, w, n, 0, k, ld)
	}
}

// packPairsRow puts the values k0, ..., k-1 of row n into column n.
func packPairsRow(dst []uint16, w []byte, n, k0, k, ld int) {
	row := w[2*n*ld:][:2*k]
	for i := k0; i < k; i++ {
		dst[i/2*2*PanelWidth+2*n+i%2] = binary.LittleEndian.Uint16(row[2*i:])
	}
	if k%2 == 1 {
		dst[k/2*2*PanelWidth+2*n+1] = 0
	}
}

// packPairsKN fills one panel of pairs from k rows of which cols bfloat16 values are taken, 2*ld bytes apart.
func packPairsKN(l Level, dst []uint16, w []byte, k, cols, ld int) {
	i := 0
	if l.asm() && cols == PanelWidth && k > 1 {
		interleave32(ptr(dst, 0), ptr(w, 0), 2*ld, k/2)
		i = k &^ 1
	}
	if i < k && (cols < PanelWidth || k%2 == 1) {
		clear(dst[i*PanelWidth:])
	}
	for ; i < k; i++ {
		row := w[2*i*ld:][:2*cols]
		for n := range cols {
			dst[i/2*2*PanelWidth+2*n+i%2] = binary.LittleEndian.Uint16(row[2*n:])
		}
	}
}

// packRounded fills one panel of pairs from float32 values.
func packRounded(l Level, dst []uint16, w []float32, k, cols int, order Order, ld int) {
	if !l.asm() {
		packRoundedGo(dst, w, k, cols, order, ld)
		return
	}
	const chunk = 128 // of k; even
	var buf [chunk * PanelWidth]uint16
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&buf)), 2*len(buf))
	for k0 := 0; k0 < k; k0 += chunk {
		kb := min(chunk, k-k0)
		part := dst[k0*PanelWidth:][:(kb+1)/2*2*PanelWidth]
		if order == NK {
			for n := range cols {
				l.Narrow(buf[n*chunk:][:kb], w[n*ld+k0:][:kb])
			}
			packPairsNK(l, part, raw, kb, cols, chunk)
		} else {
			for i := range kb {
				l.Narrow(buf[i*PanelWidth:][:cols], w[(k0+i)*ld:][:cols])
			}
			packPairsKN(l, part, raw, kb, cols, PanelWidth)
		}
	}
}

// packRoundedGo is packRounded element by element.
func packRoundedGo(dst []uint16, w []float32, k, cols int, order Order, ld int) {
	clear(dst)
	for i := range k {
		for n := range cols {
			at := i*ld + n
			if order == NK {
				at = n*ld + i
			}
			dst[i/2*2*PanelWidth+2*n+i%2] = half.ToBFloat16(w[at])
		}
	}
}

// packF32NK fills one float32 panel from cols rows of k values.
func packF32NK(l Level, dst []float32, w []float32, k, cols, ld int) {
	if cols < PanelWidth {
		clear(dst)
	}
	l.Transpose(dst, PanelWidth, w, ld, cols, k)
}

// packF32KN fills one float32 panel from k rows of cols values.
func packF32KN(dst []float32, w []float32, k, cols, ld int) {
	for i := range k {
		d := dst[i*PanelWidth:][:PanelWidth]
		clear(d[copy(d, w[i*ld:][:cols]):])
	}
}

// Transpose sets dst[j*ldd+i] = src[i*lds+j] for i < rows, j < cols.
func (l Level) Transpose(dst []float32, ldd int, src []float32, lds, rows, cols int) {
	if rows <= 0 || cols <= 0 {
		return
	}
	_, _ = dst[(cols-1)*ldd+rows-1], src[(rows-1)*lds+cols-1]
	i := 0
	if l.asm() {
		whole := cols &^ 7
		for ; i+8 <= rows; i += 8 {
			if whole > 0 {
				transpose8(ptr(dst, i), 4*ldd, ptr(src, i*lds), 4*lds, whole/8)
			}
			transposeGo(dst[i:], ldd, src[i*lds:], lds, 8, whole, cols)
		}
	}
	if i < rows {
		transposeGo(dst[i:], ldd, src[i*lds:], lds, rows-i, 0, cols)
	}
}

// transposeGo transposes the columns j0 to cols-1.
func transposeGo(dst []float32, ldd int, src []float32, lds, rows, j0, cols int) {
	for i := range rows {
		for j := j0; j < cols; j++ {
			dst[j*ldd+i] = src[i*lds+j]
		}
	}
}
