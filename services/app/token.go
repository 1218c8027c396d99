package app

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/services/internal/devissuer"
)

// devIssuerPath is where `relay up` serves the development issuer.
const devIssuerPath = "/dev-issuer"

func tokenCommand() *cobra.Command {
	c := devissuer.Claims{}
	data, api := "", ""
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Print a development token for the stack of `relay up`",
		Long: `token signs a bearer token with the development issuer's key, which "relay up"
keeps in the data folder. It is for development only: a production installation
gets its tokens from its own identity provider, and "relay serve" does not know
this issuer.

Roles: relay-admin (everything), relay-backend (rooms, recordings, ICE servers),
relay-operator (open sessions), relay-auditor (read, play and export evidence).`,
		Example: `  relay token
  curl -H "authorization: Bearer $(relay token)" http://127.0.0.1:8080/v1/orgs/acme/rooms
  relay token --org acme --role relay-auditor --ttl 10m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key := filepath.Join(data, "issuer.pem")
			if _, err := os.Stat(key); err != nil {
				return fmt.Errorf("no development issuer in %s; start `relay up` (make up) first, or name its data folder with --data", data)
			}
			iss, err := devissuer.New("http://"+strings.TrimPrefix(api, "http://")+devIssuerPath, key)
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
	def := Default()
	f := cmd.Flags()
	f.StringVar(&data, "data", orEnv("", "RELAY_DATA"), "data folder of relay up (env RELAY_DATA)")
	if data == "" {
		data = def.Data
		f.Lookup("data").DefValue = def.Data
	}
	f.StringVar(&api, "api", def.Listen.API, "address of the API, which is part of the issuer's name")
	f.StringVar(&c.Subject, "subject", "developer", "who the token stands for")
	f.StringVar(&c.Org, "org", "acme", "organisation")
	f.StringSliceVar(&c.Roles, "role", []string{"relay-admin"}, "roles")
	f.StringSliceVar(&c.Groups, "group", nil, "groups")
	f.StringVar(&c.Audience, "audience", def.Auth.Audience, "audience")
	f.DurationVar(&c.TTL, "ttl", time.Hour, "how long it holds, at most 24h")
	return cmd
}
