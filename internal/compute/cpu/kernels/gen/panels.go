package main

import "fmt"

// panels holds what puts matrices into panels: transposition of 32-bit elements and interleaving of 16-bit ones.
func panels() *file {
	f := &file{name: "panels"}

	fn := f.begin("transpose8", "", `
transpose8 transposes 8 rows of 8*blocks 32-bit elements; strides are in bytes:

	for j := range 8 * blocks {
		for i := range 8 {
			dst[j*ldd/4+i] = src[i*lds/4+j]
		}
	}`, "dst unsafe.Pointer", "ldd int", "src unsafe.Pointer", "lds int", "blocks int")
	f.load(fn, "dst", "DI", "ldd", "R8", "src", "SI", "lds", "R9", "blocks", "CX")
	f.op("LEAQ (R9)(R9*2), R10")
	f.op("LEAQ (R8)(R8*2), R11")
	f.op("LEAQ (SI)(R9*4), BX") // rows 4..7
	f.label("loop")
	row := []string{"(%s)", "(%s)(R9*1)", "(%s)(R9*2)", "(%s)(R10*1)"}
	at := func(pattern, base string, off int) string {
		s := ""
		if off > 0 {
			s = "16"
		}
		return s + fmt.Sprintf(pattern, base)
	}
	// Y0..Y3: columns 0..3 of rows i and i+4; Y4..Y7: columns 4..7.
	for h := range 2 {
		for i := range 4 {
			f.op("VMOVUPS %s, X%d", at(row[i], "SI", h), 4*h+i)
			f.op("VINSERTF128 $1, %s, Y%d, Y%d", at(row[i], "BX", h), 4*h+i, 4*h+i)
		}
	}
	for h := range 2 {
		y := 4 * h
		f.op("VUNPCKLPS Y%d, Y%d, Y8", y+1, y)
		f.op("VUNPCKHPS Y%d, Y%d, Y9", y+1, y)
		f.op("VUNPCKLPS Y%d, Y%d, Y10", y+3, y+2)
		f.op("VUNPCKHPS Y%d, Y%d, Y11", y+3, y+2)
		f.op("VUNPCKLPD Y10, Y8, Y12")
		f.op("VUNPCKHPD Y10, Y8, Y13")
		f.op("VUNPCKLPD Y11, Y9, Y14")
		f.op("VUNPCKHPD Y11, Y9, Y15")
		f.op("VMOVUPS Y12, (DI)")
		f.op("VMOVUPS Y13, (DI)(R8*1)")
		f.op("VMOVUPS Y14, (DI)(R8*2)")
		f.op("VMOVUPS Y15, (DI)(R11*1)")
		f.op("LEAQ (DI)(R8*4), DI")
	}
	f.op("ADDQ $32, SI")
	f.op("ADDQ $32, BX")
	f.op("DECQ CX")
	f.op("JNE  loop")
	f.end()

	fn = f.begin("interleave32", "", `
interleave32 makes pairs of 32 columns of 16-bit elements from two rows at a time; lds is the stride of a row in bytes:

	for k := range pairs {
		for j := range 32 {
			dst[64*k+2*j], dst[64*k+2*j+1] = src[2*k*lds/2+j], src[(2*k+1)*lds/2+j]
		}
	}`, "dst unsafe.Pointer", "src unsafe.Pointer", "lds int", "pairs int")
	f.load(fn, "dst", "DI", "src", "SI", "lds", "R9", "pairs", "CX")
	f.label("loop")
	for h := range 2 {
		f.op("VMOVDQU %d(SI), Y0", 32*h)
		f.op("VMOVDQU %d(SI)(R9*1), Y1", 32*h)
		f.op("VPUNPCKLWD Y1, Y0, Y2")
		f.op("VPUNPCKHWD Y1, Y0, Y3")
		f.op("VPERM2I128 $0x20, Y3, Y2, Y4")
		f.op("VPERM2I128 $0x31, Y3, Y2, Y5")
		f.op("VMOVDQU Y4, %d(DI)", 64*h)
		f.op("VMOVDQU Y5, %d(DI)", 64*h+32)
	}
	f.op("LEAQ (SI)(R9*2), SI")
	f.op("ADDQ $128, DI")
	f.op("DECQ CX")
	f.op("JNE  loop")
	f.end()

	fn = f.begin("gather16", "", `
gather16 copies 16 columns of k rows, lds bytes apart, into consecutive rows of 16:

	for i := range k {
		copy(dst[16*i:16*i+16], src[i*lds/4:])
	}`, "dst *float32", "src *float32", "lds int", "k int")
	f.load(fn, "dst", "DI", "src", "SI", "lds", "R9", "k", "CX")
	f.label("loop")
	f.op("VMOVUPS (SI), Y0")
	f.op("VMOVUPS 32(SI), Y1")
	f.op("VMOVUPS Y0, (DI)")
	f.op("VMOVUPS Y1, 32(DI)")
	f.op("ADDQ R9, SI")
	f.op("ADDQ $64, DI")
	f.op("DECQ CX")
	f.op("JNE  loop")
	f.end()

	fn = f.begin("widenPairs", "", `
widenPairs makes float32 of pairs of rows of 24 columns of bfloat16:

	for i := range pairs {
		for j := range 24 {
			dst[48*i+j], dst[48*i+24+j] = src[48*i+2*j], src[48*i+2*j+1]
		}
	}`, "dst *float32", "src *uint16", "pairs int")
	f.load(fn, "dst", "DI", "src", "SI", "pairs", "CX")
	f.op("VPCMPEQD Y15, Y15, Y15")
	f.op("VPSLLD $16, Y15, Y15")
	f.label("loop")
	for v := range 3 {
		f.op("VMOVDQU %d(SI), Y%d", 32*v, v)
		f.op("VPAND Y%d, Y15, Y%d", v, 4+v)
		f.op("VPSLLD $16, Y%d, Y%d", v, v)
		f.op("VMOVUPS Y%d, %d(DI)", v, 32*v)
		f.op("VMOVUPS Y%d, %d(DI)", 4+v, 96+32*v)
	}
	f.op("ADDQ $96, SI")
	f.op("ADDQ $192, DI")
	f.op("DECQ CX")
	f.op("JNE  loop")
	f.end()

	fn = f.begin("widenRows", "", `
widenRows makes float32 of 24 columns of k rows of bfloat16, lds bytes apart:

	for i := range k {
		for j := range 24 {
			dst[24*i+j] = src[i*lds/2+j]
		}
	}`, "dst *float32", "src unsafe.Pointer", "lds int", "k int")
	f.load(fn, "dst", "DI", "src", "SI", "lds", "R9", "k", "CX")
	f.label("loop")
	for v := range 3 {
		f.widen(v)
	}
	f.op("ADDQ R9, SI")
	f.op("ADDQ $96, DI")
	f.op("DECQ CX")
	f.op("JNE  loop")
	f.end()

	fn = f.begin("prefetchRows", "", `
prefetchRows asks for the first lines cache lines of some rows, lds bytes apart. It may go past the end of memory.`, "src unsafe.Pointer", "lds int", "rows int", "lines int")
	f.load(fn, "src", "SI", "lds", "R9", "rows", "CX", "lines", "DX")
	f.label("loop")
	f.op("MOVQ SI, DI")
	f.op("MOVQ DX, BX")
	f.label("line")
	f.op("PREFETCHT0 (DI)")
	f.op("ADDQ $64, DI")
	f.op("DECQ BX")
	f.op("JNE  line")
	f.op("ADDQ R9, SI")
	f.op("DECQ CX")
	f.op("JNE  loop")
	f.end()
	return f
}
