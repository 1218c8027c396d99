package resource

import (
	"context"
	"crypto/sha256"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/openova-io/bp-relay/services/records"
)

// RequestKey identifies a Create or Start request, so that a retry gets the
// first answer for 24 h (AIP-155): organisation, method, request_id and the
// SHA-256 of everything else in it. It is the zero value if the request has no
// request_id: then nothing is remembered. It fails if the message has no field
// request_id.
func RequestKey(org, method string, req proto.Message) (records.RequestKey, error) {
	m := proto.Clone(req).ProtoReflect()
	fd := m.Descriptor().Fields().ByName("request_id")
	if fd == nil || fd.Kind() != protoreflect.StringKind {
		return records.RequestKey{}, fmt.Errorf("%s has no request_id", m.Descriptor().FullName())
	}
	id := m.Get(fd).String()
	if id == "" {
		return records.RequestKey{}, nil
	}
	m.Clear(fd)
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m.Interface())
	if err != nil {
		return records.RequestKey{}, fmt.Errorf("marshal request: %w", err)
	}
	sum := sha256.Sum256(raw)
	return records.RequestKey{Org: org, Method: method, ID: id, Hash: sum[:]}, nil
}

// Once runs do in a transaction, in which do fills answer, and remembers the
// answer for the key. If the key has an answer already, do does not run and
// answer is the first one. records.ErrRequestReused if the request_id came
// with other arguments. do may run more than once, as in records.DB.Update.
func Once(ctx context.Context, db records.DB, key records.RequestKey, answer proto.Message, do func(tx records.Tx) error) error {
	return db.Update(ctx, func(tx records.Tx) error {
		proto.Reset(answer)
		if known, err := Replay(ctx, tx, key, answer); known || err != nil {
			return err
		}
		if err := do(tx); err != nil {
			return err
		}
		return Remember(ctx, tx, key, answer)
	})
}

// Replay fills answer with the one remembered for the key and reports whether
// there was one. records.ErrRequestReused if the request_id came with other
// arguments.
func Replay(ctx context.Context, tx records.Tx, key records.RequestKey, answer proto.Message) (bool, error) {
	if key.ID == "" {
		return false, nil
	}
	raw, err := tx.Replay(ctx, key)
	if err != nil || raw == nil {
		return false, err
	}
	if err := proto.Unmarshal(raw, answer); err != nil {
		return false, fmt.Errorf("unmarshal remembered answer: %w", err)
	}
	return true, nil
}

// Remember keeps the answer for the key for 24 h. It does nothing if the
// request had no request_id.
func Remember(ctx context.Context, tx records.Tx, key records.RequestKey, answer proto.Message) error {
	if key.ID == "" {
		return nil
	}
	raw, err := proto.Marshal(answer)
	if err != nil {
		return fmt.Errorf("marshal answer: %w", err)
	}
	return tx.Remember(ctx, key, raw)
}
