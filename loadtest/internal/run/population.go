package run

import (
	"sync"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// population holds the participants of one path and their counts.
type population struct {
	name      string
	shards    [shards]*shard
	nextShard int

	mu                sync.Mutex
	joins             result.Joins
	joinTime          *result.Hist
	firstPacket       *result.Hist
	firstFrame        *result.Hist
	pairs             map[string]int
	wrongPath         int
	current           int
	peak              int
	currentPublishers int
	peakPublishers    int
	// planned is the highest number of subscribers that the scenario wants on this
	// path at once; missing is how many of those wanted at the end have not joined.
	planned, missing int
	joined           int // total of subscribers whose join succeeded
	witnesses        int
	headers          int
	lastJoins        int // joins.Succeeded at the last point of the timeline
	lastFailed       int
}

func newPopulation(name string) *population {
	pop := &population{name: name, joinTime: result.NewHist(), firstPacket: result.NewHist(), firstFrame: result.NewHist(), pairs: map[string]int{}}
	for i := range pop.shards {
		pop.shards[i] = newShard()
	}
	return pop
}

// firsts records a subscriber's times to the first packet and the first whole
// frame; 0 is ignored. The caller holds mu.
func (pop *population) firsts(packet, frame time.Duration) {
	if packet > 0 {
		pop.firstPacket.Record(packet)
	}
	if frame > 0 {
		pop.firstFrame.Record(frame)
	}
}

// foreign returns the number of streams of other publishers' tracks and the
// packets that they lost.
func (pop *population) foreign() (streams, lost int64) {
	for _, s := range pop.shards {
		s.mu.Lock()
		streams += s.foreign
		lost += s.foreignLost
		s.mu.Unlock()
	}
	return streams, lost
}
