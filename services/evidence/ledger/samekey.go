package ledger

import (
	"bytes"
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"github.com/openova-io/bp-relay/services/format/proof"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/records"
)

// SameKey returns ErrKey if the records were created with another master key.
// Every process calls it first: with a new key, made because the key's file was
// missing, it would record captures that no other process can decrypt. Records
// without a checkpoint accept any key.
func SameKey(ctx context.Context, st records.DB, keys *keyring.Keyring) error {
	row, err := st.Log().Checkpoint(ctx)
	if err != nil {
		return fmt.Errorf("read checkpoint: %w", err)
	}
	if row.Size == 0 {
		return nil
	}
	// The origin is the checkpoint's first line (C2SP tlog-checkpoint).
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
		return fmt.Errorf("%w: restore the master key with which these records were created: %w", ErrKey, err)
	}
	return nil
}
