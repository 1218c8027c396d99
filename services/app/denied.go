package app

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/records"
)

const (
	// denialTimeout bounds how long entering denials may take.
	denialTimeout = 5 * time.Second
	// denialEvery is the interval whose denials of one caller are one leaf.
	denialEvery = 10 * time.Second
	// maxDenied bounds the callers of one interval; further callers of an
	// organisation are one more, without a subject.
	maxDenied = 4096
	// denialBatch is how many leaves are written in one transaction.
	denialBatch = 256
	// maxDeniedKinds bounds the methods and the reasons that one leaf names.
	maxDeniedKinds = 64
)

// denials enters the refused calls of authenticated callers in the evidence log:
// for each caller one leaf per interval, with the number of calls. It does not
// enter calls without a valid token: anybody could fill the log. A process that
// is killed loses the denials of its last interval.
type denials struct {
	db  records.DB
	log *slog.Logger
	// every is denialEvery.
	every time.Duration

	mu    sync.Mutex // guards count
	count map[deniedCaller]*denied
}

// deniedCaller is whose denials are one leaf.
type deniedCaller struct{ org, subject string }

// denied is what one leaf says.
type denied struct {
	count            int
	first, last      time.Time
	methods, reasons map[string]int
}

func newDenials(db records.DB, log *slog.Logger) *denials {
	return &denials{db: db, log: log, every: denialEvery, count: make(map[deniedCaller]*denied)}
}

// add counts one refused call.
func (d *denials) add(_ context.Context, who auth.Principal, method string, e *apierr.Error) {
	now := time.Now().UTC()
	d.mu.Lock()
	defer d.mu.Unlock()
	caller := deniedCaller{who.Org, who.Subject}
	one := d.count[caller]
	if one == nil && len(d.count) >= maxDenied {
		caller.subject = ""
		one = d.count[caller]
	}
	if one == nil {
		one = &denied{first: now, methods: make(map[string]int), reasons: make(map[string]int)}
		d.count[caller] = one
	}
	one.count++
	one.last = now
	tally(one.methods, method, 1)
	tally(one.reasons, apierr.ReasonName(e.Reason()), 1)
}

// tally counts a kind, or "other" if there are too many.
func tally(kinds map[string]int, kind string, n int) {
	if _, ok := kinds[kind]; !ok && len(kinds) >= maxDeniedKinds {
		kind = "other"
	}
	kinds[kind] += n
}

// run enters what was counted, once per interval and at the end.
func (d *denials) run(ctx context.Context) error {
	tick := time.NewTicker(d.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			d.enter(ctx)
		case <-ctx.Done():
			d.enter(context.WithoutCancel(ctx))
			return nil
		}
	}
}

// enter writes the leaves. What cannot be written stays counted.
func (d *denials) enter(ctx context.Context) {
	d.mu.Lock()
	now := d.count
	d.count = make(map[deniedCaller]*denied)
	d.mu.Unlock()
	if len(now) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, denialTimeout)
	defer cancel()
	failed := 0
	var last error
	for callers := range slices.Chunk(slices.Collect(maps.Keys(now)), denialBatch) {
		if err := d.write(ctx, callers, now); err != nil {
			last = err
			for _, caller := range callers {
				failed += now[caller].count
				d.keep(caller, now[caller])
			}
		}
	}
	if failed > 0 {
		d.log.ErrorContext(ctx, "cannot enter denials in the evidence log yet", "events", failed, "error", last)
	}
}

// write enters the leaves of some callers in one transaction.
func (d *denials) write(ctx context.Context, callers []deniedCaller, count map[deniedCaller]*denied) error {
	return d.db.Update(ctx, func(tx records.Tx) error {
		for _, caller := range callers {
			l, err := count[caller].leaf(caller)
			if err != nil {
				return err
			}
			if err := tx.Leaf(ctx, l); err != nil {
				return err
			}
		}
		return nil
	})
}

// leaf returns the leaf of one caller's denials.
func (one *denied) leaf(caller deniedCaller) (records.Leaf, error) {
	return change.Leaf(leaf.Act{
		Type: "access.denied", Org: caller.org, Actor: cmp.Or(caller.subject, "several"), Subject: "orgs/" + caller.org,
		Detail: map[string]any{
			"count": one.count, "first": one.first.Format(time.RFC3339Nano), "last": one.last.Format(time.RFC3339Nano),
			"methods": slices.Sorted(maps.Keys(one.methods)), "reasons": slices.Sorted(maps.Keys(one.reasons)),
		},
	})
}

// keep counts again what could not be written.
func (d *denials) keep(caller deniedCaller, old *denied) {
	d.mu.Lock()
	defer d.mu.Unlock()
	one := d.count[caller]
	if one == nil {
		d.count[caller] = old
		return
	}
	one.count += old.count
	one.first = old.first
	for kind, n := range old.methods {
		tally(one.methods, kind, n)
	}
	for kind, n := range old.reasons {
		tally(one.reasons, kind, n)
	}
}
