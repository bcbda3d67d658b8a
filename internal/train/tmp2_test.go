package train

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
)

func TestTmpWatch(t *testing.T) {
	if os.Getenv("TMPWATCH") == "" {
		t.Skip()
	}
	show := func(what string) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Printf("%-10s anon %d heapalloc %d inuse %d sys-rel %d stack %d mspan %d gc %d other %d numgc %d  next %d\n", what, processStatus("RssAnon")>>10, m.HeapAlloc>>10, m.HeapInuse>>10, (m.HeapSys-m.HeapReleased)>>10, m.StackSys>>10, m.MSpanSys>>10, m.GCSys>>10, m.OtherSys>>10, m.NumGC, m.NextGC>>10)
	}
	show("start")
	r := smolRecipe(t, t.TempDir(), "compute_dtype=bfloat16", "max_memory=250MiB", "max_steps=4", "per_device_train_batch_size=2", "gradient_accumulation_steps=1")
	j, err := Prepare(context.Background(), r, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	show("prepared")
	fmt.Printf("%+v base? %d\n", j.Plan.Memory, j.Plan.collect)
	u := j.Model.Backend().(interface{ Name() string })
	_ = u
	for range 3 {
		if _, err := j.trainStep(); err != nil {
			t.Fatal(err)
		}
		show("step")
	}
	runtime.GC()
	show("gc")
	j.save(1)
	show("saved")
}
