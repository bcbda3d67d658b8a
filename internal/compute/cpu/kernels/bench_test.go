package kernels

import (
	"testing"
	"time"
)

// best measures f and returns the seconds of its fastest run: on a shared machine the mean says little. Short functions
// are run in batches.
func best(b *testing.B, f func()) float64 {
	f()
	batch := 1
	for t := time.Now(); time.Since(t) < 20*time.Microsecond; batch++ {
		f()
	}
	shortest := time.Duration(1 << 62)
	for b.Loop() {
		t := time.Now()
		for range batch {
			f()
		}
		shortest = min(shortest, time.Since(t))
	}
	return shortest.Seconds() / float64(batch)
}

// reportRate reports 1e9 operations a second, and the share of the peak.
func reportRate(b *testing.B, operations, seconds, peak float64) {
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(operations/seconds/1e9, "GFLOP/s")
	b.ReportMetric(100*operations/seconds/1e9/peak, "%peak")
}
