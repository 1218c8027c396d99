package turn

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" // the draft requires HMAC-SHA1, which SHA-1's collisions do not break
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"time"
)

// Bounds of a credential's lifetime. stunnerd checks the expiry at every
// authenticated request, not only at the first: after it, the next refresh is
// refused and media stops, at most 10 minutes later. A client that stays longer
// requests new ICE servers before.
const (
	DefaultTTL = 10 * time.Minute
	MinTTL     = time.Minute
	MaxTTL     = 24 * time.Hour
)

// Credential lets one participant use a gateway.
type Credential struct {
	// ID is the opaque part of the username, 128 random bits in hex. Logs and
	// packets show no identity; the evidence log has whose credential it was.
	ID string
	// Username is "<expiry in Unix seconds>:<ID>", with the expiry first and
	// one colon: stunnerd takes the first number between colons as the expiry.
	Username string
	// Password is base64(HMAC-SHA1(secret, Username)).
	Password string
	// Expires is when the credential expires, in whole seconds; stunnerd still
	// accepts it during that second.
	Expires time.Time
}

// CheckTTL returns DefaultTTL for 0, and fails with a *FieldError if ttl is not within MinTTL and MaxTTL.
func CheckTTL(ttl time.Duration) (time.Duration, error) {
	if ttl == 0 {
		return DefaultTTL, nil
	}
	if ttl < MinTTL || ttl > MaxTTL {
		return 0, bad("ttl", "%s is not between %s and %s", ttl, MinTTL, MaxTTL)
	}
	return ttl, nil
}

// NewID returns a new random Credential.ID.
func NewID() (string, error) {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", err
	}
	return hex.EncodeToString(id[:]), nil
}

// Sign makes the credential with this id for the gateway that has the secret:
// draft-uberti-behave-turn-rest-00 section 2.2, which stunnerd's "ephemeral"
// authentication implements.
func Sign(secret, id string, expires time.Time) Credential {
	expires = expires.UTC().Truncate(time.Second)
	c := Credential{ID: id, Username: strconv.FormatInt(expires.Unix(), 10) + ":" + id, Expires: expires}
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(c.Username))
	c.Password = base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return c
}
