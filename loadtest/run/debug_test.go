package run

import (
	"fmt"
	"os"

	"github.com/openova-io/bp-relay/loadtest/flow"
)

func init() {
	debugSettle = func(pubs []flow.Publication, subs []flow.Subscription) {
		for _, p := range pubs {
			p.Keys = p.Keys[:min(4, len(p.Keys))]
			fmt.Fprintf(os.Stderr, "PUB %+v\n", p)
		}
		for _, p := range subs {
			fmt.Fprintf(os.Stderr, "SUB %+v\n", p)
		}
	}
}
