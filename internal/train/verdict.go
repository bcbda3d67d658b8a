package train

import (
	"fmt"
	"math"
	"strings"
)

// UnhealthyError says what speaks against the result of a run that went to its end. The adapter was saved.
type UnhealthyError struct {
	Dir      string   // of the adapter
	Problems []string // each with advice
}

func (e *UnhealthyError) Error() string {
	return fmt.Sprintf("the adapter was saved in %s, but the run does not look healthy: %s", e.Dir, strings.Join(e.Problems, "; "))
}

// Verdict judges a run that went to its end: nil, or an *UnhealthyError. (A loss or gradient that is not finite ended the run
// with a NonFiniteError.)
func (l *Loop) Verdict() error {
	if p := l.problems(); len(p) > 0 {
		return &UnhealthyError{l.OutputDir, p}
	}
	return nil
}

// leastLogged is the number of log lines from which on a run must have improved.
const leastLogged = 50

func (l *Loop) problems() (out []string) {
	zero := true
	for _, m := range l.Adapter.Modules {
		for _, x := range m.B {
			zero = zero && x == 0
		}
	}
	if zero {
		out = append(out, "every lora_B is zero, so the adapter changes nothing: the learning rate was 0 in every step, or no gradient arrived; look at learning_rate, warmup_steps and max_steps")
	}
	var losses []float64
	for _, r := range l.history {
		if r.Loss != nil {
			losses = append(losses, *r.Loss)
		}
	}
	n := len(losses)
	if n == 0 {
		return out
	}
	if last, uniform := losses[n-1], math.Log(float64(l.Model.VocabSize)); last > uniform {
		out = append(out, fmt.Sprintf("the last loss, %.4g, is above ln(vocabulary) = %.4g, so the model guesses worse than by chance: lower learning_rate, or look with cria data at whether template and model belong together", last, uniform))
	}
	if n >= leastLogged {
		first, last := mean(losses[:n/10]), mean(losses[n-n/10:])
		if last >= first {
			out = append(out, fmt.Sprintf("the loss did not fall in %d log entries (mean of the first tenth %.4g, of the last %.4g): raise learning_rate if the loss stood still, lower it if the loss rose", n, first, last))
		}
	}
	return out
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}
