package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"cria/internal/bench"
	"cria/internal/compute/cpu"
	"cria/internal/compute/cpu/kernels"
	"cria/internal/demomodel"
	"cria/internal/disk"
	"cria/internal/train"

	"github.com/spf13/cobra"
	features "golang.org/x/sys/cpu"
)

// diagnosis is what this machine can do.
type diagnosis struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	System  string `json:"system"`

	CPU struct {
		Name     string   `json:"name"`
		Cores    int      `json:"cores"`   // logical
		Threads  int      `json:"threads"` // that cria uses unless told otherwise
		Features []string `json:"features"`
		Kernels  string   `json:"kernels"` // set of kernels in use
	} `json:"cpu"`
	Peak struct { // of products that touch no memory, in GFLOP/s; 0: not measured, the kernels are plain Go
		Float32One  float64 `json:"float32_one"` // one thread
		Float32All  float64 `json:"float32_all"` // all threads
		BFloat16One float64 `json:"bfloat16_one"`
		BFloat16All float64 `json:"bfloat16_all"`
	} `json:"peak_gflops"`
	Memory struct { // bytes; 0: not known
		Total     int64   `json:"total"`
		Available int64   `json:"available"`
		Limit     int64   `json:"limit"`          // of the container
		Bandwidth float64 `json:"bandwidth_gbps"` // reading with all threads, in GB/s, about; 0: not measured
	} `json:"memory"`
	Disks []freeDisk `json:"disks"`

	Cache     string     `json:"cache"`      // directory of what cria downloads
	DemoModel string     `json:"demo_model"` // directory of cria demo's model, "" if it is not in the cache
	Pip       string     `json:"pip"`        // the program, with which cria demo downloads its model; "" if there is none
	Forecast  []forecast `json:"forecast"`
	Advice    []string   `json:"advice"`
}

type freeDisk struct {
	What string `json:"what"`
	Path string `json:"path"`
	Free uint64 `json:"free"` // bytes
}

// forecast bounds the speed of a model from above: training by arithmetic, at 4 operations for every weight of the layers
// and token (forward, and backward without the gradients of frozen weights), replies by reading all weights once a token.
type forecast struct {
	Model       string  `json:"model"`
	WeightBytes int64   `json:"weight_bytes"` // bfloat16
	Fits        bool    `json:"fits"`         // the weights, in the memory that is available
	Train       float64 `json:"train"`        // tokens/s
	Generate    float64 `json:"generate"`     // tokens/s
}

// Weights of the layers' and the head's matrices.
var forecastModels = []struct {
	name         string
	layers, head int64
}{
	{"SmolLM2-135M", 30 * (576*(2*576+2*192) + 3*576*1536), 49152 * 576},
	{"Llama-3.1-8B", 32 * (4096*(2*4096+2*1024) + 3*4096*14336), 2 * 128256 * 4096}, // head and embedding
}

func newDoctor(ui *ui) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine can do",
		Long: "Say what this machine can do: the CPU's features and the kernels in use, measured peak speed and memory bandwidth, memory,\n" +
			"disks, caches, and what speed these bound. The measurements take about a second and need the machine to be idle.\n\n" +
			"The bounds on training count the tokens that are computed; a prefix that the rows of a step share is computed once.",
		Example: "  cria doctor\n  cria doctor --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("cria doctor takes no arguments, got %s; cria doctor adapter DIR looks at an adapter", args[0])
			}
			ui.show("measuring ...")
			d := diagnose()
			ui.show("")
			if asJSON {
				return ui.json(d)
			}
			_, err := fmt.Fprint(ui.out, printable(d.text()))
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object instead of the text")
	c.AddCommand(newDoctorAdapter(ui))
	return c
}

func diagnose() *diagnosis {
	d := &diagnosis{Version: train.Version(), Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Advice: []string{}}
	d.CPU.Name, d.CPU.Cores, d.CPU.Threads = cpuName(), runtime.NumCPU(), runtime.GOMAXPROCS(0)
	d.CPU.Features = cpuFeatures()
	level := kernels.Best()
	d.CPU.Kernels = level.String()
	d.Memory.Total, d.Memory.Available, d.Memory.Limit = cpu.Memory()
	d.measure(level)
	d.files()
	for _, m := range forecastModels {
		f := forecast{Model: m.name, WeightBytes: 2 * (m.layers + m.head)}
		f.Fits = d.Memory.Available == 0 || f.WeightBytes < d.Memory.Available
		f.Train = max(d.Peak.Float32All, d.Peak.BFloat16All) * 1e9 / float64(4*m.layers)
		f.Generate = d.Memory.Bandwidth * 1e9 / float64(f.WeightBytes)
		d.Forecast = append(d.Forecast, f)
	}
	if level == kernels.Generic {
		d.Advice = append(d.Advice, "only the plain Go kernels run here, which are many times slower: use an x86-64 CPU with AVX2 and FMA, and a build without the tag noasm")
	}
	if d.CPU.Threads < d.CPU.Cores {
		d.Advice = append(d.Advice, fmt.Sprintf("cria uses %d of %d cores, as GOMAXPROCS or the container's CPU limit says", d.CPU.Threads, d.CPU.Cores))
	}
	if d.DemoModel == "" && d.Pip == "" {
		d.Advice = append(d.Advice, "cria demo cannot download its model without pip; its error message says how to get it by hand")
	}
	return d
}

