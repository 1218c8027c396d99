package socket

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// none is a sink that counts packets.
type none struct{ n int }

func (s *none) RTP(packets []Packet) { s.n += len(packets) }

// pair sends frames of 30 packets from one socket to another.
type pair struct {
	from, to *udpConn
	d        *Dest
	b        *Burst
	in       *inbox
	pkts     []Packet
	frame    [][]byte
	sink     *none
}

func newPair(t testing.TB, channel uint16) *pair {
	r := stalled(t, 0)
	p := &pair{sink: new(none), b: new(Burst), in: newInbox(), pkts: make([]Packet, 0, batch), frame: numbered(30, 1200)}
	p.from, p.to = open(t, network(t, r, nil)), open(t, network(t, r, p.sink))
	p.d = &Dest{socket: p.from, to: p.to.addr, channel: channel}
	return p
}

func (p *pair) send() ([]int, error) {
	p.b.Reset()
	for _, f := range p.frame {
		if err := p.b.Add(p.d, func(room []byte) ([]byte, error) { return append(room, f...), nil }); err != nil {
			return nil, err
		}
	}
	return p.b.Send(p.d)
}

// TestNoGarbage: neither sending nor receiving media allocates.
func TestNoGarbage(t *testing.T) {
	for name, channel := range map[string]uint16{"direct": 0, "channel": 0x4000} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, channel)
			failures := 0
			frames := testing.AllocsPerRun(100, func() {
				if failed, err := p.send(); err != nil || len(failed) > 0 {
					failures++
				}
				p.pkts = p.to.read(p.in, p.pkts)
			})
			require.Zero(t, failures)
			require.Equal(t, 101*len(p.frame), p.sink.n)
			require.Zero(t, frames, "allocations per frame sent and received")
		})
	}
}

func benchmark(b *testing.B, receive bool) {
	p := newPair(b, 0x4000)
	b.ReportAllocs()
	b.SetBytes(30 * 1200)
	for b.Loop() {
		if receive {
			b.StopTimer()
		}
		if _, err := p.send(); err != nil {
			b.Fatal(err)
		}
		if receive {
			b.StartTimer()
		} else {
			b.StopTimer()
		}
		p.pkts = p.to.read(p.in, p.pkts)
		if !receive {
			b.StartTimer()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*30), "ns/packet")
}

// BenchmarkSend sends a frame of 30 packets over loopback into the receiver's buffer.
func BenchmarkSend(b *testing.B) { benchmark(b, false) }

// BenchmarkReceive reads a frame of 30 packets from a socket into a sink.
func BenchmarkReceive(b *testing.B) { benchmark(b, true) }

// BenchmarkSort handles received packets, without the system call.
func BenchmarkSort(b *testing.B) {
	p := newPair(b, 0x4000)
	if _, err := p.send(); err != nil {
		b.Fatal(err)
	}
	n, err := p.in.receive(p.to.fd)
	if err != nil || n != 30 {
		b.Fatal(n, err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.pkts = p.to.sort(p.in, n, p.pkts[:0])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*30), "ns/packet")
}
