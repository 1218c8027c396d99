// Package replica tells which processes of relay live. Each process writes a
// heartbeat into the records, one row and one statement per interval whatever it
// runs, and watches those of the others. What a process owns names it (field
// Replica of a document), with an epoch that grows with each owner; whoever
// takes something over changes both in one compare-and-swap of the row's version.
//
// No clocks are compared. A replica counts its own heartbeats that were
// committed while another one's did not move: records that are away for
// everybody let nobody grow old, and a bus plays no part.
package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/openova-io/bp-relay/services/records"
)

const (
	// defaultEvery is how often a replica writes its heartbeat.
	defaultEvery = 2 * time.Second
	// forgetAfter is how many heartbeats the row of a replica that is gone is kept,
	// and then what this process knows of it if nobody asks.
	forgetAfter = 43_200 // a day at the default
	// org is the organisation of the rows, which belong to none.
	org    = "-"
	prefix = "replicas/"
)

// Config is what a Replica needs. Records is required.
type Config struct {
	Records records.DB
	// ID names the process; a random name if "". It is never used again.
	ID string
	// Every is how often the heartbeat is written; 2 s if 0. All replicas must
	// have the same.
	Every time.Duration
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
}

// Replica is this process among those that share the records. It is safe for
// concurrent use.
type Replica struct {
	cfg         Config
	log         *slog.Logger
	forgetAfter int64

	mu     sync.Mutex
	beats  int64 // committed heartbeats of this process
	others map[string]*other
}

// other is what this process knows of another one.
type other struct {
	version int64 // its newest heartbeat, 0 if it has no row
	still   int64 // own heartbeats since the version changed
	asked   int64 // own heartbeats when Unseen was last asked for it
}

// New makes the replica. It is seen by others once Run has begun.
func New(cfg Config) *Replica {
	if cfg.ID == "" {
		cfg.ID = uuid.NewString()
	}
	if cfg.Every == 0 {
		cfg.Every = defaultEvery
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Replica{cfg: cfg, log: cfg.Logger, forgetAfter: forgetAfter, others: map[string]*other{}}
}

// ID is the process's name. It has at most 1024 bytes.
func (r *Replica) ID() string { return r.cfg.ID }

// Unseen is for how long a replica has given no sign of life: 0 until two of
// this process's own heartbeats have found none. A replica that nobody has heard
// of counts from the first call. This process itself is always seen.
func (r *Replica) Unseen(id string) time.Duration {
	if id == r.cfg.ID {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.others[id]
	if o == nil {
		o = &other{}
		r.others[id] = o
	}
	o.asked = r.beats
	if o.still < 2 {
		return 0
	}
	return time.Duration(o.still) * r.cfg.Every
}

// Run writes the heartbeat until ctx ends, and then removes it: what this process
// owned can be taken over.
func (r *Replica) Run(ctx context.Context) error {
	t := time.NewTicker(r.cfg.Every)
	defer t.Stop()
	since, tell := time.Now(), 5*r.cfg.Every
	for {
		err := r.Beat(ctx)
		switch {
		case err == nil:
			since, tell = time.Now(), 5*r.cfg.Every
		case ctx.Err() == nil && time.Since(since) >= tell:
			tell *= 2 // an outage of a day is a dozen lines
			r.log.WarnContext(ctx, "the records take no heartbeat; other replicas may take this one for dead", "replica", r.cfg.ID, "error", err)
		}
		select {
		case <-ctx.Done():
			r.leave(context.WithoutCancel(ctx))
			return nil
		case <-t.C:
		}
	}
}

// Beat writes one heartbeat and looks at those of the others.
func (r *Replica) Beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*r.cfg.Every)
	defer cancel()
	var found []records.Record
	err := r.cfg.Records.Update(ctx, func(tx records.Tx) (err error) {
		found = found[:0]
		if err := r.write(ctx, tx); err != nil {
			return err
		}
		for after := ""; ; after = found[len(found)-1].Name {
			page, err := tx.List(ctx, records.Query{Kind: records.Replicas, After: after, Limit: 1000})
			found = append(found, page...)
			if err != nil || len(page) < 1000 {
				return err
			}
		}
	})
	if err != nil {
		return fmt.Errorf("heartbeat of replica %s: %w", r.cfg.ID, err)
	}
	for _, gone := range r.note(found) {
		r.remove(ctx, gone)
	}
	return nil
}

func (r *Replica) write(ctx context.Context, tx records.Tx) error {
	rec, err := tx.Get(ctx, records.Replicas, prefix+r.cfg.ID)
	switch {
	case err == nil:
		_, err = tx.Update(ctx, rec)
	case errors.Is(err, records.ErrNotFound):
		_, err = tx.Insert(ctx, records.Record{Kind: records.Replicas, Name: prefix + r.cfg.ID, Org: org})
	}
	return err
}

// note compares the heartbeats with those of the last time. It returns replicas
// whose rows nobody needs any more.
func (r *Replica) note(found []records.Record) (gone []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.beats++
	versions := make(map[string]int64, len(found))
	for _, rec := range found {
		id := strings.TrimPrefix(rec.Name, prefix)
		versions[id] = rec.Version
		if r.others[id] == nil && id != r.cfg.ID {
			r.others[id] = &other{version: rec.Version, still: -1} // this is the first sighting
		}
	}
	for id, o := range r.others {
		if v := versions[id]; v != o.version {
			o.version, o.still = v, 0
			continue
		}
		o.still++
		switch {
		case o.still < r.forgetAfter:
		case o.version > 0:
			gone = append(gone, id)
		case r.beats-o.asked >= r.forgetAfter: // it has no row, and nobody asks for it any more
			delete(r.others, id)
		}
	}
	return gone
}

func (r *Replica) remove(ctx context.Context, id string) {
	err := r.cfg.Records.Update(ctx, func(tx records.Tx) error { return tx.Delete(ctx, records.Replicas, prefix+id, 0) })
	if err != nil && !errors.Is(err, records.ErrNotFound) && ctx.Err() == nil {
		r.log.WarnContext(ctx, "heartbeat of a replica that is gone not removed; trying again", "replica", id, "error", err)
	}
}

// leave removes this process's own heartbeat. If the records do not answer, it
// stops growing, which says the same.
func (r *Replica) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Every)
	defer cancel()
	r.remove(ctx, r.cfg.ID)
}
