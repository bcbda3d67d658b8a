package main

import (
	"fmt"
	"strings"
)

// A tile is rows x vectors accumulators that stay in registers over the whole inner loop. The table says which kinds
// exist, in which heights for which number of columns. Wide, low tiles are for few rows, where reading B in one stream
// is the work.
var tileKinds = []tileKind{
	{"pairTile", "dp", "VDPBF16PS on pairs", []shape{{1, 12, 8}, {1, 12, 16}, {1, 12, 32}}, (*file).pairTile},
	{"wideTile", "wide", "FMA on bfloat16 panels", []shape{{1, 12, 8}, {1, 6, 16}, {1, 3, 32}}, (*file).wideTile},
	{"wideTile512", "widez", "the same with AVX-512", []shape{{1, 12, 8}, {1, 12, 16}, {1, 12, 32}}, (*file).wideTile512},
	{"float32Tile", "f32r", "FMA on float32 rows", []shape{{1, 12, 8}, {1, 6, 16}, {1, 3, 32}}, (*file).f32Tile},
	{"edgeTile", "f32e", "the same, where less than 8 columns exist", []shape{{1, 12, 8}}, (*file).edgeTile},
	{"stripTile", "f32s", "FMA on strips", []shape{{1, 4, 24}}, (*file).stripTile},
	{"float32Tile512", "f32z", "the same with AVX-512", []shape{{1, 12, 8}, {1, 12, 16}, {1, 12, 32}}, (*file).f32Tile512},
}

// tileKind is a kind of tiles: its constant in the package, the prefix of its functions, and what writes one of them.
type tileKind struct {
	kind, prefix, about string
	shapes              []shape
	write               func(f *file, name string, rows, cols int)
}

type shape struct{ low, high, cols int }

// tileFiles are the files of kinds of tiles.
func tileFiles(arch string, kinds []tileKind) []*file {
	var files []*file
	for _, k := range kinds {
		f := &file{name: "tiles_" + k.prefix, arch: arch}
		for _, s := range k.shapes {
			for r := s.low; r <= s.high; r++ {
				k.write(f, fmt.Sprintf("%s%dx%d", k.prefix, r, s.cols), r, s.cols)
			}
		}
		files = append(files, f)
	}
	return files
}

// tileDispatch is the Go file that calls a tile by its kind, width and height.
func tileDispatch(arch string, kinds []tileKind, files []*file) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `%s//go:build %s && !noasm

package kernels

const noTile = "kernels: no such tile"

// run runs t.tiles tiles of that many rows and columns.
func (t *tile) run(rows, cols int) {
	switch t.kind {
`, header, arch)
	for _, k := range kinds {
		fmt.Fprintf(&b, "case %s: // %s\nt.%sRun(rows, cols)\n", k.kind, k.about, k.kind)
	}
	b.WriteString("default:\npanic(noTile)\n}\n}\n")
	for _, k := range kinds {
		fmt.Fprintf(&b, "\nfunc (t *tile) %sRun(rows, cols int) {\nswitch cols {\n", k.kind)
		for _, s := range k.shapes {
			fmt.Fprintf(&b, "case %d:\nswitch rows {\n", s.cols)
			for r := s.low; r <= s.high; r++ {
				fmt.Fprintf(&b, "case %d:\n%s%dx%d(t)\n", r, k.prefix, r, s.cols)
			}
			b.WriteString("default:\npanic(noTile)\n}\n")
		}
		b.WriteString("default:\npanic(noTile)\n}\n}\n\n")
	}
	for _, f := range files {
		fmt.Fprintf(&b, "// The tiles of %s_%s.s, where the Go loop of each stands.\n\n", f.name, arch)
		for _, fn := range f.fns {
			fmt.Fprintf(&b, "//go:noescape\n%s\n\n", fn.signature())
		}
	}
	return []byte(b.String())
}

// noTiles is the Go file of builds that have none.
func noTiles() []byte {
	return []byte(header + "//go:build !amd64 && !arm64 || noasm\n\npackage kernels\n\nfunc (t *tile) run(rows, cols int) { panic(noAssembly) }\n")
}

