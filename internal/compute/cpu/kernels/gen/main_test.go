package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestGenerated asks that the package holds what the generator writes, and nothing else that says so.
func TestGenerated(t *testing.T) {
	want := outputs()
	for name, data := range want {
		got, err := os.ReadFile("../" + name)
		if err != nil || !bytes.Equal(bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n")), data) {
			t.Errorf("%s is not what the generator writes (%v): run go generate", name, err)
		}
	}
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, ok := want[e.Name()]; !ok && strings.HasSuffix(e.Name(), ".s") {
			t.Errorf("%s is written by nobody", e.Name())
		}
	}
}

// TestEVEX compares with the bytes that GNU as 2.40 makes.
func TestEVEX(t *testing.T) {
	for _, c := range []struct {
		pp, opcode, reg, vvvv, rm int
		want                      string
	}{
		{prefixF3, 0x52, 3, 2, 1, "LONG $0x486ef262; WORD $0xd952"},    // vdpbf16ps %zmm1,%zmm2,%zmm3
		{prefixF3, 0x52, 23, 28, 24, "LONG $0x401e8262; WORD $0xf852"}, // vdpbf16ps %zmm24,%zmm28,%zmm23
		{prefixF3, 0x52, 8, 31, 25, "LONG $0x40061262; WORD $0xc152"},  // vdpbf16ps %zmm25,%zmm31,%zmm8
		{prefixF3, 0x52, 0, 16, 9, "LONG $0x407ed262; WORD $0xc152"},   // vdpbf16ps %zmm9,%zmm16,%zmm0
		{prefixF2, 0x72, 2, 1, 0, "LONG $0x4877f262; WORD $0xd072"},    // vcvtne2ps2bf16 %zmm0,%zmm1,%zmm2
		{prefixF2, 0x72, 12, 30, 17, "LONG $0x400f3262; WORD $0xe172"}, // vcvtne2ps2bf16 %zmm17,%zmm30,%zmm12
	} {
		if got := evex512(c.pp, c.opcode, c.reg, c.vvvv, c.rm); got != c.want {
			t.Errorf("opcode %x of %d, %d, %d: %s, want %s", c.opcode, c.reg, c.vvvv, c.rm, got, c.want)
		}
	}
	want := "LONG $0x201e9262; WORD $0xf852" // vdpbf16ps %ymm24,%ymm28,%ymm7
	if got := evex(1, prefixF3, 0x52, 7, 28, 24); got != want {
		t.Errorf("256 bits: %s, want %s", got, want)
	}
}
