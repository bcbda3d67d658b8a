package main

// peak holds loops that measure the machine, and one that waits.
func peak() *file {
	f := &file{name: "peak"}
	fn := f.begin("peakFMA", "", `
peakFMA runs n times 12 independent FMAs of 8 float32.`, "n int")
	f.load(fn, "n", "CX")
	for i := range 16 {
		f.op("VXORPS Y%d, Y%d, Y%d", i, i, i)
	}
	f.label("loop")
	for i := range 12 {
		f.op("VFMADD231PS Y14, Y15, Y%d", i)
	}
	f.op("DECQ CX")
	f.op("JNE  loop")
	f.end()

	fn = f.begin("peakFMA512", "", `
peakFMA512 runs n times 12 independent FMAs of 16 float32.`, "n int")
	f.load(fn, "n", "CX")
	for i := range 32 {
		f.op("VPXORD Z%d, Z%d, Z%d", i, i, i)
	}
	f.label("loop")
	for i := range 12 {
		f.op("VFMADD231PS Z30, Z31, Z%d", i)
	}
	f.op("DECQ CX")
	f.op("JNE  loop")
	f.end()

	fn = f.begin("peakDP", "", `
peakDP runs n times 24 independent VDPBF16PS of 16 pairs.`, "n int")
	f.load(fn, "n", "CX")
	for i := range 32 {
		f.op("VPXORD Z%d, Z%d, Z%d", i, i, i)
	}
	f.label("loop")
	for i := range 24 {
		f.vdpbf16ps(30, 31, i)
	}
	f.op("DECQ CX")
	f.op("JNE  loop")
	f.end()

	fn = f.begin("readAll", "", `
readAll reads n bytes, n a multiple of 512, and does nothing with them.`, "p unsafe.Pointer", "n int")
	f.load(fn, "p", "SI", "n", "CX")
	f.label("loop")
	for i := range 16 {
		f.op("VORPS %d(SI), Y%d, Y%d", 32*i, i%4, i%4)
	}
	f.op("ADDQ $512, SI")
	f.op("SUBQ $512, CX")
	f.op("JNE  loop")
	f.end()

	f.begin("spinWait", "", `
spinWait tells the processor, once, that the caller waits in a loop.`)
	f.op("PAUSE")
	f.op("RET")
	return f
}
