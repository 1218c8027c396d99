package capture

import (
	"context"
	"sync"
)

// workers hands out the memory in which segments are encrypted and uploaded, one
// organisation after the other: an organisation with hundreds of streams makes
// one that has a single stream wait for a few segments, and not for hundreds. It
// is safe for concurrent use.
type workers struct {
	mu   sync.Mutex
	free []*scratch
	// waiting are those that wait, by organisation; turn is the order in which
	// these are served.
	waiting map[string][]chan *scratch
	turn    []string
}

func newWorkers(n int) *workers {
	w := &workers{waiting: make(map[string][]chan *scratch)}
	for range n {
		w.free = append(w.free, new(scratch))
	}
	return w
}

// do calls fn once a worker's memory is free.
func (w *workers) do(ctx context.Context, org string, fn func(*scratch) error) error {
	sc, err := w.get(ctx, org)
	if err != nil {
		return err
	}
	defer w.put(sc)
	return fn(sc)
}

func (w *workers) get(ctx context.Context, org string) (*scratch, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	if n := len(w.free); n > 0 {
		sc := w.free[n-1]
		w.free = w.free[:n-1]
		w.mu.Unlock()
		return sc, nil
	}
	mine := make(chan *scratch, 1)
	if len(w.waiting[org]) == 0 {
		w.turn = append(w.turn, org)
	}
	w.waiting[org] = append(w.waiting[org], mine)
	w.mu.Unlock()
	select {
	case sc := <-mine:
		return sc, nil
	case <-ctx.Done():
		w.leave(org, mine)
		return nil, ctx.Err()
	}
}

// put gives memory back, or to who is next.
func (w *workers) put(sc *scratch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.turn) == 0 {
		w.free = append(w.free, sc)
		return
	}
	org := w.turn[0]
	w.turn = w.turn[1:]
	next := w.waiting[org][0]
	if rest := w.waiting[org][1:]; len(rest) > 0 {
		w.waiting[org] = rest
		w.turn = append(w.turn, org)
	} else {
		delete(w.waiting, org)
	}
	next <- sc // it has room for one
}

// leave gives up a place in the queue, or what has come for it meanwhile.
func (w *workers) leave(org string, mine chan *scratch) {
	w.mu.Lock()
	queue := w.waiting[org]
	for i, ch := range queue {
		if ch != mine {
			continue
		}
		rest := append(queue[:i:i], queue[i+1:]...)
		w.waiting[org] = rest
		if len(rest) == 0 {
			delete(w.waiting, org)
			for j, name := range w.turn {
				if name == org {
					w.turn = append(w.turn[:j:j], w.turn[j+1:]...)
					break
				}
			}
		}
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	w.put(<-mine)
}
