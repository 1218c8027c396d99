package clip

// bits reads a header bit by bit. Reading past the end gives zeros and sets
// over, which is looked at once at the end.
type bits struct {
	data []byte
	pos  int // in bits
	over bool
}

// u is a field of n bits, 32 at most, the most significant one first.
func (b *bits) u(n int) uint32 {
	var v uint32
	for range n {
		v <<= 1
		if b.pos>>3 >= len(b.data) {
			b.over = true
			continue
		}
		v |= uint32(b.data[b.pos>>3]>>(7-b.pos&7)) & 1
		b.pos++
	}
	return v
}

func (b *bits) flag() bool { return b.u(1) == 1 }

// zeros counts zeros up to a one, 32 at most.
func (b *bits) zeros() int {
	n := 0
	for !b.over && n < 32 && b.u(1) == 0 {
		n++
	}
	return n
}

// ue is H.264's unsigned Exp-Golomb code (ITU-T H.264 section 9.1), and AV1's
// uvlc() (section 4.10.3), which are the same.
func (b *bits) ue() uint32 {
	n := b.zeros()
	if n == 0 {
		return 0
	}
	if n >= 32 {
		b.over = true // no field of ours is that large
		return 0
	}
	return 1<<n - 1 + b.u(n)
}

// se is H.264's signed one (section 9.1.1).
func (b *bits) se() int32 {
	k := b.ue()
	if k&1 == 1 {
		return int32(k/2) + 1
	}
	return -int32(k / 2)
}
