package resource

import (
	"context"
	"iter"

	"github.com/openova-io/bp-relay/services/records"
)

// Each returns the records of q in the order of their names. It reads q.Limit
// records at once (0 means MaxPageSize), each page in a transaction of its own,
// which has ended when the loop's body runs: the body may change records. The
// first error is yielded alone and ends the loop.
func Each(ctx context.Context, db records.DB, q records.Query) iter.Seq2[records.Record, error] {
	if q.Limit == 0 {
		q.Limit = MaxPageSize
	}
	return func(yield func(records.Record, error) bool) {
		for q := q; ; {
			var page []records.Record
			err := db.View(ctx, func(tx records.Tx) (err error) {
				page, err = tx.List(ctx, q)
				return err
			})
			if err != nil {
				yield(records.Record{}, err)
				return
			}
			for _, rec := range page {
				if !yield(rec, nil) {
					return
				}
			}
			if len(page) < q.Limit {
				return
			}
			q.After = page[len(page)-1].Name
		}
	}
}
