package main

import "fmt"

// peak holds loops that measure the machine, and one that waits.
func peak() *file {
	f := &file{name: "peak"}
	f.peakLoop("peakFMA", "12 independent FMAs of 8 float32", 12, func(i int) {
		f.op("VFMADD231PS Y14, Y15, Y%d", i)
	}, func(i int) { f.op("VXORPS Y%d, Y%d, Y%d", i, i, i) }, 16)
	zero := func(i int) { f.op("VPXORD Z%d, Z%d, Z%d", i, i, i) }
	f.peakLoop("peakFMA512", "12 independent FMAs of 16 float32", 12, func(i int) {
		f.op("VFMADD231PS Z30, Z31, Z%d", i)
	}, zero, 32)
	f.peakLoop("peakDP", "24 independent VDPBF16PS of 16 pairs", 24, func(i int) { f.vdpbf16ps(30, 31, i) }, zero, 32)

	fn := f.begin("readAll", "", `
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

// peakLoop is a loop of independent instructions on registers that zero has cleared.
func (f *file) peakLoop(name, what string, count int, instruction, zero func(i int), registers int) {
	fn := f.begin(name, "", fmt.Sprintf(`
%s runs n times %s.`, name, what), "n int")
	f.load(fn, "n", "CX")
	for i := range registers {
		zero(i)
	}
	f.label("loop")
	for i := range count {
		instruction(i)
	}
	f.op("DECQ CX")
	f.op("JNE  loop")
	f.end()
}
