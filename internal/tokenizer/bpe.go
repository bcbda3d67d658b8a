package tokenizer

import (
	"hash/maphash"
	"math"
	"math/bits"
	"strings"
	"sync/atomic"
)

// mergeTable maps a pair of token ids to the rank of its merge: an open-addressing hash
// table that is filled once and then only read. An entry is left, right and rank + 1,
// packed into 21 + 21 + 22 bits (maxTokens, maxMerges); 0 is a free entry. The 280,147
// merges of Llama 3 take 4 MB, which matters, because encoding waits for little else.
type mergeTable struct {
	entries []uint64
	shift   uint
	ids     []int32 // rank -> merged id
	first   []int32 // ranks of the pairs of the first ids, the bytes and what is merged first, which most questions are about
}

const (
	idBits   = 21
	rankBits = 22
	// firstIDs is a power of two. Their pairs take 1 MiB, of which a text touches a part that stays in the level-2 cache; a
	// pair in entries is a cache line of its own.
	firstIDs = 512
	// noMerge is the rank of a pair that does not merge.
	noMerge = math.MaxInt32
)

// A merge makes the token whole of two neighbours.
type merge struct{ left, right, whole int32 }

// newMergeTable gives every merge its index as rank; of two of the same pair the later counts.
func newMergeTable(merges []merge) mergeTable {
	size := bits.Len(uint(len(merges) + len(merges)/2)) // one to two thirds full
	m := mergeTable{make([]uint64, 1<<size), 64 - uint(size), make([]int32, len(merges)), make([]int32, firstIDs*firstIDs)}
	for i := range m.first {
		m.first[i] = noMerge
	}
	for rank, merge := range merges {
		place, pair := m.find(merge.left, merge.right)
		*place = pair<<rankBits | uint64(rank+1)
		m.ids[rank] = merge.whole
		if merge.left < firstIDs && merge.right < firstIDs {
			m.first[merge.left*firstIDs+merge.right] = int32(rank)
		}
	}
	return m
}

// find returns the place of a pair: its entry, or the free one where it belongs.
func (m *mergeTable) find(left, right int32) (place *uint64, pair uint64) {
	pair = uint64(left)<<idBits | uint64(right)
	for i := pair * 0x9e3779b97f4a7c15 >> m.shift; ; i = (i + 1) & uint64(len(m.entries)-1) {
		if place = &m.entries[i]; *place == 0 || *place>>rankBits == pair {
			return place, pair
		}
	}
}

func (m *mergeTable) rank(left, right int32) int32 {
	if uint32(left|right) < firstIDs {
		return m.first[left*firstIDs+right]
	}
	place, _ := m.find(left, right)
	if *place == 0 {
		return noMerge
	}
	return int32(*place&(1<<rankBits-1)) - 1
}

// shortWord is the longest word, in bytes, that is merged by scanning (quadratic in the
// length but without a heap) and remembered in the word cache.
const shortWord = 48

// appendWord appends the ids of one piece of text, of at least one byte.
func (t *Tokenizer) appendWord(dst []int32, word string) []int32 {
	if t.ignoreMerges {
		if id, ok := t.vocab[word]; ok {
			return append(dst, id)
		}
	}
	if len(word) > shortWord {
		return append(dst, t.mergeHeap(t.appendBytes(nil, word))...)
	}
	slot := t.words.slot(word)
	if e := slot.Load(); e != nil && e.word == word {
		return append(dst, e.ids...)
	}
	start := len(dst)
	dst = t.appendBytes(dst, word)
	dst = dst[:start+t.mergeShort(dst[start:])]
	slot.Store(&cachedWord{strings.Clone(word), append([]int32(nil), dst[start:]...)})
	return dst
}

// appendBytes appends the id of every byte of word. A byte that the vocabulary lacks
// becomes unk_token (a run of such bytes a single one with fuse_unk), or nothing if
// there is none.
func (t *Tokenizer) appendBytes(dst []int32, word string) []int32 {
	fused := false
	for i := range len(word) {
		id := t.byteID[word[i]]
		if id < 0 {
			if t.unk < 0 || fused {
				continue
			}
			id, fused = t.unk, t.fuseUnk
		} else {
			fused = false
		}
		dst = append(dst, id)
	}
	return dst
}

