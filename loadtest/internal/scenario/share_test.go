package scenario_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

// places marks every (room, subscriber) of a part, and fails if another part has
// it too.
func places(t *testing.T, part *scenario.Scenario, taken map[[2]int]bool) {
	t.Helper()
	for i := range part.Rooms.Count {
		for j := range part.Rooms.Subscribers {
			place := [2]int{part.Part.Room + i*part.Part.RoomStep, part.Part.Subscriber + j}
			require.False(t, taken[place], "%v is dealt twice", place)
			taken[place] = true
		}
	}
}

// For any sizes: every subscriber of the whole has exactly one worker, every room
// exactly one worker that publishes, and whole targets add up.
func TestSharesAddUpToTheWhole(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		rooms, subs, pubs, n := 1+rng.IntN(12), 1+rng.IntN(30), 1+rng.IntN(3), 1+rng.IntN(20)
		total := rooms * subs
		half, full := rng.IntN(total+1), total
		text := fmt.Sprintf("rooms: {count: %d, subscribers: %d, publishers: %d}\nload: {join_rate: 70, max_pending: 500, stages: [{duration: 1s, target: %d}, {duration: 1s, target: %d}]}", rooms, subs, pubs, half, full)
		whole := parse(t, text)
		taken, publishing := map[[2]int]bool{}, map[int]int{}
		publishers, pending, rate := 0, 0, 0.0
		sum := [2]float64{}
		for w := range n {
			part := scenario.Share(w, n, whole)
			places(t, part, taken)
			publishers += part.Rooms.Count * part.Rooms.Publishers
			if part.Part.Publishes {
				for i := range part.Rooms.Count {
					publishing[part.Part.Room+i*part.Part.RoomStep]++
				}
			}
			for i := range sum {
				target := part.Load.Stages[i].Target
				require.LessOrEqual(t, int(target), part.Rooms.Count*part.Rooms.Subscribers, "a target is at most the part's subscribers")
				sum[i] += target
			}
			rate += part.Load.JoinRate
			pending += part.Load.MaxPending
		}
		require.Len(t, taken, total, text)
		require.Len(t, publishing, rooms)
		for room, workers := range publishing {
			require.Equal(t, 1, workers, "room %d of %s over %d", room, text, n)
		}
		require.Equal(t, rooms*pubs, publishers)
		require.Equal(t, [2]float64{float64(half), float64(full)}, sum)
		require.InDelta(t, 70, rate, 1e-9)
		require.GreaterOrEqual(t, pending, 500)
		require.LessOrEqual(t, pending, 500+n)
		require.EqualExportedValues(t, *parse(t, text), *whole, "the whole is unchanged")
	}
}

// Between stages the parts' populations still add up: they are linear.
func TestSharesAddUpBetweenStages(t *testing.T) {
	whole := parse(t, "rooms: {count: 3, subscribers: 11}\nload: {stages: [{duration: 10s, target: 33}, {duration: 10s, target: 4}]}")
	for at := -time.Second; at < 21*time.Second; at += 700 * time.Millisecond {
		sum := 0.0
		for w := range 5 {
			part := scenario.Share(w, 5, whole)
			sum += part.Load.Target(at, part.Rooms.Count*part.Rooms.Subscribers)
		}
		require.InDelta(t, whole.Load.Target(at, 33), sum, 1e-9)
	}
}

func TestShareOfArrivals(t *testing.T) {
	whole := parse(t, "rooms: {count: 2, subscribers: 0}\nload: {mode: open, stages: [{duration: 10s, target: 7.5}]}")
	sum, publishers := 0.0, 0
	for w := range 4 {
		part := scenario.Share(w, 4, whole)
		sum += part.Load.Stages[0].Target
		publishers += part.Rooms.Publishers
		require.InDelta(t, 7.5/4, part.Load.Stages[0].Target, 1e-9)
	}
	require.InDelta(t, 7.5, sum, 1e-9)
	require.Equal(t, 2, publishers)
}

func TestShareOfOtherKinds(t *testing.T) {
	api, tunnel := parse(t, "kind: api\napi: {rate: 100, callers: 7}"), parse(t, "kind: tunnel\ntunnel: {sessions: 10}")
	rate, callers, sessions := 0.0, 0, 0
	for w := range 3 {
		rate += scenario.Share(w, 3, api).API.Rate
		callers += scenario.Share(w, 3, api).API.Callers
		sessions += scenario.Share(w, 3, tunnel).Tunnel.Sessions
	}
	require.InDelta(t, 100, rate, 1e-9)
	require.Equal(t, []int{7, 10}, []int{callers, sessions})
}

func TestShareOfOne(t *testing.T) {
	for _, name := range scenario.Library() {
		whole, err := scenario.Named(name)
		require.NoError(t, err)
		part := scenario.Share(0, 1, whole)
		require.Equal(t, 1, part.Part.Workers)
		part.Part = nil
		require.EqualExportedValues(t, *whole, *part)
	}
}

// A part shares no memory with the whole.
func TestShareIsACopy(t *testing.T) {
	whole := parse(t, strings.Join([]string{
		"paths: [direct, turn-udp]", "thresholds: [loss < 1%]", "load: {stages: [{duration: 5s, target: 10}]}",
		"target: {livekit: {url: 'ws://x', turn: [{url: 'turn:h', secret_env: S}]}, processes: {sfu: lk}}", "fault: {publish: {loss: 1%}}",
	}, "\n"))
	before, err := whole.YAML()
	require.NoError(t, err)
	part := scenario.Share(0, 1, whole)
	part.Paths[0], part.Thresholds[0], part.Load.Stages[0].Target = "x", "x", 1
	part.Target.LiveKit.TURN[0].URL, part.Target.Processes["sfu"], part.Target.LiveKit.URL = "x", "x", "x"
	part.Fault.Publish.Loss, part.Media.Video.Codec, *part.NACK = .9, "x", false
	after, err := whole.YAML()
	require.NoError(t, err)
	require.Equal(t, string(before), string(after))
}
