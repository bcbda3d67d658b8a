package main

import "fmt"

// dropout holds masks from Philox4x32-10, 8 counters at a time.
func dropout() *file {
	f := &file{name: "dropout"}
	for _, kind := range []string{"Set", "Bits"} {
		f.dropoutRow(kind)
	}
	f.maskAdd()
	return f
}

// dropoutRow works in blocks of 64 elements, 8 counters of 8 lanes of 16 bits. Registers: Y0 to Y3 the words of the
// counters, Y4 to Y7 scratch, Y8 and Y9 the multipliers, Y10 threshold, Y11 scale, Y12 and Y13 keys, Y14 counter.
func (f *file) dropoutRow(kind string) {
	bits, doc := kind == "Bits", ""
	params := []string{"dst *float32", "src *float32", "blocks int", "r *Mask"}
	if bits {
		doc = "\n\nand sets bit c%8 of bits[c/8] where element c is kept."
		params = append(params, "bits *byte")
	}
	fn := f.begin("dropout"+kind, "", fmt.Sprintf(`
dropout%s works on 64*blocks elements:

	for c := range 64 * blocks {
		bits := philox([4]uint32{r.first + uint32(c/8), r.ctr[0], r.ctr[1], r.ctr[2]}, r.key)
		if lane := uint16(bits[c%%8/2] >> (16 * (c %% 2))); lane >= r.threshold {
			dst[c] = src[c] * r.scale
		} else {
			dst[c] = src[c] * 0 // but never NaN
		}
	}%s`, kind, doc), params...)
	if bits {
		f.load(fn, "bits", "DX")
	}
	f.load(fn, "dst", "DI", "src", "SI", "blocks", "CX", "r", "BX")
	m0, m1 := f.constant("philoxM0", 0xD2511F53), f.constant("philoxM1", 0xCD9E8D57)
	w0, w1 := f.constant("philoxW0", 0x9E3779B9), f.constant("philoxW1", 0xBB67AE85)
	f.op("VMOVDQU %s, Y8", m0)
	f.op("VMOVDQU %s, Y9", m1)
	f.op("VPBROADCASTD Mask_threshold(BX), Y10")
	f.op("VBROADCASTSS Mask_scale(BX), Y11")
	if !f.defined["iota"] {
		f.defined["iota"] = true
		f.words("iota", 0, 1, 2, 3, 4, 5, 6, 7)
	}
	f.op("VPBROADCASTD Mask_first(BX), Y14")
	f.op("VPADDD iota<>(SB), Y14, Y14")
	f.label("loop")
	f.op("VMOVDQU Y14, Y0")
	for i := range 3 {
		f.op("VPBROADCASTD Mask_ctr+%d(BX), Y%d", 4*i, i+1)
	}
	f.op("VPBROADCASTD Mask_key(BX), Y12")
	f.op("VPBROADCASTD Mask_key+4(BX), Y13")
	// mulhilo puts the upper words of Y(x)*Y(m) into Y(hi) and the lower words into Y(x); Y6, Y7 are scratch.
	mulhilo := func(x, m, hi int) {
		f.op("VPMULUDQ Y%d, Y%d, Y6", m, x)          // even lanes
		f.op("VPSRLQ $32, Y%d, Y%d", x, hi)          //
		f.op("VPMULUDQ Y%d, Y%d, Y7", m, hi)         // odd lanes
		f.op("VPSRLQ $32, Y6, Y%d", hi)              //
		f.op("VPBLENDD $0xAA, Y7, Y%d, Y%d", hi, hi) // upper words
		f.op("VPSLLQ $32, Y7, Y7")
		f.op("VPBLENDD $0xAA, Y7, Y6, Y%d", x) // lower words
	}
	for round := range 10 {
		mulhilo(0, 8, 4)
		mulhilo(2, 9, 5)
		// c = hi1^c1^k0, lo1, hi0^c3^k1, lo0
		f.op("VPXOR Y5, Y1, Y1")
		f.op("VPXOR Y12, Y1, Y5") // new word 0
		f.op("VPXOR Y4, Y3, Y3")
		f.op("VPXOR Y13, Y3, Y4") // new word 2
		f.op("VMOVDQU Y0, Y3")
		f.op("VMOVDQU Y2, Y1")
		f.op("VMOVDQU Y5, Y0")
		f.op("VMOVDQU Y4, Y2")
		if round < 9 {
			f.op("VPADDD %s, Y12, Y12", w0)
			f.op("VPADDD %s, Y13, Y13", w1)
		}
	}
	// Transposed, counter q's four words are the lower (q < 4) or upper half of Y(4+q%4).
	f.op("VPUNPCKLDQ Y1, Y0, Y12")
	f.op("VPUNPCKHDQ Y1, Y0, Y13")
	f.op("VPUNPCKLDQ Y3, Y2, Y0")
	f.op("VPUNPCKHDQ Y3, Y2, Y1")
	f.op("VPUNPCKLQDQ Y0, Y12, Y4")
	f.op("VPUNPCKHQDQ Y0, Y12, Y5")
	f.op("VPUNPCKLQDQ Y1, Y13, Y6")
	f.op("VPUNPCKHQDQ Y1, Y13, Y7")
	for q := range 4 {
		f.op("VPMAXUW Y10, Y%d, Y0", 4+q)
		f.op("VPCMPEQW Y0, Y%d, Y%d", 4+q, 4+q) // lane >= threshold
	}
	if bits { // packed, a pair of registers holds the bytes of counters q, q+1, q+4 and q+5
		f.op("VPACKSSWB Y5, Y4, Y0")
		f.op("VPACKSSWB Y7, Y6, Y1")
		f.op("VPMOVMSKB Y0, AX")
		f.op("VPMOVMSKB Y1, R8")
		for i, r := range []string{"AX", "R8"} {
			f.op("MOVW %s, %d(DX)", r, 2*i)
			f.op("SHRL $16, %s", r)
			f.op("MOVW %s, %d(DX)", r, 4+2*i)
		}
	}
	for q := range 4 {
		for half := range 2 {
			off := 32 * (q + 4*half)
			if half == 1 {
				f.op("VEXTRACTI128 $1, Y%d, X%d", 4+q, 4+q)
			}
			f.op("VPMOVSXWD X%d, Y1", 4+q)
			f.op("VMULPS %d(SI), Y11, Y2", off)
			f.op("VANDPS Y1, Y2, Y2")
			f.op("VMOVUPS Y2, %d(DI)", off)
		}
	}
	f.op("VPADDD %s, Y14, Y14", f.constant("eight", 8))
	f.op("ADDQ $256, SI")
	f.op("ADDQ $256, DI")
	if bits {
		f.op("ADDQ $8, DX")
	}
	f.op("DECQ CX")
	f.op("JNE  loop")
	f.end()
}