// mergeShort merges ids, at most shortWord of them, in place and returns how many are
// left: the pair of the lowest rank first, the leftmost of equal ones.
func (t *Tokenizer) mergeShort(ids []int32) int {
	var ranks [shortWord]int32 // ranks[i]: of the pair (ids[i], ids[i+1])
	n := len(ids)
	for i := range n - 1 {
		ranks[i] = t.merges.rank(ids[i], ids[i+1])
	}
	for n > 1 {
		best := 0
		for i := 1; i < n-1; i++ {
			if ranks[i] < ranks[best] {
				best = i
			}
		}
		if ranks[best] == noMerge {
			break
		}
		ids[best] = t.merges.ids[ranks[best]]
		copy(ids[best+1:n], ids[best+2:n])
		copy(ranks[best:n-1], ranks[best+1:n-1])
		n--
		if best > 0 {
			ranks[best-1] = t.merges.rank(ids[best-1], ids[best])
		}
		if best < n-1 {
			ranks[best] = t.merges.rank(ids[best], ids[best+1])
		}
	}
	return n
}

// mergeHeap is mergeShort for any length, in O(n log n): candidates wait in a heap of
// (rank, position), and one whose pair has changed since is dropped when it comes up.
func (t *Tokenizer) mergeHeap(ids []int32) []int32 {
	n := int32(len(ids))
	next, prev := make([]int32, n), make([]int32, n)
	heap := make(candidates, 0, n)
	for i := range n {
		next[i], prev[i] = i+1, i-1
		if i+1 < n {
			if rank := t.merges.rank(ids[i], ids[i+1]); rank != noMerge {
				heap = append(heap, candidate(rank, i))
			}
		}
	}
	heap.init()
	for len(heap) > 0 {
		top := heap.pop()
		i := int32(uint32(top))
		j := next[i]
		if ids[i] < 0 || j == n {
			continue
		}
		rank := int32(top >> 32)
		if t.merges.rank(ids[i], ids[j]) != rank {
			continue
		}
		id := t.merges.ids[rank]
		ids[i], ids[j] = id, -1
		next[i] = next[j]
		if k := next[i]; k < n {
			prev[k] = i
			if rank := t.merges.rank(id, ids[k]); rank != noMerge {
				heap.push(candidate(rank, i))
			}
		}
		if h := prev[i]; h >= 0 {
			if rank := t.merges.rank(ids[h], id); rank != noMerge {
				heap.push(candidate(rank, h))
			}
		}
	}
	left := ids[:0]
	for _, id := range ids {
		if id >= 0 {
			left = append(left, id)
		}
	}
	return left
}

// candidates is a binary min-heap of merges that could be made: rank<<32 | position.
type candidates []uint64

func candidate(rank, pos int32) uint64 { return uint64(rank)<<32 | uint64(uint32(pos)) }

func (h candidates) init() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h *candidates) push(c uint64) {
	*h = append(*h, c)
	s := *h
	i := len(s) - 1
	for i > 0 && s[(i-1)/2] > c {
		s[i] = s[(i-1)/2]
		i = (i - 1) / 2
	}
	s[i] = c
}

func (h *candidates) pop() uint64 {
	s := *h
	top := s[0]
	s[0] = s[len(s)-1]
	*h = s[:len(s)-1]
	if len(*h) > 0 {
		h.down(0)
	}
	return top
}

func (h candidates) down(i int) {
	c := h[i]
	for {
		k := 2*i + 1
		if k >= len(h) {
			break
		}
		if k+1 < len(h) && h[k+1] < h[k] {
			k++
		}
		if h[k] >= c {
			break
		}
		h[i] = h[k]
		i = k
	}
	h[i] = c
}

// wordCache remembers the ids of short words. It is direct-mapped, so its size is fixed
// (at most 1<<14 words of shortWord bytes and ids), and needs no lock: a slot holds one
// immutable entry.
type wordCache struct {
	seed  maphash.Seed
	slots []atomic.Pointer[cachedWord]
}

type cachedWord struct {
	word string
	ids  []int32
}

const wordCacheSlots = 1 << 14

func newWordCache() wordCache {
	return wordCache{maphash.MakeSeed(), make([]atomic.Pointer[cachedWord], wordCacheSlots)}
}

func (c *wordCache) slot(word string) *atomic.Pointer[cachedWord] {
	return &c.slots[maphash.String(c.seed, word)%wordCacheSlots]
}
