package rows

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/services/records"
)

// window is how long answers are remembered.
const window = 24 * time.Hour

// Replay implements records.Tx.
func (t *Tx) Replay(ctx context.Context, key records.RequestKey) ([]byte, error) {
	if err := t.ready(ctx, false); err != nil {
		return nil, err
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	var hash, answer []byte
	found := false
	err := t.db.Query(ctx, func(row Row) error {
		found = true
		return row.Scan(&hash, &answer)
	}, "SELECT hash, answer FROM requests WHERE org = $1 AND method = $2 AND id = $3 AND expire_time > $4",
		key.Org, key.Method, key.ID, t.db.Time(clip(t.now())))
	switch {
	case err != nil:
		return nil, fmt.Errorf("records: replay %s: %w", key.Method, err)
	case !found:
		return nil, nil
	case !bytes.Equal(hash, key.Hash):
		return nil, fmt.Errorf("%w: %s %q", records.ErrRequestReused, key.Method, key.ID)
	case answer == nil:
		answer = []byte{} // remembered, and empty
	}
	return answer, nil
}

// Remember implements records.Tx.
func (t *Tx) Remember(ctx context.Context, key records.RequestKey, answer []byte) error {
	if err := t.ready(ctx, true); err != nil {
		return err
	}
	if err := checkKey(key); err != nil {
		return err
	}
	if len(answer) > maxBody {
		return fmt.Errorf("%w: answer has %d bytes, at most %d", records.ErrInvalid, len(answer), maxBody)
	}
	hash := append([]byte{}, key.Hash...) // never NULL
	answer = append([]byte{}, answer...)
	now := clip(t.now())
	n, err := t.db.Exec(ctx, "INSERT INTO requests (org, method, id, hash, answer, expire_time)"+
		" VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (org, method, id) DO UPDATE"+
		" SET hash = excluded.hash, answer = excluded.answer, expire_time = excluded.expire_time"+
		" WHERE requests.expire_time <= $7",
		key.Org, key.Method, key.ID, hash, answer, t.db.Time(now.Add(window)), t.db.Time(now))
	if err != nil {
		return fmt.Errorf("records: remember %s: %w", key.Method, err)
	}
	if n == 0 {
		t.lost = true
		return fmt.Errorf("%w: answer of %s %q", records.ErrExists, key.Method, key.ID)
	}
	return nil
}

// Forget deletes up to limit expired answers and returns how many.
func Forget(ctx context.Context, db DB, now time.Time, limit int) (int64, error) {
	n, err := db.Exec(ctx, "DELETE FROM requests WHERE (org, method, id) IN"+
		" (SELECT org, method, id FROM requests WHERE expire_time <= $1 LIMIT $2)",
		db.Time(clip(now)), int64(limit))
	if err != nil {
		return 0, fmt.Errorf("records: forget requests: %w", err)
	}
	return n, nil
}
