package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/openova-io/bp-relay/services/evidence/leaf"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/store"
)

// denialTimeout bounds how long a denial may wait to be entered.
const denialTimeout = 5 * time.Second

// denied enters each refused call of an authenticated caller in the evidence
// log. Calls without a valid token are not entered: anybody could fill the log.
func denied(st store.Store, log *slog.Logger) func(context.Context, auth.Principal, string, *apierr.Error) {
	return func(ctx context.Context, who auth.Principal, method string, e *apierr.Error) {
		l, err := leaf.New(leaf.Act{
			Type: "access.denied", Org: who.Org, Actor: who.Subject, Subject: "orgs/" + who.Org,
			Detail: map[string]string{"method": method, "reason": apierr.ReasonName(e.Reason())},
		})
		if err == nil {
			ctx, cancel := context.WithTimeout(ctx, denialTimeout)
			defer cancel()
			err = st.Update(ctx, func(tx store.Tx) error { return tx.Leaf(ctx, l) })
		}
		if err != nil {
			log.ErrorContext(ctx, "a denial was not entered in the evidence log", "method", method, "error", err)
		}
	}
}
