package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/openova-io/bp-relay/services/records"
)

// errOutcome: the connection broke after COMMIT was sent. The transaction must
// not be repeated, since it may have been committed.
var errOutcome = errors.New("postgres: connection lost at commit: the write may or may not have happened")

// maxTries is how many times one transaction is run before its error is
// returned.
const maxTries = 6

// lostError is an error after which the transaction has left no trace and may be
// repeated.
type lostError struct{ err error }

func (e *lostError) Error() string { return "postgres: transaction lost: " + e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

func repeatable(err error) bool {
	lost := new(lostError)
	return errors.As(err, &lost) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// conflicting reports whether the server rolled the transaction back in favour
// of another one. https://www.postgresql.org/docs/15/errcodes-appendix.html: 40001
// serialization_failure, 40P01 deadlock_detected.
func conflicting(err error) bool {
	pg := new(pgconn.PgError)
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01")
}

// locked reports whether a statement gave up waiting for a row that another
// transaction holds: 55P03 lock_not_available.
func locked(err error) bool {
	pg := new(pgconn.PgError)
	return errors.As(err, &pg) && pg.Code == "55P03"
}

// unsure reports whether a COMMIT that ended with err may have happened. The
// server answers in order: an error in place of the answer to an earlier
// statement means that COMMIT was not reached, and a plain ERROR as the answer to
// COMMIT means that it was refused. After a FATAL message at COMMIT, or a broken
// connection, the outcome is unknown.
func unsure(err error, atCommit bool) bool {
	pg := new(pgconn.PgError)
	switch {
	case errors.As(err, &pg):
		return atCommit && pg.SeverityUnlocalized != "ERROR"
	default:
		return !pgconn.SafeToRetry(err)
	}
}

// unavailable adds records.ErrUnavailable to an error that means that the server
// does not answer, unless it answers no longer because the caller's ctx ended.
func unavailable(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || errors.Is(err, records.ErrUnavailable) || !disconnected(err) {
		return err
	}
	return fmt.Errorf("%w: %w", records.ErrUnavailable, err)
}

// disconnected reports whether the connection broke or the server ends it.
// https://www.postgresql.org/docs/15/errcodes-appendix.html: class 08 connection
// exception, 57P01 admin_shutdown, 57P02 crash_shutdown, 57P03 cannot_connect_now.
func disconnected(err error) bool {
	if pg := new(pgconn.PgError); errors.As(err, &pg) {
		switch {
		case strings.HasPrefix(pg.Code, "08"), pg.Code == "57P01", pg.Code == "57P02", pg.Code == "57P03":
			return true
		}
	}
	lost := new(lostError)
	return errors.Is(err, errOutcome) || errors.As(err, &lost) && !conflicting(err)
}

// duplicate adds records.ErrExists to the violation of a unique index (23505).
func duplicate(err error) error {
	if pg := new(pgconn.PgError); errors.As(err, &pg) && pg.Code == "23505" {
		return errors.Join(records.ErrExists, err)
	}
	return err
}

// pause waits for a random time that grows with each try, so that two
// conflicting transactions do not conflict again.
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
