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

// ScratchBytes is about what the operations hold beside the buffers that they are given: for every row of a pass, and
// once, for the logits of a piece of the head.
func ScratchBytes(hiddenSize, intermediateSize, vocabSize int) (row, once int64) {
	return 4 * int64(2*hiddenSize+5*intermediateSize), 4 * headRows * int64(vocabSize)
}

// Memory is the machine's memory and what a process can still get of it, in bytes, and the limit of its container
// (cgroup v2), which bounds what is available; 0: not known (only Linux tells), or no limit.
func Memory() (total, available, limit int64) {
	total, available = meminfo("MemTotal"), meminfo("MemAvailable")
	if b, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64) // or "max"
		if err == nil && n < total {
			limit, available = n, min(n, available)
		}
	}
	return total, available, limit
}

// meminfo is a size in /proc/meminfo, in bytes.
func meminfo(key string) int64 {
	f, err := os.Open("/proc/meminfo")
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
