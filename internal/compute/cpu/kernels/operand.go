package kernels

import (
	"fmt"
	"unsafe"
)

// Operand is a left-hand matrix (rows, k) prepared for products: contiguous rows, float32 or, where the CPU multiplies
// pairs of bfloat16, bfloat16. Rows are set once and used against many right-hand sides.
type Operand struct {
	arith   Arith
	rows, k int
	stride  int // elements; an odd number of cache lines, so that the rows of a tile do not share cache sets
	f       []float32
	h       []uint16
}

// operandStride is the distance of the rows, in elements of size bytes.
func operandStride(ar Arith, k int) (stride, size int) {
	size = 4
	if ar.pairs() {
		size = 2
	}
	lines := ((k+1)*size+cacheLine-1)/cacheLine | 1
	return lines * cacheLine / size, size
}

// OperandBytes is the memory of a (rows, k) operand.
func OperandBytes(ar Arith, rows, k int) int64 {
	stride, size := operandStride(ar, k)
	return int64(rows) * int64(stride) * int64(size)
}

// Reset makes o a (rows, k) operand whose rows are undefined until they are set. Memory is reused where it suffices.
func (o *Operand) Reset(ar Arith, rows, k int) {
	o.Shape(ar, rows, k)
	if n := rows * o.stride; ar.pairs() {
		o.h = resized(o.h, n)
	} else {
		o.f = resized(o.f, n)
	}
}

// Shape makes o a (rows, k) operand without memory, which only Rows and K may be asked of.
func (o *Operand) Shape(ar Arith, rows, k int) {
	o.arith, o.rows, o.k = ar, rows, k
	o.stride, _ = operandStride(ar, k)
}

// Rows and K are the sizes of the matrix.
func (o *Operand) Rows() int { return o.rows }

// K is the length of a row.
func (o *Operand) K() int { return o.k }

// SetRow sets row r from k float32 values, rounded to bfloat16 where the arithmetic asks for it. Different rows may be
// set at the same time.
func (o *Operand) SetRow(r int, src []float32) {
	if r < 0 || r >= o.rows || len(src) != o.k {
		panic(fmt.Sprintf("kernels: row %d of %d values in an operand of %dx%d", r, len(src), o.rows, o.k))
	}
	if o.arith.pairs() {
		dst := o.h[r*o.stride:][:o.k+o.k&1]
		o.arith.Level.Narrow(dst[:o.k], src)
		if o.k&1 == 1 {
			dst[o.k] = 0
		}
		return
	}
	dst := o.f[r*o.stride:][:o.k+o.k&1]
	if o.arith.BF16 {
		o.arith.Level.RoundBF16(dst[:o.k], src)
	} else {
		copy(dst, src)
	}
	if o.k&1 == 1 {
		dst[o.k] = 0
	}
}

// SetRows sets the rows r to r+n-1 from src, whose rows are ld elements apart.
func (o *Operand) SetRows(r, n int, src []float32, ld int) {
	for i := range n {
		o.SetRow(r+i, src[i*ld:][:o.k])
	}
}

// at is the address of element k of row r.
func (o *Operand) at(r, k int) unsafe.Pointer {
	if o.arith.pairs() {
		return ptr(o.h, r*o.stride+k)
	}
	return ptr(o.f, r*o.stride+k)
}

// rowBytes is the distance of two rows.
func (o *Operand) rowBytes() int {
	if o.arith.pairs() {
		return 2 * o.stride
	}
	return 4 * o.stride
}
