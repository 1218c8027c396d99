package resource

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"

	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/records"
)

// Sizes of a page.
const (
	DefaultPageSize = 50
	MaxPageSize     = 1000
)

// pageToken is what the opaque token of a List call holds: the name after
// which the page begins, and a digest of the query that it belongs to.
type pageToken struct {
	Query []byte `json:"q"`
	After string `json:"a"`
}

// List reads one page of q, whose Limit it sets, and returns it with the token of
// the next page, "" on the last one. The first page begins after q.After. size and token are the
// request's page_size and page_token; PAGE_TOKEN_INVALID if the token was not
// issued for the same query. A page has one record less than MaxPageSize if
// that many were asked for.
func List(ctx context.Context, db records.DB, q records.Query, size int32, token string) (page []records.Record, next string, err error) {
	query := []any{q.Kind, q.Org, q.Parent, q.States}
	after, err := PageAfter(query, token)
	if err != nil {
		return nil, "", err
	}
	q.After = max(q.After, after)
	q.Limit = min(PageSize(size)+1, MaxPageSize) // one more shows whether there is a next page
	err = db.View(ctx, func(tx records.Tx) error {
		page, err = tx.List(ctx, q)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	if len(page) == q.Limit {
		page = page[:len(page)-1]
		next = PageToken(query, page[len(page)-1].Name)
	}
	return page, next, nil
}

// PageSize returns how many resources to return for a requested page_size:
// DefaultPageSize for 0, never more than MaxPageSize.
func PageSize(requested int32) int {
	switch {
	case requested <= 0:
		return DefaultPageSize
	case requested > MaxPageSize:
		return MaxPageSize
	}
	return int(requested)
}

// PageToken returns the token for the page after the given name (AIP-158).
// query is everything that the next page must be asked with again: any JSON
// value.
func PageToken(query any, after string) string {
	raw, err := json.Marshal(pageToken{Query: digest(query), After: after})
	if err != nil { // two plain fields always marshal
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// PageAfter returns the name in a token, "" for the empty token, which is the
// first page. PAGE_TOKEN_INVALID if PageToken did not make the token for this
// query.
func PageAfter(query any, token string) (string, error) {
	if token == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	var t pageToken
	if err == nil {
		err = json.Unmarshal(raw, &t)
	}
	if err != nil || string(t.Query) != string(digest(query)) {
		return "", apierr.New(codes.InvalidArgument, errorsv1.Reason_REASON_PAGE_TOKEN_INVALID,
			"page_token does not belong to this query; list again without it").WithField("page_token", "not a token of this query")
	}
	return t.After, nil
}

func digest(query any) []byte {
	raw, err := json.Marshal(query)
	if err != nil { // queries are strings and numbers
		panic(err)
	}
	sum := sha256.Sum256(raw)
	return sum[:8]
}
