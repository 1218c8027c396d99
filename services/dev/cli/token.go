package cli

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/services/app"
	"github.com/openova-io/bp-relay/services/dev/issuer"
)

// issuerPath is where `relay-dev up` serves the development issuer.
const issuerPath = "/dev-issuer"

func tokenCommand() *cobra.Command {
	c := issuer.Claims{}
	data, api := "", ""
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Print a development token for the stack of `relay-dev up`",
		Long: `token signs a bearer token with the key of the development issuer, which
"relay-dev up" keeps in the data folder. It is for development only: a production
installation gets its tokens from its own identity provider, and "relay serve"
does not know this issuer.

Roles: relay-admin (everything), relay-backend (rooms, recordings, ICE servers),
relay-operator (open sessions), relay-auditor (read, play and export evidence).`,
		Example: `  relay-dev token
  curl -H "authorization: Bearer $(relay-dev token)" http://127.0.0.1:8080/v1/orgs/acme/rooms
  relay-dev token --org acme --role relay-auditor --ttl 10m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key := filepath.Join(data, issuer.KeyFile)
			if _, err := os.Stat(key); err != nil {
				return fmt.Errorf("no development issuer in %s; start `relay-dev up` (make up) first, or name its data folder with --data", data)
			}
			iss, err := issuer.New("http://"+strings.TrimPrefix(api, "http://")+issuerPath, key)
			if err != nil {
				return err
			}
			token, err := iss.Token(c)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	def := app.Default()
	f := cmd.Flags()
	f.StringVar(&data, "data", cmp.Or(os.Getenv("RELAY_DATA"), def.Data), "data folder of relay-dev up (env RELAY_DATA)")
	f.StringVar(&api, "api", def.Listen.API, "address of the API, which is part of the issuer's name")
	f.StringVar(&c.Subject, "subject", "developer", "the caller that the token identifies")
	f.StringVar(&c.Org, "org", "acme", "organisation")
	f.StringSliceVar(&c.Roles, "role", []string{"relay-admin"}, "roles")
	f.StringSliceVar(&c.Groups, "group", nil, "groups")
	f.StringVar(&c.Audience, "audience", def.Auth.Audience, "audience")
	f.DurationVar(&c.TTL, "ttl", time.Hour, "validity, at most 24h")
	return cmd
}