// Registers of all tiles. Rows of A are addressed from every third row with index R9.
//
//	DX C   R8 its stride   SI R10 R12 R15 rows 0 3 6 9 of A   R9 their stride
//	DI B   R11 stride of float32 B between k    CX k   BX tiles left   R14 the tile   R13 scratch
//
// Where the last vector of a row may be cut off, K1 or Y15 says which of its columns exist.
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
	mask           maskKind
	start          func() // after the pointers are set
}

// maskKind says how a tile passes over columns that do not exist.
type maskKind int

const (
	whole   maskKind = iota // all exist
	maskYMM                 // AVX2: Y15
	maskK                   // AVX-512: K1
)

// load and store move vector v of a row of C or of float32 B.
func (t *tileLoop) load(f *file, v int, from string, reg int) {
	switch {
	case v+1 < t.vectors || t.mask == whole:
		f.op("VMOVUPS %s, %s%d", from, t.reg, reg)
	case t.mask == maskYMM:
		f.op("VMASKMOVPS %s, Y15, Y%d", from, reg)
	default:
		f.op("VMOVUPS.Z %s, K1, %s%d", from, t.reg, reg)
	}
}

func (t *tileLoop) store(f *file, v, reg int, to string) {
	switch {
	case v+1 < t.vectors || t.mask == whole:
		f.op("VMOVUPS %s%d, %s", t.reg, reg, to)
	case t.mask == maskYMM:
		f.op("VMASKMOVPS Y%d, Y15, %s", reg, to)
	default:
		f.op("VMOVUPS %s%d, K1, %s", t.reg, reg, to)
	}
}

// setMask makes the mask of t.last columns.
func (t *tileLoop) setMask(f *file) {
	switch t.mask {
	case maskYMM:
		f.needMask()
		f.op("LEAQ restMask<>+32(SB), AX")
		f.op("MOVQ tile_last(R14), CX")
		f.op("SHLQ $2, CX")
		f.op("SUBQ CX, AX")
		f.op("VMOVDQU (AX), Y15")
	case maskK:
		f.op("MOVQ  tile_last(R14), CX")
		f.op("MOVL  $-1, AX")
		f.op("BZHIL CX, AX, AX")
		f.op("KMOVW AX, K1")
	}
}

func (f *file) tile(t *tileLoop) {
	step := strings.ToUpper(t.name) + "_STEP"
	f.macro(step+"(a, b)", t.step)
	f.begin(t.name, "", t.doc, "t *tile")
	f.op("MOVQ t+0(FP), R14")
	f.op("MOVQ tile_lda(R14), R9")
	f.op("MOVQ tile_ldc(R14), R8")
	f.op("MOVQ tile_tiles(R14), BX")
	f.op("MOVQ tile_c(R14), DX")
	t.setMask(f)
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
			t.load(f, v, fmt.Sprintf("%d(R13)", v*t.width), r*t.vectors+v)
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
			t.store(f, v, r*t.vectors+v, fmt.Sprintf("%d(DX)", v*t.width))
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
func (f *file) pairTile(name string, rows, cols int) {
	t := tile512(cols)
	t.name, t.rows, t.unroll, t.aBytes, t.bBytes = name, rows, 4, 4, 128
	t.doc = name + fmt.Sprintf(` is a tile of %[1]d rows and %[2]d columns of bfloat16 pairs, for every tile:

	for k := range t.k {
		for r, j := range %[1]d, %[2]d {
			c[r][j] += a[r][2*k+1]*b[k][j][1] + a[r][2*k]*b[k][j][0]
		}
	}`, rows, cols)
	t.advance = func(n int) { f.advanceRows(rows, 4*n); f.op("ADDQ $%d, DI", 128*n) }
	t.step = func() {
		for v := range t.vectors {
			f.op("VMOVUPS b+%d(DI), %s%d", 64*v, t.reg, 24+v)
		}
		for r := range rows {
			a := 28 + r%4
			f.op("VPBROADCASTD %s, %s%d", aRow(r, 0), t.reg, a)
			for v := range t.vectors {
				if t.reg == "Y" {
					f.vdpbf16ps256(24, a, r)
				} else {
					f.vdpbf16ps(24+v, a, r*t.vectors+v)
				}
			}
		}
	}
	f.tile(t)
}

// ahead is how many bytes before their use panels are fetched.
const ahead = 1024

func (f *file) advanceRows(rows, bytes int) {
	for i := 0; 3*i < rows; i++ {
		f.op("ADDQ $%d, %s", bytes, aBase[i])
	}
}