// maskAdd is the use of the bits of dropoutBits.
func (f *file) maskAdd() {
	fn := f.begin("maskAdd", "", `
maskAdd is dst[c] += src[c]*scale of the c < 8*n whose bit c%8 in bits[c/8] is set.`, "dst *float32", "src *float32", "bits *byte", "scale float32", "n int")
	f.load(fn, "dst", "DI", "src", "SI", "bits", "DX", "n", "CX")
	f.op("VBROADCASTSS %s, Y11", fn.arg("scale"))
	f.words("bitOfLane", 1, 2, 4, 8, 16, 32, 64, 128)
	f.op("VMOVDQU bitOfLane<>(SB), Y12")
	f.label("loop")
	f.op("VPBROADCASTB (DX), Y0")
	f.op("VPAND Y12, Y0, Y0")
	f.op("VPCMPEQD Y12, Y0, Y0")
	f.op("VMULPS (SI), Y11, Y2")
	f.op("VANDPS Y0, Y2, Y2")
	f.op("VADDPS (DI), Y2, Y2")
	f.op("VMOVUPS Y2, (DI)")
	f.op("INCQ DX")
	f.op("ADDQ $32, SI")
	f.op("ADDQ $32, DI")
	f.op("DECQ CX")
	f.op("JNE  loop")
	f.end()
}
