package main

import "fmt"

// sums holds the tiles of sums over tokens of bfloat16 rows.
func sums() *file {
	f := &file{name: "sums"}
	for rows := 1; rows <= 8; rows++ {
		f.sumTile(rows)
	}
	return f
}

// sumTile keeps rows x 32 sums in registers: Z(2r) the columns 0-3, 8-11, 16-19, 24-27 of row r, Z(2r+1) the others, as
// unpacking interleaves two rows within lanes of 128 bits.
//
//	DI C   R8 its stride   SI left, R9 bytes of a pair of tokens   DX right   R10 stride of its rows   R11 twice that   CX pairs
func (f *file) sumTile(rows int) {
	name := fmt.Sprintf("sum%dx32", rows)
	fn := f.begin(name, "", fmt.Sprintf(`
%s adds sums over pairs of tokens to %d rows and 32 columns of c, ldc bytes apart:

	for p := range pairs {
		for r, j := range %[2]d, 32 {
			c[r][j] += left[p][r][1]*right[2*p+1][j] + left[p][r][0]*right[2*p][j]
		}
	}

A pair of left stands ldl bytes after the one before it, a row of right ldr bytes.`, name, rows),
		"c *float32", "ldc int", "left *uint16", "ldl int", "right *uint16", "ldr int", "pairs int")
	f.load(fn, "c", "DI", "ldc", "R8", "left", "SI", "ldl", "R9", "right", "DX", "ldr", "R10", "pairs", "CX")
	f.op("LEAQ (R10)(R10*1), R11")
	f.op("MOVQ DI, R13")
	for r := range rows {
		f.op("VMOVUPS (R13), Z16")
		f.op("VMOVUPS 64(R13), Z17")
		f.op("VSHUFF32X4 $0x88, Z17, Z16, Z%d", 2*r)
		f.op("VSHUFF32X4 $0xDD, Z17, Z16, Z%d", 2*r+1)
		if r+1 < rows {
			f.op("ADDQ R8, R13")
		}
	}
	// Unpacking takes 128 bits of both rows at a time: the lower halves make columns 0-3 of every 8.
	f.label("loop")
	f.op("VMOVDQU16 (DX), Z16")
	f.op("VMOVDQU16 (DX)(R10*1), Z17")
	f.op("VPUNPCKLWD Z17, Z16, Z18")
	f.op("VPUNPCKHWD Z17, Z16, Z19")
	for r := range rows {
		a := 20 + r%4
		f.op("VPBROADCASTD %d(SI), Z%d", 4*r, a)
		f.vdpbf16ps(18, a, 2*r)
		f.vdpbf16ps(19, a, 2*r+1)
	}
	f.op("ADDQ R9, SI")
	f.op("ADDQ R11, DX")
	f.op("DECQ CX")
	f.op("JNE  loop")
	for r := range rows {
		// lanes lo0 lo1 hi0 hi1 to lo0 hi0 lo1 hi1
		f.op("VSHUFF32X4 $0x44, Z%d, Z%d, Z16", 2*r+1, 2*r)
		f.op("VSHUFF32X4 $0xEE, Z%d, Z%d, Z17", 2*r+1, 2*r)
		f.op("VSHUFF32X4 $0xD8, Z16, Z16, Z16")
		f.op("VSHUFF32X4 $0xD8, Z17, Z17, Z17")
		f.op("VMOVUPS Z16, (DI)")
		f.op("VMOVUPS Z17, 64(DI)")
		f.op("ADDQ R8, DI")
	}
	f.end()
}

// sumDispatch calls the tile of a height.
func sumDispatch() []byte {
	s := header + "//go:build amd64 && !noasm\n\npackage kernels\n\n// runSum calls the tile of that many rows.\nfunc runSum(rows int, c *float32, ldc int, left *uint16, ldl int, right *uint16, ldr, pairs int) {\nswitch rows {\n"
	for r := 1; r <= 8; r++ {
		s += fmt.Sprintf("case %d:\nsum%[1]dx32(c, ldc, left, ldl, right, ldr, pairs)\n", r)
	}
	return []byte(s + "default:\npanic(\"kernels: no such tile\")\n}\n}\n")
}
