package redis

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/openova-io/bp-relay/services/bus"
)

// A reader of Redis must be able neither to use a ticket nor to read its value:
// the key in Redis is the SHA-256 of the id, and the value is encrypted with a
// key derived from the id, which only the bearer has.

func (b *Bus) ticketKey(id string) string {
	sum := sha256.Sum256([]byte(id))
	return b.prefix + "ticket:" + hex.EncodeToString(sum[:])
}

// cipherOf is AES-256-GCM with a random nonce, under a key for this id alone.
func cipherOf(id string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(id), nil, "bp-relay bus ticket v1", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// PutTicket implements bus.Bus.
func (b *Bus) PutTicket(ctx context.Context, id string, value []byte, ttl time.Duration) error {
	if id == "" || ttl <= 0 {
		return fmt.Errorf("put ticket: %w", bus.ErrInvalid)
	}
	aead, err := cipherOf(id)
	if err != nil {
		return fmt.Errorf("put ticket: %w", err)
	}
	ciphertext := aead.Seal(nil, nil, value, nil)
	_, err = call(ctx, "put ticket", func(ctx context.Context) (string, error) {
		return b.client.SetArgs(ctx, b.ticketKey(id), ciphertext, goredis.SetArgs{
			Mode: "NX", TTL: time.Duration(millis(ttl)) * time.Millisecond,
		}).Result()
	})
	if errors.Is(err, goredis.Nil) {
		return fmt.Errorf("put ticket: %w", bus.ErrDuplicate)
	}
	return err
}

// TakeTicket implements bus.Bus by GETDEL. If the answer is lost
// (bus.ErrUnavailable), the ticket may be gone.
func (b *Bus) TakeTicket(ctx context.Context, id string) ([]byte, error) {
	ciphertext, err := call(ctx, "take ticket", func(ctx context.Context) ([]byte, error) {
		return b.client.GetDel(ctx, b.ticketKey(id)).Bytes()
	})
	if errors.Is(err, goredis.Nil) {
		return nil, bus.ErrNoTicket
	}
	if err != nil {
		return nil, err
	}
	aead, err := cipherOf(id)
	if err != nil {
		return nil, fmt.Errorf("take ticket: %w", err)
	}
	value, err := aead.Open([]byte{}, nil, ciphertext, nil)
	if err != nil {
		// PutTicket did not write this: somebody else wrote to this Redis.
		return nil, fmt.Errorf("%w: its value was altered", bus.ErrNoTicket)
	}
	return value, nil
}
