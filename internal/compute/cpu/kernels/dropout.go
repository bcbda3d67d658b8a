package kernels

// Mask tells which columns of one row are dropped, and by what the others are scaled. Column c is dropped where the 16-bit
// lane c%8 (lower half of word 0 first) of Philox4x32-10(counter {c/8, ctr...}, key) is below the threshold: Salmon et al.,
// "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
//
// Its words are set one by one and read one by one by the assembly: a copy would wait for all stores before it.
type Mask struct {
	key       [2]uint32
	ctr       [3]uint32
	first     uint32 // counter of the first element
	threshold uint32 // in both halves
	scale     float32
	all       bool // everything is dropped
}

// SetKey sets the generator's key, the threshold (0 to 65536) and the scale.
func (m *Mask) SetKey(k0, k1, threshold uint32, scale float32) {
	m.key[0], m.key[1] = k0, k1
	m.threshold, m.scale, m.all = threshold|threshold<<16, scale, threshold > 0xffff
}

// SetRow sets the upper three words of the counters.
func (m *Mask) SetRow(c0, c1, c2 uint32) { m.ctr[0], m.ctr[1], m.ctr[2] = c0, c1, c2 }

// MaskBytes is how many bytes the bits of a row of n elements take.
func MaskBytes(n int) int { return (n + 63) / 64 * 8 }

// Dropout sets one row dst = mask·scale·src. Dropped elements are 0 whatever src is. dst may be src. If bits is not nil,
// bit c%8 of bits[c/8] (MaskBytes of them) is set where element c is kept.
func (l Level) Dropout(dst, src []float32, bits []byte, m *Mask) {
	src = src[:len(dst)]
	if bits != nil {
		bits = bits[:MaskBytes(len(dst))]
	}
	if m.all {
		clear(dst)
		clear(bits)
		return
	}
	if !l.asm() {
		dropoutGo(dst, src, bits, m)
		return
	}
	m.first = 0
	n := len(dst) &^ 63
	if n > 0 {
		dropoutRow(dst, src, bits, n/64, m)
	}
	if n < len(dst) {
		var buf [64]float32
		copy(buf[:], src[n:])
		m.first = uint32(n / 8)
		if bits != nil {
			bits = bits[n/8:]
		}
		dropoutRow(buf[:], buf[:], bits, 1, m)
		copy(dst[n:], buf[:])
	}
}

func dropoutRow(dst, src []float32, bits []byte, blocks int, m *Mask) {
	if bits != nil {
		dropoutBits(&dst[0], &src[0], blocks, m, &bits[0])
	} else {
		dropoutSet(&dst[0], &src[0], blocks, m)
	}
}

// MaskAdd is dst += scale·src of the elements whose bit is set in bits, as Dropout made them: the gradient of Dropout.
func (l Level) MaskAdd(dst, src []float32, bits []byte, scale float32) {
	n := len(dst)
	src, bits = src[:n], bits[:(n+7)/8]
	i := 0
	if l.asm() && n >= 8 {
		maskAdd(&dst[0], &src[0], &bits[0], scale, n/8)
		i = n &^ 7
	}
	for ; i < n; i++ {
		if bits[i/8]>>(i%8)&1 != 0 {
			dst[i] += float32(src[i] * scale)
		}
	}
}

func dropoutGo(dst, src []float32, bits []byte, m *Mask) {
	clear(bits)
	for c := 0; c < len(dst); c += 8 {
		random := philox([4]uint32{uint32(c / 8), m.ctr[0], m.ctr[1], m.ctr[2]}, m.key)
		for i := c; i < min(c+8, len(dst)); i++ {
			x := float32(0)
			if random[i%8/2]>>(16*(i%2))&0xffff >= m.threshold&0xffff {
				x = float32(src[i] * m.scale)
				if bits != nil {
					bits[i/8] |= 1 << (i % 8)
				}
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
