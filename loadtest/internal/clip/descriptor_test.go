package clip_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
)

// bitReader reads what AV1 RTP 1.0 appendix A.8 says.
type bitReader struct {
	data []byte
	n    int
}

func (r *bitReader) f(bits int) int {
	v := 0
	for range bits {
		v = v<<1 | int(r.data[r.n/8]>>(7-r.n%8)&1)
		r.n++
	}
	return v
}

func (r *bitReader) ns(n int) int {
	w := 0
	for x := n; x != 0; x >>= 1 {
		w++
	}
	short := 1<<w - n
	v := r.f(w - 1)
	if v < short {
		return v
	}
	return v<<1 - short + r.f(1)
}

// structure reads a template_dependency_structure and writes it as the
// specification's examples do: layers, DTIs, frame diffs, chain diffs.
func structure(r *bitReader) (lines []string, protects []int, sizes [][2]int) {
	r.f(6) // template_id_offset
	targets := r.f(5) + 1
	type layer struct{ s, t int }
	all := []layer{{}}
	for next := r.f(2); next != 3; next = r.f(2) {
		l := all[len(all)-1]
		switch next {
		case 1:
			l.t++
		case 2:
			l = layer{l.s + 1, 0}
		}
		all = append(all, l)
	}
	dtis, diffs := make([]string, len(all)), make([][]int, len(all))
	for i := range all {
		for range targets {
			dtis[i] += string("-DSR"[r.f(2)])
		}
	}
	for i := range all {
		for r.f(1) == 1 {
			diffs[i] = append(diffs[i], r.f(4)+1)
		}
	}
	chains := r.ns(targets + 1)
	for range targets {
		protects = append(protects, r.ns(chains))
	}
	for i, l := range all {
		var back []int
		for range chains {
			back = append(back, r.f(4))
		}
		lines = append(lines, fmt.Sprint("S", l.s, "T", l.t, " ", dtis[i], " ", diffs[i], " ", back))
	}
	if r.f(1) == 1 {
		for range all[len(all)-1].s + 1 {
			sizes = append(sizes, [2]int{r.f(16) + 1, r.f(16) + 1})
		}
	}
	return lines, protects, sizes
}

// The structures are those of webrtc-svc's modes L3T3_KEY and L1T3, and each
// frame says which of their templates it is.
func TestDependencyDescriptors(t *testing.T) {
	for _, c := range []struct {
		mode     string
		lines    []string
		protects []int
		sizes    [][2]int
		ids      []int // of the frames from a key picture on
	}{
		{
			mode: clip.L3T3Key,
			lines: []string{
				"S0T0 SSSSSSSSS [] [0 0 0]", "S0T0 SSS------ [12] [12 11 10]", "S0T1 -DS------ [6] [6 5 4]",
				"S0T2 --D------ [3] [3 2 1]", "S0T2 --D------ [3] [9 8 7]",
				"S1T0 ---SSSSSS [1] [1 1 1]", "S1T0 ---SSS--- [12] [1 12 11]", "S1T1 ----DS--- [6] [7 6 5]",
				"S1T2 -----D--- [3] [4 3 2]", "S1T2 -----D--- [3] [10 9 8]",
				"S2T0 ------SSS [1] [2 1 1]", "S2T0 ------SSS [12] [2 1 12]", "S2T1 -------DS [6] [8 7 6]",
				"S2T2 --------D [3] [5 4 3]", "S2T2 --------D [3] [11 10 9]",
			},
			protects: []int{0, 0, 0, 1, 1, 1, 2, 2, 2},
			sizes:    [][2]int{{160, 90}, {320, 180}, {640, 360}},
			ids:      []int{0, 5, 10, 3, 8, 13, 2, 7, 12, 4, 9, 14, 1, 6, 11, 3},
		},
		{
			mode:     clip.L1T3,
			lines:    []string{"S0T0 SSS [] [0]", "S0T0 SSS [4] [4]", "S0T1 -DS [2] [2]", "S0T2 --D [1] [1]", "S0T2 --D [1] [3]"},
			protects: []int{0, 0, 0},
			sizes:    [][2]int{{640, 360}},
			ids:      []int{0, 3, 2, 4, 1, 3},
		},
	} {
		s := layered(clip.VP9, c.mode)
		s.Width, s.Height, s.Bitrate = 640, 360, 800_000
		made := makeClip(t, s)
		for i := range made.Frames {
			f := &made.Frames[i]
			number := uint16(65530 + i)
			for k := range f.Payloads {
				d := f.Describe([]byte{7}, k, number)
				require.Len(t, d, 1+f.Described(k))
				r := &bitReader{data: d[1:]}
				require.Equal(t, k == 0, r.f(1) == 1, "start_of_frame")
				require.Equal(t, k == len(f.Payloads)-1, r.f(1) == 1, "end_of_frame")
				id := r.f(6)
				require.EqualValues(t, number, r.f(16))
				if i < len(c.ids) {
					require.Equal(t, c.ids[i], id, "frame %d", i)
				}
				if !f.Key || k > 0 {
					require.Len(t, d, 1+3)
					continue
				}
				require.Zero(t, id)
				require.Equal(t, 0b10000, r.f(5), "there is a structure, and nothing else")
				lines, protects, sizes := structure(r)
				require.Equal(t, c.lines, lines)
				require.Equal(t, c.protects, protects)
				require.Equal(t, c.sizes, sizes)
				require.Less(t, 8*len(r.data)-r.n, 8, "and no more")
			}
		}
	}
	plain := makeClip(t, small(clip.VP9))
	require.Equal(t, []byte{7}, plain.Frames[0].Describe([]byte{7}, 0, 1), "nothing without layers")
}
