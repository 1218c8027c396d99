// Package idem makes Create and Start calls safe to retry (AIP-155): a call
// with a request_id that was used before gets the first answer, for 24 h.
package idem

import (
	"context"
	"crypto/sha256"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/openova-io/bp-relay/services/store"
)

// Key names the request: its organisation, method, request_id and the hash of
// everything else in it. Hash is nil where the request has no request_id.
func Key(org, method string, req proto.Message) (store.RequestKey, error) {
	m := proto.Clone(req).ProtoReflect()
	fd := m.Descriptor().Fields().ByName("request_id")
	if fd == nil || fd.Kind() != protoreflect.StringKind {
		return store.RequestKey{}, fmt.Errorf("%s has no request_id", m.Descriptor().FullName())
	}
	id := m.Get(fd).String()
	if id == "" {
		return store.RequestKey{}, nil
	}
	m.Clear(fd)
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m.Interface())
	if err != nil {
		return store.RequestKey{}, fmt.Errorf("marshal request: %w", err)
	}
	sum := sha256.Sum256(raw)
	return store.RequestKey{Org: org, Method: method, ID: id, Hash: sum[:]}, nil
}

// Replay fills answer with what was remembered for the key and says whether
// there was anything. store.ErrRequestReused where the id came with other
// arguments.
func Replay(ctx context.Context, tx store.Tx, key store.RequestKey, answer proto.Message) (bool, error) {
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

// Remember keeps the answer for the key; nothing where there is no
// request_id.
func Remember(ctx context.Context, tx store.Tx, key store.RequestKey, answer proto.Message) error {
	if key.ID == "" {
		return nil
	}
	raw, err := proto.Marshal(answer)
	if err != nil {
		return fmt.Errorf("marshal answer: %w", err)
	}
	return tx.Remember(ctx, key, raw)
}
