package main

import (
	"fmt"
	"strings"
)

// A tile is rows x vectors accumulators that stay in registers over the whole inner loop. The tables say which heights
// exist for which number of columns. Wide, low tiles are for few rows, where reading B in one stream is the work.
var (
	pairShapes = []shape{{1, 12, 16}, {1, 12, 32}}           // VDPBF16PS, 16 columns a vector
	wideShapes = []shape{{1, 6, 16}, {1, 3, 32}}             // FMA on bfloat16 panels, 8 columns a vector
	f32Shapes  = []shape{{1, 12, 8}, {1, 6, 16}, {1, 3, 32}} // FMA on float32 rows, 8 columns a vector
)

type shape struct{ low, high, cols int }

// tiles is a file of the tiles of all shapes.
func tiles(name string, shapes []shape, tile func(f *file, rows, cols int)) *file {
	f := &file{name: name}
	for _, s := range shapes {
		for r := s.low; r <= s.high; r++ {
			tile(f, r, s.cols)
		}
	}
	return f
}

// Registers of all tiles. Rows of A are addressed from every third row with index R9.
//
//	DX C   R8 its stride   SI R10 R12 R15 rows 0 3 6 9 of A   R9 their stride
//	DI B   R11 stride of float32 B between k    CX k   BX tiles left   R14 the tile   R13 scratch
var aBase = []string{"SI", "R10", "R12", "R15"}

// aRow is row r of A, off bytes after the offset of a step.
func aRow(r, off int) string {
	s := fmt.Sprintf("a+%d(%s)", off, aBase[r/3])
	if r%3 > 0 {
		s += fmt.Sprintf("(R9*%d)", r%3)
	}
	return s
}

// tileLoop is what differs between the kinds of tiles. step writes one step of k, with A and B at the offsets a and b
// of a macro; advance moves on by n steps.
type tileLoop struct {
	name, doc      string
	rows, vectors  int
	reg            string // Y or Z
	width          int    // bytes of a vector
	unroll         int
	aBytes, bBytes int // of a step
	step           func()
	advance        func(n int)
	start          func() // after the pointers are set
}

func (f *file) tile(t tileLoop) {
	step := strings.ToUpper(t.name) + "_STEP"
	f.macro(step+"(a, b)", t.step)
	f.begin(t.name, "", t.doc, "t *tile")
	f.op("MOVQ t+0(FP), R14")
	f.op("MOVQ tile_lda(R14), R9")
	f.op("MOVQ tile_ldc(R14), R8")
	f.op("MOVQ tile_tiles(R14), BX")
	f.op("MOVQ tile_c(R14), DX")
	f.label("tile")
	f.op("MOVQ tile_a(R14), SI")
	f.op("ADDQ tile_skip(R14), SI")
	if t.rows > 3 {
		f.op("LEAQ (R9)(R9*2), R13")
		for i := 1; 3*i < t.rows; i++ {
			f.op("LEAQ (%s)(R13*1), %s", aBase[i-1], aBase[i])
		}
	}
	f.op("MOVQ tile_b(R14), DI")
	if t.start != nil {
		t.start()
	}
	f.op("MOVQ DX, R13")
	f.op("CMPQ tile_acc(R14), $0")
	f.op("JEQ  zero")
	for r := range t.rows {
		for v := range t.vectors {
			f.op("VMOVUPS %d(R13), %s%d", v*t.width, t.reg, r*t.vectors+v)
		}
		if r+1 < t.rows {
			f.op("ADDQ R8, R13")
		}
	}
	f.op("JMP  begin")
	f.label("zero")
	for r := range t.rows {
		f.op("PREFETCHT0 (R13)")
		for v := range t.vectors {
			n := r*t.vectors + v
			if n >= 16 {
				f.op("VPXORD Z%d, Z%d, Z%d", n, n, n)
			} else {
				f.op("VXORPS Y%d, Y%d, Y%d", n, n, n)
			}
		}
		if r+1 < t.rows {
			f.op("ADDQ R8, R13")
		}
	}
	f.label("begin")
	f.op("MOVQ tile_k(R14), CX")
	f.op("SUBQ $%d, CX", t.unroll)
	f.op("JLT  rest")
	f.op("PCALIGN $32")
	f.label("loop")
	for i := range t.unroll {
		f.op("%s(%d, %d)", step, i*t.aBytes, i*t.bBytes)
	}
	t.advance(t.unroll)
	f.op("SUBQ $%d, CX", t.unroll)
	f.op("JGE  loop")
	f.label("rest")
	f.op("ADDQ $%d, CX", t.unroll)
	f.op("JEQ  store")
	f.label("single")
	f.op("%s(0, 0)", step)
	t.advance(1)
	f.op("DECQ CX")
	f.op("JNE  single")
	f.label("store")
	for r := range t.rows {
		for v := range t.vectors {
			f.op("VMOVUPS %s%d, %d(DX)", t.reg, r*t.vectors+v, v*t.width)
		}
		f.op("ADDQ R8, DX")
	}
	f.op("IMUL3Q $%d, R9, R13", t.rows)
	f.op("ADDQ R13, tile_skip(R14)")
	f.op("DECQ BX")
	f.op("JNE  tile")
	f.end()
}

