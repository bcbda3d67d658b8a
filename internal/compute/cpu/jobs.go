package cpu

// job is what the workers do together. An operation fills the one that the backend keeps for it, where a closure would be
// new every time: a step allocates nothing.
type job interface{ task(w *worker, i int) }

// run runs the tasks 0 to n-1 of a job on all workers.
func (b *Backend) run(n int, j job) {
	if !b.idle() {
		b.job = j
		b.pool.Run(n, b.runTask)
	}
}

// rowJob is a job of rows.
type rowJob interface{ row(w *worker, t int) }

// rowBlocks are the tasks of a rowJob.
type rowBlocks struct {
	n int
	j rowJob
}

const rowsOfTask = 8

// rows runs a job for the rows 0 to n-1.
func (b *Backend) rows(n int, j rowJob) {
	b.rowBlocks = rowBlocks{n, j}
	b.run(parts(n, rowsOfTask), &b.rowBlocks)
}

func (r *rowBlocks) task(w *worker, i int) {
	for t := i * rowsOfTask; t < min(r.n, (i+1)*rowsOfTask); t++ {
		r.j.row(w, t)
	}
}

// tileJob is a job of blocks of rows that stay in the cache.
type tileJob interface{ tile(w *worker, t0, t1 int) }

// tiles are the tasks of a tileJob.
type tiles struct {
	n, count int
	j        tileJob
}

// tileRows is how many rows of an operand are made at a time: a multiple of the tiles' heights, few enough to stay in the
// cache between the steps.
const tileRows = 24

// inTiles runs a job for blocks of the rows 0 to n-1, as many for every worker.
func (b *Backend) inTiles(n int, j tileJob) {
	count := parts(parts(n, tileRows), b.Threads()) * b.Threads()
	b.tiles = tiles{n, count, j}
	b.run(count, &b.tiles)
}

func (s *tiles) task(w *worker, i int) {
	if t0, t1 := s.n*i/s.count, s.n*(i+1)/s.count; t0 < t1 {
		s.j.tile(w, t0, t1)
	}
}

// forWorkers calls f for the scratch of every worker.
func (b *Backend) forWorkers(f func(w *worker)) {
	for i := range b.workers {
		f(&b.workers[i])
	}
}
