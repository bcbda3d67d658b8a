package train

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVerdict(t *testing.T) {
	logged := func(n int, f func(i int) float64) (h []Record) {
		for i := range n {
			x := f(i)
			h = append(h, Record{Loss: &x, Step: i + 1})
		}
		return h
	}
	j := prepared(t, t.TempDir(), "max_steps=1", "lr_scheduler_type=constant")
	if err := j.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		history []Record
		want    string
	}{
		{"falls", logged(60, func(i int) float64 { return 5 - float64(i)/20 }), ""},
		{"stands", logged(60, func(int) float64 { return 3 }), "did not fall in 60 log entries"},
		{"rises", logged(50, func(i int) float64 { return 3 + float64(i)/100 }), "did not fall in 50"},
		{"short", logged(49, func(i int) float64 { return 3 }), ""},
		{"chance", logged(3, func(i int) float64 { return 9 }), "ln(vocabulary)"},
		{"nothing logged", nil, ""},
	} {
		j.history = tt.history
		err := j.Verdict()
		var ill *UnhealthyError
		if (tt.want == "") != (err == nil) || err != nil && (!errors.As(err, &ill) || !strings.Contains(err.Error(), tt.want) || len(ill.Problems) != 1) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	// One step of a rate that warms up from 0 changes nothing. The adapter is saved all the same.
	j = prepared(t, t.TempDir(), "max_steps=1", "warmup_steps=1")
	if err := j.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := j.Verdict(); err == nil || !strings.Contains(err.Error(), "lora_B") {
		t.Errorf("an adapter of zeros: %v", err)
	}
	if _, err := os.Stat(filepath.Join(j.OutputDir, adapterFile)); err != nil {
		t.Error(err)
	}
}

// The report has what was trained; resuming a finished run leaves it alone.
func TestReport(t *testing.T) {
	dir := t.TempDir()
	over := []string{"eval_fraction=0.3", "max_steps=3", "logging_steps=1"}
	j := prepared(t, dir, over...)
	if err := j.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	j.Close()
	page, picture := filepath.Join(dir, "out", ReportFile), filepath.Join(dir, "out", PictureFile)
	b := mustRead(t, page)
	for _, want := range []string{"learning_rate: 0.001", "3 of 3", "evaluation", "<svg"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if !strings.Contains(string(mustRead(t, picture)), `class="eval"`) {
		t.Error("the picture lacks the evaluation")
	}
	j = prepared(t, dir, append(over, "resume_from_checkpoint=true")...)
	if err := j.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if string(mustRead(t, page)) != string(b) {
		t.Error("a finished run's report was made again")
	}
}
