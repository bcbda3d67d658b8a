package main

import "math"

// elementwise holds the functions of every element by itself.
func elementwise() *file {
	f := &file{name: "elementwise"}
	one := f.constant("one", math.Float32bits(1))

	fn := f.begin("add", "", `
add is y[i] += x[i].`, "y *float32", "x *float32", "n int")
	f.each(fn, func(l *lanes) {
		l.get("y", 0)
		l.get("x", 1)
		l.op("VADDPS Y1, Y0, Y0")
		l.put(0, "y")
	})
	f.end()

	fn = f.begin("scale", "", `
scale is y[i] *= a.`, "y *float32", "a float32", "n int")
	f.scalar(fn, "a", 14)
	f.each(fn, func(l *lanes) {
		l.get("y", 0)
		l.op("VMULPS Y14, Y0, Y0")
		l.put(0, "y")
	})
	f.end()

	fn = f.begin("axpy", "", `
axpy is y[i] = fma(a, x[i], y[i]).`, "y *float32", "a float32", "x *float32", "n int")
	f.scalar(fn, "a", 14)
	f.each(fn, func(l *lanes) {
		l.get("y", 0)
		l.get("x", 1)
		l.op("VFMADD231PS Y1, Y14, Y0")
		l.put(0, "y")
	})
	f.end()

	fn = f.begin("normalize", "", `
normalize is y[i] = (x[i] * inv) * w[i].`, "y *float32", "x *float32", "w *float32", "inv float32", "n int")
	f.scalar(fn, "inv", 14)
	f.each(fn, func(l *lanes) {
		l.get("x", 0)
		l.get("w", 1)
		l.op("VMULPS Y14, Y0, Y0")
		l.op("VMULPS Y1, Y0, Y0")
		l.put(0, "y")
	})
	f.end()

	fn = f.begin("normalizeBackward", "", `
normalizeBackward is dx[i] += inv*(dy[i]*w[i]) - x[i]*c.`,
		"dx *float32", "dy *float32", "x *float32", "w *float32", "inv float32", "c float32", "n int")
	f.scalar(fn, "inv", 14)
	f.scalar(fn, "c", 13)
	f.each(fn, func(l *lanes) {
		l.get("dx", 0)
		l.get("dy", 1)
		l.get("x", 2)
		l.get("w", 3)
		l.op("VMULPS Y3, Y1, Y1")
		l.op("VMULPS Y13, Y2, Y2")
		l.op("VFMSUB213PS Y2, Y14, Y1") // inv*g - x*c
		l.op("VADDPS Y1, Y0, Y0")
		l.put(0, "dx")
	})
	f.end()

	for _, inverse := range []bool{false, true} {
		name, doc := "rope", "a[i], b[i] = a[i]*cos[i] - b[i]*sin[i], b[i]*cos[i] + a[i]*sin[i]."
		toA, toB := "VFNMADD231PS", "VFMADD231PS"
		if inverse {
			name, doc = "ropeInverse", "a[i], b[i] = a[i]*cos[i] + b[i]*sin[i], b[i]*cos[i] - a[i]*sin[i]."
			toA, toB = toB, toA
		}
		fn = f.begin(name, "", name+" is "+doc, "a *float32", "b *float32", "cos *float32", "sin *float32", "n int")
		f.each(fn, func(l *lanes) {
			l.get("a", 0)
			l.get("b", 1)
			l.get("cos", 2)
			l.get("sin", 3)
			l.op("VMULPS Y2, Y0, Y4")
			l.op("VMULPS Y2, Y1, Y5")
			l.op("%s Y1, Y3, Y4", toA)
			l.op("%s Y0, Y3, Y5", toB)
			l.put(4, "a")
			l.put(5, "b")
		})
		f.end()
	}

	fn = f.begin("softmaxBackward", "", `
softmaxBackward is ds[i] = (p[i] * (dp[i] - delta)) * scale.`,
		"ds *float32", "p *float32", "dp *float32", "delta float32", "scale float32", "n int")
	f.scalar(fn, "delta", 14)
	f.scalar(fn, "scale", 13)
	f.each(fn, func(l *lanes) {
		l.get("p", 0)
		l.get("dp", 1)
		l.op("VSUBPS Y14, Y1, Y1")
		l.op("VMULPS Y1, Y0, Y0")
		l.op("VMULPS Y13, Y0, Y0")
		l.put(0, "ds")
	})
	f.end()

	fn = f.begin("adamW", "", `
adamW is one update of torch.optim.AdamW in torch's order:

	g := GradScale * grad[i]
	p[i] *= Decay
	m[i] = fma(Lerp1, g-m[i], m[i])
	v[i] = fma(Square2*g, g, v[i]*Beta2)
	p[i] += (NegStep * m[i]) / (sqrt(v[i])/Bias2Sqrt + Eps)`,
		"p *float32", "grad *float32", "m *float32", "v *float32", "n int", "o *AdamW")
	f.op("MOVQ %s, AX", fn.arg("o"))
	for i, name := range []string{"GradScale", "Decay", "Lerp1", "Beta2", "Square2", "Bias2Sqrt", "Eps", "NegStep"} {
		f.op("VBROADCASTSS AdamW_%s(AX), Y%d", name, 7+i)
	}
	f.each(fn, func(l *lanes) {
		l.get("p", 0)
		l.get("grad", 1)
		l.get("m", 2)
		l.get("v", 3)
		l.op("VMULPS Y7, Y1, Y1")
		l.op("VMULPS Y8, Y0, Y0")
		l.op("VSUBPS Y2, Y1, Y4")
		l.op("VFMADD231PS Y4, Y9, Y2")
		l.op("VMULPS Y10, Y3, Y3")
		l.op("VMULPS Y11, Y1, Y5")
		l.op("VFMADD231PS Y1, Y5, Y3")
		l.put(2, "m")
		l.put(3, "v")
		l.op("VSQRTPS Y3, Y3")
		l.op("VDIVPS Y12, Y3, Y3")
		l.op("VADDPS Y13, Y3, Y3")
		l.op("VMULPS Y14, Y2, Y2")
		l.op("VDIVPS Y3, Y2, Y2")
		l.op("VADDPS Y2, Y0, Y0")
		l.put(0, "p")
	})
	f.end()

	fn = f.begin("swiglu", "", `
swiglu is act[i] = gate[i]/(1+exp(-gate[i])) * up[i].`, "act *float32", "gate *float32", "up *float32", "n int")
	f.each(fn, func(l *lanes) {
		l.get("gate", 12)
		l.op("VXORPS %s, Y12, Y0", f.constant("signBit", 1<<31))
		l.exp()
		l.op("VADDPS %s, Y0, Y0", one)
		l.op("VDIVPS Y0, Y12, Y0")
		l.get("up", 1)
		l.op("VMULPS Y1, Y0, Y0")
		l.put(0, "act")
	})
	f.end()

	fn = f.begin("swigluBackward", "", `
swigluBackward is, with s = 1/(1+exp(-gate[i])),

	dup[i] = dact[i] * (gate[i]*s)
	dgate[i] = dact[i] * up[i] * (s * (1 + gate[i]*(1-s)))`,
		"dgate *float32", "dup *float32", "dact *float32", "gate *float32", "up *float32", "n int")
	f.each(fn, func(l *lanes) {
		l.get("gate", 12)
		l.op("VXORPS %s, Y12, Y0", f.constant("signBit", 1<<31))
		l.exp()
		l.op("VMOVUPS %s, Y13", one)
		l.op("VADDPS Y13, Y0, Y0")
		l.op("VDIVPS Y0, Y13, Y0") // s
		l.get("dact", 1)
		l.get("up", 2)
		l.op("VMULPS Y0, Y12, Y3")
		l.op("VMULPS Y3, Y1, Y3") // dup
		l.op("VSUBPS Y0, Y13, Y4")
		l.op("VFMADD213PS Y13, Y12, Y4") // 1 + gate*(1-s)
		l.op("VMULPS Y0, Y4, Y4")
		l.op("VMULPS Y2, Y1, Y1")
		l.op("VMULPS Y4, Y1, Y1")
		l.put(3, "dup")
		l.put(1, "dgate")
	})
	f.end()
	return f
}
