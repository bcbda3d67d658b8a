package data

import (
	"math/rand/v2"
	"os"
	"runtime/debug"
	"fmt"
	"runtime"
	"testing"
	"time"
)

func TestZZ(t *testing.T) {
	debug.SetMemoryLimit(2 << 30)
	start := time.Now()
	n := 0
	for seed := uint64(0); time.Since(start) < 150*time.Second; seed++ {
		r := rand.New(rand.NewPCG(seed, 1))
		b, _ := os.ReadFile("testdata/" + []string{"alpaca", "messages", "nested", "sharegpt"}[r.IntN(4)] + ".parquet")
		for range 1 + r.IntN(4) {
			i := r.IntN(len(b))
			switch r.IntN(3) {
			case 0:
				b[i] ^= 1 << r.IntN(8)
			case 1:
				b[i] = byte(r.IntN(256))
			case 2:
				k := r.IntN(len(b))
				copy(b[i:min(i+r.IntN(8), len(b))], b[k:])
			}
		}
		done := make(chan bool)
		go func() { parquetBytes(t, b); close(done) }()
		select {
		case <-done:
			n++
		case <-time.After(8 * time.Second):
			os.WriteFile("/tmp/million/hang.parquet", b, 0o666)
			buf := make([]byte, 1<<16)
			fmt.Println("HANG seed", seed, string(buf[:runtime.Stack(buf, true)]))
			os.Exit(1)
		}
	}
	fmt.Println(n, "inputs")
}
