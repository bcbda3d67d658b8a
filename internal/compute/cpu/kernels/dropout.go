package kernels

// dropoutRow is the argument of the assembly.
type dropoutRow struct {
	key       [2]uint32
	ctr       [3]uint32
	first     uint32 // counter of the first element
	threshold uint32 // in both halves
	scale     float32
}

// Dropout sets one row dst = mask·scale·src. Column c is dropped where the 16-bit lane c%8 (lower half of word 0 first) of
// Philox4x32-10(counter {c/8, ctr...}, key) is below threshold (0 to 65536): Salmon et al., "Parallel random numbers: as
// easy as 1, 2, 3", SC 2011. Dropped elements are 0 whatever src is. dst may be src.
func (l Level) Dropout(dst, src []float32, key [2]uint32, ctr [3]uint32, threshold uint32, scale float32) {
	src = src[:len(dst)]
	if threshold > 0xffff {
		clear(dst)
		return
	}
	if !l.asm() {
		dropoutGo(dst, src, key, ctr, threshold, scale, false)
		return
	}
	r := dropoutRow{key: key, ctr: ctr, threshold: threshold | threshold<<16, scale: scale}
	n := len(dst) &^ 63
	if n > 0 {
		dropoutSet(&dst[0], &src[0], n/64, &r)
	}
	if n < len(dst) {
		var buf [64]float32
		copy(buf[:], src[n:])
		r.first = uint32(n / 8)
		dropoutSet(&buf[0], &buf[0], 1, &r)
		copy(dst[n:], buf[:])
	}
}

// DropoutAdd is dst += mask·scale·src with the mask of Dropout: its gradient.
func (l Level) DropoutAdd(dst, src []float32, key [2]uint32, ctr [3]uint32, threshold uint32, scale float32) {
	src = src[:len(dst)]
	if threshold > 0xffff {
		return
	}
	if !l.asm() {
		dropoutGo(dst, src, key, ctr, threshold, scale, true)
		return
	}
	r := dropoutRow{key: key, ctr: ctr, threshold: threshold | threshold<<16, scale: scale}
	n := len(dst) &^ 63
	if n > 0 {
		dropoutAdd(&dst[0], &src[0], n/64, &r)
	}
	if n < len(dst) {
		var d, s [64]float32
		copy(s[:], src[n:])
		copy(d[:], dst[n:])
		r.first = uint32(n / 8)
		dropoutAdd(&d[0], &s[0], 1, &r)
		copy(dst[n:], d[:])
	}
}

func dropoutGo(dst, src []float32, key [2]uint32, ctr [3]uint32, threshold uint32, scale float32, add bool) {
	for c := 0; c < len(dst); c += 8 {
		bits := philox([4]uint32{uint32(c / 8), ctr[0], ctr[1], ctr[2]}, key)
		for i := c; i < min(c+8, len(dst)); i++ {
			x := float32(0)
			if bits[i%8/2]>>(16*(i%2))&0xffff >= threshold {
				x = float32(src[i] * scale)
			}
			if add {
				x += dst[i]
			}
			dst[i] = x
		}
	}
}

// philox is Philox4x32-10.
func philox(ctr [4]uint32, key [2]uint32) [4]uint32 {
	for range 10 {
		p0, p1 := uint64(0xD2511F53)*uint64(ctr[0]), uint64(0xCD9E8D57)*uint64(ctr[2])
		ctr = [4]uint32{uint32(p1>>32) ^ ctr[1] ^ key[0], uint32(p1), uint32(p0>>32) ^ ctr[3] ^ key[1], uint32(p0)}
		key[0] += 0x9E3779B9
		key[1] += 0xBB67AE85
	}
	return ctr
}
