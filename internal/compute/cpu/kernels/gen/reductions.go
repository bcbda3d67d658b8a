package main

// reductions holds sums, maxima and searches over one array. Sums run in 8 lanes that are added at the end.
func reductions() *file {
	f := &file{name: "reductions"}

	// toFloat64 widens Y(reg) into Y(lo), Y(hi).
	toFloat64 := func(reg, lo, hi int) {
		f.op("VCVTPS2PD X%d, Y%d", reg, lo)
		f.op("VEXTRACTF128 $1, Y%d, X%d", reg, hi)
		f.op("VCVTPS2PD X%d, Y%d", hi, hi)
	}
	fn := f.begin("sumSquares", "float64", `
sumSquares is the sum of float64(x[i])*float64(x[i]), lane by lane.`, "x *float32", "n int")
	f.op("VXORPS Y13, Y13, Y13")
	f.op("VXORPS Y14, Y14, Y14")
	f.each(fn, func(l *lanes) {
		l.get("x", 0)
		toFloat64(0, 1, 2)
		l.op("VFMADD231PD Y1, Y1, Y13")
		l.op("VFMADD231PD Y2, Y2, Y14")
	})
	f.sum64(fn, 13, 14)
	f.end()

	fn = f.begin("dot", "float64", `
dot is the sum of float64(x[i])*float64(y[i]), lane by lane.`, "x *float32", "y *float32", "n int")
	f.op("VXORPS Y13, Y13, Y13")
	f.op("VXORPS Y14, Y14, Y14")
	f.each(fn, func(l *lanes) {
		l.get("x", 0)
		l.get("y", 3)
		toFloat64(0, 1, 2)
		toFloat64(3, 4, 5)
		l.op("VFMADD231PD Y1, Y4, Y13")
		l.op("VFMADD231PD Y2, Y5, Y14")
	})
	f.sum64(fn, 13, 14)
	f.end()

	fn = f.begin("dot3", "float64", `
dot3 is the sum of float64(x[i]*y[i])*float64(z[i]), lane by lane.`, "x *float32", "y *float32", "z *float32", "n int")
	f.op("VXORPS Y13, Y13, Y13")
	f.op("VXORPS Y14, Y14, Y14")
	f.each(fn, func(l *lanes) {
		l.get("x", 0)
		l.get("y", 1)
		l.get("z", 3)
		l.op("VMULPS Y1, Y0, Y0")
		toFloat64(0, 1, 2)
		toFloat64(3, 4, 5)
		l.op("VFMADD231PD Y1, Y4, Y13")
		l.op("VFMADD231PD Y2, Y5, Y14")
	})
	f.sum64(fn, 13, 14)
	f.end()

	fn = f.begin("maximum", "float32", `
maximum is the largest x[i], -Inf if there is none; NaN is passed over.`, "x *float32", "n int")
	f.op("VMOVUPS %s, Y14", f.constant("negInf", 0xff800000))
	f.op("VMOVUPS Y14, Y13")
	f.each(fn, func(l *lanes) {
		l.get("x", 0)
		if l.rest {
			l.op("VBLENDVPS Y%d, Y0, Y13, Y0", maskReg)
		}
		l.op("VMAXPS Y14, Y0, Y14")
	})
	f.fold32(fn, "VMAXPS", 14, 0)
	f.end()

	fn = f.begin("maxAbs", "float32", `
maxAbs is the largest |x[i]|, 0 if there is none; NaN is passed over.`, "x *float32", "n int")
	f.op("VXORPS Y14, Y14, Y14")
	f.op("VMOVUPS %s, Y13", f.constant("absMask", 0x7fffffff))
	f.each(fn, func(l *lanes) {
		l.get("x", 0)
		l.op("VANDPS Y13, Y0, Y0")
		l.op("VMAXPS Y14, Y0, Y14")
	})
	f.fold32(fn, "VMAXPS", 14, 0)
	f.end()

	fn = f.begin("firstNonFinite", "int", `
firstNonFinite is the smallest i with x[i] infinite or NaN, or -1.`, "x *float32", "n int")
	f.op("VMOVUPS %s, Y14", f.constant("expMask", 0x7f800000))
	f.op("MOVQ %s, R12", fn.arg("x"))
	f.each(fn, func(l *lanes) {
		l.get("x", 0)
		l.op("VPAND Y14, Y0, Y0")
		l.op("VPCMPEQD Y14, Y0, Y0")
		l.op("VMOVMSKPS Y0, AX")
		l.op("TESTL AX, AX")
		l.op("JNE  found")
	})
	f.op("MOVQ $-1, %s", fn.arg("ret"))
	f.end()
	f.label("found")
	f.op("BSFL AX, AX")
	f.op("SUBQ R12, DI")
	f.op("SHRQ $2, DI")
	f.op("ADDQ DI, AX")
	f.op("MOVQ AX, %s", fn.arg("ret"))
	f.end()
	return f
}
