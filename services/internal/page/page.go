// Package page makes and reads the opaque tokens of List calls (AIP-158). A
// token says after which name the next page begins and is bound to the query
// it came from: with other arguments it is refused.
package page

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"

	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
)

// Bounds of a page: the default size and the greatest one.
const (
	DefaultSize = 50
	MaxSize     = 1000
)

type token struct {
	Query []byte `json:"q"`
	After string `json:"a"`
}

// Size returns how many to return for a requested page size: the default for
// 0, never more than MaxSize.
func Size(requested int32) int {
	switch {
	case requested <= 0:
		return DefaultSize
	case requested > MaxSize:
		return MaxSize
	}
	return int(requested)
}

// Token makes the token for the page after the given name. query is all that
// the page must be asked with again: any JSON value.
func Token(query any, after string) string {
	raw, err := json.Marshal(token{Query: bind(query), After: after})
	if err != nil { // two plain fields always marshal
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// After reads a token; the empty one is the first page. A token that is not
// ours or of another query is PAGE_TOKEN_INVALID.
func After(query any, text string) (string, error) {
	if text == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	var t token
	if err == nil {
		err = json.Unmarshal(raw, &t)
	}
	if err != nil || string(t.Query) != string(bind(query)) {
		return "", apierr.New(codes.InvalidArgument, errorsv1.Reason_REASON_PAGE_TOKEN_INVALID,
			"page_token is not one of this query's; begin again without it").WithField("page_token", "not a token of this query")
	}
	return t.After, nil
}

func bind(query any) []byte {
	raw, err := json.Marshal(query)
	if err != nil { // queries are strings and numbers
		panic(err)
	}
	sum := sha256.Sum256(raw)
	return sum[:8]
}
