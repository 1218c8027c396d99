package app

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/blob/s3"
)

const (
	// probeWithin bounds the probe that a start waits for.
	probeWithin = 15 * time.Second
	// probeEvery is how often a running process probes the store again: it may
	// be upgraded, downgraded or configured differently meanwhile.
	probeEvery = 24 * time.Hour
)

// objects watches over the object store: buckets, abilities and signatures.
type objects struct {
	*builder
	store blob.Store
	every time.Duration

	mu       sync.Mutex
	unsigned map[string]error // by bucket: what the last probe found; nil if signatures are checked
}

// makeBlob connects to the object store. The process starts without it if it
// does not answer, but not if it refuses the keys, and not if it carries out
// requests that nobody signed.
func makeBlob(ctx context.Context, b *builder) (blob.Store, error) {
	secret, err := b.cfg.Blob.SecretKey.Reveal()
	if err != nil {
		return nil, err
	}
	st, err := s3.New(s3.Config{Endpoint: b.cfg.Blob.Endpoint, AccessKey: b.cfg.Blob.AccessKey, SecretKey: secret, Logger: b.log})
	if err != nil {
		return nil, err
	}
	b.closer(st.Close)
	o := &objects{builder: b, store: st, every: probeEvery, unsigned: map[string]error{}}
	switch err := st.Ping(ctx); {
	case errors.Is(err, blob.ErrDenied):
		return nil, fmt.Errorf("the object store at %s refuses the keys; check blob.access_key and blob.secret_key: %w", b.cfg.Blob.Endpoint, err)
	case err == nil:
		if err := o.first(ctx); err != nil {
			return nil, err
		}
	}
	b.check(check{name: "objects", absent: "away, the spool holds: ", ask: st.Ping})
	b.check(check{name: "objects_signatures", absent: "in danger: ", ask: func(context.Context) error { return o.found() }})
	b.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "relay_objects_unsigned",
		Help: "1 if the object store carries out requests that nobody signed, by the last probe; 0 if not, or not probed yet.",
	}, func() float64 {
		if o.found() != nil {
			return 1
		}
		return 0
	}))
	b.task("objects", o.run)
	return st, nil
}

// buckets are the buckets that relay writes to; the evidence log's comes first.
func (o *objects) buckets() []string {
	return []string{o.cfg.Blob.Evidence, o.cfg.Blob.Recordings, o.cfg.Blob.Sessions}
}

// first probes a store that answers, before anything is written to it. Only a
// store that carries out unsigned requests is an error: one that stops answering
// is probed by run.
func (o *objects) first(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	bucket := o.buckets()[0]
	err := o.store.EnsureBucket(ctx, bucket)
	if err == nil {
		err = o.probe(ctx, bucket)
	}
	if errors.Is(err, blob.ErrUnsigned) {
		return err
	}
	if err != nil {
		o.log.WarnContext(ctx, "the object store is not probed yet", "bucket", bucket, "error", err)
	}
	return nil
}

// run creates the buckets as soon as the store answers and probes them then and
// daily. Until then captures go into the spool. It fails if the first probe
// finds that the store carries out unsigned requests: that process must not
// write to it. What a later probe finds is an alarm, because stopping would end
// calls and sessions.
func (o *objects) run(ctx context.Context) error {
	for _, bucket := range o.buckets() {
		if err := o.wait(ctx, bucket, func() error { return o.store.EnsureBucket(ctx, bucket) }); err != nil {
			return err
		}
	}
	for again := false; ; again = true {
		for _, bucket := range o.buckets() {
			if err := o.wait(ctx, bucket, func() error { return o.probeAll(ctx, bucket, again) }); err != nil {
				return err
			}
		}
		timer := time.NewTimer(o.every)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// wait repeats what the store does not answer.
func (o *objects) wait(ctx context.Context, bucket string, do func() error) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := do()
		if errors.Is(err, blob.ErrUnsigned) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, wait time.Duration) {
		o.log.WarnContext(ctx, "the object store's bucket is not ready yet", "bucket", bucket, "retry_in", wait, "error", err)
	}))
	return err
}

// probeAll finds out the abilities, which the store uses from then on, and
// whether signatures are checked, unless that is known and not asked for again.
func (o *objects) probeAll(ctx context.Context, bucket string, again bool) error {
	a, err := blob.Probe(ctx, o.store, bucket)
	if err != nil {
		return err
	}
	o.log.InfoContext(ctx, "object store probed", "bucket", bucket, "mode", a.Mode(), "text", a.String())
	o.mu.Lock()
	_, known := o.unsigned[bucket]
	o.mu.Unlock()
	if known && !again {
		return nil
	}
	return o.probe(ctx, bucket)
}

// probe finds out whether the store checks signatures. A store that does not is
// an error at the bucket's first probe, unless the configuration allows it.
func (o *objects) probe(ctx context.Context, bucket string) error {
	err := blob.ProbeUnsigned(ctx, o.store, bucket)
	if err != nil && !errors.Is(err, blob.ErrUnsigned) {
		return err
	}
	if err != nil {
		err = fmt.Errorf("the object store at %s must not hold evidence: %w; upgrade it (SeaweedFS: to 4.53), or, for development only, set blob.allow_unsigned",
			o.cfg.Blob.Endpoint, err)
	}
	o.mu.Lock()
	_, before := o.unsigned[bucket]
	o.unsigned[bucket] = err
	o.mu.Unlock()
	switch {
	case err == nil:
		return nil
	case o.cfg.Blob.AllowUnsigned && bucket != o.buckets()[0]:
		return nil // it is the same store: one warning is enough
	case o.cfg.Blob.AllowUnsigned:
		o.log.WarnContext(ctx, "the object store carries out unsigned requests; allowed by blob.allow_unsigned", "bucket", bucket, "error", err)
		return nil
	case before: // it changed while this process ran
		o.log.ErrorContext(ctx, "the object store carries out unsigned requests: whoever reaches it can alter evidence", "bucket", bucket, "error", err)
		return nil
	}
	return err
}

// found returns what the last probes found.
func (o *objects) found() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, bucket := range o.buckets() {
		if err := o.unsigned[bucket]; err != nil {
			return err
		}
	}
	return nil
}
