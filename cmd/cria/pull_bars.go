package main

import (
	"fmt"
	"sync"

	"cria/internal/hub"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// pullBars shows a pull: on a terminal a bar for each file at work and one for all, remarks everywhere.
type pullBars struct {
	ui     *ui
	answer string // of Ctrl-C before

	mu    sync.Mutex
	bars  *mpb.Progress // nil without a terminal
	total *mpb.Bar
	files map[string]*fileBar
	bytes int64 // fetched since start
}

type fileBar struct {
	bar  *mpb.Bar // nil once the file is done
	done int64
	was  bool // being compared with its hash
}

func newPullBars(ui *ui) *pullBars {
	b := &pullBars{ui: ui, files: map[string]*fileBar{}}
	if ui.tty {
		b.bars = mpb.New(mpb.WithOutput(ui.err), mpb.WithWidth(80))
		b.answer = ui.stopping()
		ui.answerStop("") // it would be written across the bars
	}
	return b
}

// start shows the bar for everything.
func (b *pullBars) start(missing int64) {
	if b.bars == nil || missing == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total = b.bars.AddBar(missing, mpb.BarPriority(1<<30),
		mpb.PrependDecorators(decor.Name("total", decor.WCSyncSpaceR), decor.CountersKibiByte("% .1f / % .1f", decor.WCSyncSpace)),
		mpb.AppendDecorators(decor.AverageSpeed(decor.SizeB1024(0), "% .1f", decor.WCSyncSpace), decor.AverageETA(decor.ET_STYLE_GO, decor.WCSyncSpace)))
}

func (b *pullBars) note(format string, args ...any) {
	text := oneScreen(fmt.Sprintf(format, args...))
	if b.bars == nil {
		b.ui.note("%s", text)
		return
	}
	fmt.Fprintln(b.bars, text)
}

func (b *pullBars) event(e hub.Event) {
	if e.Note != "" {
		b.note("%s", e.Note)
		return
	}
	if b.bars == nil || e.Size == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.files[e.File]
	if f == nil {
		f = &fileBar{done: e.Done}
		if e.Checking {
			f.done = 0
		}
		b.files[e.File] = f
	}
	if !e.Checking {
		b.bytes += e.Done - f.done
		f.done = e.Done
		if b.total != nil {
			b.total.SetCurrent(b.bytes)
		}
	}
	if e.Size < 1<<20 { // too short to be seen
		return
	}
	if f.bar == nil || f.was != e.Checking {
		if f.bar != nil {
			f.bar.Abort(true)
		}
		if f.was && f.bar == nil { // checked to the end before
			return
		}
		verb := ""
		if e.Checking {
			verb = "checking "
		}
		f.bar = b.bars.AddBar(e.Size, mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name(verb+shortName(printable(e.File)), decor.WCSyncSpaceR), decor.CountersKibiByte("% .1f / % .1f", decor.WCSyncSpace)))
		f.was = e.Checking
	}
	f.bar.SetCurrent(e.Done)
	if e.Checking && e.Done == e.Size {
		f.bar.Abort(true)
		f.bar = nil
	}
}

// close removes what is still shown.
func (b *pullBars) close() {
	if b.bars == nil {
		return
	}
	b.mu.Lock()
	for _, f := range b.files {
		if f.bar != nil {
			f.bar.Abort(true)
		}
	}
	if b.total != nil {
		b.total.Abort(true)
	}
	b.mu.Unlock()
	b.bars.Wait()
	b.bars = nil
	b.ui.answerStop(b.answer)
}

// shortName keeps the end of a long path, where shards differ.
func shortName(s string) string {
	const most = 34
	if r := []rune(s); len(r) > most {
		return "..." + string(r[len(r)-most+3:])
	}
	return s
}
