package main

import "math"

// exponential holds what attention and cross-entropy need of exp.
func exponential() *file {
	f := &file{name: "exponential"}

	fn := f.begin("expScale", "", `
expScale is y[i] = mul * exp(fma(x[i], scale, -shift)).`, "y *float32", "x *float32", "scale float32", "shift float32", "mul float32", "n int")
	f.scalar(fn, "scale", 12)
	f.scalar(fn, "shift", 13)
	f.scalar(fn, "mul", 14)
	f.each(fn, func(l *lanes) {
		l.get("x", 0)
		l.op("VFMSUB213PS Y13, Y12, Y0")
		l.exp()
		l.op("VMULPS Y14, Y0, Y0")
		l.put(0, "y")
	})
	f.end()

	for _, store := range []bool{true, false} {
		name, doc, params := "expSum", "expSum is y[i] = exp(fma(x[i], scale, -shift)) and the sum of y, lane by lane.", []string{"y *float32"}
		if !store {
			name, doc, params = "expSumOnly", "expSumOnly is expSum without storing y.", nil
		}
		fn = f.begin(name, "float32", doc, append(params, "x *float32", "scale float32", "shift float32", "n int")...)
		f.scalar(fn, "scale", 12)
		f.scalar(fn, "shift", 13)
		f.op("VXORPS Y14, Y14, Y14")
		f.each(fn, func(l *lanes) {
			l.get("x", 0)
			l.op("VFMSUB213PS Y13, Y12, Y0")
			l.exp()
			if l.rest {
				l.op("VANDPS Y%d, Y0, Y0", maskReg)
			}
			l.op("VADDPS Y0, Y14, Y14")
			if store {
				l.put(0, "y")
			}
		})
		f.fold32(fn, "VADDPS", 14, 0)
		f.end()
	}
	return f
}

// exp replaces Y0 by its exponential; Y1 to Y3 are scratch. The error is below 1.5 units in the last place; below
// -103.97 the result is 0, above 88.72 infinite; NaN stays NaN.
//
// x = n ln 2 + r with |r| <= ln 2 / 2 (ln 2 in two parts, Cody & Waite 1980); exp(r) = 1 + r + r² p(r) with the
// polynomial of Cephes' expf (Moshier); the power of two is applied in two halves, so that results may be subnormal.
func (f *file) exp() {
	c := func(name string, x float64) string { return f.constant(name, math.Float32bits(float32(x))) }
	f.op("VMOVUPS %s, Y1", c("expMax", 89))
	f.op("VMINPS Y0, Y1, Y0") // NaN passes
	f.op("VMOVUPS %s, Y1", c("expMin", -104))
	f.op("VMAXPS Y0, Y1, Y0")
	f.op("VMULPS %s, Y0, Y1", c("log2e", math.Log2E))
	f.op("VCVTPS2DQ Y1, Y1") // n
	f.op("VCVTDQ2PS Y1, Y2")
	f.op("VFNMADD231PS %s, Y2, Y0", c("ln2High", 0.693359375))
	f.op("VFNMADD231PS %s, Y2, Y0", c("ln2Low", -2.12194440e-4)) // r
	f.op("VMOVUPS %s, Y2", c("exp7", 1.9875691500e-4))
	f.op("VFMADD213PS %s, Y0, Y2", c("exp6", 1.3981999507e-3))
	f.op("VFMADD213PS %s, Y0, Y2", c("exp5", 8.3334519073e-3))
	f.op("VFMADD213PS %s, Y0, Y2", c("exp4", 4.1665795894e-2))
	f.op("VFMADD213PS %s, Y0, Y2", c("exp3", 1.6666665459e-1))
	f.op("VFMADD213PS %s, Y0, Y2", c("exp2", 5.0000001201e-1))
	f.op("VMULPS Y0, Y0, Y3")
	f.op("VFMADD213PS Y0, Y3, Y2")
	f.op("VADDPS %s, Y2, Y0", c("one", 1))
	f.op("VPSRAD $1, Y1, Y2")
	f.op("VPSUBD Y2, Y1, Y1")
	bias := f.constant("bias", 127)
	for _, half := range []int{1, 2} {
		f.op("VPADDD %s, Y%d, Y%d", bias, half, half)
		f.op("VPSLLD $23, Y%d, Y%d", half, half)
		f.op("VMULPS Y%d, Y0, Y0", half)
	}
}
