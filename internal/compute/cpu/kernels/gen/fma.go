package main

import "fmt"

// wideTile multiplies float32 rows with bfloat16 panels widened in registers (AVX2, FMA).
func (f *file) wideTile(name string, rows, cols int) {
	nv := cols / 8
	t := &tileLoop{
		name: name, doc: wideDoc(name, rows, cols),
		rows: rows, vectors: nv, reg: "Y", width: 32, unroll: 4, aBytes: 8, bBytes: 128,
		advance: func(n int) { f.advanceRows(rows, 8*n); f.op("ADDQ $%d, DI", 128*n) },
	}
	mask := rows*nv+rows+2 <= 16 || nv <= 2 // is there a register for it?
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
			if nv <= 2 {
				if odd == 0 {
					f.op("PREFETCHT0 b+%d(DI)", ahead)
					f.op("PREFETCHT0 b+%d(DI)", ahead+64)
				}
				for v := range nv {
					widen(v, odd, 12+v)
				}
				for r := range rows {
					f.op("VBROADCASTSS %s, Y14", aRow(r, 4*odd))
					for v := range nv {
						f.op("VFMADD231PS Y%d, Y14, Y%d", 12+v, nv*r+v)
					}
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

// wideTile512 is wideTile with AVX-512: 16 columns a vector, or 8, of which the last may be cut off anywhere.
func (f *file) wideTile512(name string, rows, cols int) {
	const b, a, mask = 24, 28, 31 // first registers: B even and odd, broadcasts of A; the upper halves
	t := tile512(cols)
	t.name, t.doc, t.rows, t.unroll, t.aBytes, t.bBytes = name, wideDoc(name, rows, cols), rows, 2, 8, 128
	t.start = func() {
		f.op("VPTERNLOGD $255, Z%d, Z%d, Z%d", mask, mask, mask)
		f.op("VPSLLD $16, Z%d, Z%d", mask, mask)
	}
	t.advance = func(n int) { f.advanceRows(rows, 8*n); f.op("ADDQ $%d, DI", 128*n) }
	t.step = func() {
		for v := range t.vectors {
			f.op("PREFETCHT0 b+%d(DI)", ahead+64*v)
			f.op("VPSLLD $16, b+%d(DI), %s%d", 64*v, t.reg, b+v)
			f.op("VPANDD b+%d(DI), %s%d, %s%d", 64*v, t.reg, mask, t.reg, b+2+v)
		}
		for odd := range 2 {
			for r := range rows {
				f.fma512(t, aRow(r, 4*odd), r, b+2*odd, a+r%3)
			}
		}
	}
	f.tile(t)
}

// tile512 is a tile of AVX-512, 16 columns a vector or 8.
func tile512(cols int) *tileLoop {
	if cols == 8 {
		return &tileLoop{vectors: 1, reg: "Y", width: 32, mask: maskK}
	}
	return &tileLoop{vectors: cols / 16, reg: "Z", width: 64, mask: maskK}
}

// fma512 adds the product of one element of A and the vectors from register b on to row r.
func (f *file) fma512(t *tileLoop, a string, r, b, scratch int) {
	if t.vectors == 1 {
		f.op("VFMADD231PS.BCST %s, %s%d, %s%d", a, t.reg, b, t.reg, r)
		return
	}
	f.op("VBROADCASTSS %s, %s%d", a, t.reg, scratch)
	for v := range t.vectors {
		f.op("VFMADD231PS %s%d, %s%d, %s%d", t.reg, b+v, t.reg, scratch, t.reg, r*t.vectors+v)
	}
}

func wideDoc(name string, rows, cols int) string {
	return name + fmt.Sprintf(` is a tile of %[1]d rows and %[2]d columns, float32 times bfloat16 pairs, for every tile:

	for k := range t.k {
		for r, j := range %[1]d, %[2]d {
			c[r][j] = fma(a[r][2*k], b[k][j][0], c[r][j])
			c[r][j] = fma(a[r][2*k+1], b[k][j][1], c[r][j])
		}
	}`, rows, cols)
}

func f32Doc(name string, rows, cols int) string {
	return name + fmt.Sprintf(` is a tile of %[1]d rows and %[2]d columns of float32, for every tile:

	for k := range t.k {
		for r, j := range %[1]d, %[2]d {
			c[r][j] = fma(a[r*lda+k*ka], b[k*ldb+j], c[r][j])
		}
	}`, rows, cols)
}

// f32Tile multiplies float32 with float32, both with free strides (AVX2, FMA). AX is the stride of A in k.
func (f *file) f32Tile(name string, rows, cols int) { f.freeTile(name, rows, cols, whole) }

// edgeTile is f32Tile where less than 8 columns exist.
func (f *file) edgeTile(name string, rows, cols int) { f.freeTile(name, rows, cols, maskYMM) }

func (f *file) freeTile(name string, rows, cols int, mask maskKind) {
	nv := cols / 8
	t := &tileLoop{
		name: name, doc: f32Doc(name, rows, cols),
		rows: rows, vectors: nv, reg: "Y", width: 32, mask: mask, unroll: 2,
		start: f.freeStrides, advance: func(int) {}, // a part of the step, as the strides are in registers
	}
	t.step = func() {
		a := rows * nv
		if nv <= 2 {
			f.fmaRow(t, 14)
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
		f.freeAdvance(rows)
	}
	f.tile(t)
}

// stripTile multiplies float32 rows with strips (AVX2, FMA).
func (f *file) stripTile(name string, rows, cols int) {
	t := &tileLoop{
		name: name, rows: rows, vectors: cols / 8, reg: "Y", width: 32, unroll: 4, aBytes: 4, bBytes: 4 * cols,
		doc: name + fmt.Sprintf(` is a tile of %[1]d rows and %[2]d columns of float32, for every tile:

	for k := range t.k {
		for r, j := range %[1]d, %[2]d {
			c[r][j] = fma(a[r*lda+k], b[k*%[2]d+j], c[r][j])
		}
	}`, rows, cols),
		advance: func(n int) { f.advanceRows(rows, 4*n); f.op("ADDQ $%d, DI", 4*cols*n) },
	}
	t.step = func() { f.fmaRow(t, 15) }
	f.tile(t)
}

// fmaRow adds the products of a column of A and a row of B, which goes to the registers from 12 on, to a tile of float32.
func (f *file) fmaRow(t *tileLoop, scratch int) {
	for v := range t.vectors {
		t.load(f, v, fmt.Sprintf("b+%d(DI)", 32*v), 12+v)
	}
	for r := range t.rows {
		f.op("VBROADCASTSS %s, Y%d", aRow(r, 0), scratch)
		for v := range t.vectors {
			f.op("VFMADD231PS Y%d, Y%d, Y%d", 12+v, scratch, r*t.vectors+v)
		}
	}
}

// freeStrides loads the strides in k.
func (f *file) freeStrides() {
	f.op("MOVQ tile_ka(R14), AX")
	f.op("MOVQ tile_ldb(R14), R11")
}

func (f *file) freeAdvance(rows int) {
	for i := 0; 3*i < rows; i++ {
		f.op("ADDQ AX, %s", aBase[i])
	}
	f.op("ADDQ R11, DI")
}

// f32Tile512 is f32Tile with AVX-512: 16 columns a vector, or 8, of which the last may be cut off anywhere.
func (f *file) f32Tile512(name string, rows, cols int) {
	const b, a = 24, 26 // first registers: B, broadcasts of A
	t := tile512(cols)
	t.name, t.doc, t.rows, t.unroll = name, f32Doc(name, rows, cols), rows, 2
	t.start, t.advance = f.freeStrides, func(int) {}
	t.step = func() {
		for v := range t.vectors {
			t.load(f, v, fmt.Sprintf("b+%d(DI)", 64*v), b+v)
		}
		for r := range rows {
			f.fma512(t, aRow(r, 0), r, b, a+r%4)
		}
		f.freeAdvance(rows)
	}
	f.tile(t)
}
