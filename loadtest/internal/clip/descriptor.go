package clip

import (
	"encoding/binary"
	"slices"
)

// Decode target indications (AV1 RTP 1.0 appendix A.8.3.2). The only Go code for
// dependency descriptors is in LiveKit's server, which is too large a dependency.
const (
	notPresent  = 0
	discardable = 1
	switchable  = 2
)

// template is a kind of frame: how many frames back the frames it refers to are, and how
// many frames back each chain's last frame is, 0 where a chain starts.
type template struct {
	spatial, temporal int
	targets           []uint32
	refers            []int
	chains            []int
	slot              int // of its pictures: 0 for key pictures, else 1 + the place in the group
}

// described reports whether frames have a dependency descriptor: VP9 with layers, which
// LiveKit forwards wrongly without one (see package participant).
func (s Spec) described() bool { return s.Codec == VP9 && s.SVC != "" }

// temporals returns the number of temporal layers.
func (s Spec) temporals() int { return slices.Max(s.pattern()) + 1 }

// templates returns the mode's templates in the order of their ids. There is a decode
// target for each pair of a spatial and a temporal layer, and a chain for each spatial
// layer: its frames of temporal layer 0 and, in key pictures, the layers below.
func (s Spec) templates() []template {
	group, layers := s.group(), s.spatials()
	var all []template
	for slot := range len(group) + 1 {
		for spatial := range layers {
			t := template{spatial: spatial, slot: slot}
			key, place := slot == 0, slot-1
			if !key {
				t.temporal = int(group[place].tid)
				t.refers = []int{int(group[place].diff) * layers}
			} else if spatial > 0 {
				t.refers = []int{1}
			}
			for chain := range layers {
				t.chains = append(t.chains, back(key, place, len(group), layers, spatial, chain))
			}
			for target := range layers * s.temporals() {
				t.targets = append(t.targets, t.indication(key, target/s.temporals(), target%s.temporals()))
			}
			all = append(all, t)
		}
	}
	slices.SortStableFunc(all, func(a, b template) int {
		if a.spatial != b.spatial {
			return a.spatial - b.spatial
		}
		return a.temporal - b.temporal
	})
	return all
}

// back returns how many frames back the chain's last frame is.
func back(key bool, place, group, layers, spatial, chain int) int {
	switch {
	case key && spatial == 0:
		return 0
	case key:
		return spatial - min(spatial-1, chain)
	case place == 0 && chain < spatial: // in the same picture
		return spatial - chain
	case place == 0:
		return group*layers + spatial - chain
	}
	return place*layers + spatial - chain
}

// indication returns the frame's DTI for the decode target of the layers up to s and t.
func (f *template) indication(key bool, s, t int) uint32 {
	switch {
	case f.temporal > t || f.spatial > s || f.spatial != s && !key:
		return notPresent
	case f.temporal > 0 && f.temporal == t:
		return discardable
	}
	return switchable
}

// describe returns the dependency descriptor of a frame's first packet, with frame number
// 0. It includes the structure where a decoder can start.
func (s Spec) describe(u unit) []byte {
	all := s.templates()
	place := u.picture % s.every()
	slot := 0
	if place > 0 {
		slot = 1 + place%len(s.pattern())
	}
	id := slices.IndexFunc(all, func(t template) bool { return t.slot == slot && t.spatial == u.spatial })
	w := &bitWriter{}
	w.put(0b11, 2) // start_of_frame, end_of_frame
	w.put(uint32(id), 6)
	w.put(0, 16) // frame_number
	if slot == 0 && u.spatial == 0 {
		s.structured(w, all)
	}
	return w.data
}

// structured writes the extended fields with the structure of the templates
// (appendix A.8.2: template_dependency_structure()).
func (s Spec) structured(w *bitWriter, all []template) {
	w.put(0b10000, 5) // only the structure is present
	targets, chains := uint32(s.spatials()*s.temporals()), uint32(s.spatials())
	w.put(0, 6) // template_id_offset
	w.put(targets-1, 5)
	for i := range all[1:] {
		next := uint32(0) // the same layer
		switch a, b := all[i], all[i+1]; {
		case a.spatial != b.spatial:
			next = 2
		case a.temporal != b.temporal:
			next = 1
		}
		w.put(next, 2)
	}
	w.put(3, 2) // no more
	for _, t := range all {
		for _, v := range t.targets {
			w.put(v, 2)
		}
	}
	for _, t := range all {
		for _, v := range t.refers {
			w.put(1, 1)
			w.put(uint32(v-1), 4)
		}
		w.put(0, 1)
	}
	w.ns(chains, targets+1)
	for target := range targets {
		w.ns(target/uint32(s.temporals()), chains)
	}
	for _, t := range all {
		for _, v := range t.chains {
			w.put(uint32(v), 4)
		}
	}
	w.put(1, 1) // resolutions
	for i := range s.spatials() {
		down := s.spatials() - 1 - i
		w.put(uint32(s.Width>>down)-1, 16)
		w.put(uint32(s.Height>>down)-1, 16)
	}
}

// Describe appends the dependency descriptor (AV1 RTP 1.0 appendix A) of the frame's i-th
// payload to b, if the frame has one. Number is the frame number: it counts frames, and
// each spatial layer of a picture is a frame, modulo 65536.
func (f *Frame) Describe(b []byte, i int, number uint16) []byte {
	d := f.Descriptor
	if len(d) == 0 {
		return b
	}
	if i > 0 {
		d = d[:mandatory]
	}
	at := len(b)
	b = append(b, d...)
	b[at] &= 0x3f
	if i == 0 {
		b[at] |= 0x80 // start_of_frame
	}
	if i == len(f.Payloads)-1 {
		b[at] |= 0x40 // end_of_frame
	}
	binary.BigEndian.PutUint16(b[at+1:], number)
	return b
}

// Described returns how many bytes Describe appends.
func (f *Frame) Described(i int) int {
	if i > 0 {
		return min(len(f.Descriptor), mandatory)
	}
	return len(f.Descriptor)
}

// mandatory is the length in bytes of the fields that each descriptor has.
const mandatory = 3

// bitWriter writes bit by bit, most significant bit first.
type bitWriter struct {
	data []byte
	n    int // bits
}

func (w *bitWriter) put(v uint32, bits int) {
	for i := bits - 1; i >= 0; i-- {
		if w.n%8 == 0 {
			w.data = append(w.data, 0)
		}
		w.data[w.n/8] |= byte(v>>i&1) << (7 - w.n%8)
		w.n++
	}
}

// ns writes a value below n (AV1 section 4.10.7).
func (w *bitWriter) ns(v, n uint32) {
	bits := 0
	for x := n; x != 0; x >>= 1 {
		bits++
	}
	short := 1<<bits - n
	if v < short {
		w.put(v, bits-1)
		return
	}
	w.put(v+short, bits)
}
