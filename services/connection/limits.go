package connection

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// A count is a row beside the sessions, one of each organisation and one of each
// person in it, that says how many sessions are open at most: OpenSession adds
// one in the transaction that writes the session, and no end of a session takes
// one away. At a limit the sessions are counted, and the row starts again from
// there. Whoever opens a session holds both rows, so that no two transactions, of
// whatever replica, take the last place.
type count struct {
	Open int `json:"open"`
}

// orgCount and personCount are the names of the rows. Both sort before the
// sessions' names. A subject may be longer than a name, so its hash is in there.
func orgCount(org string) string { return "orgs/" + org + "/sessions" }

func personCount(org, subject string) string {
	sum := sha256.Sum256([]byte(subject))
	return "orgs/" + org + "/people/" + hex.EncodeToString(sum[:])
}

// tally is what one row was seen to say, and what is true of it.
type tally struct {
	row     string
	version int64 // 0: there is no row
	open    int   // at most so many are open
	limit   int
	refusal string
}

// errStale: somebody has opened a session since the row was read, and by it the
// limit is reached.
var errStale = errors.New("the count of open sessions has changed")

// tallies reads both rows and, if one has reached its limit or is missing, counts
// the sessions, in one snapshot. It fails with TOO_MANY_SESSIONS if there is no
// place.
func (s *Service) tallies(ctx context.Context, org, subject string) ([]tally, error) {
	both := []tally{
		{row: orgCount(org), limit: s.cfg.Limits.Org, refusal: "your organisation has %d open sessions, the most that it may have; wait until one ends"},
		{row: personCount(org, subject), limit: s.cfg.Limits.Person, refusal: "you have %d open sessions, the most that one person may have; end one first"},
	}
	err := s.cfg.Records.View(ctx, func(tx records.Tx) error {
		known := true
		for i := range both {
			rec, err := tx.Get(ctx, records.Sessions, both[i].row)
			if err != nil && !errors.Is(err, records.ErrNotFound) {
				return err
			}
			n, err := opened(rec)
			if err != nil {
				return err
			}
			both[i].version, both[i].open = rec.Version, n
			known = known && rec.Version > 0 && n < both[i].limit
		}
		if known {
			return nil
		}
		all, mine, err := countOpen(ctx, tx, org, subject)
		both[0].open, both[1].open = all, mine
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, t := range []tally{both[1], both[0]} { // what the person can do something about comes first
		if t.open >= t.limit {
			return nil, apierr.New(codes.ResourceExhausted, errorsv1.Reason_REASON_TOO_MANY_SESSIONS, fmt.Sprintf(t.refusal, t.open))
		}
	}
	return both, nil
}

// takePlace adds one session to both rows. It fails with errStale if the rows
// must be looked at again. It locks two records: always in this order, and nobody
// who holds another one waits for them.
func takePlace(ctx context.Context, tx records.Tx, org string, both []tally) error {
	for _, t := range both {
		rec, err := tx.Lock(ctx, records.Sessions, t.row)
		if errors.Is(err, records.ErrNotFound) {
			rec, err = records.Record{Kind: records.Sessions, Name: t.row, Org: org}, nil
		}
		if err != nil {
			return err
		}
		n := t.open
		if rec.Version != t.version { // opened by others meanwhile
			if n, err = opened(rec); err != nil {
				return err
			}
			if n >= t.limit {
				return errStale
			}
		}
		if rec.Body, err = json.Marshal(count{n + 1}); err != nil {
			return fmt.Errorf("marshal count: %w", err)
		}
		if rec.Version > 0 {
			_, err = tx.Update(ctx, rec)
		} else if _, err = tx.Insert(ctx, rec); errors.Is(err, records.ErrExists) {
			return errStale
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// opened is what a row says, 0 if there is none.
func opened(rec records.Record) (int, error) {
	if rec.Version == 0 {
		return 0, nil
	}
	c, err := resource.Body[count](rec)
	return c.Open, err
}

// countOpen counts the open sessions of an organisation, and those of one person
// among them.
func countOpen(ctx context.Context, tx records.Tx, org, subject string) (all, mine int, err error) {
	q := records.Query{Kind: records.Sessions, Org: org, States: []string{pending, active}, Limit: 500}
	for {
		recs, err := tx.List(ctx, q)
		if err != nil {
			return 0, 0, err
		}
		for _, rec := range recs {
			d, err := resource.Body[session](rec)
			if err != nil {
				return 0, 0, err
			}
			if d.Subject == subject {
				mine++
			}
			q.After = rec.Name
		}
		if all += len(recs); len(recs) < q.Limit {
			return all, mine, nil
		}
	}
}
