// Package kernels holds the inner loops of the CPU backend: matrix products, elementwise functions and worker threads.
//
// Everything is a method of a Level or of data prepared for one. A kernel in assembly has a plain Go twin that is its
// specification; the twin is the Generic level, which runs on every CPU and in builds with the tag noasm. Arguments that
// do not fit together are errors of the caller and panic.
package kernels

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/cpu"
)

//go:generate go run ./gen

// Level is a set of CPU instructions.
type Level int

const (
	Generic    Level = iota // Go
	NEON                    // arm64: matrix products only, the rest is Go
	AVX2                    // x86-64-v3: AVX2, FMA
	AVX512                  // AVX2's kernels, and x86-64-v4's registers for matrix products
	AVX512BF16              // the same, and VDPBF16PS for bfloat16
)

func (l Level) String() string {
	switch l {
	case Generic:
		return "generic"
	case NEON:
		return "neon"
	case AVX2:
		return "avx2"
	case AVX512:
		return "avx512"
	case AVX512BF16:
		return "avx512bf16"
	}
	return fmt.Sprintf("Level(%d)", int(l))
}

// Best is the highest level that this build, the CPU and the operating system have.
func Best() Level {
	x := &cpu.X86
	switch {
	case hasNEON:
		return NEON
	case !hasAsm || !x.HasAVX2 || !x.HasFMA:
		return Generic
	case !x.HasBMI2 || !x.HasAVX512F || !x.HasAVX512BW || !x.HasAVX512DQ || !x.HasAVX512VL:
		return AVX2
	case !x.HasAVX512BF16:
		return AVX512
	}
	return AVX512BF16
}

// Levels are the levels that can run here, lowest first.
func Levels() []Level {
	l := []Level{Generic}
	if hasNEON {
		return append(l, NEON)
	}
	for i := AVX2; i <= Best(); i++ {
		l = append(l, i)
	}
	return l
}

// asm says whether the AVX2 kernels are to be used.
func (l Level) asm() bool { return hasAsm && l >= AVX2 }

// tiles says whether matrix products are in assembly.
func (l Level) tiles() bool { return l.asm() || hasNEON && l == NEON }

const noAssembly = "kernels: this build has no assembly"

// Arith is the arithmetic of a matrix product: sums are always float32; with BF16 the values that are multiplied are
// rounded to bfloat16 first (to nearest even), otherwise they are taken as they are.
type Arith struct {
	Level Level
	BF16  bool
}

// pairs says whether rows are stored as bfloat16 and multiplied in pairs.
func (a Arith) pairs() bool { return a.BF16 && hasAsm && a.Level >= AVX512BF16 }

// tile is the argument of the assembly products: C (rows of the tile kernel's height, tiles times) += A B.
// Pointers stay inside their matrices, as the garbage collector follows them.
type tile struct {
	c, a, b unsafe.Pointer
	k       int // steps: pairs for bfloat16 panels, single elements for float32
	tiles   int // how many tiles below one another
	acc     int // 0: C starts at zero
	last    int // columns of the last vector of a row that exist; read by kinds that can cut it off
	lda     int // bytes between rows of A
	ldb     int // bytes between rows of B; only for float32 B
	ldc     int // bytes between rows of C
	ka      int // bytes between columns of A; only for float32 B
	skip    int // bytes from a to the current tile; counted by the assembly, starts at 0
	kind    tileKind
}

// tileKind says what a tile multiplies, and with which registers.
type tileKind int

const (
	float32Tile    tileKind = iota // float32 rows of A and B with free strides
	edgeTile                       // the same at the edge of B, up to 8 columns
	float32Tile512                 // float32Tile, of AVX-512
	stripTile                      // float32 rows of A, Strips
	wideTile                       // float32 rows of A, bfloat16 panels
	wideTile512                    // the same, of AVX-512
	pairTile                       // bfloat16 rows of A and panels
	float32TileNEON
	wideTileNEON
)

// tileShape is a width of tiles.
type tileShape struct {
	cols, high int // columns, and rows of the highest tile
	from       int // the fewest columns that are worth it where more are left than the next shape has
	rows       int // in a block of more rows there are better shapes; 0: of any number
	cut        int // columns of the last vector, which may be cut off; 0: it may not
}

// tileShapes are the shapes of every kind, widest first.
var tileShapes = [...][]tileShape{
	float32Tile:    {{cols: 32, high: 3, from: 32, rows: 3}, {cols: 16, high: 6, from: 16}, {cols: 8, high: 12}},
	edgeTile:       {{cols: 8, high: 12, cut: 8}},
	stripTile:      {{cols: StripWidth, high: 4}},
	float32Tile512: {{cols: 32, high: 12, from: 25, cut: 16}, {cols: 16, high: 12, from: 9, cut: 16}, {cols: 8, high: 12, cut: 8}},
	wideTile:       {{cols: 32, high: 3, from: 17, rows: 3}, {cols: 16, high: 6, from: 9}, {cols: 8, high: 12}},
	wideTile512:    {{cols: 32, high: 12, from: 25, cut: 16}, {cols: 16, high: 12, from: 9, cut: 16}, {cols: 8, high: 12, cut: 8}},
	pairTile:       {{cols: 32, high: 12, from: 25, cut: 16}, {cols: 16, high: 12, from: 9, cut: 16}, {cols: 8, high: 12, cut: 8}},

	float32TileNEON: {{cols: 32, high: 3, from: 32, rows: 3}, {cols: 8, high: 8}},
	wideTileNEON:    {{cols: 32, high: 3, from: 25, rows: 3}, {cols: 8, high: 8}},
}

// shape is that of the next tiles of a block of so many rows and columns.
func (k tileKind) shape(rows, left int) *tileShape {
	shapes := tileShapes[k]
	for i := range shapes {
		if s := &shapes[i]; left >= s.from && (s.rows == 0 || rows <= s.rows) {
			return s
		}
	}
	panic("kernels: no shape")
}

// kind is the kind of tiles that multiply float32 rows, with bfloat16 panels or with float32.
func (l Level) kind(bf16 bool) tileKind {
	switch {
	case l == NEON && bf16:
		return wideTileNEON
	case l == NEON:
		return float32TileNEON
	case l >= AVX512 && bf16:
		return wideTile512
	case l >= AVX512:
		return float32Tile512
	case bf16:
		return wideTile
	}
	return float32Tile
}
