package main

// convert holds the conversions between float32 and bfloat16. All take a multiple of 16 elements, more than none.
func convert() *file {
	f := &file{name: "convert"}

	fn := f.begin("widen", "", `
widen is dst[i] = float32(src[i]) of n bfloat16 values, n a multiple of 16.`, "dst *float32", "src unsafe.Pointer", "n int")
	f.load(fn, "dst", "DI", "src", "SI", "n", "CX")
	f.label("loop")
	for v := range 2 {
		f.widen(v)
	}
	f.op("ADDQ $32, SI")
	f.op("ADDQ $64, DI")
	f.op("SUBQ $16, CX")
	f.op("JNE  loop")
	f.end()

	fn = f.begin("narrow", "", `
narrow is dst[i] = bfloat16(src[i]), to nearest even, NaN kept and made quiet; n is a multiple of 16.`, "dst *uint16", "src *float32", "n int")
	f.load(fn, "dst", "DI", "src", "SI", "n", "CX")
	f.roundConstants()
	f.label("loop")
	for v := range 2 {
		f.op("VMOVUPS %d(SI), Y%d", 32*v, v)
		f.round(v)
		f.op("VPSRLD $16, Y%d, Y%d", v, v)
	}
	f.op("VPACKUSDW Y1, Y0, Y0")
	f.op("VPERMQ $0xD8, Y0, Y0")
	f.op("VMOVDQU Y0, (DI)")
	f.op("ADDQ $64, SI")
	f.op("ADDQ $32, DI")
	f.op("SUBQ $16, CX")
	f.op("JNE  loop")
	f.end()

	fn = f.begin("roundBF16", "", `
roundBF16 is dst[i] = float32(bfloat16(src[i])), to nearest even, NaN kept and made quiet; n is a multiple of 16.`, "dst *float32", "src *float32", "n int")
	f.load(fn, "dst", "DI", "src", "SI", "n", "CX")
	f.roundConstants()
	f.label("loop")
	for v := range 2 {
		f.op("VMOVUPS %d(SI), Y%d", 32*v, v)
		f.round(v)
		f.op("VPAND Y12, Y%d, Y%d", v, v)
		f.op("VMOVUPS Y%d, %d(DI)", v, 32*v)
	}
	f.op("ADDQ $64, SI")
	f.op("ADDQ $64, DI")
	f.op("SUBQ $16, CX")
	f.op("JNE  loop")
	f.end()

	fn = f.begin("narrow512", "", `
narrow512 is narrow with the instruction of AVX-512 BF16, which makes subnormal numbers zero; n is a multiple of 32.`, "dst *uint16", "src *float32", "n int")
	f.load(fn, "dst", "DI", "src", "SI", "n", "CX")
	f.label("loop")
	f.op("VMOVUPS (SI), Z0")
	f.op("VMOVUPS 64(SI), Z1")
	f.vcvtne2ps2bf16(0, 1, 2)
	f.op("VMOVUPS Z2, (DI)")
	f.op("ADDQ $128, SI")
	f.op("ADDQ $64, DI")
	f.op("SUBQ $32, CX")
	f.op("JNE  loop")
	f.end()
	return f
}

// roundConstants loads what round needs: Y12 mask of the upper half, Y13 quiet bit, Y14 one, Y15 0x7fff.
func (f *file) roundConstants() {
	f.op("VPCMPEQD Y12, Y12, Y12")
	f.op("VPSRLD $31, Y12, Y14")
	f.op("VPSLLD $22, Y14, Y13")
	f.op("VPSRLD $17, Y12, Y15")
	f.op("VPSLLD $16, Y12, Y12")
}

// round rounds the float32 values of register v to bfloat16; the lower halves are left undefined. Y8, Y9 are scratch.
func (f *file) round(v int) {
	f.op("VPSRLD $16, Y%d, Y8", v)
	f.op("VPAND Y14, Y8, Y8")
	f.op("VPADDD Y15, Y8, Y8")
	f.op("VPADDD Y%d, Y8, Y8", v)
	f.op("VCMPPS $3, Y%d, Y%d, Y9", v, v)
	f.op("VPOR Y13, Y%d, Y%d", v, v)
	f.op("VBLENDVPS Y9, Y%d, Y8, Y%d", v, v)
}

// widen makes float32 at DI of vector v of the bfloat16 values at SI.
func (f *file) widen(v int) {
	f.op("VPMOVZXWD %d(SI), Y%d", 16*v, v)
	f.op("VPSLLD $16, Y%d, Y%d", v, v)
	f.op("VMOVUPS Y%d, %d(DI)", v, 32*v)
}