// pairTile multiplies pairs of bfloat16 (AVX-512 BF16).
func (f *file) pairTile(rows, cols int) {
	nz := cols / 16
	f.tile(tileLoop{
		name: fmt.Sprintf("dp%dx%d", rows, cols),
		doc: fmt.Sprintf(`dp%[1]dx%[2]d is a tile of %[1]d rows and %[2]d columns of bfloat16 pairs, for every tile:

	for k := range t.k {
		for r, j := range %[1]d, %[2]d {
			c[r][j] += a[r][2*k+1]*b[k][j][1] + a[r][2*k]*b[k][j][0]
		}
	}`, rows, cols),
		rows: rows, vectors: nz, reg: "Z", width: 64, unroll: 4, aBytes: 4, bBytes: 128,
		step: func() {
			for v := range nz {
				f.op("VMOVUPS b+%d(DI), Z%d", 64*v, 24+v)
			}
			for r := range rows {
				a := 28 + r%4
				f.op("VPBROADCASTD %s, Z%d", aRow(r, 0), a)
				for v := range nz {
					f.vdpbf16ps(24+v, a, r*nz+v)
				}
			}
		},
		advance: func(n int) { f.advanceRows(rows, 4*n); f.op("ADDQ $%d, DI", 128*n) },
	})
}

// ahead is how many bytes before their use panels are fetched.
const ahead = 1024

func (f *file) advanceRows(rows, bytes int) {
	for i := 0; 3*i < rows; i++ {
		f.op("ADDQ $%d, %s", bytes, aBase[i])
	}
}

// wideTile multiplies float32 rows with bfloat16 panels widened in registers (AVX2, FMA).
func (f *file) wideTile(rows, cols int) {
	nv := cols / 8
	t := tileLoop{
		name: fmt.Sprintf("wide%dx%d", rows, cols),
		doc: fmt.Sprintf(`wide%[1]dx%[2]d is a tile of %[1]d rows and %[2]d columns, float32 times bfloat16 pairs, for every tile:

	for k := range t.k {
		for r, j := range %[1]d, %[2]d {
			c[r][j] = fma(a[r][2*k], b[k][j][0], c[r][j])
			c[r][j] = fma(a[r][2*k+1], b[k][j][1], c[r][j])
		}
	}`, rows, cols),
		rows: rows, vectors: nv, reg: "Y", width: 32, unroll: 4, aBytes: 8, bBytes: 128,
		advance: func(n int) { f.advanceRows(rows, 8*n); f.op("ADDQ $%d, DI", 128*n) },
	}
	mask := rows*nv+rows+2 <= 16 || nv == 2 // is there a register for it?
	if mask {
		t.start = func() {
			f.op("VPCMPEQD Y15, Y15, Y15")
			f.op("VPSLLD $16, Y15, Y15")
		}
	}
	// widen puts the even or the odd elements of a vector of pairs into a register.
	widen := func(v, odd, reg int) {
		switch b := fmt.Sprintf("b+%d(DI)", 32*v); {
		case odd == 0:
			f.op("VMOVUPS %s, Y%d", b, reg)
			f.op("VPSLLD $16, Y%d, Y%d", reg, reg)
		case mask:
			f.op("VPAND %s, Y15, Y%d", b, reg)
		default:
			f.op("VMOVUPS %s, Y%d", b, reg)
			f.op("VPSRLD $16, Y%d, Y%d", reg, reg)
			f.op("VPSLLD $16, Y%d, Y%d", reg, reg)
		}
	}
	t.step = func() {
		for odd := range 2 {
			if nv == 2 {
				if odd == 0 {
					f.op("PREFETCHT0 b+%d(DI)", ahead)
					f.op("PREFETCHT0 b+%d(DI)", ahead+64)
				}
				widen(0, odd, 12)
				widen(1, odd, 13)
				for r := range rows {
					f.op("VBROADCASTSS %s, Y14", aRow(r, 4*odd))
					f.op("VFMADD231PS Y12, Y14, Y%d", 2*r)
					f.op("VFMADD231PS Y13, Y14, Y%d", 2*r+1)
				}
				continue
			}
			a := rows * nv
			for r := range rows {
				f.op("VBROADCASTSS %s, Y%d", aRow(r, 4*odd), a+r)
			}
			b := []int{a + rows, a + rows}
			if b[0]+1 < 15 {
				b[1]++
			}
			for v := range nv {
				if odd == 0 && v%2 == 0 {
					f.op("PREFETCHT0 b+%d(DI)", ahead+32*v)
				}
				widen(v, odd, b[v%2])
				for r := range rows {
					f.op("VFMADD231PS Y%d, Y%d, Y%d", b[v%2], a+r, r*nv+v)
				}
			}
		}
	}
	f.tile(t)
}

