package app

import (
	"fmt"
	"io"
	"text/template"
)

// welcomeText is what `relay up` prints once everything is healthy. Its curl
// and its Go program work as printed: the program is one file in the run's own
// folder, so that the clone stays clean and go.work finds our modules, and is
// indented with spaces, which every terminal lets one paste.
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

  export RELAY_TOKEN=$({{.Relay}} token{{.TokenFlags}})
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

Stop with Ctrl-C: sessions end and are sealed; a recording goes on at the next
start, or is sealed then, its gap stated. Data and logs are in {{.Dir}}.
`

func welcome(out io.Writer, dir string, run Running, cfg Config, p *process) {
	def := Default()
	flags := ""
	if run.Data != def.Data {
		flags += " --data " + run.Data
	}
	if run.API != def.Listen.API {
		flags += " --api " + run.API
	}
	turn := ""
	if cfg.Turn.Gateway != "" {
		turn = cfg.Turn.Listen
	}
	err := template.Must(template.New("welcome").Parse(welcomeText)).Execute(out, map[string]any{
		"URL": shown(run.API), "API": run.API, "Admin": shown(run.Admin), "LiveKit": cfg.livekitPublic(), "S3": cfg.Blob.Endpoint,
		"Guacd": cfg.Guacd.Address, "Turn": turn, "LogKey": p.logKey, "Dev": cfg.devIssuer, "Relay": relayCommand(),
		"TokenFlags": flags, "Issuer": run.Issuer, "Dir": dir,
	})
	if err != nil {
		fmt.Fprintln(out, err)
	}
}
