package scenario

import (
	"maps"
	"math"
	"slices"
)

// Part says which part of a scenario a worker runs, so that its names and its
// distribution over paths fit those of the other workers.
type Part struct {
	Worker  int // from 0
	Workers int
	// Room is the number of the part's first room in the whole scenario, RoomStep
	// the difference to its next.
	Room, RoomStep int
	// Subscriber is the number of the part's first subscriber in its rooms, by which
	// all subscribers are dealt over the paths.
	Subscriber int
	// Publishes is set if this worker runs the publishers of its rooms, and in kind
	// recording records them: the first of the workers that share a room.
	Publishes bool
}

// Share returns the part of worker w of n. If there is a room for every worker,
// rooms are dealt in turn: w, w+n, w+2n. Otherwise every worker gets one room, w
// modulo the rooms, and the workers of one room share its subscribers evenly; the
// first of them runs the publishers. All rooms of a part have the same number of
// subscribers, and the parts add up to the whole: rooms, publishers, subscribers,
// whole targets of stages, sessions, callers. Rates are divided. Bounds of what is
// under way (callers, max_pending) are at least 1, so they add up to more if there
// are more workers.
//
// Validate may refuse a part: it may have subscribers without publishers, or no
// participants.
func Share(w, n int, s *Scenario) *Scenario {
	part := s.clone()
	if n < 1 || w < 0 || w >= n {
		return part
	}
	part.Part = &Part{Worker: w, Workers: n}
	part.Seed = s.Seed + uint64(w) // workers make different random choices
	if s.API != nil {
		part.API.Rate = s.API.Rate / float64(n)
		part.API.Callers = max(deal(s.API.Callers, w, w+1, n), 1)
	}
	if s.Tunnel != nil {
		part.Tunnel.Sessions = deal(s.Tunnel.Sessions, w, w+1, n)
	}
	if s.withRooms() {
		part.shareRooms(s)
	}
	return part
}

// deal returns how many of n things those numbered from up to to (of all) get if
// the things are dealt in proportion, each to exactly one.
func deal(n, from, to, all int) int {
	if all == 0 {
		return 0
	}
	return n*to/all - n*from/all
}

// in returns how many of n things part i gets if they are dealt in turn.
func in(n, i, parts int) int { return n/parts + bit(i < n%parts) }

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s *Scenario) shareRooms(whole *Scenario) {
	p, rooms := s.Part, whole.Rooms.Count
	weight := make([]int, p.Workers) // subscribers of each worker
	if rooms >= p.Workers {
		s.Rooms.Count = in(rooms, p.Worker, p.Workers)
		p.Room, p.RoomStep, p.Publishes = p.Worker, p.Workers, true
		for i := range weight {
			weight[i] = in(rooms, i, p.Workers) * max(whole.Rooms.Subscribers, 1)
		}
	} else {
		s.Rooms.Count = 1
		p.Room, p.RoomStep, p.Publishes = p.Worker%rooms, rooms, p.Worker < rooms
		for i := range weight {
			sharers, nth := in(p.Workers, i%rooms, rooms), i/rooms
			weight[i] = deal(whole.Rooms.Subscribers, nth, nth+1, sharers)
			if i == p.Worker {
				s.Rooms.Subscribers = weight[i]
				p.Subscriber = deal(whole.Rooms.Subscribers, 0, nth, sharers)
			}
			if whole.Rooms.Subscribers == 0 {
				weight[i] = 1 // open mode: arrivals only
			}
		}
		if !p.Publishes {
			s.Rooms.Publishers = 0
		}
	}
	before, all := 0, 0
	for i, v := range weight {
		if i < p.Worker {
			before += v
		}
		all += v
	}
	s.shareLoad(whole, before, before+weight[p.Worker], all)
}

// shareLoad sets the load's part from from/all to below to/all.
func (s *Scenario) shareLoad(whole *Scenario, from, to, all int) {
	share := 0.0
	if all > 0 {
		share = float64(to-from) / float64(all)
	}
	for i, st := range whole.Load.Stages {
		if st.Target == math.Trunc(st.Target) && whole.Load.Mode == Closed {
			s.Load.Stages[i].Target = float64(deal(int(st.Target), from, to, all))
		} else {
			s.Load.Stages[i].Target = st.Target * share
		}
	}
	s.Load.JoinRate = whole.Load.JoinRate * share
	s.Load.MaxPending = max(deal(whole.Load.MaxPending, from, to, all), 1)
}

// clone returns a deep copy.
func (s *Scenario) clone() *Scenario {
	c := *s
	c.Paths, c.Thresholds = slices.Clone(s.Paths), slices.Clone(s.Thresholds)
	c.Load.Stages = slices.Clone(s.Load.Stages)
	c.Load.Churn = copied(s.Load.Churn)
	c.Target.API, c.Target.LiveKit = copied(s.Target.API), copied(s.Target.LiveKit)
	if c.Target.LiveKit != nil {
		c.Target.LiveKit.TURN = slices.Clone(s.Target.LiveKit.TURN)
	}
	c.Target.Processes = maps.Clone(s.Target.Processes)
	c.Media.Video, c.Media.Audio = copied(s.Media.Video), copied(s.Media.Audio)
	c.Data, c.Speakers, c.NACK, c.Fault = copied(s.Data), copied(s.Speakers), copied(s.NACK), copied(s.Fault)
	c.API, c.Tunnel, c.Recording = copied(s.API), copied(s.Tunnel), copied(s.Recording)
	if c.API != nil {
		c.API.Mix = maps.Clone(s.API.Mix)
	}
	c.Part, c.given = copied(s.Part), maps.Clone(s.given)
	return &c
}

func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
