package train

import (
	"fmt"
	"math"
	"math/big"
)

// Schedule is a learning-rate schedule of transformers.optimization.get_scheduler.
type Schedule struct {
	Type      string  // lr_scheduler_type, one of those that At knows
	LR        float64 // learning_rate, the peak
	Warmup    int     // steps
	Total     int     // steps
	MinLRRate float64 // cosine_with_min_lr: smallest rate as a share of LR
	LREnd     float64 // polynomial
	Power     float64 // polynomial
	NumCycles float64 // cosine and cosine_with_min_lr
}

// At is the learning rate of the update after step updates have been made.
func (s Schedule) At(step int) float64 {
	if s.Type != "constant" && step < s.Warmup {
		return s.LR * (float64(step) / float64(max(1, s.Warmup)))
	}
	progress := float64(step-s.Warmup) / float64(max(1, s.Total-s.Warmup))
	cosine := func() float64 { return 0.5 * (1 + cos(math.Pi*s.NumCycles*2*progress)) }
	switch s.Type {
	case "linear":
		return s.LR * max(0, float64(s.Total-step)/float64(max(1, s.Total-s.Warmup)))
	case "cosine":
		return s.LR * max(0, cosine())
	case "cosine_with_min_lr":
		return s.LR * max(0, cosine()*(1-s.MinLRRate)+s.MinLRRate)
	case "polynomial":
		if step > s.Total || s.Total == s.Warmup { // the reference divides by zero in the second case
			return s.LREnd
		}
		remaining := 1 - float64(step-s.Warmup)/float64(s.Total-s.Warmup)
		return s.LR * (((s.LR-s.LREnd)*math.Pow(remaining, s.Power) + s.LREnd) / s.LR)
	case "constant", "constant_with_warmup":
		return s.LR
	}
	panic(fmt.Sprintf("schedule %q passed the recipe's check", s.Type))
}

// cos is the cosine, correctly rounded as glibc's is almost always; math.Cos is not, and rates would differ from the
// reference's in the last bit. It is the Taylor series in 200 bits, for the |x| of a few turns that schedules have; for
// others, where its terms grow too large, it is math.Cos.
func cos(x float64) float64 {
	if math.Abs(x) > 64 {
		return math.Cos(x)
	}
	const bits = 200
	sq := new(big.Float).SetPrec(bits).SetFloat64(x)
	sq.Mul(sq, sq)
	term := new(big.Float).SetPrec(bits).SetInt64(1)
	sum := new(big.Float).SetPrec(bits).SetInt64(1)
	for n := int64(1); term.Sign() != 0 && term.MantExp(nil) > -120; n++ {
		term.Mul(term, sq)
		term.Quo(term, new(big.Float).SetPrec(bits).SetInt64(-(2*n-1)*2*n))
		sum.Add(sum, term)
	}
	y, _ := sum.Float64()
	return y
}
