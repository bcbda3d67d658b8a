package train

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cria/internal/disk"
	"cria/internal/disk/faultfs"
)

// A run that is resumed, and one that is resumed from further back, have every line of the logs once and in order.
func TestLogs(t *testing.T) {
	dir := t.TempDir()
	over := []string{"eval_fraction=0.3", "eval_steps=2", "logging_steps=1", "save_steps=1", "max_steps=5", "report_to=[jsonl, csv, tensorboard]"}
	ctx, cancel := context.WithCancel(context.Background())
	j := prepared(t, dir, over...)
	j.OnProgress = func(p Progress) {
		if p.Step == 3 {
			cancel()
		}
	}
	j.Run(ctx)
	j.Close()
	// What a killed process can leave behind.
	for _, name := range []string{"trainer_log.jsonl", "log.csv"} {
		f, err := os.OpenFile(filepath.Join(dir, "out", name), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString("4,torn")
		f.Close()
	}
	check := func(what string) {
		t.Helper()
		var steps []string
		lines := bytes.Split(bytes.TrimSpace(mustRead(t, filepath.Join(dir, "out", "trainer_log.jsonl"))), []byte("\n"))
		for _, line := range lines {
			var l map[string]any
			if err := json.Unmarshal(line, &l); err != nil {
				t.Fatalf("%s: %s: %v", what, line, err)
			}
			kind := ""
			if l["loss"] != nil {
				kind = "t"
			}
			if l["eval_loss"] != nil {
				kind = "e"
			}
			steps = append(steps, fmt.Sprint(l["current_steps"], kind))
			for _, field := range []string{"total_steps", "epoch", "percentage", "elapsed_time", "remaining_time", "throughput", "total_tokens"} {
				if l[field] == nil {
					t.Errorf("%s: %s has no %s", what, line, field)
				}
			}
		}
		const want = "1t 2t 2e 3t 4t 4e 5t 5e"
		if got := strings.Join(steps, " "); got != want+" 5" {
			t.Errorf("%s: trainer_log.jsonl has %s", what, got)
		}
		table, err := csv.NewReader(bytes.NewReader(mustRead(t, filepath.Join(dir, "out", "log.csv")))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		steps = nil
		for _, row := range table[1:] {
			kind := "t"
			if row[5] != "" {
				kind = "e"
			}
			steps = append(steps, row[0]+kind)
		}
		if got := strings.Join(steps, " "); got != want {
			t.Errorf("%s: log.csv has %s", what, got)
		}
		files, _ := filepath.Glob(filepath.Join(dir, "out", "runs", "events.out.tfevents.*"))
		if len(files) != 1 {
			t.Fatalf("%s: event files %v", what, files)
		}
		steps = nil
		for _, e := range events(t, mustRead(t, files[0])) {
			switch {
			case e.version != "":
				steps = append(steps, e.version)
			case e.scalars["train/loss"] > 0:
				steps = append(steps, fmt.Sprintf("%dt", e.step))
			case e.scalars["eval/loss"] > 0:
				steps = append(steps, fmt.Sprintf("%de", e.step))
			}
			if e.wall < 1.7e9 || e.wall > float64(time.Now().Unix()+9) {
				t.Errorf("wall_time %v", e.wall)
			}
		}
		if got := strings.Join(steps, " "); got != "brain.Event:2 "+want {
			t.Errorf("%s: events are %s", what, got)
		}
	}
	for _, from := range []string{"true", filepath.Join(dir, "out", checkpointName(2))} {
		j := prepared(t, dir, append(over, "resume_from_checkpoint="+from)...)
		if err := j.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		j.Close()
		check("from " + from)
	}
	// A finished run leaves them alone.
	j = prepared(t, dir, append(over, "resume_from_checkpoint=true")...)
	if err := j.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	check("finished")
}

// Whenever power is lost while the logs of a resumed run are opened, what was logged up to its checkpoint stays.
func TestLogsSurvivePowerLoss(t *testing.T) {
	f := faultfs.New()
	loop := func(f disk.FS) *Loop {
		return &Loop{Config: Config{FS: f, OutputDir: "out", ReportTo: []string{"jsonl", "csv", "tensorboard"}}, step: 3}
	}
	if err := disk.MkdirAll(f, "out"); err != nil {
		t.Fatal(err)
	}
	l := loop(f)
	if err := l.openLogs(); err != nil {
		t.Fatal(err)
	}
	var paths []string
	var want [][]byte
	for _, r := range l.reporters {
		for step := 1; step <= 5; step++ {
			loss := float64(step)
			r.file.Write(r.encode(&entry{Record: &Record{Loss: &loss, Step: step}, total: 5}))
		}
		paths = append(paths, r.path)
	}
	if err := errors.Join(l.syncLogs(), l.closeLogs()); err != nil {
		t.Fatal(err)
	}
	for i, name := range l.ReportTo {
		b, err := readAll(f, paths[i])
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, logFormats[name].keep(b, 3))
		if len(want[i]) == 0 || len(want[i]) >= len(b) {
			t.Fatalf("%s: %d of %d bytes are kept", name, len(want[i]), len(b))
		}
	}
	states := 0
	f.After = func(op int, what string) {
		for _, loss := range faultfs.Losses {
			states++
			c := f.Crash(loss, uint64(op))
			for i, name := range l.ReportTo {
				b, err := readAll(c, paths[i])
				if got := logFormats[name].keep(b, 3); err != nil || !bytes.Equal(got, want[i]) {
					t.Fatalf("%s after %s, %v: %d bytes are left of %d, %v", name, what, loss, len(got), len(want[i]), err)
				}
			}
			again := loop(c)
			if err := again.openLogs(); err != nil || len(again.reporters) != 3 || again.reporters[2].path != paths[2] {
				t.Fatalf("after %s, %v: %v, %+v", what, loss, err, again.reporters)
			}
		}
	}
	if err := loop(f).openLogs(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d states", states)
}

type tfEvent struct {
	wall    float64
	step    uint64
	version string
	scalars map[string]float32
}

// events reads an event file with a protobuf reader of its own.
func events(t *testing.T, b []byte) (out []tfEvent) {
	t.Helper()
	fields := func(b []byte, see func(field int, bits uint64, data []byte)) {
		for len(b) > 0 {
			key, n := binary.Uvarint(b)
			b = b[n:]
			switch key & 7 {
			case 0:
				v, n := binary.Uvarint(b)
				see(int(key>>3), v, nil)
				b = b[n:]
			case 1:
				see(int(key>>3), binary.LittleEndian.Uint64(b), nil)
				b = b[8:]
			case 2:
				size, n := binary.Uvarint(b)
				see(int(key>>3), 0, b[n:n+int(size)])
				b = b[n+int(size):]
			case 5:
				see(int(key>>3), uint64(binary.LittleEndian.Uint32(b)), nil)
				b = b[4:]
			default:
				t.Fatalf("wire type %d", key&7)
			}
		}
	}
	for len(b) > 0 {
		n := binary.LittleEndian.Uint64(b)
		if binary.LittleEndian.Uint32(b[8:]) != maskedCRC(b[:8]) || binary.LittleEndian.Uint32(b[12+n:]) != maskedCRC(b[12:12+n]) {
			t.Fatal("checksum")
		}
		e := tfEvent{scalars: map[string]float32{}}
		fields(b[12:12+n], func(field int, bits uint64, data []byte) {
			switch field {
			case 1:
				e.wall = math.Float64frombits(bits)
			case 2:
				e.step = bits
			case 3:
				e.version = string(data)
			case 5:
				fields(data, func(_ int, _ uint64, value []byte) {
					tag, x := "", float32(0)
					fields(value, func(field int, bits uint64, data []byte) {
						if field == 1 {
							tag = string(data)
						} else {
							x = math.Float32frombits(uint32(bits))
						}
					})
					e.scalars[tag] = x
				})
			}
		})
		out, b = append(out, e), b[16+n:]
	}
	return out
}

// The checksum of records is the masked CRC-32C.
func TestTFRecord(t *testing.T) {
	// RFC 3720, B.4: the CRC-32C of 32 bytes of zeros is 8a9136aa; masked as in tensorflow/core/lib/hash/crc32c.h.
	crc := uint32(0x8a9136aa)
	if got, want := maskedCRC(make([]byte, 32)), (crc>>15|crc<<17)+0xa282ead8; got != want {
		t.Errorf("masked CRC %08x, want %08x", got, want)
	}
}

func FuzzKeepLogs(f *testing.F) {
	loss := 1.5
	e := &entry{Record: &Record{Loss: &loss, Step: 2}, total: 4}
	f.Add(append(eventHeader(), eventRecord(e)...))
	f.Add([]byte(csvHeader + "1,2,3\n"))
	f.Add(jsonLine(e))
	f.Fuzz(func(t *testing.T, old []byte) {
		for name, format := range logFormats {
			kept := format.keep(old, 3)
			if again := format.keep(kept, 3); !bytes.Equal(again, kept) {
				t.Errorf("%s: what was kept is not kept again", name)
			}
		}
	})
}
