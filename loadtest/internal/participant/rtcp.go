package participant

import (
	"time"

	"github.com/pion/rtcp"
)

// receiveRTCP takes LiveKit's reports and requests.
func (p *Publisher) receiveRTCP(pkts []rtcp.Packet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pkt := range pkts {
		switch r := pkt.(type) {
		case *rtcp.ReceiverReport:
			for _, b := range r.Reports {
				if s := p.bySSRC(b.SSRC); s != nil {
					s.named = true
					s.sent.Reported(b.LastSequenceNumber, b.TotalLost)
				}
			}
		case *rtcp.TransportLayerNack:
			s := p.bySSRC(r.MediaSSRC)
			if s == nil {
				continue
			}
			p.resends.Reset()
			for _, pair := range r.Nacks {
				for _, seq := range pair.PacketList() {
					p.nacks++
					// LiveKit reads "nack pli" as "nack" (pkg/sfu/buffer Bind, v1.11.0),
					// so it asks even if NACK was not offered.
					if p.nack {
						s.resend(p.resends, seq)
					}
				}
			}
			p.transmit(p.resends)
		case *rtcp.PictureLossIndication:
			p.keyAsked(r.MediaSSRC)
		case *rtcp.FullIntraRequest:
			for _, f := range r.FIR {
				p.keyAsked(f.SSRC)
			}
		}
	}
}

func (p *Publisher) keyAsked(ssrc uint32) {
	p.plis++
	if s := p.bySSRC(ssrc); s != nil {
		s.wantKey()
	}
}

func (p *Publisher) bySSRC(ssrc uint32) *source {
	for _, t := range p.tracks {
		for _, s := range t.layers {
			if s.ssrc == ssrc {
				return s
			}
		}
	}
	return nil
}

// reportEvery is the time between sender reports. LiveKit forwards capture times to a
// new subscriber only after the next one.
const reportEvery = 250 * time.Millisecond

// sendReports sends sender reports until the participant leaves: often at first,
// because LiveKit forwards capture times only after it has received one.
func (p *Publisher) sendReports() {
	every := []int{20, 30, 50, 100, 200}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := 0; ; i++ {
		select {
		case <-p.Done():
			return
		case <-timer.C:
		}
		if pkts := p.senderReports(time.Now()); len(pkts) > 0 {
			if err := p.WriteRTCP(pkts); err != nil {
				p.mu.Lock()
				p.err = err
				p.mu.Unlock()
			}
		}
		// All publishers send at the same moment, so that one wake-up serves them all.
		next := time.Until(time.Now().Add(reportEvery / 2).Truncate(reportEvery).Add(reportEvery))
		if i < len(every) {
			next = time.Duration(every[i]) * time.Millisecond
		}
		timer.Reset(next)
	}
}

func (p *Publisher) senderReports(now time.Time) []rtcp.Packet {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []rtcp.Packet
	for _, t := range p.tracks {
		for _, s := range t.layers {
			c := s.sent.Counters()
			if c.Packets == 0 {
				continue
			}
			out = append(out, &rtcp.SenderReport{
				SSRC: s.ssrc, NTPTime: ntp(now), RTPTime: s.tsBase + uint32((now.UnixNano()-s.start)/1000*int64(s.clip.ClockRate)/1e6),
				PacketCount: uint32(c.Packets), OctetCount: uint32(c.PayloadBytes),
			})
		}
	}
	if len(out) > 0 {
		out = append(out, &rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{
			Source: p.tracks[0].layers[0].ssrc, Items: []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: TrackName}},
		}}})
	}
	return out
}

// ntp returns a time in NTP format (RFC 3550 section 4).
func ntp(t time.Time) uint64 {
	const since1900 = 2208988800
	return uint64(t.Unix()+since1900)<<32 | uint64(t.Nanosecond())<<32/1e9
}
