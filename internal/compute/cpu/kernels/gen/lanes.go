package main

import "fmt"

// Elementwise functions take pointers to n float32 each and work on 8 at a time; the rest is one more turn with masked
// loads and stores, so an element's bits do not depend on where it stands. Y15 is the mask.
type lanes struct {
	*file
	fn     *function
	rest   bool // in the masked turn
	arrays map[string]string
}

var arrayRegs = []string{"DI", "SI", "DX", "BX", "R8", "R9", "R10", "R11"}

const maskReg = 15

// each writes the loop over the pointer parameters of fn; the count is in CX. body is written twice.
func (f *file) each(fn *function, body func(l *lanes)) {
	l := &lanes{file: f, fn: fn, arrays: map[string]string{}}
	for _, p := range fn.params {
		if p.typ == "*float32" {
			r := arrayRegs[len(l.arrays)]
			l.arrays[p.name] = r
			f.op("MOVQ %s, %s", fn.arg(p.name), r)
		}
	}
	f.op("MOVQ %s, CX", fn.arg("n"))
	f.op("SUBQ $8, CX")
	f.op("JLT  rest")
	f.op("PCALIGN $32")
	f.label("loop")
	body(l)
	for _, r := range arrayRegs[:len(l.arrays)] {
		f.op("ADDQ $32, %s", r)
	}
	f.op("SUBQ $8, CX")
	f.op("JGE  loop")
	f.label("rest")
	f.op("ADDQ $8, CX")
	f.op("JEQ  done")
	f.needMask()
	f.op("LEAQ restMask<>+32(SB), AX")
	f.op("SHLQ $2, CX")
	f.op("SUBQ CX, AX")
	f.op("VMOVDQU (AX), Y%d", maskReg)
	l.rest = true
	body(l)
	f.label("done")
}

// needMask puts the table of masks into the file: 8 words of ones, 8 of zeros.
func (f *file) needMask() {
	if f.defined["restMask"] {
		return
	}
	if f.defined == nil {
		f.defined = map[string]bool{}
	}
	f.defined["restMask"] = true
	w := make([]uint32, 16)
	for i := range 8 {
		w[i] = 1<<32 - 1
	}
	f.words("restMask", w...)
}

// get loads 8 elements of an array; those that do not exist are zero.
func (l *lanes) get(array string, reg int) {
	if l.rest {
		l.op("VMASKMOVPS (%s), Y%d, Y%d", l.arrays[array], maskReg, reg)
	} else {
		l.op("VMOVUPS (%s), Y%d", l.arrays[array], reg)
	}
}

// put stores 8 elements of an array.
func (l *lanes) put(reg int, array string) {
	if l.rest {
		l.op("VMASKMOVPS Y%d, Y%d, (%s)", reg, maskReg, l.arrays[array])
	} else {
		l.op("VMOVUPS Y%d, (%s)", reg, l.arrays[array])
	}
}

// scalar fills a register with a float32 argument.
func (f *file) scalar(fn *function, name string, reg int) {
	f.op("VBROADCASTSS %s, Y%d", fn.arg(name), reg)
}

// constant makes 8 copies of a word and returns the name of the memory operand.
func (f *file) constant(name string, bits uint32) string {
	if !f.defined[name] {
		if f.defined == nil {
			f.defined = map[string]bool{}
		}
		f.defined[name] = true
		f.words(name, bits, bits, bits, bits, bits, bits, bits, bits)
	}
	return fmt.Sprintf("%s<>(SB)", name)
}

// sum64 adds the 8 float64 of two registers in a fixed order and returns the sum.
func (f *file) sum64(fn *function, a, b int) {
	f.op("VADDPD Y%d, Y%d, Y%d", b, a, a)
	f.op("VEXTRACTF128 $1, Y%d, X%d", a, b)
	f.op("VADDPD X%d, X%d, X%d", b, a, a)
	f.op("VHADDPD X%d, X%d, X%d", a, a, a)
	f.op("VMOVSD X%d, %s", a, fn.arg("ret"))
}

// fold32 combines the 8 float32 of a register by VADDPS or VMAXPS in a fixed order and returns the result.
func (f *file) fold32(fn *function, inst string, a, scratch int) {
	f.op("VEXTRACTF128 $1, Y%d, X%d", a, scratch)
	f.op("%s X%d, X%d, X%d", inst, scratch, a, a)
	f.op("VPERMILPS $0x4E, X%d, X%d", a, scratch)
	f.op("%s X%d, X%d, X%d", inst, scratch, a, a)
	f.op("VPERMILPS $0xB1, X%d, X%d", a, scratch)
	f.op("%s X%d, X%d, X%d", inst, scratch, a, a)
	f.op("VMOVSS X%d, %s", a, fn.arg("ret"))
}
