// Command gen writes the assembly of package kernels: the .s files and the Go declarations that belong to them. It is
// run by go generate in the package's folder; a check in CI runs it and fails when a file differs.
package main

import (
	"fmt"
	"go/format"
	"os"
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
	tiles := tileFiles()
	files := []*file{
		panels(), convert(), elementwise(), exponential(), reductions(), dropout(), sums(), peak(),
	}
	out := map[string][]byte{
		"asm_amd64.go":   formatted(declarations(files, true)),
		"asm_other.go":   formatted(declarations(files, false)),
		"tiles_amd64.go": formatted(tileDispatch("amd64", tileKinds, tiles)),
		"tiles_other.go": formatted(noTiles()),
		"sums_amd64.go":  formatted(sumDispatch()),
	}
	for _, f := range append(files, tiles...) {
		out[f.name+"_amd64.s"] = []byte(f.source())
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

// declarations is the Go side of the assembly: the prototypes, or for builds without assembly functions of the same
// names that are never called.
func declarations(files []*file, assembly bool) []byte {
	var b strings.Builder
	b.WriteString(header)
	if assembly {
		b.WriteString("//go:build amd64 && !noasm\n\npackage kernels\n\nimport \"unsafe\"\n\n// hasAsm says that this build contains the assembly.\nconst hasAsm = true\n\n")
	} else {
		b.WriteString("//go:build !amd64 || noasm\n\npackage kernels\n\nimport \"unsafe\"\n\nconst hasAsm = false\n\n")
	}
	for _, f := range files {
		for _, fn := range f.fns {
			if assembly {
				b.WriteString(fn.prototype())
			} else {
				fmt.Fprintf(&b, "%s { panic(noAssembly) }\n\n", fn.signature())
			}
		}
	}
	if !assembly {
		b.WriteString("func runSum(rows int, c *float32, ldc int, left *uint16, ldl int, right *uint16, ldr, pairs int) { panic(noAssembly) }\n\n")
		b.WriteString("const noAssembly = \"kernels: this build has no assembly\"\n")
	}
	return []byte(b.String())
}