// measure measures one thread, then all at once.
func (d *diagnosis) measure(level kernels.Level) {
	peaks := bench.Peaks(level, 1, d.CPU.Threads)
	d.Peak.Float32One, d.Peak.BFloat16One = peaks[0].Float32, peaks[0].BFloat16
	d.Peak.Float32All, d.Peak.BFloat16All = peaks[1].Float32, peaks[1].BFloat16
	d.Memory.Bandwidth = bench.ReadBandwidth(level, d.CPU.Threads)
}

// cpuName is the model name that Linux gives the first core, "" if there is none.
func cpuName() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// cpuFeatures are the instruction sets that matter for matrix products.
func cpuFeatures() []string {
	names := []string{}
	for _, f := range []struct {
		name string
		has  bool
	}{
		{"avx2", features.X86.HasAVX2}, {"fma", features.X86.HasFMA}, {"avx512f", features.X86.HasAVX512F}, {"avx512bw", features.X86.HasAVX512BW},
		{"avx512dq", features.X86.HasAVX512DQ}, {"avx512vl", features.X86.HasAVX512VL}, {"avx512bf16", features.X86.HasAVX512BF16},
		{"amx_tile", features.X86.HasAMXTile}, {"amx_bf16", features.X86.HasAMXBF16},
		{"asimd", features.ARM64.HasASIMD}, {"asimddp", features.ARM64.HasASIMDDP}, {"sve", features.ARM64.HasSVE},
	} {
		if f.has {
			names = append(names, f.name)
		}
	}
	return names
}

// files looks for the cache, free space and pip.
func (d *diagnosis) files() {
	d.Cache, d.DemoModel = demomodel.Cached()
	for _, p := range []freeDisk{{What: "here", Path: "."}, {What: "cache", Path: d.Cache}, {What: "temporary", Path: os.TempDir()}} {
		if free, err := disk.FreeSpace(p.Path); err == nil && p.Path != "" {
			p.Free = free
			d.Disks = append(d.Disks, p)
		}
	}
	for _, name := range []string{"pip", "pip3"} {
		if path, err := exec.LookPath(name); err == nil {
			d.Pip = path
			break
		}
	}
}

func (d *diagnosis) text() string {
	var s sheet
	s.line("cria", "%s, %s, %s", d.Version, d.Go, d.System)
	s.line("CPU", "%s, %s, %s in use", orDash(d.CPU.Name), plural(d.CPU.Cores, "core"), plural(d.CPU.Threads, "thread"))
	s.line("features", "%s", orDash(strings.Join(d.CPU.Features, " ")))
	s.line("kernels", "%s", d.CPU.Kernels)
	if d.Peak.Float32One > 0 {
		s.line("peak", "float32   %.0f GFLOP/s with one thread, %.0f with all", d.Peak.Float32One, d.Peak.Float32All)
		s.line("", "bfloat16  %.0f GFLOP/s with one thread, %.0f with all", d.Peak.BFloat16One, d.Peak.BFloat16All)
	}
	switch {
	case d.Memory.Total == 0:
		s.line("memory", "not known on this system")
	case d.Memory.Limit > 0:
		s.line("memory", "%s, %s available, the container may use %s", byteSize(d.Memory.Total), byteSize(d.Memory.Available), byteSize(d.Memory.Limit))
	default:
		s.line("memory", "%s, %s available", byteSize(d.Memory.Total), byteSize(d.Memory.Available))
	}
	if d.Memory.Bandwidth > 0 {
		s.line("", "read at about %.0f GB/s", d.Memory.Bandwidth)
	}
	for i, f := range d.Disks {
		s.line([]string{"free disk", ""}[min(i, 1)], "%-9s  %s (%s)", f.What, byteSize(int64(f.Free)), f.Path)
	}
	s.line("cache", "%s", orDash(d.Cache))
	s.line("demo model", "%s", map[bool]string{true: "not downloaded yet; cria demo does it", false: d.DemoModel}[d.DemoModel == ""])
	s.line("pip", "%s", map[bool]string{true: "not found", false: d.Pip}[d.Pip == ""])
	for i, f := range d.Forecast {
		name := []string{"at most", ""}[min(i, 1)]
		if f.Train > 0 {
			s.line(name, "%s  training %s tokens/s, replies %s tokens/s (%s of weights%s)", f.Model, upTo(f.Train), upTo(f.Generate), byteSize(f.WeightBytes),
				map[bool]string{false: ", more than the available memory"}[f.Fits])
		}
	}
	for i, a := range d.Advice {
		s.line([]string{"advice", ""}[min(i, 1)], "%s", a)
	}
	return s.String()
}

// upTo is a speed with two digits that say something.
func upTo(x float64) string {
	switch {
	case x == 0:
		return "?"
	case x < 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.0f", x)
}