// f32Tile multiplies float32 with float32, both with free strides (AVX2, FMA). AX is the stride of A in k.
func (f *file) f32Tile(rows, cols int) {
	nv := cols / 8
	f.tile(tileLoop{
		name: fmt.Sprintf("f32r%dx%d", rows, cols),
		doc: fmt.Sprintf(`f32r%[1]dx%[2]d is a tile of %[1]d rows and %[2]d columns of float32, for every tile:

	for k := range t.k {
		for r, j := range %[1]d, %[2]d {
			c[r][j] = fma(a[r*lda+k*ka], b[k*ldb+j], c[r][j])
		}
	}`, rows, cols),
		rows: rows, vectors: nv, reg: "Y", width: 32, unroll: 2,
		start: func() {
			f.op("MOVQ tile_ka(R14), AX")
			f.op("MOVQ tile_ldb(R14), R11")
		},
		advance: func(int) {}, // a part of the step, as the strides are in registers
		step: func() {
			a := rows * nv
			if nv <= 2 {
				for v := range nv {
					f.op("VMOVUPS b+%d(DI), Y%d", 32*v, 12+v)
				}
				for r := range rows {
					f.op("VBROADCASTSS %s, Y%d", aRow(r, 0), 14)
					for v := range nv {
						f.op("VFMADD231PS Y%d, Y%d, Y%d", 12+v, 14, r*nv+v)
					}
				}
			} else {
				for r := range rows {
					f.op("VBROADCASTSS %s, Y%d", aRow(r, 0), a+r)
				}
				for v := range nv {
					f.op("VMOVUPS b+%d(DI), Y15", 32*v)
					for r := range rows {
						f.op("VFMADD231PS Y15, Y%d, Y%d", a+r, r*nv+v)
					}
				}
			}
			for i := 0; 3*i < rows; i++ {
				f.op("ADDQ AX, %s", aBase[i])
			}
			f.op("ADDQ R11, DI")
		},
	})
}

// tileDispatch is the Go file that calls a tile by its height and width.
func tileDispatch() []byte {
	var b strings.Builder
	b.WriteString(header + "//go:build amd64 && !noasm\n\npackage kernels\n")
	for _, k := range []struct {
		kind   string
		shapes []shape
	}{{"DP", pairShapes}, {"Wide", wideShapes}, {"F32r", f32Shapes}} {
		fmt.Fprintf(&b, "\n// run%[1]s calls the tile of that many rows and columns.\nfunc run%[1]s(t *tile, rows, cols int) {\nswitch cols<<8 | rows {\n", k.kind)
		for _, s := range k.shapes {
			for r := s.low; r <= s.high; r++ {
				fmt.Fprintf(&b, "case %d<<8 | %d:\n%s%dx%d(t)\n", s.cols, r, strings.ToLower(k.kind), r, s.cols)
			}
		}
		b.WriteString("default:\npanic(\"kernels: no such tile\")\n}\n}\n")
	}
	return []byte(b.String())
}
