package main

import "fmt"

// The tiles of arm64. NEON has 4 columns a vector and multiplies by one element of another, so A is not broadcast. Wide,
// low tiles are for few rows.
var neonKinds = []tileKind{
	{"float32TileNEON", "neon", "FMA on float32 rows", []shape{{1, 8, 8}, {1, 3, 32}}, (*file).neonTile},
	{"wideTileNEON", "neonwide", "FMA on bfloat16 panels", []shape{{1, 8, 8}, {1, 3, 32}}, (*file).neonWideTile},
}

// Registers of the tiles: C from V0 on, then one of A for every row; B and what is made of it follow.
//
//	R0 the tile   R1 stride of A   R2 stride of C   R3 tiles left   R4 C   R5 B   R6 stride of B   R7 k
//	R8 offset of a column of A   R9 their stride   R10-R17 rows of A   R19 scratch   R20 bytes of A skipped   R21 scratch
const neonRows = 10

// neonLoop is what differs between the two kinds.
type neonLoop struct {
	name, doc     string
	rows, vectors int
	start         func() // once
	step          func() // one step of k
}

func (f *file) neon(t neonLoop) {
	f.begin(t.name, "", t.doc, "t *tile")
	f.op("MOVD t+0(FP), R0")
	for i, field := range []string{"lda", "ldc", "tiles", "c"} {
		f.op("MOVD tile_%s(R0), R%d", field, 1+i)
	}
	t.start()
	f.label("tile")
	f.op("MOVD tile_a(R0), R%d", neonRows)
	f.op("MOVD tile_skip(R0), R20")
	f.op("ADD  R20, R%d", neonRows)
	for r := 1; r < t.rows; r++ {
		f.op("ADD  R1, R%d, R%d", neonRows+r-1, neonRows+r)
	}
	f.op("MOVD tile_b(R0), R5")
	f.op("MOVD $0, R8")
	f.op("MOVD tile_acc(R0), R21")
	f.op("CBZ  R21, zero")
	f.op("MOVD R4, R21")
	f.neonC(t, func(registers string) { f.op("VLD1.P 32(R19), %s", registers) }, "R21")
	f.op("B    begin")
	f.label("zero")
	for i := range t.rows * t.vectors {
		f.op("VEOR V%d.B16, V%d.B16, V%d.B16", i, i, i)
	}
	f.label("begin")
	f.op("MOVD tile_k(R0), R7")
	f.op("PCALIGN $16")
	f.label("loop")
	t.step()
	f.op("SUBS $1, R7, R7")
	f.op("BNE  loop")
	f.neonC(t, func(registers string) { f.op("VST1.P %s, 32(R19)", registers) }, "R4")
	f.op("MOVD $%d, R21", t.rows)
	f.op("MADD R1, R20, R21, R20")
	f.op("MOVD R20, tile_skip(R0)")
	f.op("SUBS $1, R3, R3")
	f.op("BNE  tile")
	f.op("RET")
}

// neonC moves C row by row and base to the row below.
func (f *file) neonC(t neonLoop, move func(registers string), base string) {
	for r := range t.rows {
		f.op("MOVD %s, R19", base)
		for v := 0; v < t.vectors; v += 2 {
			n := r*t.vectors + v
			move(fmt.Sprintf("[V%d.S4, V%d.S4]", n, n+1))
		}
		f.op("ADD  R2, %s", base)
	}
}

// neonTile multiplies float32 with float32, both with free strides.
func (f *file) neonTile(name string, rows, cols int) {
	nv := cols / 4
	a, b := rows*nv, rows*nv+rows
	f.neon(neonLoop{
		name: name, doc: f32Doc(name, rows, cols), rows: rows, vectors: nv,
		start: func() {
			f.op("MOVD tile_ldb(R0), R6")
			f.op("MOVD tile_ka(R0), R9")
		},
		step: func() {
			for r := range rows {
				f.op("FMOVS (R%d)(R8), F%d", neonRows+r, a+r)
			}
			f.op("ADD  R9, R8")
			f.op("MOVD R5, R19")
			for v := 0; v < nv; v += 2 {
				f.op("VLD1.P 32(R19), [V%d.S4, V%d.S4]", b, b+1)
				for r := range rows {
					f.fmla(r*nv+v, b, a+r, 0)
					f.fmla(r*nv+v+1, b+1, a+r, 0)
				}
			}
			f.op("ADD  R6, R5")
		},
	})
}

// neonWideTile multiplies float32 rows with bfloat16 panels widened in registers.
func (f *file) neonWideTile(name string, rows, cols int) {
	nv := cols / 4
	a, b := rows*nv, rows*nv+rows
	const mask = 31 // the upper halves
	f.neon(neonLoop{
		name: name, doc: wideDoc(name, rows, cols), rows: rows, vectors: nv,
		start: func() {
			f.op("VMOVI $255, V%d.B16", mask)
			f.op("VSHL $16, V%d.S4, V%d.S4", mask, mask)
		},
		step: func() {
			for r := range rows {
				f.op("FMOVD.P 8(R%d), F%d", neonRows+r, a+r)
			}
			f.op("MOVD R5, R19")
			for v := range nv {
				f.op("VLD1.P 16(R19), [V%d.S4]", b+1)
				f.op("VSHL $16, V%d.S4, V%d.S4", b+1, b)
				f.op("VAND V%d.B16, V%d.B16, V%d.B16", mask, b+1, b+1)
				for odd := range 2 {
					for r := range rows {
						f.fmla(r*nv+v, b+odd, a+r, odd)
					}
				}
			}
			f.op("ADD  $128, R5")
		},
	})
}

// fmla is acc[i] = fma(b[i], a[element], acc[i]) over 4 lanes, which Go's assembler does not know (Arm Architecture
// Reference Manual, C7.2, FMLA by element).
func (f *file) fmla(acc, b, a, element int) {
	word := 0x4F801000 | element&1<<21 | a<<16 | element>>1<<11 | b<<5 | acc
	f.instruction(fmt.Sprintf("FMLA_V%d_V%d_V%d_S%d", acc, b, a, element), fmt.Sprintf("WORD $0x%08x", word))
}

// neonPeak holds loops that measure the machine.
func neonPeak() *file {
	f := &file{name: "peak", arch: "arm64"}
	f.begin("peakNEON", "", `
peakNEON runs n times 16 independent FMAs of 4 float32.`, "n int")
	f.op("MOVD n+0(FP), R0")
	for i := range 32 {
		f.op("VEOR V%d.B16, V%d.B16, V%d.B16", i, i, i)
	}
	f.label("loop")
	for i := range 16 {
		f.op("VFMLA V30.S4, V31.S4, V%d.S4", i)
	}
	f.op("SUBS $1, R0, R0")
	f.op("BNE  loop")
	f.op("RET")

	f.begin("readNEON", "", `
readNEON reads n bytes, n a multiple of 512, and does nothing with them.`, "p unsafe.Pointer", "n int")
	f.op("MOVD p+0(FP), R0")
	f.op("MOVD n+8(FP), R1")
	f.label("loop")
	for i := range 8 {
		v := i % 4 * 4
		f.op("VLD1.P 64(R0), [V%d.S4, V%d.S4, V%d.S4, V%d.S4]", v, v+1, v+2, v+3)
	}
	f.op("SUBS $512, R1, R1")
	f.op("BNE  loop")
	f.op("RET")
	return f
}
