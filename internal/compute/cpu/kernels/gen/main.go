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
	files := []*file{
		tiles("tiles_bf16", pairShapes, (*file).pairTile),
		tiles("tiles_wide", wideShapes, (*file).wideTile),
		tiles("tiles_f32", f32Shapes, (*file).f32Tile),
		panels(), convert(), elementwise(), exponential(), reductions(), dropout(), peak(),
	}
	out := map[string][]byte{
		"asm_amd64.go":   formatted(declarations(files, true)),
		"asm_other.go":   formatted(declarations(files, false)),
		"tiles_amd64.go": formatted(tileDispatch()),
	}
	for _, f := range files {
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
				fmt.Fprintf(&b, "%s//\n//go:noescape\n%s\n\n", fn.doc, fn.signature())
			} else {
				fmt.Fprintf(&b, "%s { panic(noAssembly) }\n\n", fn.signature())
			}
		}
	}
	if !assembly {
		for _, k := range []string{"DP", "Wide", "F32r"} {
			fmt.Fprintf(&b, "func run%s(t *tile, rows, cols int) { panic(noAssembly) }\n\n", k)
		}
		b.WriteString("const noAssembly = \"kernels: this build has no assembly\"\n")
	}
	return []byte(b.String())
}
