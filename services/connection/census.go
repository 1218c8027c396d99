package connection

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// census is how many sessions are open, as the last sweep saw it and this process
// has opened since: what other replicas opened is missing for at most sweepEvery.
// Only at a limit are the records counted.
type census struct {
	mu     sync.Mutex
	orgs   map[string]int
	people map[person]int
}

type person struct{ org, subject string }

func newCensus() *census { return &census{orgs: map[string]int{}, people: map[person]int{}} }

func (c *census) add(org, subject string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.orgs[org]++
	c.people[person{org, subject}]++
}

// replace takes over what a sweep has counted.
func (c *census) replace(by *census) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.orgs, c.people = by.orgs, by.people
}

// below reports whether neither limit is reached.
func (c *census) below(org, subject string, l Limits) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.orgs[org] < l.Org && c.people[person{org, subject}] < l.Person
}

// roomFor refuses one more session than the limits allow.
// It counts outside the transaction that opens a session: sessions that open at
// the same moment may exceed a limit by their number.
func (s *Service) roomFor(ctx context.Context, org, subject string) error {
	if s.census.below(org, subject, s.cfg.Limits) {
		return nil
	}
	mine, all := 0, 0
	q := records.Query{Kind: records.Sessions, Org: org, States: []string{pending, active}, Limit: 500}
	for {
		var recs []records.Record
		err := s.cfg.Records.View(ctx, func(tx records.Tx) (err error) {
			recs, err = tx.List(ctx, q)
			return err
		})
		if err != nil {
			return err
		}
		for _, rec := range recs {
			d, err := resource.Body[session](rec)
			if err != nil {
				return err
			}
			if d.Subject == subject {
				mine++
			}
			q.After = rec.Name
		}
		all += len(recs)
		switch {
		case mine >= s.cfg.Limits.Person:
			return tooMany("you have %d open sessions, the most that one person may have; end one first", mine)
		case all >= s.cfg.Limits.Org:
			return tooMany("your organisation has %d open sessions, the most that it may have; wait until one ends", all)
		case len(recs) < q.Limit:
			return nil
		}
	}
}

func tooMany(format string, n int) error {
	return apierr.New(codes.ResourceExhausted, errorsv1.Reason_REASON_TOO_MANY_SESSIONS, fmt.Sprintf(format, n))
}
