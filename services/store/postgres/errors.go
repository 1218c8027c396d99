package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/openova-io/bp-relay/services/store"
)

// errOutcome: the connection broke after COMMIT was sent, so that nobody may
// repeat the transaction.
var errOutcome = errors.New("store/postgres: connection lost at commit: the write may or may not be there")

// maxTries is how often one transaction is run before its error is given up.
const maxTries = 6

// lostError is an error after which nothing of the transaction is left, and
// the transaction may be repeated.
type lostError struct{ err error }

func (e *lostError) Error() string { return "store/postgres: transaction lost: " + e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

func repeatable(err error) bool {
	lost := new(lostError)
	return errors.As(err, &lost) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// conflicting: the server has rolled the transaction back for another one's
// sake. https://www.postgresql.org/docs/15/errcodes-appendix.html: 40001
// serialization_failure, 40P01 deadlock_detected.
func conflicting(err error) bool {
	pg := new(pgconn.PgError)
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01")
}

// unsure says whether a COMMIT that ended with err may have happened. The
// server answers in order: its error message in place of the answer to an
// earlier statement means that COMMIT was not reached, and a plain ERROR in
// answer to COMMIT means that it was refused. Everything else, a FATAL message
// at COMMIT or a connection that just ends, leaves it open.
func unsure(err error, atCommit bool) bool {
	pg := new(pgconn.PgError)
	switch {
	case errors.As(err, &pg):
		return atCommit && pg.SeverityUnlocalized != "ERROR"
	default:
		return !pgconn.SafeToRetry(err)
	}
}

// duplicate names the violation of a unique index: 23505.
func duplicate(err error) error {
	if pg := new(pgconn.PgError); errors.As(err, &pg) && pg.Code == "23505" {
		return errors.Join(store.ErrExists, err)
	}
	return err
}

// pause waits a little longer with each try, at random, so that two that met
// do not meet again.
func pause(ctx context.Context, try int) error {
	t := time.NewTimer(rand.N(time.Millisecond << min(try, 8)))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
