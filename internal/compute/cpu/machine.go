package cpu

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"cria/internal/compute"
	"cria/internal/compute/cpu/kernels"
	"cria/internal/safetensors"
)

// FasterDType is what compute_dtype: auto means on this machine.
func FasterDType() compute.DType {
	if kernels.Best() >= kernels.AVX512BF16 {
		return compute.BFloat16
	}
	return compute.Float32
}

// MakesStrips says whether mapped weights are multiplied as kernels.Strips on this machine.
func MakesStrips() bool { return kernels.Best().Strips() }

// WeightBytes is the memory that a matrix element of a file takes beside the mapped file: converted to float32, as all
// types but bfloat16 are, and in every packed copy (see Options.MapWeights; training packs for two directions).
func WeightBytes(file safetensors.DType, d compute.DType) (converted, packed int64) {
	switch {
	case file == safetensors.BF16:
		return 0, 2
	case d == compute.BFloat16:
		return 4, 2
	}
	return 4, 4
}

// Memory is the machine's memory and what a process can still get of it, in bytes, and the limit of its container
// (cgroup v2), which bounds what is available; 0: not known (only Linux tells), or no limit.
func Memory() (total, available, limit int64) {
	total, available = procSize("meminfo", "MemTotal"), procSize("meminfo", "MemAvailable")
	if b, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64) // or "max"
		if err == nil && n < total {
			limit, available = n, min(n, available)
		}
	}
	return total, available, limit
}

// ProcessMemory is a size in /proc/self/status, in bytes: RssAnon, RssFile, VmHWM; 0 where there is none.
func ProcessMemory(key string) int64 { return procSize("self/status", key) }

// procSize is a size in a file of /proc, in bytes; 0 where there is none.
func procSize(file, key string) int64 {
	f, err := os.Open("/proc/" + file)
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), ":"); ok && k == key {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}
