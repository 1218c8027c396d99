// Package schema migrates the schema of the records.
package schema

import (
	"context"
	"errors"
	"fmt"

	"github.com/pressly/goose/v3"
)

// ErrNewer: a newer release has migrated the database.
var ErrNewer = errors.New("the database belongs to a newer release")

// Up applies the migrations that are missing. It changes nothing and returns
// ErrNewer if the database has one that p does not know: an older program would
// not write what the newer one relies on.
func Up(ctx context.Context, p *goose.Provider) error {
	is, knows, err := p.GetVersions(ctx)
	if err != nil {
		return err
	}
	if is > knows {
		return fmt.Errorf("%w: its schema has version %d, this program knows %d: run that release, or restore the backup from before its upgrade", ErrNewer, is, knows)
	}
	_, err = p.Up(ctx)
	return err
}
