package ledger

import (
	"bytes"
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"github.com/openova-io/bp-relay/services/evidence/proof"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/store"
)

// SameKey fails with ErrKey where the records were begun with another master
// key than this one. Every process asks before it does anything: with a key of
// its own, made because the file was missing, it would seal captures that no
// other process can read. Records without a checkpoint go with any key.
func SameKey(ctx context.Context, st store.Store, keys *keyring.Keyring) error {
	row, err := st.Log().Checkpoint(ctx)
	if err != nil {
		return fmt.Errorf("read checkpoint: %w", err)
	}
	if row.Size == 0 {
		return nil
	}
	// The origin is the checkpoint's first line: C2SP tlog-checkpoint.
	origin, _, _ := bytes.Cut(row.Note, []byte("\n"))
	_, vkey, err := proof.NewSigner(string(origin), keys.Ed25519(KeyPurpose))
	if err != nil {
		return err
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return fmt.Errorf("log's public key: %w", err)
	}
	if _, err := proof.Open(row.Note, v); err != nil {
		return fmt.Errorf("%w: restore the master key that these records were begun with: %w", ErrKey, err)
	}
	return nil
}
