// Command gen writes the assembly of package kernels: the .s files and the Go declarations that belong to them. It is
// run by go generate in the package's folder; a check in CI runs it and fails when a file differs.
package main

import (
	"fmt"
	"go/format"
	"os"
	"slices"
	"strings"
)

func main() {
	for name, data := range outputs() {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			fail(err)
		}
	}
}

// outputs are the generated files by name.
func outputs() map[string][]byte {
	x86 := []*file{
		panels(), convert(), elementwise(), exponential(), reductions(), dropout(), sums(), peak(),
	}
	arm := []*file{neonPeak()}
	x86Tiles, armTiles := tileFiles("amd64", tileKinds), tileFiles("arm64", neonKinds)
	out := map[string][]byte{
		"asm_amd64.go":   formatted(declarations("amd64", "hasAsm", x86)),
		"asm_other.go":   formatted(stubs("amd64", "hasAsm", x86, sumStub)),
		"neon_arm64.go":  formatted(declarations("arm64", "hasNEON", arm)),
		"neon_other.go":  formatted(stubs("arm64", "hasNEON", arm)),
		"tiles_amd64.go": formatted(tileDispatch("amd64", tileKinds, x86Tiles)),
		"tiles_arm64.go": formatted(tileDispatch("arm64", neonKinds, armTiles)),
		"tiles_other.go": formatted(noTiles()),
		"sums_amd64.go":  formatted(sumDispatch()),
	}
	for _, f := range slices.Concat(x86, arm, x86Tiles, armTiles) {
		out[f.name+"_"+f.goarch()+".s"] = []byte(f.source())
	}
	return out
}

func formatted(source []byte) []byte {
	out, err := format.Source(source)
	if err != nil {
		fail(err)
	}
	return out
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "gen:", err)
	os.Exit(1)
}

// declarations is the Go side of the assembly: the prototypes.
func declarations(arch, has string, files []*file) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s//go:build %s && !noasm\n\npackage kernels\n\nimport \"unsafe\"\n\n// %s says that this build contains the assembly for %[2]s.\nconst %[3]s = true\n\n", header, arch, has)
	for _, f := range files {
		for _, fn := range f.fns {
			b.WriteString(fn.prototype())
		}
	}
	return []byte(b.String())
}

// stubs are, for builds without the assembly, functions of the same names that are never called.
func stubs(arch, has string, files []*file, more ...string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "%s//go:build !%s || noasm\n\npackage kernels\n\nimport \"unsafe\"\n\nconst %s = false\n\n", header, arch, has)
	for _, f := range files {
		for _, fn := range f.fns {
			more = append(more, fn.signature())
		}
	}
	for _, s := range more {
		fmt.Fprintf(&b, "%s { panic(noAssembly) }\n\n", s)
	}
	return []byte(b.String())
}

const sumStub = "func runSum(rows int, c *float32, ldc int, left *uint16, ldl int, right *uint16, ldr, pairs int)"
