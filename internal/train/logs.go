package train

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cria/internal/disk"
)

// reporter is a log file that grows while the run goes. A run that is resumed goes on in the same file, without what was
// logged behind the checkpoint.
type reporter struct {
	path   string
	encode func(*entry) []byte
	file   disk.File
}

// entry is a Record with what is known when it is logged.
type entry struct {
	*Record
	total           int // steps
	elapsed, left   time.Duration
	tokens          int // of the run so far
	tokensPerSecond float64
}

// logFormat is a kind of log file.
type logFormat struct {
	name   string // in output_dir
	header func() []byte
	encode func(*entry) []byte
	// keep returns what the file holds up to a step, without the header; whatever is torn or foreign is left out.
	keep func(old []byte, step int) []byte
}

var logFormats = map[string]logFormat{
	"jsonl":       {"trainer_log.jsonl", func() []byte { return nil }, jsonLine, keepLines(jsonStep)},
	"csv":         {"log.csv", func() []byte { return []byte(csvHeader) }, csvLine, keepLines(csvStep)},
	"tensorboard": {"", eventHeader, eventRecord, keepEvents},
}

// openLogs opens the log files that the recipe asks for.
func (l *Loop) openLogs() error {
	for _, name := range l.ReportTo {
		f, ok := logFormats[name]
		if !ok {
			continue // none
		}
		if name == "tensorboard" {
			var err error
			if f.name, err = l.eventFile(); err != nil {
				return err
			}
		}
		r := &reporter{path: filepath.Join(l.OutputDir, f.name), encode: f.encode}
		l.reporters = append(l.reporters, r)
		old, err := readAll(l.FS, r.path)
		if err == nil { // in one step: a crash leaves the old file or the new one
			err = disk.PublishFile(l.FS, r.path, append(f.header(), f.keep(old, l.step)...))
		}
		if err == nil {
			r.file, err = l.FS.Append(r.path)
		}
		if err != nil {
			return l.logError(r, err)
		}
	}
	return nil
}

// syncLogs makes the log files as durable as the checkpoint that is written next.
func (l *Loop) syncLogs() error {
	for _, r := range l.reporters {
		if err := r.file.Sync(); err != nil {
			return l.logError(r, err)
		}
	}
	return nil
}

func (l *Loop) closeLogs() (err error) {
	for _, r := range l.reporters {
		if r.file != nil {
			if e := r.file.Close(); e != nil {
				err = errors.Join(err, l.logError(r, e))
			}
		}
	}
	l.reporters = nil
	return err
}

// report adds a record to all log files.
func (l *Loop) report(rec *Record) error {
	if rec == nil || len(l.reporters) == 0 {
		return nil
	}
	spent, done := time.Since(l.started), max(1, l.step-l.fromStep)
	e := &entry{Record: rec, total: l.Steps.Len(), elapsed: spent, left: spent / time.Duration(done) * time.Duration(l.Steps.Len()-l.step),
		tokens: l.seen, tokensPerSecond: l.speed(spent)}
	for _, r := range l.reporters {
		if _, err := r.file.Write(r.encode(e)); err != nil {
			return l.logError(r, err)
		}
	}
	return nil
}

func (l *Loop) logError(r *reporter, err error) error {
	return fmt.Errorf("%s could not be written: %w; checkpoints in %s are untouched, go on with resume_from_checkpoint=true once that is mended", r.path, err, l.OutputDir)
}

// jsonLine is a line of LLaMA-Factory's trainer_log.jsonl (LogCallback.on_log).
func jsonLine(e *entry) []byte {
	clock := func(d time.Duration) string { // Python's str(timedelta(seconds=int(...)))
		s := int(d.Seconds())
		out := fmt.Sprintf("%d:%02d:%02d", s/3600%24, s/60%60, s%60)
		switch days := s / 86400; {
		case days == 1:
			return "1 day, " + out
		case days > 1:
			return fmt.Sprintf("%d days, %s", days, out)
		}
		return out
	}
	round2 := func(x float64) float64 { return math.Round(x*100) / 100 }
	b, err := json.Marshal(struct {
		CurrentSteps  int      `json:"current_steps"`
		TotalSteps    int      `json:"total_steps"`
		Loss          *float64 `json:"loss,omitempty"`
		EvalLoss      *float64 `json:"eval_loss,omitempty"`
		LR            *float64 `json:"lr,omitempty"`
		Epoch         float64  `json:"epoch"`
		Percentage    float64  `json:"percentage"`
		ElapsedTime   string   `json:"elapsed_time"`
		RemainingTime string   `json:"remaining_time"`
		Throughput    float64  `json:"throughput"`
		TotalTokens   int      `json:"total_tokens"`
	}{e.Step, e.total, e.Loss, e.EvalLoss, e.LearningRate, e.Epoch, round2(100 * float64(e.Step) / float64(e.total)), clock(e.elapsed), clock(e.left), round2(e.tokensPerSecond), e.tokens})
	if err != nil { // no value of a record is infinite or NaN
		return nil
	}
	return append(b, '\n')
}

