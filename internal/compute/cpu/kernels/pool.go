package kernels

import (
	"sync"
	"sync/atomic"
)

// Pool is a set of worker threads that share the tasks of one call after the other. Between calls workers look out for
// the next one for some microseconds, then sleep.
type Pool struct {
	mu      sync.Mutex // one Run at a time
	workers []*worker  // without the caller

	fn      func(worker, task int)
	next    atomic.Uint64 // number of tasks in the upper half, tasks handed out in the lower
	left    atomic.Int64  // tasks that have not ended
	call    atomic.Uint64 // counts the calls by twos; odd numbers end the workers
	waiting atomic.Bool   // the caller sleeps on done
	done    chan struct{}
	failure atomic.Pointer[any] // first panic of a task
}

type worker struct {
	sleeping atomic.Bool // on wake
	wake     chan struct{}
}

// spins is how often something is looked for before sleeping: about 20 microseconds.
const spins = 500

// NewPool starts a pool of workers, of which one is the caller of Run.
func NewPool(workers int) *Pool {
	p := &Pool{done: make(chan struct{}, 1)}
	for i := 1; i < workers; i++ {
		w := &worker{wake: make(chan struct{}, 1)}
		p.workers = append(p.workers, w)
		go p.serve(w, i)
	}
	return p
}

// Workers is how many workers there are, the caller included.
func (p *Pool) Workers() int { return len(p.workers) + 1 }

// Run calls fn for the tasks 0 to tasks-1, each on some worker (0 is the caller), and returns when all are done. Workers
// take the tasks in ascending order as they become free. A panic of a task is passed on to the caller when all tasks have
// ended. fn must not call Run.
func (p *Pool) Run(tasks int, fn func(worker, task int)) {
	if tasks <= 1 || len(p.workers) == 0 {
		for i := range tasks {
			fn(0, i)
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fn = fn
	p.left.Store(int64(tasks))
	p.next.Store(uint64(tasks) << 32)
	p.announce(2)
	p.work(0)
	p.await()
	p.fn = nil
	if f := p.failure.Swap(nil); f != nil {
		panic(*f)
	}
}

// Close ends the workers. Run must not be called afterwards.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.announce(1)
}

// announce makes a new call known to all workers.
func (p *Pool) announce(step uint64) {
	p.call.Add(step)
	for _, w := range p.workers {
		if w.sleeping.CompareAndSwap(true, false) {
			w.wake <- struct{}{}
		}
	}
}

// serve is the life of a worker.
func (p *Pool) serve(w *worker, id int) {
	for seen := uint64(0); ; {
		for i := 0; p.call.Load() == seen; i++ {
			if i < spins {
				pause()
				continue
			}
			w.sleeping.Store(true)
			if p.call.Load() == seen || !w.sleeping.CompareAndSwap(true, false) {
				<-w.wake
			}
		}
		if seen = p.call.Load(); seen%2 == 1 {
			return
		}
		p.work(id)
	}
}

// work runs tasks until none is left. A worker may come late, even when the next call has begun: a task that it takes is
// always one of the current call, which cannot end before.
func (p *Pool) work(id int) {
	for {
		v := p.next.Add(1)
		tasks, i := int(v>>32), int(uint32(v))-1
		if i >= tasks {
			return
		}
		p.task(id, i)
	}
}

func (p *Pool) task(id, i int) {
	defer func() {
		if r := recover(); r != nil {
			first := r // on the heap only here
			p.failure.CompareAndSwap(nil, &first)
		}
		if p.left.Add(-1) == 0 && p.waiting.CompareAndSwap(true, false) {
			p.done <- struct{}{}
		}
	}()
	p.fn(id, i)
}

// await returns when all tasks have ended.
func (p *Pool) await() {
	for i := 0; p.left.Load() > 0; i++ {
		if i < spins {
			pause()
			continue
		}
		p.waiting.Store(true)
		if p.left.Load() > 0 || !p.waiting.CompareAndSwap(true, false) {
			<-p.done
		}
	}
}

// pause lets some 40 nanoseconds pass.
func pause() {
	if hasAsm {
		spinWait()
	}
}
