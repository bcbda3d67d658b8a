package train

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"cria/internal/compute/cpu"
)

// garbage is how much memory may wait for the collector: at least a hundredth of the whole, at most mostGarbage hundredths,
// for a plan cannot be nearer to what a run takes than this. Hardly anything is allocated in a step.
const garbage, mostGarbage = 16 << 20, 4

// heapRoom is what the heap takes beside live bytes: what waits for the collector, at the percentage that makes it so, and
// rounding to pages, tables and stacks.
func heapRoom(live int64) (room int64, percent int) {
	percent = int(min(mostGarbage, max(1, garbage*100/max(live, 1))))
	return live*int64(percent)/100 + live/32 + 4<<20, percent
}

// bound makes the collector rest while the buffers of a plan are made, where there is nothing to collect, and keep to the
// plan after begin, until release is called. It is the whole process's.
func bound(plan *Plan) (begin, release func()) {
	debug.FreeOSMemory()
	old := debug.SetGCPercent(-1)
	begin = func() {
		debug.SetGCPercent(plan.collect)
		debug.FreeOSMemory() // what planning left
	}
	return begin, func() { debug.SetGCPercent(old) }
}

// tight keeps the process below limit bytes where the collector can, until release is called; 0: no limit.
func tight(limit int64) (release func()) {
	if limit <= 0 {
		return func() {}
	}
	old := debug.SetMemoryLimit(limit)
	return func() { debug.SetMemoryLimit(old) }
}

// ownMemory is the memory of this process without pages of files: what it is now, after garbage was given back, and at
// most the peak so far. Tests replace it.
var ownMemory = func() (now, peak int64) {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	now, peak = int64(m.Sys-m.HeapReleased), int64(m.Sys)
	if anon := cpu.ProcessMemory("RssAnon"); anon > 0 {
		now, peak = anon, min(peak, cpu.ProcessMemory("VmHWM"))
	}
	return now, max(now, peak)
}

// freeMemory is what this machine has for new memory, 0 where that is not known. Tests replace it.
var freeMemory = func() int64 {
	_, available, _ := cpu.Memory()
	return available
}

// size is for messages.
func size(bytes int64) string {
	switch {
	case bytes >= 10<<30:
		return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
	case bytes >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(bytes)/(1<<30))
	case bytes >= 1<<20:
		return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20))
	case bytes >= 1<<10:
		return fmt.Sprintf("%.0f KiB", float64(bytes)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", bytes)
}
