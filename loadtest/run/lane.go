package run

import (
	"sync"
	"time"

	"github.com/openova-io/bp-relay/loadtest/report"
)

// lane is what is counted of one path.
type lane struct {
	name   string
	shards [shards]*shard
	next   int

	mu             sync.Mutex
	joins          report.Joins
	time           *report.Hist
	firstPacket    *report.Hist
	firstFrame     *report.Hist
	pairs          map[string]int
	wrong          int
	present        int
	most           int
	publishers     int
	mostPublishers int
	// planned is the most subscribers that the scenario wants here at once, missing
	// how many of those that it wants at the end are not there.
	planned, missing int
	seated           int // subscribers that came in
	witnesses        int
	headers          int
	lastJoins        int // at the last second
	lastFailed       int
}

func newLane(name string) *lane {
	l := &lane{name: name, time: report.NewHist(), firstPacket: report.NewHist(), firstFrame: report.NewHist(), pairs: map[string]int{}}
	for i := range l.shards {
		l.shards[i] = newShard()
	}
	return l
}

// firsts notes the times of a guest; the caller holds mu.
func (l *lane) firsts(packet, frame time.Duration) {
	if packet > 0 {
		l.firstPacket.Record(packet)
	}
	if frame > 0 {
		l.firstFrame.Record(frame)
	}
}

// foreign is how many streams of somebody else's tracks there were, and what
// they lost.
func (l *lane) foreign() (streams, lost int64) {
	for _, s := range l.shards {
		s.mu.Lock()
		streams += s.foreign
		lost += s.foreignLost
		s.mu.Unlock()
	}
	return streams, lost
}
