package kernels

import (
	"sync/atomic"
	"testing"
	"time"
)

func TestPool(t *testing.T) {
	for _, workers := range []int{0, 1, 2, 3, 8} {
		p := NewPool(workers)
		if want := max(workers, 1); p.Workers() != want {
			t.Errorf("%d workers, want %d", p.Workers(), want)
		}
		for call := range 300 {
			tasks := call % 17
			var count [17]atomic.Int32
			var busy [8]atomic.Int32
			p.Run(tasks, func(w, i int) {
				if busy[w].Add(1) != 1 {
					t.Errorf("worker %d runs two tasks", w)
				}
				count[i].Add(1)
				busy[w].Add(-1)
			})
			for i := range count {
				if want := int32(0); i < tasks {
					want = 1
					if got := count[i].Load(); got != want {
						t.Fatalf("task %d ran %d times", i, got)
					}
				}
			}
			if call%100 == 50 {
				time.Sleep(2 * time.Millisecond) // workers fall asleep
			}
		}
		p.Close()
	}
}

func TestPoolPanic(t *testing.T) {
	p := NewPool(3)
	defer p.Close()
	for range 20 {
		func() {
			defer func() {
				if r := recover(); r != "task 5" {
					t.Errorf("recovered %v", r)
				}
			}()
			p.Run(10, func(_, i int) {
				if i == 5 {
					panic("task 5")
				}
			})
		}()
		n := atomic.Int32{}
		p.Run(10, func(_, _ int) { n.Add(1) })
		if n.Load() != 10 {
			t.Fatalf("%d tasks after a panic", n.Load())
		}
	}
}

func TestPoolFromManyGoroutines(t *testing.T) {
	p := NewPool(3)
	defer p.Close()
	var sum atomic.Int64
	done := make(chan struct{})
	for range 4 {
		go func() {
			for range 200 {
				p.Run(5, func(_, i int) { sum.Add(int64(i)) })
			}
			done <- struct{}{}
		}()
	}
	for range 4 {
		<-done
	}
	if sum.Load() != 4*200*10 {
		t.Errorf("sum %d", sum.Load())
	}
}

// BenchmarkPoolHandOff measures how long it takes until two workers have met in a call.
func BenchmarkPoolHandOff(b *testing.B) {
	p := NewPool(2)
	defer p.Close()
	var started atomic.Int64
	seconds := best(b, func() {
		started.Store(0)
		p.Run(2, func(_, _ int) {
			for started.Add(1); started.Load() < 2; {
				pause()
			}
		})
	})
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(seconds*1e9, "ns/call")
}