func jsonStep(line []byte) (int, bool) {
	var l struct {
		Step     *int     `json:"current_steps"`
		Loss     *float64 `json:"loss"`
		EvalLoss *float64 `json:"eval_loss"`
	}
	if json.Unmarshal(line, &l) != nil || l.Step == nil || l.Loss == nil && l.EvalLoss == nil {
		return 0, false
	}
	return *l.Step, true
}

const csvHeader = "step,epoch,loss,grad_norm,learning_rate,eval_loss,eval_perplexity,tokens,tokens_per_second,elapsed_seconds\n"

func csvLine(e *entry) []byte {
	if e.Loss == nil && e.EvalLoss == nil {
		return nil
	}
	number := func(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }
	fields := []string{strconv.Itoa(e.Step), number(e.Epoch)}
	for _, p := range []*float64{e.Loss, e.GradNorm, e.LearningRate, e.EvalLoss, e.EvalPerplexity} {
		s := ""
		if p != nil {
			s = number(*p)
		}
		fields = append(fields, s)
	}
	fields = append(fields, strconv.Itoa(e.tokens), fmt.Sprintf("%.1f", e.tokensPerSecond), fmt.Sprintf("%.3f", e.elapsed.Seconds()))
	return []byte(strings.Join(fields, ",") + "\n")
}

func csvStep(line []byte) (int, bool) {
	first, rest, _ := strings.Cut(string(line), ",")
	step, err := strconv.Atoi(first)
	return step, err == nil && strings.Count(rest, ",") == strings.Count(csvHeader, ",")-1
}

// keepLines keeps the whole lines of steps up to a step.
func keepLines(stepOf func(line []byte) (int, bool)) func([]byte, int) []byte {
	return func(old []byte, step int) (out []byte) {
		for line := range bytes.Lines(old) {
			if n, ok := stepOf(bytes.TrimSpace(line)); ok && n <= step && n > 0 && bytes.HasSuffix(line, []byte("\n")) {
				out = append(out, line...)
			}
		}
		return out
	}
}

// eventFile is the newest event file in output_dir/runs, or a new one's name there, as TensorBoard looks for it.
func (l *Loop) eventFile() (string, error) {
	const dir, prefix = "runs", "events.out.tfevents."
	if err := disk.MkdirAll(l.FS, filepath.Join(l.OutputDir, dir)); err != nil {
		return "", err
	}
	if err := disk.CleanTemps(l.FS, filepath.Join(l.OutputDir, dir)); err != nil { // TensorBoard would read them
		return "", err
	}
	entries, err := l.FS.ReadDir(filepath.Join(l.OutputDir, dir))
	if err != nil {
		return "", err
	}
	name := ""
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && strings.HasSuffix(e.Name(), ".cria") && e.Type().IsRegular() {
			name = e.Name()
		}
	}
	if name == "" {
		host, err := os.Hostname()
		if err != nil || disk.ValidName(host) != nil {
			host = "localhost"
		}
		name = fmt.Sprintf("%s%d.%s.cria", prefix, time.Now().Unix(), host)
	}
	return filepath.Join(dir, name), nil
}

// maxLog limits the log files that a resumed run takes over.
const maxLog = 1 << 30

func readAll(fsys disk.FS, path string) ([]byte, error) {
	f, err := fsys.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxLog+1))
	if len(b) > maxLog {
		return nil, fmt.Errorf("it has more than %s; move it away", size(maxLog))
	}
	return b, err
}
