package cpu

import (
	"sync"
	"sync/atomic"
)

type Pool struct{ n int }

func NewPool(n int) *Pool       { return &Pool{n} }
func (p *Pool) Workers() int    { return p.n }
func (p *Pool) Close()          {}
func (p *Pool) Run(tasks int, fn func(w, t int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	body := func(w int) {
		for {
			i := int(next.Add(1)) - 1
			if i >= tasks {
				return
			}
			fn(w, i)
		}
	}
	for w := 1; w < p.n && w < tasks; w++ {
		wg.Add(1)
		go func() { defer wg.Done(); body(w) }()
	}
	body(0)
	wg.Wait()
}
