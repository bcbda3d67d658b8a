package compute

import "math"

// Dropout gives every adapted projection of a pass its mask. An element is kept with probability 1-P and scaled by
// 1/(1-P), where P is rounded to a multiple of 1/65536. Masks are a pure function of (Seed, Step, trie node, position,
// module, column), so passes, threads, recomputation and sharing of prefixes do not change them.
type Dropout struct {
	Seed      uint64
	Step      uint32
	Threshold uint32  // an element is dropped where its 16 random bits are below
	Scale     float32 // of the kept elements
}

// NewDropout returns the masks of probability p in one optimizer step, or nil for p = 0.
func NewDropout(p float64, seed uint64, step int) *Dropout {
	t := uint32(math.Round(p * 65536))
	if t == 0 {
		return nil
	}
	return &Dropout{Seed: seed, Step: uint32(step), Threshold: t, Scale: float32(65536 / float64(65536-t))}
}

// Key is the Philox key of the step. The upper three words of a row's counters are its position, node and module.
func (d *Dropout) Key() (k0, k1 uint32) {
	return uint32(d.Seed), uint32(d.Seed>>32) ^ d.Step*0x9E3779B9
}

// Philox4x32 is the counter-based generator Philox4x32-10 of Salmon et al. (SC 2011, "Parallel random numbers: as easy
// as 1, 2, 3").
func Philox4x32(ctr [4]uint32, key [2]uint32) [4]uint32 {
	for range 10 {
		p0, p1 := uint64(0xD2511F53)*uint64(ctr[0]), uint64(0xCD9E8D57)*uint64(ctr[2])
		ctr = [4]uint32{uint32(p1>>32) ^ ctr[1] ^ key[0], uint32(p1), uint32(p0>>32) ^ ctr[3] ^ key[1], uint32(p0)}
		key[0] += 0x9E3779B9
		key[1] += 0xBB67AE85
	}
	return ctr
}

// Apply calls set(column, factor) for the columns 0..n-1 of one row; factor is 0 or d.Scale.
//
// Column c reads the 16-bit lane c%8 (low half of word 0 first) of Philox(counter {c/8, pos, node, module}).
func (d *Dropout) Apply(n int, node, pos int32, module uint32, set func(c int, factor float32)) {
	k0, k1 := d.Key()
	for c := 0; c < n; c += 8 {
		bits := Philox4x32([4]uint32{uint32(c / 8), uint32(pos), uint32(node), module}, [2]uint32{k0, k1})
		for i := c; i < min(c+8, n); i++ {
			lane := bits[i%8/2] >> (16 * (i % 2)) & 0xFFFF
			if lane >= d.Threshold {
				set(i, d.Scale)
			} else {
				set(i, 0)
			}
		}
	}
}
