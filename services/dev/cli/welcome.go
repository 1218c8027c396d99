package cli

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"text/template"

	"github.com/openova-io/bp-relay/services/app"
)

// welcomeText is what `relay-dev up` prints once everything is healthy. Its curl
// command and its Go program work as printed. The program is one file in the
// run's own folder: the clone stays clean, and go.work finds the modules. It is
// indented with spaces, which can be pasted into any terminal.
const welcomeText = `
bp-relay is up.

  API        {{.URL}}   gRPC, gRPC-Web, Connect and JSON on one port
  health     {{.Admin}}/readyz, metrics at /metrics
  LiveKit    {{.LiveKit}}
  objects    {{.S3}}   guacd {{.Guacd}}{{if .Turn}}   TURN {{.Turn}}{{end}}
  log key    {{.LogKey}}
             (also in {{.Dir}}/log.vkey, for relay verify)
{{if .Dev}}
Get a token:

  export RELAY_TOKEN=$({{.Program}} token{{.TokenFlags}})
{{else}}
Get a token from {{.Issuer}} and put it into RELAY_TOKEN.
{{end}}
Make a room:

  curl -sS -H "authorization: Bearer $RELAY_TOKEN" -H 'content-type: application/json' \
    -d '{"room_id": "standup", "room": {"display_name": "Stand-up"}}' {{.URL}}/v1/orgs/acme/rooms

List the rooms from Go; copy all of it, here in the clone:

cat > {{.Dir}}/hello.go <<'END'
package main

import (
    "context"
    "fmt"
    "os"

    roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"
    "google.golang.org/grpc"
    "google.golang.org/grpc/credentials/insecure"
    "google.golang.org/grpc/metadata"
)

func main() {
    conn, err := grpc.NewClient("{{.API}}", grpc.WithTransportCredentials(insecure.NewCredentials()))
    if err != nil {
        panic(err)
    }
    ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+os.Getenv("RELAY_TOKEN"))
    rooms, err := roomv1.NewRoomServiceClient(conn).ListRooms(ctx, &roomv1.ListRoomsRequest{Parent: "orgs/acme"})
    fmt.Println(rooms, err)
}
END
go run {{.Dir}}/hello.go

Stop with Ctrl-C: sessions end and are sealed. A recording continues at the next
start or is sealed then, and its manifest states the gap.
Data and logs are in {{.Dir}}.
`

func welcome(out io.Writer, r running) {
	def := app.Default()
	flags := ""
	if r.cfg.Data != def.Data {
		flags += " --data " + r.cfg.Data
	}
	if r.cfg.Listen.API != def.Listen.API {
		flags += " --api " + r.cfg.Listen.API
	}
	turn := ""
	if r.cfg.Turn.Gateway != "" {
		turn = r.cfg.Turn.Listen
	}
	err := template.Must(template.New("welcome").Parse(welcomeText)).Execute(out, map[string]any{
		"URL": asURL(r.cfg.Listen.API), "API": r.cfg.Listen.API, "Admin": asURL(r.cfg.Listen.Admin),
		"LiveKit": r.cfg.PublicLiveKit(), "S3": r.cfg.Blob.Endpoint, "Guacd": r.cfg.Guacd.Address, "Turn": turn,
		"LogKey": r.logKey, "Dev": r.devIssuer, "Program": program(), "TokenFlags": flags, "Issuer": r.cfg.Auth.Issuer, "Dir": r.dir,
	})
	if err != nil {
		fmt.Fprintln(out, err)
	}
}

// program is how this program is called from the folder in which it was
// started, for text that is to be copied.
func program() string {
	if self := os.Args[0]; strings.Contains(self, "relay-dev") {
		return self
	}
	return "relay-dev"
}

// asURL makes a URL of host:port for printed text.
func asURL(address string) string { return (&url.URL{Scheme: "http", Host: address}).String() }
